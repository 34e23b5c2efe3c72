//! `policy test`: the product's own runner over `policies/cases`, held against the suite's independent reading of the same files
//! (`cases.rs`) by what both say of the bundle as it is and of bundles that were changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::{file, root_dir},
    plain,
};

fn path(relative: &str) -> String {
    root_dir().join(relative).to_str().unwrap().to_owned()
}

fn test(arguments: &[&str]) -> (i32, String, String) {
    plain::said(plain::bare_command(&[&["policy", "test"], arguments].concat()).output().unwrap())
}

/// A copy of the clinical bundle with one text replaced.
fn changed(from: &str, to: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut replaced = 0;
    for entry in fs::read_dir(root_dir().join("policies/clinical")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        replaced += text.matches(from).count();
        fs::write(dir.path().join(path.file_name().unwrap()), text.replace(from, to)).unwrap();
    }
    assert_eq!(replaced, 1, "{from}");
    dir
}

/// A copy of the cases, so that they can be changed; the ward is still found from there.
fn cases() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let to = dir.path().join("policies/cases");
    plain::copy(&root_dir().join("policies/cases"), &to);
    plain::copy(&root_dir().join("examples/ward"), &dir.path().join("examples/ward"));
    (dir, to)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_clinical_bundle_decides_every_case_cap_and_cell_as_stated() {
    let (clinical, cases, matrix) =
        (path("policies/clinical"), path("policies/cases"), path("policies/cases/matrix.txt"));
    let (code, out, err) = test(&[&clinical, "--cases", &cases, "--matrix", &matrix]);
    // 131 cases, 7 caps, and the cells of the matrix
    let all = 131 + 7 + 4 * 21 * 8 + 32 * 9;
    assert_eq!((code, out.as_str(), err.as_str()), (0, format!("{all} of {all} as stated\n").as_str(), ""));
}

#[test]
fn a_case_that_is_decided_otherwise_is_told_with_its_policies_and_exit_3() {
    let opened = changed("resource.sensitivity >= 3", "resource.sensitivity >= 4");
    let cases = path("policies/cases/vip.json");
    let (code, out, _) = test(&[text(opened.path()), "--cases", &cases]);
    assert_eq!(code, 3, "{out}");
    let row =
        out.lines().find(|line| line.contains("a nurse of the team does not see a VIP's laboratory report")).unwrap();
    for told in ["vip.json", "deny by vip-need-to-know", "allow", "nurse-care-team"] {
        assert!(row.contains(told), "{row}");
    }
    let (code, out, _) = test(&[text(opened.path()), "--cases", &cases, "--json"]);
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["cases"]), (3, &json!(8)));
    assert_eq!(json["failed"], json["failures"].as_array().unwrap().len());
    let first = &json["failures"][0];
    assert_eq!(
        (&first["page"], &first["got"], &first["deciding"]),
        (&json!("vip.json"), &json!("allow"), &json!(["nurse-care-team"]))
    );
}

#[test]
fn a_loosened_cap_and_a_changed_cell_are_told() {
    let (caps, matrix) = (path("policies/cases/caps.json"), path("policies/cases/matrix.txt"));
    let loose = changed("@max_records(\"100\")", "@max_records(\"120\")");
    let (code, out, _) = test(&[text(loose.path()), "--cases", &caps]);
    assert_eq!(code, 3);
    assert!(
        out.contains("the limit of an answer to Clinician::\"attending\"")
            && out.contains("120 records, by attending-care-team"),
        "{out}"
    );
    let opened = changed("resource.sensitivity >= 3", "resource.sensitivity >= 4");
    let (code, out, _) = test(&[text(opened.path()), "--matrix", &matrix, "--json"]);
    let json: Json = serde_json::from_str(&out).unwrap();
    let cell = "purpose: treatment | VIP: assigned patient, our department | nurse";
    let found = json["failures"].as_array().unwrap().iter().find(|f| f["case"] == cell).unwrap();
    assert_eq!((code, &found["expected"], &found["got"]), (3, &json!("NO vip"), &json!("yes")));
}

#[test]
fn the_matrix_that_is_written_is_the_golden_one_to_the_byte_and_changes_with_the_bundle() {
    let (_dir, cases) = cases();
    let (clinical, matrix) = (path("policies/clinical"), cases.join("matrix.txt"));
    let (code, _, err) = test(&[&clinical, "--matrix", text(&matrix), "--write"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read_to_string(&matrix).unwrap(), file("policies/cases/matrix.txt"));
    let opened = changed("resource.sensitivity >= 3", "resource.sensitivity >= 4");
    let (code, ..) = test(&[text(opened.path()), "--matrix", text(&matrix), "--write"]);
    assert_eq!(code, 0);
    let (written, golden) = (fs::read_to_string(&matrix).unwrap(), file("policies/cases/matrix.txt"));
    let differing: Vec<_> = written.lines().zip(golden.lines()).filter(|(a, b)| a != b).collect();
    assert!(
        !differing.is_empty()
            && differing.iter().all(|(a, _)| a.starts_with("VIP") || a.starts_with("substance use and")),
        "{differing:?}"
    );
    let (code, out, _) = test(&[text(opened.path()), "--matrix", text(&matrix)]);
    assert_eq!(code, 0, "{out}");
    // and where there is none yet
    fs::remove_file(&matrix).unwrap();
    assert_eq!(test(&[&clinical, "--matrix", text(&matrix)]).0, 1);
    assert_eq!(test(&[&clinical, "--matrix", text(&matrix), "--write"]).0, 0);
    assert_eq!(test(&[&clinical, "--matrix", text(&matrix)]).0, 0);
}

#[test]
fn junit_results_are_well_formed_whatever_a_case_is_called() {
    let (dir, cases) = cases();
    let page = cases.join("odd.json");
    let case = json!({
        "name": "a \"nurse\" <sees> & 'reads' \u{1}\nwhat\u{fffe}", "caller": {"type": "Clinician", "id": "m-nurse-000"},
        "action": "Retrieve", "purpose": "treatment", "record": "rec-000001", "expect": "allow",
    });
    fs::write(&page, json!({"world": "ward", "cases": [case]}).to_string()).unwrap();
    let junit = dir.path().join("junit.xml");
    let (code, ..) = test(&[&path("policies/clinical"), "--cases", text(&cases), "--junit", text(&junit)]);
    assert_eq!(code, 3);
    let xml = fs::read_to_string(&junit).unwrap();
    let opened = well_formed(&xml);
    assert_eq!((opened("testsuites"), opened("testcase"), opened("failure")), (1, 131 + 7 + 1, 1));
    assert!(
        xml.contains("name=\"a &quot;nurse&quot; &lt;sees&gt; &amp; &apos;reads&apos; \u{fffd}&#10;what\u{fffd}\""),
        "{xml}"
    );
    assert!(xml.contains("<testsuites name=\"wardkeep policy test\" tests=\"139\" failures=\"1\" errors=\"0\">"));
}

/// Tags that close in order, and entities that XML knows; how often each tag is opened.
fn well_formed(xml: &str) -> impl Fn(&str) -> usize {
    let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
    let (mut open, mut opened): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for part in body.split('<').skip(1) {
        let (tag, between) = part.split_once('>').unwrap();
        assert!(!between.contains('>') && !between.contains('"'), "{part}");
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        for entity in part.split('&').skip(1) {
            let name = entity.split(';').next().unwrap();
            assert!(["amp", "lt", "gt", "quot", "apos"].contains(&name) || name.starts_with('#'), "{entity}");
        }
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None => {
                let name = tag.split([' ', '/']).next().unwrap().to_owned();
                opened.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    move |name| opened.iter().filter(|opened| *opened == name).count()
}

#[test]
fn malformed_cases_are_told_by_file_and_name_and_nothing_is_decided() {
    let (_dir, cases) = cases();
    let good = json!({
        "name": "good", "caller": {"type": "Clinician", "id": "m-nurse-000"}, "action": "Retrieve",
        "purpose": "treatment", "record": "rec-000001", "expect": "deny",
    });
    let told = |change: &dyn Fn(&mut Json)| {
        let page = cases.join("odd.json");
        let mut bad = good.clone();
        bad["name"] = "odd one".into();
        change(&mut bad);
        fs::write(&page, json!({"world": "ward", "cases": [good, bad]}).to_string()).unwrap();
        let (code, out, err) = test(&[&path("policies/clinical"), "--cases", text(&page)]);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains("odd.json"), "{err}");
        err
    };
    let named = |err: &str, words: &str| assert!(err.contains("\"odd one\"") && err.contains(words), "{err}");
    named(
        &told(&|c| c["expect"] = "maybe".into()),
        "unknown variant `maybe`, expected one of `allow`, `deny`, `never`",
    );
    named(&told(&|c| c["purpos"] = "treatment".into()), "unknown field `purpos`");
    named(&told(&|c| drop(c.as_object_mut().unwrap().remove("caller"))), "missing field `caller`");
    named(&told(&|c| c["action"] = "Dance".into()), "`Dance` is none of the actions");
    named(&told(&|c| c["record"] = "rec-999999".into()), "no record of this id");
    named(&told(&|c| drop(c.as_object_mut().unwrap().remove("record"))), "needs a `record`");
    named(&told(&|c| c["action"] = "Search".into()), "is not on a record");
    named(&told(&|c| c["context"] = json!({"weather": "fine"})), "the server tells no `weather`");
    named(&told(&|c| c["context"] = json!({"now": 5})), "`now` in the context must be a datetime");
    named(&told(&|c| c["entities"] = json!([{"uid": {"type": "Patient", "id": "x"}}])), "Patient::\"x\"");
    named(&told(&|c| c["record"] = json!({"id": "x", "attributes": {}})), "the record");
    assert!(told(&|c| c["name"] = "good".into()).contains("\"good\": the name is used twice"));
    let page = cases.join("odd.json");
    for (text_of_page, words) in
        [("{", "odd.json"), ("{\"cases\": 1}", "odd.json"), ("{}", "neither `cases` nor `caps`")]
    {
        fs::write(&page, text_of_page).unwrap();
        let (code, _, err) = test(&[&path("policies/clinical"), "--cases", text(&page)]);
        assert!(code == 2 && err.contains(words), "{code}: {err}");
    }
    fs::write(&page, json!({"world": "moon", "cases": [good]}).to_string()).unwrap();
    let (code, _, err) = test(&[&path("policies/clinical"), "--cases", text(&page)]);
    assert!(code == 2 && err.contains("there is no world `moon`"), "{code}: {err}");
    let (code, _, err) = test(&[&path("policies/clinical")]);
    assert!(code == 2 && err.contains("--cases"), "{code}: {err}");
}
