//! Nothing makes a receipt but an entry that is durable, and none serves twice.

use wardkeep::engine::Receipt;

fn by_default() -> Receipt {
    Receipt::default()
}

fn from_text(text: &str) -> Receipt {
    serde_json::from_str(text).unwrap()
}

fn again(receipt: &Receipt) -> Receipt {
    receipt.clone()
}

fn main() {}
