//! Nothing makes a disclosure but the engine, after the audit log.

use wardkeep::{
    engine::{Disclosure, Receipt, Release},
    model::RetrievalId,
};

fn by_default() -> Disclosure {
    Disclosure::default() //~ E0599 `default`
}

fn unaudited(receipt: Receipt, retrieval: RetrievalId, release: Release) -> Disclosure {
    Disclosure::new(receipt, retrieval, release, todo!()) //~ E0624 private
}

fn from_text(text: &str) -> Disclosure {
    serde_json::from_str(text).unwrap() //~ E0277 serde::Deserialize
}

fn main() {}
