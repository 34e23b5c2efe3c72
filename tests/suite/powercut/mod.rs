//! Power cuts without a cable: a library preloaded into the real binary keeps a journal of what was written since the last sync, and
//! whatever the machine would have lost is undone afterwards. And a file system of its own, for root, that is shut down for real.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use super::plain::{Dice, Process, command, files};

/// What a disk writes whole.
const SECTOR: usize = 512;

/// A server's disk: what was not synced can be lost, and writes and syncs can fail.
pub struct Shim {
    journals: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Shim {
    pub fn new() -> Self {
        Self { journals: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// fdatasync of files whose path contains `part` promises nothing.
    pub fn deaf_to(part: &str) -> Self {
        Self { variables: vec![("POWERCUT_DEAF", part.to_owned())], ..Self::new() }
    }

    /// `what` happens to the `nth` write (or sync); see `shim.c`.
    pub fn failing(what: &str, nth: u64) -> Self {
        Self { variables: vec![("POWERCUT_FAULT", format!("{what}:{nth}"))], ..Self::new() }
    }

    /// A server on this disk, or why it did not start.
    pub fn serve(&self, dir: &Path) -> Result<Process, String> {
        let mut serve = command(&["serve"]);
        serve.env("LD_PRELOAD", library()).env("POWERCUT_DATA", dir).env("POWERCUT_JOURNAL", self.journals.path());
        serve.envs(self.variables.iter().cloned());
        Process::start(serve, dir)
    }

    /// The power goes. Half of the time all that was not synced is lost; else any of its sectors may have reached the disk.
    pub fn cut(&self, dir: &Path, dice: &mut Dice) -> Lost {
        let lost = if dice.below(2) == 0 { Lost::All } else { Lost::Some };
        for file in files(dir) {
            let journal = self.journals.path().join(fs::metadata(&file).unwrap().ino().to_string());
            let Ok(bytes) = fs::read(&journal) else { continue };
            let records = records(&bytes);
            let file = File::options().read(true).write(true).open(&file).unwrap();
            records.iter().rev().for_each(|record| record.undo(&file));
            if lost == Lost::Some {
                records.iter().for_each(|record| record.redo_some(&file, dice));
            }
        }
        for journal in files(self.journals.path()) {
            fs::remove_file(journal).unwrap();
        }
        lost
    }
}

/// How much of what was not synced a power cut took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    All,
    Some,
}

enum Record<'a> {
    Write { at: u64, length_before: u64, old: &'a [u8], new: &'a [u8] },
    Length { bytes: u64, length_before: u64, old: &'a [u8] },
}

/// The records of a journal; one that was being written when the process ended was of a write that never began.
fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<64>() {
        let number = |n: usize| u64::from_le_bytes(head[n * 8..n * 8 + 8].try_into().unwrap());
        let (old_bytes, new_bytes) = (number(3) as usize, number(4) as usize);
        let Some((old, rest)) = rest.split_at_checked(old_bytes) else { break };
        let Some((new, rest)) = rest.split_at_checked(new_bytes) else { break };
        all.push(match number(0) {
            1 => Record::Write { at: number(1), length_before: number(2), old, new },
            2 => Record::Length { bytes: number(1), length_before: number(2), old },
            other => panic!("a record of kind {other}"),
        });
        bytes = rest;
    }
    all
}

impl Record<'_> {
    fn undo(&self, file: &File) {
        let (Self::Write { at, length_before, old, .. } | Self::Length { bytes: at, length_before, old }) = self;
        file.set_len(*length_before).unwrap();
        file.write_all_at(old, *at).unwrap();
    }

    fn redo_some(&self, file: &File, dice: &mut Dice) {
        match self {
            Self::Length { bytes, .. } if dice.below(2) == 0 => file.set_len(*bytes).unwrap(),
            Self::Length { .. } => {}
            Self::Write { at, new, .. } => {
                let mut done = 0;
                while done < new.len() {
                    let here = *at as usize + done;
                    let end = new.len().min(done + SECTOR - here % SECTOR);
                    if dice.below(2) == 0 {
                        file.write_all_at(&new[done..end], here as u64).unwrap();
                    }
                    done = end;
                }
            }
        }
    }
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("powercut-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/powercut/shim.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", source, "-lpthread", "-o"]).arg(&library);
        assert!(compile.status().unwrap().success(), "the shim must compile");
        library
    })
}

/// An ext4 file system in a file, mounted for this test alone.
pub struct LoopDevice {
    home: TempDir,
}

impl LoopDevice {
    pub fn mount() -> Self {
        let device = Self { home: TempDir::new().unwrap() };
        fs::create_dir(device.path()).unwrap();
        File::create(device.image()).unwrap().set_len(1 << 30).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(device.image()));
        device.mount_again();
        device
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    /// Stops the process where it is, shuts the file system down without flushing its journal, and kills the process.
    pub fn shut_down(&self, process: &mut Process) {
        run(Command::new("kill").args(["-STOP", &process.id().to_string()]));
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH
        let shut = "import fcntl, os, struct, sys\n\
                    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", shut]).arg(self.path()));
        process.kill();
    }

    pub fn remount(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount_again();
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    fn mount_again(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()));
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
