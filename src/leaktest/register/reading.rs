//! One answer, read through: what its permitted records explain is set aside, and whatever is left is looked at for anything of hidden ones, in
//! fields that the kit knows and in those that it does not.

use std::{cell::OnceCell, collections::HashSet};

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value as Json};

use super::{Register, SURE_SCORES, Told, facts, names::Kind, names::Telling, texts};
use crate::leaktest::{
    target::{Answer, Ask, Request},
    world::{Record, World},
};

/// Fields of an answer to a search, a list or a read, but for those of its records.
const FRAME: [&str; 7] = ["retrieval_id", "policy_version", "results", "records", "next", "count", "limit"];
/// Fields of a record in it.
const RECORD: [&str; 11] = [
    "id",
    "document",
    "score",
    "text",
    "attributes",
    "tags",
    "parents",
    "vector",
    "vector_base64",
    "provenance",
    "permitted_by",
];
/// Fields that name a record, whatever they lie in.
const NAMING: [&str; 6] = ["id", "_id", "ids", "record", "record_id", "records"];
/// A total below this is told by chance.
const TOTAL: usize = 100;
/// Shorter words are not looked at as another's encoding.
const ENCODED_BYTES: usize = 16;

pub(super) struct Reading<'a> {
    register: &'a Register,
    world: &'a World,
    answer: &'a Answer,
    request: &'a Request,
    hidden: &'a dyn Fn(usize) -> bool,
    said: String,
    said_prints: OnceCell<HashSet<u64>>,
    /// Fractions that nothing explains.
    numbers: Vec<f64>,
    told: Told,
}

/// Where in an answer something stands.
#[derive(Clone, Copy)]
struct Spot<'a> {
    /// The permitted record that it is part of.
    own: Option<&'a Record>,
    /// The kit knows what this field is for.
    known: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn of(
        register: &'a Register,
        world: &'a World,
        answer: &'a Answer,
        request: &'a Request,
        hidden: &'a dyn Fn(usize) -> bool,
    ) -> Self {
        let mut body = request.body();
        // digits of a vector say nothing
        body.as_object_mut().and_then(|fields| fields.shift_remove("vector"));
        let said = format!("{body} {:?}", request.headers);
        let told = Told::default();
        let (said_prints, numbers) = (OnceCell::new(), Vec::new());
        Self { register, world, answer, request, hidden, said, said_prints, numbers, told }
    }

    pub(super) fn told(mut self) -> Told {
        let answer = self.answer;
        for (_, value) in &answer.headers {
            self.text(value, None, Telling::Sure);
        }
        match (serde_json::from_slice::<Json>(&answer.body), answer.status) {
            (Ok(json), 200) => self.frame(&json),
            (Ok(json), _) => self.refusal(&json),
            (Err(_), _) => self.text(&String::from_utf8_lossy(&answer.body), None, Telling::Sure),
        }
        self.scores();
        self.told
    }

    /// The whole body of an answer.
    fn frame(&mut self, json: &Json) {
        let Json::Object(fields) = json else {
            return self.value(json, Spot { own: None, known: false });
        };
        if fields.contains_key("id") {
            return self.record(fields, "");
        }
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("results" | "records", Json::Array(list)) => {
                    list.iter().for_each(|one| self.row(one, &format!("{name}[].")));
                }
                (name, value) => self.field(name, value, "", None, FRAME.contains(&name)),
            }
        }
    }

    fn row(&mut self, json: &Json, path: &str) {
        match json {
            Json::Object(fields) => self.record(fields, path),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                self.value(json, Spot { own: None, known: false });
            }
        }
    }

    /// A record that is shown: what it is itself explains what stands in it.
    fn record(&mut self, fields: &Map<String, Json>, path: &str) {
        let place = fields.get("id").and_then(Json::as_str).and_then(|id| self.register.place(id));
        if place.is_some_and(self.hidden) {
            self.told.kinds.insert(Kind::Id.word());
            return;
        }
        let own = place.and_then(|at| self.world.records.get(at));
        for (name, value) in fields {
            let known = RECORD.contains(&name.as_str()) || path.is_empty() && FRAME.contains(&name.as_str());
            if own.is_none_or(|own| !explains(own, name, value)) {
                self.field(name, value, path, own, known);
            }
        }
    }

    fn field(&mut self, name: &str, value: &Json, path: &str, own: Option<&Record>, known: bool) {
        let path = format!("{path}{name}");
        if !known {
            self.told.unread.insert(path.split('.').map(|part| self.harmless(part)).collect::<Vec<_>>().join("."));
            self.text(name, own, Telling::Sure);
        }
        if own.is_none() && NAMING.contains(&name) {
            self.naming(value);
        }
        self.value(value, Spot { own, known });
    }

    /// A name of a field that may be shown.
    fn harmless(&self, part: &str) -> String {
        let name = part.trim_end_matches("[]");
        let plain = !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if plain && self.register.names.of(name).is_none() { part.to_owned() } else { "…".to_owned() }
    }

    /// Whatever stands where a record is named counts, if it is no echo.
    fn naming(&mut self, value: &Json) {
        let id = match value {
            Json::String(id) => id.clone(),
            Json::Number(id) => id.to_string(),
            Json::Array(list) => return list.iter().for_each(|one| self.naming(one)),
            Json::Null | Json::Bool(_) | Json::Object(_) => return,
        };
        if self.register.place(&id).is_some_and(self.hidden) && !self.said.contains(&format!("\"{id}\"")) {
            self.told.kinds.insert(Kind::Id.word());
        }
    }

    fn value(&mut self, json: &Json, spot: Spot<'_>) {
        match json {
            Json::Null | Json::Bool(_) => {}
            Json::String(text) => {
                let whole = if spot.known || spot.own.is_some() { Telling::Sure } else { Telling::Ordinary };
                self.text(text, spot.own, whole);
            }
            Json::Number(number) if spot.known || spot.own.is_some() && number.is_u64() => {}
            Json::Number(number) => self.number(number),
            Json::Array(list) => {
                if !self.vector(list) {
                    list.iter().for_each(|one| self.value(one, spot));
                }
            }
            Json::Object(fields) => self.object(fields, spot),
        }
    }

    fn object(&mut self, fields: &Map<String, Json>, spot: Spot<'_>) {
        self.attributes(fields, spot.own);
        let of_entity = fields.contains_key("type");
        for (name, value) in fields {
            if spot.own.is_some_and(|own| own.attributes.get(name).is_some_and(|is| alike(is, value))) {
                continue;
            }
            if !spot.known {
                self.text(name, spot.own, Telling::Sure);
            }
            if spot.own.is_none() && !of_entity && NAMING.contains(&name.as_str()) {
                self.naming(value);
            }
            self.value(value, spot);
        }
    }

    /// Attributes that, shown together, only hidden records have.
    fn attributes(&mut self, fields: &Map<String, Json>, own: Option<&Record>) {
        let mut strange = fields.clone();
        strange
            .retain(|name, value| own.is_none_or(|own| !own.attributes.get(name).is_some_and(|is| alike(is, value))));
        let (shown, places) = self.register.facts.shown(&strange);
        let echo = || strange.values().filter_map(facts::said).all(|value| self.said.contains(&value));
        // a single word may be anything, a phrase is not
        let phrase = || strange.values().any(|value| value.as_str().is_some_and(|text| text.trim().contains(' ')));
        if (shown > 1 || shown == 1 && phrase()) && self.all_hidden(&places) && !echo() {
            self.told.kinds.insert(Kind::Attribute.word());
        }
    }

    fn all_hidden(&self, places: &[usize]) -> bool {
        !places.is_empty() && places.iter().all(|at| (self.hidden)(*at))
    }

    /// Words, fragments and encodings within a text. An ordinary word counts for a doubt where it is the whole of a text of `whole` kind.
    fn text(&mut self, text: &str, own: Option<&Record>, whole: Telling) {
        self.plain(text, own, whole);
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/-_=".contains(c)) {
            if word.len() >= ENCODED_BYTES {
                self.encoded(word);
            }
        }
    }

    fn plain(&mut self, text: &str, own: Option<&Record>, whole: Telling) {
        let register = self.register;
        for (word, name) in register.names.within(text) {
            if own.is_some_and(|own| own.text.contains(word) || own.attributes.to_string().contains(word))
                || self.said.contains(word)
                || !self.all_hidden(&name.places)
            {
                continue;
            }
            let kind = name.kind.word();
            match register.names.telling(word) {
                Telling::Sure => {
                    self.told.kinds.insert(kind);
                }
                Telling::Ordinary if whole == Telling::Chance || whole == Telling::Ordinary && word == text => {
                    self.told.words.insert((kind, word.to_owned()));
                }
                Telling::Ordinary | Telling::Chance => {}
            }
        }
        let found = register.texts.within(text);
        if found.iter().any(|(print, places)| self.all_hidden(places) && !self.said_prints().contains(print)) {
            self.told.kinds.insert("text");
        }
    }

    fn said_prints(&self) -> &HashSet<u64> {
        self.said_prints.get_or_init(|| texts::prints(&self.said))
    }

    /// What a word comes to as base64 or in hexadecimal digits: text, or a vector.
    fn encoded(&mut self, word: &str) {
        for bytes in decoded(word) {
            if bytes.len() == 4 * self.world.dimension {
                let vector: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
                self.is_hidden(&vector);
            }
            if let Some(text) = readable(&bytes) {
                self.plain(text, None, Telling::Sure);
            }
        }
    }

    /// Whether a list is a vector; if so it is looked at as one.
    fn vector(&mut self, list: &[Json]) -> bool {
        if list.len() != self.world.dimension || list.len() < 2 {
            return false;
        }
        let Some(vector) = list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect::<Option<Vec<f32>>>() else {
            return false;
        };
        self.is_hidden(&vector);
        true
    }

    fn is_hidden(&mut self, vector: &[f32]) {
        let asked = match &self.request.ask {
            Ask::Search(search) => search.vector.as_slice(),
            Ask::Read(_) | Ask::List(_) | Ask::Put(_) | Ask::Erase(_) => &[],
        };
        let same = |other: &[f32]| Likeness::of(other, vector).cosine > 0.999_99;
        let places = self.world.records.iter().enumerate().filter(|(_, r)| same(&r.vector)).map(|(at, _)| at);
        if !same(asked) && self.all_hidden(&places.collect::<Vec<_>>()) {
            self.told.kinds.insert("vector");
        }
    }

    fn number(&mut self, number: &serde_json::Number) {
        match number.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(total) => self.total(total),
            None => self.numbers.extend(number.as_f64().filter(|x| x.fract() != 0.0)),
        }
    }

    /// How many records there are, or are hidden, is nobody's to know.
    fn total(&mut self, total: usize) {
        let all = self.world.records.len();
        if total < TOTAL || total > all || total == self.world.dimension || self.said.contains(&total.to_string()) {
            return;
        }
        let hidden = || (0..all).filter(|at| (self.hidden)(*at)).count();
        let some = hidden();
        if some > 0 && (total == all || total == some) && total != all - some {
            self.told.kinds.insert("count");
        }
    }

    /// Whether fractions that nothing explains are scores of hidden records.
    fn scores(&mut self) {
        let Ask::Search(search) = &self.request.ask else { return };
        if self.numbers.is_empty() || self.answer.status != 200 {
            return;
        }
        let (mut hidden, mut shown) = (Vec::new(), Vec::new());
        for (at, record) in self.world.records.iter().enumerate() {
            let likeness = Likeness::of(&record.vector, &search.vector);
            if (self.hidden)(at) { hidden.push(likeness) } else { shown.push(likeness) }
        }
        self.numbers.retain(|x| !shown.iter().any(|one| one.comes_to(*x)));
        hidden.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
        let bits = NEAREST.map(|most| surprise(hidden.get(..most).unwrap_or(&hidden), &self.numbers));
        self.told.scores = bits.into_iter().fold(0.0, f64::max);
        if self.told.scores >= SURE_SCORES {
            self.told.kinds.insert("score");
        }
    }

    /// A refusal is the store's own words: any word that names something is at least a doubt.
    fn refusal(&mut self, json: &Json) {
        match json {
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
            Json::String(text) => self.text(text, None, Telling::Chance),
            Json::Array(list) => list.iter().for_each(|one| self.refusal(one)),
            Json::Object(fields) => fields.iter().for_each(|(name, value)| {
                self.text(name, None, Telling::Sure);
                self.refusal(value);
            }),
        }
    }
}

/// Whether a field of a record that is shown says what the record says itself.
fn explains(own: &Record, name: &str, value: &Json) -> bool {
    let is = |text: &str| value.as_str() == Some(text);
    match name {
        // what may be had of vectors is a question of its own
        "id" | "score" | "vector" | "vector_base64" => true,
        "text" => is(&own.text),
        "document" => is(&own.document),
        "attributes" => alike(&own.attributes, value),
        other => own.attributes.get(other).is_some_and(|said| alike(said, value)),
    }
}

fn alike(one: &Json, other: &Json) -> bool {
    one == other || facts::said(one).is_some_and(|said| facts::said(other) == Some(said))
}

fn decoded(word: &str) -> Vec<Vec<u8>> {
    let loose = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let base64 = [STANDARD, URL_SAFE].map(|alphabet| GeneralPurpose::new(&alphabet, loose).decode(word).ok());
    base64.into_iter().chain([hex::decode(word).ok()]).flatten().collect()
}

/// Bytes that somebody can read.
fn readable(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // a text that was cut within a letter
        Err(cut) => std::str::from_utf8(bytes.get(..cut.valid_up_to())?).ok()?,
    };
    (text.len() * 2 > bytes.len() && !text.chars().any(|c| c.is_control() && !c.is_whitespace())).then_some(text)
}

/// How near two vectors are, in whatever form a store may say it.
struct Likeness {
    cosine: f64,
    forms: [f64; 6],
}

/// So near two scores of the same are, by whatever order they are summed.
const SAME: f64 = 5e-7;
/// Among so many of the nearest a leaked score is looked for.
const NEAREST: [usize; 2] = [64, 2_048];
/// Scores lie closer together than chance would have them.
const CROWDED: f64 = 4.0;

impl Likeness {
    fn of(one: &[f32], other: &[f32]) -> Self {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let (dot, squares) = (product(one, other), [product(one, one), product(other, other)]);
        let [a, b] = squares;
        let cosine = dot / (a * b).sqrt().max(f64::MIN_POSITIVE);
        let apart = (a + b - 2.0 * dot).max(0.0);
        let cosine = if one.len() == other.len() { cosine } else { 0.0 };
        Self { cosine, forms: [dot, cosine, 1.0 - cosine, -apart, apart, apart.sqrt()] }
    }

    fn comes_to(&self, number: f64) -> bool {
        self.forms.iter().any(|form| (form - number).abs() <= SAME)
    }
}

/// Bits of surprise that so many of the numbers are scores of these.
fn surprise(hidden: &[Likeness], numbers: &[f64]) -> f64 {
    let chance = (hidden.len() as f64 * 6.0 * 2.0 * SAME * CROWDED).clamp(f64::MIN_POSITIVE, 0.5);
    let hits = numbers.iter().filter(|x| hidden.iter().any(|one| one.comes_to(**x))).count();
    let ways: f64 = (0..hits).map(|n| ((numbers.len() - n) as f64 / (n + 1) as f64).log2()).sum();
    (-chance.log2()).mul_add(hits as f64, -ways).max(0.0)
}
