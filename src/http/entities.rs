//! Entities: who and what the policies speak of.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    App, body,
    forms::bounded,
    intake::Intake,
    problem::Problem,
    session::{Asked, Session, answer, run},
};
use crate::{
    engine::{ManageEntities, Operation},
    model::{EntityUid, limits},
};

pub(super) async fn put(State(app): State<Arc<App>>, session: Session, intake: Intake) -> Result<Response, Problem> {
    let Session { caller, origin } = session;
    let (caller, origin) = run(&app, move |engine| {
        engine.may_begin::<ManageEntities>(&caller, &origin)?;
        Ok((caller, origin))
    })
    .await?;
    let sent = body::list(&intake, limits::BULK_BODY_BYTES).await?;
    let sent: Vec<Json> = sent.into_iter().map(|entity| entity.0).collect();
    bounded("entities", sent.len(), limits::ENTITIES_PER_REQUEST)?;
    let written = run(&app, move |engine| engine.put_entities(&caller, &origin, &sent)).await?;
    Ok(answer(&json!({ "written": written.len(), "entities": written })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    session: Session,
    Path(ty): Path<String>,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let limit = bounded("limit", query.limit.unwrap_or(limits::LIST_PAGE), limits::LIST_PAGE)?;
    let found = run(&app, move |engine| {
        let anyone = EntityUid::new(ty.as_str(), "");
        let grant = engine.authorise_entity(&session.caller, &session.origin, anyone, Operation::Read)?;
        engine.entities(&grant, &ty, query.after.as_deref(), limit)
    })
    .await?;
    let next = (found.len() == limit).then(|| found.last().map(|e| e.uid.id.as_ref().to_owned())).flatten();
    let entities: Vec<_> = found.iter().map(crate::model::Entity::to_json).collect();
    Ok(answer(&json!({ "entities": entities, "next": next })))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    session: Session,
    Path((ty, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let entity = run(&app, move |engine| {
        let uid = EntityUid::new(ty, id);
        let grant = engine.authorise_entity(&session.caller, &session.origin, uid.clone(), Operation::Read)?;
        engine.entity(&grant, &uid)
    })
    .await?;
    Ok(answer(&entity.to_json()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    force: bool,
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    session: Session,
    Path((ty, id)): Path<(String, String)>,
    Asked(query): Asked<RemoveQuery>,
) -> Result<Response, Problem> {
    run(&app, move |engine| {
        let uid = EntityUid::new(ty, id);
        let grant = engine.authorise_entity(&session.caller, &session.origin, uid.clone(), Operation::Delete)?;
        engine.remove_entity(&grant, &uid, query.force)
    })
    .await?;
    Ok(answer(&json!({ "deleted": 1 })))
}
