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
    engine::{Circumstances, Detail, ManageCallers, Refusal},
    model::{EntityUid, KeyId, limits},
};

/// Purposes that one key may be bound to.
const PURPOSES: usize = 64;

pub(super) async fn make(State(app): State<Arc<App>>, session: Session, intake: Intake) -> Result<Response, Problem> {
    let form: CallerForm = body::json(&intake, limits::BODY_BYTES).await?;
    let caller = EntityUid::new(label("type", form.ty)?, label("id", form.id)?);
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
    let issued = run(&app, move |engine| {
        let detail = Detail::Key { caller: caller.clone() };
        let grant = engine.authorise_each::<ManageCallers>(
            &session.caller,
            &session.origin,
            Circumstances::default(),
            std::iter::once(detail),
        )?;
        engine.make_key(&grant, caller, form.expires_in, purposes)
    })
    .await?;
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
    Path(key_id): Path<String>,
    session: Session,
) -> Result<Response, Problem> {
    run(&app, move |engine| {
        let id = key_id.parse::<KeyId>().ok();
        // An id that nobody holds is asked about like one that a stranger holds.
        let holder = id.and_then(|id| engine.key_holder(id)).unwrap_or_else(|| EntityUid::new("", ""));
        let grant = engine.authorise_each::<ManageCallers>(
            &session.caller,
            &session.origin,
            Circumstances::default(),
            std::iter::once(Detail::Key { caller: holder }),
        )?;
        engine.revoke_key(&grant, id.ok_or(Refusal::Absent)?)
    })
    .await?;
    Ok(answer(&json!({ "revoked": 1 })))
}
