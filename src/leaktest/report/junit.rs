//! The result as JUnit XML: one case a probe.

use std::fmt::Write as _;

use super::{Mark, SAW_NOTHING, unseen, verdict, word};
use crate::leaktest::{Conclusion, Run, outcome::Outcome};

/// The whole run.
pub fn junit(run: &Run) -> String {
    let count = |mark| run.outcomes.iter().filter(|o| Mark::of(o) == mark).count();
    // a run that tested nothing is no green one
    let nothing = usize::from(run.conclusion() == Conclusion::NotTested);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuite name=\"wardkeep leaktest: {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.1}\">",
        escaped(&run.world),
        run.outcomes.len() + nothing,
        count(Mark::Leak),
        count(Mark::Broken) + count(Mark::NotTested) + nothing,
        count(Mark::Skipped),
        run.took_s
    );
    properties(&mut xml, run);
    run.outcomes.iter().for_each(|outcome| case(&mut xml, outcome));
    if nothing > 0 {
        let why = escaped(&verdict(run));
        let _ = writeln!(
            xml,
            "  <testcase classname=\"leaktest\" name=\"anything tested\"><error message=\"{why}\"/></testcase>"
        );
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn properties(xml: &mut String, run: &Run) {
    let mut all = vec![("verdict", word(run.conclusion()).to_owned())];
    all.push(("unsettled callers", run.unsettled.len().to_string()));
    all.extend(unseen(run).into_iter().map(|line| ("not seen", line)));
    xml.push_str("  <properties>\n");
    for (name, value) in all {
        let _ = writeln!(xml, "    <property name=\"{name}\" value=\"{}\"/>", escaped(&value));
    }
    xml.push_str("  </properties>\n");
}

fn case(xml: &mut String, outcome: &Outcome) {
    let inside = match Mark::of(outcome) {
        Mark::Clean => String::new(),
        Mark::Part => format!("<system-out>left out: {}</system-out>", escaped(&outcome.skipped.join("; "))),
        Mark::Leak => failure(outcome),
        Mark::Skipped => format!("<skipped message=\"{}\"/>", escaped(&outcome.skipped.join("; "))),
        Mark::NotTested => format!("<error message=\"not tested: {SAW_NOTHING}\"/>"),
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
