//! Content of a record is neither printed nor written as JSON by accident.

use wardkeep::model::{Phi, Record};

fn printed(text: &Phi<String>) -> String {
    format!("{text}")
}

fn written(text: &Phi<String>) -> String {
    serde_json::to_string(text).unwrap()
}

fn whole(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

fn taken(text: Phi<String>) -> String {
    text.0
}

fn main() {}
