//! Search, list and read.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    App, body,
    forms::{ListForm, SearchForm, label},
    intake::Intake,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, Search},
    model::{CollectionName, limits},
};

/// What a search says of itself, read even where the rest does not fit, so that a caller without any right is refused first.
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
    let bytes = intake.bytes(limits::BODY_BYTES).await?;
    run(&app, move |engine| {
        let form = body::parse::<SearchForm>(&bytes);
        let circumstances = circumstances(&collection, &bytes)?;
        if let (Err(problem), true) = (&form, circumstances.purpose.is_none()) {
            // Cedar cannot be asked without a purpose; nothing that is stored has been looked at.
            return Ok(Err(problem.clone()));
        }
        let grant = match engine.authorise::<Search>(&session.caller, &session.origin, circumstances) {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        Ok(form.and_then(SearchForm::question).and_then(|question| {
            let disclosure = engine.search(&grant, &question)?;
            Ok(answer(&disclosure))
        }))
    })
    .await?
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    session: Session,
    Path(collection): Path<String>,
    intake: Intake,
) -> Result<Response, Problem> {
    let bytes = intake.bytes(limits::BODY_BYTES).await?;
    run(&app, move |engine| {
        let form = body::parse::<ListForm>(&bytes);
        let circumstances = circumstances(&collection, &bytes)?;
        if let (Err(problem), true) = (&form, circumstances.purpose.is_none()) {
            // Cedar cannot be asked without a purpose; nothing that is stored has been looked at.
            return Ok(Err(problem.clone()));
        }
        let grant = match engine.authorise::<Search>(&session.caller, &session.origin, circumstances) {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        Ok(form.and_then(ListForm::listing).and_then(|(listing, include)| {
            let disclosure = engine.list(&grant, &listing, include)?;
            Ok(answer(&disclosure))
        }))
    })
    .await?
}

fn circumstances(collection: &str, bytes: &[u8]) -> Result<Circumstances, crate::engine::Refusal> {
    let head: Head = body::checked(bytes).unwrap_or_default();
    let name: CollectionName = collection.parse().map_err(|_| crate::engine::Refusal::Absent)?;
    let fits = |name: &'static str, text: Option<String>| match text.map(|t| label(name, t)).transpose() {
        Ok(text) => Ok(text),
        Err(_) => Err(crate::engine::Refusal::invalid(name, format!("`{name}` must be 1 to 256 bytes without control characters"))),
    };
    Ok(Circumstances::of(name).purpose(fits("purpose", head.purpose)?).patient(fits("patient", head.patient)?))
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
    Query(query): Query<ReadQuery>,
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
