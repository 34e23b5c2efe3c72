//! `ingest`: records from a file of newline-delimited JSON to a running server.

use std::{fs::File, io::Read, path::PathBuf};

use clap::Args;
use indicatif::ProgressBar;

use super::{
    Failure, Outcome,
    client::{Server, segment},
    print_json, progress,
};

#[derive(Args)]
pub(super) struct Ingest {
    /// File of records, one JSON object a line; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Collection to put them into
    #[arg(long)]
    collection: String,
    /// Refuse ids that are there already
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Ingest {
    pub(super) fn run(self) -> Outcome {
        let client = self.server.client()?;
        let (source, total): (Box<dyn Read>, Option<u64>) = if self.file.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let file = File::open(&self.file)
                .map_err(|e| Failure::Failed(format!("cannot read {}: {e}", self.file.display())))?;
            let length = file.metadata().map(|m| m.len()).ok();
            (Box::new(file), length)
        };
        let bar = progress::counter("bytes sent", total);
        let mode = if self.create { "?mode=create" } else { "" };
        let path = format!("/v1/collections/{}/records{mode}", segment(&self.collection));
        let answer = client.put_lines(&path, &mut Counted { source, bar: &bar })?;
        bar.finish_and_clear();
        let count = |name| answer.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let (accepted, rejected) = (count("accepted"), count("rejected_count"));
        if self.json {
            print_json(&answer);
        } else {
            println!("{accepted} accepted, {rejected} rejected");
            for fault in answer.get("rejected").and_then(serde_json::Value::as_array).into_iter().flatten().take(20) {
                let word = |name| fault.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
                let line = fault.get("line").and_then(serde_json::Value::as_u64).unwrap_or(0);
                println!("  line {line}: {}: {}", word("code"), word("detail"));
            }
        }
        if rejected > 0 { Err(Failure::Found) } else { Ok(()) }
    }
}

struct Counted<'a> {
    source: Box<dyn Read>,
    bar: &'a ProgressBar,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}
