//! `leaktest`: attacks a store and prints the verdict. Without `--url` or `--adapter`, throw-away servers of this very binary.

use std::{fs, path::PathBuf};

use clap::Args;
use serde_json::Value as Json;

use super::{Failure, Outcome, policy::source::Folder, progress};
use crate::leaktest::{
    Effort, Plan, Run, report, run,
    target::{Child, Launch, OverHttp, Target, Trouble},
    world::{Own, Rules, World, hospital, own, ward},
};

/// Components of a vector of a generated hospital.
const DIMENSION: usize = 64;

#[derive(Args)]
pub(super) struct Leaktest {
    /// A running server to attack, with --policies, --callers and --records; without it, throw-away servers are started
    #[arg(long, value_name = "URL", requires = "callers")]
    url: Option<String>,
    /// A program that speaks for another store (examples/leaktest/README.md)
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    adapter: Option<String>,
    /// A generated hospital of so many records instead of the sample ward
    #[arg(long, value_name = "RECORDS", conflicts_with = "url")]
    hospital: Option<usize>,
    /// Collections in fast isolation, to measure what it leaves
    #[arg(long, conflicts_with_all = ["url", "adapter"])]
    fast: bool,
    #[command(flatten)]
    own: OwnStore,
    /// Some two minutes; the default
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Long enough for small rates to show
    #[arg(long)]
    full: bool,
    /// What all choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these probes, by name
    #[arg(long, value_name = "PROBE", value_delimiter = ',')]
    only: Vec<String>,
    /// Starts of each server in the timing probe
    #[arg(long, value_name = "N")]
    restarts: Option<usize>,
    /// Write a report for people
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a report for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// A store that is somebody's own.
#[derive(Args)]
struct OwnStore {
    /// Its collection
    #[arg(long, default_value = "ward")]
    collection: String,
    /// The folder of its policies
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Who asks: a JSON list of {caller: {type, id}, role, purpose, key or key_env}
    #[arg(long, value_name = "FILE", requires = "records")]
    callers: Option<PathBuf>,
    /// Its records, as they were sent, one a line
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Its entities, a JSON list
    #[arg(long, value_name = "FILE")]
    entities: Option<PathBuf>,
    /// Who may see what, instead of policies: JSON, caller's id -> ids of records
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    /// The attribute that says whose a record is
    #[arg(long, value_name = "NAME", default_value = "patient")]
    subject: String,
}

impl Leaktest {
    pub(super) fn run(self) -> Outcome {
        self.known_probes()?;
        let outcome = match &self.url {
            Some(url) => self.live(url)?,
            None => self.made()?,
        };
        self.tell(&outcome)?;
        if outcome.violations() > 0 {
            return Err(Failure::Found);
        }
        match outcome.broken().next() {
            Some(broken) => Err(Failure::Failed(format!("{} could not be finished", broken.probe))),
            None => Ok(()),
        }
    }

    fn known_probes(&self) -> Result<(), Failure> {
        let names: Vec<&str> = crate::leaktest::PROBES.iter().map(|p| p.name).collect();
        match self.only.iter().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(Failure::Usage(format!("no probe is called `{name}`; there are {}", names.join(", ")))),
            None => Ok(()),
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            effort: if self.full { Effort::Full } else { Effort::Quick },
            only: self.only.clone(),
            restarts: self.restarts,
            live: self.url.is_some(),
            command: self.command(),
        }
    }

    /// What repeats this run.
    fn command(&self) -> String {
        let mut words = vec!["wardkeep leaktest".to_owned()];
        let mut add = |name: &str, value: Option<String>| words.extend(value.map(|v| format!("--{name} {v}")));
        add("url", self.url.clone());
        add("adapter", self.adapter.as_ref().map(|a| format!("'{a}'")));
        add("hospital", self.hospital.map(|n| n.to_string()));
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
        add("collection", self.url.is_some().then(|| self.own.collection.clone()));
        for (name, file) in [
            ("policies", &self.own.policies),
            ("callers", &self.own.callers),
            ("records", &self.own.records),
            ("entities", &self.own.entities),
            ("matrix", &self.own.matrix),
        ] {
            add(name, path(file));
        }
        add("restarts", self.restarts.map(|n| n.to_string()));
        add("seed", Some(self.seed.to_string()));
        words.extend(self.fast.then(|| "--fast".to_owned()));
        words.push(if self.full { "--full" } else { "--quick" }.to_owned());
        words.join(" ")
    }

    /// Against stores that are made for it.
    fn made(&self) -> Result<Run, Failure> {
        let world = match self.hospital {
            Some(records) => hospital(records, DIMENSION, self.seed),
            None => ward()?,
        };
        let launch = Launch { binary: std::env::current_exe()?, fast: self.fast };
        let open = || -> Result<Box<dyn Target>, Trouble> {
            Ok(match &self.adapter {
                Some(command) => Box::new(Child::start(command)?),
                None => Box::new(launch.open()?),
            })
        };
        self.watched(&world, &open)
    }

    /// Against a store that is in use.
    fn live(&self, url: &str) -> Result<Run, Failure> {
        let given = self.own.given()?;
        let (world, keys) = own(&given, key)?;
        let admin = std::env::var("WARDKEEP_API_KEY").ok();
        let open = || -> Result<Box<dyn Target>, Trouble> {
            let target = OverHttp::at(url, &world.collection, admin.as_deref());
            Ok(Box::new(keys.iter().fold(target, |target, (caller, key)| target.with_key(caller, key))))
        };
        self.watched(&world, &open)
    }

    fn watched(&self, world: &World, open: &dyn Fn() -> Result<Box<dyn Target>, Trouble>) -> Result<Run, Failure> {
        let bar = progress::counter("leakage test", None);
        let mut tell = |probe: &'static str, asked: u64| {
            bar.set_message(probe);
            bar.set_position(asked);
        };
        let done = run(&self.plan(), world, open, &mut tell);
        bar.finish_and_clear();
        Ok(done?)
    }

    fn tell(&self, run: &Run) -> Outcome {
        print!("{}", report::terminal(run));
        let json = || serde_json::to_string_pretty(&report::json(run)).unwrap_or_default();
        let files: [(&Option<PathBuf>, &dyn Fn() -> String); 3] =
            [(&self.html, &|| report::html(run)), (&self.json, &json), (&self.junit, &|| report::junit(run))];
        for (path, text) in files {
            if let Some(path) = path {
                fs::write(path, text())
                    .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", path.display())))?;
            }
        }
        Ok(())
    }
}

impl OwnStore {
    fn given(&self) -> Result<Own, Failure> {
        let text = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|e| Failure::Failed(format!("cannot read {}: {e}", path.display())))
        };
        let rules = match &self.policies {
            Some(dir) => {
                let source = Folder::open(dir, "")?.source;
                let links =
                    source.links.iter().map(|l| serde_json::json!({"template": l.template, "values": l.values}));
                Some(Rules { links: Json::Array(links.collect()), schema: source.schema, policies: source.policies })
            }
            None => None,
        };
        Ok(Own {
            collection: self.collection.clone(),
            rules,
            entities: self.entities.as_ref().map(text).transpose()?,
            records: self.records.as_ref().map(text).transpose()?.unwrap_or_default(),
            callers: self.callers.as_ref().map(text).transpose()?.unwrap_or_else(|| "[]".to_owned()),
            matrix: self.matrix.as_ref().map(text).transpose()?,
            subject: self.subject.clone(),
        })
    }
}

/// The key of an entry of the callers' file: in it, or in a variable of the environment that it names.
fn key(entry: &Json) -> Result<Option<String>, Trouble> {
    let word = |name| entry.get(name).and_then(Json::as_str);
    match (word("key"), word("key_env")) {
        (Some(key), _) => Ok(Some(key.to_owned())),
        (None, Some(name)) => {
            std::env::var(name).map(Some).map_err(|_| Trouble::Broken(format!("the environment has no {name}")))
        }
        (None, None) => Ok(None),
    }
}
