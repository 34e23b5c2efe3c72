//! A real server on a free port over a temporary directory, and a client that shows an answer to the byte.

#![allow(dead_code, reason = "each module of the suite uses its own part of the harness")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use wardkeep::{
    crypto::{KdfCost, Passphrase},
    engine::{Environment, Settings, Wardkeep},
    http::{App, Running, serve},
};

use super::said;

/// The repository.
pub fn root_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, as text.
pub fn file(path: &str) -> String {
    std::fs::read_to_string(root_dir().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A file of JSON objects, one a line.
pub fn lines(path: &str) -> Vec<Json> {
    file(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn passphrase() -> Passphrase {
    Passphrase::from_bytes(b"correct horse battery staple".to_vec()).unwrap()
}

/// One answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The stable code of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer, which must be a success.
    #[track_caller]
    pub fn ok(self) -> Json {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self.json()
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Body and headers without what must differ: the request's own id, and the date.
    pub fn comparable(&self) -> (u16, String, BTreeMap<String, String>) {
        let mut headers = self.headers.clone();
        let id = headers.remove("x-request-id").unwrap_or_default();
        headers.remove("date");
        (self.status, self.text().replace(&id, "<request id>"), headers)
    }

    /// Ids of results (search) or records (list), in order.
    pub fn ids(&self) -> Vec<String> {
        let json = self.json();
        let list =
            json.get("results").or_else(|| json.get("records")).and_then(Json::as_array).cloned().unwrap_or_default();
        list.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Speaks with one key.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    pub url: String,
    pub key: String,
}

impl Client {
    pub fn new(url: &str, key: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build();
        Self { agent: ureq::Agent::new_with_config(config), url: url.to_owned(), key: key.to_owned() }
    }

    /// Any request with any body; `key` empty sends no credential.
    pub fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.try_send(method, path, kind, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// The same where the server may be gone.
    pub fn try_send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(body).unwrap();
        let mut response = self.agent.run(request)?;
        let headers = response
            .headers()
            .iter()
            .map(|(k, v)| (k.as_str().to_owned(), v.to_str().unwrap_or_default().to_owned()))
            .collect();
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(1 << 30).read_to_vec()?;
        let answer = Answer { status, headers, bytes };
        super::description::hold(method, path, kind, body, &answer);
        Ok(answer)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", &[])
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", &[])
    }

    pub fn put(&self, path: &str, body: &Json) -> Answer {
        self.send("PUT", path, "application/json", body.to_string().as_bytes())
    }

    pub fn post(&self, path: &str, body: &Json) -> Answer {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }

    pub fn put_lines(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, "application/x-ndjson", body.as_bytes())
    }

    pub fn search(&self, collection: &str, body: &Json) -> Answer {
        self.post(&format!("/v1/collections/{collection}/search"), body)
    }
}

/// A running server, in this process.
pub struct Server {
    pub url: String,
    pub root_key: String,
    pub dir: PathBuf,
    pub engine: Arc<Wardkeep>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Removed when the last server on it is gone.
    pub home: Arc<TempDir>,
}

impl Server {
    /// A new store with the starter bundle.
    pub fn new() -> Self {
        Self::with(Settings::default(), Environment::default)
    }

    pub fn with(settings: Settings, environment: impl Fn() -> Environment) -> Self {
        let home = Arc::new(TempDir::new().unwrap());
        let dir = home.path().join("data");
        let founding = Wardkeep::create_on(&dir, &passphrase(), KdfCost::FLOOR, settings, environment()).unwrap();
        Self::open(home, &dir, founding.api_key.as_str(), settings, environment())
    }

    /// A server on a store that is there.
    pub fn open(home: Arc<TempDir>, dir: &Path, root_key: &str, settings: Settings, environment: Environment) -> Self {
        Self::open_with(home, dir, root_key, settings, environment, |running| running)
    }

    /// The same, with the server set as `set` sets it.
    pub fn open_with(
        home: Arc<TempDir>,
        dir: &Path,
        root_key: &str,
        settings: Settings,
        environment: Environment,
        set: impl FnOnce(Running) -> Running + Send + 'static,
    ) -> Self {
        said::hear_this_process();
        let engine = Arc::new(Wardkeep::open(dir, &passphrase(), settings, environment, &|_| {}).unwrap());
        let app = App::backing_up_to(Some(home.path().join("backups")), Arc::clone(&engine), Vec::new());
        let (told, address) = std::sync::mpsc::channel::<SocketAddr>();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let running = set(serve(app, ([127, 0, 0, 1], 0).into()).await.unwrap());
                told.send(running.address().unwrap()).unwrap();
                running.until(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let url = format!("http://{}", address.recv().unwrap());
        Self {
            url,
            root_key: root_key.to_owned(),
            dir: dir.to_owned(),
            engine,
            stop: Some(stop),
            thread: Some(thread),
            home,
        }
    }

    /// Stops the server as a signal would.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Stops it and starts another on the same directory.
    pub fn restart(mut self) -> Self {
        self.stop();
        let (home, dir, key) = (Arc::clone(&self.home), self.dir.clone(), self.root_key.clone());
        drop(self);
        Self::open(home, &dir, &key, Settings::default(), Environment::default())
    }

    pub fn client(&self, key: &str) -> Client {
        Client::new(&self.url, key)
    }

    /// As `Administrator::"root"`.
    pub fn root(&self) -> Client {
        self.client(&self.root_key)
    }

    /// Without a credential.
    pub fn nobody(&self) -> Client {
        self.client("")
    }

    /// A new key for a caller.
    pub fn key_for(&self, ty: &str, id: &str) -> Client {
        let made = self.root().post("/v1/callers", &json!({"type": ty, "id": id})).ok();
        self.client(made["api_key"].as_str().unwrap())
    }

    /// The clinical bundle and its people, and an empty collection `ward` of 384 dimensions.
    pub fn clinical() -> Self {
        let server = Self::new();
        let root = server.root();
        root.put("/v1/policies", &bundle("policies/clinical")).ok();
        root.put("/v1/entities", &serde_json::from_str(&file("examples/ward/entities.json")).unwrap()).ok();
        root.put("/v1/collections/ward", &json!({"dimension": 384, "metric": "cosine"})).ok();
        server
    }

    /// The sample ward, whole: 2,000 records.
    pub fn ward() -> Self {
        let server = Self::clinical();
        let answer =
            server.root().put_lines("/v1/collections/ward/records", &file("examples/ward/records.ndjson")).ok();
        assert_eq!(answer["accepted"], 2_000, "{answer}");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A bundle's directory as the body of `PUT /v1/policies`: `.cedar` files in order of their names.
pub fn bundle(dir: &str) -> Json {
    let mut files: Vec<_> = std::fs::read_dir(root_dir().join(dir)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let (mut schema, mut policies, mut links) = (String::new(), String::new(), json!([]));
    for path in files {
        let text = || std::fs::read_to_string(&path).unwrap();
        match path.extension().and_then(|e| e.to_str()) {
            Some("cedarschema") => schema = text(),
            Some("cedar") => policies.push_str(&text()),
            Some("json") if path.ends_with("links.json") => links = serde_json::from_str(&text()).unwrap(),
            _ => {}
        }
    }
    json!({"schema": schema, "policies": policies, "links": links, "note": "from a test"})
}
