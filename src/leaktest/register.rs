//! What of a world's records can be recognised in an answer, and which records each is of. Knows nothing of who may see what.

mod facts;
mod names;
mod reading;
mod texts;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

use serde_json::Value as Json;

use super::{
    target::{Answer, Request},
    world::World,
};
use facts::Facts;
use names::{Kind, Names};
use reading::Reading;
use texts::Texts;

/// A world's records by what names them: places in its list.
#[derive(Debug, Default)]
pub struct Register {
    ids: HashMap<String, usize>,
    patients: HashMap<String, Vec<usize>>,
    names: Names,
    texts: Texts,
    facts: Facts,
    /// Records whose text is too short to be recognised.
    terse: usize,
}

/// What an answer tells of hidden records.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Told {
    /// Kinds of what it tells for certain.
    pub kinds: BTreeSet<&'static str>,
    /// Ordinary words that name something hidden, and its kind: whether they are told shows by asking about something else.
    pub words: BTreeSet<(&'static str, String)>,
    /// Bits of surprise at numbers that are scores of hidden records: enough of them, over several answers, are no accident.
    pub scores: f64,
    /// Fields that the kit does not know.
    pub unread: BTreeSet<String>,
}

/// Bits of surprise above which numbers are scores and no accident.
pub(super) const SURE_SCORES: f64 = 30.0;

impl Register {
    /// Of a world.
    pub fn of(world: &World) -> Self {
        let mut register = Self::default();
        for (at, record) in world.records.iter().enumerate() {
            register.ids.insert(record.id.clone(), at);
            register.names.add(&record.id, Kind::Id, at);
            register.names.add(&record.document, Kind::Document, at);
            if let Some(patient) = &record.patient {
                register.patients.entry(patient.clone()).or_default().push(at);
                register.names.add(patient, Kind::Patient, at);
            }
            register.terse += usize::from(!register.texts.add(&record.text, at));
            register.facts.add(&record.attributes, at);
            register.spoken(&record.attributes, at);
        }
        register
    }

    /// Values of attributes that are text; references name people and things, not the record.
    fn spoken(&mut self, attributes: &Json, at: usize) {
        for value in attributes.as_object().into_iter().flat_map(|fields| fields.values()) {
            let moment = || value.pointer("/__extn/arg").and_then(Json::as_str);
            if let Some(text) = value.as_str().or_else(moment)
                && !self.texts.add(text, at)
            {
                self.names.add(text, Kind::Attribute, at);
            }
        }
    }

    /// The place of a record.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.ids.get(id).copied()
    }

    /// Places of a patient's records; none where there is no such patient.
    pub fn of_patient(&self, id: &str) -> &[usize] {
        self.patients.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether some record or patient is called this.
    pub fn knows(&self, id: &str) -> bool {
        self.ids.contains_key(id) || self.patients.contains_key(id)
    }

    /// What an answer tells of records for which `hidden` holds, but for what the request itself said. A word, a fragment or a set of attributes
    /// counts where all records that have it are hidden. `world` is the one that is registered.
    pub fn told(&self, world: &World, answer: &Answer, request: &Request, hidden: &dyn Fn(usize) -> bool) -> Told {
        Reading::of(self, world, answer, request, hidden).told()
    }

    /// What of this world cannot be told from other words, in a sentence each.
    pub fn indistinct(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (kind, what) in [(Kind::Id, "ids of records"), (Kind::Patient, "ids of patients")] {
            let (count, doubtful) = self.names.doubtful(kind);
            if doubtful > 0 {
                let mut line = format!("{doubtful} of {count} {what} are short, plain numbers or ordinary words:");
                let _ = write!(
                    line,
                    " they are recognised where an answer names a record or its patient, and in a message only if it says them of nobody else"
                );
                all.push(line);
            }
        }
        if self.terse > 0 {
            let recognised = texts::RECOGNISED;
            all.push(format!(
                "{} texts are too short to be recognised (a run of {recognised} letters and digits always is)",
                self.terse
            ));
        }
        all
    }
}
