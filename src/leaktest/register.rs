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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::leaktest::{
        target::{Ask, List, Search},
        world::hospital,
    };

    fn answer(status: u16, body: &Json, header: &str) -> Answer {
        let headers = vec![("date".into(), "Wed, 25 Nov 2026 20:04:05 GMT".into()), ("x-told".into(), header.into())];
        Answer { status, headers, body: body.to_string().into_bytes(), ..Answer::default() }
    }

    fn heard(world: &World, hidden: usize, status: u16, body: &Json, header: &str) -> Told {
        let request = Request::new(Ask::List(List::default()), "treatment");
        Register::of(world).told(world, &answer(status, body, header), &request, &|at| at == hidden)
    }

    fn kinds(told: &Told) -> Vec<&'static str> {
        told.kinds.iter().copied().collect()
    }

    #[test]
    fn an_id_a_snippet_a_document_and_attributes_are_seen_wherever_an_answer_holds_them() {
        let mut world = hospital(50, 8, 1);
        let record = &mut world.records[7];
        record.text = "the patient was seen on Monday and asked for water twice".into();
        record.document = "pat-99999-letter".into();
        record.attributes["ward_round"] = json!("the late one");
        let (id, text, vector) = (record.id.clone(), record.text.clone(), record.vector.clone());
        let seen = |body: Json| kinds(&heard(&world, 7, 200, &body, ""));
        assert_eq!(seen(json!({"results": [{"id": id}]})), ["id"]);
        assert_eq!(seen(json!({"explain": {"near": [format!("looked at {id}, then stopped")]}})), ["id"]);
        assert_eq!(seen(json!({ id.clone(): 0.25 })), ["id"]);
        assert_eq!(seen(json!({"facets": {"ward_round": "the late one"}})), ["attribute"]);
        assert_eq!(seen(json!({"snippet": "…patient was seen on <em>Monday</em> and asked for w…"})), ["text"]);
        assert_eq!(seen(json!({"of": "pat-99999-letter"})), ["document"]);
        assert_eq!(seen(json!({"retrieval_id": hex::encode(format!("{id}."))})), ["id"]);
        assert_eq!(
            seen(json!({"retrieval_id": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)})),
            ["text"]
        );
        assert_eq!(seen(json!({"near": {"embedding": vector}})), ["vector"]);
        assert_eq!(kinds(&heard(&world, 7, 422, &json!({"detail": format!("not {id}")}), "")), ["id"]);
        assert_eq!(kinds(&heard(&world, 7, 200, &json!({}), &id)), ["id"]);
        assert_eq!(seen(json!({"results": [world.records[8].line()], "took_ms": 12, "count": 1})), Vec::<&str>::new());
    }

    #[test]
    fn what_a_permitted_record_says_itself_is_no_leak() {
        let mut world = hospital(50, 8, 1);
        let hidden = world.records[7].clone();
        world.records[8].text = format!("see {} and {}", hidden.id, hidden.text);
        let shown = world.records[8].line();
        assert!(heard(&world, 7, 200, &json!({"results": [shown]}), "").kinds.is_empty());
        let mut more = world.records[8].line();
        more["neighbour"] = json!(hidden.document);
        let told = heard(&world, 7, 200, &json!({"results": [more]}), "");
        assert_eq!(
            (kinds(&told), told.unread.into_iter().collect::<Vec<_>>()),
            (vec!["document"], vec!["results[].neighbour".to_owned()])
        );
    }

    #[test]
    fn numbers_and_words_are_ids_only_where_a_record_is_named() {
        let mut world = hospital(50, 8, 1);
        for (at, id) in [(3, "25"), (4, "unknown")] {
            world.records[at].id = id.into();
        }
        for at in [3, 4] {
            let refusal = json!({"status": 422, "detail": "unknown field `caller`, 25 are allowed"});
            let told = heard(&world, at, 422, &refusal, "25 unknown");
            assert!(told.kinds.is_empty());
            // the word is a doubt, to be settled by asking about something else
            assert_eq!(told.words.len(), usize::from(at == 4));
            assert!(heard(&world, at, 200, &json!({"count": 25, "note": "kind: unknown"}), "25").kinds.is_empty());
        }
        assert_eq!(kinds(&heard(&world, 3, 200, &json!({"records": [{"id": "25"}]}), "")), ["id"]);
        assert_eq!(kinds(&heard(&world, 3, 200, &json!({"left_out": [{"id": 25}]}), "")), ["id"]);
        assert_eq!(kinds(&heard(&world, 4, 200, &json!({"left_out": {"ids": ["unknown"]}}), "")), ["id"]);
        assert!(Register::of(&world).indistinct().iter().any(|line| line.starts_with("2 of 50 ids of records")));
    }

    #[test]
    fn scores_of_hidden_records_add_up_to_certainty_and_other_numbers_do_not() {
        let world = hospital(200, 16, 1);
        let register = Register::of(&world);
        let question = world.records[3].vector.clone();
        let request =
            Request::new(Ask::Search(Search { vector: question.clone(), limit: 10, ..Search::default() }), "treatment");
        let score = |at: usize| -> f32 { world.records[at].vector.iter().zip(&question).map(|(a, b)| a * b).sum() };
        let heard = |body: &Json| register.told(&world, &answer(200, body, ""), &request, &|at| at % 2 == 0);
        let bits = |body: Json| heard(&body).scores;
        assert!(
            bits(
                json!({"facets": [{"score": score(4)}, {"score": score(8)}, {"score": score(16)}, {"score": score(32)}]})
            ) >= SURE_SCORES
        );
        let one = bits(json!({"nearest": score(4)}));
        assert!(one > 0.0 && one * 5.0 > SURE_SCORES, "{one}");
        assert_eq!(bits(json!({"best": score(5), "took": 0.125, "load": 0.731})), 0.0);
        assert_eq!(heard(&json!({"total_before_policy": 200})).kinds.len(), 1);
        assert_eq!(heard(&json!({"total": 99, "of": 16})).kinds.len(), 0);
    }
}
