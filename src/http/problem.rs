//! The one place that maps a refusal to a status: `application/problem+json` (RFC 9457) with a stable code.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value as Json, json};

use crate::engine::{Fault, Refusal};

/// An error on its way out; `session::enter` writes its body, because only it knows the request's id.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    faults: Vec<Fault>,
    more: Json,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { status, code, detail: detail.into(), faults: Vec::new(), more: Json::Null }))
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Refusal::invalid(code, detail).into()
    }

    pub(super) fn absent() -> Self {
        Refusal::Absent.into()
    }

    pub(super) fn with(mut self, more: Json) -> Self {
        self.0.more = more;
        self
    }

    /// What answers for a status that a library set without a problem of ours.
    pub(super) fn for_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::absent(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(status, "method_not_allowed", "this route does not take this method")
            }
            _ => Self::new(status, "malformed_request", "the request line, path, query or headers are malformed"),
        }
    }

    /// The answer, with the request's id in it.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.0.status.canonical_reason().unwrap_or("Error"),
            "status": self.0.status.as_u16(),
            "code": self.0.code,
            "detail": self.0.detail,
            "request_id": request_id,
        });
        if let Some(fields) = body.as_object_mut() {
            if !self.0.faults.is_empty() {
                fields.insert("errors".into(), self.0.faults.iter().map(fault_json).collect());
            }
            if let Json::Object(more) = &self.0.more {
                fields.extend(more.clone());
            }
        }
        let mut response = (self.0.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"wardkeep\""));
        }
        response
    }
}

/// A fault as it stands in `errors` and in `rejected`.
pub(super) fn fault_json(fault: &Fault) -> Json {
    let mut json = json!({"line": fault.line, "id": fault.id, "code": fault.code, "detail": fault.detail});
    if let Some(fields) = json.as_object_mut() {
        if let Some(part) = fault.part {
            fields.insert("part".into(), part.name().into());
        }
        if fault.part.is_some() || fault.column.is_some() {
            fields.insert("column".into(), fault.column.into());
        }
    }
    json
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated => Self::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "send a valid API key as `Authorization: Bearer wk_…`",
            ),
            Refusal::Forbidden => Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the policies in force do not permit this action to this caller for this purpose",
            ),
            Refusal::Absent => {
                Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing, or it is not yours")
            }
            Refusal::Invalid(faults) => invalid(faults),
            Refusal::Conflict { code, detail, more } => Self::new(StatusCode::CONFLICT, code, detail).with(more),
            Refusal::Outdated { current } => {
                let detail = format!(
                    "`If-Match` names another version than the one in force, {current}; read it and decide again"
                );
                Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
            }
            Refusal::Unavailable(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why),
            Refusal::Damaged => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "damaged",
                "stored data does not open; the operator's log and `wardkeep store verify` say where",
            ),
        }
    }
}

/// One code where all faults share it, and the first fault's words.
fn invalid(faults: Vec<Fault>) -> Problem {
    let code = match faults.split_first() {
        Some((first, rest)) if rest.iter().all(|f| f.code == first.code) => first.code,
        Some(_) | None => "invalid",
    };
    let detail = match faults.as_slice() {
        [one] => one.detail.clone(),
        many => format!("{} things to mend; nothing was changed; see `errors`", many.len()),
    };
    Problem(Box::new(Parts { status: StatusCode::UNPROCESSABLE_ENTITY, code, detail, faults, more: Json::Null }))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
