//! The description of the API, OpenAPI 3.1, as `GET /openapi.json` gives it: the same bytes to everybody, always. Made of `ROUTES`,
//! `limits` and the words in this folder, so that a route, an action or a bound is never written twice. Knows no store.

mod codes;
mod operation;
mod operations;
mod schemas;
mod shape;

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value as Json, json};

use self::operation::Operation;
use super::ROUTES;
use crate::model::limits;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| description().to_string().into_bytes());

pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], BYTES.as_slice()).into_response()
}

const TAGS: &[(&str, &str)] = &[
    ("Ask", "Search, list and read: what a RAG pipeline does."),
    ("Write", "Records in, and out of being."),
    ("Collections", "What all records of one kind share."),
    ("People", "Entities that the policies speak of, legal holds, and keys of callers."),
    ("Policies", "Bundles of schema and policies: put into force, tried, explained, compared."),
    ("Keep", "Audit log, keys, backups and health."),
];

/// The whole description.
pub fn description() -> Json {
    let tags: Vec<Json> = TAGS.iter().map(|(name, told)| json!({"name": name, "description": told})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wardkeep",
            "version": env!("CARGO_PKG_VERSION"),
            "description": told(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "security": [{"key": []}],
        "paths": paths(),
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, `wk_…`, of `POST /v1/callers` or `wardkeep init`."},
            },
            "headers": {
                "RequestId": {"description": "The request's id: `trace` in the audit log.", "schema": shape::hex(16, "128 random bits.")},
            },
        },
    })
}

fn told() -> String {
    format!(
        "\
An access-controlled, encrypted vector store: Cedar policies are applied inside the nearest-neighbour search.

**Who asks** is told by the credential alone, `Authorization: Bearer wk_…`; two credentials are none. Every route but those that need no \
credential is authorised by a Cedar action, which is named with it, before its body is looked at; a search and a list say in their body what \
they are for, so that a body that names no purpose is told first.

**Bodies and answers** are JSON in UTF-8 without a byte order mark, whatever `charset` says, and answers are never compressed. A name that is not known is refused, and so is one that occurs twice in an \
object, and a list of values where an object belongs; JSON nests at most {} deep. Answers may get more names with later versions: ignore what you do not know.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`. 401: no credential, or a bad one. 403: the action is not permitted. \
404: it does not exist, or it is not yours; the two are the same bytes but for the request's id. 422: what was sent does not fit, and nothing \
was changed. A path that is not listed here is 404 `not_found`, a method that a path does not take is 405 `method_not_allowed`.

**HEAD** is answered wherever GET is, with the same authorisation and audit entry, and without a body.

**Ids in paths** are percent-encoded: `a/b` is `a%2Fb`.

**The audit log** holds an entry of every answer that tells of a record, a count or a change before that answer leaves; where none can be \
written, the answer is 503 `unavailable`. Every answer has `X-Request-Id`, which is `trace` in that entry.

Not served: proofs and exports of the audit log, emergency access, tokens (JWT), TLS.",
        limits::JSON_DEPTH
    )
}

fn paths() -> Map<String, Json> {
    let mut paths = Map::new();
    for (method, path, action) in ROUTES {
        let Some(operation) = described(method, path) else { continue };
        let methods = paths.entry(*path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(method.to_ascii_lowercase(), operation.render(path, action));
        }
    }
    paths
}

fn described(method: &str, path: &str) -> Option<Operation> {
    operations::ALL.iter().find(|(m, p, _)| (*m, *p) == (method, path)).map(|(_, _, told)| told())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_no_other_and_is_open_where_it_needs_no_action() {
        let routes: Vec<_> = ROUTES.iter().map(|(method, path, _)| (*method, *path)).collect();
        let told: Vec<_> = operations::ALL.iter().map(|(method, path, _)| (*method, *path)).collect();
        assert_eq!(told, routes, "ROUTES and the description differ, or are not in the same order");
        for (method, path, action) in ROUTES {
            let refuses = described(method, path).unwrap().codes().any(|(status, _)| status == 401);
            assert_eq!(refuses, *action != "none", "{method} {path}");
        }
    }

    #[test]
    fn every_code_that_a_route_names_has_a_meaning_and_every_meaning_a_route() {
        let known: Vec<&str> = codes::MEANINGS.iter().map(|(code, _)| *code).collect();
        assert!(known.is_sorted_by(|a, b| a < b), "out of order, or twice");
        let mut named: BTreeSet<&str> = operations::ALL
            .iter()
            .flat_map(|(_, _, told)| told().codes().map(|(_, code)| code).collect::<Vec<_>>())
            .collect();
        // of no route in particular, of every path with a parameter, and of single lines in answers that succeed
        named.extend(["method_not_allowed", "malformed_request", "line_too_long"]);
        assert_eq!(named, known.into_iter().collect());
    }
}
