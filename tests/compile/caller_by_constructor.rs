//! Nothing makes a caller but a credential that was accepted.

use wardkeep::authn::{Caller, Operator};

fn by_default() -> Caller {
    Caller::default()
}

fn by_name() -> Caller {
    Caller::new("Clinician", "forged")
}

fn from_text(text: &str) -> Caller {
    serde_json::from_str(text).unwrap()
}

fn without_a_store() -> Operator {
    Operator::default()
}

fn main() {}
