//! What policies do, asked beforehand: why somebody may or may not see a record, and what another bundle would change.

use std::{net::IpAddr, sync::Arc};

use axum::{extract::State, response::Response};
use serde::Deserialize;

use super::{
    App,
    body::{self, Named},
    forms::{BundleForm, bounded, label},
    intake::Intake,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    clock::Instant,
    engine::{
        Asked, Chosen, Circumstances, Comparison, Explain, Grant, ManagePolicies, ReadAudit, Refusal, Right, Tried,
        Wardkeep, Why,
    },
    model::{Action, EntityUid, limits},
};

/// Bytes of a body that may hold this many bundles.
pub(super) const fn body_bytes(bundles: usize) -> usize {
    2 * bundles * limits::BUNDLE_BYTES + limits::BODY_BYTES
}

fn may<A: Asked>(engine: &Wardkeep, session: &Session) -> Result<Grant<A>, Refusal> {
    engine.authorise(&session.caller, &session.origin, Circumstances::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainForm {
    caller: Named<EntityUid>,
    collection: String,
    record: String,
    action: String,
    purpose: Option<String>,
    patient: Option<String>,
    now: Option<String>,
    source_ip: Option<IpAddr>,
    bundle: Option<Named<BundleForm>>,
}

impl ExplainForm {
    fn why(self) -> Result<(Why, Option<BundleForm>), Problem> {
        let action = Action::ON_RECORD.into_iter().find(|action| action.name() == self.action);
        let no_time = || Problem::invalid("now", "`now` must be a time such as 2026-01-31T00:00:00Z");
        let why = Why {
            caller: checked(self.caller.0)?,
            action: action
                .ok_or_else(|| Problem::invalid("action", "`action` must be `Retrieve`, `Read` or `ReadVector`"))?,
            collection: self.collection.parse().map_err(|_| Problem::absent())?,
            record: self.record.parse().map_err(|_| Problem::absent())?,
            purpose: self.purpose.map(|p| label("purpose", p)).transpose()?,
            patient: self.patient.map(|p| label("patient", p)).transpose()?,
            now: self.now.map(|text| Instant::parse(&text).ok_or_else(no_time)).transpose()?,
            source_ip: self.source_ip,
        };
        Ok((why, self.bundle.map(|bundle| bundle.0)))
    }
}

fn checked(uid: EntityUid) -> Result<EntityUid, Problem> {
    match uid.check() {
        Ok(()) => Ok(uid),
        Err(error) => Err(Problem::invalid("caller", format!("the id of a caller {error}"))),
    }
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    session: Session,
    intake: Intake,
) -> Result<Response, Problem> {
    let (session, grant) = run(&app, move |engine| {
        let grant = may::<Explain>(engine, &session)?;
        Ok((session, grant))
    })
    .await?;
    let form: ExplainForm = body::json(&intake, body_bytes(1)).await?;
    let (why, bundle) = form.why()?;
    let tried = match bundle {
        None => None,
        Some(bundle) => {
            // asked before the bundle is looked at: it can put any question about a record
            let grant = run(&app, move |engine| may::<ManagePolicies>(engine, &session)).await?;
            Some(Tried { grant, source: bundle.source()? })
        }
    };
    let explained = run(&app, move |engine| engine.explain(&grant, &why, tried)).await?;
    Ok(answer(&explained))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffForm {
    #[serde(default)]
    old: Option<Named<WhichForm>>,
    new: Named<WhichForm>,
    collections: Option<Vec<String>>,
    callers: Option<Vec<Named<EntityUid>>>,
    #[serde(default)]
    purposes: Vec<String>,
    days: Option<u32>,
    samples: Option<usize>,
}

/// One of the bundles to compare.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichForm {
    version: Option<u64>,
    bundle: Option<Named<BundleForm>>,
}

impl WhichForm {
    fn which(self) -> Result<Chosen, Problem> {
        match (self.version, self.bundle) {
            (Some(version), None) => Ok(Chosen::Version(version)),
            (None, Some(Named(bundle))) => Ok(Chosen::Sent(Box::new(bundle.source()?))),
            _ => Err(Problem::invalid("bundle", "name each side by either `version` or `bundle`")),
        }
    }
}

/// Ids that a sample holds where the request does not say how many.
pub(super) const SAMPLES: usize = 5;

impl DiffForm {
    fn comparison(self) -> Result<Comparison, Problem> {
        let collections = self.collections.map(|names| {
            bounded("collections", names.len(), limits::COLLECTIONS)?;
            names.iter().map(|name| name.parse().map_err(|_| Problem::absent())).collect::<Result<_, Problem>>()
        });
        let callers = self.callers.map(|callers| {
            bounded("callers", callers.len(), limits::IDS_PER_REQUEST)?;
            callers.into_iter().map(|caller| checked(caller.0)).collect::<Result<_, Problem>>()
        });
        if self.purposes.len() > limits::DIFF_PURPOSES {
            return Err(Problem::invalid("purposes", format!("at most {} purposes", limits::DIFF_PURPOSES)));
        }
        let days = self.days.map(|days| bounded("days", days as usize, limits::DIFF_DAYS)).transpose()?;
        let samples = self.samples.unwrap_or(SAMPLES);
        if samples > limits::DIFF_SAMPLES {
            return Err(Problem::invalid("samples", format!("`samples` must be 0 to {}", limits::DIFF_SAMPLES)));
        }
        Ok(Comparison {
            old: self.old.map_or(Ok(Chosen::InForce), |old| old.0.which())?,
            new: self.new.0.which()?,
            collections: collections.transpose()?,
            callers: callers.transpose()?,
            purposes: self.purposes.into_iter().map(|p| label("purpose", p)).collect::<Result<_, _>>()?,
            days: days.map(|days| days as u32),
            samples,
        })
    }
}

pub(super) async fn diff(State(app): State<Arc<App>>, session: Session, intake: Intake) -> Result<Response, Problem> {
    let (session, policies, explain) = run(&app, move |engine| {
        let policies = may::<ManagePolicies>(engine, &session)?;
        let explain = may::<Explain>(engine, &session)?;
        Ok((session, policies, explain))
    })
    .await?;
    let form: DiffForm = body::json(&intake, body_bytes(2)).await?;
    let comparison = form.comparison()?;
    let difference = run(&app, move |engine| {
        let audit = comparison.days.map(|_| may::<ReadAudit>(engine, &session)).transpose()?;
        engine.diff(&Right { policies, explain, audit }, &comparison, &|_, _| {})
    })
    .await?;
    Ok(answer(&difference))
}
