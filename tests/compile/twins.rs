//! The control of the other cases: each function takes the one way that there is to what the case of its name tries to forge. No line of
//! this one is refused.

use wardkeep::{
    authn::{Caller, Credential, Operator, Origin},
    engine::{
        Circumstances, Disclosure, Erase, Erased, Erasure, Grant, ManagePolicies, Question, Reading, Refusal,
        Search, Wardkeep,
    },
    model::{CollectionName, Phi, Record, RecordId},
    store::Store,
};

fn caller(engine: &Wardkeep, credential: &Credential, origin: &Origin) -> Result<Caller, Refusal> {
    engine.sign_in(Some(credential), origin)
}

fn operator(store: &Store) -> Operator {
    Operator::of(store)
}

fn grant(engine: &Wardkeep, caller: &Caller, origin: &Origin) -> Result<Grant<Erase>, Refusal> {
    engine.authorise(caller, origin, Circumstances::default())
}

fn grant_of_the_operator(engine: &Wardkeep) -> Grant<ManagePolicies> {
    engine.operator_grant(&engine.operator())
}

fn grant_of_its_own_action(engine: &Wardkeep, grant: &Grant<Erase>, erasure: &Erasure) -> Result<Erased, Refusal> {
    engine.erase(grant, erasure)
}

/// Scope, release and receipt are made and used up between these two lines.
fn scope_release_and_receipt(
    engine: &Wardkeep,
    grant: &Grant<Search>,
    question: &Question,
) -> Result<Disclosure, Refusal> {
    engine.search(grant, question)
}

fn disclosure(disclosure: &Disclosure) -> (String, u64) {
    (serde_json::to_string(disclosure).unwrap(), disclosure.audit_sequence())
}

fn reading(
    engine: &Wardkeep,
    caller: &Caller,
    origin: &Origin,
    name: CollectionName,
    id: &RecordId,
) -> Result<Disclosure, Refusal> {
    let reading: Reading = engine.reading(caller, origin, name, None)?;
    engine.read(&reading, id)
}

fn content(text: &Phi<String>, record: &Record) -> (String, String) {
    (text.reveal().clone(), format!("{record:?}"))
}

fn rows() -> roaring::RoaringBitmap {
    roaring::RoaringBitmap::new()
}

fn main() {}
