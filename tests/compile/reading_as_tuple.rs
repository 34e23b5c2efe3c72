//! A read begins with a caller, not with a grant for something else.

use wardkeep::engine::{Grant, Read, Reading};

fn forged(grant: Grant<Read>) -> Reading {
    Reading(grant) //~ E0423 private fields
}

fn main() {}
