//! Before anything is probed: whether every caller gets in and is shown something that they may see. A store that answers nobody is as silent as
//! one that keeps its secrets. Knows nothing of what will be probed.

use super::{
    bench::Bench,
    probe::{LIMIT, search},
    target::{Answer, Caller, Trouble},
};

/// Permitted records that are asked for before a caller is taken to see nothing.
const TRIES: usize = 3;

/// Refuses a run that could not tell a leak from silence; says what to mend.
pub(super) fn enter(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    bench.fill()?;
    let world = bench.world;
    if world.callers.is_empty() || world.records.is_empty() {
        return Err(Trouble::Broken(
            "there is nobody to ask, or no record to ask about: name callers and records".into(),
        ));
    }
    world.callers.iter().try_for_each(|caller| admitted(bench, caller))
}

fn admitted(bench: &mut Bench<'_>, caller: &Caller) -> Result<(), Trouble> {
    let permitted = bench.some_permitted(caller, "Retrieve", TRIES)?;
    if permitted.is_empty() {
        let vector = bench.dice.direction(bench.world.dimension);
        // whoever may see nothing need not be let ask
        return match ask(bench, caller, vector)? {
            answer if answer.status == 403 => Ok(()),
            answer => answered(bench, caller, &answer),
        };
    }
    let mut strangers = false;
    let world = bench.world;
    for record in permitted.iter().filter_map(|at| world.records.get(*at)) {
        let answer = ask(bench, caller, record.vector.clone())?;
        answered(bench, caller, &answer)?;
        let ids = answer.ids();
        if ids.iter().any(|id| bench.register().place(id).is_some()) {
            return Ok(());
        }
        strangers |= !ids.is_empty();
    }
    let what =
        if strangers { "is shown records that are not among those given to the kit" } else { "is shown nothing" };
    refuse(format!(
        "{} {what}, asking for what the policies let them see: collection `{}` does not hold these records, or other policies, people or purposes are \
         in force there",
        name(caller),
        bench.world.collection
    ))
}

fn ask(bench: &mut Bench<'_>, caller: &Caller, vector: Vec<f32>) -> Result<Answer, Trouble> {
    bench.ask(caller, &search(caller, vector, LIMIT)).map_err(|trouble| match trouble {
        Trouble::Unable(why) => Trouble::Broken(format!("{} cannot ask: {why}", name(caller))),
        Trouble::Broken(why) => Trouble::Broken(why),
    })
}

/// Whether an answer is one to a search.
fn answered(bench: &Bench<'_>, caller: &Caller, answer: &Answer) -> Result<(), Trouble> {
    let (who, collection) = (name(caller), &bench.world.collection);
    let body = answer.json();
    match answer.status {
        200 if body.get("results").or_else(|| body.get("records")).is_some_and(serde_json::Value::is_array) => Ok(()),
        200 => {
            refuse(format!("a search by {who} is answered by something that is no store: the answer has no `results`"))
        }
        401 => refuse(format!("the key of {who} is refused (401): no key of this store, or revoked")),
        403 => refuse(format!(
            "{who} may not search collection `{collection}` (403): leave them out of the callers, or permit it"
        )),
        404 => refuse(format!("there is no collection `{collection}`, or {who} may not search it (404)")),
        status => refuse(format!(
            "a plain search by {who} in collection `{collection}` is answered with {status}: this is not the store it should be"
        )),
    }
}

fn name(caller: &Caller) -> String {
    format!("{}::\"{}\"", caller.ty, caller.id)
}

fn refuse(why: String) -> Result<(), Trouble> {
    Err(Trouble::Broken(format!("nothing was tested: {why}")))
}
