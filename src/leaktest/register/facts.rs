//! Attributes of records, so that an object which shows some of them together says whose they are. Knows nothing of who may see what.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use crate::leaktest::world::reference;

/// Records by what their attributes say: places in order.
#[derive(Debug, Default)]
pub(super) struct Facts {
    of: HashMap<String, HashMap<String, Vec<usize>>>,
}

impl Facts {
    pub(super) fn add(&mut self, attributes: &Json, at: usize) {
        for (name, value) in attributes.as_object().into_iter().flatten() {
            let Some(said) = said(value) else { continue };
            self.of.entry(name.clone()).or_default().entry(said).or_default().push(at);
        }
    }

    /// How many attributes of records an object shows, and which records have them all.
    pub(super) fn shown(&self, object: &Map<String, Json>) -> (usize, Vec<usize>) {
        let one = |(name, value): (&String, &Json)| self.of.get(name)?.get(&said(value)?);
        let mut all: Vec<&Vec<usize>> = object.iter().filter_map(one).collect();
        all.sort_by_key(|places| places.len());
        let Some((first, rest)) = all.split_first() else { return (0, Vec::new()) };
        let rest: Vec<HashSet<usize>> = rest.iter().map(|places| places.iter().copied().collect()).collect();
        let places = first.iter().filter(|at| rest.iter().all(|places| places.contains(at))).copied().collect();
        (all.len(), places)
    }
}

/// A value in one form, whichever of Cedar's JSON forms it has.
pub(super) fn said(value: &Json) -> Option<String> {
    if let Some((_, id)) = reference(value) {
        return Some(id.to_owned());
    }
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
        Json::Array(list) => {
            let mut all: Vec<String> = list.iter().filter_map(said).collect();
            all.sort_unstable();
            Some(all.join("\u{1}"))
        }
        Json::Object(fields) => {
            let arg = fields.get("__extn").and_then(|call| call.get("arg")?.as_str());
            Some(arg.map_or_else(|| value.to_string(), str::to_owned))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_of_those_records_that_have_all_it_shows() {
        let mut facts = Facts::default();
        facts.add(&json!({"kind": "note", "ward": {"type": "Ward", "id": "w1"}, "level": 2}), 0);
        facts.add(&json!({"kind": "note", "ward": {"__entity": {"type": "Ward", "id": "w2"}}, "level": 2}), 1);
        let shown = |object: Json| facts.shown(object.as_object().unwrap());
        assert_eq!(shown(json!({"kind": "note", "level": 2, "score": 0.5})), (2, vec![0, 1]));
        assert_eq!(shown(json!({"kind": "note", "ward": "w2"})), (2, vec![1]));
        assert_eq!(shown(json!({"kind": "letter", "took": 3})), (0, vec![]));
    }
}
