//! The result as JUnit XML: one case a probe.

use std::fmt::Write as _;

use super::Mark;
use crate::leaktest::{Run, bench::Outcome};

/// The whole run.
pub fn junit(run: &Run) -> String {
    let count = |mark| run.outcomes.iter().filter(|o| Mark::of(o) == mark).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuite name=\"wardkeep leaktest: {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.1}\">",
        escaped(&run.world),
        run.outcomes.len(),
        count(Mark::Leak),
        count(Mark::Broken),
        count(Mark::Skipped),
        run.took_s
    );
    run.outcomes.iter().for_each(|outcome| case(&mut xml, outcome));
    xml.push_str("</testsuite>\n");
    xml
}

fn case(xml: &mut String, outcome: &Outcome) {
    let inside = match Mark::of(outcome) {
        Mark::Clean => String::new(),
        Mark::Part => format!("<system-out>left out: {}</system-out>", escaped(&outcome.skipped.join("; "))),
        Mark::Leak => failure(outcome),
        Mark::Skipped => format!("<skipped message=\"{}\"/>", escaped(&outcome.skipped.join("; "))),
        Mark::Broken => format!("<error message=\"{}\"/>", escaped(outcome.broken.as_deref().unwrap_or_default())),
    };
    let _ = writeln!(
        xml,
        "  <testcase classname=\"leaktest\" name=\"{}\" time=\"{:.1}\">{inside}</testcase>",
        outcome.probe, outcome.took_s
    );
}

fn failure(outcome: &Outcome) -> String {
    let lines: Vec<String> = outcome
        .findings
        .iter()
        .map(|f| format!("{} to {}: {}\n{}", f.kind, f.caller, f.detail, f.reproduction))
        .collect();
    let message = format!("{} of {} attempts leaked", outcome.violations, outcome.trials);
    format!("<failure message=\"{}\">{}</failure>", escaped(&message), escaped(&lines.join("\n")))
}

fn escaped(text: &str) -> String {
    let kept = text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c });
    kept.map(|c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => c.to_string(),
    })
    .collect()
}
