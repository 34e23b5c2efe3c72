//! Content of a record is neither printed nor written as JSON by accident.

use wardkeep::model::{Phi, Record};

fn printed(text: &Phi<String>) -> String {
    format!("{text}") //~ E0277 Display
}

fn written(text: &Phi<String>) -> String {
    serde_json::to_string(text).unwrap() //~ E0277 serde::Serialize
}

fn whole(record: &Record) -> String {
    serde_json::to_string(record).unwrap() //~ E0277 serde::Serialize
}

fn taken(text: Phi<String>) -> String {
    text.0 //~ E0616 private
}

fn main() {}
