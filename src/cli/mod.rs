//! The command line: one verb, one file. Exit codes: 0 done, 1 failed, 2 usage, 3 a check found something.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line speaks to its user here")]

mod audit;
mod backup;
mod caller;
mod client;
mod config;
mod demo;
mod holds;
mod ingest;
mod init;
mod keys;
mod leaktest;
mod offline;
mod passphrase;
mod policy;
mod private;
mod progress;
mod restore;
mod search;
mod serve;
mod status;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An access-controlled, encrypted vector store for retrieval-augmented generation.
#[derive(Parser)]
#[command(name = "wardkeep", version, about, max_term_width = 100, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the main job on a sample ward, in a throw-away store
    Demo(demo::Demo),
    /// Create a store and print its first administrator's API key, once
    Init(init::Init),
    /// Run the server
    Serve(serve::Serve),
    /// Verify the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Send records to a running server
    Ingest(ingest::Ingest),
    /// Ask a running server
    Search(search::Search),
    /// Check policies, or put them into force
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Caller(caller::Caller),
    /// List, place and lift legal holds
    #[command(subcommand)]
    Holds(holds::Holds),
    /// Look after the keys that seal what is stored
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Back a store up, and put what a restore needs of its keys into escrow
    Backup(backup::Backup),
    /// Make a store anew from a backup and an escrow
    Restore(restore::Restore),
    /// Say how a running server is
    Status(status::Status),
    /// Attack a store as those would who may not see all of it, and print the verdict
    Leaktest(Box<leaktest::Leaktest>),
    /// Look after a data directory
    #[command(subcommand)]
    Store(store::Store),
}

/// How a verb ended, when it did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(String),
    /// The words of the command are off.
    Usage(String),
    /// A check found something; it has been told already.
    Found,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

/// Parses the arguments, runs the verb, tells what went wrong.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // Whatever is written from here on is the operator's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Err(error) = private::keep_memory_private() {
        eprintln!("error: this process cannot keep its memory to itself: {error}");
        return ExitCode::from(1);
    }
    let outcome = match arguments.verb {
        Verb::Demo(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Serve(verb) => verb.run(),
        Verb::Audit(verb) => verb.run(),
        Verb::Ingest(verb) => verb.run(),
        Verb::Search(verb) => verb.run(),
        Verb::Policy(verb) => verb.run(),
        Verb::Caller(verb) => verb.run(),
        Verb::Holds(verb) => verb.run(),
        Verb::Keys(verb) => verb.run(),
        Verb::Backup(verb) => verb.run(),
        Verb::Restore(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Leaktest(verb) => verb.run(),
        Verb::Store(verb) => verb.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Found) => ExitCode::from(3),
    }
}

/// Prints an answer for programs.
fn print_json(value: &serde_json::Value) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}
