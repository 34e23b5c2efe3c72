//! A bundle as people keep it: a directory of files; and messages about it that point into those files.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    cli::Failure,
    model::{BundleSource, TemplateLink},
    policy::{BundleFault, Part, Place, Warning},
};

/// A directory's texts joined, and which stretch of them each file is.
pub(in crate::cli) struct Folder {
    pub(in crate::cli) source: BundleSource,
    files: Vec<(Part, Range<usize>, PathBuf)>,
}

/// The files of a bundle that Cedar reads, in order of their names.
pub(super) fn texts(dir: &Path) -> Result<Vec<(Part, PathBuf)>, Failure> {
    let part = |path: PathBuf| match path.extension().and_then(|e| e.to_str()) {
        Some("cedarschema") => Some((Part::Schema, path)),
        Some("cedar") => Some((Part::Policies, path)),
        Some(_) | None => None,
    };
    Ok(listed(dir)?.into_iter().filter_map(part).collect())
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| unreadable(dir, &e))?;
    files.sort();
    Ok(files)
}

/// One file's text.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {error}", path.display()))
}

fn links(text: &str) -> Result<Vec<TemplateLink>, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::Usage(format!("links.json: {e}")))
}

impl Folder {
    /// A bundle from a directory: files in order of their names.
    pub(in crate::cli) fn open(dir: &Path, note: &str) -> Result<Self, Failure> {
        let mut folder =
            Self { source: BundleSource { note: note.to_owned(), ..BundleSource::default() }, files: Vec::new() };
        for (part, path) in texts(dir)? {
            let text = text(&path)?;
            let joined = match part {
                Part::Schema => &mut folder.source.schema,
                Part::Policies | Part::Templates => &mut folder.source.policies,
            };
            let start = joined.len();
            joined.push_str(&text);
            folder.files.push((part, start..joined.len(), path));
            if part == Part::Policies {
                joined.push('\n');
            }
        }
        if folder.files.iter().filter(|(part, ..)| *part == Part::Schema).count() != 1 {
            return Err(Failure::Usage(format!("{} must hold exactly one .cedarschema file", dir.display())));
        }
        if let Some(path) = listed(dir)?.iter().find(|path| path.file_name().is_some_and(|n| n == "links.json")) {
            folder.source.links = links(&text(path)?)?;
        }
        Ok(folder)
    }

    /// A place's file, and the place in it.
    pub(super) fn locate(&self, place: &Place) -> Option<Located<'_>> {
        let within = |(part, span, _): &&(Part, Range<usize>, PathBuf)| {
            *part == place.part && span.start <= place.start && place.start <= span.end
        };
        let (part, span, path) = self.files.iter().rfind(within)?;
        let text = part.of(&self.source).get(span.clone())?;
        let (start, end) = (place.start - span.start, place.end.saturating_sub(span.start).min(text.len()));
        let before = text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(line_start..)?.lines().next().unwrap_or_default();
        Some(Located {
            path,
            line: 1 + before.matches('\n').count(),
            column: 1 + text.get(line_start..start)?.chars().count(),
            text: line,
            width: text.get(start..end)?.lines().next().unwrap_or_default().chars().count().max(1),
        })
    }

    /// A fault as a compiler would tell it.
    pub(super) fn shown(&self, kind: &str, code: &str, message: &str, place: Option<&Place>) -> String {
        let mut told = format!("{kind}[{code}]: {message}\n");
        if let Some(located) = place.and_then(|place| self.locate(place)) {
            told.push_str(&located.excerpt());
        }
        told
    }

    pub(super) fn fault(&self, fault: &BundleFault) -> String {
        self.shown("error", fault.code, &fault.message, fault.place.as_ref())
    }

    pub(super) fn warning(&self, warning: &Warning) -> String {
        let message = match &warning.policy {
            Some(policy) => format!("policy \"{policy}\": {}", warning.message),
            None => warning.message.clone(),
        };
        self.shown("warning", warning.code.name(), &message, warning.place.as_ref())
    }
}

/// A place in a file.
pub(super) struct Located<'a> {
    pub(super) path: &'a Path,
    pub(super) line: usize,
    pub(super) column: usize,
    text: &'a str,
    width: usize,
}

impl Located<'_> {
    /// The line, and carets under what is meant. Controls that a file may hold do not reach the terminal.
    fn excerpt(&self) -> String {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = self.text.chars().map(plain).collect();
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        format!(
            "{margin}--> {}:{}:{}\n{margin} |\n{number} | {line}\n{margin} | {}{}\n",
            self.path.display(),
            self.line,
            self.column,
            " ".repeat(self.column - 1),
            "^".repeat(self.width),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_joined_text_is_shown_in_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("a.cedar", "permit;"), ("b.cedar", "// ü\n\té forbid  x;\n"), ("s.cedarschema", "entity A;")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let folder = Folder::open(dir.path(), "").unwrap();
        let start = folder.source.policies.find("forbid").unwrap();
        let place = Place { part: Part::Policies, line: 9, column: 9, start, end: start + 6 };
        let shown = folder.shown("error", "code", "words", Some(&place));
        let path = dir.path().join("b.cedar");
        let expected =
            format!("error[code]: words\n --> {}:2:4\n  |\n2 |  é forbid  x;\n  |    ^^^^^^\n", path.display());
        assert_eq!(shown, expected);
        let at_end = Place { part: Part::Policies, line: 1, column: 8, start: 7, end: 7 };
        assert_eq!(folder.locate(&at_end).unwrap().path, dir.path().join("a.cedar"));
        assert_eq!(folder.shown("error", "code", "words", None), "error[code]: words\n");
    }
}
