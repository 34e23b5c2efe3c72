//! Records in and out of being: JSON bodies whole, NDJSON as a stream whose memory stays flat.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    App, body,
    forms::{self, EraseForm},
    intake::{self, Intake},
    problem::{Problem, fault_json},
    session::{Asked, Session, answer, run},
};
use crate::{
    engine::{Circumstances, Erase, Fault, Grant, Ingest, Ingested, Mode},
    model::{CollectionName, limits},
};

/// A stream that brings no full commit for so long is asked anew whether it may go on.
const RENEWAL: Duration = Duration::from_secs(5);
/// Renewals without a byte before the stream is given up.
const RENEWALS_IDLE: u32 = 6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    mode: Option<ModeQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeQuery {
    Create,
    Upsert,
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    session: Session,
    Path(collection): Path<String>,
    Asked(query): Asked<PutQuery>,
    intake: Intake,
) -> Result<Response, Problem> {
    let name: CollectionName = collection.parse().map_err(|_| Problem::absent())?;
    let mode = match query.mode {
        Some(ModeQuery::Create) => Mode::Create,
        Some(ModeQuery::Upsert) | None => Mode::Upsert,
    };
    let grant =
        run(&app, move |engine| engine.authorise::<Ingest>(&session.caller, &session.origin, Circumstances::of(name)))
            .await?;
    let ingested = if intake.is_ndjson() {
        Stream { app: &app, grant: Arc::new(grant), mode, asked: false, so_far: Ingested::default() }
            .take_in(&intake)
            .await?
    } else {
        let bytes = intake.bytes(limits::BULK_BODY_BYTES).await?;
        run(&app, move |engine| Ok(forms::lines(&bytes).map(|lines| engine.ingest_whole(&grant, &lines, mode))))
            .await???
    };
    Ok(answer(&report(&ingested)))
}

fn report(ingested: &Ingested) -> serde_json::Value {
    let named: Vec<_> = ingested.rejected.iter().take(limits::REJECTED_NAMED).map(fault_json).collect();
    json!({"accepted": ingested.accepted, "rejected": named, "rejected_count": ingested.rejected_count})
}

/// An upload under way: at any time one commit's lines are in memory.
struct Stream<'a> {
    app: &'a Arc<App>,
    grant: Arc<Grant<Ingest>>,
    mode: Mode,
    /// Whether the engine was asked at all: an upload without a line is refused like any other to whoever may not send one.
    asked: bool,
    so_far: Ingested,
}

impl Stream<'_> {
    async fn take_in(mut self, intake: &Intake) -> Result<Ingested, Problem> {
        let mut stream = intake.stream();
        let mut batch = Batch::default();
        let (mut asked, mut idle) = (Instant::now(), 0);
        let done: Result<(), Problem> = async {
            loop {
                let next = tokio::time::timeout_at(asked + RENEWAL, intake::next(&mut stream)).await;
                match next {
                    Err(_) if idle == RENEWALS_IDLE => {
                        let detail = "the body paused for too long; send the rest again";
                        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_paused", detail));
                    }
                    Err(_) => {
                        idle += 1;
                        self.renew(&mut batch).await?;
                        asked = Instant::now();
                    }
                    Ok(chunk) => match chunk? {
                        Some(bytes) => {
                            idle = 0;
                            let mut rest = &bytes[..];
                            while !rest.is_empty() {
                                rest = batch.add(rest);
                                if batch.is_full() {
                                    self.commit(&mut batch).await?;
                                    asked = Instant::now();
                                }
                            }
                            // bytes that never fill a commit (blank lines, one without end) do not put the question off
                            if asked.elapsed() >= RENEWAL {
                                self.renew(&mut batch).await?;
                                asked = Instant::now();
                            }
                        }
                        None => {
                            batch.end();
                            return self.commit(&mut batch).await;
                        }
                    },
                }
            }
        }
        .await;
        match done {
            Ok(()) => Ok(self.so_far),
            Err(problem) => {
                intake::drain(stream).await;
                // What was committed before stays, and the client is told how much that is.
                Err(problem.with(json!({"accepted": self.so_far.accepted})))
            }
        }
    }

    /// Commits what there is, and asks whether the stream may go on.
    async fn renew(&mut self, batch: &mut Batch) -> Result<(), Problem> {
        self.commit(batch).await?;
        let grant = Arc::clone(&self.grant);
        run(self.app, move |engine| engine.may_go_on(&grant)).await
    }

    async fn commit(&mut self, batch: &mut Batch) -> Result<(), Problem> {
        let lines = batch.take();
        if lines.is_empty() && self.asked {
            return Ok(());
        }
        self.asked = true;
        let (grant, mode) = (Arc::clone(&self.grant), self.mode);
        let ingested = run(self.app, move |engine| {
            let read = |(number, bytes): &(usize, Option<Vec<u8>>)| match bytes {
                Some(bytes) => forms::line(*number, bytes),
                None => forms::endless(*number),
            };
            let lines: Vec<_> = lines.iter().map(read).collect();
            engine.ingest_lines(&grant, &lines, mode)
        })
        .await?;
        self.so_far.accepted += ingested.accepted;
        self.so_far.keep(ingested.rejected);
        Ok(())
    }
}

impl Ingested {
    /// Names the first rejected lines and counts the others.
    fn keep(&mut self, rejected: Vec<Fault>) {
        self.rejected_count += rejected.len();
        let room = limits::REJECTED_NAMED.saturating_sub(self.rejected.len());
        self.rejected.extend(rejected.into_iter().take(room));
    }
}

/// From here on a line's buffer is made as large as a line may be.
const LONG_LINE: usize = 64 << 10;

/// Lines on their way into one commit, with their numbers; without bytes where a line was too long to be kept.
#[derive(Default)]
struct Batch {
    lines: Vec<(usize, Option<Vec<u8>>)>,
    bytes: usize,
    partial: Vec<u8>,
    too_long: bool,
    number: usize,
}

impl Batch {
    /// Takes up to the end of the next line; returns what is left.
    fn add<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (line, left, complete) = match rest.iter().position(|b| *b == b'\n') {
            Some(end) => {
                let (line, left) = rest.split_at(end);
                (line, left.get(1..).unwrap_or_default(), true)
            }
            None => (rest, Default::default(), false),
        };
        self.too_long |= self.partial.len() + line.len() > limits::LINE_BYTES;
        if self.too_long {
            self.partial.clear();
        } else {
            self.room_for(line.len());
            self.partial.extend_from_slice(line);
        }
        if complete {
            self.end();
        }
        left
    }

    /// A long line gets all that a line may take at once: pages that are not written cost nothing, copies on the way do.
    fn room_for(&mut self, more: usize) {
        if self.partial.len() + more > self.partial.capacity().max(LONG_LINE) {
            self.partial.reserve_exact(limits::LINE_BYTES - self.partial.len());
        }
    }

    /// The line is whole. Blank lines count but say nothing.
    fn end(&mut self) {
        let line = self.partial.clone();
        self.partial.clear();
        self.number += 1;
        if std::mem::take(&mut self.too_long) {
            self.lines.push((self.number, None));
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            self.bytes += line.len();
            self.lines.push((self.number, Some(line)));
        }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= limits::COMMIT_LINES || self.bytes >= limits::COMMIT_BYTES
    }

    fn take(&mut self) -> Vec<(usize, Option<Vec<u8>>)> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

pub(super) async fn erase(
    State(app): State<Arc<App>>,
    session: Session,
    Path(collection): Path<String>,
    intake: Intake,
) -> Result<Response, Problem> {
    let name: CollectionName = collection.parse().map_err(|_| Problem::absent())?;
    let grant =
        run(&app, move |engine| engine.authorise::<Erase>(&session.caller, &session.origin, Circumstances::of(name)))
            .await?;
    let form: EraseForm = body::json(&intake, limits::BODY_BYTES).await?;
    let certified = form.certificate;
    let erasure = form.erasure()?;
    let erased = run(&app, move |engine| match certified {
        true => engine.erase_certified(&grant, &erasure),
        false => engine.erase(&grant, &erasure),
    })
    .await?;
    Ok(answer(&erased))
}
