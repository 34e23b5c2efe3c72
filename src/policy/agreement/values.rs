//! Values from small pools, so that they meet: each as it is stored and as it is written in a policy.

use std::collections::BTreeMap;

use super::{
    design::{Design, Ty, is_plain},
    dice::Dice,
};
use crate::model::{EntityUid, Value};

pub(super) const RECORDS: usize = 24;
const TEXTS: [&str; 9] = ["a", "b", "kind", "north", "", "*a", "é\"x", "ab\\c", "aab"];
const LONGS: [i64; 10] = [0, 1, 2, 3, -1, 60_000, 1 << 62, i64::MAX, i64::MIN, 86_400_000];
/// Some are written differently and equal.
const DECIMALS: [&str; 6] = ["0.5", "0.50", "1.0", "-1.25", "922337203685477.5807", "0.0001"];
const DATETIMES: [&str; 7] = [
    "2025-01-01",
    "2025-01-01T00:00:00Z",
    "2026-03-01T12:00:00Z",
    "1969-12-31",
    "2026-03-01T13:00:00.000+0100",
    "2026-03-01T12:00:00.001Z",
    "9999-12-31",
];
const DURATIONS: [&str; 7] = ["1d", "24h", "0ms", "-1h", "1h30m", "9223372036854775807ms", "90m"];
const IPS: [&str; 8] =
    ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "::1", "127.0.0.1", "224.0.0.1", "ff02::/16", "192.168.1.0/24"];

fn word(dice: &mut Dice, pool: &[&'static str]) -> &'static str {
    dice.pick::<&str>(pool)
}

/// Ids of entities of a type; more than are stored.
pub(super) fn ids(design: &Design, ty: &str) -> Vec<String> {
    match (ty, &design.shape(ty).choices) {
        (_, Some(choices)) => choices.clone(),
        ("Record", _) => (0..RECORDS).map(|at| format!("ward/{at}")).collect(),
        ("Collection", _) => vec!["ward".into(), "other".into()],
        ("Document", _) => (0..4).map(|at| format!("ward/d{at}")).collect(),
        (ty, _) => (0..5).map(|at| format!("{}{at}", ty.rsplit(':').next().unwrap().to_lowercase())).collect(),
    }
}

pub(super) fn reference(dice: &mut Dice, design: &Design, ty: &str) -> EntityUid {
    EntityUid::new(ty, dice.pick(&ids(design, ty)).as_str())
}

/// A value of a type.
pub(super) fn value(dice: &mut Dice, design: &Design, ty: &Ty) -> Value {
    let call =
        |function: &str, text: &str| Value::Extension { function: function.into(), arguments: vec![Value::text(text)] };
    match ty {
        Ty::Bool => Value::Bool(dice.one_in(2)),
        // extremes are rarer: they make arithmetic err
        Ty::Long if dice.percent(85) => Value::Long(*dice.pick(&LONGS[..5])),
        Ty::Long => Value::Long(*dice.pick(&LONGS)),
        Ty::Text => Value::text(word(dice, &TEXTS)),
        Ty::Decimal => call("decimal", word(dice, &DECIMALS)),
        Ty::Datetime => call("datetime", word(dice, &DATETIMES)),
        Ty::Duration => call("duration", word(dice, &DURATIONS)),
        Ty::Ip => call("ip", word(dice, &IPS)),
        Ty::Entity(name) => Value::Entity(reference(dice, design, name)),
        Ty::Set(item) => Value::Set((0..dice.below(4)).map(|_| value(dice, design, item)).collect()),
        Ty::Record(fields) => {
            let mut values = BTreeMap::new();
            for field in fields {
                if field.required || dice.percent(60) {
                    values.insert(field.name.as_str().into(), value(dice, design, &field.ty));
                }
            }
            Value::Record(values)
        }
    }
}

pub(super) fn is_name(text: &str) -> bool {
    is_plain(text) && text.starts_with(|c: char| !c.is_ascii_digit())
}

pub(super) fn text(dice: &mut Dice) -> String {
    quoted(word(dice, &TEXTS))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn entity_literal(uid: &EntityUid) -> String {
    format!("{}::{}", uid.ty, quoted(&uid.id))
}

/// A literal of a type; `None` where strict validation takes none.
pub(super) fn literal(dice: &mut Dice, design: &Design, ty: &Ty) -> Option<String> {
    Some(match ty {
        Ty::Bool => dice.one_in(2).to_string(),
        Ty::Long => match if dice.percent(85) { *dice.pick(&LONGS[..6]) } else { *dice.pick(&LONGS) } {
            n if n < 0 && n != i64::MIN && dice.one_in(2) => format!("(-({}))", -n),
            n => n.to_string(),
        },
        Ty::Text => text(dice),
        Ty::Decimal => format!("decimal(\"{}\")", word(dice, &DECIMALS)),
        Ty::Datetime => format!("datetime(\"{}\")", word(dice, &DATETIMES)),
        Ty::Duration => format!("duration(\"{}\")", word(dice, &DURATIONS)),
        Ty::Ip => format!("ip(\"{}\")", word(dice, &IPS)),
        Ty::Entity(name) => entity_literal(&reference(dice, design, name)),
        Ty::Set(item) => {
            let items: Option<Vec<String>> = (0..dice.between(1, 3)).map(|_| literal(dice, design, item)).collect();
            format!("[{}]", items?.join(", "))
        }
        Ty::Record(fields) => {
            if fields.iter().any(|field| !field.required) {
                return None;
            }
            let field = |field: &super::design::Field| {
                Some(format!("\"{}\": {}", field.name, literal(dice, design, &field.ty)?))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Option<Vec<_>>>()?.join(", "))
        }
    })
}
