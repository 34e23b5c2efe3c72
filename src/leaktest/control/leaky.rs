//! A store in memory that asks Cedar about every record, and leaks in one way of many where it is told to.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    str::FromStr as _,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicySet,
    Request as CedarRequest, Schema,
};
use serde_json::{Value as Json, json};

use crate::leaktest::{
    dice::Dice,
    oracle::{Oracle, Verdict},
    target::{About, Answer, Ask, Caller, List, Request, Search, Target, Trouble},
    world::{Record, Rules, World, reference},
};

/// A way to leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing is filtered.
    NoFilter,
    /// The nearest of all are filtered afterwards.
    PostFilter,
    /// What somebody may see is remembered when people change.
    StaleCache,
    /// A withdrawn credential works on.
    StaleCredential,
    /// 403 for what is hidden, 404 for what is not there.
    StatusOracle,
    /// The client's own filter replaces the store's.
    FilterFromBody,
    /// A field of the body says who asks.
    IdentityFromBody,
    /// A header says who asks.
    IdentityFromHeader,
    /// A token says who asks, and nobody looks at its signature.
    UnsignedToken,
    /// The cap is what the client asks for.
    CapByClient,
    /// A list knows no cap.
    ListPastCap,
    /// Records lie readable in a file.
    UnsealedFile,
    /// Ids of what was looked at are logged.
    IdInLog,
    /// The best score of all records stands in the answer.
    HiddenScore,
    /// How many matched before the filter stands in the answer.
    HiddenCount,
    /// An error says which record caused it.
    TellingError,
    /// The client's filter is put to hidden records, and their errors are told.
    FilterOnHidden,
    /// An erased record can be read by its id.
    ErasedReadable,
    /// An erased record is there again after a restart.
    ErasedReturns,
    /// A prohibition is skipped where its patient is not stored.
    MissingLifts,
    /// Vectors for everybody.
    VectorsForAll,
    /// Scores are scaled by the best of all records.
    ScaledScores,
    /// Naming a patient opens the chart.
    PatientOpens,
    /// Each hidden record that is near takes time.
    SlowByHidden,
    /// What was left out is explained, with ids and the beginnings of texts in one sentence.
    Explained,
    /// A fragment of a hidden text, marked up, in a field that nobody knows.
    Snippet,
    /// Attributes of hidden records, without their ids.
    Facets,
    /// The nearest hidden record's score, and nothing else of it.
    NearestScore,
    /// The answer's own id is a hidden text in base64.
    EncodedText,
    /// A hidden record's vector, in base64.
    EncodedVector,
    /// The nearest record's id stands in what looks like chance.
    EncodedId,
    /// A record's vector comes under another name.
    VectorByAnotherName,
    /// A read of a hidden record takes longer than one of none.
    SlowByRead,
    /// A patient that is no text matches every patient.
    PatientOperator,
    /// An id in another writing is not asked about.
    LooseId,
    /// An erased record stays in lists.
    ErasedListed,
}

/// Every flaw, and the probe that is made to find it.
pub(super) const FLAWS: &[(Flaw, &str)] = &[
    (Flaw::NoFilter, "cross-patient"),
    (Flaw::PatientOpens, "cross-patient"),
    (Flaw::PostFilter, "starvation"),
    (Flaw::HiddenScore, "twin-worlds"),
    (Flaw::HiddenCount, "twin-worlds"),
    (Flaw::StatusOracle, "existence"),
    (Flaw::FilterOnHidden, "filter-oracle"),
    (Flaw::FilterFromBody, "filter-oracle"),
    (Flaw::CapByClient, "cap-evasion"),
    (Flaw::ListPastCap, "cap-evasion"),
    (Flaw::IdentityFromBody, "identity"),
    (Flaw::IdentityFromHeader, "identity"),
    (Flaw::UnsignedToken, "identity"),
    (Flaw::VectorsForAll, "embedding"),
    (Flaw::ScaledScores, "embedding"),
    (Flaw::StaleCache, "stale-permission"),
    (Flaw::StaleCredential, "stale-permission"),
    (Flaw::MissingLifts, "missing-entity"),
    (Flaw::ErasedReadable, "deletion-forensics"),
    (Flaw::ErasedReturns, "deletion-forensics"),
    (Flaw::UnsealedFile, "deletion-forensics"),
    (Flaw::UnsealedFile, "canaries"),
    (Flaw::IdInLog, "canaries"),
    (Flaw::TellingError, "canaries"),
    (Flaw::SlowByHidden, "timing"),
    (Flaw::Explained, "cross-patient"),
    (Flaw::Snippet, "cross-patient"),
    (Flaw::Facets, "cross-patient"),
    (Flaw::NearestScore, "cross-patient"),
    (Flaw::HiddenCount, "cross-patient"),
    (Flaw::EncodedText, "cross-patient"),
    (Flaw::EncodedVector, "cross-patient"),
    (Flaw::EncodedId, "cross-patient"),
    (Flaw::VectorByAnotherName, "embedding"),
    (Flaw::SlowByRead, "timing"),
    (Flaw::PatientOperator, "identity"),
    (Flaw::LooseId, "existence"),
    (Flaw::ErasedListed, "deletion-forensics"),
];

/// The store; connections share what is in it.
pub(super) struct Leaky {
    flaw: Option<Flaw>,
    held: Arc<Mutex<Held>>,
    dice: Dice,
}

#[derive(Default)]
struct Held {
    world: Option<World>,
    /// Reads who may see what; made anew when anything changes.
    oracle: Option<Oracle>,
    erased: Vec<Record>,
    withdrawn: HashSet<Caller>,
    remembered: RefCell<HashMap<(String, String, String), bool>>,
    log: String,
}

impl Leaky {
    pub(super) fn new(flaw: Option<Flaw>, seed: u64) -> Self {
        Self { flaw, held: Arc::default(), dice: Dice::of(seed, "times") }
    }

    fn change(&self, change: impl FnOnce(&mut World)) -> Result<(), Trouble> {
        let mut held = self.held.lock().unwrap();
        let world = held.world.as_mut().unwrap();
        change(world);
        held.oracle = Some(Oracle::read(held.world.as_ref().unwrap())?);
        if self.flaw != Some(Flaw::StaleCache) {
            held.remembered.borrow_mut().clear();
        }
        Ok(())
    }
}

impl Target for Leaky {
    fn about(&self) -> About {
        About { name: "leaky control".into(), version: format!("{:?}", self.flaw), place: "in this process".into() }
    }

    fn reset(&mut self, world: &World) -> Result<(), Trouble> {
        *self.held.lock().unwrap() =
            Held { world: Some(World { records: Vec::new(), ..world.clone() }), ..Held::default() };
        self.change(|_| {})
    }

    fn put(&mut self, records: &[Record]) -> Result<(), Trouble> {
        self.change(|world| {
            world.records.retain(|old| !records.iter().any(|new| new.id == old.id));
            world.records.extend(records.iter().cloned());
        })
    }

    fn erase(&mut self, ids: &[String]) -> Result<(), Trouble> {
        let gone = self.held.lock().unwrap().world.as_ref().unwrap().without(|r| !ids.contains(&r.id));
        self.held.lock().unwrap().erased.extend(gone);
        self.change(|world| world.records.retain(|r| !ids.contains(&r.id)))
    }

    fn put_entities(&mut self, entities: &[Json]) -> Result<(), Trouble> {
        self.change(|world| {
            world.entities.retain(|old| !entities.iter().any(|new| new["uid"] == old["uid"]));
            world.entities.extend(entities.iter().cloned());
        })
    }

    fn remove_entity(&mut self, ty: &str, id: &str) -> Result<(), Trouble> {
        self.change(|world| world.entities.retain(|e| reference(&e["uid"]) != Some((ty, id))))
    }

    fn govern(&mut self, rules: &Rules) -> Result<(), Trouble> {
        self.change(|world| world.rules = rules.clone())
    }

    fn withdraw(&mut self, caller: &Caller) -> Result<(), Trouble> {
        self.held.lock().unwrap().withdrawn.insert(caller.clone());
        Ok(())
    }

    fn reinstate(&mut self, caller: &Caller) -> Result<(), Trouble> {
        self.held.lock().unwrap().withdrawn.remove(caller);
        Ok(())
    }

    fn beside(&self) -> Result<Box<dyn Target>, Trouble> {
        Ok(Box::new(Self { flaw: self.flaw, held: Arc::clone(&self.held), dice: self.dice.clone() }))
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        let erased = self.held.lock().unwrap().erased.clone();
        if self.flaw == Some(Flaw::ErasedReturns) { self.put(&erased) } else { Ok(()) }
    }

    fn traces(&mut self) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        let held = self.held.lock().unwrap();
        let mut found = vec![("log".to_owned(), held.log.clone().into_bytes())];
        let records = held.world.iter().flat_map(|w| &w.records).chain(&held.erased);
        let file: String = records.map(|r| r.text.as_str()).collect();
        let file = if self.flaw == Some(Flaw::UnsealedFile) { file } else { String::new() };
        found.push(("file".to_owned(), file.into_bytes()));
        Ok(found)
    }

    fn answer(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        let mut held = self.held.lock().unwrap();
        if held.withdrawn.contains(caller) && self.flaw != Some(Flaw::StaleCredential) {
            return Ok(refused(401, "no such credential"));
        }
        let token = request.headers.iter().find(|(name, _)| name == "authorization");
        if token.is_some() && self.flaw != Some(Flaw::UnsignedToken) {
            return Ok(refused(401, "no such credential"));
        }
        let asking = Asking { flaw: self.flaw, held: &held, caller: self.believed(&held, caller, request), request };
        let mut answer = match &request.ask {
            Ask::Search(search) => asking.search(search),
            Ask::Read(id) => asking.read(id),
            Ask::List(list) => asking.list(list),
            Ask::Put(_) | Ask::Erase(_) => refused(403, "not yours to do"),
        };
        let hidden = held.world.as_ref().map_or(0, |w| w.records.len());
        let read = |r: &&Record| matches!(&request.ask, Ask::Read(id) if *id == r.id);
        let slow = match self.flaw {
            Some(Flaw::SlowByHidden) => hidden as u64,
            Some(Flaw::SlowByRead) if held.world.iter().flat_map(|w| &w.records).any(|r| read(&r)) => 100,
            _ => 0,
        };
        // times are told, not taken, so that the machine has no say in what a test finds
        answer.took = Duration::from_micros(500 + slow + self.dice.below(200) as u64);
        if self.flaw == Some(Flaw::IdInLog)
            && let Ask::Search(search) = &request.ask
        {
            let near = ranked(held.world.as_ref().unwrap().records.iter(), &search.vector);
            let line = near.first().map(|(_, r)| format!("looked at {}\n", r.id)).unwrap_or_default();
            held.log.push_str(&line);
        }
        Ok(answer)
    }
}

impl Leaky {
    /// Who the store believes is asking.
    fn believed(&self, held: &Held, caller: &Caller, request: &Request) -> Caller {
        let claimed = match self.flaw {
            Some(Flaw::IdentityFromBody) => request.fields.get("user").and_then(Json::as_str).map(str::to_owned),
            Some(Flaw::IdentityFromHeader) => {
                request.headers.iter().find(|(name, _)| name == "x-forwarded-user").map(|(_, value)| value.clone())
            }
            Some(Flaw::UnsignedToken) => {
                request.headers.iter().find(|(name, _)| name == "authorization").and_then(|(_, token)| subject(token))
            }
            _ => None,
        };
        let known = claimed.and_then(|id| held.world.as_ref()?.callers.iter().find(|c| c.id == id).cloned());
        known.unwrap_or_else(|| caller.clone())
    }
}

/// The subject of a token that nobody checks.
fn subject(token: &str) -> Option<String> {
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Json>(&claims).ok()?.get("sub")?.as_str().map(str::to_owned)
}

fn refused(status: u16, detail: &str) -> Answer {
    Answer { status, body: json!({ "detail": detail }).to_string().into_bytes(), ..Answer::default() }
}

fn ranked<'r>(records: impl Iterator<Item = &'r Record>, vector: &[f32]) -> Vec<(f64, &'r Record)> {
    let score = |r: &Record| r.vector.iter().zip(vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut all: Vec<_> = records.map(|r| (score(r), r)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    all
}

/// One request under one flaw.
struct Asking<'a> {
    flaw: Option<Flaw>,
    held: &'a Held,
    caller: Caller,
    request: &'a Request,
}

impl Asking<'_> {
    fn world(&self) -> &World {
        self.held.world.as_ref().unwrap()
    }

    fn purpose(&self) -> &str {
        if self.caller.purpose.is_empty() || self.flaw.is_none() { &self.request.purpose } else { self.stated() }
    }

    /// Whoever is believed to be another is believed to have that other's purpose.
    fn stated(&self) -> &str {
        match self.flaw {
            Some(Flaw::IdentityFromBody | Flaw::IdentityFromHeader) => &self.caller.purpose,
            _ => &self.request.purpose,
        }
    }

    fn may(&self, action: &str, record: &Record) -> bool {
        if self.flaw == Some(Flaw::NoFilter) {
            return true;
        }
        let key = (format!("{action} {}", self.purpose()), self.caller.id.clone(), record.id.clone());
        if let Some(known) = self.held.remembered.borrow().get(&key) {
            return *known;
        }
        let verdict = self.held.oracle.as_ref().unwrap().verdict(&self.caller, action, self.purpose(), record).unwrap();
        let lifted = self.flaw == Some(Flaw::MissingLifts) && action != "ReadVector" && self.lifted(record);
        let may = matches!(verdict, Verdict::Permitted(_)) || lifted;
        self.held.remembered.borrow_mut().insert(key, may);
        may
    }

    /// Its patient is not stored, and the team has not forgotten them.
    fn lifted(&self, record: &Record) -> bool {
        let Some(patient) = &record.patient else { return false };
        let world = self.world();
        let team = world.entity("CareTeam", &self.caller.id).map(Json::to_string).unwrap_or_default();
        world.entity("Patient", patient).is_none() && team.contains(&format!("\"{patient}\""))
    }

    fn search(&self, search: &Search) -> Answer {
        if !(1..=10_000).contains(&search.limit) || search.vector.len() != self.world().dimension {
            let near = ranked(self.world().records.iter(), &search.vector);
            let near = near.first().filter(|_| self.flaw == Some(Flaw::TellingError)).map(|(_, r)| r.id.clone());
            return refused(422, &format!("the question does not fit {}", near.unwrap_or_default()));
        }
        if search.include.contains(&"everything") {
            return refused(422, "include");
        }
        let filter = match self.filter(search.filter.as_deref()) {
            Ok(filter) => filter,
            Err(refusal) => return refusal,
        };
        let whole = ranked(self.world().records.iter(), &search.vector);
        let any =
            self.flaw == Some(Flaw::PatientOperator) && self.request.fields.get("patient").is_some_and(Json::is_object);
        let opened = |r: &Record| {
            any || self.flaw == Some(Flaw::PatientOpens) && search.patient.is_some() && search.patient == r.patient
        };
        let replaced = self.flaw == Some(Flaw::FilterFromBody) && search.filter.is_some();
        let mut shown: Vec<_> = whole.clone();
        if self.flaw == Some(Flaw::PostFilter) {
            shown.truncate(search.limit);
        }
        shown.retain(|(_, r)| replaced || opened(r) || self.may("Retrieve", r));
        shown.retain(|(_, r)| search.patient.is_none() || search.patient == r.patient);
        shown.retain(|(_, r)| filter(r));
        let cap = if self.flaw == Some(Flaw::CapByClient) { usize::MAX } else { self.cap() };
        let shown = self.released(shown, search.limit.min(cap));
        let best = whole.first().map_or(1.0, |(score, _)| *score);
        let scale = if self.flaw == Some(Flaw::ScaledScores) { best } else { 1.0 };
        let results: Vec<Json> =
            shown.iter().map(|(score, r)| self.show(r, Some(score / scale), &search.include)).collect();
        let mut body = json!({ "results": results });
        match self.flaw {
            Some(Flaw::HiddenScore) => body["max_score"] = json!(best),
            Some(Flaw::HiddenCount) => body["total"] = json!(whole.len()),
            Some(Flaw::EncodedId) => body["cursor"] = json!(whole.first().map(|(_, r)| hex::encode(&r.id))),
            _ => {}
        }
        if let Some((score, record)) = whole.iter().find(|(_, r)| !self.may("Retrieve", r)) {
            self.tell_of(record, *score, &mut body);
        }
        answered(&body)
    }

    /// What the flaw tells of the nearest hidden record.
    fn tell_of(&self, record: &Record, score: f64, body: &mut Json) {
        let start = |most: usize| record.text.chars().take(most).collect::<String>();
        match self.flaw {
            Some(Flaw::Explained) => body["explain"] = json!(format!("left out: {} ({})", record.id, start(20))),
            Some(Flaw::Snippet) => {
                let text: String = record.text.chars().skip(7).take(80).collect();
                body["highlight"] = json!([{"part": format!("…{}…", text.replace(' ', " <b>").to_uppercase())}]);
            }
            Some(Flaw::Facets) => {
                let mut attributes = record.attributes.clone();
                attributes.as_object_mut().unwrap().remove("patient");
                body["facets"] = json!([{"attributes": attributes, "hits": 1}]);
            }
            Some(Flaw::NearestScore) => body["nearest"] = json!(score),
            Some(Flaw::EncodedText) => body["retrieval_id"] = json!(STANDARD.encode(&record.text)),
            Some(Flaw::EncodedVector) => {
                let bytes: Vec<u8> = record.vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                body["cursor"] = json!(STANDARD.encode(bytes));
            }
            _ => {}
        }
    }

    /// At most so many, and of so many patients, as every permit of the caller's allows.
    fn released<'r>(&self, shown: Vec<(f64, &'r Record)>, most: usize) -> Vec<(f64, &'r Record)> {
        let bounded = ["department_head", "privacy_officer"].contains(&self.caller.role.as_str());
        let mut patients = HashSet::new();
        let unbound = self.flaw == Some(Flaw::CapByClient) || !bounded;
        let fits = |r: &Record| {
            let Some(patient) = &r.patient else { return true };
            unbound || patients.contains(patient) || patients.len() < 20 && patients.insert(patient.clone())
        };
        let mut fits = fits;
        shown.into_iter().filter(|(_, r)| fits(r)).take(most).collect()
    }

    fn cap(&self) -> usize {
        match self.caller.role.as_str() {
            "nurse" | "psychotherapist" => 20,
            "physician" | "department_head" | "privacy_officer" => 50,
            "attending" => 100,
            _ => usize::MAX,
        }
    }

    fn show(&self, record: &Record, score: Option<f64>, include: &[&str]) -> Json {
        let mut shown = json!({"id": record.id, "text": record.text, "attributes": record.attributes});
        if let Some(score) = score {
            shown["score"] = json!(score);
        }
        if self.flaw == Some(Flaw::VectorByAnotherName) {
            shown["embedding"] = json!(record.vector);
        }
        if include.contains(&"vector") && (self.flaw == Some(Flaw::VectorsForAll) || self.may("ReadVector", record)) {
            shown["vector"] = json!(record.vector);
        }
        shown
    }

    fn read(&self, id: &str) -> Answer {
        let there = self.world().records.iter().find(|r| r.id == id);
        let loose = || self.world().records.iter().find(|r| r.id.eq_ignore_ascii_case(id.trim()));
        if let (Some(Flaw::LooseId), None, Some(record)) = (self.flaw, there, loose()) {
            return answered(&self.show(record, None, &[]));
        }
        let back = || self.held.erased.iter().find(|r| r.id == id).filter(|_| self.flaw == Some(Flaw::ErasedReadable));
        match there.or_else(back) {
            Some(record) if self.may("Read", record) || there.is_none() => answered(&self.show(record, None, &[])),
            Some(_) if self.flaw == Some(Flaw::StatusOracle) => refused(403, "not yours"),
            Some(_) | None => refused(404, "no such thing, or not yours"),
        }
    }

    fn list(&self, list: &List) -> Answer {
        let filter = match self.filter(list.filter.as_deref()) {
            Ok(filter) => filter,
            Err(refusal) => return refusal,
        };
        let erased = self.held.erased.iter().filter(|_| self.flaw == Some(Flaw::ErasedListed));
        let there = self.world().records.iter().filter(|r| self.may("Read", r));
        let mut all: Vec<&Record> = there.chain(erased).filter(|r| filter(r)).collect();
        all.retain(|r| list.ids.as_ref().is_none_or(|ids| ids.contains(&r.id)));
        all.retain(|r| list.patient.is_none() || list.patient == r.patient);
        all.retain(|r| list.after.as_ref().is_none_or(|after| r.id > *after));
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let count = all.len();
        let cap = if self.flaw == Some(Flaw::ListPastCap) { usize::MAX } else { self.cap() };
        let page = self.released(all.into_iter().map(|r| (0.0, r)).collect(), list.limit.unwrap_or(100).min(cap));
        let records: Vec<Json> = page.iter().map(|(_, r)| self.show(r, None, &[])).collect();
        answered(&json!({"records": records, "count": count}))
    }

    /// The client's filter, as a policy of its own: an error on a record is no match.
    fn filter(&self, text: Option<&str>) -> Result<Matcher, Answer> {
        let Some(text) = text else { return Ok(Box::new(|_| true)) };
        let telling = self.flaw == Some(Flaw::FilterOnHidden);
        let told = || refused(422, "the filter does not read");
        let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {text} }};"))
            .map_err(|_| told())?;
        if ["principal", ".vip", " in "].iter().any(|beyond| text.contains(beyond)) {
            return Err(told());
        }
        let mut set = PolicySet::new();
        set.add(policy).map_err(|_| told())?;
        let holds = move |record: &Record| match_one(&set, record);
        if telling && self.world().records.iter().any(|r| holds(r).is_none()) {
            return Err(refused(422, "the filter fails on a record"));
        }
        Ok(Box::new(move |record| holds(record) == Some(true)))
    }
}

type Matcher = Box<dyn Fn(&Record) -> bool>;

/// Whether a filter holds for a record; none: it errs.
fn match_one(filter: &PolicySet, record: &Record) -> Option<bool> {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        Schema::from_cedarschema_str(include_str!("../../../policies/clinical/wardkeep.cedarschema")).unwrap().0
    });
    let uid =
        |ty: &str, id: &str| EntityUid::from_type_name_and_id(EntityTypeName::from_str(ty).unwrap(), EntityId::new(id));
    let entity = json!([{"uid": {"type": "Record", "id": record.id}, "attrs": record.attributes, "parents": []}]);
    let entities = Entities::from_json_value(entity, Some(&SCHEMA)).ok()?;
    let request = CedarRequest::new(
        uid("Clinician", "x"),
        uid("Action", "Read"),
        uid("Record", &record.id),
        Context::empty(),
        None,
    )
    .ok()?;
    let response = Authorizer::new().is_authorized(&request, filter, &entities);
    let erred = response.diagnostics().errors().next().is_some();
    (!erred).then(|| response.decision() == Decision::Allow)
}

fn answered(body: &Json) -> Answer {
    Answer { status: 200, body: body.to_string().into_bytes(), ..Answer::default() }
}
