//! JSON bodies: bounded in bytes and depth before they are parsed, and errors that say where without repeating what.

use std::{fmt, marker::PhantomData};

use axum::http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value as Json;

use super::{intake::Intake, problem::Problem};
use crate::{engine::Fault, model::limits};

/// Reads a whole body, an object, as `T`.
pub(super) async fn json<T: DeserializeOwned>(intake: &Intake, limit: usize) -> Result<T, Problem> {
    parse(&intake.bytes(limit).await?)
}

/// Reads a whole body, a list of any JSON.
pub(super) async fn list(intake: &Intake, limit: usize) -> Result<Vec<Distinct>, Problem> {
    told_or(checked(&intake.bytes(limit).await?))
}

/// Parses one JSON text, an object.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    told_or(checked::<Named<T>>(bytes)).map(|named| named.0)
}

fn told_or<T>(read: Result<T, (bool, Fault)>) -> Result<T, Problem> {
    match read {
        Ok(value) => Ok(value),
        Err((true, fault)) => Err(Problem::new(StatusCode::BAD_REQUEST, fault.code, fault.detail)),
        Err((false, fault)) => Err(Problem::invalid(fault.code, fault.detail)),
    }
}

/// Parses one JSON text; an error says whether it is not even JSON.
pub(super) fn checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, (bool, Fault)> {
    if depth(bytes) > limits::JSON_DEPTH {
        let detail = format!("the JSON is nested deeper than {} levels", limits::JSON_DEPTH);
        return Err((true, Fault::new("too_deep", detail)));
    }
    if std::str::from_utf8(bytes).is_err() {
        return Err((true, Fault::new("malformed_json", "the body is not UTF-8")));
    }
    serde_json::from_slice(bytes).map_err(|error| describe(&error))
}

/// Serde's words where they name a field, else only the place: values are the client's, and may be content of records.
fn describe(error: &serde_json::Error) -> (bool, Fault) {
    let words = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    if !error.is_data() && !words.contains("number out of range") {
        return (true, Fault::new("malformed_json", format!("the body is not JSON: see {place}")));
    }
    (false, Fault::new("wrong_type", format!("{} ({place})", told(&words))))
}

/// Serde's words without the client's: a name only where it looks like one, and of a value only what was expected instead.
fn told(words: &str) -> String {
    let words = words.rsplit_once(" at line ").map_or(words, |(words, _)| words);
    for kind in ["missing field", "unknown field", "duplicate field"] {
        let Some(rest) = words.strip_prefix(kind) else { continue };
        let name = rest.split('`').nth(1).unwrap_or_default();
        let known =
            rest.rsplit_once("`, expected ").map(|(_, known)| format!("; expected {known}")).unwrap_or_default();
        return format!("{kind} `{}`{known}", shown(name));
    }
    if words == TWICE {
        return TWICE.to_owned();
    }
    match words.rsplit_once(", expected ") {
        Some((_, expected)) => format!("a value has the wrong type or range: expected {}", plain(expected)),
        None => "a value has the wrong type or range".to_owned(),
    }
}

/// The same of a query: axum's words are `Failed to deserialize query string: [name: ]why`.
pub(super) fn told_of_query(words: &str) -> String {
    let words = words.split_once("query string: ").map_or(words, |(_, words)| words);
    // a name before the colon is one of the route's own: an unknown one has none
    let (name, why) = match words.split_once(": ") {
        Some((name, why)) if !name.contains(' ') => (name, why),
        Some(_) | None => ("", words),
    };
    match (why.rsplit_once(", expected "), name) {
        (Some((_, expected)), _) if why.starts_with("unknown field") => {
            format!("the query has a name that is not known here; expected {expected}")
        }
        (_, "") => "the query does not fit; each name may occur once".to_owned(),
        (Some((_, expected)), name) => {
            format!("`{}` in the query has the wrong type or range: expected {}", shown(name), plain(expected))
        }
        (None, name) => format!("`{}` in the query has the wrong type or range", shown(name)),
    }
}

/// What was expected, in words of JSON instead of Rust's.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        other => other,
    }
}

/// A name that the client made up is repeated only if it looks like a name.
fn shown(name: &str) -> &str {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.len() <= 64 && name.chars().all(word) { name } else { "…" }
}

const TWICE: &str = "an object has the same name twice; send each name once";

/// What must be sent as an object. Serde would take a list of its values too, in an order that nobody has promised.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData)).map(Self)
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// JSON of any shape in which no object has a name twice: which of the two counts must not depend on who reads it.
#[derive(Debug, Default)]
pub(super) struct Distinct(pub(super) Json);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistinctVisitor).map(Self)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(Distinct(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some((name, Distinct(value))) = fields.next_entry::<String, _>()? {
            if all.insert(name, value).is_some() {
                return Err(serde::de::Error::custom(TWICE));
            }
        }
        Ok(Json::Object(all))
    }
}

/// Deepest nesting of brackets outside strings; does not mind whether the text is JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => text = !text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(br#"{"a":[1,[2]],"b":"[[[[\"[["}"#), 3);
        assert_eq!(depth(b"[[[["), 4);
    }

    #[test]
    fn errors_do_not_repeat_values() {
        let (_, fault) = checked::<Vec<u32>>(br#"["secret diagnosis"]"#).unwrap_err();
        assert!(!fault.detail.contains("secret"));
        let (syntax, fault) = checked::<Vec<f32>>(b"[NaN]").unwrap_err();
        assert!(syntax && fault.code == "malformed_json");
        let (syntax, _) = checked::<Vec<f32>>(b"[1e999]").unwrap_err();
        assert!(!syntax);
    }

    #[test]
    fn errors_say_what_was_expected_and_repeat_no_name_that_is_none() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its errors are looked at")]
        struct Form {
            limit: Option<u8>,
        }
        let detail = |text: &str| checked::<Form>(text.as_bytes()).unwrap_err().1.detail;
        assert_eq!(
            detail(r#"{"limit":"secret, expected nothing"}"#),
            "a value has the wrong type or range: expected a whole number from 0 on (line 1 column 35)"
        );
        assert_eq!(detail(r#"{"limits":1}"#), "unknown field `limits`; expected `limit` (line 1 column 9)");
        assert_eq!(detail(r#"{"jane doe":1}"#), "unknown field `…`; expected `limit` (line 1 column 11)");
        assert!(detail(&format!("{{\"{}\":1}}", "x".repeat(1_000))).len() < 100);
    }

    #[test]
    fn an_object_is_not_taken_as_a_list_of_its_values() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only whether it is read is looked at")]
        struct Form {
            limit: u8,
        }
        assert!(checked::<Named<Form>>(br#"{"limit":1}"#).is_ok());
        let (syntax, fault) = checked::<Named<Form>>(b"[1]").unwrap_err();
        assert!(!syntax && fault.detail.contains("expected an object"), "{}", fault.detail);
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_at_any_depth() {
        let read = |text: &str| checked::<Distinct>(text.as_bytes());
        assert!(read(r#"{"a":[{"b":1,"b":2}]}"#).unwrap_err().1.detail.starts_with(TWICE));
        let text = r#"{"a":[{"b":1},{"b":-2.5}],"c":null,"d":"\u0041","e":18446744073709551615}"#;
        assert_eq!(read(text).unwrap().0, serde_json::from_str::<Json>(text).unwrap());
    }
}
