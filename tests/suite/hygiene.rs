//! What the operating system keeps of a server's memory: no core file of one that crashes, and nothing on a swap disk where the limits allow.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    harness::Client,
    plain::{self, Process, bare_command, found},
};

/// A shell that sets limits and then becomes what is named after it.
fn under(limits: &str, room: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{limits} && exec \"$0\" \"$@\"")).current_dir(room);
    shell
}

/// Whether this machine lets a process have such limits.
fn may_have(limits: &str, room: &Path) -> bool {
    let has = under(limits, room).arg("true").stderr(Stdio::null()).status().unwrap().success();
    if !has {
        println!("not shown here: `{limits}` is not permitted");
    }
    has
}

/// A server on `dir` under such limits.
fn serve(limits: &str, room: &Path, dir: &Path) -> Process {
    let binary = bare_command(&[]).get_program().to_owned();
    let mut shell = under(limits, room);
    shell.arg(binary).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir);
    shell.env("WARDKEEP_PASSPHRASE", plain::PHRASE).stdout(Stdio::piped()).stderr(Stdio::null());
    Process::of(&mut shell)
}

/// A line of what the system says of a process.
fn told(process: &Process, file: &str, line: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", process.id())).unwrap();
    text.lines().find_map(|told| told.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {text}")).trim().to_owned()
}

#[test]
fn a_server_that_crashes_leaves_no_core_where_another_process_may_leave_one() {
    const LIMITS: &str = "ulimit -c unlimited";
    let home = TempDir::new().unwrap();
    let (room, dir) = (home.path().join("room"), home.path().join("data"));
    fs::create_dir(&room).unwrap();
    found(&dir);
    if !may_have(LIMITS, &room) {
        return;
    }
    let mut process = serve(LIMITS, &room, &dir);
    let limits = told(&process, "limits", "Max core file size");
    assert_eq!(limits.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    // a crash's own signal: SIGQUIT may be ignored by whatever started the tests, and the runtime takes a first SIGSEGV for itself
    process.signal(Signal::ABORT);
    let ended = process.wait();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
    assert_eq!(fs::read_dir(&room).unwrap().count(), 0);
    let control = under(LIMITS, &room).args(["sh", "-c", "kill -ABRT $$"]).status().unwrap();
    println!("the control, any other process, left a core: {}", control.core_dumped());
}

#[test]
fn memory_is_locked_where_that_has_no_limit_and_a_server_that_has_one_serves_without() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = found(&dir);
    let mut shown = Vec::new();
    for (limits, locks) in [("ulimit -l unlimited", true), ("ulimit -l 64", false)] {
        if !may_have(limits, home.path()) {
            continue;
        }
        let process = serve(limits, home.path(), &dir);
        let root = Client::new(&process.url, &key);
        root.get("/v1/collections").ok();
        let locked: u64 = told(&process, "status", "VmLck:").trim_end_matches("kB").trim().parse().unwrap();
        assert_eq!(locked > 0, locks, "{limits}: {locked} kB are locked");
        shown.push(limits);
    }
    println!("shown: {shown:?}");
}
