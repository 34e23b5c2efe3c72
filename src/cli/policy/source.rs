//! A bundle as people keep it: a directory of files.

use std::path::{Path, PathBuf};

use crate::{
    cli::Failure,
    model::{BundleSource, TemplateLink},
};

/// A bundle from a directory: files in order of their names.
pub(in crate::cli) fn read(dir: &Path, note: &str) -> Result<BundleSource, Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::Failed(format!("cannot read {}: {e}", path.display()));
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| failed(dir, e))?;
    files.sort();
    let mut source = BundleSource { note: note.to_owned(), ..BundleSource::default() };
    let mut schemas = 0;
    for path in &files {
        let text = || std::fs::read_to_string(path).map_err(|e| failed(path, e));
        match path.extension().and_then(|e| e.to_str()) {
            Some("cedarschema") => {
                schemas += 1;
                source.schema = text()?;
            }
            Some("cedar") => {
                source.policies.push_str(&text()?);
                source.policies.push('\n');
            }
            Some("json") if path.file_name().is_some_and(|n| n == "links.json") => source.links = links(&text()?)?,
            Some(_) | None => {}
        }
    }
    if schemas != 1 {
        return Err(Failure::Usage(format!("{} must hold exactly one .cedarschema file", dir.display())));
    }
    Ok(source)
}

fn links(text: &str) -> Result<Vec<TemplateLink>, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::Usage(format!("links.json: {e}")))
}
