//! What of a world's records can be recognised in an answer: ids, texts and patients, and which records each is of. Knows nothing of who may see what.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{
    target::{Answer, Request},
    world::World,
};

/// A world's records by what names them: places in its list.
#[derive(Debug, Default)]
pub struct Register {
    ids: HashMap<String, usize>,
    texts: HashMap<String, Vec<usize>>,
    patients: HashMap<String, Vec<usize>>,
}

/// A text shorter than this tells nothing by being the same.
const TEXT_BYTES: usize = 24;
const RECORD: &str = "id";

impl Register {
    /// Of a world.
    pub fn of(world: &World) -> Self {
        let mut register = Self::default();
        for (at, record) in world.records.iter().enumerate() {
            register.ids.insert(record.id.clone(), at);
            if record.text.len() >= TEXT_BYTES {
                register.texts.entry(record.text.clone()).or_default().push(at);
            }
            if let Some(patient) = &record.patient {
                register.patients.entry(patient.clone()).or_default().push(at);
            }
        }
        register
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

    /// Kinds of what an answer tells of records for which `hidden` holds, but for what the request itself said. A text or patient counts where all
    /// of its records are hidden.
    pub fn told(&self, answer: &Answer, request: &Request, hidden: &dyn Fn(usize) -> bool) -> Vec<&'static str> {
        let mut words = Vec::new();
        let json = answer.json();
        strings(&json, &mut words);
        let mut found: Vec<(&'static str, &str)> = words.iter().filter_map(|word| self.kind(word, hidden)).collect();
        let mut loose = answer.headers.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        if answer.status != 200 {
            loose.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
        let parts = loose.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c)));
        found.extend(parts.filter_map(|part| self.kind(part, hidden)));
        if found.is_empty() {
            return Vec::new();
        }
        let said = format!("{} {:?}", request.body(), request.headers);
        let news =
            |(kind, what): &(&'static str, &str)| *kind == RECORD && answer.status == 200 || !said.contains(what);
        let mut kinds: Vec<_> = found.into_iter().filter(news).map(|(kind, _)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn kind<'a>(&self, word: &'a str, hidden: &dyn Fn(usize) -> bool) -> Option<(&'static str, &'a str)> {
        let all = |places: Option<&Vec<usize>>| places.is_some_and(|p| p.iter().all(|at| hidden(*at)));
        if self.place(word).is_some_and(hidden) {
            return Some((RECORD, word));
        }
        if all(self.texts.get(word)) {
            return Some(("text", word));
        }
        all(self.patients.get(word)).then_some(("patient", word))
    }
}

fn strings<'a>(json: &'a Json, found: &mut Vec<&'a str>) {
    match json {
        Json::String(text) => found.push(text),
        Json::Array(list) => list.iter().for_each(|item| strings(item, found)),
        Json::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.push(name);
            strings(value, found);
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}
