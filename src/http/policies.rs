//! Bundles.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    App, body,
    foresight::body_bytes,
    forms::{BundleForm, RollbackForm, bounded},
    intake::Intake,
    problem::Problem,
    session::{Asked, Session, answer, run},
};
use crate::{
    engine::{Allow, Circumstances, Grant, ManagePolicies, Refusal, Wardkeep},
    model::limits,
};

fn may_manage(engine: &Wardkeep, session: &Session) -> Result<Grant<ManagePolicies>, Refusal> {
    engine.authorise(&session.caller, &session.origin, Circumstances::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    #[serde(default)]
    allow_invalid: bool,
    #[serde(default)]
    allow_widening: bool,
    #[serde(default)]
    allow_lockout: bool,
    #[serde(default)]
    strict: bool,
}

impl PutQuery {
    fn allow(&self) -> Allow {
        Allow {
            invalid: self.allow_invalid,
            widening: self.allow_widening,
            lockout: self.allow_lockout,
            warnings: !self.strict,
        }
    }
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<PutQuery>,
    headers: HeaderMap,
    intake: Intake,
) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| may_manage(engine, &session)).await?;
    let if_match = if_match(&headers)?;
    let form: BundleForm = body::json(&intake, body_bytes(1)).await?;
    let source = form.source()?;
    let activated = run(&app, move |engine| engine.put_policies(&grant, source, if_match, query.allow())).await?;
    Ok(tagged(activated.version, answer(&activated)))
}

pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<PutQuery>,
    headers: HeaderMap,
    intake: Intake,
) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| may_manage(engine, &session)).await?;
    let if_match = if_match(&headers)?;
    let form: RollbackForm = body::json(&intake, limits::BODY_BYTES).await?;
    let (to, note) = (form.version, form.note()?);
    let activated =
        run(&app, move |engine| engine.rollback_policies(&grant, to, note, if_match, query.allow())).await?;
    Ok(tagged(activated.version, answer(&activated)))
}

fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    Ok(headers.get(header::IF_MATCH).map(version).transpose()?.flatten())
}

/// `7`, `"7"` or `*`.
fn version(value: &HeaderValue) -> Result<Option<u64>, Problem> {
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if text == "*" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Problem::invalid("if_match", "`If-Match` must be a version number"))
}

fn tagged(version: u64, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateQuery {
    #[serde(default)]
    strict: bool,
}

pub(super) async fn validate(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<ValidateQuery>,
    intake: Intake,
) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| may_manage(engine, &session)).await?;
    let form: BundleForm = body::json(&intake, body_bytes(1)).await?;
    let source = form.source()?;
    let allow = Allow { warnings: !query.strict, ..Allow::default() };
    let checked = run(&app, move |engine| engine.validate_policies(&grant, &source, allow)).await?;
    Ok(answer(&json!({ "valid": true, "digest": checked.digest, "warnings": checked.warnings })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    version: Option<u64>,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<ShowQuery>,
) -> Result<Response, Problem> {
    let edition = run(&app, move |engine| engine.policies(&may_manage(engine, &session)?, query.version)).await?;
    Ok(tagged(edition.version.version, answer(&edition)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

/// Versions in an answer where the request does not say how many.
pub(super) const DEFAULT_PAGE: usize = 20;

pub(super) async fn history(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Response, Problem> {
    let history = run(&app, move |engine| {
        let grant = may_manage(engine, &session)?;
        let limit = bounded("limit", query.limit.unwrap_or(DEFAULT_PAGE), limits::HISTORY_PAGE);
        Ok(limit.and_then(|limit| Ok(engine.policy_history(&grant, query.before, limit)?)))
    })
    .await??;
    Ok(answer(&history))
}
