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
    forms::BundleForm,
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
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    session: Session,
    Asked(query): Asked<PutQuery>,
    headers: HeaderMap,
    intake: Intake,
) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| may_manage(engine, &session)).await?;
    let if_match = headers.get(header::IF_MATCH).map(version).transpose()?.flatten();
    let form: BundleForm = body::json(&intake, 2 * limits::BUNDLE_BYTES + limits::BODY_BYTES).await?;
    let source = form.source()?;
    let allow = Allow { invalid: query.allow_invalid, widening: query.allow_widening, lockout: query.allow_lockout };
    let activated = run(&app, move |engine| engine.put_policies(&grant, source, if_match, allow)).await?;
    Ok(tagged(activated.version, answer(&activated)))
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

pub(super) async fn validate(
    State(app): State<Arc<App>>,
    session: Session,
    intake: Intake,
) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| may_manage(engine, &session)).await?;
    let form: BundleForm = body::json(&intake, 2 * limits::BUNDLE_BYTES + limits::BODY_BYTES).await?;
    let source = form.source()?;
    let checked = run(&app, move |engine| engine.validate_policies(&grant, &source)).await?;
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
    let (version, bundle) = run(&app, move |engine| engine.policies(&may_manage(engine, &session)?)).await?;
    if query.version.is_some_and(|asked| asked != version) {
        return Err(Problem::absent());
    }
    let source = bundle.source();
    let body = json!({
        "version": version,
        "digest": hex::encode(bundle.digest()),
        "schema": source.schema,
        "policies": source.policies,
        "templates": source.templates,
        "links": source.links,
        "note": source.note,
        "warnings": bundle.warnings(),
    });
    Ok(tagged(version, answer(&body)))
}
