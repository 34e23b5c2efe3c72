//! A release holds what Cedar allowed record by record.

use wardkeep::engine::{Bound, Release};

fn forged(bound: Bound) -> Release {
    Release { records: vec![], bound, permitted: 0, decided: 0, withheld: 0, disagreements: 0 }
}

fn main() {}
