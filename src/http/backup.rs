//! Backups into the directory that the configuration names, and escrows.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    App,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::engine::{Circumstances, ManageKeys};

pub(super) async fn back_up(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let dir = app.backups.clone();
    let taken = run(&app, move |engine| {
        let grant = engine.authorise::<ManageKeys>(&session.caller, &session.origin, Circumstances::default())?;
        Ok(dir.map(|dir| engine.back_up(&grant, &dir, &|_| ())))
    })
    .await?;
    let detail = "the server has no directory for backups: set `backup.directory` in its configuration";
    let taken = taken.ok_or_else(|| Problem::invalid("no_backup_directory", detail))?;
    Ok(answer(&taken?))
}

pub(super) async fn escrow(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let escrow = run(&app, move |engine| {
        let grant = engine.authorise::<ManageKeys>(&session.caller, &session.origin, Circumstances::default())?;
        engine.escrow(&grant)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], escrow).into_response())
}
