//! The leakage test against a server that is in use: it asks with the callers' own keys, takes away what it planted, and changes nothing else.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::{Client, Server, bundle, file, lines, root_dir},
    plain::{all_entries, what},
};
use wardkeep::leaktest::{
    Effort, Plan, Run, run,
    target::{Caller, OverHttp, Target},
    world::{Own, Rules, World, own},
};

const RECORDS: usize = 300;

/// A server with a part of the sample ward, and callers with keys of their own.
fn in_use() -> (Server, World, Vec<(Caller, String)>) {
    let server = Server::clinical();
    let records: Vec<String> = file("examples/ward/records.ndjson").lines().take(RECORDS).map(str::to_owned).collect();
    server.root().put_lines("/v1/collections/ward/records", &records.join("\n")).ok();
    let callers = ["m-nurse-000", "m-physician-000", "m-privacy_officer-000"].map(|id| {
        let users: Json = serde_json::from_str(&file("examples/ward/users.json")).unwrap();
        let mut user = users.as_array().unwrap().iter().find(|u| u["caller"]["id"] == id).unwrap().clone();
        user["key"] = json!(server.key_for("Clinician", id).key);
        user
    });
    let bundle = bundle("policies/clinical");
    let text = |name: &str| bundle[name].as_str().unwrap().to_owned();
    let given = Own {
        collection: "ward".into(),
        rules: Some(Rules { schema: text("schema"), policies: text("policies"), links: json!([]) }),
        entities: Some(file("examples/ward/entities.json")),
        records: records.join("\n"),
        callers: json!(callers).to_string(),
        matrix: None,
        subject: "patient".into(),
        ..Own::default()
    };
    let (world, keys) = own(&given, |entry| Ok(entry["key"].as_str().map(str::to_owned))).unwrap();
    (server, world, keys)
}

fn attack(server: &Server, world: &World, keys: &[(Caller, String)], admin: Option<&str>, only: &[&str]) -> Run {
    let plan = Plan {
        seed: 1,
        effort: Effort::Quick,
        only: only.iter().map(|p| (*p).to_owned()).collect(),
        restarts: None,
        questions: None,
        live: true,
        command: String::new(),
        connections: 4,
        breadth: None,
        stop: Arc::default(),
    };
    let open = || {
        let target = OverHttp::at(&server.url, "ward", admin);
        let target = keys.iter().fold(target, |target, (caller, key)| target.with_key(caller, key));
        Ok(Box::new(target) as Box<dyn Target>)
    };
    run(&plan, world, &open, &mut |_| {}).unwrap()
}

/// What an administrator sees of the store: collections, keys that are in force, and the version of the policies.
fn state(root: &Client) -> [Json; 3] {
    let keys = root.get("/v1/callers").ok();
    let held: BTreeSet<String> = keys["callers"].as_array().unwrap().iter().map(|k| k["key_id"].to_string()).collect();
    let mut collections = root.get("/v1/collections").ok();
    // memory that once held a record is kept for the next
    collections["collections"][0].as_object_mut().unwrap().remove("index_bytes");
    [collections, json!(held), root.get("/v1/policies").ok()["version"].clone()]
}

#[test]
fn with_keys_that_can_only_read_what_needs_to_write_is_skipped_and_the_rest_comes_out_clean() {
    let (server, world, keys) = in_use();
    let before = state(&server.root());
    let only = ["cross-patient", "existence", "twin-worlds", "stale-permission", "canaries", "deletion-forensics"];
    let run = attack(&server, &world, &keys, None, &only);
    for outcome in &run.outcomes {
        assert_eq!((outcome.violations, &outcome.broken), (0, &None), "{outcome:?}");
        let asks = ["cross-patient", "existence"].contains(&outcome.probe);
        assert_eq!(outcome.trials > 0, asks, "{outcome:?}");
        assert!(asks || !outcome.skipped.is_empty(), "{outcome:?}");
    }
    assert_eq!(state(&server.root()), before);
}

#[test]
fn what_was_planted_and_the_keys_that_were_made_are_taken_away_again() {
    let (server, world, keys) = in_use();
    let before = state(&server.root());
    // one key is missing: the kit makes it
    let run =
        attack(&server, &world, &keys[..2], Some(&server.root_key), &["canaries", "deletion-forensics", "identity"]);
    for outcome in &run.outcomes {
        assert_eq!((outcome.violations, &outcome.broken), (0, &None), "{outcome:?}");
        assert!(outcome.trials > 0, "{outcome:?}");
    }
    assert_eq!(state(&server.root()), before);
    let officer = Client::new(&server.url, &keys[2].1);
    let held = officer.post("/v1/collections/ward/records/list", &json!({"purpose": "operations", "limit": 1000})).ok();
    let stored: BTreeSet<String> =
        lines("examples/ward/records.ndjson")[..RECORDS].iter().map(|r| r["id"].to_string()).collect();
    assert!(held["records"].as_array().unwrap().iter().all(|r| stored.contains(&r["id"].to_string())));
}

/// A law firm's server, its files for the kit in a folder, and the callers' own keys in them.
struct Firm {
    server: Server,
    folder: TempDir,
}

impl Firm {
    fn open() -> Self {
        let server = Server::new();
        let root = server.root();
        root.put("/v1/policies", &bundle("policies/law-firm")).ok();
        root.put("/v1/entities", &serde_json::from_str(&file("examples/law-firm/entities.json")).unwrap()).ok();
        let settings = serde_json::from_str(&file("examples/law-firm/collection.json")).unwrap();
        root.put("/v1/collections/files", &settings).ok();
        let records = file("examples/law-firm/records.ndjson");
        server.key_for("Librarian", "desk").put_lines("/v1/collections/files/records", &records).ok();
        let callers = [("Lawyer", "adeyemi", "representation"), ("Paralegal", "gupta", "representation")].map(
            |(ty, id, purpose)| {
                let key = server.key_for(ty, id).key;
                json!({"caller": {"type": ty, "id": id}, "role": ty, "purpose": purpose, "key": key})
            },
        );
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("callers.json"), json!(callers).to_string()).unwrap();
        Self { server, folder }
    }

    /// The kit's command against it, as the README has it.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardkeep"));
        let at = |path: &str| root_dir().join(path);
        command.args(["leaktest", "--url", &self.server.url, "--collection", "files", "--subject", "client"]);
        command.args(["--metric", "euclidean", "--seed", "3"]).args(more);
        command.arg("--policies").arg(at("policies/law-firm"));
        command.arg("--entities").arg(at("examples/law-firm/entities.json"));
        command.arg("--records").arg(at("examples/law-firm/records.ndjson"));
        command.arg("--callers").arg(self.folder.path().join("callers.json"));
        command.arg("--json").arg(self.folder.path().join("report.json"));
        command.arg("--state").arg(self.folder.path().join("state"));
        command.env_remove("WARDKEEP_API_KEY").stdin(Stdio::null());
        command
    }

    fn run(&self, more: &[&str], admin: Option<&str>) -> (Option<i32>, String) {
        let mut command = self.command(more);
        if let Some(key) = admin {
            command.env("WARDKEEP_API_KEY", key);
            command.args((!more.contains(&"--clean")).then_some("--plant"));
        }
        let output = command.output().unwrap();
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), told)
    }

    fn report(&self) -> Json {
        serde_json::from_str(&std::fs::read_to_string(self.folder.path().join("report.json")).unwrap()).unwrap()
    }

    /// What an administrator sees that the kit might have changed.
    fn state(&self) -> [Json; 3] {
        state(&self.server.root())
    }

    /// What is written down as planted; none: nothing is. What is still being written does not count.
    fn ledger(&self) -> Option<String> {
        let files = std::fs::read_dir(self.folder.path().join("state")).ok()?;
        let mut paths = files.filter_map(|entry| Some(entry.ok()?.path()));
        let whole = paths.find(|path| path.extension().is_some_and(|end| end == "json"))?;
        std::fs::read_to_string(whole).ok()
    }
}

#[test]
fn one_command_attacks_a_law_firm_with_keys_that_only_read_and_says_what_it_left_out() {
    let firm = Firm::open();
    let before = firm.state();
    let (code, told) = firm.run(&["--quick"], None);
    // nothing was found; what such keys cannot ask is left out, and said to be
    assert_eq!(code, Some(0), "{told}");
    let report = firm.report();
    assert_eq!((&report["leaks"], report["probes"].as_array().unwrap().len()), (&json!(0), 13), "{told}");
    for probe in report["probes"].as_array().unwrap() {
        let verdict = match probe["name"].as_str().unwrap() {
            "cross-patient" | "starvation" | "identity" => "clean",
            "existence" | "embedding" | "cap-evasion" => "clean in part",
            _ => "skipped",
        };
        assert_eq!(probe["verdict"], verdict, "{probe}");
        assert!(verdict == "clean" || !probe["skipped"].as_array().unwrap().is_empty(), "{probe}");
    }
    assert!(told.contains("needs --plant and an administrator's key") && told.contains("of 13 probes"), "{told}");
    assert_eq!((&report["verdict"], &report["fields_not_understood"]), (&json!("incomplete"), &json!([])), "{told}");
    assert_eq!((firm.state(), firm.ledger()), (before, None));
}

#[test]
fn with_an_administrators_key_records_are_planted_and_taken_away_again() {
    let firm = Firm::open();
    let before = firm.state();
    let (code, told) = firm.run(&["--only", "canaries,deletion-forensics,cap-evasion"], Some(&firm.server.root_key));
    assert_eq!(code, Some(0), "{told}");
    for probe in firm.report()["probes"].as_array().unwrap() {
        assert!(probe["verdict"].as_str().unwrap().starts_with("clean"), "{probe}");
        assert!(probe["attempts"].as_u64() > Some(0), "{probe}");
    }
    assert_eq!((firm.state(), firm.ledger()), (before, None));
}

#[test]
fn what_a_matrix_forbids_and_the_server_shows_is_a_finding_and_exit_code_3() {
    let firm = Firm::open();
    // the reviewer believes that nobody may see anything
    let matrix = firm.folder.path().join("matrix.json");
    std::fs::write(&matrix, "{}").unwrap();
    let (code, told) = firm.run(&["--only", "cross-patient", "--matrix", matrix.to_str().unwrap()], None);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("LEAK cross-patient"), "{told}");
}

#[test]
fn a_breadth_that_small_questions_pass_is_a_finding() {
    let firm = Firm::open();
    assert_eq!(firm.run(&["--only", "cap-evasion", "--breadth", "1000"], None).0, Some(0));
    let (code, told) = firm.run(&["--only", "cap-evasion", "--breadth", "1"], None);
    assert!(code == Some(3) && told.contains("breadth"), "{told}");
}

#[test]
fn a_wrong_address_a_wrong_key_and_a_missing_file_are_told_plainly() {
    let firm = Firm::open();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = format!("http://{nobody}");
    let mut command = firm.command(&[]);
    let shown = |output: std::process::Output| (output.status.code(), String::from_utf8(output.stderr).unwrap());
    // the last of two is taken by nobody: an address given twice is a usage error
    assert_eq!(shown(command.args(["--url", &elsewhere]).output().unwrap()).0, Some(2));
    let wrong = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardkeep"));
        command.env("XDG_STATE_HOME", firm.folder.path()).env_remove("WARDKEEP_API_KEY").arg("leaktest");
        change(&mut command);
        shown(command.output().unwrap())
    };
    let callers = firm.folder.path().join("callers.json");
    let usual = |command: &mut Command, url: &str| {
        command.args(["--url", url, "--collection", "files", "--policies"]).arg(root_dir().join("policies/law-firm"));
        command.arg("--records").arg(root_dir().join("examples/law-firm/records.ndjson"));
        command.arg("--entities").arg(root_dir().join("examples/law-firm/entities.json"));
        command.arg("--callers").arg(&callers);
    };
    let (code, told) = wrong(&|command| usual(command, &elsewhere));
    assert!(code == Some(1) && told.contains("no server answers at"), "{told}");
    let (code, told) = wrong(&|command| {
        usual(command, &firm.server.url);
        command.arg("--plant").env("WARDKEEP_API_KEY", "wk_not_a_key");
    });
    assert!(code == Some(1) && told.contains("WARDKEEP_API_KEY is refused (401)"), "{told}");
    let (code, told) = wrong(&|command| {
        usual(command, &firm.server.url);
        command.args(["--plant"]);
    });
    assert!(code == Some(2) && told.contains("--plant needs"), "{told}");
    let (code, told) = wrong(&|command| {
        usual(command, &firm.server.url);
        command.args(["--html", "/no/such/folder/report.html"]);
    });
    assert!(code == Some(2) && told.contains("cannot write"), "{told}");
    let (code, told) = wrong(&|command| {
        command.args(["--url", &firm.server.url]);
    });
    assert!(code == Some(2) && told.contains("--callers"), "{told}");
    let mut broken: Json = serde_json::from_str(&std::fs::read_to_string(&callers).unwrap()).unwrap();
    broken[1]["key"] = json!("wk_not_a_key");
    std::fs::write(&callers, broken.to_string()).unwrap();
    let (code, told) = wrong(&|command| usual(command, &firm.server.url));
    assert!(code == Some(1) && told.contains("the key of Paralegal::\"gupta\" is refused (401)"), "{told}");
    // a collection that is not there, and one that holds other records than the file says
    let with_key = |change: &dyn Fn(&mut Command)| {
        let mut command = firm.command(&["--only", "cross-patient"]);
        change(&mut command);
        shown(command.output().unwrap())
    };
    broken[1]["key"] = json!(firm.server.key_for("Paralegal", "gupta").key);
    std::fs::write(&callers, broken.to_string()).unwrap();
    let empty = Firm::open();
    let ids: Vec<Json> = lines("examples/law-firm/records.ndjson").iter().map(|r| r["id"].clone()).collect();
    empty.server.root().post("/v1/collections/files/erase", &json!({"ids": ids})).ok();
    let (code, told) = empty.run(&["--only", "cross-patient"], None);
    assert!(code == Some(1) && told.contains("is shown nothing"), "{told}");
    assert_eq!(with_key(&|_| {}).0, Some(0));
    std::fs::remove_file(&callers).unwrap();
    let (code, told) = wrong(&|command| usual(command, &firm.server.url));
    assert!(code == Some(1) && told.contains("callers.json"), "{told}");
}

/// Starts the kit and waits until it has planted something.
fn planting(firm: &Firm) -> std::process::Child {
    let root = [("WARDKEEP_API_KEY", firm.server.root_key.clone())];
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    };
    let probes = "deletion-forensics,canaries";
    let mut command = firm.command(&["--plant", "--full", "--connections", "1", "--only", probes]);
    quiet(&mut command);
    let mut child = command.envs(root).spawn().unwrap();
    while !firm.ledger().is_some_and(|text| text.contains("canary-")) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it planted anything");
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_run_that_was_interrupted_takes_away_what_it_had_planted() {
    let firm = Firm::open();
    let before = firm.state();
    let mut child = planting(&firm);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!((firm.state(), firm.ledger()), (before, None));
}

#[test]
fn what_a_killed_run_left_behind_is_taken_away_by_clean() {
    let firm = Firm::open();
    let before = firm.state();
    loop {
        let mut child = planting(&firm);
        child.kill().unwrap();
        child.wait().unwrap();
        // without the key it can only say so
        let (code, told) = firm.run(&["--clean"], None);
        if code == Some(1) {
            assert!(told.contains("left"), "{told}");
            break;
        }
        // it had taken all away by then
        assert!(code == Some(0) && told.contains("nothing was left behind"), "{told}");
    }
    let (code, told) = firm.run(&["--clean"], Some(&firm.server.root_key));
    assert!(code == Some(0) && told.contains("taken away"), "{told}");
    assert_eq!((firm.state(), firm.ledger()), (before, None));
    let (code, told) = firm.run(&["--clean"], Some(&firm.server.root_key));
    assert!(code == Some(0) && told.contains("nothing was left behind"), "{told}");
}

#[test]
fn a_server_that_goes_away_midway_ends_the_run_as_broken() {
    let mut firm = Firm::open();
    let mut child = {
        let mut command = firm.command(&["--full", "--connections", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // more than the hand-shake's: three for each of the two callers at the most
    let root = firm.server.root();
    let asked = |entries: &[Json]| entries.iter().filter(|entry| what(entry) == "search").count();
    while asked(&all_entries(&root, 0)) < 30 {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before the server did");
    }
    firm.server.stop();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("could not be finished"), "{told}");
}
