//! A value as few bytes, one form a value: what dictionaries keep instead of trees of values.

use std::{ops::Deref, sync::Arc};

use super::super::ordinal;
use crate::model::{EntityUid, Value};

/// Bytes that need no place of their own.
const INLINE: usize = 14;

/// The bytes of one value.
#[derive(Debug, Clone)]
pub(super) enum Packed {
    Inline {
        length: u8,
        bytes: [u8; INLINE],
    },
    /// Behind a thin pointer, so that a value takes 16 bytes: there are millions.
    Apart(Box<Box<[u8]>>),
}

impl Default for Packed {
    fn default() -> Self {
        Self::Inline { length: 0, bytes: [0; INLINE] }
    }
}

impl Deref for Packed {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Apart(bytes) => bytes,
        }
    }
}

/// The bytes of a value. Equal values have equal bytes, and only they.
pub(super) fn pack(value: &Value) -> Packed {
    let mut long = Vec::with_capacity(64);
    write(value, &mut long);
    let mut bytes = [0; INLINE];
    match bytes.get_mut(..long.len()) {
        Some(inline) => {
            inline.copy_from_slice(&long);
            Packed::Inline { length: long.len() as u8, bytes }
        }
        None => Packed::Apart(Box::new(long.into_boxed_slice())),
    }
}

/// The value that `pack` made these bytes of; `None` for any others.
pub(super) fn unpack(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = read(&mut rest)?;
    rest.is_empty().then_some(value)
}

fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Bool(b) => to.push(u8::from(*b)),
        Value::Long(n) => {
            to.push(2);
            to.extend(n.to_le_bytes());
        }
        Value::Text(text) => {
            to.push(3);
            write_text(text, to);
        }
        Value::Entity(uid) => {
            to.push(4);
            write_text(&uid.ty, to);
            write_text(&uid.id, to);
        }
        Value::Set(items) => {
            to.push(5);
            write_count(items.len(), to);
            items.iter().for_each(|item| write(item, to));
        }
        Value::Record(fields) => {
            to.push(6);
            write_count(fields.len(), to);
            for (name, field) in fields {
                write_text(name, to);
                write(field, to);
            }
        }
        Value::Extension { function, arguments } => {
            if let Some(millis) = plain_moment(function, arguments) {
                to.push(8);
                return to.extend(millis.to_le_bytes());
            }
            to.push(7);
            write_text(function, to);
            write_count(arguments.len(), to);
            arguments.iter().for_each(|argument| write(argument, to));
        }
    }
}

/// What most moments are: `datetime("2026-03-01T12:00:00Z")` in milliseconds, where that form is what would be read back.
fn plain_moment(function: &str, arguments: &[Value]) -> Option<i64> {
    let ("datetime", [Value::Text(text)]) = (function, arguments) else { return None };
    let millis = ordinal::moment(text)?;
    (ordinal::written(millis)? == **text).then_some(millis)
}

fn write_text(text: &str, to: &mut Vec<u8>) {
    write_count(text.len(), to);
    to.extend(text.as_bytes());
}

/// LEB128.
fn write_count(mut count: usize, to: &mut Vec<u8>) {
    while count >= 0x80 {
        to.push((count & 0x7f) as u8 | 0x80);
        count >>= 7;
    }
    to.push(count as u8);
}

fn read(from: &mut &[u8]) -> Option<Value> {
    Some(match take(from)? {
        0 => Value::Bool(false),
        1 => Value::Bool(true),
        2 => {
            let (number, rest) = from.split_first_chunk::<8>()?;
            *from = rest;
            Value::Long(i64::from_le_bytes(*number))
        }
        3 => Value::Text(read_text(from)?),
        4 => Value::Entity(EntityUid { ty: read_text(from)?, id: read_text(from)? }),
        5 => Value::Set((0..read_count(from)?).map(|_| read(from)).collect::<Option<_>>()?),
        6 => {
            Value::Record((0..read_count(from)?).map(|_| Some((read_text(from)?, read(from)?))).collect::<Option<_>>()?)
        }
        7 => Value::Extension {
            function: read_text(from)?,
            arguments: (0..read_count(from)?).map(|_| read(from)).collect::<Option<_>>()?,
        },
        8 => {
            let (number, rest) = from.split_first_chunk::<8>()?;
            *from = rest;
            let text = ordinal::written(i64::from_le_bytes(*number))?;
            Value::Extension { function: "datetime".into(), arguments: vec![Value::text(text)] }
        }
        _ => return None,
    })
}

fn take(from: &mut &[u8]) -> Option<u8> {
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}

fn read_text(from: &mut &[u8]) -> Option<Arc<str>> {
    let count = read_count(from)?;
    let (text, rest) = from.split_at_checked(count)?;
    *from = rest;
    std::str::from_utf8(text).ok().map(Arc::from)
}

fn read_count(from: &mut &[u8]) -> Option<usize> {
    let mut count = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = take(from)?;
        count |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_survive_packing_and_equal_ones_pack_alike() {
        let json = json!({
            "a": [1, "x", true, {"__entity": {"type": "Patient", "id": "p1"}}, -5, ""],
            "b": {"c": {"__extn": {"fn": "decimal", "arg": "0.50"}}, "d": "é".repeat(300)},
            "e": {"__extn": {"fn": "offset", "args": [{"__extn": {"fn": "datetime", "arg": "1970-01-01"}}, {"__extn": {"fn": "duration", "arg": "5ms"}}]}},
        });
        let value = Value::from_json(&json).unwrap();
        assert!(unpack(&pack(&value)) == Some(value.clone()));
        let shuffled = json!([true, 1, {"__entity": {"type": "Patient", "id": "p1"}}, "x"]);
        let ordered = json!([1, "x", {"__entity": {"type": "Patient", "id": "p1"}}, true]);
        let packed = |json| pack(&Value::from_json(json).unwrap());
        assert_eq!(*packed(&shuffled), *packed(&ordered));
        assert_ne!(*packed(&json!("1")), *packed(&json!(1)));
    }

    #[test]
    fn moments_of_the_usual_form_are_short_and_every_form_is_kept() {
        let moment = |text: &str| Value::Extension { function: "datetime".into(), arguments: vec![Value::text(text)] };
        for text in [
            "2026-03-01",
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00.000Z",
            "2026-03-01T12:00:00.250Z",
            "2026-03-01T12:00:00+0100",
        ] {
            assert!(unpack(&pack(&moment(text))) == Some(moment(text)), "{text}");
        }
        assert_eq!(pack(&moment("2026-03-01T12:00:00Z")).len(), 9);
        assert_eq!(pack(&moment("2026-03-01T12:00:00.250Z")).len(), 9);
        assert_eq!(size_of::<Packed>(), 16);
    }

    #[test]
    fn short_and_long_texts_survive_on_both_sides_of_the_bound() {
        for length in 0..2 * INLINE {
            let value = Value::text("x".repeat(length));
            assert!(unpack(&pack(&value)) == Some(value));
        }
    }

    #[test]
    fn cut_or_foreign_bytes_are_no_value() {
        let bytes = pack(&Value::from_json(&json!({"a": ["text", 7]})).unwrap());
        for end in 0..bytes.len() {
            assert!(unpack(&bytes[..end]).is_none());
        }
        assert!(unpack(&[9]).is_none());
        assert!(unpack(&[8, 0, 0]).is_none());
        assert!(unpack(&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_none());
        assert!(unpack(&[0, 0]).is_none());
    }
}
