//! `holds`: legal holds on a running server.

use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json};

use super::{
    Outcome,
    client::{Server, segment},
    print_json,
};

#[derive(Subcommand)]
pub(super) enum Holds {
    /// List holds: on whom, by whom, since when, and how many records each keeps
    List(List),
    /// Put a hold on a patient: nothing of theirs is erased or written over until it is lifted
    Place(Place),
    /// Lift a hold
    Lift(Lift),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Place {
    #[command(flatten)]
    on: On,
    /// Why, such as the number of a case
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Lift {
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// On whom: `System` and `wardkeep` stand for the whole store, whose records then do not expire.
#[derive(Args)]
struct On {
    /// Entity type of the patient, such as Patient
    #[arg(long = "type", value_name = "TYPE")]
    ty: String,
    /// Entity id of the patient
    #[arg(long)]
    id: String,
}

impl On {
    fn path(&self) -> String {
        format!("/v1/holds/{}/{}", segment(&self.ty), segment(&self.id))
    }
}

impl Holds {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::List(verb) => verb.run(),
            Self::Place(verb) => verb.run(),
            Self::Lift(verb) => verb.run(),
        }
    }
}

impl List {
    fn run(self) -> Outcome {
        let all = self.server.client()?.get("/v1/holds")?;
        if self.json {
            print_json(&all);
            return Ok(());
        }
        let mut table = comfy_table::Table::new();
        table.set_header(["on", "records", "since", "by", "reason"]);
        for hold in all.get("holds").and_then(Json::as_array).into_iter().flatten() {
            let word = |name| hold.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
            let records = hold.get("records").and_then(Json::as_u64).unwrap_or_default().to_string();
            table.add_row([named(hold.get("patient")), records, word("since"), named(hold.get("by")), word("reason")]);
        }
        println!("{table}");
        Ok(())
    }
}

impl Place {
    fn run(self) -> Outcome {
        let mut body = Map::new();
        if let Some(reason) = &self.reason {
            body.insert("reason".into(), reason.as_str().into());
        }
        let held = self.server.client()?.put(&self.on.path(), &Json::Object(body))?;
        if self.json {
            print_json(&held);
            return Ok(());
        }
        let records = held.get("records").and_then(Json::as_u64).unwrap_or_default();
        println!("held: {} with {records} records", named(held.get("patient")));
        if records == 0 && self.on.ty != "System" {
            eprintln!("no record is theirs now: see that the id is the one that records carry");
        }
        Ok(())
    }
}

impl Lift {
    fn run(self) -> Outcome {
        let answer = self.server.client()?.delete(&self.on.path())?;
        if self.json {
            print_json(&answer);
        } else {
            println!("lifted");
        }
        Ok(())
    }
}

fn named(uid: Option<&Json>) -> String {
    let word = |name| uid.and_then(|uid| uid.get(name)).and_then(Json::as_str).unwrap_or_default();
    format!("{}::\"{}\"", word("type"), word("id"))
}
