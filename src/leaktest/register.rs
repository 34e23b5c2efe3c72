//! What of a world's records can be recognised in an answer: ids, texts and parts of them, patients, documents, attributes, and which records each is
//! of. Knows nothing of who may see what.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::Value as Json;

use super::{
    target::{Answer, Request},
    world::{Record, World, reference},
};

/// A world's records by what tells them: places in its list.
#[derive(Debug, Default)]
pub struct Register {
    ids: HashMap<String, usize>,
    texts: HashMap<String, Vec<u32>>,
    patients: HashMap<String, Vec<u32>>,
    documents: HashMap<String, Vec<u32>>,
    /// By name and value.
    attributes: HashMap<(String, String), Vec<u32>>,
    /// Hashes of `PHRASE` words that follow one another, and of which record; sorted.
    phrases: Vec<(u64, u32)>,
}

/// A text shorter than this tells nothing by being the same.
const TEXT_BYTES: usize = 24;
/// Words of a text that tell it by following one another.
const PHRASE: usize = 6;
/// Headers that tell of the connection and the clock, never of records.
const PLAIN_HEADERS: [&str; 7] =
    ["content-length", "content-type", "date", "connection", "keep-alive", "x-request-id", "transfer-encoding"];

const RECORD: &str = "id";
const TEXT: &str = "text";

impl Register {
    /// Of a world.
    pub fn of(world: &World) -> Self {
        let mut register = Self::default();
        for (at, record) in world.records.iter().enumerate() {
            register.enter(at, record);
        }
        register.phrases.sort_unstable();
        register.phrases.dedup();
        register
    }

    fn enter(&mut self, at: usize, record: &Record) {
        self.ids.insert(record.id.clone(), at);
        let Ok(at) = u32::try_from(at) else { return };
        if record.text.len() >= TEXT_BYTES {
            self.texts.entry(record.text.clone()).or_default().push(at);
        }
        self.phrases.extend(phrases(&record.text).map(|phrase| (phrase, at)));
        if let Some(patient) = &record.patient {
            self.patients.entry(patient.clone()).or_default().push(at);
        }
        if !record.document.is_empty() {
            self.documents.entry(record.document.clone()).or_default().push(at);
        }
        for (name, value) in record.attributes.as_object().into_iter().flatten() {
            self.attributes.entry((name.clone(), plain(value))).or_default().push(at);
        }
    }

    /// The place of a record.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.ids.get(id).copied()
    }

    /// Places of a patient's records; none where there is no such patient.
    pub fn of_patient(&self, id: &str) -> impl ExactSizeIterator<Item = usize> {
        places(self.patients.get(id).map_or(&[], Vec::as_slice))
    }

    /// Whether some record or patient is called this.
    pub fn knows(&self, id: &str) -> bool {
        self.ids.contains_key(id) || self.patients.contains_key(id)
    }

    /// Ids that a text may hold by chance, and that are therefore not looked for within texts.
    pub fn plain_ids(&self) -> usize {
        self.ids.keys().chain(self.patients.keys()).filter(|id| !is_distinctive(id)).count()
    }

    /// Kinds of what an answer tells of records for which `hidden` holds, but for what the request itself said. What several records share counts where
    /// all of them are hidden.
    pub fn told(&self, answer: &Answer, request: &Request, hidden: &dyn Fn(usize) -> bool) -> Vec<&'static str> {
        let json = answer.json();
        let mut found = Vec::new();
        self.look(None, &json, hidden, &mut found);
        let headers = answer.headers.iter().filter(|(name, _)| !PLAIN_HEADERS.contains(&name.as_str()));
        headers.for_each(|(_, value)| self.look_within(value, hidden, &mut found));
        let text = String::from_utf8_lossy(&answer.body);
        if json.is_null() {
            self.look_within(&text, hidden, &mut found);
        }
        if found.is_empty() {
            return Vec::new();
        }
        let said = format!("{} {:?}", request.body(), request.headers);
        let news = |(kind, what): &(&'static str, String)| {
            *kind == RECORD && answer.status == 200 || !said.contains(what.as_str())
        };
        let mut kinds: Vec<_> = found.into_iter().filter(news).map(|(kind, _)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn look(
        &self,
        name: Option<&str>,
        value: &Json,
        hidden: &dyn Fn(usize) -> bool,
        found: &mut Vec<(&'static str, String)>,
    ) {
        if let Some(name) = name {
            let key = (name.to_owned(), plain(value));
            if all_hidden(self.attributes.get(&key), hidden) {
                found.push(("attribute", key.1));
            }
        }
        match value {
            Json::String(text) => {
                if name == Some(RECORD) && self.place(text).is_some_and(hidden) {
                    found.push((RECORD, text.clone()));
                }
                self.look_within(text, hidden, found);
            }
            Json::Array(list) => list.iter().for_each(|item| self.look(name, item, hidden, found)),
            Json::Object(fields) => fields.iter().for_each(|(name, value)| {
                self.look_within(name, hidden, found);
                self.look(Some(name), value, hidden, found);
            }),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    /// Looks for ids and parts of texts within a longer text, and within what it may be an encoding of.
    fn look_within(&self, text: &str, hidden: &dyn Fn(usize) -> bool, found: &mut Vec<(&'static str, String)>) {
        decoded(text).iter().for_each(|inner| self.look_plainly(inner, hidden, found));
        self.look_plainly(text, hidden, found);
    }

    fn look_plainly(&self, text: &str, hidden: &dyn Fn(usize) -> bool, found: &mut Vec<(&'static str, String)>) {
        if all_hidden(self.texts.get(text), hidden) {
            found.push((TEXT, text.to_owned()));
        }
        let words = text.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c));
        for word in words.map(|word| word.trim_matches('.')).filter(|word| is_distinctive(word)) {
            if self.place(word).is_some_and(hidden) {
                found.push((RECORD, word.to_owned()));
            } else if all_hidden(self.patients.get(word), hidden) {
                found.push(("patient", word.to_owned()));
            } else if all_hidden(self.documents.get(word), hidden) {
                found.push(("document", word.to_owned()));
            }
        }
        if phrases(text).any(|phrase| self.is_hidden_phrase(phrase, hidden)) {
            found.push((TEXT, text.to_owned()));
        }
    }

    fn is_hidden_phrase(&self, phrase: u64, hidden: &dyn Fn(usize) -> bool) -> bool {
        let from = self.phrases.partition_point(|(one, _)| *one < phrase);
        let all = self.phrases.get(from..).unwrap_or_default();
        let mut same = all.iter().take_while(|(one, _)| *one == phrase).map(|(_, at)| *at as usize).peekable();
        same.peek().is_some() && same.all(hidden)
    }
}

fn places(of: &[u32]) -> impl ExactSizeIterator<Item = usize> {
    of.iter().map(|at| *at as usize)
}

fn all_hidden(of: Option<&Vec<u32>>, hidden: &dyn Fn(usize) -> bool) -> bool {
    of.is_some_and(|of| places(of).all(hidden))
}

/// Whether a word that is this id can hardly be anything else: letters with digits, many digits, or words that are joined.
fn is_distinctive(id: &str) -> bool {
    let (mut digits, mut letters, mut joints) = (0, 0, 0);
    for c in id.chars() {
        digits += usize::from(c.is_numeric());
        letters += usize::from(c.is_alphabetic());
        joints += usize::from(c == '-' || c == '_');
    }
    id.len() >= 6 && (digits > 0 && letters > 0 || digits >= 9 || joints > 0 && letters > 0)
}

/// A value in one form, however a target writes references.
fn plain(value: &Json) -> String {
    match reference(value) {
        Some((ty, id)) => format!("{ty}::{id}"),
        None => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

/// What a text is an encoding of, where it reads as one: base64 in its two alphabets, hexadecimal digits.
fn decoded(text: &str) -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose as forms};
    if text.len() < 12 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b)) {
        return Vec::new();
    }
    let bare = text.trim_end_matches('=');
    let all =
        [forms::STANDARD_NO_PAD.decode(bare).ok(), forms::URL_SAFE_NO_PAD.decode(bare).ok(), hex::decode(text).ok()];
    all.into_iter().flatten().filter_map(|bytes| String::from_utf8(bytes).ok()).collect()
}

/// Hashes of words that follow one another; marks that show where something was found do not count.
fn phrases(text: &str) -> impl Iterator<Item = u64> {
    let mut words: Vec<u64> = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && !MARKS.contains(word)) {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        words.push(hasher.finish());
    }
    (0..(words.len() + 1).saturating_sub(PHRASE)).map(move |from| {
        let mut hasher = DefaultHasher::new();
        words.iter().skip(from).take(PHRASE).for_each(|word| word.hash(&mut hasher));
        hasher.finish()
    })
}

/// What is put around a word to show that it was found.
const MARKS: [&str; 4] = ["em", "b", "mark", "strong"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::leaktest::{
        target::{Ask, List},
        world::hospital,
    };

    fn told(world: &World, hidden: usize, status: u16, body: &Json, header: &str) -> Vec<&'static str> {
        let answer = Answer {
            status,
            headers: vec![("x-told".into(), header.into()), ("date".into(), "1".into())],
            body: body.to_string().into_bytes(),
            ..Answer::default()
        };
        let request = Request::new(Ask::List(List::default()), "treatment");
        Register::of(world).told(&answer, &request, &|at| at == hidden)
    }

    #[test]
    fn an_id_a_snippet_a_document_and_an_attribute_are_seen_wherever_an_answer_holds_them() {
        let mut world = hospital(50, 8, 1);
        let record = &mut world.records[7];
        record.text = "the patient was seen on Monday and asked for water twice".into();
        record.document = "pat-99999-letter".into();
        record.attributes["ward_round"] = json!("the late one");
        let id = record.id.clone();
        let seen = |body: Json| told(&world, 7, 200, &body, "");
        assert_eq!(seen(json!({"results": [{"id": id}]})), ["id"]);
        assert_eq!(seen(json!({"explain": {"near": [format!("looked at {id}, then stopped")]}})), ["id"]);
        assert_eq!(seen(json!({"facets": {"ward_round": "the late one"}})), ["attribute"]);
        assert_eq!(seen(json!({"snippet": "…seen on <em>Monday</em> and asked for w…"})), ["text"]);
        assert_eq!(seen(json!({"of": "pat-99999-letter"})), ["document"]);
        assert_eq!(seen(json!({"retrieval_id": hex::encode(format!("{id}."))})), ["id"]);
        assert_eq!(told(&world, 7, 422, &json!({"detail": format!("not {id}")}), ""), ["id"]);
        assert_eq!(told(&world, 7, 200, &json!({}), &id), ["id"]);
    }

    #[test]
    fn a_plain_id_is_a_leak_as_the_id_of_a_record_and_nowhere_else() {
        let mut world = hospital(50, 8, 1);
        for (at, id) in [(3, "1"), (4, "unknown")] {
            world.records[at].id = id.into();
        }
        for at in [3, 4] {
            assert!(told(&world, at, 422, &json!({"detail": "unknown field 1"}), "1").is_empty());
            assert!(told(&world, at, 200, &json!({"count": 1, "note": "unknown"}), "1").is_empty());
        }
        assert_eq!(told(&world, 3, 200, &json!({"records": [{"id": "1"}]}), ""), ["id"]);
        assert_eq!(Register::of(&world).plain_ids(), 2);
    }
}
