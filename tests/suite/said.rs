//! What servers under test say, kept for `tests/heard`, which looks for what tests plant in all of it. Only where `WARDKEEP_SAID` names a
//! directory, as `tests/run` does: `heard` in it holds what was said, `planted` what must not be among it.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
    process::{Command, Output},
    sync::{
        LazyLock, Mutex, Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

static ROOM: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("WARDKEEP_SAID").map(PathBuf::from));

/// What servers in this process log from here on, at every level.
pub fn hear_this_process() {
    static ONCE: Once = Once::new();
    let Some(room) = &*ROOM else { return };
    ONCE.call_once(|| {
        let file = created(&room.join("heard").join(format!("suite-{}.log", std::process::id())));
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(Mutex::new(file))
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// Where a server in a process of its own says what it says beside its address.
pub struct Hearing(PathBuf);

impl Hearing {
    /// Has a command log at every level into a file of its own; none where nobody listens.
    pub fn of(command: &mut Command) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("server-{}-{}.log", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = ROOM.as_ref()?.join("heard").join(name);
        command.env("WARDKEEP_LOG", "trace").stderr(created(&path));
        Some(Self(path))
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

/// What a verb said beside its answer.
pub fn heard(output: &Output) {
    static FILE: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let name = format!("verbs-{}.log", std::process::id());
        ROOM.as_ref().map(|room| Mutex::new(created(&room.join("heard").join(name))))
    });
    if let Some(file) = &*FILE {
        file.lock().unwrap().write_all(&output.stderr).unwrap();
    }
}

/// Remembers an id that must not be said. One without a letter and a figure could be any word, or any number.
pub fn planted(id: &str) {
    static PLANTED: LazyLock<Option<Mutex<(HashSet<String>, File)>>> = LazyLock::new(|| {
        let name = format!("ids-{}", std::process::id());
        ROOM.as_ref().map(|room| Mutex::new((HashSet::new(), created(&room.join("planted").join(name)))))
    });
    let tells = |of: fn(&char) -> bool| id.chars().any(|c| of(&c));
    if let Some(planted) = &*PLANTED
        && id.len() >= 4
        && tells(char::is_ascii_alphabetic)
        && tells(char::is_ascii_digit)
    {
        let (known, file) = &mut *planted.lock().unwrap();
        if known.insert(id.to_owned()) {
            writeln!(file, "{id}").unwrap();
        }
    }
}

fn created(path: &std::path::Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
