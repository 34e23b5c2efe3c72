//! The effect of a bundle on one page: role x purpose x kind of record, then caller x request, one cell a decision. `world.json` says
//! which; the page is for people, who review it as a diff.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value as Json};

use super::{
    Held,
    world::{World, file, list},
};
use crate::{
    cli::Failure,
    model::{Action, EntityUid},
    policy::{Bundle, DenyReason, Directory, Verdict},
};

const REQUESTS: &str = "requests that are not about seeing a record";
/// At least so wide, so that one changed cell is one changed line.
const FIRST_WIDTH: usize = 56;
const WIDTH: usize = 12;
const PREAMBLE: &str = "\
# Who may see what: role x purpose x kind of record, then caller x request.
# yes   permitted                 -      no policy permits it
# NO x  prohibited, by            never  the schema has no way to permit it
# Kinds, roles, callers and requests are in world.json.
";

/// A section: its title, its column heads and its rows, each with its name first.
#[derive(Debug, PartialEq)]
pub(super) struct Section {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

struct Painter<'a> {
    bundle: &'a Bundle,
    json: &'a Json,
    world: World,
    directory: Directory,
}

/// The matrix as the bundle decides it.
pub(super) fn of(bundle: &Bundle, path: &Path) -> Result<Vec<Section>, Failure> {
    let json = file(path)?;
    let usage = |what: &str| Failure::Usage(format!("{}: {what}", super::name(path)));
    let name = json.get("collection").and_then(Json::as_str).ok_or_else(|| usage("`collection` is missing"))?;
    let world = World::read(bundle, path, name)?;
    let directory = world.directory(bundle, &[], &[]).map_err(|fault| usage(&fault))?;
    Painter { bundle, json: &json, world, directory }.sections().map_err(|fault| usage(&fault))
}

impl Painter<'_> {
    fn sections(&self) -> Result<Vec<Section>, String> {
        let mut sections = Vec::new();
        for purpose in list(self.json, "purposes").filter_map(Json::as_str) {
            sections.push(self.purpose(purpose)?);
        }
        sections.push(self.requests()?);
        Ok(sections)
    }

    fn purpose(&self, purpose: &str) -> Result<Section, String> {
        let roles = self.people("roles")?;
        let context = Map::from_iter([("purpose".to_owned(), Json::from(purpose))]);
        let cell = |caller: &EntityUid, action, record| self.cell(caller, action, &context, record);
        let ask = roles.iter().map(|(_, caller)| cell(caller, Action::Search, None)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = vec![row("may ask (Search)", ask)];
        for kind in list(self.json, "kinds") {
            let both = |(_, caller): &(String, EntityUid)| {
                let record = kind.get("record");
                let (retrieve, read) = (cell(caller, Action::Retrieve, record)?, cell(caller, Action::Read, record)?);
                Ok(if retrieve == read { retrieve } else { format!("Retrieve {retrieve}, Read {read}") })
            };
            let name = kind.get("kind").and_then(Json::as_str).unwrap_or_default();
            rows.push(row(name, roles.iter().map(both).collect::<Result<_, String>>()?));
        }
        Ok(Section { title: format!("purpose: {purpose}"), head: row("Retrieve, Read", names(&roles)), rows })
    }

    fn requests(&self) -> Result<Section, String> {
        let callers = self.people("callers")?;
        let first = list(self.json, "kinds").next().and_then(|kind| kind.get("record"));
        let mut rows = Vec::new();
        for request in list(self.json, "requests") {
            let word = |name: &str| request.get(name).and_then(Json::as_str).unwrap_or_default();
            let action = Action::all().find(|action| action.name() == word("action"));
            let action = action.ok_or_else(|| format!("request \"{}\" has no known action", word("request")))?;
            let context = request.get("context").and_then(Json::as_object).cloned().unwrap_or_default();
            let record = first.filter(|_| action.resource_type() == "Record");
            let cells = callers.iter().map(|(_, caller)| self.cell(caller, action, &context, record));
            rows.push(row(word("request"), cells.collect::<Result<_, _>>()?));
        }
        Ok(Section { title: REQUESTS.to_owned(), head: row("request", names(&callers)), rows })
    }

    fn people(&self, part: &str) -> Result<Vec<(String, EntityUid)>, String> {
        let people = self.json.get(part).and_then(Json::as_object).into_iter().flatten();
        let one = |(name, json): (&String, &Json)| match serde_json::from_value(json.clone()) {
            Ok(uid) => Ok((name.clone(), uid)),
            Err(error) => Err(format!("`{part}`: {name}: {error}")),
        };
        people.map(one).collect()
    }

    fn cell(
        &self,
        caller: &EntityUid,
        action: Action,
        context: &Map<String, Json>,
        record: Option<&Json>,
    ) -> Result<String, String> {
        let Some(inquiry) = self.world.inquiry(self.bundle, caller, action, context)? else {
            return Ok("never".into());
        };
        let resource = self.world.resource(self.bundle, action, record, caller)?;
        Ok(match self.bundle.decide(&inquiry, &resource, &self.directory) {
            Verdict::Allow { .. } => "yes".to_owned(),
            Verdict::Deny(DenyReason::NoPermit) => "-".to_owned(),
            Verdict::Deny(DenyReason::Forbidden(names)) => format!("NO {}", self.short(&names)),
            Verdict::Deny(DenyReason::MissingEntity(_)) => "BROKEN missing".to_owned(),
            Verdict::Deny(DenyReason::Erred(_)) => "BROKEN error".to_owned(),
            Verdict::Deny(DenyReason::UnknownPrincipal | DenyReason::Unfit) => "BROKEN".to_owned(),
        })
    }

    /// Forbids by the short names of `world.json`, in its order; others by their own.
    fn short(&self, names: &[crate::policy::PolicyName]) -> String {
        let known = self.json.get("short").and_then(Json::as_object);
        let place =
            |name: &str| known.into_iter().flatten().position(|(policy, _)| policy == name).unwrap_or(usize::MAX);
        let mut names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        names.sort_by_key(|name| (place(name), *name));
        let short = |name: &str| known.and_then(|k| k.get(name)).and_then(Json::as_str).unwrap_or(name).to_owned();
        names.into_iter().map(short).collect::<Vec<_>>().join("+")
    }
}

fn row(name: &str, cells: Vec<String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

fn names(people: &[(String, EntityUid)]) -> Vec<String> {
    people.iter().map(|(name, _)| name.clone()).collect()
}

/// The page: below the words that a golden one begins with.
pub(super) fn written(sections: &[Section], golden: Option<&str>) -> String {
    let own = |line: &&str| line.starts_with('#') && !line.starts_with("## ");
    let preamble: String = golden.unwrap_or_default().lines().take_while(own).map(|line| format!("{line}\n")).collect();
    let mut page = if preamble.is_empty() { PREAMBLE.to_owned() } else { preamble };
    for section in sections {
        page.push_str(&format!("\n## {}\n", section.title));
        let lines = || std::iter::once(&section.head).chain(&section.rows);
        let width = |at: usize| {
            let widest = lines().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(if at == 0 { FIRST_WIDTH } else { WIDTH })
        };
        let widths: Vec<usize> = (0..section.head.len()).map(width).collect();
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("-+-");
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join(" | ").trim_end().to_owned() + "\n"
        };
        page.push_str(&line(&section.head));
        page.push_str(&format!("{rule}\n"));
        section.rows.iter().for_each(|cells| page.push_str(&line(cells)));
    }
    page
}

/// A page as people keep it.
fn read(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in page.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title: title.to_owned(), head: vec![], rows: vec![] });
            continue;
        }
        if line.starts_with('#') || line.chars().all(|c| matches!(c, '-' | '+')) {
            continue;
        }
        let cells: Vec<String> = line.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let Some(section) = sections.last_mut() else { continue };
        if section.head.is_empty() {
            section.head = cells;
        } else {
            section.rows.push(cells);
        }
    }
    sections
}

/// Every cell of the golden page and of the bundle's, one case each.
pub(super) fn held(page: &str, golden: &str, found: &[Section]) -> Vec<Held> {
    let golden = cells(&read(golden));
    let found = cells(found);
    let keys: std::collections::BTreeSet<&Cell> = golden.keys().chain(found.keys()).collect();
    let shown = |cells: &BTreeMap<Cell, String>, key: &Cell| {
        cells.get(key).cloned().unwrap_or_else(|| "(no such cell)".to_owned())
    };
    let one = |key: &Cell| Held {
        page: page.to_owned(),
        name: format!("{} | {} | {}", key.0, key.1, key.2),
        expected: shown(&golden, key),
        got: shown(&found, key),
        deciding: vec![],
        passed: golden.get(key) == found.get(key),
    };
    keys.into_iter().map(one).collect()
}

/// Section, row, column.
type Cell = (String, String, String);

fn cells(sections: &[Section]) -> BTreeMap<Cell, String> {
    let mut cells = BTreeMap::new();
    for section in sections {
        for line in &section.rows {
            let name = line.first().cloned().unwrap_or_default();
            // a line that is short of cells is a line with empty ones
            let rest = line.iter().skip(1).cloned().chain(std::iter::repeat(String::new()));
            for (head, cell) in section.head.iter().skip(1).zip(rest) {
                cells.insert((section.title.clone(), name.clone(), head.clone()), cell);
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_it_was_written_and_keeps_the_words_above_it() {
        let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let section = Section {
            title: "purpose: x".into(),
            head: text(&["kind", "nurse"]),
            rows: vec![text(&["a note", "NO vip"]), text(&["another", "-"])],
        };
        let page = written(std::slice::from_ref(&section), Some("# words of ours\n\n## old\n"));
        assert!(page.starts_with("# words of ours\n\n## purpose: x\nkind"), "{page}");
        assert_eq!(read(&page), [section]);
        assert!(page.lines().all(|line| line == line.trim_end()));
        let changed = page.replace("NO vip", "yes");
        let failed: Vec<Held> = held("m", &changed, &read(&page)).into_iter().filter(|held| !held.passed).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].expected.as_str(), failed[0].got.as_str()), ("yes", "NO vip"));
        assert_eq!(failed[0].name, "purpose: x | a note | nurse");
    }
}
