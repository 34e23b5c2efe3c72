//! Nothing makes a caller but a credential that was accepted.

use wardkeep::authn::{Caller, Operator};

fn by_default() -> Caller {
    Caller::default() //~ E0599 `default`
}

fn by_name() -> Caller {
    Caller::new("Clinician", "forged") //~ E0599 `new`
}

fn from_text(text: &str) -> Caller {
    serde_json::from_str(text).unwrap() //~ E0277 serde::Deserialize
}

fn without_a_store() -> Operator {
    Operator::default() //~ E0599 `default`
}

fn main() {}
