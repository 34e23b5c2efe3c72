//! API keys.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::json;

use super::{
    App, body,
    forms::{CallerForm, bounded, label},
    intake::Intake,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, ManageCallers},
    model::{EntityUid, KeyId, limits},
};

/// Purposes that one key may be bound to.
pub(super) const PURPOSES: usize = 64;

pub(super) async fn make(State(app): State<Arc<App>>, session: Session, intake: Intake) -> Result<Response, Problem> {
    let Session { caller, origin } = session;
    let (caller, origin) = run(&app, move |engine| {
        engine.may_begin::<ManageCallers>(&caller, &origin)?;
        Ok((caller, origin))
    })
    .await?;
    let form: CallerForm = body::json(&intake, limits::BODY_BYTES).await?;
    let holder = EntityUid::new(label("type", form.ty)?, label("id", form.id)?);
    let purposes = match form.purposes {
        Some(list) => {
            bounded("purposes", list.len(), PURPOSES)?;
            Some(list.into_iter().map(|p| label("purposes", p)).collect::<Result<Vec<_>, _>>()?)
        }
        None => None,
    };
    if form.expires_in.is_some_and(|seconds| !(1..=limits::KEY_SECONDS).contains(&seconds)) {
        let detail = format!("`expires_in` is in seconds and must be 1 to {}", limits::KEY_SECONDS);
        return Err(Problem::invalid("expires_in", detail));
    }
    let issued = run(&app, move |engine| engine.make_key(&caller, &origin, holder, form.expires_in, purposes)).await?;
    let body = json!({
        "api_key": issued.api_key.as_str(),
        "key_id": issued.key_id.to_string(),
        "expires_at": issued.expires_at.map(crate::clock::Instant::rfc3339),
    });
    Ok(answer(&body))
}

pub(super) async fn list(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let keys = run(&app, move |engine| {
        let grant = engine.authorise::<ManageCallers>(&session.caller, &session.origin, Circumstances::default())?;
        engine.keys(&grant)
    })
    .await?;
    Ok(answer(&json!({ "callers": keys })))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    session: Session,
    Path(key_id): Path<String>,
) -> Result<Response, Problem> {
    let id = key_id.parse::<KeyId>().ok();
    run(&app, move |engine| engine.revoke_key(&session.caller, &session.origin, id)).await?;
    Ok(answer(&json!({ "revoked": 1 })))
}
