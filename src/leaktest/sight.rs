//! What a caller must not be told, ready to be looked for in the bytes of an answer.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{
    oracle::View,
    target::{Answer, Request},
    world::World,
};

/// One caller's view of a world, and what of the rest can be recognised.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Places of records.
    pub view: View,
    ids: HashSet<String>,
    texts: HashSet<String>,
    patients: HashSet<String>,
}

/// A text shorter than this tells nothing by being the same.
const TEXT_BYTES: usize = 24;

impl Sight {
    /// From a view.
    pub fn of(world: &World, view: View) -> Self {
        let records = |places: &[usize]| places.iter().filter_map(|at| world.records.get(*at)).collect::<Vec<_>>();
        let (hidden, mut shown) = (records(&view.forbidden), records(&view.permitted));
        shown.extend(records(&view.unsettled));
        let shown_texts: HashSet<&str> = shown.iter().map(|r| r.text.as_str()).collect();
        let shown_patients: HashSet<&str> = shown.iter().filter_map(|r| r.patient.as_deref()).collect();
        let texts =
            hidden.iter().map(|r| &r.text).filter(|t| t.len() >= TEXT_BYTES && !shown_texts.contains(t.as_str()));
        let patients =
            hidden.iter().filter_map(|r| r.patient.as_ref()).filter(|p| !shown_patients.contains(p.as_str()));
        Self {
            ids: hidden.iter().map(|r| r.id.clone()).collect(),
            texts: texts.cloned().collect(),
            patients: patients.cloned().collect(),
            view,
        }
    }

    /// Whether this id is a hidden record's.
    pub fn hides(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Whether no record of this patient may be seen.
    pub fn hides_patient(&self, id: &str) -> bool {
        self.patients.contains(id)
    }

    /// Kinds of what an answer tells of hidden records, but for what the request itself said.
    pub fn told(&self, answer: &Answer, request: &Request) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut words = Vec::new();
        strings(&answer.json(), &mut words);
        for word in &words {
            found.extend(self.kind(word));
        }
        let mut loose = answer.headers.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        if answer.status != 200 {
            loose.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
        let parts = loose.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c)));
        found.extend(parts.filter_map(|part| self.kind(part)));
        if found.is_empty() {
            return found.into_iter().map(|(kind, _)| kind).collect();
        }
        let said = format!("{} {:?}", request.body(), request.headers);
        let mut kinds: Vec<_> = found
            .into_iter()
            .filter(|(kind, what)| *kind == RECORD && answer.status == 200 || !said.contains(what))
            .map(|(kind, _)| kind)
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn kind<'a>(&self, word: &'a str) -> Option<(&'static str, &'a str)> {
        let kinds = [(RECORD, &self.ids), ("text", &self.texts), ("patient", &self.patients)];
        kinds.into_iter().find(|(_, set)| set.contains(word)).map(|(kind, _)| (kind, word))
    }
}

const RECORD: &str = "id";

fn strings(json: &Json, found: &mut Vec<String>) {
    match json {
        Json::String(text) => found.push(text.clone()),
        Json::Array(list) => list.iter().for_each(|item| strings(item, found)),
        Json::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.push(name.clone());
            strings(value, found);
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}
