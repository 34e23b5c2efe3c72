//! The audit log.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    App,
    forms::bounded,
    problem::Problem,
    session::{Asked, Session, answer, run},
};
use crate::{
    audit::Entry,
    clock::Instant,
    engine::{Circumstances, ReadAudit, Sieve},
    model::{Action, limits},
};

/// Entries answered where a request does not say how many.
pub(super) const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    after: Option<u64>,
    limit: Option<usize>,
    caller: Option<String>,
    patient: Option<String>,
    record: Option<String>,
    action: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl AuditQuery {
    fn sieve(self) -> Result<Sieve, Problem> {
        let time = |name: &'static str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => Instant::parse(&text)
                .map(Some)
                .ok_or_else(|| Problem::invalid(name, format!("`{name}` must be a time such as 2026-01-31T00:00:00Z"))),
        };
        let action = match self.action {
            None => None,
            Some(text) => {
                let named = Action::all().find(|a| a.name() == text);
                Some(named.ok_or_else(|| {
                    Problem::invalid(
                        "action",
                        "`action` is none of the actions that a schema declares, such as `Search`",
                    )
                })?)
            }
        };
        let record = self.record.map(|id| id.parse().map_err(|e| Problem::invalid("record", format!("`record` {e}"))));
        Ok(Sieve {
            caller: self.caller,
            patient: self.patient,
            record: record.transpose()?,
            action,
            since: time("since", self.since)?,
            until: time("until", self.until)?,
        })
    }
}

pub(super) async fn entries(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<AuditQuery>,
) -> Result<Response, Problem> {
    let page = run(&app, move |engine| {
        let grant = engine.authorise::<ReadAudit>(&session.caller, &session.origin, Circumstances::default())?;
        let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(DEFAULT_LIMIT));
        Ok(bounded("limit", limit, limits::AUDIT_PAGE)
            .and_then(|limit| Ok((limit, query.sieve()?)))
            .and_then(|(limit, sieve)| Ok(engine.audit(&grant, after, limit, &sieve)?)))
    })
    .await??;
    let entries: Vec<Json> = page.entries.iter().map(|(sequence, entry)| shown(*sequence, entry)).collect();
    Ok(answer(&json!({ "entries": entries, "next": page.next })))
}

/// An entry with its number, and its time in words beside the milliseconds.
fn shown(sequence: u64, entry: &Entry) -> Json {
    let mut json = json!({ "sequence": sequence, "time": entry.at.rfc3339() });
    if let (Some(fields), Ok(Json::Object(more))) = (json.as_object_mut(), serde_json::to_value(entry)) {
        fields.extend(more);
    }
    json
}

pub(super) async fn checkpoint(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let note = run(&app, move |engine| {
        let grant = engine.authorise::<ReadAudit>(&session.caller, &session.origin, Circumstances::default())?;
        engine.checkpoint(&grant)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], note).into_response())
}
