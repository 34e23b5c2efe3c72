//! A disclosure is a release with its receipt.

use wardkeep::{
    engine::{Disclosure, Receipt, Release},
    model::RetrievalId,
};

fn forged(retrieval: RetrievalId, release: Release, receipt: Receipt) -> Disclosure {
    Disclosure { retrieval, release, receipt, frame: todo!() } //~ E0451 private
}

fn main() {}
