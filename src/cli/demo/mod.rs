//! `demo`: the main job on the sample ward, over HTTP, in a throw-away store: the same questions asked by five people.

mod stage;
mod tables;

use std::time::Instant;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Failure, Outcome, client::Client};
use stage::{CAST, Stage, Ward};

/// Records asked for: more than some may have at once, so that the caps show.
const LIMIT: usize = 25;
/// The question that only the chart's own readers may have answered: a near-duplicate of this record's text.
const HIDDEN_QUESTION: &str = "q-104";
/// What everybody asks.
const QUESTIONS: [&str; 3] = ["q-001", "q-120", HIDDEN_QUESTION];

#[derive(Args)]
pub(super) struct Demo {
    /// Keep the store instead of removing it, and say where it is
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one person got for one question.
struct Answer {
    who: &'static stage::Person,
    question: String,
    body: Json,
}

impl Demo {
    pub(super) fn run(self) -> Outcome {
        let started = Instant::now();
        let say = |text: &str| {
            if !self.json {
                println!("{text}");
            }
        };
        let ward = Ward::read()?;
        say("\nWardkeep demo: one ward, one store, five people, the same questions.\n");
        let stage = Stage::raise(self.keep)?;
        let root = stage.client(stage.root_key());
        let records = stage.fill(&root)?;
        say(&format!(
            "{records} records of 100 patients are in, sealed on disk; the clinical policies are in force.\n"
        ));
        let answers = ask(&stage, &root, &ward)?;
        if !self.json {
            tell(&ward, &answers);
        }
        let head = root.get("/v1/audit?limit=1000")?;
        let entries = head.get("entries").and_then(Json::as_array).map_or(0, Vec::len);
        let (intact, broken) = stage.lower()?;
        if self.json {
            super::print_json(&json!({
                "records": records,
                "answers": answers.iter().map(|a| json!({"who": a.who.id, "question": a.question, "answer": a.body})).collect::<Vec<_>>(),
                "audit": {"read": entries, "intact": intact, "after_one_flipped_byte": broken},
            }));
        } else {
            println!("The audit trail\n");
            println!("  as it is                    {intact}");
            println!("  a copy, one byte flipped    {broken}");
            println!("\nDone in {:.1} s. Next: README.md, \"Your own store\".", started.elapsed().as_secs_f32());
        }
        Ok(())
    }
}

fn ask(stage: &Stage, root: &Client, ward: &Ward) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let vector = ward.question(question).and_then(|q| q.get("vector_base64")).cloned().unwrap_or_default();
        for who in &CAST {
            let client = stage.client(&stage.key_for(root, who)?);
            let body = json!({"vector_base64": vector, "limit": LIMIT, "purpose": who.purpose, "include": ["text", "attributes"]});
            let answer = client.post("/v1/collections/ward/search", &body)?;
            answers.push(Answer { who, question: question.to_owned(), body: answer });
        }
    }
    Ok(answers)
}

fn tell(ward: &Ward, answers: &[Answer]) {
    for question in QUESTIONS {
        let text = ward.question(question).and_then(|q| q.get("text")).and_then(Json::as_str).unwrap_or_default();
        println!("\"{}\"", tables::shortened(text, 100));
        if question == HIDDEN_QUESTION {
            println!("(the words of a laboratory report in a chart that the nurse is not assigned to)");
        }
        println!("{}\n", tables::answers(answers.iter().filter(|a| a.question == question)));
    }
    println!("The nearest of the last question, for the two who differ\n");
    for who in ["m-nurse-000", "m-physician-006"] {
        if let Some(answer) = answers.iter().find(|a| a.question == HIDDEN_QUESTION && a.who.id == who) {
            println!("{}\n{}\n", answer.who.role, tables::hits(&answer.body, 3));
        }
    }
    println!("Nothing of a hidden record is in an answer: not its text, id or score, not a count, not an order.\n");
}
