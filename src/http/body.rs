//! JSON bodies: bounded in bytes and depth before they are parsed, and errors that say where without repeating what.

use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::{intake::Intake, problem::Problem};
use crate::{engine::Fault, model::limits};

/// Reads a whole body as `T`.
pub(super) async fn json<T: DeserializeOwned>(intake: &Intake, limit: usize) -> Result<T, Problem> {
    parse(&intake.bytes(limit).await?)
}

/// Parses one JSON text.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match checked(bytes) {
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
    let named = ["missing field", "unknown field", "duplicate field"].iter().any(|start| words.starts_with(start));
    let words = words.split(" at line ").next().unwrap_or_default();
    let detail =
        if named { format!("{words} ({place})") } else { format!("a value has the wrong type or range ({place})") };
    (false, Fault::new("wrong_type", detail))
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
}
