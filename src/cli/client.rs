//! A small client of the HTTP interface, for the verbs that speak to a running server.

use std::io::{Read, Write};

use clap::Args;
use serde_json::Value as Json;
use ureq::{Agent, SendBody, http::Response};

use super::Failure;

#[derive(Args, Clone)]
pub(super) struct Server {
    /// Where the server listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8470", env = "WARDKEEP_URL")]
    pub(super) url: String,
}

/// A server, and a key to it.
pub(super) struct Client {
    agent: Agent,
    base: String,
    key: String,
}

impl Server {
    /// Speaks with the key in `WARDKEEP_API_KEY`.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let key = std::env::var("WARDKEEP_API_KEY")
            .map_err(|_| Failure::Usage("set WARDKEEP_API_KEY to an API key (never pass it as an argument)".into()))?;
        Ok(Client::new(&self.url, &key))
    }
}

impl Client {
    pub(super) fn new(base: &str, key: &str) -> Self {
        let agent = Agent::new_with_config(Agent::config_builder().http_status_as_error(false).build());
        Self { agent, base: base.trim_end_matches('/').to_owned(), key: key.to_owned() }
    }

    pub(super) fn get(&self, path: &str) -> Result<Json, Failure> {
        answer(self.agent.get(self.url(path)).header("authorization", self.bearer()).call())
    }

    pub(super) fn delete(&self, path: &str) -> Result<Json, Failure> {
        answer(self.agent.delete(self.url(path)).header("authorization", self.bearer()).call())
    }

    pub(super) fn put(&self, path: &str, body: &Json) -> Result<Json, Failure> {
        let request = self.agent.put(self.url(path)).header("authorization", self.bearer());
        answer(request.content_type("application/json").send(body.to_string()))
    }

    pub(super) fn post(&self, path: &str, body: &Json) -> Result<Json, Failure> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        answer(request.content_type("application/json").send(body.to_string()))
    }

    /// The bytes of an answer that is not JSON.
    pub(super) fn post_for_bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        let sent =
            request.send_empty().map_err(|error| Failure::Failed(format!("no answer from the server: {error}")))?;
        if sent.status().is_success() {
            let mut body = sent.into_body();
            return Ok(body.with_config().limit(1 << 30).read_to_vec()?);
        }
        answer(Ok(sent)).map(|_| Vec::new())
    }

    /// Writes the bytes of an answer to `out` as they come; how many they were.
    pub(super) fn post_for_stream(&self, path: &str, out: &mut dyn Write) -> Result<u64, Failure> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        let sent =
            request.send_empty().map_err(|error| Failure::Failed(format!("no answer from the server: {error}")))?;
        if sent.status().is_success() {
            return Ok(std::io::copy(&mut sent.into_body().into_reader(), out)?);
        }
        answer(Ok(sent)).map(|_| 0)
    }

    /// Streams newline-delimited JSON.
    pub(super) fn put_lines(&self, path: &str, lines: &mut dyn Read) -> Result<Json, Failure> {
        let request = self.agent.put(self.url(path)).header("authorization", self.bearer());
        answer(request.content_type("application/x-ndjson").send(SendBody::from_reader(&mut { lines })))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

/// The JSON of an answer, or the words of its problem.
fn answer(sent: Result<Response<ureq::Body>, ureq::Error>) -> Result<Json, Failure> {
    let mut response = sent.map_err(|error| Failure::Failed(format!("no answer from the server: {error}")))?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
    let json: Json = serde_json::from_str(&text).unwrap_or_default();
    if status.is_success() {
        return Ok(json);
    }
    let word = |name| json.get(name).and_then(Json::as_str).unwrap_or_default();
    let mut why = format!("{} {}: {}", status.as_u16(), word("code"), word("detail"));
    for fault in json.get("errors").and_then(Json::as_array).into_iter().flatten().take(10) {
        let line = fault.get("line").and_then(Json::as_u64).map(|l| format!("{l}: ")).unwrap_or_default();
        why.push_str(&format!("\n  {line}{}", fault.get("detail").and_then(Json::as_str).unwrap_or_default()));
    }
    Err(Failure::Failed(why))
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
