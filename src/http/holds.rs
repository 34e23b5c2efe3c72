//! Legal holds.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    App, body,
    forms::label,
    intake::Intake,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, Held, ManageEntities, Operation},
    model::{EntityUid, limits},
};

/// Why a patient's records are held.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldForm {
    reason: Option<String>,
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    session: Session,
    Path((ty, id)): Path<(String, String)>,
    intake: Intake,
) -> Result<Response, Problem> {
    let patient = EntityUid::new(ty, id);
    let asked = patient.clone();
    let grant =
        run(&app, move |engine| engine.authorise_entity(&session.caller, &session.origin, asked, Operation::Hold))
            .await?;
    let form: HoldForm = body::json(&intake, limits::BODY_BYTES).await?;
    let patient = EntityUid::new(label("type", patient.ty.to_string())?, label("id", patient.id.to_string())?);
    let reason = form.reason.map(|text| label("reason", text)).transpose()?;
    let hold = run(&app, move |engine| engine.hold(&grant, patient, reason)).await?;
    Ok(answer(&shown(&hold)))
}

pub(super) async fn lift(
    State(app): State<Arc<App>>,
    session: Session,
    Path((ty, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    run(&app, move |engine| {
        let patient = EntityUid::new(ty, id);
        let grant = engine.authorise_entity(&session.caller, &session.origin, patient.clone(), Operation::Lift)?;
        engine.lift_hold(&grant, &patient)
    })
    .await?;
    Ok(answer(&json!({ "lifted": 1 })))
}

pub(super) async fn list(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let holds = run(&app, move |engine| {
        let grant = engine.authorise::<ManageEntities>(&session.caller, &session.origin, Circumstances::default())?;
        engine.holds(&grant)
    })
    .await?;
    Ok(answer(&json!({ "holds": holds.iter().map(shown).collect::<Vec<_>>() })))
}

fn shown(held: &Held) -> Json {
    let Held { hold, records } = held;
    json!({
        "patient": hold.patient, "by": hold.by, "since": hold.since.rfc3339(), "reason": hold.reason, "records": records
    })
}
