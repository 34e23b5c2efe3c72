//! Nothing makes a grant but a question to Cedar.

use wardkeep::{
    authn::{Caller, Origin},
    engine::{Circumstances, Erase, Grant, Read},
};

fn by_default() -> Grant<Erase> {
    Grant::default() //~ E0599 `default`
}

fn unasked(caller: &Caller, origin: &Origin) -> Grant<Read> {
    Grant::on_the_record(caller, origin, Circumstances::default()) //~ E0624 private
}

fn from_text(text: &str) -> Grant<Erase> {
    serde_json::from_str(text).unwrap() //~ E0277 serde::Deserialize
}

fn main() {}
