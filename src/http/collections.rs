//! Collections.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::json;

use super::{
    App, body,
    forms::{CollectionForm, label},
    intake::Intake,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, Erase, Grant, ManageCollections, Refusal, Wardkeep},
    model::{Collection, CollectionName, limits},
};

fn may_manage(
    engine: &Wardkeep,
    session: &Session,
    name: Option<&CollectionName>,
) -> Result<Grant<ManageCollections>, Refusal> {
    let circumstances = name.map_or_else(Circumstances::default, |n| Circumstances::of(n.clone()));
    engine.authorise(&session.caller, &session.origin, circumstances)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    session: Session,
    Path(name): Path<String>,
    intake: Intake,
) -> Result<Response, Problem> {
    let parsed = name.parse::<CollectionName>();
    let about = parsed.clone().ok();
    let grant = run(&app, move |engine| may_manage(engine, &session, about.as_ref())).await?;
    let name = parsed.map_err(|e| Problem::invalid("collection", format!("a collection's name {e}")))?;
    let form: CollectionForm = body::json(&intake, limits::BODY_BYTES).await?;
    let settings = Collection {
        name,
        dimension: form.dimension,
        metric: form.metric,
        subject_attribute: label("subject_attribute", form.subject_attribute.unwrap_or_else(|| "patient".into()))?,
        isolation: form.isolation,
        embedding_model: form.embedding_model.map(|m| label("embedding_model", m)).transpose()?,
    };
    let shown = settings.clone();
    run(&app, move |engine| engine.put_collection(&grant, settings)).await?;
    Ok(answer(&shown))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    session: Session,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let shown = run(&app, move |engine| {
        let name = name.parse::<CollectionName>();
        let grant = may_manage(engine, &session, name.as_ref().ok())?;
        engine.collection(&grant, &name.map_err(|_| Refusal::Absent)?)
    })
    .await?;
    Ok(answer(&shown))
}

pub(super) async fn list(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let all = run(&app, move |engine| engine.collections(&may_manage(engine, &session, None)?)).await?;
    Ok(answer(&json!({ "collections": all })))
}

pub(super) async fn drop(
    State(app): State<Arc<App>>,
    session: Session,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let erased = run(&app, move |engine| {
        let name = name.parse::<CollectionName>();
        let manage = may_manage(engine, &session, name.as_ref().ok())?;
        let circumstances = Circumstances::of(name.map_err(|_| Refusal::Absent)?);
        let erase = engine.authorise::<Erase>(&session.caller, &session.origin, circumstances)?;
        engine.drop_collection(&manage, &erase)
    })
    .await?;
    Ok(answer(&json!({ "erased": erased })))
}
