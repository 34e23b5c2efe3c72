//! An audit entry while it is being written: every use case starts one and says on it what it did.

use std::{collections::BTreeSet, sync::Arc};

use super::{Wardkeep, cap::Cut, context::Circumstances, gate::Release};
use crate::{
    audit::{Authentication, BundleRef, Entry, Outcome, What, Withheld},
    authn::{Caller, Origin, Proof},
    model::{Action, CollectionName, Embedding, EntityUid, Phi, RecordId, RetrievalId},
    policy::PolicyName,
};

/// Ids that one entry names at most; more are counted. A commit of an ingest has at most 1,000.
const IDS_NAMED: usize = 10_000;

/// An entry in the making.
#[derive(Clone)]
pub(super) struct Trail {
    entry: Entry,
    pseudonyms: Arc<dyn crate::model::Pseudonyms>,
}

impl Trail {
    pub(super) fn new(engine: &Wardkeep, what: What, caller: Option<&Caller>, origin: &Origin) -> Self {
        let authentication = match caller.map(Caller::proof) {
            None => Authentication::None,
            Some(Proof::ApiKey(id)) => Authentication::ApiKey(id),
            Some(Proof::Passphrase) => Authentication::Offline,
        };
        let entry = Entry {
            caller: caller.map(|c| c.uid().clone()),
            authentication,
            source: origin.address,
            // Zeros: no request, but the store's own doing.
            trace: (origin.request != [0; 16]).then(|| hex::encode(origin.request)),
            bundle: Some(engine.bundle_in_force()),
            ..Entry::new(engine.clock.now(), what)
        };
        Self { entry, pseudonyms: engine.store.ring().pseudonyms() }
    }

    pub(super) fn entry(self) -> Entry {
        self.entry
    }

    /// The same of something else that is done on the way.
    pub(super) fn what(mut self, what: What) -> Self {
        self.entry.what = what;
        self
    }

    /// The same at another time.
    pub(super) fn at(mut self, now: crate::clock::Instant) -> Self {
        self.entry.at = now;
        self
    }

    pub(super) fn action(mut self, action: Action) -> Self {
        self.entry.action = Some(action);
        self
    }

    pub(super) fn circumstances(mut self, circumstances: &Circumstances) -> Self {
        self.entry.purpose = circumstances.purpose.clone();
        self.entry.collection = circumstances.collection.clone();
        self
    }

    /// The patient that the request was narrowed to.
    pub(super) fn patient(mut self, patient: Option<&EntityUid>) -> Self {
        self.entry.patient = patient.cloned();
        self
    }

    pub(super) fn deciding(mut self, policies: &[PolicyName]) -> Self {
        self.entry.policies = policies.to_vec();
        self
    }

    pub(super) fn denied(mut self, reason: &'static str) -> Self {
        self.entry.outcome = Outcome::Denied;
        self.entry.detail = Some(reason.to_owned());
        self
    }

    pub(super) fn outcome(mut self, outcome: Outcome) -> Self {
        self.entry.outcome = outcome;
        self
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.entry.detail = Some(detail.into());
        self
    }

    pub(super) fn target(mut self, target: &EntityUid) -> Self {
        self.entry.target = Some(target.clone());
        self
    }

    pub(super) fn collection(mut self, name: &CollectionName) -> Self {
        self.entry.collection = Some(name.clone());
        self
    }

    pub(super) fn bundle(mut self, version: u64, digest: [u8; 32]) -> Self {
        self.entry.bundle = Some(BundleRef { version, digest });
        self
    }

    pub(super) fn asked(mut self, count: usize) -> Self {
        self.entry.counts.asked = Some(count as u64);
        self
    }

    pub(super) fn done(mut self, count: usize) -> Self {
        self.entry.counts.returned = Some(count as u64);
        self
    }

    pub(super) fn records<'a>(mut self, ids: impl Iterator<Item = &'a RecordId>) -> Self {
        self.entry.records = ids.take(IDS_NAMED).cloned().collect();
        self
    }

    pub(super) fn patients<'a>(mut self, patients: impl Iterator<Item = &'a EntityUid>) -> Self {
        let distinct: BTreeSet<_> = patients.collect();
        self.entry.patients = distinct.into_iter().take(IDS_NAMED).cloned().collect();
        self
    }

    /// The keyed hash of a question: equal questions can be seen to be equal, and nothing else.
    pub(super) fn question(mut self, query: &Embedding) -> Self {
        let bytes: Vec<u8> = query.components().iter().flat_map(|x| x.to_le_bytes()).collect();
        self.entry.question = Some(self.pseudonyms.pseudonym("question", &bytes));
        self
    }

    /// The same of a filter, which may hold names.
    pub(super) fn filter(mut self, filter: Option<&Phi<String>>) -> Self {
        self.entry.filter = filter.map(|text| self.pseudonyms.pseudonym("filter", text.reveal().as_bytes()));
        self
    }

    pub(super) fn model(mut self, model: Option<&str>) -> Self {
        self.entry.model = model.map(str::to_owned);
        self
    }

    /// What is about to leave.
    pub(super) fn released(mut self, retrieval: RetrievalId, release: &Release, count: Option<u64>) -> Self {
        self.entry.retrieval = Some(retrieval);
        self.entry.counts.permitted = Some(count.unwrap_or(release.permitted));
        self.entry.counts.asked = Some(release.bound.requested as u64);
        self.entry.cap = Some(release.bound.applied as u64);
        self.entry.bound_by = release.bound.bound_by.iter().map(|name| Arc::from(name.as_str())).collect();
        self.entry.withheld = withheld(&release.cut);
        let granting: BTreeSet<_> = release.records.iter().flat_map(|r| r.permits.iter().cloned()).collect();
        self.entry.policies.extend(granting);
        if release.disagreements > 0 {
            self.entry.detail = Some("gate_disagreement".to_owned());
        } else if release.cut.records > 0 {
            self.entry.detail = Some("cut_by_cap".to_owned());
        }
        let returned = release.records.len();
        let patients: Vec<_> = release.records.iter().filter_map(|r| r.patient.clone()).collect();
        let ids = release.ids();
        self.done(returned).records(ids.iter()).patients(patients.iter())
    }
}

fn withheld(cut: &Cut) -> Option<Withheld> {
    let Cut { records, undecided, by } = cut;
    (*records > 0).then(|| Withheld { records: *records, undecided: *undecided, by: by.iter().cloned().collect() })
}
