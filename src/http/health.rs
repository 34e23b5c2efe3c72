//! Is it alive, is it ready, how busy is it. Counts of requests only: nothing of what was asked or found.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::json;

use super::{
    App,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, Expiry, ReadAudit, Refusal},
    store::{LedgerCopy, LedgerState},
};

/// Requests by method and status.
#[derive(Default)]
pub(super) struct Metrics(Mutex<BTreeMap<(String, u16), u64>>);

impl Metrics {
    pub(super) fn count(&self, method: &Method, status: StatusCode) {
        // Methods are the client's words: those that are not known are counted as one.
        let known = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD, Method::OPTIONS];
        let name = if known.contains(method) { method.as_str() } else { "other" };
        *self.0.lock().entry((name.to_owned(), status.as_u16())).or_default() += 1;
    }

    fn text(&self, graph_walks: u64, ledger: LedgerState, expiry: Expiry) -> String {
        let mut text = String::from(
            "# HELP wardkeep_http_requests_total Requests answered, by method and status.\n# TYPE wardkeep_http_requests_total counter\n",
        );
        for ((method, status), count) in self.0.lock().iter() {
            let _ = writeln!(text, "wardkeep_http_requests_total{{method=\"{method}\",status=\"{status}\"}} {count}");
        }
        let _ = writeln!(
            text,
            "# HELP wardkeep_graph_walks_total Times a graph was walked for a search (isolation: fast).\n# TYPE wardkeep_graph_walks_total counter\nwardkeep_graph_walks_total {graph_walks}"
        );
        let LedgerState { entries, copy, last_escrow } = ledger;
        let behind = u8::from(copy == LedgerCopy::Behind);
        let _ = writeln!(
            text,
            "# HELP wardkeep_ledger_entries Entries of the ledger of erasures and revocations.\n# TYPE wardkeep_ledger_entries counter\nwardkeep_ledger_entries {entries}\n# HELP wardkeep_ledger_copy_behind Whether its copy beside the backup could not be written.\n# TYPE wardkeep_ledger_copy_behind gauge\nwardkeep_ledger_copy_behind {behind}"
        );
        if let Some(at) = last_escrow {
            let _ = writeln!(
                text,
                "# HELP wardkeep_last_escrow_seconds When the last escrow was taken, in seconds since 1970.\n# TYPE wardkeep_last_escrow_seconds gauge\nwardkeep_last_escrow_seconds {}",
                at.millis() / 1_000
            );
        }
        let Expiry { expired, failed, unfit, unreadable, last_whole } = expiry;
        for (name, kind, help, value) in [
            ("expired_records_total", "counter", "Records erased because they had outlived their time.", expired),
            ("expiry_failures_total", "counter", "Times a rule of retention could not be carried out whole.", failed),
            ("expiry_unfit_rules", "gauge", "Rules of retention that fit no collection or no attribute.", unfit),
            (
                "expiry_unreadable_records",
                "gauge",
                "Records that are due and stay, because they or others under the same key cannot be read.",
                unreadable,
            ),
            (
                "expiry_last_success_seconds",
                "gauge",
                "When all rules were last carried out.",
                last_whole.unsigned_abs(),
            ),
        ] {
            let _ =
                writeln!(text, "# HELP wardkeep_{name} {help}\n# TYPE wardkeep_{name} {kind}\nwardkeep_{name} {value}");
        }
        text
    }
}

pub(super) async fn alive() -> Response {
    answer(&json!({ "status": "ok" }))
}

/// The server listens only once the store is loaded, so that answering is being ready, until a failed write halts the store.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    if app.engine.is_halted() {
        return Err(
            Refusal::Unavailable("an earlier write failed; free the disk or mend it, then restart the server").into()
        );
    }
    Ok(answer(&json!({ "status": "ready" })))
}

pub(super) async fn metrics(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    run(&app, move |engine| {
        let grant = engine.authorise::<ReadAudit>(&session.caller, &session.origin, Circumstances::default())?;
        engine.note_metrics(&grant)
    })
    .await?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let text = app.metrics.text(app.engine.graph_walks(), app.engine.ledger(), app.engine.expiry());
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
