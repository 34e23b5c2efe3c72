//! A store under attack, as the kit sees it: a few requests and the bytes that come back. Knows nothing of how any store works.

mod child;
mod house;
mod http;
mod ledger;

use std::{fmt, time::Duration};

use serde_json::{Map, Value as Json, json};

pub use child::Child;
pub use house::Launch;
pub use http::OverHttp;
pub use ledger::{Ledger, Planted};

use super::world::{Record, Rules, World};

/// Who asks, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    /// Type of the caller's entity.
    pub ty: String,
    /// Id of it.
    pub id: String,
    /// What they are, in a word, for tables.
    pub role: String,
    /// The purpose that they state.
    pub purpose: String,
    /// Which of their credentials they use.
    pub seat: usize,
}

/// One request of a caller.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Stated purpose.
    pub purpose: String,
    /// Fields of the body that the interface does not have: what an attacker adds.
    pub fields: Map<String, Json>,
    /// Headers that an attacker adds.
    pub headers: Vec<(String, String)>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// The nearest to a vector.
    Search(Search),
    /// One record.
    Read(String),
    /// What may be read, or what of `ids`.
    List(List),
    /// A write.
    Put(Vec<Json>),
    /// An erasure.
    Erase(Vec<String>),
}

/// A question.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The vector.
    pub vector: Vec<f32>,
    /// Records wanted.
    pub limit: usize,
    /// The patient it is about.
    pub patient: Option<String>,
    /// A filter in the target's own language.
    pub filter: Option<String>,
    /// Parts of records wanted; none: as the target does.
    pub include: Vec<&'static str>,
}

/// A list.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Of these alone.
    pub ids: Option<Vec<String>>,
    /// The patient it is about.
    pub patient: Option<String>,
    /// A filter in the target's own language.
    pub filter: Option<String>,
    /// What comes after this id.
    pub after: Option<String>,
    /// Records wanted.
    pub limit: Option<usize>,
}

impl Request {
    /// A plain request for a caller's own purpose.
    pub fn new(ask: Ask, purpose: &str) -> Self {
        Self { ask, purpose: purpose.to_owned(), fields: Map::new(), headers: Vec::new() }
    }

    /// The body of it; of a read, what stands for one.
    pub fn body(&self) -> Json {
        let mut body = match &self.ask {
            Ask::Search(search) => search.body(),
            Ask::Read(id) => json!({ "id": id }),
            Ask::List(list) => list.body(),
            Ask::Put(records) => json!({ "records": records }),
            Ask::Erase(ids) => json!({ "ids": ids }),
        };
        if let Some(fields) = body.as_object_mut() {
            if !matches!(self.ask, Ask::Put(_) | Ask::Erase(_)) {
                fields.insert("purpose".into(), self.purpose.as_str().into());
            }
            fields.extend(self.fields.clone());
        }
        body
    }
}

impl Search {
    fn body(&self) -> Json {
        let mut body = Map::new();
        body.insert("vector".into(), json!(self.vector));
        body.insert("limit".into(), self.limit.into());
        optional(&mut body, "patient", self.patient.as_deref());
        optional(&mut body, "filter", self.filter.as_deref());
        if !self.include.is_empty() {
            body.insert("include".into(), json!(self.include));
        }
        Json::Object(body)
    }
}

impl List {
    fn body(&self) -> Json {
        let mut body = Map::new();
        if let Some(ids) = &self.ids {
            body.insert("ids".into(), json!(ids));
        }
        optional(&mut body, "patient", self.patient.as_deref());
        optional(&mut body, "filter", self.filter.as_deref());
        optional(&mut body, "after", self.after.as_deref());
        if let Some(limit) = self.limit {
            body.insert("limit".into(), limit.into());
        }
        Json::Object(body)
    }
}

fn optional(body: &mut Map<String, Json>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        body.insert(name.into(), value.into());
    }
}

/// What came back, to the byte.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// As HTTP counts; adapters use 200, 403, 404 and 422 in the same sense.
    pub status: u16,
    /// In order of their names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// From the first byte sent to the last received.
    pub took: Duration,
}

/// What an answer may differ in: its own ids, and when it was given.
const VOLATILE_HEADERS: [&str; 2] = ["x-request-id", "date"];
const VOLATILE_FIELDS: [&str; 2] = ["retrieval_id", "request_id"];
/// When a record came in: twins were filled one after the other.
const CAME_IN: &str = "\"ingested_at\":";

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The records in it.
    pub fn records(&self) -> Vec<Json> {
        if self.status != 200 {
            return Vec::new();
        }
        let json = self.json();
        match json.get("results").or_else(|| json.get("records")) {
            Some(Json::Array(records)) => records.clone(),
            Some(_) | None => json.get("id").map(|_| vec![json.clone()]).unwrap_or_default(),
        }
    }

    /// Their ids, in order.
    pub fn ids(&self) -> Vec<String> {
        let id = |record: Json| record.get("id").and_then(Json::as_str).map(str::to_owned);
        self.records().into_iter().filter_map(id).collect()
    }

    /// All of it but what must differ from one answer to the next.
    pub fn bare(&self) -> Bare {
        let volatile = |name: &str| VOLATILE_HEADERS.contains(&name);
        let mut body = String::from_utf8_lossy(&self.body).into_owned();
        for own in self.own_ids() {
            body = body.replace(&own, "<own id>");
        }
        let headers = self.headers.iter().filter(|(name, _)| !volatile(name)).cloned().collect();
        Bare { status: self.status, headers, body: timeless(&body) }
    }

    fn own_ids(&self) -> Vec<String> {
        let headers = self.headers.iter().filter(|(name, _)| name == "x-request-id").map(|(_, value)| value.clone());
        let json = self.json();
        let fields = VOLATILE_FIELDS.iter().filter_map(|name| json.get(name)?.as_str()).map(str::to_owned);
        headers.chain(fields).filter(|id| id.len() > 7).collect()
    }
}

/// The text with the value of each time of coming in taken out, and all else as it is.
fn timeless(body: &str) -> String {
    let mut kept = String::with_capacity(body.len());
    for (n, part) in body.split(CAME_IN).enumerate() {
        let mut value = serde_json::Deserializer::from_str(part).into_iter::<serde::de::IgnoredAny>();
        let read = n > 0 && value.next().is_some_and(|one| one.is_ok());
        kept.push_str(if n > 0 { CAME_IN } else { "" });
        kept.push_str(part.get(if read { value.byte_offset() } else { 0 }..).unwrap_or_default());
    }
    kept
}

/// An answer without what must differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    /// Status.
    pub status: u16,
    /// Headers but the volatile.
    pub headers: Vec<(String, String)>,
    /// Body with its own ids taken out.
    pub body: String,
}

impl Bare {
    /// The first part in which two answers differ, in words that hold nothing of either.
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        if self.status != other.status {
            return Some("status");
        }
        if self.body != other.body {
            return Some(if self.body.len() == other.body.len() { "body" } else { "body and its size" });
        }
        (self.headers != other.headers).then_some("headers")
    }

    /// The same after `id` was taken out, as long as it is: to compare answers about two ids.
    pub fn without(mut self, id: &str) -> Self {
        self.body = self.body.replace(id, "<the id>");
        self.headers.retain(|(name, _)| name != "content-length");
        self
    }
}

/// Why something could not be asked.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The target has no such thing, or the credentials do not reach so far; what needs it is skipped, and said to be.
    Unable(String),
    /// The target, or the way to it, is broken.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unable(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

/// What the target is.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is, or how it was started.
    pub place: String,
}

fn unable<T>(what: &str) -> Result<T, Trouble> {
    Err(Trouble::Unable(format!("the target cannot {what}")))
}

/// A store under attack. What a target has not, it says it is unable to; a probe that needs it is skipped.
pub trait Target: Send {
    /// What it is.
    fn about(&self) -> About;

    /// Empties it, and gives it the world's rules and people, but no records.
    fn reset(&mut self, world: &World) -> Result<(), Trouble>;

    /// Stores records, as whoever may.
    fn put(&mut self, records: &[Record]) -> Result<(), Trouble>;

    /// Stores records that are to be taken away again, whatever happens.
    fn plant(&mut self, records: &[Record]) -> Result<(), Trouble> {
        self.put(records)
    }

    /// Takes planted records away.
    fn uproot(&mut self, ids: &[String]) -> Result<(), Trouble> {
        self.erase(ids)
    }

    /// Whether it can still be reached.
    fn alive(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Makes a backup, whose files are then among the `traces`.
    fn back_up(&mut self) -> Result<(), Trouble> {
        unable("make a backup")
    }

    /// Removes records, as whoever may.
    fn erase(&mut self, ids: &[String]) -> Result<(), Trouble>;

    /// A caller's request, answered. A refusal is an answer.
    fn answer(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble>;

    /// Replaces what is known of people and things (Cedar's JSON form).
    fn put_entities(&mut self, _entities: &[Json]) -> Result<(), Trouble> {
        unable("change what it knows of people")
    }

    /// Removes one entity, whatever refers to it.
    fn remove_entity(&mut self, _ty: &str, _id: &str) -> Result<(), Trouble> {
        unable("forget an entity")
    }

    /// Puts other rules in force.
    fn govern(&mut self, _rules: &Rules) -> Result<(), Trouble> {
        unable("change its rules")
    }

    /// Withdraws a caller's credential; the next request with it comes with the withdrawn one.
    fn withdraw(&mut self, _caller: &Caller) -> Result<(), Trouble> {
        unable("withdraw a credential")
    }

    /// Gives a caller a new credential after one was withdrawn.
    fn reinstate(&mut self, _caller: &Caller) -> Result<(), Trouble> {
        unable("give a credential")
    }

    /// A second connection to the same store, for whoever asks meanwhile.
    fn beside(&self) -> Result<Box<dyn Target>, Trouble> {
        unable("be asked from two sides at once")
    }

    /// What it leaves outside its answers: logs, metrics, files of the data directory, by name.
    fn traces(&mut self) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        unable("show its logs and files")
    }

    /// Stops it and starts it again on the same data.
    fn restart(&mut self) -> Result<(), Trouble> {
        unable("be restarted")
    }

    /// Takes away what the kit made for itself: keys, planted records.
    fn leave(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}
