//! The keys that seal what is stored.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{
    App,
    problem::Problem,
    session::{Session, answer, run},
};

pub(super) async fn status(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let status = run(&app, move |engine| {
        let grant = engine.authorise_keys(&session.caller, &session.origin)?;
        engine.key_status(&grant)
    })
    .await?;
    Ok(answer(&status))
}

pub(super) async fn rotate(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let status = run(&app, move |engine| {
        let grant = engine.authorise_keys(&session.caller, &session.origin)?;
        engine.rotate_keys(&grant)
    })
    .await?;
    Ok(answer(&status))
}
