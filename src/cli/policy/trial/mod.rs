//! `policy test`: a bundle held against cases kept as data, without a store. Exit 3 names those that are decided otherwise.

mod junit;
mod matrix;
mod page;
mod world;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::json;

use self::{page::Page, world::World};
use super::source;
use crate::{
    cli::{Failure, Outcome, print_json},
    policy::Bundle,
};

/// What is wrong with the cases themselves, most that are told at once.
const FAULTS_TOLD: usize = 20;

#[derive(Args)]
pub(in crate::cli) struct Test {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Files of cases, or directories of them
    #[arg(long, value_name = "PATH", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// Golden matrix to hold the bundle against; `world.json` beside it says what is in it
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    /// Write the matrix anew instead, for people to review as a diff
    #[arg(long, requires = "matrix")]
    write: bool,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One case, held.
pub(super) struct Held {
    page: String,
    name: String,
    expected: String,
    got: String,
    /// The policies that decide.
    deciding: Vec<String>,
    passed: bool,
}

impl Test {
    pub(super) fn run(self) -> Outcome {
        if self.cases.is_empty() && self.matrix.is_none() {
            return Err(Failure::Usage("name cases with --cases, or a matrix with --matrix".into()));
        }
        let bundle = compiled(&self.bundle)?;
        let mut held = cases(&bundle, &self.cases)?;
        if let Some(path) = &self.matrix {
            held.extend(self.matrix(&bundle, path)?);
        }
        if let Some(path) = &self.junit {
            fs::write(path, junit::document(&held)).map_err(|e| unwritable(path, &e))?;
        }
        let failed: Vec<&Held> = held.iter().filter(|held| !held.passed).collect();
        if self.json {
            print_json(&json!({
                "digest": hex::encode(bundle.digest()),
                "cases": held.len(),
                "failed": failed.len(),
                "failures": failed.iter().map(|f| json!({
                    "page": f.page, "case": f.name, "expected": f.expected, "got": f.got, "deciding": f.deciding,
                })).collect::<Vec<_>>(),
            }));
        } else {
            tell(&held, &failed);
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure::Found) }
    }

    fn matrix(&self, bundle: &Bundle, path: &Path) -> Result<Vec<Held>, Failure> {
        let found = matrix::of(bundle, &beside(path))?;
        let golden = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(_) if self.write => None,
            Err(error) => return Err(unreadable(path, &error)),
        };
        if self.write {
            let text = matrix::written(&found, golden.as_deref());
            fs::write(path, text).map_err(|e| unwritable(path, &e))?;
            eprintln!("{} is written; have its diff reviewed line by line", path.display());
            return Ok(vec![]);
        }
        Ok(matrix::held(&name(path), &golden.unwrap_or_default(), &found))
    }
}

/// The world file beside a page or matrix.
fn beside(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join("world.json")
}

fn compiled(dir: &Path) -> Result<Bundle, Failure> {
    Bundle::compile(&source::Folder::open(dir, "")?.source).map_err(|faults| {
        let words: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.code, fault.message)).collect();
        Failure::Failed(format!(
            "{} does not compile (`wardkeep policy check` says more)\n{}",
            dir.display(),
            words.join("\n")
        ))
    })
}

/// Every case of these files and directories.
fn cases(bundle: &Bundle, paths: &[PathBuf]) -> Result<Vec<Held>, Failure> {
    let (mut pages, mut faults) = (Vec::new(), Vec::new());
    for path in files(paths)? {
        match Page::read(&path) {
            Ok(page) => pages.push(page),
            Err(more) => faults.extend(more),
        }
    }
    let mut worlds: BTreeMap<(PathBuf, String), World> = BTreeMap::new();
    let mut held = Vec::new();
    for page in pages {
        let key = (beside(&page.path), page.world.clone());
        if !worlds.contains_key(&key) {
            worlds.insert(key.clone(), World::read(bundle, &key.0, &key.1)?);
        }
        let Some(world) = worlds.get(&key) else { continue };
        match page.hold(bundle, world) {
            Ok(more) => held.extend(more),
            Err(more) => faults.extend(more),
        }
    }
    match faults.is_empty() {
        true => Ok(held),
        false => Err(faulty(&faults)),
    }
}

fn faulty(faults: &[String]) -> Failure {
    let more = faults.len().saturating_sub(FAULTS_TOLD);
    let mut told: Vec<String> = faults.iter().take(FAULTS_TOLD).cloned().collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    Failure::Usage(format!("the cases are malformed\n  {}", told.join("\n  ")))
}

/// Files as they are named, and of directories every `*.json` but `world.json`.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries =
            fs::read_dir(path).and_then(|all| all.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>());
        let mut pages = entries.map_err(|e| unreadable(path, &e))?;
        pages.retain(|p| p.extension().is_some_and(|e| e == "json") && p.file_name().is_none_or(|n| n != "world.json"));
        pages.sort();
        found.extend(pages);
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {error}", path.display()))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}

/// A file's own name.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn tell(held: &[Held], failed: &[&Held]) {
    if !failed.is_empty() {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["case", "expected", "got", "deciding policies"]);
        for one in failed {
            let case = format!("{}: {}", one.page, one.name);
            table.add_row([case, one.expected.clone(), one.got.clone(), one.deciding.join(", ")]);
        }
        println!("{table}");
    }
    let passed = held.len() - failed.len();
    println!("{} of {} as stated{}", passed, held.len(), if failed.is_empty() { "" } else { "; the others are above" });
}
