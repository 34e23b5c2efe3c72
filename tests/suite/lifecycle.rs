//! The life of a bundle, over HTTP and the command line: versions kept, listed and brought back; faults and warnings that point at their
//! place; guards that nothing slips past; and all of it in the audit log.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::{
    clock::Instant,
    engine::{Environment, Settings},
    model::{BundleSource, EntityUid, limits},
    store::{OpenOptions, Store, StoredBundle},
};

use super::{
    harness::{Answer, Client, Server, bundle, file, passphrase, root_dir},
    plain::{command, said},
    refusals::entries,
};

const SCHEMA: &str = r#"
entity Administrator = { level?: Long };
entity System;
entity Collection;
entity Document;
entity Clinician = { level: Long };
entity Patient;
entity Record in [Document, Collection] = { patient?: Patient, kind: String, sealed?: Bool };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: { purpose: String, now: datetime } };
action Search appliesTo { principal: [Clinician], resource: [Collection], context: {} };
action Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const ROOT: &str = r#"@id("root") @accept("unscoped_action") permit (principal is Administrator, action, resource is System);
@id("fill") permit (principal is Administrator, action in [Action::"Ingest", Action::"Erase"], resource is Collection);
"#;
const READERS: &str = r#"@id("readers") @max_records("5") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource is Record);
"#;
const SECRETS: &str = r#"@id("secrets") forbid (principal, action, resource is Record) when { resource.kind == "secret" };
"#;

fn body(policies: &str, note: &str) -> Json {
    json!({"schema": SCHEMA, "policies": policies, "note": note})
}

/// A server with three versions: the starter, one that forbids and caps, one that does so under a tighter cap.
fn with_versions() -> (Server, Client) {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &body(&[ROOT, READERS, SECRETS].concat(), "second")).ok();
    let tighter = READERS.replace("\"5\"", "\"4\"");
    root.put("/v1/policies", &body(&[ROOT, &tighter, SECRETS].concat(), "third")).ok();
    (server, root)
}

fn last_of(root: &Client, what: &str) -> Json {
    entries(root, 0).into_iter().rfind(|entry| entry["what"] == what).unwrap()
}

fn send(root: &Client, path: &str, if_match: &str, body: &Json) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nif-match: {if_match}",
        root.key
    );
    super::refusals::raw(&root.url, &head, body.to_string().as_bytes())
}

#[test]
fn every_version_that_was_ever_in_force_is_kept_as_it_was_sent() {
    let (server, root) = with_versions();
    let third = root.get("/v1/policies").expect(200);
    assert_eq!(third.headers["etag"], "\"3\"");
    let third = third.json();
    let second = root.get("/v1/policies?version=2").expect(200);
    assert_eq!(second.headers["etag"], "\"2\"");
    let second = second.json();
    assert_eq!(second["policies"], [ROOT, READERS, SECRETS].concat());
    assert_eq!((&second["schema"], &second["note"]), (&json!(SCHEMA), &json!("second")));
    assert_eq!(second["author"], json!({"type": "Administrator", "id": "root"}));
    assert_eq!(second["counts"], json!({"permits": 3, "forbids": 1, "templates": 0, "links": 0}));
    assert!(second["at"].as_str().unwrap().ends_with('Z') && second.get("warnings").is_none());
    assert_eq!(third["warnings"], json!([]));
    let first = root.get("/v1/policies?version=1").ok();
    assert_eq!(first["policies"], file("src/policy/starter.cedar"));
    for absent in ["0", "4", "18446744073709551615"] {
        root.get(&format!("/v1/policies?version={absent}")).expect(404);
    }
    root.get("/v1/policies?version=last").expect(422);

    let root = server.restart();
    let client = root.root();
    for (version, was) in [(1, &first), (2, &second)] {
        assert_eq!(&client.get(&format!("/v1/policies?version={version}")).ok(), was);
    }
    assert_eq!(client.get("/v1/policies?version=3").ok(), third);
}

#[test]
fn history_is_listed_newest_first_and_in_pages() {
    let (_server, root) = with_versions();
    let history = root.get("/v1/policies/history").ok();
    let all = history["versions"].as_array().unwrap();
    assert_eq!(all.iter().map(|v| v["version"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((&history["in_force"], &history["next"]), (&json!(3), &Json::Null));
    for version in all {
        let whole = root.get(&format!("/v1/policies?version={}", version["version"])).ok();
        for field in ["digest", "author", "at", "note", "counts", "restores"] {
            assert_eq!(version[field], whole[field], "{field}");
        }
        assert!(version.get("policies").is_none());
    }
    assert_eq!(all[2]["note"], "starter bundle");
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("/v1/policies/history?limit=1{next}")).ok();
        seen.extend(page["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()));
        match page["next"].as_u64() {
            Some(before) => next = format!("&before={before}"),
            None => break,
        }
    }
    assert_eq!(seen, [3, 2, 1]);
    root.get(&format!("/v1/policies/history?limit={}", limits::HISTORY_PAGE)).ok();
    for bad in
        ["limit=0".to_owned(), format!("limit={}", limits::HISTORY_PAGE + 1), "before=x".into(), "after=1".into()]
    {
        root.get(&format!("/v1/policies/history?{bad}")).expect(422);
    }
    assert_eq!(root.get("/v1/policies/history?before=1").ok()["versions"], json!([]));
    assert_eq!(last_of(&root, "read_policies")["detail"], "history");
}

#[test]
fn a_rollback_is_a_new_version_that_passes_every_guard_and_says_which_one_it_was() {
    let (server, root) = with_versions();
    // version 2 had a looser cap than the one in force
    let refused = root.post("/v1/policies/rollback", &json!({"version": 2})).expect(409).json();
    assert_eq!((&refused["code"], &refused["policies"]), (&json!("widening"), &json!(["readers"])));
    let entry = last_of(&root, "put_policies");
    assert_eq!((&entry["outcome"], &entry["detail"]), (&json!("invalid"), &json!("widening")));
    assert_eq!(root.get("/v1/policies").ok()["version"], 3);

    let path = "/v1/policies/rollback?allow_widening=true";
    assert_eq!(send(&root, path, "\"2\"", &json!({"version": 2})).expect(412).code(), "version_mismatch");
    send(&root, path, "three", &json!({"version": 2})).expect(422);
    let done = send(&root, path, "\"3\"", &json!({"version": 2})).expect(200);
    assert_eq!(done.headers["etag"], "\"4\"");
    assert_eq!(done.json()["version"], 4);
    let (second, fourth) = (root.get("/v1/policies?version=2").ok(), root.get("/v1/policies").ok());
    for part in ["schema", "policies", "templates", "links"] {
        assert_eq!(second[part], fourth[part]);
    }
    assert_eq!((&fourth["restores"], &fourth["note"]), (&json!(2), &json!("rollback to version 2")));
    assert_ne!(second["digest"], fourth["digest"], "the note is part of it");
    let entry = last_of(&root, "put_policies");
    assert_eq!((&entry["outcome"], &entry["detail"]), (&json!("allowed"), &json!("rollback_to_2")));
    assert_eq!((&entry["bundle"]["version"], &entry["bundle"]["digest"]), (&json!(4), &fourth["digest"]));

    let noted = root.post("/v1/policies/rollback", &json!({"version": 3, "note": "that was too much"})).ok();
    assert_eq!(noted["version"], 5);
    assert_eq!(root.get("/v1/policies").ok()["note"], "that was too much");
    for (body, status) in [
        (json!({"version": 0}), 404),
        (json!({"version": 6}), 404),
        (json!({"version": "2"}), 422),
        (json!({}), 422),
        (json!({"version": 2, "notes": ""}), 422),
        (json!({"version": 2, "note": "x".repeat(limits::TEXT_BYTES + 1)}), 422),
    ] {
        root.post(path, &body).expect(status);
    }
    let server = server.restart();
    let root = server.root();
    assert_eq!(root.get("/v1/policies/history").ok()["versions"][1]["restores"], 2);
}

#[test]
fn a_rollback_does_not_go_behind_what_is_stored_by_now() {
    let (_server, root) = with_versions();
    let schema = SCHEMA.replace("entity Patient;", "entity Patient = { vip: Bool };");
    let mut wider = body(&[ROOT, READERS, SECRETS].concat(), "");
    wider["schema"] = json!(schema);
    root.put("/v1/policies?allow_widening=true", &wider).ok();
    root.put("/v1/entities", &json!([{"uid": {"type": "Patient", "id": "p"}, "attrs": {"vip": true}, "parents": []}]))
        .ok();
    let refused = root.post("/v1/policies/rollback", &json!({"version": 3})).expect(409).json();
    assert_eq!(refused["code"], "stored_data_invalid");
    assert_eq!(refused["misfits"].as_object().unwrap().len(), 1, "{refused}");
    root.post("/v1/policies/rollback?allow_invalid=true", &json!({"version": 3})).ok();
    // and the starter lets nobody but root manage
    let deputy = json!([{"uid": {"type": "Administrator", "id": "deputy"}, "attrs": {}, "parents": []}]);
    root.put("/v1/entities", &deputy).ok();
    let made = root.post("/v1/callers", &json!({"type": "Administrator", "id": "deputy"})).ok();
    let deputy = Client::new(&root.url, made["api_key"].as_str().unwrap());
    let path = "/v1/policies/rollback?allow_widening=true&allow_invalid=true";
    assert_eq!(deputy.post(path, &json!({"version": 1})).expect(409).code(), "lockout");
    deputy.post(&format!("{path}&allow_lockout=true"), &json!({"version": 1})).ok();
    deputy.get("/v1/policies").expect(403);
    root.get("/v1/policies").expect(200);
}

/// A bundle into a store at rest, past every guard: what an earlier version may have accepted.
fn slip_in(dir: &Path, version: u64, policies: &str) {
    let store = Store::open(dir, &passphrase(), &OpenOptions::default()).unwrap();
    let source = BundleSource { schema: SCHEMA.into(), policies: policies.into(), ..BundleSource::default() };
    let (author, at) = (EntityUid::new("Administrator", "root"), Instant::from_millis(1_700_000_000_000));
    let change = store.put_bundle(version, &StoredBundle { source, author, at, restores: None }, at).unwrap();
    store.commit(&[change], &[], 0).unwrap();
    let manifest = store.manifest();
    store.write_manifest(manifest.audit_size, manifest.audit_root, manifest.audit_group).unwrap();
}

#[test]
fn what_is_objected_to_today_is_still_served_where_it_is_in_force_and_does_not_come_back() {
    let (mut server, _) = with_versions();
    server.stop();
    let (home, dir, key) = (std::sync::Arc::clone(&server.home), server.dir.clone(), server.root_key.clone());
    drop(server);
    let near = READERS.replace("@max_records", "@max_record");
    slip_in(&dir, 4, &[ROOT, &near, SECRETS].concat());
    let server = Server::open(home, &dir, &key, Settings::default(), Environment::default());
    let root = server.root();
    let shown = root.get("/v1/policies").ok();
    assert_eq!((&shown["version"], &shown["counts"]["permits"]), (&json!(4), &json!(3)));
    assert_eq!(shown["warnings"][0]["code"], "uncapped_retrieve");
    let body = json!({"schema": shown["schema"], "policies": shown["policies"]});
    assert_eq!(root.put("/v1/policies", &body).expect(422).code(), "unknown_annotation");
    root.post("/v1/policies/rollback", &json!({"version": 3})).ok();
    assert_eq!(root.post("/v1/policies/rollback", &json!({"version": 4})).expect(422).code(), "unknown_annotation");
}

#[test]
fn faults_say_which_text_which_line_and_which_column() {
    let (_server, root) = with_versions();
    let template = "\n  @id(\"t\") permit (principal in ?principal, action == Action::\"Retrieve\", resource) when { resource.knd == \"x\" };";
    let bad = |schema: &str, policies: &str, templates: &str| {
        let body = json!({"schema": schema, "policies": policies, "templates": templates});
        let answer = root.put("/v1/policies", &body).expect(422).json();
        let error = &answer["errors"][0];
        (
            error["code"].clone(),
            error["part"].clone(),
            error["line"].clone(),
            error["column"].clone(),
            error["id"].clone(),
        )
    };
    let column = template.lines().nth(1).unwrap().find("resource.knd").unwrap() + 1;
    assert_eq!(
        bad(SCHEMA, ROOT, template),
        (json!("invalid_policy"), json!("templates"), json!(2), json!(column), json!("t"))
    );
    assert_eq!(
        bad(SCHEMA, "\n\npermit (who);", ""),
        (json!("syntax"), json!("policies"), json!(3), json!(9), Json::Null)
    );
    assert_eq!(
        bad("\nentity A in [B];", ROOT, ""),
        (json!("schema"), json!("schema"), json!(2), json!(14), Json::Null)
    );
    let capped = format!(
        "{ROOT}@id(\"x\") @max_record(\"1\") permit (principal is Clinician, action == Action::\"Read\", resource);"
    );
    assert_eq!(
        bad(SCHEMA, &capped, ""),
        (json!("unknown_annotation"), json!("policies"), json!(3), json!(10), json!("x"))
    );
    // what is wrong with the form of a request has no place in a text
    let answer = root.put("/v1/policies", &json!({"schema": SCHEMA})).expect(422).json();
    assert!(answer.get("errors").is_none_or(|errors| errors[0].get("part").is_none()), "{answer}");
    assert_eq!(root.get("/v1/policies").ok()["version"], 3);
}

#[test]
fn warnings_are_told_with_their_codes_and_strict_refuses_them_with_the_same_list() {
    let (_server, root) = with_versions();
    let sloppy = format!(
        "{ROOT}{SECRETS}@id(\"all\") permit (principal is Clinician, action == Action::\"Retrieve\", resource);\n@id(\"sealed\") forbid (principal, action, resource is Record) when {{ resource has sealed && resource.sealed }};"
    );
    let sloppy = body(&sloppy, "");
    let checked = root.post("/v1/policies/validate", &sloppy).ok();
    let warnings = checked["warnings"].as_array().unwrap();
    let codes: Vec<_> = warnings.iter().map(|w| w["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["uncapped_retrieve", "optional_attribute"]);
    assert_eq!(warnings[1]["policy"], "sealed");
    assert_eq!((&warnings[1]["part"], &warnings[1]["line"]), (&json!("policies"), &json!(5)));
    assert!(warnings.iter().all(|w| w["detail"].is_string() && w["column"].is_u64()));
    for answer in
        [root.post("/v1/policies/validate?strict=true", &sloppy), root.put("/v1/policies?strict=true", &sloppy)]
    {
        let errors = answer.expect(422).json()["errors"].take();
        let same = |(error, warning): (&Json, &Json)| {
            ["code", "detail", "part", "line", "column"].iter().all(|field| error[field] == warning[field])
                && error["id"] == warning["policy"]
        };
        let errors = errors.as_array().unwrap();
        assert_eq!(errors.len(), warnings.len());
        assert!(errors.iter().zip(warnings).all(same), "{errors:?}");
    }
    assert_eq!(root.get("/v1/policies").ok()["version"], 3, "strict changed something");
    let put = root.put("/v1/policies?strict=false", &sloppy).ok();
    assert_eq!(put["warnings"], checked["warnings"]);
    assert_eq!(root.get("/v1/policies").ok()["warnings"], checked["warnings"]);
    let accepted = sloppy["policies"]
        .as_str()
        .unwrap()
        .replace("@id(\"all\")", "@id(\"all\") @accept(\"uncapped_retrieve\")")
        .replace("@id(\"sealed\")", "@id(\"sealed\") @accept(\"optional_attribute\")");
    assert_eq!(root.put("/v1/policies?strict=true", &body(&accepted, "")).ok()["warnings"], json!([]));
    // a rollback may be held to the same
    root.post("/v1/policies/rollback?strict=true", &json!({"version": 4})).expect(422);
    root.post("/v1/policies/rollback", &json!({"version": 4})).ok();
}

#[test]
fn nothing_widens_unseen_over_the_interface_either() {
    let (_server, root) = with_versions();
    let tighter = READERS.replace("\"5\"", "\"4\"");
    for (policies, named) in [
        ([ROOT, &tighter].concat(), "secrets"),
        ([ROOT, &tighter, &SECRETS.replace("(principal,", "(principal is Clinician,")].concat(), ""),
        ([ROOT, &tighter, &SECRETS.replace("(principal,", "(principal == Clinician::\"x\",")].concat(), "secrets"),
        ([ROOT, &tighter, &SECRETS.replace("action,", "action == Action::\"Read\",")].concat(), "secrets"),
        ([ROOT, READERS, SECRETS].concat(), "readers"),
        ([ROOT, &READERS.replace("\"readers\"", "\"others\""), SECRETS].concat(), "readers"),
        ([ROOT, &tighter, &tighter.replace("\"readers\"", "\"others\""), SECRETS].concat(), "readers"),
    ] {
        let answer = root.put("/v1/policies?allow_lockout=true&allow_invalid=true", &body(&policies, ""));
        if named.is_empty() {
            // every caller of these actions is a clinician, so this forbids the same
            answer.expect(200);
            root.post("/v1/policies/rollback", &json!({"version": 3})).ok();
        } else {
            let refused = answer.expect(409).json();
            assert_eq!((&refused["code"], &refused["policies"]), (&json!("widening"), &json!([named])), "{policies}");
        }
    }
    let open = [ROOT, &READERS.replace("@max_records(\"5\")", "")].concat();
    root.put("/v1/policies?allow_widening=true", &body(&open, "")).ok();
}

#[test]
fn an_uploader_who_would_no_longer_fit_or_manage_is_told_before() {
    let (_server, root) = with_versions();
    let tighter = READERS.replace("\"5\"", "\"4\"");
    let whole = [ROOT, &tighter, SECRETS].concat();
    let locked = whole.replace(
        "principal is Administrator, action, resource is System",
        "principal == Administrator::\"deputy\", action, resource is System",
    );
    assert_eq!(root.put("/v1/policies", &body(&locked, "")).expect(409).code(), "lockout");
    let never = whole.replace("resource is System);", "resource is System) when { principal has level };");
    assert_eq!(root.put("/v1/policies", &body(&never, "")).expect(409).code(), "lockout");
    // the caller's own entity would not fit
    let mut strange = body(&whole, "");
    strange["schema"] = json!(SCHEMA.replace("level?: Long };", "level: Long };"));
    assert_eq!(root.put("/v1/policies", &strange).expect(409).code(), "stored_data_invalid");
    assert_eq!(root.put("/v1/policies?allow_invalid=true", &strange).expect(409).code(), "lockout");
    // a forbid locks out as well as a missing permit
    let forbidden =
        format!("{whole}@id(\"nobody\") forbid (principal, action == Action::\"ManagePolicies\", resource);");
    assert_eq!(root.put("/v1/policies", &body(&forbidden, "")).expect(409).code(), "lockout");
    root.put("/v1/policies?allow_lockout=true", &body(&forbidden, "")).ok();
    root.get("/v1/policies").expect(403);
    root.get("/v1/policies/history").expect(403);
    root.post("/v1/policies/rollback", &json!({"version": 3})).expect(403);
}

#[test]
fn what_is_read_of_the_policies_is_in_the_log_before_it_is_told() {
    let (_server, root) = with_versions();
    for (path, status, detail) in [
        ("/v1/policies", 200, "version_3"),
        ("/v1/policies?version=2", 200, "version_2"),
        ("/v1/policies?version=9", 404, "not_found"),
        ("/v1/policies/history?limit=2", 200, "history"),
    ] {
        let answer = root.get(path).expect(status);
        let entry = last_of(&root, "read_policies");
        assert_eq!(
            (&entry["detail"], &entry["trace"]),
            (&json!(detail), &json!(answer.headers["x-request-id"])),
            "{path}"
        );
        assert_eq!(entry["outcome"], if status == 200 { "allowed" } else { "invalid" });
    }
}

// ---- the command line ----

fn told(arguments: &[&str]) -> (i32, String, String) {
    said(command(arguments).output().unwrap())
}

fn written(dir: &Path, policies: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("wardkeep.cedarschema"), SCHEMA).unwrap();
    fs::write(dir.join("a-root.cedar"), ROOT).unwrap();
    fs::write(dir.join("b-rest.cedar"), policies).unwrap();
}

#[test]
fn the_sample_bundles_pass_the_strict_check_and_are_in_its_style() {
    for name in ["clinical", "law-firm"] {
        let dir = root_dir().join("policies").join(name);
        let (code, out, err) = told(&["policy", "check", "--strict", dir.to_str().unwrap()]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, out, err) = told(&["policy", "format", "--check", dir.to_str().unwrap()]);
        assert_eq!(code, 0, "{out}{err}");
    }
}

#[test]
fn the_bundle_that_the_readme_compares_with_is_the_one_that_its_command_makes() {
    let (home, readme) = (TempDir::new().unwrap(), fs::read_to_string(root_dir().join("README.md")).unwrap());
    for entry in fs::read_dir(root_dir().join("policies/clinical")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let text = match path.file_name().unwrap().to_str().unwrap() {
            "vip.cedar" => text.replace("sensitivity >= 3", "sensitivity >= 4"),
            _ => text,
        };
        fs::write(home.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let (code, out, err) = told(&["policy", "check", "--json", home.path().to_str().unwrap()]);
    let digest = serde_json::from_str::<Json>(&out).unwrap()["digest"].as_str().unwrap()[..12].to_owned();
    assert_eq!(code, 0, "{out}{err}");
    assert!(readme.contains(&format!("the bundle {digest}: ")), "README shows another than {digest}");
}

#[test]
fn check_tells_how_each_policy_is_decided_and_shows_what_is_wrong_in_its_file() {
    let home = TempDir::new().unwrap();
    let dir = home.path().to_str().unwrap();
    written(
        home.path(),
        &format!(
            "{READERS}@id(\"like\") @max_records(\"1\") permit (principal, action == Action::\"Retrieve\", resource is Record) when {{ resource.kind like \"a*\" }};\n{SECRETS}"
        ),
    );
    let (code, out, _) = told(&["policy", "check", dir]);
    assert_eq!(code, 0, "{out}");
    for words in
        ["readers", "by look-up", "once a value", "resource.kind like \"a*\"", "once a request", "b-rest.cedar:2"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (code, out, _) = told(&["policy", "check", "--json", dir]);
    let told_of: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told_of["valid"], &told_of["errors"]), (0, &json!(true), &json!([])));
    let like = told_of["policies"].as_array().unwrap().iter().find(|p| p["policy"] == "like").unwrap();
    assert_eq!((&like["decided"], &like["max_records"], &like["line"]), (&json!("by_value"), &json!(1), &json!(2)));

    written(
        home.path(),
        "// a comment\n  @id(\"x\") permit (principal is Clinician, action == Action::\"Retrieve\", resource);\n",
    );
    assert_eq!(told(&["policy", "check", dir]).0, 0);
    let (code, out, _) = told(&["policy", "check", "--strict", dir]);
    let excerpt = format!(
        "warning[uncapped_retrieve]: policy \"x\": permits `Retrieve` without a cap: add @max_records(\"n\") or @max_patients(\"n\")\n --> {dir}/b-rest.cedar:2:12\n  |\n2 |   @id(\"x\") permit (principal is Clinician, action == Action::\"Retrieve\", resource);\n  |            ^^^^^^\n"
    );
    assert_eq!(code, 3, "{out}");
    assert!(out.contains(&excerpt), "{out}");

    written(
        home.path(),
        "\n@id(\"x\") permit (principal is Clinician, action == Action::\"Read\", resource)\nwhen { resource.knd == \"x\" };\n",
    );
    let (code, out, _) = told(&["policy", "check", dir]);
    assert_eq!(code, 3);
    assert!(
        out.contains("b-rest.cedar:3:8\n")
            && out.contains("3 | when { resource.knd == \"x\" };\n")
            && out.contains("^^^^^^^^^^^^\n"),
        "{out}"
    );
    let (code, out, _) = told(&["policy", "check", "--json", dir]);
    let error = serde_json::from_str::<Json>(&out).unwrap()["errors"][0].take();
    assert_eq!((code, &error["line"], &error["column"]), (3, &json!(3), &json!(8)));
    assert!(error["file"].as_str().unwrap().ends_with("b-rest.cedar"));
    assert_eq!(told(&["policy", "check", home.path().join("none").to_str().unwrap()]).0, 1);
}

#[test]
fn format_changes_files_only_when_it_is_meant_to_and_only_their_looks() {
    let home = TempDir::new().unwrap();
    let dir = home.path().to_str().unwrap();
    written(
        home.path(),
        "// mine\n\n@id(\"x\")permit(principal is Clinician,action==Action::\"Read\",resource is Record)when{true// yes\n};",
    );
    fs::write(home.path().join("links.json"), "[ ]").unwrap();
    let before = fs::read_to_string(home.path().join("b-rest.cedar")).unwrap();
    let digest = |dir: &str| {
        serde_json::from_str::<Json>(&told(&["policy", "check", "--json", dir]).1).unwrap()["policies"].take()
    };
    let was = digest(dir);
    let (code, out, _) = told(&["policy", "format", "--check", dir]);
    assert_eq!(code, 3);
    assert!(out.contains("would change") && out.contains("b-rest.cedar"), "{out}");
    assert_eq!(fs::read_to_string(home.path().join("b-rest.cedar")).unwrap(), before);
    let (code, out, _) = told(&["policy", "format", "--json", dir]);
    assert_eq!((code, serde_json::from_str::<Json>(&out).unwrap()["written"].clone()), (0, json!(true)));
    let after = fs::read_to_string(home.path().join("b-rest.cedar")).unwrap();
    assert!(after.starts_with("// mine\n\n@id(\"x\")\npermit (\n") && after.contains("// yes"), "{after}");
    assert_eq!(told(&["policy", "format", "--check", dir]).0, 0);
    let names = |list: &Json| {
        list.as_array().unwrap().iter().map(|p| (p["policy"].clone(), p["decided"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&digest(dir)), names(&was));
    assert_eq!(fs::read_to_string(home.path().join("links.json")).unwrap(), "[ ]");
    // a fault in one file leaves all of them as they are
    fs::write(home.path().join("a-root.cedar"), "permit(principal,action,resource);").unwrap();
    fs::write(home.path().join("b-rest.cedar"), "permit (").unwrap();
    let (code, _, err) = told(&["policy", "format", dir]);
    assert!(code == 1 && err.contains("b-rest.cedar:1:"), "{err}");
    assert_eq!(fs::read_to_string(home.path().join("a-root.cedar")).unwrap(), "permit(principal,action,resource);");
}

#[test]
fn history_show_and_rollback_speak_to_a_server_and_to_a_store_at_rest() {
    let (mut server, _) = with_versions();
    let online = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("WARDKEEP_API_KEY", &server.root_key).env("WARDKEEP_URL", &server.url);
        said(command.output().unwrap())
    };
    let (code, out, err) = online(&["policy", "history"]);
    assert!(code == 0 && out.contains("3 (in force)") && out.contains("Administrator::\"root\""), "{out}{err}");
    let (code, out, _) = online(&["policy", "history", "--limit", "1", "--json"]);
    let page: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &page["next"], page["versions"].as_array().unwrap().len()), (0, &json!(3), 1));
    assert_eq!(online(&["policy", "history", "--limit", "101"]).0, 2);
    let (code, out, _) = online(&["policy", "show", "--version", "2"]);
    assert!(
        code == 0 && out.contains("// version 2,") && out.contains(SECRETS.trim()) && out.contains("// note: second"),
        "{out}"
    );
    let (code, _, err) = online(&["policy", "show", "--version", "9"]);
    assert!(code == 1 && err.contains("404"), "{err}");
    let (code, _, err) = online(&["policy", "rollback", "2"]);
    assert!(code == 1 && err.contains("widening"), "{err}");
    let (code, out, err) = online(&["policy", "rollback", "2", "--allow-widening", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Json>(&out).unwrap()["version"], 4);

    server.stop();
    let (dir, home) = (server.dir.clone(), std::sync::Arc::clone(&server.home));
    drop(server);
    let data = dir.to_str().unwrap();
    let (code, out, err) = told(&["policy", "rollback", "3", "--note", "at rest", "--data", data]);
    assert!(code == 0 && out.contains("version 5 is in force, with the texts of version 3"), "{out}{err}");
    let (code, _, err) = told(&["policy", "rollback", "30", "--data", data]);
    assert!(code == 1 && err.contains("no such version"), "{err}");
    let (code, out, _) = told(&["policy", "history", "--json", "--data", data]);
    let history: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &history["in_force"], &history["versions"][0]["restores"]), (0, &json!(5), &json!(3)));
    assert_eq!(history["versions"][0]["note"], "at rest");
    // shown as files, it is the same bundle
    let copy = home.path().join("copy");
    let (code, _, err) = told(&["policy", "show", "--version", "3", "--into", copy.to_str().unwrap(), "--data", data]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read_to_string(copy.join("wardkeep.cedarschema")).unwrap(), SCHEMA);
    assert_eq!(told(&["policy", "check", "--strict", copy.to_str().unwrap()]).0, 0);
    assert_eq!(told(&["policy", "show", "--into", copy.to_str().unwrap(), "--data", data]).0, 2, "it is not empty");
    super::plain::assert_sound(&dir);
}

#[test]
fn set_shows_faults_in_their_files_and_sends_nothing() {
    let (server, root) = with_versions();
    let home = TempDir::new().unwrap();
    let set = |policies: &str, more: &[&str]| {
        written(home.path(), policies);
        let mut command = command(&["policy", "set", home.path().to_str().unwrap()]);
        command.args(more).env("WARDKEEP_API_KEY", &server.root_key).env("WARDKEEP_URL", &server.url);
        said(command.output().unwrap())
    };
    let tighter = READERS.replace("\"5\"", "\"4\"");
    let (code, _, err) = set(
        &format!(
            "{tighter}{SECRETS}@id(\"READERS\") permit (principal is Clinician, action == Action::\"Read\", resource);"
        ),
        &[],
    );
    assert!(code == 1 && err.contains("error[look_alike_id]") && err.contains("b-rest.cedar:"), "{err}");
    let uncapped = format!(
        "{tighter}{SECRETS}@id(\"x\") permit (principal == Clinician::\"x\", action == Action::\"Retrieve\", resource == Record::\"a/b\") when {{ principal.level > 1 }};"
    );
    let (code, _, err) = set(&uncapped, &["--strict"]);
    assert!(code == 1 && err.contains("error[uncapped_retrieve]"), "{err}");
    assert_eq!(root.get("/v1/policies").ok()["version"], 3);
    let (code, out, err) = set(&uncapped, &[]);
    assert!(
        code == 0 && out.contains("version 4 is in force") && out.contains("warning[uncapped_retrieve]"),
        "{out}{err}"
    );
    let (code, out, err) = set(&format!("{tighter}{SECRETS}"), &["--strict", "--json"]);
    assert_eq!((code, serde_json::from_str::<Json>(&out).unwrap()["warnings"].clone()), (0, json!([])), "{err}");
    assert_eq!(root.put("/v1/policies", &bundle("policies/clinical")).status, 409);
}
