//! A request's body, held aside until someone has been authorised to have it read; what nobody reads is drained, within bounds, so that
//! a client that is still sending sees its answer instead of a broken connection.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::problem::Problem;
use crate::model::limits;

/// How long a refused body is read to its end.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How long a body may pause before it is given up.
const PAUSE: Duration = Duration::from_secs(30);
/// Bytes a second that a body in one piece must come with after the first pause: who trickles holds what has come.
const PACE: usize = 16 << 10;

/// The body of a request, once.
#[derive(Clone)]
pub(super) struct Intake {
    body: Arc<Mutex<Option<Body>>>,
    length: Option<u64>,
    kind: Kind,
}

/// What the client says its body is. Nothing said is JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Lines,
    Other,
}

impl Kind {
    fn of(content_type: Option<&str>) -> Self {
        let Some(text) = content_type else { return Self::Json };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.rsplit(['/', '-', '+']).next() {
            Some("json") => Self::Json,
            Some("ndjson" | "jsonl") => Self::Lines,
            Some(_) | None => Self::Other,
        }
    }
}

impl Intake {
    pub(super) fn new(parts: &Parts, body: Body) -> Self {
        let text = |name| parts.headers.get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
        Self {
            body: Arc::new(Mutex::new(Some(body))),
            length: text(header::CONTENT_LENGTH).and_then(|l| l.parse().ok()),
            kind: match parts.headers.get(header::CONTENT_TYPE) {
                Some(value) => Kind::of(Some(value.to_str().unwrap_or_default())),
                None => Kind::of(None),
            },
        }
    }

    /// Whether the client sends newline-delimited JSON.
    pub(super) fn is_ndjson(&self) -> bool {
        self.kind == Kind::Lines
    }

    /// The body as a stream of bytes; empty the second time.
    pub(super) fn stream(&self) -> BodyDataStream {
        self.body.lock().take().unwrap_or_default().into_data_stream()
    }

    /// The body, which must be JSON, in one piece of at most `limit` bytes.
    pub(super) async fn bytes(&self, limit: usize) -> Result<Vec<u8>, Problem> {
        if self.kind != Kind::Json {
            let detail = "send application/json; application/x-ndjson is taken where records are written";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        if self.length.is_some_and(|l| l > limit as u64) {
            return Err(too_large(limit));
        }
        let mut stream = self.stream();
        let started = Instant::now();
        // memory comes with the bytes, not with their announcement
        let mut bytes = Vec::new();
        loop {
            let due = started + PAUSE + Duration::from_secs((bytes.len() / PACE) as u64);
            let chunk = match tokio::time::timeout_at(due, next(&mut stream)).await {
                Ok(chunk) => chunk?,
                Err(_) => {
                    let detail = format!("the body came slower than {PACE} bytes a second");
                    return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_slow", detail));
                }
            };
            let Some(chunk) = chunk else { return Ok(bytes) };
            if bytes.len() + chunk.len() > limit {
                drain(stream).await;
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    /// Reads what nobody has read, within bounds.
    pub(super) async fn drain(&self) {
        let body = self.body.lock().take();
        if let Some(body) = body {
            drain(body.into_data_stream()).await;
        }
    }
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(PAUSE, stream.next()).await {
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_paused", "the body paused for more than 30 seconds"))
        }
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(_))) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "body_broken", "the body ended before it was complete"))
        }
    }
}

/// Reads on and throws away, within bounds.
pub(super) async fn drain(mut stream: BodyDataStream) {
    let mut left = limits::DRAINED_BYTES;
    let reading = async {
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

fn too_large(limit: usize) -> Problem {
    let detail =
        format!("the body is larger than {limit} bytes; send less at a time, or records as application/x-ndjson");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

impl<S: Sync> FromRequestParts<S> for Intake {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::for_status(StatusCode::BAD_REQUEST))
    }
}
