//! Claims in bodies, headers, purposes and filters to be somebody else, or to see for another reason.

use serde_json::{Value as Json, json};

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    target::{Ask, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "identity",
    title: "Identity and purpose",
    about: "A caller claims to be another who may see more, in fields and headers; states other purposes; widens a filter. Whatever the \
            answer, it may hold nothing that the caller themselves may not see for the purpose stated.",
    work,
};

const FIELDS: [&str; 10] =
    ["caller", "user", "principal", "subject", "actor", "on_behalf_of", "as", "role", "roles", "tenant"];
const HEADERS: [&str; 9] = [
    "x-user",
    "x-user-id",
    "x-caller",
    "x-forwarded-user",
    "x-remote-user",
    "x-auth-request-user",
    "x-on-behalf-of",
    "x-wardkeep-caller",
    "x-role",
];

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let most = bench.scale(6, 16);
    let each = bench.scale(1, 4);
    for caller in bench.callers(most) {
        let mine = bench.sight(&caller)?;
        for other in bench.world.callers.iter().filter(|c| c.role != caller.role || c.id < caller.id).take(6) {
            let theirs = bench.sight(other)?;
            // what they may see and this caller may not
            let coveted: Vec<usize> =
                theirs.view.permitted.iter().filter(|at| mine.view.forbidden.contains(at)).copied().collect();
            for at in bench.dice.some(&coveted, each) {
                let Some(record) = bench.record(at) else { continue };
                for request in claims(&caller, other, record) {
                    held(bench, &caller, &request)?;
                }
            }
        }
    }
    Ok(())
}

/// Every way to claim to be `other`.
fn claims(caller: &Caller, other: &Caller, record: &Record) -> Vec<Request> {
    let plain = || search(caller, record.vector.clone(), LIMIT);
    let mut all = Vec::new();
    let forms =
        [json!(other.id), json!({"type": other.ty, "id": other.id}), json!(format!("{}::\"{}\"", other.ty, other.id))];
    for field in FIELDS {
        let role = field.starts_with("role");
        for form in if role { vec![json!(other.role), json!([other.role])] } else { forms.to_vec() } {
            let mut request = plain();
            request.fields.insert(field.to_owned(), form);
            all.push(request);
        }
    }
    for header in HEADERS {
        let mut request = plain();
        let value = if header == "x-role" { &other.role } else { &other.id };
        request.headers.push((header.to_owned(), value.clone()));
        all.push(request);
    }
    for purpose in [other.purpose.as_str(), "emergency", "", "operations", "*"] {
        all.push(Request { purpose: purpose.to_owned(), ..plain() });
    }
    let mut with = |change: &dyn Fn(&mut crate::leaktest::target::Search)| {
        let mut request = plain();
        if let Ask::Search(search) = &mut request.ask {
            change(search);
        }
        all.push(request);
    };
    with(&|s| s.patient.clone_from(&record.patient));
    for filter in ["true || true", "true) || (true", "1 == 1", "true }; permit (principal, action, resource);"] {
        with(&|s| s.filter = Some(filter.to_owned()));
    }
    for field in
        ["filter", "where", "scope", "break_glass", "context", "permitted", "policy", "include_hidden", "bypass"]
    {
        let mut request = plain();
        let value =
            if field == "context" { json!({"purpose": other.purpose, "break_glass": true}) } else { Json::Bool(true) };
        request.fields.insert(field.to_owned(), value);
        all.push(request);
    }
    all
}

fn held(bench: &mut Bench<'_>, caller: &Caller, request: &Request) -> Result<(), Trouble> {
    let answer = match bench.ask(caller, request) {
        Err(Trouble::Unable(why)) => {
            bench.skip(&why);
            return Ok(());
        }
        other => other?,
    };
    let sight = bench.sight_for(caller, "Retrieve", &request.purpose)?;
    let kinds = sight.told(&answer, request);
    bench.trial(caller, &kinds, || {
        let fields: Vec<&str> = request.fields.keys().map(String::as_str).collect();
        let headers: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        format!("fields {fields:?}, headers {headers:?}, purpose {:?}", request.purpose)
    });
    Ok(())
}
