//! Throw-away servers of a binary of this house, on folders that are removed again; what a killed run left behind is removed by the next.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child as Process, Command, Stdio},
};

use rustix::process::Pid;
use serde_json::Value as Json;

use super::{OverHttp, Trouble};

const PASSPHRASE: &str = "a throw-away passphrase of the leakage test";

/// How to start a throw-away server.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary `wardkeep`.
    pub binary: PathBuf,
    /// Whether collections walk a graph.
    pub fast: bool,
    /// What it is told as `server.answers_every_ms`.
    pub answers_every_ms: u64,
}

impl Launch {
    /// A server on an empty store, removed when it is dropped.
    pub fn open(&self) -> Result<OverHttp, Trouble> {
        let (mut house, key) = House::build(self)?;
        let base = house.start()?;
        Ok(OverHttp::at(&base, "ward", Some(&key)).in_house(house, if self.fast { "fast" } else { "strict" }))
    }
}

/// The process of a throw-away server, and where its things lie.
pub(super) struct House {
    binary: PathBuf,
    dir: PathBuf,
    pub(super) version: String,
    pub(super) answers_every_ms: u64,
    process: Option<Process>,
}

impl House {
    fn build(launch: &Launch) -> Result<(Self, String), Trouble> {
        let broken = |what: &str, e: &dyn std::fmt::Display| Trouble::Broken(format!("{what}: {e}"));
        let mut name = [0; 8];
        crate::crypto::Entropy::fill(&crate::crypto::OsEntropy, &mut name).map_err(|e| broken("no chance", &e))?;
        sweep(&std::env::temp_dir());
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}", hex::encode(name)));
        fs::create_dir(&dir).map_err(|e| broken("no room for a store", &e))?;
        fs::write(dir.join(OWNER), std::process::id().to_string()).map_err(|e| broken("no room for a store", &e))?;
        let Launch { binary, answers_every_ms, .. } = launch.clone();
        let mut house = Self { binary, dir, version: String::new(), answers_every_ms, process: None };
        fs::create_dir(house.backups()).map_err(|e| broken("no room for backups", &e))?;
        fs::write(house.settings(), settings(answers_every_ms)).map_err(|e| broken("no room for settings", &e))?;
        let version = house.command(&["--version"]).output().map_err(|e| broken("cannot start the server", &e))?;
        String::from_utf8_lossy(&version.stdout).trim().clone_into(&mut house.version);
        let init = house.command(&["init", "--json", "--data"]).arg(house.data()).output();
        let init = init.map_err(|e| broken("cannot make a store", &e))?;
        let answer: Json = serde_json::from_slice(&init.stdout).unwrap_or_default();
        match answer.get("api_key").and_then(Json::as_str) {
            Some(key) => Ok((house, key.to_owned())),
            None => Err(broken("cannot make a store", &String::from_utf8_lossy(&init.stderr))),
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn backups(&self) -> PathBuf {
        self.dir.join("backups")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("wardkeep.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("WARDKEEP_PASSPHRASE", PASSPHRASE).env("WARDKEEP_LOG", "info");
        command.env("WARDKEEP_BACKUP_DIRECTORY", self.backups()).env("WARDKEEP_CONFIG", self.settings());
        command.env_remove("CREDENTIALS_DIRECTORY").env_remove("WARDKEEP_LISTEN").stdin(Stdio::null());
        command.env_remove("WARDKEEP_ANSWERS_EVERY_MS");
        command
    }

    /// Starts it on a free port; answers where it listens.
    pub(super) fn start(&mut self) -> Result<String, Trouble> {
        let broken = |e: std::io::Error| Trouble::Broken(format!("cannot start the server: {e}"));
        let log = File::options().create(true).append(true).open(self.log()).map_err(broken)?;
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(self.data()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().map_err(broken)?;
        fs::write(self.dir.join(SERVER), process.id().to_string()).map_err(broken)?;
        let output = process.stdout.take().ok_or_else(|| Trouble::Broken("the server says nothing".into()))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(broken)?;
        self.process = Some(process);
        match line.trim().strip_prefix("wardkeep listening on ") {
            Some(base) => Ok(base.to_owned()),
            None => Err(Trouble::Broken("the server did not come up; its log says why".into())),
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = process.wait();
        }
    }
}

/// What a server is told by its file of settings: a server that does not know it is not started, rather than measured as if it did.
fn settings(answers_every_ms: u64) -> String {
    match answers_every_ms {
        0 => String::new(),
        ms => format!("[server]\nanswers_every_ms = {ms}\n"),
    }
}

/// Folders of throw-away stores.
const PREFIX: &str = "wardkeep-leaktest-";
/// In such a folder: the process that made it, and that of its server.
const OWNER: &str = "owner";
const SERVER: &str = "server";

/// Ends and removes what runs that were killed have left in `temporary`: stores of this user whose maker is gone.
fn sweep(temporary: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let ours = |entry: &fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::geteuid().as_raw())
    };
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten().filter(ours) {
        let dir = entry.path();
        let Some(owner) = process_in(&dir.join(OWNER)) else { continue };
        if rustix::process::test_kill_process(owner).is_ok() {
            continue;
        }
        if let Some(server) = process_in(&dir.join(SERVER)).filter(|server| serves(*server, &dir)) {
            let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
        }
        let _ = fs::remove_dir_all(&dir);
    }
}

fn process_in(file: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

/// Whether this process was started on that folder; where the system does not say, it is left alone.
fn serves(process: Pid, dir: &Path) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(&*dir.to_string_lossy())
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_behind_goes_and_what_runs_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let made = |name: &str, owner: &str| {
            let dir = temporary.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(OWNER), owner).unwrap();
            dir
        };
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let left = made("wardkeep-leaktest-0", &gone.id().to_string());
        // a server whose maker is gone, and a process that only has the number of one
        let mut server =
            Command::new("sh").arg("-c").arg("read line").arg(&left).stdin(Stdio::piped()).spawn().unwrap();
        fs::write(left.join(SERVER), server.id().to_string()).unwrap();
        let held = made("wardkeep-leaktest-1", &std::process::id().to_string());
        let other = made("something-else", &gone.id().to_string());
        let strange = made("wardkeep-leaktest-2", &gone.id().to_string());
        fs::write(strange.join(SERVER), std::process::id().to_string()).unwrap();
        sweep(temporary.path());
        assert!(!left.exists() && !strange.exists() && held.exists() && other.exists());
        assert!(!server.wait().unwrap().success());
    }
}
