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
    takes_s: [5.0, 60.0],
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
    let callers = bench.callers(most);
    bench.expect(callers.len() * 6 * each * 82);
    let mut tokens = Tokens::default();
    for caller in callers {
        let mine = bench.sight(&caller)?;
        for other in bench.world.callers.iter().filter(|c| c.role != caller.role || c.id < caller.id).take(6) {
            let theirs = bench.sight(other)?;
            // what they may see and this caller may not
            let coveted: Vec<usize> = theirs.view.permitted.iter().filter(|at| mine.hides_at(**at)).copied().collect();
            for at in bench.dice.some(&coveted, each) {
                let Some(record) = bench.record(at) else { continue };
                let asked: Vec<_> =
                    claims(&caller, other, record).into_iter().map(|request| (caller.clone(), request)).collect();
                held(bench, &caller, &asked)?;
                forged(bench, &caller, other, record, &mut tokens)?;
            }
        }
    }
    tokens.tell(bench);
    Ok(())
}

/// What came of tokens that nobody signed.
#[derive(Default)]
struct Tokens {
    sent: u64,
    refused: u64,
}

impl Tokens {
    fn tell(&self, bench: &mut Bench<'_>) {
        bench.figure(
            "forged tokens (JSON Web Tokens without a signature, or signed with a guessed word)",
            format!("{} of {} refused with 401", self.refused, self.sent),
        );
        bench.figure(
            "tokens that are properly signed",
            "none: the kit holds no issuer's key; a store that takes no tokens refuses all alike",
        );
    }
}

/// Tokens instead of the key, that claim to be `other`: whoever believes one shows what `other` may see.
fn forged(
    bench: &mut Bench<'_>,
    caller: &Caller,
    other: &Caller,
    record: &Record,
    tokens: &mut Tokens,
) -> Result<(), Trouble> {
    let asked: Vec<_> = forgeries(other)
        .into_iter()
        .map(|token| {
            let mut request = search(caller, record.vector.clone(), LIMIT);
            request.headers.push(("authorization".to_owned(), format!("Bearer {token}")));
            (caller.clone(), request)
        })
        .collect();
    bench.ask_all(&asked, |bench, _, answer| {
        tokens.sent += 1;
        tokens.refused += u64::from(answer.status == 401);
        // nobody is asking: any record is one too many
        let kinds: &[&str] = if answer.ids().is_empty() { &[] } else { &["forged token"] };
        bench.trial(caller, kinds, || format!("a forged token that claims to be {}", other.id));
        Ok(())
    })
}

fn forgeries(other: &Caller) -> Vec<String> {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = json!({
        "sub": other.id, "type": other.ty, "role": other.role, "iss": "https://idp.example", "aud": "wardkeep", "exp": 4_102_444_800_u64,
    });
    let (none, hmac) = (r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"HS256","typ":"JWT"}"#);
    let body = base64(&claims.to_string());
    vec![
        format!("{}.{body}.", base64(none)),
        format!("{}.{body}.{}", base64(hmac), base64("a signature that is none of it")),
    ]
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
    // values that are no text where one is wanted
    for value in [json!({"$ne": ""}), json!(["*"]), json!({"$gt": ""}), Json::Bool(true), json!("*"), json!("%")] {
        for field in ["patient", "purpose", "limit"] {
            let mut request = plain();
            request.fields.insert(field.to_owned(), value.clone());
            all.push(request);
        }
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

fn held(bench: &mut Bench<'_>, caller: &Caller, asked: &[(Caller, Request)]) -> Result<(), Trouble> {
    bench.ask_all(asked, |bench, at, answer| {
        let Some((_, request)) = asked.get(at) else { return Ok(()) };
        let kinds = match bench.told_of(caller, "Retrieve", &request.purpose, answer, request) {
            // what may be seen for another purpose is not known
            Err(Trouble::Unable(why)) => {
                bench.skip(&why);
                return Ok(());
            }
            other => other?,
        };
        bench.trial(caller, &kinds, || {
            let fields: Vec<&str> = request.fields.keys().map(String::as_str).collect();
            let headers: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
            format!("fields {fields:?}, headers {headers:?}, purpose {:?}", request.purpose)
        });
        Ok(())
    })
}
