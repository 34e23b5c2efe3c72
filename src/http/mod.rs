//! The outside over HTTP: routes and layers on one screen. Nothing is decided here.

mod audit;
mod backup;
mod body;
mod callers;
mod collections;
mod entities;
mod foresight;
mod forms;
mod health;
mod holds;
mod intake;
mod keys;
mod openapi;
mod policies;
mod problem;
mod records;
mod search;
mod serve;
mod session;
mod timetable;
mod wire;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    routing::{delete, get, post, put},
};

pub use openapi::description;
pub use serve::{Running, serve};
pub use timetable::Timetable;

use crate::engine::Wardkeep;

/// What every handler sees.
pub struct App {
    /// The store.
    pub engine: Arc<Wardkeep>,
    /// Addresses whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpAddr>,
    /// Where backups go, if anywhere.
    pub backups: Option<PathBuf>,
    metrics: health::Metrics,
    streams: backup::Streams,
}

impl App {
    /// An application over a store.
    pub fn new(engine: Arc<Wardkeep>, proxies: Vec<IpAddr>) -> Arc<Self> {
        Self::backing_up_to(None, engine, proxies)
    }

    /// The same, with a directory for backups, beside which the ledger of erasures and revocations is kept from here on.
    pub fn backing_up_to(backups: Option<PathBuf>, engine: Arc<Wardkeep>, proxies: Vec<IpAddr>) -> Arc<Self> {
        backups.iter().for_each(|dir| engine.keep_ledger_beside(dir));
        Arc::new(Self {
            engine,
            proxies,
            backups,
            metrics: health::Metrics::default(),
            streams: backup::Streams::default(),
        })
    }
}

/// Every route, and the action that it is authorised by. A test holds this table against the refusal tests.
///
/// Where answers leave on time (`server.answers_every_ms`), all of these do but those that take no credential ("none"): whoever sends one is
/// looked up, authorised and refused by what is stored about them, and nearly all of these routes look at records, be it for a count or a
/// conflict. That administrators' routes wait too costs them little, and leaves no exception to be argued about. The others tell
/// everybody the same, and whoever watches over the server wants to know at once.
pub const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/healthz", "none"),
    ("GET", "/readyz", "none"),
    ("GET", "/openapi.json", "none"),
    ("GET", "/metrics", "ReadAudit"),
    ("GET", "/v1/collections", "ManageCollections"),
    ("GET", "/v1/collections/{c}", "ManageCollections"),
    ("PUT", "/v1/collections/{c}", "ManageCollections"),
    ("DELETE", "/v1/collections/{c}", "ManageCollections, Erase"),
    ("PUT", "/v1/collections/{c}/records", "Ingest"),
    ("POST", "/v1/collections/{c}/erase", "Erase"),
    ("POST", "/v1/collections/{c}/search", "Search, Retrieve"),
    ("POST", "/v1/collections/{c}/records/list", "Search, Read"),
    ("GET", "/v1/collections/{c}/records/{id}", "Read"),
    ("PUT", "/v1/entities", "ManageEntities"),
    ("GET", "/v1/entities/{type}", "ManageEntities"),
    ("GET", "/v1/entities/{type}/{id}", "ManageEntities"),
    ("DELETE", "/v1/entities/{type}/{id}", "ManageEntities"),
    ("GET", "/v1/holds", "ManageEntities"),
    ("PUT", "/v1/holds/{type}/{id}", "ManageEntities"),
    ("DELETE", "/v1/holds/{type}/{id}", "ManageEntities"),
    ("GET", "/v1/policies", "ManagePolicies"),
    ("PUT", "/v1/policies", "ManagePolicies"),
    ("GET", "/v1/policies/history", "ManagePolicies"),
    ("POST", "/v1/policies/rollback", "ManagePolicies"),
    ("POST", "/v1/policies/validate", "ManagePolicies"),
    ("POST", "/v1/policies/explain", "Explain"),
    ("POST", "/v1/policies/diff", "ManagePolicies, Explain, ReadAudit"),
    ("GET", "/v1/callers", "ManageCallers"),
    ("POST", "/v1/callers", "ManageCallers"),
    ("DELETE", "/v1/callers/keys/{key_id}", "ManageCallers"),
    ("GET", "/v1/keys", "ManageKeys"),
    ("POST", "/v1/keys/rotate", "ManageKeys"),
    ("POST", "/v1/backup", "ManageKeys"),
    ("POST", "/v1/backup/stream", "ManageKeys"),
    ("POST", "/v1/escrow", "ManageKeys"),
    ("GET", "/v1/audit", "ReadAudit"),
    ("GET", "/v1/audit/checkpoint", "ReadAudit"),
];

/// The one router.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::show))
        .route("/metrics", get(health::metrics))
        .route("/v1/collections", get(collections::list))
        .route("/v1/collections/{c}", put(collections::put).get(collections::show).delete(collections::drop))
        .route("/v1/collections/{c}/records", put(records::put))
        .route("/v1/collections/{c}/erase", post(records::erase))
        .route("/v1/collections/{c}/search", post(search::search))
        .route("/v1/collections/{c}/records/list", post(search::list))
        .route("/v1/collections/{c}/records/{id}", get(search::read))
        .route("/v1/entities", put(entities::put))
        .route("/v1/entities/{type}", get(entities::list))
        .route("/v1/entities/{type}/{id}", get(entities::show).delete(entities::remove))
        .route("/v1/holds", get(holds::list))
        .route("/v1/holds/{type}/{id}", put(holds::put).delete(holds::lift))
        .route("/v1/policies", put(policies::put).get(policies::show))
        .route("/v1/policies/history", get(policies::history))
        .route("/v1/policies/rollback", post(policies::rollback))
        .route("/v1/policies/validate", post(policies::validate))
        .route("/v1/policies/explain", post(foresight::explain))
        .route("/v1/policies/diff", post(foresight::diff))
        .route("/v1/callers", post(callers::make).get(callers::list))
        .route("/v1/callers/keys/{key_id}", delete(callers::revoke))
        .route("/v1/keys", get(keys::status))
        .route("/v1/keys/rotate", post(keys::rotate))
        .route("/v1/backup", post(backup::back_up))
        .route("/v1/backup/stream", post(backup::stream))
        .route("/v1/escrow", post(backup::escrow))
        .route("/v1/audit", get(audit::entries))
        .route("/v1/audit/checkpoint", get(audit::checkpoint))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), session::enter))
        .with_state(app)
}

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod rotation_tests;
