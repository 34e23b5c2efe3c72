//! Any store, through a program that speaks one JSON line a request on its standard input and output (`examples/leaktest/README.md`).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use super::{About, Answer, Ask, Caller, Request, Target, Trouble};
use crate::leaktest::world::{Record, World};

/// Records in one line.
const BATCH: usize = 500;

/// A store behind a program.
pub struct Child {
    process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    about: About,
}

impl Child {
    /// Starts `command` with a shell, and asks what it is.
    pub fn start(command: &str) -> Result<Self, Trouble> {
        let broken = |e: std::io::Error| Trouble::Broken(format!("cannot start the adapter: {e}"));
        let mut process = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Trouble::Broken("the adapter cannot be spoken to".into()));
        };
        let mut child = Self { process, input: Some(input), output: BufReader::new(output), about: About::default() };
        let hello = child.told(&json!({"op": "hello"}))?;
        let word = |name| hello.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        child.about = About { name: word("name"), version: word("version"), place: command.to_owned() };
        Ok(child)
    }

    fn exchange(&mut self, line: &Json) -> Result<(String, Duration), Trouble> {
        let broken = |e: std::io::Error| Trouble::Broken(format!("the adapter broke off: {e}"));
        let input = self.input.as_mut().ok_or_else(|| Trouble::Broken("the adapter is gone".into()))?;
        let text = format!("{line}\n");
        let began = Instant::now();
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).map_err(broken)?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer).map_err(broken)? == 0 {
            return Err(Trouble::Broken("the adapter ended without an answer".into()));
        }
        Ok((answer, began.elapsed()))
    }

    /// What the kit asks for itself: `{"ok": …}`, `{"unable": why}` or `{"error": why}`.
    fn told(&mut self, line: &Json) -> Result<Json, Trouble> {
        let (answer, _) = self.exchange(line)?;
        let answer: Json =
            serde_json::from_str(&answer).map_err(|_| Trouble::Broken("the adapter's answer is not JSON".into()))?;
        let word = |name| answer.get(name).and_then(Json::as_str).map(str::to_owned);
        match (word("unable"), word("error")) {
            (Some(why), _) => Err(Trouble::Unable(why)),
            (None, Some(why)) => Err(Trouble::Broken(why)),
            (None, None) => Ok(answer.get("ok").cloned().unwrap_or_default()),
        }
    }
}

impl Target for Child {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn reset(&mut self, world: &World) -> Result<(), Trouble> {
        self.told(
            &json!({"op": "reset", "collection": world.collection, "dimension": world.dimension, "metric": "cosine"}),
        )?;
        self.put_entities(&world.entities)
    }

    fn put(&mut self, records: &[Record]) -> Result<(), Trouble> {
        for batch in records.chunks(BATCH) {
            let records: Vec<Json> = batch.iter().map(Record::line).collect();
            self.told(&json!({"op": "put", "records": records}))?;
        }
        Ok(())
    }

    fn erase(&mut self, ids: &[String]) -> Result<(), Trouble> {
        self.told(&json!({"op": "erase", "ids": ids})).map(drop)
    }

    fn answer(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        let op = match &request.ask {
            Ask::Search(_) => "search",
            Ask::Read(_) => "read",
            Ask::List(_) => "list",
            Ask::Put(_) => "caller_put",
            Ask::Erase(_) => "caller_erase",
        };
        let headers: serde_json::Map<String, Json> =
            request.headers.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
        let line = json!({
            "op": op, "caller": {"type": caller.ty, "id": caller.id, "credential": caller.seat},
            "purpose": request.purpose, "body": request.body(), "headers": headers,
        });
        let (text, took) = self.exchange(&line)?;
        let json: Json =
            serde_json::from_str(&text).map_err(|_| Trouble::Broken("the adapter's answer is not JSON".into()))?;
        if let Some(why) = json.get("unable").and_then(Json::as_str) {
            return Err(Trouble::Unable(why.to_owned()));
        }
        if let Some(why) = json.get("error").and_then(Json::as_str) {
            return Err(Trouble::Broken(format!("the adapter: {why}")));
        }
        let status = json.get("status").and_then(Json::as_u64).and_then(|s| u16::try_from(s).ok());
        let status = status.ok_or_else(|| Trouble::Broken("the adapter's answer has no status".into()))?;
        let body = json.get("body").map(Json::to_string).unwrap_or_default().into_bytes();
        Ok(Answer { status, headers: Vec::new(), body, took })
    }

    fn put_entities(&mut self, entities: &[Json]) -> Result<(), Trouble> {
        self.told(&json!({"op": "entities", "entities": entities})).map(drop)
    }

    fn remove_entity(&mut self, ty: &str, id: &str) -> Result<(), Trouble> {
        self.told(&json!({"op": "forget", "type": ty, "id": id})).map(drop)
    }

    fn traces(&mut self) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        let told = self.told(&json!({"op": "traces"}))?;
        let one = |path: &Json| {
            let path = path.as_str()?;
            let name = std::path::Path::new(path).file_name().unwrap_or_default().display().to_string();
            Some((format!("file {name}"), std::fs::read(path).ok()?))
        };
        Ok(told.as_array().into_iter().flatten().filter_map(one).collect())
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        self.told(&json!({"op": "restart"})).map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // it ends when its input does
        self.input = None;
        let _ = self.process.wait();
    }
}
