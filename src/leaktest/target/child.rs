//! Any store, through a program that speaks one JSON line a request on its standard input and output (`examples/leaktest/README.md`).

use std::{
    io::{BufReader, Write as _},
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use super::{About, Answer, Ask, Caller, Request, Target, Trouble};
use crate::leaktest::{
    limits,
    world::{Record, World},
};

/// Records in one line.
const BATCH: usize = 500;

/// How long an answer may take: a whole world is put in by batches.
const ANSWER: Duration = Duration::from_secs(300);
/// How long it may take to end once its input has ended.
const ENDING: Duration = Duration::from_secs(10);

/// Hears what the program says, a line at a time, until it ends or says too much.
fn listen(output: ChildStdout) -> Receiver<Result<String, Trouble>> {
    let (told, lines) = sync_channel(1);
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        loop {
            let line = limits::read_line("an answer of the adapter", &mut output, limits::LINE_BYTES);
            let last = line.as_ref().map_or(true, String::is_empty);
            if line.as_ref().is_ok_and(String::is_empty) || told.send(line).is_err() || last {
                return;
            }
        }
    });
    lines
}

/// A store behind a program.
pub struct Child {
    process: Process,
    input: Option<ChildStdin>,
    /// Lines that it says, read by a thread of its own.
    lines: Receiver<Result<String, Trouble>>,
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
        let mut child = Self { process, input: Some(input), lines: listen(output), about: About::default() };
        let hello = child.told(&json!({"op": "hello"}))?;
        let word = |name| hello.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        child.about = About { name: word("name"), version: word("version"), place: "an adapter's".to_owned() };
        Ok(child)
    }

    fn exchange(&mut self, line: &Json) -> Result<(String, Duration), Trouble> {
        let broken = |e: std::io::Error| Trouble::Broken(format!("the adapter broke off: {e}"));
        let input = self.input.as_mut().ok_or_else(|| Trouble::Broken("the adapter is gone".into()))?;
        if self.lines.try_recv().is_ok() {
            return Err(Trouble::Broken("the adapter said something that it was not asked".into()));
        }
        let text = format!("{line}\n");
        let began = Instant::now();
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).map_err(broken)?;
        match self.lines.recv_timeout(ANSWER) {
            Ok(answer) => Ok((answer?, began.elapsed())),
            Err(RecvTimeoutError::Timeout) => {
                Err(Trouble::Broken(format!("the adapter did not answer within {} s", ANSWER.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Trouble::Broken("the adapter ended without an answer".into())),
        }
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
            &json!({"op": "reset", "collection": world.collection, "dimension": world.dimension, "metric": world.metric.word()}),
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
        let paths: Vec<&str> = told.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        limits::within("files", paths.len(), limits::TRACES)?;
        let one = |path: &str| -> Result<Option<(String, Vec<u8>)>, Trouble> {
            let name = format!("file {}", std::path::Path::new(path).file_name().unwrap_or_default().display());
            let file = match std::fs::File::open(path) {
                // what is gone by now has nothing to find in it
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other
                    .map_err(|e| Trouble::Broken(format!("{name}, which the adapter names, cannot be read: {e}")))?,
            };
            Ok(Some((name.clone(), limits::read_whole(&name, file, limits::FILE_BYTES)?)))
        };
        let named = paths.len();
        let found: Vec<_> = paths.into_iter().filter_map(|path| one(path).transpose()).collect::<Result<_, _>>()?;
        if found.is_empty() && named > 0 {
            return Err(Trouble::Broken("none of the files that the adapter names is there".into()));
        }
        Ok(found)
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        self.told(&json!({"op": "restart"})).map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // it ends when its input does, or is ended
        self.input = None;
        let asked = Instant::now();
        while asked.elapsed() < ENDING {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
