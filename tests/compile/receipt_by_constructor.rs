//! Nothing makes a receipt but an entry that is durable, and none serves twice.

use wardkeep::engine::Receipt;

fn by_default() -> Receipt {
    Receipt::default() //~ E0599 `default`
}

fn from_text(text: &str) -> Receipt {
    serde_json::from_str(text).unwrap() //~ E0277 serde::Deserialize
}

fn again(receipt: &Receipt) -> Receipt {
    receipt.clone() //~ E0308 mismatched types
}

fn main() {}
