//! A release holds what Cedar allowed record by record.

use wardkeep::engine::{Bound, Release};

fn forged(bound: Bound) -> Release {
    Release { records: vec![], bound, permitted: 0, decided: 0, cut: Default::default(), disagreements: 0 } //~ E0451 private
}

fn main() {}
