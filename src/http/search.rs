//! Search, list and read.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    App, body,
    forms::{ListForm, SearchForm, label},
    intake::Intake,
    problem::Problem,
    session::{Asked, Session, answer, run},
};
use crate::{
    engine::{Circumstances, Grant, Search, Wardkeep},
    model::{CollectionName, limits},
};

/// What a question says of itself besides what it asks.
pub(super) trait Question: serde::de::DeserializeOwned + Send + 'static {
    /// Takes the purpose and the patient out.
    fn circumstances(&mut self) -> (String, Option<String>);
}

impl Question for SearchForm {
    fn circumstances(&mut self) -> (String, Option<String>) {
        (std::mem::take(&mut self.purpose), self.patient.take())
    }
}

impl Question for ListForm {
    fn circumstances(&mut self) -> (String, Option<String>) {
        (std::mem::take(&mut self.purpose), self.patient.take())
    }
}

/// The same of a body that does not fit, so that a caller without any right is refused before its faults are named.
#[derive(Deserialize, Default)]
struct Head {
    purpose: Option<String>,
    patient: Option<String>,
}

pub(super) async fn search(
    State(app): State<Arc<App>>,
    session: Session,
    Path(collection): Path<String>,
    intake: Intake,
) -> Result<Response, Problem> {
    ask(&app, collection, session, &intake, |engine, grant, form: SearchForm| {
        Ok(answer(&engine.search(grant, &form.question()?)?))
    })
    .await
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    session: Session,
    Path(collection): Path<String>,
    intake: Intake,
) -> Result<Response, Problem> {
    ask(&app, collection, session, &intake, |engine, grant, form: ListForm| {
        Ok(answer(&engine.list(grant, &form.listing()?)?))
    })
    .await
}

/// Reads a question, asks whether it may be asked, and has it answered.
async fn ask<F: Question>(
    app: &Arc<App>,
    collection: String,
    session: Session,
    intake: &Intake,
    answered: impl FnOnce(&Wardkeep, &Grant<Search>, F) -> Result<Response, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let bytes = intake.bytes(limits::BODY_BYTES).await?;
    run(app, move |engine| {
        let mut form = body::parse::<F>(&bytes);
        let (purpose, patient) = match &mut form {
            Ok(form) => {
                let (purpose, patient) = form.circumstances();
                (Some(purpose), patient)
            }
            Err(_) => {
                let head: Head = body::checked(&bytes).unwrap_or_default();
                (head.purpose, head.patient)
            }
        };
        if let (Err(problem), None) = (&form, &purpose) {
            // Cedar cannot be asked without a purpose; nothing that is stored has been looked at.
            return Ok(Err(problem.clone()));
        }
        let circumstances = match circumstances(&collection, purpose, patient) {
            Ok(circumstances) => circumstances,
            Err(problem) => return Ok(Err(problem)),
        };
        let grant = engine.authorise::<Search>(&session.caller, &session.origin, circumstances)?;
        Ok(form.and_then(|form| answered(engine, &grant, form)))
    })
    .await?
}

fn circumstances(collection: &str, purpose: Option<String>, patient: Option<String>) -> Result<Circumstances, Problem> {
    let name: CollectionName = collection.parse().map_err(|_| Problem::absent())?;
    let purpose = purpose.map(|p| label("purpose", p)).transpose()?;
    let patient = patient.map(|p| label("patient", p)).transpose()?;
    Ok(Circumstances::of(name).purpose(purpose).patient(patient))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    purpose: Option<String>,
}

pub(super) async fn read(
    State(app): State<Arc<App>>,
    session: Session,
    Path((collection, id)): Path<(String, String)>,
    Asked(query): Asked<ReadQuery>,
) -> Result<Response, Problem> {
    let name = collection.parse().map_err(|_| Problem::absent())?;
    let id = id.parse().map_err(|_| Problem::absent())?;
    let purpose = label("purpose", query.purpose.ok_or_else(no_purpose)?)?;
    let disclosure = run(&app, move |engine| {
        let reading = engine.reading(&session.caller, &session.origin, name, Some(purpose))?;
        engine.read(&reading, &id)
    })
    .await?;
    Ok(answer(&disclosure.one()))
}

fn no_purpose() -> Problem {
    Problem::invalid("purpose", "say what for: `?purpose=treatment`")
}
