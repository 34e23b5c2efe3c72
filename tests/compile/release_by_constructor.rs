//! Nothing makes a release but the gate, and a release is not yet an answer: it is not in the audit log.

use wardkeep::engine::{Release, Released};

fn by_default() -> Release {
    Release::default() //~ E0599 `default`
}

fn looked_into(release: &Release) -> &[Released] {
    &release.records //~ E0616 private
}

fn told(release: &Release) -> String {
    serde_json::to_string(release).unwrap() //~ E0277 serde::Serialize
}

fn main() {}
