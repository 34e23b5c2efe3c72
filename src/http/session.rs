//! Around every request: an id, where it came from, who it is, and the shape of every error.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Query, Request, State},
    http::{HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use serde::de::DeserializeOwned;

use super::{App, body, intake::Intake, problem::Problem, wire::Peer};
use crate::{
    authn::{Caller, Credential, Origin},
    engine::{Refusal, Wardkeep},
};

/// The outermost layer: gives the request its id and every error its body.
pub(super) async fn enter(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(id) = app.engine.random_id() else {
        return Problem::from(Refusal::Unavailable("the operating system gives no random bytes")).render("");
    };
    let text = hex::encode(id);
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0.clone());
    let _under_way = peer.as_ref().map(Peer::request);
    let peer = peer.map(|peer| peer.address.ip());
    parts.extensions.insert(Origin { address: address(peer, &parts, &app.proxies), request: id });
    let intake = Intake::new(&parts, body);
    parts.extensions.insert(intake.clone());
    let method = parts.method.clone();
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    intake.drain().await;
    if response.status().is_client_error() || response.status().is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        response = problem.unwrap_or_else(|| Problem::for_status(response.status())).render(&text);
    }
    app.metrics.count(&method, response.status());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert("x-request-id", value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The socket's peer; behind a configured proxy, the last address that it did not add itself.
fn address(peer: Option<IpAddr>, parts: &Parts, proxies: &[IpAddr]) -> Option<IpAddr> {
    let peer = peer?.to_canonical();
    if !proxies.contains(&peer) {
        return Some(peer);
    }
    let mut hops: Vec<IpAddr> = Vec::new();
    for value in parts.headers.get_all("x-forwarded-for") {
        let Ok(text) = value.to_str() else { return Some(peer) };
        for hop in text.split(',') {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { return Some(peer) };
            hops.push(hop.to_canonical());
        }
    }
    hops.into_iter().rev().find(|hop| !proxies.contains(hop)).or(Some(peer))
}

/// An authenticated request: who, and from where. Handlers take it before path and query, so that a stranger is told nothing about
/// those either.
pub(super) struct Session {
    pub(super) caller: Caller,
    pub(super) origin: Origin,
}

impl FromRequestParts<Arc<App>> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let origin = *parts.extensions.get::<Origin>().ok_or(Refusal::Unauthenticated)?;
        let mut values = parts.headers.get_all(header::AUTHORIZATION).into_iter();
        // Two credentials are none: which one counts must not depend on who reads the headers.
        let only = values.next().filter(|_| values.next().is_none());
        let credential = only.and_then(|v| v.to_str().ok()).and_then(bearer).and_then(|t| t.parse::<Credential>().ok());
        let caller = app.engine.sign_in(credential.as_ref(), &origin)?;
        Ok(Self { caller, origin })
    }
}

/// The query of a request. What does not fit is told by the names that the route takes, never by what was sent.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        // the library would read other bytes as U+FFFD
        if !decodes(parts.uri.query().unwrap_or_default()) {
            return Err(Problem::invalid("query", "the query is not UTF-8"));
        }
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(Problem::invalid("query", body::told_of_query(&rejection.body_text()))),
        }
    }
}

/// Whether the bytes that `%XX` stands for are UTF-8 together with those around them.
fn decodes(query: &str) -> bool {
    let (mut bytes, mut rest) = (Vec::with_capacity(query.len()), query.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| byte == b'%').and_then(|hex| hex::decode(hex).ok());
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        bytes.extend(escaped.unwrap_or_else(|| vec![byte]));
    }
    std::str::from_utf8(&bytes).is_ok()
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Runs a use case on a thread that may block: the engine is plain functions.
pub(super) async fn run<T, F>(app: &Arc<App>, work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce(&Wardkeep) -> Result<T, Refusal> + Send + 'static,
{
    let engine = Arc::clone(&app.engine);
    match tokio::task::spawn_blocking(move || work(&engine)).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_) => Err(Refusal::Damaged.into()),
    }
}

/// A JSON answer.
pub(super) fn answer(body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response(),
        Err(_) => Problem::from(Refusal::Damaged).into_response(),
    }
}
