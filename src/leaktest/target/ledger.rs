//! What a run has planted in a store that is in use, kept in a file from before it is there until it is gone: whoever was killed can clean up later.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Trouble;
use crate::leaktest::limits;

/// The file, and what it says.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    held: Planted,
}

/// What is in a store and must go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// Where.
    pub url: String,
    /// In which collection.
    pub collection: String,
    /// Ids of records.
    pub records: Vec<String>,
    /// Ids of keys; never a key.
    pub keys: Vec<String>,
}

impl Planted {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.keys.is_empty()
    }
}

impl Ledger {
    /// The ledger of one collection of one server in `dir`, and what an earlier run left there.
    pub fn open(dir: &Path, url: &str, collection: &str) -> Result<Self, Trouble> {
        use sha2::Digest as _;
        let digest = hex::encode(sha2::Sha256::digest(format!("{url}\0{collection}")));
        let path = dir.join(format!("leaktest-{}.json", digest.get(..16).unwrap_or(&digest)));
        fs::create_dir_all(dir).map_err(|e| trouble(dir, &e))?;
        let held = Planted { url: url.to_owned(), collection: collection.to_owned(), ..Planted::default() };
        let held = read(&path)?.unwrap_or(held);
        Ok(Self { path, held })
    }

    /// What is there.
    pub fn planted(&self) -> &Planted {
        &self.held
    }

    /// Where it is written down.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes what is written down; durable before it returns.
    pub fn change(&mut self, change: impl FnOnce(&mut Planted)) -> Result<(), Trouble> {
        change(&mut self.held);
        let written = if self.held.is_empty() { removed(&self.path) } else { write(&self.path, &self.held) };
        written.map_err(|e| trouble(&self.path, &e))
    }
}

fn trouble(path: &Path, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::Broken(format!("{} (where is kept what was planted): {why}", path.display()))
}

fn read(path: &Path) -> Result<Option<Planted>, Trouble> {
    let file = match fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| trouble(path, &e))?,
    };
    let text = limits::read_whole(&path.display().to_string(), file, limits::PLANTED_BYTES)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| trouble(path, &e))
}

fn removed(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whole or not at all.
fn write(path: &Path, held: &Planted) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(serde_json::to_string_pretty(held)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planted_is_known_to_the_next_run_and_forgotten_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ledger::open(dir.path(), "http://a", "c").unwrap();
        open().change(|held| held.records.push("canary-1".into())).unwrap();
        assert_eq!(open().planted().records, ["canary-1"]);
        assert!(Ledger::open(dir.path(), "http://b", "c").unwrap().planted().is_empty());
        let mut ledger = open();
        ledger.change(|held| held.records.clear()).unwrap();
        assert!(!ledger.path().exists() && open().planted().is_empty());
    }

    #[test]
    fn a_ledger_that_does_not_read_stops_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = Ledger::open(dir.path(), "http://a", "c").unwrap().path().to_owned();
        fs::write(path, "{").unwrap();
        assert!(matches!(Ledger::open(dir.path(), "http://a", "c"), Err(Trouble::Broken(_))));
    }
}
