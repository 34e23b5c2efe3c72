//! The house, held against its plan: imports only point down, and each borrowed engine has one home.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Layer of each module; strangers on one layer do not know one another.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("clock", 0),
    ("crypto", 1),
    ("policy", 1),
    ("index", 1),
    ("audit", 1),
    ("store", 2),
    ("authn", 3),
    ("engine", 4),
    ("http", 5),
    ("leaktest", 5),
    ("cli", 5),
];

/// Crates (or paths) that only these modules may name.
const HOMES: &[(&str, &[&str])] = &[
    // the kit judges with an authorizer of its own
    ("cedar_policy", &["policy", "leaktest"]),
    ("cedar_policy_formatter", &["policy"]),
    ("hnsw_rs", &["index"]),
    ("simsimd", &["index"]),
    ("aes_gcm", &["crypto"]),
    ("argon2", &["crypto"]),
    ("sled", &["store"]),
    ("redb", &["store"]),
    ("bincode", &["store"]),
    ("axum", &["http"]),
    ("clap", &["cli"]),
    ("ureq", &["cli", "crypto", "leaktest"]),
    ("getrandom", &["crypto"]),
    ("SystemTime", &["clock"]),
    ("Timestamp::now", &["clock"]),
];

/// Neighbours that may know one another: nouns carry times, and the command line starts the server and the leakage test.
const EXCEPTIONS: &[(&str, &str)] = &[("model", "clock"), ("cli", "http"), ("cli", "leaktest")];

/// What the leakage test must do without: it is no test if it shares a thought with what it judges.
const HIDDEN_FROM_LEAKTEST: &[&str] = &["engine", "policy", "index", "store", "audit", "authn", "http", "cli"];

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).unwrap().to_owned();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
            // Tests that sit beside the code may use what they like; they begin at the first `#[cfg(test)]`.
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (module, inside, code)
        })
        .filter(|(module, inside, _)| {
            let name = inside.file_stem().unwrap().to_str().unwrap();
            module != "lib"
                && module != "main"
                && !name.contains("test")
                && (name != "oracle" || module == "leaktest")
                && name != "samples"
        })
        .collect()
}

/// Names of modules after `crate::`, also inside `crate::{…}`.
fn imported(code: &str) -> Vec<String> {
    let code: String = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.push(std::mem::take(&mut item));
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 && c != '}' {
                    item.push(c);
                }
            }
            names.push(item);
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.iter().map(|n| n.trim().split("::").next().unwrap().trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

#[test]
fn imports_only_point_down() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for (module, path, code) in sources() {
        let own = *layers.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no layer; give it one"));
        for name in imported(&code) {
            let Some(other) = layers.get(name.as_str()) else { continue };
            let down = *other < own || name == module || EXCEPTIONS.contains(&(module.as_str(), name.as_str()));
            let peeks = module == "leaktest" && HIDDEN_FROM_LEAKTEST.contains(&name.as_str());
            if !down || peeks {
                faults.push(format!("{}: {module} (layer {own}) imports {name} (layer {other})", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_engine_has_one_home() {
    let mut faults = Vec::new();
    for (module, path, code) in sources() {
        for (line, text) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for (name, homes) in HOMES {
                let named = text.match_indices(name).any(|(at, _)| {
                    let before = text[..at].chars().next_back();
                    let after = text[at + name.len()..].chars().next();
                    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !word(before)
                        && (name.contains(':')
                            || name.starts_with(char::is_uppercase)
                            || text[at + name.len()..].starts_with("::"))
                        && !word(after)
                });
                if named && !homes.contains(&module.as_str()) {
                    faults.push(format!("{}:{}: {name} belongs in {homes:?}", path.display(), line + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The only file that may hold `unsafe`: instructions that not every processor has.
const UNSAFE_HOME: &str = "index/kernel/x86.rs";

#[test]
fn unsafe_lives_in_one_file_and_gives_its_reasons() {
    let mut faults = Vec::new();
    for (_, path, code) in sources() {
        let mut reason = false;
        for (line, text) in code.lines().enumerate() {
            let comment = text.trim_start().starts_with("//");
            let named =
                !comment && text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w.contains("unsafe"));
            let allowed = path == Path::new(UNSAFE_HOME) && (reason || text == "#![allow(unsafe_code)]");
            if named && !allowed {
                faults.push(format!("{}:{}: unsafe without a reason, or away from home", path.display(), line + 1));
            }
            reason = if comment { reason || text.contains("SAFETY:") } else { false };
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_plan_finds_an_import_that_points_up() {
    assert_eq!(imported("use crate::{model::{A, B}, engine::C, policy};"), ["model", "engine", "policy"]);
    assert_eq!(imported("fn f() { crate::http::serve() } // x\n// crate::cli"), ["http"]);
}

#[test]
fn every_module_has_a_room_on_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md")).unwrap();
    for (module, _) in LAYERS {
        assert!(map.contains(&format!("`{module}`")), "src/README.md does not mention `{module}`");
    }
}
