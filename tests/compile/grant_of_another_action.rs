//! A grant to search is none to erase, and a caller is no grant at all.

use wardkeep::{
    authn::Caller,
    engine::{Erased, Erasure, Disclosure, Grant, Question, Refusal, Search, Wardkeep},
};

fn erase(engine: &Wardkeep, grant: &Grant<Search>, erasure: &Erasure) -> Result<Erased, Refusal> {
    engine.erase(grant, erasure) //~ E0308 mismatched types
}

fn search(engine: &Wardkeep, caller: &Caller, question: &Question) -> Result<Disclosure, Refusal> {
    engine.search(caller, question) //~ E0308 mismatched types
}

fn main() {}
