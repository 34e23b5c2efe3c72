//! `policy explain`: why somebody may or may not see a record, from a running server or offline.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Map, Value as Json};

use super::{refused, source};
use crate::{
    cli::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json},
    clock::Instant,
    engine::{Settings, Tried, Why},
    model::{Action, BundleSource, EntityUid},
};

#[derive(Args)]
pub(in crate::cli) struct Explain {
    /// Who would ask: `Clinician::"m-nurse-000"`
    #[arg(long, value_name = "TYPE::\"ID\"", value_parser = uid)]
    caller: EntityUid,
    /// About which record
    #[arg(long, value_name = "COLLECTION/ID", value_parser = record)]
    record: (String, String),
    /// For what: Retrieve (a search hit), Read (by id) or ReadVector
    #[arg(long, value_name = "ACTION", default_value = "Retrieve", value_parser = action)]
    action: Action,
    /// For which purpose
    #[arg(long)]
    purpose: Option<String>,
    /// Narrowed to which patient
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// At which time, such as 2026-01-31T08:00:00Z; now, if it is not said
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// From which address; 127.0.0.1, if it is not said
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,
    /// Ask the bundle of this directory instead of the one in force
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Offline: the store's directory (else a running server is asked)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An entity as people write it: `Type::"id"`, or without quotes.
pub(super) fn uid(text: &str) -> Result<EntityUid, String> {
    let wrong = || format!("write it as Type::\"id\", not `{text}`");
    let (ty, id) = match text.split_once("::\"") {
        Some((ty, id)) => (ty, id.strip_suffix('"').ok_or_else(wrong)?),
        None => text.rsplit_once("::").ok_or_else(wrong)?,
    };
    let uid = EntityUid::new(ty, id);
    uid.check().map_err(|error| format!("the id {error}"))?;
    if ty.is_empty() { Err(wrong()) } else { Ok(uid) }
}

fn record(text: &str) -> Result<(String, String), String> {
    let (collection, id) = text.split_once('/').ok_or("write it as COLLECTION/ID")?;
    Ok((collection.to_owned(), id.to_owned()))
}

fn action(text: &str) -> Result<Action, String> {
    let known = Action::ON_RECORD.into_iter().find(|action| action.name().eq_ignore_ascii_case(text));
    known.ok_or_else(|| "it is one of Retrieve, Read and ReadVector".to_owned())
}

impl Explain {
    pub(super) fn run(self) -> Outcome {
        let bundle =
            self.bundle.as_deref().map(|dir| source::Folder::open(dir, "").map(|folder| folder.source)).transpose()?;
        let answer = match &self.data {
            Some(data) => self.offline(data, bundle)?,
            None => self.server.client()?.post("/v1/policies/explain", &self.body(bundle.as_ref()))?,
        };
        if self.json {
            print_json(&answer);
        } else {
            print!("{}", told(&answer));
        }
        Ok(())
    }

    fn body(&self, bundle: Option<&BundleSource>) -> Json {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("caller", serde_json::to_value(&self.caller).ok());
        put("collection", Some(self.record.0.as_str().into()));
        put("record", Some(self.record.1.as_str().into()));
        put("action", Some(self.action.name().into()));
        put("purpose", self.purpose.as_deref().map(Json::from));
        put("patient", self.patient.as_deref().map(Json::from));
        put("now", self.now.as_deref().map(Json::from));
        put("source_ip", self.source_ip.map(|address| address.to_string().into()));
        put("bundle", bundle.map(super::sent));
        Json::Object(body)
    }

    fn why(&self) -> Result<Why, Failure> {
        let usage = |what: &str| Failure::Usage(what.to_owned());
        let time = |text: &String| {
            Instant::parse(text).ok_or_else(|| usage("--now must be a time such as 2026-01-31T08:00:00Z"))
        };
        Ok(Why {
            caller: self.caller.clone(),
            action: self.action,
            collection: self.record.0.parse().map_err(|_| usage("--record must begin with a collection's name"))?,
            record: self.record.1.parse().map_err(|_| usage("--record must end with a record's id"))?,
            purpose: self.purpose.clone(),
            patient: self.patient.clone(),
            now: self.now.as_ref().map(time).transpose()?,
            source_ip: self.source_ip,
        })
    }

    fn offline(&self, data: &Path, bundle: Option<BundleSource>) -> Result<Json, Failure> {
        let why = self.why()?;
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let operator = engine.operator();
        let tried = bundle.map(|source| Tried { grant: engine.operator_grant(&operator), source });
        let explained = engine.explain(&engine.operator_grant(&operator), &why, tried);
        engine.close();
        serde_json::to_value(explained.map_err(refused::words)?).map_err(Failure::from)
    }
}

/// An answer for people.
fn told(answer: &Json) -> String {
    let mut lines = vec![word(answer, "summary").to_owned()];
    let changes: Vec<&str> = list(answer, "would_change").filter_map(Json::as_str).collect();
    if !changes.is_empty() {
        lines.push("\nWhat would change it (all that denies has to go, and one permit has to hold)".into());
        lines.extend(changes.iter().map(|change| format!("  {change}")));
    }
    for policy in list(answer, "policies") {
        let standing = match word(policy, "standing") {
            "holds" => "holds",
            "fails" => "does not hold",
            "erred" => "errs, which denies",
            _ => "looks at what is not stored, which denies",
        };
        lines.push(format!("\n{} {}: {standing}", word(policy, "effect"), word(policy, "policy")));
        list(policy, "requires").for_each(|requirement| requirement_lines(requirement, 1, &mut lines));
    }
    let others: Vec<_> = list(answer, "elsewhere").collect();
    if !others.is_empty() {
        lines.push("\nPermits for this action that are for others".into());
        lines.extend(others.iter().map(|other| format!("  {}: {}", word(other, "policy"), word(other, "scope"))));
    }
    for (name, what) in [("policies_omitted", "policies"), ("elsewhere_omitted", "permits for others")] {
        if let Some(more @ 1..) = answer.get(name).and_then(Json::as_u64) {
            lines.push(format!("and {more} more {what}"));
        }
    }
    lines.join("\n") + "\n"
}

fn requirement_lines(requirement: &Json, depth: usize, lines: &mut Vec<String>) {
    let met = match word(requirement, "met") {
        "yes" => "yes",
        "no" => "NO ",
        "erred" => "ERR",
        "missing_entity" => "???",
        _ => "-  ",
    };
    let not = if requirement.get("negated").and_then(Json::as_bool) == Some(true) { "not: " } else { "" };
    let line = requirement.pointer("/place/line").and_then(Json::as_u64);
    let place = line.map(|line| format!("   (line {line})")).unwrap_or_default();
    let margin = "  ".repeat(depth);
    match word(requirement, "join") {
        "" => lines.push(format!("{margin}{met} {not}{}{place}", word(requirement, "text"))),
        join => {
            lines.push(format!("{margin}{met} {join} of{place}"));
            list(requirement, "parts").for_each(|part| requirement_lines(part, depth + 1, lines));
        }
    }
}

fn word<'a>(json: &'a Json, name: &str) -> &'a str {
    json.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn list<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    json.get(name).and_then(Json::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_written_as_cedar_writes_them_or_without_quotes() {
        let expected = EntityUid::new("Clinic::Staff", "a b");
        assert_eq!(uid("Clinic::Staff::\"a b\"").unwrap(), expected);
        assert_eq!(uid("Clinic::Staff::a b").unwrap(), expected);
        for bad in ["nurse", "::\"x\"", "A::\"x", "A::\"\""] {
            assert!(uid(bad).is_err(), "{bad}");
        }
    }
}
