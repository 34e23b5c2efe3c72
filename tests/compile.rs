//! The proofs of a retrieval cannot be forged: the compiler refuses each attempt in `compile/`, at the lines that end with
//! `//~ CODE words`, for that reason and at no other line. `compile/twins.rs` takes the ways that there are, and compiles.
//!
//! The cases are looked at by the compiler that built this test, against the library that it was built with, so nothing is built twice.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A line that is, or has to be, refused: its number, and the code and words of the refusal.
#[derive(Debug)]
struct Refusal {
    line: u64,
    code: String,
    words: String,
}

/// The compiler and the libraries that cases name.
struct Bench {
    home: &'static Path,
    deps: PathBuf,
    libraries: Vec<(&'static str, PathBuf)>,
}

impl Bench {
    /// Of several builds of a library the one is taken that this library was built with: then the twins compile.
    fn set_up() -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let deps = env::current_exe().unwrap().parent().unwrap().to_owned();
        let of = |name| builds(&deps, name);
        let wardkeep = of("wardkeep").swap_remove(0);
        let mut refused = Vec::new();
        for serde_json in of("serde_json") {
            for roaring in of("roaring") {
                let libraries = vec![
                    ("wardkeep", wardkeep.clone()),
                    ("serde_json", serde_json.clone()),
                    ("roaring", roaring.clone()),
                ];
                let bench = Self { home, deps: deps.clone(), libraries };
                refused = bench.refusals("tests/compile/twins.rs");
                if refused.is_empty() {
                    return bench;
                }
            }
        }
        panic!("the twins do not compile: {refused:#?}");
    }

    fn refusals(&self, case: &str) -> Vec<Refusal> {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(self.home).args([
            "--edition=2024",
            "--emit=metadata=-",
            "--error-format=json",
            "-Adead_code",
        ]);
        rustc.arg("-L").arg(format!("dependency={}", self.deps.display()));
        for (name, file) in &self.libraries {
            rustc.arg("--extern").arg(format!("{name}={}", file.display()));
        }
        let told = rustc.arg(case).output().expect("the compiler starts");
        let told = String::from_utf8_lossy(&told.stderr);
        told.lines().map(|line| serde_json::from_str(line).expect(line)).filter_map(|said| refusal(&said)).collect()
    }
}

/// All builds of a library, the latest first.
fn builds(deps: &Path, name: &str) -> Vec<PathBuf> {
    let starts = format!("lib{name}-");
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&starts))
        .filter(|path| path.extension().is_some_and(|ending| ending == "rlib"))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().modified().unwrap()));
    assert!(!found.is_empty(), "no build of {name} beside this test");
    found
}

/// What the compiler says of a line; none where it only sums up, or warns.
fn refusal(said: &Value) -> Option<Refusal> {
    let mut span = said["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
    // out of the macro, to the line that calls it
    while span["expansion"].is_object() {
        span = &span["expansion"]["span"];
    }
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let refusal = Refusal {
        line: span["line_start"].as_u64()?,
        code: text(&said["code"]["code"]),
        words: text(&said["message"]),
    };
    (said["level"] == "error").then_some(refusal)
}

/// What the marks of a case say has to be refused.
fn expected(source: &str) -> Vec<Refusal> {
    let marked = (1..).zip(source.lines()).filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1)));
    let read = |(line, mark): (u64, &str)| {
        let (code, words) = mark.split_once(' ').unwrap();
        Refusal { line, code: code.to_owned(), words: words.to_owned() }
    };
    marked.map(read).collect()
}

impl Refusal {
    /// `-` as a code is one that has none.
    fn answers(&self, expected: &Self) -> bool {
        let code = if expected.code == "-" { "" } else { &expected.code };
        self.line == expected.line && self.code == code && self.words.contains(&expected.words)
    }
}

#[test]
fn proofs_cannot_be_forged() {
    let bench = Bench::set_up();
    let mut cases = 0;
    for entry in fs::read_dir(bench.home.join("tests/compile")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let case = format!("tests/compile/{name}");
        let expected = expected(&fs::read_to_string(bench.home.join(&case)).unwrap());
        let refused = bench.refusals(&case);
        for wanted in &expected {
            assert!(refused.iter().any(|said| said.answers(wanted)), "{case}: {wanted:?} is not refused: {refused:#?}");
        }
        for said in &refused {
            assert!(
                expected.iter().any(|wanted| wanted.line == said.line),
                "{case}: refused at another line: {said:?}"
            );
        }
        assert_eq!(expected.is_empty(), name == "twins.rs", "{case} expects nothing");
        cases += 1;
    }
    assert!(cases > 10, "the cases were found");
}
