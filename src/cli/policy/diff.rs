//! `policy diff`: what another bundle would change on what is stored, from a running server or offline.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value as Json, json};

use super::{explain::uid, refused, source};
use crate::{
    cli::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json, progress},
    engine::{Chosen, Comparison, Right, Settings},
    model::{EntityUid, limits},
};

#[derive(Args)]
#[command(disable_version_flag = true)]
pub(in crate::cli) struct Diff {
    /// One directory: what it would change against the policies in force. Two: OLD and NEW
    #[arg(value_name = "OLD] [NEW", num_args = 1..=2, required = true)]
    bundles: Vec<PathBuf>,
    /// Compare this version of the policies with NEW, instead of those in force
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Purposes to compare under, besides those that the audit log shows
    #[arg(long = "purpose", value_name = "PURPOSE")]
    purposes: Vec<String>,
    /// Decide the answers of the last days again, and take purposes from them
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Only these callers; else every one that may be shown a record
    #[arg(long = "caller", value_name = "TYPE::\"ID\"", value_parser = uid)]
    callers: Vec<EntityUid>,
    /// Only these collections
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
    /// Show callers one by one too, each with some of the records
    #[arg(long)]
    by_caller: bool,
    /// Ids in a sample
    #[arg(long, default_value_t = 5)]
    samples: usize,
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

impl Diff {
    pub(super) fn run(self) -> Outcome {
        let (old, new) = self.sides()?;
        let answer = match &self.data {
            Some(data) => self.offline(data, old, new)?,
            None => self.online(&old, &new)?,
        };
        if self.json {
            print_json(&answer);
        } else {
            tell(&answer, self.by_caller);
        }
        Ok(())
    }

    fn sides(&self) -> Result<(Chosen, Chosen), Failure> {
        let sent = |dir: &PathBuf| source::Folder::open(dir, "").map(|folder| Chosen::Sent(Box::new(folder.source)));
        match (self.bundles.as_slice(), self.version) {
            ([new], None) => Ok((Chosen::InForce, sent(new)?)),
            ([new], Some(version)) => Ok((Chosen::Version(version), sent(new)?)),
            ([old, new], None) => Ok((sent(old)?, sent(new)?)),
            _ => Err(Failure::Usage("--version goes with one directory".into())),
        }
    }

    fn online(&self, old: &Chosen, new: &Chosen) -> Result<Json, Failure> {
        let mut body = Map::new();
        if let Some(old) = side(old) {
            body.insert("old".into(), old);
        }
        body.insert("new".into(), side(new).unwrap_or_default());
        body.insert("purposes".into(), json!(self.purposes));
        body.insert("samples".into(), self.samples.into());
        if let Some(days) = self.days {
            body.insert("days".into(), days.into());
        }
        if !self.callers.is_empty() {
            body.insert("callers".into(), json!(self.callers));
        }
        if !self.collections.is_empty() {
            body.insert("collections".into(), json!(self.collections));
        }
        let client = self.server.client()?;
        let spinner = progress::counter("comparing", None);
        spinner.enable_steady_tick(Duration::from_millis(200));
        let answer = client.post("/v1/policies/diff", &Json::Object(body));
        spinner.finish_and_clear();
        answer
    }

    fn offline(&self, data: &Path, old: Chosen, new: Chosen) -> Result<Json, Failure> {
        let collections = self.collections.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>();
        let collections = collections.map_err(|error| Failure::Usage(format!("--collection {error}")))?;
        if self.samples > limits::DIFF_SAMPLES || self.purposes.len() > limits::DIFF_PURPOSES {
            return Err(Failure::Usage("too many samples or purposes".into()));
        }
        let comparison = Comparison {
            old,
            new,
            collections: (!collections.is_empty()).then_some(collections),
            callers: (!self.callers.is_empty()).then(|| self.callers.clone()),
            purposes: self.purposes.clone(),
            days: self.days,
            samples: self.samples,
        };
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let operator = engine.operator();
        let right = Right {
            policies: engine.operator_grant(&operator),
            explain: engine.operator_grant(&operator),
            audit: self.days.map(|_| engine.operator_grant(&operator)),
        };
        let bar = progress::counter("comparing", Some(1));
        let difference = engine.diff(&right, &comparison, &|step, all| {
            bar.set_length(all);
            bar.set_position(step);
        });
        bar.finish_and_clear();
        engine.close();
        serde_json::to_value(difference.map_err(refused::words)?).map_err(Failure::from)
    }
}

/// `None` stands for the bundle in force.
fn side(which: &Chosen) -> Option<Json> {
    match which {
        Chosen::InForce => None,
        Chosen::Version(version) => Some(json!({ "version": version })),
        Chosen::Sent(source) => Some(json!({ "bundle": super::sent(source) })),
    }
}

fn tell(answer: &Json, by_caller: bool) {
    println!("{}", heading(answer));
    for (side, when) in [("old", "before"), ("new", "after")] {
        let misfits = answer.pointer(&format!("/{side}/misfits")).and_then(Json::as_object);
        for (what, count) in misfits.into_iter().flatten() {
            println!("does not fit the schema {when}, so it is denied or counts as not stored: {what}: {count}");
        }
    }
    let roles: Vec<&Json> = list(answer, "roles").collect();
    if roles.is_empty() {
        println!("No caller would see a record more or less.");
    } else {
        println!("{}", roles_table(answer, &roles));
    }
    more(answer, "roles_omitted", "rows");
    for row in list(answer, "asking") {
        let who = format!("{} for {} in {}", word(row, "role"), purpose(row), word(row, "collection"));
        println!("who may search at all: {who}: {} more, {} fewer", number(row, "gained"), number(row, "lost"));
    }
    if by_caller {
        println!("{}", callers_table(answer));
        more(answer, "callers_omitted", "rows of callers");
    }
    if let Some(past) = answer.get("past") {
        tell_past(past);
    }
    if answer.get("changed_meanwhile").and_then(Json::as_bool) == Some(true) {
        println!("The store changed meanwhile: figures may be of more than one moment.");
    }
}

fn heading(answer: &Json) -> String {
    let name = |side: &str| match answer.pointer(&format!("/{side}/version")).and_then(Json::as_u64) {
        Some(version) => format!("version {version}"),
        None => {
            let digest = answer.pointer(&format!("/{side}/digest")).and_then(Json::as_str).unwrap_or_default();
            format!("the bundle {}", digest.get(..12).unwrap_or_default())
        }
    };
    let over = answer.get("over").unwrap_or(&Json::Null);
    let purposes: Vec<String> = list(over, "purposes_asked")
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .chain(list(over, "purposes_from_audit").filter_map(Json::as_str).map(|p| format!("{p} (from the audit log)")))
        .collect();
    format!(
        "{} -> {}: {} callers, {} records; purposes: {}",
        name("old"),
        name("new"),
        number(over, "callers"),
        number(over, "records"),
        if purposes.is_empty() { "none".to_owned() } else { purposes.join(", ") },
    )
}

fn roles_table(answer: &Json, roles: &[&Json]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["role", "purpose", "action", "callers", "gained", "lost"]);
    for row in roles {
        let callers = format!("{} of {}", number(row, "changed"), number(row, "callers"));
        table.add_row([
            word(row, "role"),
            &purpose(row),
            &actions(row),
            &callers,
            &figures(row, "gained"),
            &figures(row, "lost"),
        ]);
    }
    for row in list(answer, "totals") {
        let callers = number(row, "callers").to_string();
        table.add_row(["all together", "", &actions(row), &callers, &figures(row, "gained"), &figures(row, "lost")]);
    }
    table
}

fn callers_table(answer: &Json) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["caller", "purpose", "action", "sees", "gained", "lost", "such as"]);
    for row in list(answer, "callers") {
        let who = row.get("caller").unwrap_or(&Json::Null);
        let sees = format!("{} -> {}", number(row, "before"), number(row, "after"));
        let sample = [("gained", "+"), ("lost", "-")].into_iter().flat_map(|(part, sign)| {
            let ids = row.get(part).into_iter().flat_map(|figures| list(figures, "sample")).filter_map(Json::as_str);
            ids.map(move |id| format!("{sign}{id}"))
        });
        let sample = sample.collect::<Vec<_>>().join(" ");
        let who = format!("{}::\"{}\"", word(who, "type"), word(who, "id"));
        table.add_row([who, purpose(row), actions(row), sees, figures(row, "gained"), figures(row, "lost"), sample]);
    }
    table
}

fn tell_past(past: &Json) {
    println!(
        "The last {} days: {} answers with {} records, decided again",
        number(past, "days"),
        number(past, "retrievals"),
        number(past, "returned")
    );
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["records in answers", ""]);
    for (name, words) in [
        ("still", "would be returned as before"),
        ("no_longer", "would be returned no longer"),
        ("again", "would be returned by the new policies alone"),
        ("already_not", "would be returned by neither: other data have changed since"),
        ("gone", "are no longer stored, or not named in the log"),
    ] {
        table.add_row([number(past, name).to_string(), words.to_owned()]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["no longer to", "answers", "records", "such as"]);
    for row in list(past, "callers") {
        let who = row.get("caller").unwrap_or(&Json::Null);
        let who = format!("{}::\"{}\"", word(who, "type"), word(who, "id"));
        let ids = row.get("no_longer").into_iter().flat_map(|f| list(f, "sample")).filter_map(Json::as_str);
        let ids: Vec<_> = ids.collect();
        table.add_row([who, number(row, "retrievals").to_string(), figures(row, "no_longer"), ids.join(" ")]);
    }
    if list(past, "callers").next().is_some() {
        println!("{table}");
    }
    more(past, "callers_omitted", "callers");
    for (name, words) in [
        ("refused", "searches would be refused as a whole"),
        ("answered", "searches were refused then and would be answered"),
        ("entries_omitted", "older entries of these days were not looked at"),
    ] {
        if number(past, name) > 0 {
            println!("{} {words}", number(past, name));
        }
    }
    println!("Not to be said: {}", word(past, "unsaid"));
}

fn more(json: &Json, name: &str, what: &str) {
    if number(json, name) > 0 {
        println!("and {} more {what}", number(json, name));
    }
}

fn figures(row: &Json, part: &str) -> String {
    let Some(figures) = row.get(part) else { return String::new() };
    match (number(figures, "records"), number(figures, "patients")) {
        (0, _) => "-".to_owned(),
        (records, 0) => records.to_string(),
        (records, 1) => format!("{records} of 1 patient"),
        (records, patients) => format!("{records} of {patients} patients"),
    }
}

fn purpose(row: &Json) -> String {
    row.get("purpose").and_then(Json::as_str).unwrap_or("-").to_owned()
}

fn actions(row: &Json) -> String {
    list(row, "actions").filter_map(Json::as_str).collect::<Vec<_>>().join(", ")
}

fn word<'a>(json: &'a Json, name: &str) -> &'a str {
    json.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn number(json: &Json, name: &str) -> u64 {
    json.get(name).and_then(Json::as_u64).unwrap_or(0)
}

fn list<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    json.get(name).and_then(Json::as_array).into_iter().flatten()
}
