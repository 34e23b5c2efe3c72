//! `leaktest`: attacks a store and prints the verdict. Without `--url` or `--adapter`, throw-away servers of this very binary.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::{Failure, Outcome, policy::source::Folder, progress};
use crate::{
    leaktest::{
        Conclusion, Effort, Plan, Progress, Run, limits, report, run,
        target::{Child, Launch, Ledger, OverHttp, Target, Trouble},
        world::{Metric, Own, Rules, World, hospital, own, ward},
    },
    model::limits::ANSWERS_EVERY_MS,
};

/// Components of a vector of a generated hospital.
const DIMENSION: usize = 64;

#[derive(Args)]
pub(super) struct Leaktest {
    /// A running server to attack, with --policies, --callers and --records; without it, throw-away servers are started
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A program that speaks for another store (examples/leaktest/README.md)
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    adapter: Option<String>,
    /// A generated hospital of so many records instead of the sample ward
    #[arg(long, value_name = "RECORDS", conflicts_with = "url")]
    hospital: Option<usize>,
    /// The `wardkeep` whose throw-away servers are asked, instead of this very binary
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "adapter"])]
    server: Option<PathBuf>,
    /// Collections in fast isolation, to measure what it leaves
    #[arg(long, conflicts_with_all = ["url", "adapter"])]
    fast: bool,
    /// `server.answers_every_ms` of the throw-away servers, to measure what it hides
    #[arg(long, value_name = "MS", default_value_t = 0, conflicts_with_all = ["url", "adapter"])]
    #[arg(value_parser = clap::value_parser!(u64).range(..=ANSWERS_EVERY_MS))]
    answers_every_ms: u64,
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
    /// Questions that count, to each server at each start, in the timing probe [default: 150, and 300 with --full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::QUESTIONS_MAX))]
    questions: Option<u64>,
    /// Connections over which is asked at once, but for the timing probe [default: 16, and 4 with --url]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::CONNECTIONS_MAX as u64))]
    connections: Option<u64>,
    /// Patients that one caller may reach in an hour, where the store is set to bound it: more is a finding
    #[arg(long, value_name = "PATIENTS")]
    breadth: Option<u64>,
    /// Plant records in the store in use, and make keys that are missing, with the administrator's key in WARDKEEP_API_KEY; all is taken away again
    #[arg(long, requires = "url")]
    plant: bool,
    /// Take away what an interrupted run against --url left behind, and ask nothing
    #[arg(long, requires = "url")]
    clean: bool,
    /// Where is kept what was planted in a store in use, until it is gone
    #[arg(long, value_name = "DIR", requires = "url")]
    state: Option<PathBuf>,
    /// Write a report for people
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a report for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[arg(skip)]
    stop: Arc<AtomicBool>,
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
    /// Its metric: cosine, dot or euclidean
    #[arg(long, value_name = "METRIC", default_value = "cosine", value_parser = metric)]
    metric: Metric,
    /// The address from which the server sees this kit ask, where policies look at it [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<std::net::IpAddr>,
}

impl Leaktest {
    pub(super) fn run(self) -> Outcome {
        self.known_probes()?;
        self.complete()?;
        self.writable()?;
        if let Some(url) = self.url.as_ref().filter(|_| self.clean) {
            return self.clean(url);
        }
        self.stop_on_signals();
        let outcome = match &self.url {
            Some(url) => self.live(url)?,
            None => self.made()?,
        };
        let told = self.tell(&outcome);
        match (self.concluded(&outcome), told) {
            // a finding counts for more than a file that could not be written
            (Err(Failure::Found), Err(Failure::Failed(why))) => {
                eprintln!("error: {why}");
                Err(Failure::Found)
            }
            (concluded, told) => told.and(concluded),
        }
    }

    fn concluded(&self, run: &Run) -> Outcome {
        let why = |o: &crate::leaktest::Outcome| o.broken.clone().unwrap_or_default();
        match (run.conclusion(), run.broken().next()) {
            (Conclusion::Leak, _) => Err(Failure::Found),
            (_, _) if self.stop.load(Ordering::SeqCst) => {
                Err(Failure::Failed("interrupted; what was planted is taken away".into()))
            }
            (_, _) if run.left.is_some() => Err(Failure::Failed(format!(
                "what was planted could not all be taken away ({}): run it again with --clean",
                run.left.clone().unwrap_or_default()
            ))),
            (Conclusion::Broken, broken) => Err(Failure::Failed(
                broken.map(|o| format!("{} could not be finished: {}", o.probe, why(o))).unwrap_or_default(),
            )),
            (Conclusion::NotTested, _) => Err(Failure::Failed("nothing was tested".into())),
            (Conclusion::Gaps, _) => self.gaps(run),
            (Conclusion::Clean | Conclusion::Part, _) => Ok(()),
        }
    }

    /// What the target and the keys do not allow is left out and said so; what was asked for by name, or ran and saw nothing, was not done.
    fn gaps(&self, run: &Run) -> Outcome {
        let undone = |o: &&crate::leaktest::Outcome| o.trials > 0 || self.only.iter().any(|name| name == o.probe);
        let names: Vec<&str> = run.untested().filter(undone).map(|o| o.probe).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Failure::Failed(format!("not tested: {}; the report says why", names.join(", "))))
    }

    fn known_probes(&self) -> Result<(), Failure> {
        let names: Vec<&str> = crate::leaktest::PROBES.iter().map(|p| p.name).collect();
        match self.only.iter().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(Failure::Usage(format!("no probe is called `{name}`; there are {}", names.join(", ")))),
            None => Ok(()),
        }
    }

    /// Whether all is there that a store in use needs.
    fn complete(&self) -> Result<(), Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        match (&self.url, &self.own.callers) {
            (None, Some(_)) => usage("--callers is for a running server: name it with --url"),
            (Some(_), None) if !self.clean => usage(
                "a running server is asked by its callers: name them with --callers (examples/leaktest/README.md)",
            ),
            (Some(_), Some(_)) if self.own.policies.is_some() && self.own.entities.is_none() => {
                usage("policies look at people and things: name what the server holds of them with --entities")
            }
            (Some(_), Some(_)) if self.own.policies.is_none() && self.own.matrix.is_none() => usage(
                "who may see what is worked out from --policies and --entities, or is said by --matrix: name one of them",
            ),
            _ => Ok(()),
        }
    }

    /// Whether reports can be written where they are wanted: known before hours are spent.
    fn writable(&self) -> Result<(), Failure> {
        for path in [&self.html, &self.json, &self.junit].into_iter().flatten() {
            fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|e| Failure::Usage(format!("cannot write {}: {e}", path.display())))?;
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            effort: if self.full { Effort::Full } else { Effort::Quick },
            only: self.only.clone(),
            restarts: self.restarts,
            questions: self.questions.and_then(|n| usize::try_from(n).ok()),
            live: self.url.is_some(),
            command: self.command(),
            connections: self.connections.and_then(|n| usize::try_from(n).ok()).unwrap_or(match self.url {
                Some(_) => limits::CONNECTIONS_LIVE,
                None => limits::CONNECTIONS,
            }),
            breadth: self.breadth,
            stop: Arc::clone(&self.stop),
        }
    }

    /// What repeats this run.
    fn command(&self) -> String {
        let mut words = vec!["wardkeep leaktest".to_owned()];
        let mut add =
            |name: &str, value: Option<String>| words.extend(value.map(|v| format!("--{name} {}", quoted(&v))));
        add("url", self.url.as_deref().map(without_password));
        add("adapter", self.adapter.as_deref().map(without_values));
        add("server", self.server.as_ref().map(|p| p.display().to_string()));
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
        if self.url.is_some() {
            add("subject", Some(self.own.subject.clone()));
            add("metric", Some(self.own.metric.word().to_owned()));
            add("source-ip", self.own.source_ip.map(|ip| ip.to_string()));
        }
        add("answers-every-ms", (self.answers_every_ms > 0).then(|| self.answers_every_ms.to_string()));
        add("restarts", self.restarts.map(|n| n.to_string()));
        add("questions", self.questions.map(|n| n.to_string()));
        add("connections", self.connections.map(|n| n.to_string()));
        add("breadth", self.breadth.map(|n| n.to_string()));
        add("seed", Some(self.seed.to_string()));
        words.extend(self.fast.then(|| "--fast".to_owned()));
        words.extend(self.plant.then(|| "--plant".to_owned()));
        words.push(if self.full { "--full" } else { "--quick" }.to_owned());
        words.join(" ")
    }

    /// Against stores that are made for it.
    fn made(&self) -> Result<Run, Failure> {
        let world = match self.hospital {
            Some(records) => hospital(records, DIMENSION, self.seed),
            None => ward()?,
        };
        let binary = self.server.clone().map_or_else(std::env::current_exe, Ok)?;
        let launch = Launch { binary, fast: self.fast, answers_every_ms: self.answers_every_ms };
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
        let store = self.in_use(url)?;
        store.open().reached()?;
        store.clean()?;
        let mut target = keys.iter().fold(store.open(), |target, (caller, key)| target.with_key(caller, key));
        if let Err(why) = target.check(&world) {
            // keys that were made for the check
            target.leave()?;
            return Err(why.into());
        }
        self.watched(&world, &|| target.beside())
    }

    /// Takes away what an earlier run left behind, and does nothing else.
    fn clean(&self, url: &str) -> Outcome {
        let store = self.in_use(url)?;
        store.open().reached()?;
        if !store.clean()? {
            println!("nothing was left behind");
        }
        Ok(())
    }

    fn in_use(&self, url: &str) -> Result<InUse, Failure> {
        let dir = self.state.clone().or_else(state_dir);
        let dir = dir.ok_or_else(|| {
            Failure::Usage("neither HOME nor XDG_STATE_HOME is set: name a folder with --state".into())
        })?;
        let key = || std::env::var("WARDKEEP_API_KEY").ok();
        let admin = if self.plant || self.clean { key() } else { None };
        if self.plant && admin.is_none() {
            return Err(Failure::Usage("--plant needs an administrator's key in WARDKEEP_API_KEY".into()));
        }
        Ok(InUse {
            url: url.to_owned(),
            collection: self.own.collection.clone(),
            admin,
            ledger: Arc::new(Mutex::new(Ledger::open(&dir, url, &self.own.collection)?)),
        })
    }

    /// The first signal ends the run in order, with what was planted taken away; the second at once.
    fn stop_on_signals(&self) {
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
            runtime.block_on(async {
                super::serve::stop_signal().await;
                stop.store(true, Ordering::SeqCst);
                eprintln!("interrupted: taking away what was planted (once more: at once)");
                super::serve::stop_signal().await;
            });
            std::process::exit(1);
        });
    }

    fn watched(&self, world: &World, open: &dyn Fn() -> Result<Box<dyn Target>, Trouble>) -> Result<Run, Failure> {
        let bar = progress::parts("reading the world");
        let began = std::time::Instant::now();
        let mut tell = |progress: Progress| {
            bar.set_position((progress.done * progress::PARTS as f64) as u64);
            bar.set_message(format!(
                "{}: {} requests{}",
                progress.probe,
                progress.asked,
                left(began.elapsed(), progress.done)
            ));
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
            let unread = |e: &dyn std::fmt::Display| Failure::Failed(format!("cannot read {}: {e}", path.display()));
            let file = fs::File::open(path).map_err(|e| unread(&e))?;
            let bytes = limits::read_whole(&path.display().to_string(), file, limits::FILE_BYTES)?;
            String::from_utf8(bytes).map_err(|e| unread(&e))
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
            metric: self.metric,
            source_ip: self.source_ip.map(|ip| ip.to_string()),
        })
    }
}

fn metric(word: &str) -> Result<Metric, String> {
    let all = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
    all.into_iter().find(|metric| metric.word() == word).ok_or_else(|| "one of cosine, dot, euclidean".to_owned())
}

/// What is known of a store in use.
struct InUse {
    url: String,
    collection: String,
    admin: Option<String>,
    ledger: Arc<Mutex<Ledger>>,
}

impl InUse {
    fn open(&self) -> OverHttp {
        OverHttp::at(&self.url, &self.collection, self.admin.as_deref()).with_ledger(Arc::clone(&self.ledger))
    }

    /// Takes away what is in the ledger; false: there was nothing.
    fn clean(&self) -> Result<bool, Failure> {
        let (left, path) = {
            let ledger = self.ledger.lock();
            (ledger.planted().clone(), ledger.path().display().to_string())
        };
        if left.records.is_empty() && left.keys.is_empty() {
            return Ok(false);
        }
        let (records, keys) = self.open().clean().map_err(|why| {
            Failure::Failed(format!(
                "an earlier run left {} records and {} keys behind ({path}), which cannot be taken away: {why}",
                left.records.len(),
                left.keys.len()
            ))
        })?;
        println!("taken away, left behind by an earlier run: {records} records, {keys} keys");
        Ok(true)
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,=…".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// An address without the name and password in it: a command is printed in reports.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://…@{}", url.get(at + 1..).unwrap_or_default()),
        _ => url.to_owned(),
    }
}

/// A command without the values that it sets in its environment.
fn without_values(command: &str) -> String {
    let hidden = |word: &str| match word.split_once('=') {
        Some((name, _)) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            format!("{name}=…")
        }
        _ => word.to_owned(),
    };
    command.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

/// `$XDG_STATE_HOME/wardkeep`, or its place in the home folder.
fn state_dir() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty());
    Some(state.map(PathBuf::from).or_else(home)?.join("wardkeep"))
}

/// How long it will still take, as far as that can be said.
fn left(elapsed: std::time::Duration, done: f64) -> String {
    if done < 0.02 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() * (1.0 - done) / done;
    match seconds {
        ..90.0 => format!(", about {:.0} s left", seconds.max(1.0)),
        _ => format!(", about {:.0} min left", seconds / 60.0),
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
