//! Wardkeep over HTTP: a server that runs already, or a throw-away one whose files and log can be looked at.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use ureq::Agent;

use super::{About, Answer, Ask, Caller, Ledger, Planted, Request, Search, Target, Trouble, house::House};
use crate::leaktest::{
    limits,
    world::{Record, Rules, World},
};

/// Records in one body.
const BATCH: usize = 2_000;
const NO_ADMIN: &str = "writes to the store: needs --plant and an administrator's key (WARDKEEP_API_KEY)";

/// A Wardkeep server.
pub struct OverHttp {
    agent: Agent,
    base: String,
    collection: String,
    /// Whoever may set up and plant; none with read-only credentials.
    admin: Option<String>,
    /// Shared by all connections.
    keys: Arc<Mutex<HashMap<Caller, Credential>>>,
    /// Where is kept what was planted; none: the store is thrown away whole.
    ledger: Option<Arc<Mutex<Ledger>>>,
    rules: Option<Rules>,
    isolation: &'static str,
    /// Who runs the server; none: somebody else does.
    house: Option<House>,
}

#[derive(Clone)]
struct Credential {
    key: String,
    /// Ours to revoke.
    made: Option<String>,
}

impl OverHttp {
    /// A server that runs already, and what may set it up: an administrator's key.
    pub fn at(base: &str, collection: &str, admin: Option<&str>) -> Self {
        Self {
            agent: agent(),
            base: base.trim_end_matches('/').to_owned(),
            collection: collection.to_owned(),
            admin: admin.map(str::to_owned),
            keys: Arc::default(),
            ledger: None,
            rules: None,
            isolation: "strict",
            house: None,
        }
    }

    /// The key of a caller who has one already.
    pub fn with_key(self, caller: &Caller, key: &str) -> Self {
        self.keys.lock().insert(caller.clone(), Credential { key: key.to_owned(), made: None });
        self
    }

    /// A server that the kit runs itself.
    pub(super) fn in_house(mut self, house: House, isolation: &'static str) -> Self {
        (self.house, self.isolation) = (Some(house), isolation);
        self
    }

    /// Keeps in `ledger` what is planted.
    pub fn with_ledger(mut self, ledger: Arc<Mutex<Ledger>>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Whether a server answers there and takes every key that it was given; where not, says what to mend.
    pub fn check(&mut self, world: &World) -> Result<(), Trouble> {
        self.reached()?;
        self.lets_in(world)
    }

    /// Whether a server answers there, and takes the administrator's key.
    pub fn reached(&self) -> Result<(), Trouble> {
        let health = self.send("GET", "/healthz", &[], &[]);
        let health = health.map_err(|why| Trouble::Broken(format!("no server answers at {}: {why}", self.base)))?;
        // whoever asks without a key is told so, in the form of RFC 9457
        let nobody = self.send("GET", "/v1/collections", &[], &[])?;
        let code = nobody.json().get("code").and_then(Json::as_str).map(str::to_owned);
        if health.status != 200 || nobody.status != 401 || code.is_none() {
            return Err(Trouble::Broken(format!("what answers at {} is no Wardkeep", self.base)));
        }
        if let Some(admin) = &self.admin
            && self.send("GET", "/v1/collections", &[bearer(admin)], &[])?.status == 401
        {
            return Err(Trouble::Broken("WARDKEEP_API_KEY is refused (401): no key of this server, or revoked".into()));
        }
        Ok(())
    }

    /// Whether every caller has a key that the server knows, and may ask the collection.
    fn lets_in(&mut self, world: &World) -> Result<(), Trouble> {
        let vector = world.records.first().map(|r| r.vector.clone()).unwrap_or_default();
        let mut refused = 0;
        for caller in &world.callers {
            let who = format!("{}::\"{}\"", caller.ty, caller.id);
            if self.admin.is_none() && !self.keys.lock().contains_key(caller) {
                return Err(Trouble::Broken(format!(
                    "there is no key for {who}: name one, or let the kit make one (--plant)"
                )));
            }
            let question = Search { vector: vector.clone(), limit: 1, ..Search::default() };
            let answer = self.answer(caller, &Request::new(Ask::Search(question), &caller.purpose))?;
            let detail = answer.json().get("detail").and_then(Json::as_str).unwrap_or_default().to_owned();
            match answer.status {
                200 => {}
                401 => {
                    return Err(Trouble::Broken(format!(
                        "the key of {who} is refused (401): no key of this server, or revoked"
                    )));
                }
                403 => refused += 1,
                status => {
                    return Err(Trouble::Broken(format!(
                        "collection `{}` cannot be asked by {who}: {status} {detail}",
                        self.collection
                    )));
                }
            }
        }
        if refused == world.callers.len() {
            return Err(Trouble::Broken(format!(
                "none of the {refused} callers may search collection `{}` (403)",
                self.collection
            )));
        }
        Ok(())
    }

    /// Takes away what an earlier run left behind; answers how many records and keys.
    pub fn clean(&mut self) -> Result<(usize, usize), Trouble> {
        let Some(ledger) = self.ledger.clone() else { return Ok((0, 0)) };
        let left = ledger.lock().planted().clone();
        if !left.records.is_empty() {
            self.uproot(&left.records)?;
        }
        left.keys.iter().try_for_each(|id| self.revoke(id))?;
        Ok((left.records.len(), left.keys.len()))
    }

    /// Revokes a key that the kit made, if it is still there.
    fn revoke(&self, id: &str) -> Result<(), Trouble> {
        match self.set("DELETE", &format!("/v1/callers/keys/{}", segment(id)), None) {
            Err(Trouble::Broken(why)) if !why.contains(": 404 ") => return Err(Trouble::Broken(why)),
            Err(Trouble::Unable(why)) => return Err(Trouble::Unable(why)),
            Ok(_) | Err(Trouble::Broken(_)) => {}
        }
        self.note(|held| held.keys.retain(|one| one != id))
    }

    /// Writes down what is planted, or is no longer.
    fn note(&self, change: impl FnOnce(&mut Planted)) -> Result<(), Trouble> {
        self.ledger.as_ref().map_or(Ok(()), |ledger| ledger.lock().change(change))
    }

    /// One request with one key, as it is.
    fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Result<Answer, Trouble> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|e| Trouble::Unable(format!("cannot be asked so: {e}")))?;
        let began = Instant::now();
        let mut response = self.agent.run(request).map_err(|e| Trouble::Broken(format!("no answer: {e}")))?;
        let body = response.body_mut().with_config().limit(limits::ANSWER_BYTES).read_to_vec();
        let took = began.elapsed();
        let text = |v: &ureq::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let mut headers: Vec<_> = response.headers().iter().map(|(k, v)| (k.as_str().to_owned(), text(v))).collect();
        headers.sort();
        let body = body.map_err(|e| Trouble::Broken(format!("half an answer: {e}")))?;
        Ok(Answer { status: response.status().as_u16(), headers, body, took })
    }

    /// What only whoever sets it up may do; anything but a success is trouble.
    fn set(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Json, Trouble> {
        let admin = self.admin.as_ref().ok_or_else(|| Trouble::Unable(NO_ADMIN.into()))?;
        let headers = [bearer(admin), kind()];
        let bytes = body.map(Json::to_string).unwrap_or_default();
        let answer = self.send(method, path, &headers, bytes.as_bytes())?;
        match answer.status {
            200..300 => Ok(answer.json()),
            403 => Err(Trouble::Unable(format!("the administrator's key may not {method} {path}"))),
            status => {
                let code = answer.json().get("code").and_then(Json::as_str).unwrap_or_default().to_owned();
                let detail = answer.json().get("detail").and_then(Json::as_str).unwrap_or_default().to_owned();
                Err(Trouble::Broken(format!("{method} {path}: {status} {code} {detail}")))
            }
        }
    }

    /// The caller's key; made if there is none, by one connection alone.
    fn key(&self, caller: &Caller) -> Result<String, Trouble> {
        let mut keys = self.keys.lock();
        if let Some(credential) = keys.get(caller) {
            return Ok(credential.key.clone());
        }
        // one that is forgotten by all ends by itself
        let body = json!({"type": caller.ty, "id": caller.id, "expires_in": KEY_S});
        let made = self.set("POST", "/v1/callers", Some(&body))?;
        let word = |name| made.get(name).and_then(Json::as_str).map(str::to_owned);
        let key = word("api_key").ok_or_else(|| Trouble::Broken("no key was given".into()))?;
        let id = word("key_id");
        self.note(|held| held.keys.extend(id.clone()))?;
        keys.insert(caller.clone(), Credential { key: key.clone(), made: id });
        Ok(key)
    }

    fn at_collection(&self, rest: &str) -> String {
        format!("/v1/collections/{}{rest}", self.collection)
    }
}

/// Seconds that a key made for a run lives, if nobody revokes it.
const KEY_S: u64 = 86_400;
/// Seconds that an answer may take.
const ANSWER_S: u64 = 120;

fn agent() -> Agent {
    let config =
        Agent::config_builder().http_status_as_error(false).max_idle_connections_per_host(limits::CONNECTIONS_MAX);
    Agent::new_with_config(config.timeout_global(Some(Duration::from_secs(ANSWER_S))).build())
}

fn bearer(key: &str) -> (String, String) {
    ("authorization".to_owned(), format!("Bearer {key}"))
}

fn kind() -> (String, String) {
    ("content-type".to_owned(), "application/json".to_owned())
}

/// One segment of a path.
fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Target for OverHttp {
    fn about(&self) -> About {
        let place = match &self.house {
            Some(house) => {
                let leaving = match house.answers_every_ms {
                    0 => "answers leave as soon as they are ready".to_owned(),
                    ms => format!("answers leave every {ms} ms"),
                };
                format!("a throw-away server of its own, {} isolation; {leaving}", self.isolation)
            }
            None => match self.base.rsplit_once('@') {
                Some((_, host)) => format!("…@{host}"),
                None => self.base.clone(),
            },
        };
        let version = self.house.as_ref().map(|h| h.version.clone()).unwrap_or_default();
        About { name: "Wardkeep over HTTP".to_owned(), version, place }
    }

    fn reset(&mut self, world: &World) -> Result<(), Trouble> {
        if self.house.is_none() {
            return Err(Trouble::Unable("a store that is in use is not emptied".into()));
        }
        self.collection.clone_from(&world.collection);
        let held = self.set("GET", "/v1/collections", None)?;
        let named = |c: &Json| c.get("name").and_then(Json::as_str) == Some(world.collection.as_str());
        if held.get("collections").and_then(Json::as_array).is_some_and(|list| list.iter().any(named)) {
            self.set("DELETE", &self.at_collection(""), None)?;
        }
        self.govern(&world.rules)?;
        self.set("PUT", "/v1/entities", Some(&Json::Array(world.entities.clone())))?;
        let body = json!({"dimension": world.dimension, "metric": world.metric.word(), "isolation": self.isolation});
        self.set("PUT", &self.at_collection(""), Some(&body)).map(drop)
    }

    fn put(&mut self, records: &[Record]) -> Result<(), Trouble> {
        for batch in records.chunks(BATCH) {
            let lines: Vec<Json> = batch.iter().map(Record::line).collect();
            self.set("PUT", &self.at_collection("/records"), Some(&json!({ "records": lines })))?;
        }
        Ok(())
    }

    fn plant(&mut self, records: &[Record]) -> Result<(), Trouble> {
        if self.admin.is_none() {
            return Err(Trouble::Unable(NO_ADMIN.into()));
        }
        self.note(|held| held.records.extend(records.iter().map(|r| r.id.clone())))?;
        self.put(records)
    }

    fn uproot(&mut self, ids: &[String]) -> Result<(), Trouble> {
        if ids.is_empty() {
            return Ok(());
        }
        self.erase(ids)?;
        self.note(|held| held.records.retain(|one| !ids.contains(one)))
    }

    fn alive(&mut self) -> Result<(), Trouble> {
        self.send("GET", "/healthz", &[], &[]).map(drop)
    }

    fn back_up(&mut self) -> Result<(), Trouble> {
        if self.house.is_none() {
            return Err(Trouble::Unable("its backups are elsewhere".into()));
        }
        self.set("POST", "/v1/backup", None).map(drop)
    }

    fn erase(&mut self, ids: &[String]) -> Result<(), Trouble> {
        self.set("POST", &self.at_collection("/erase"), Some(&json!({ "ids": ids }))).map(drop)
    }

    fn answer(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        let mut headers = vec![kind()];
        // an attacker's own credential stands instead of the caller's
        if !request.headers.iter().any(|(name, _)| name == "authorization") {
            headers.push(bearer(&self.key(caller)?));
        }
        headers.extend(request.headers.iter().cloned());
        let body = request.body().to_string();
        let (method, path, body) = match &request.ask {
            Ask::Search(_) => ("POST", "/search".to_owned(), body),
            Ask::List(_) => ("POST", "/records/list".to_owned(), body),
            Ask::Put(_) => ("PUT", "/records".to_owned(), body),
            Ask::Erase(_) => ("POST", "/erase".to_owned(), body),
            Ask::Read(id) => {
                ("GET", format!("/records/{}?purpose={}", segment(id), segment(&request.purpose)), String::new())
            }
        };
        self.send(method, &self.at_collection(&path), &headers, body.as_bytes())
    }

    fn put_entities(&mut self, entities: &[Json]) -> Result<(), Trouble> {
        self.set("PUT", "/v1/entities", Some(&json!(entities))).map(drop)
    }

    fn remove_entity(&mut self, ty: &str, id: &str) -> Result<(), Trouble> {
        self.set("DELETE", &format!("/v1/entities/{}/{}?force=true", segment(ty), segment(id)), None).map(drop)
    }

    fn govern(&mut self, rules: &Rules) -> Result<(), Trouble> {
        if self.rules.as_ref() == Some(rules) {
            return Ok(());
        }
        let body =
            json!({"schema": rules.schema, "policies": rules.policies, "links": rules.links, "note": "leakage test"});
        self.set("PUT", "/v1/policies?allow_widening=true", Some(&body))?;
        self.rules = Some(rules.clone());
        Ok(())
    }

    fn withdraw(&mut self, caller: &Caller) -> Result<(), Trouble> {
        self.key(caller)?;
        let made = self.keys.lock().get(caller).and_then(|c| c.made.clone());
        let id = made.ok_or_else(|| Trouble::Unable("a key that the kit did not make is not withdrawn".into()))?;
        self.revoke(&id)?;
        if let Some(credential) = self.keys.lock().get_mut(caller) {
            credential.made = None;
        }
        Ok(())
    }

    fn reinstate(&mut self, caller: &Caller) -> Result<(), Trouble> {
        self.keys.lock().remove(caller);
        self.key(caller).map(drop)
    }

    fn beside(&self) -> Result<Box<dyn Target>, Trouble> {
        let mut other = Self::at(&self.base, &self.collection, self.admin.as_deref());
        (other.keys, other.ledger) = (Arc::clone(&self.keys), self.ledger.clone());
        Ok(Box::new(other))
    }

    fn traces(&mut self) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        let house = self.house.as_ref().ok_or_else(|| Trouble::Unable("its files and log are elsewhere".into()))?;
        let mut found = vec![("log".to_owned(), fs::read(house.log()).unwrap_or_default())];
        files(&house.data(), "file", &mut found)?;
        files(&house.backups(), "backup", &mut found)?;
        let metrics = self.set("GET", "/metrics", None);
        if let Err(Trouble::Broken(why)) = metrics {
            return Err(Trouble::Broken(why));
        }
        if let Some(admin) = &self.admin {
            found.push(("metrics".to_owned(), self.send("GET", "/metrics", &[bearer(admin)], &[])?.body));
        }
        Ok(found)
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        let house = self.house.as_mut().ok_or_else(|| Trouble::Unable("it is not the kit's to restart".into()))?;
        house.stop();
        self.base = house.start()?;
        // connections to the old port are of no use
        self.agent = agent();
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Trouble> {
        let made: Vec<String> = self.keys.lock().values().filter_map(|c| c.made.clone()).collect();
        made.iter().try_for_each(|id| self.revoke(id))?;
        self.keys.lock().retain(|_, credential| credential.made.is_none());
        Ok(())
    }
}

fn files(dir: &Path, kind: &str, found: &mut Vec<(String, Vec<u8>)>) -> Result<(), Trouble> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, kind, found)?;
        } else if let Ok(file) = File::open(&path) {
            let name = format!("{kind} {}", path.file_name().unwrap_or_default().display());
            found.push((name.clone(), limits::read_whole(&name, file, limits::FILE_BYTES)?));
            limits::within("files", found.len(), limits::TRACES)?;
        }
    }
    Ok(())
}
