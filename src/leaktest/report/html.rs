//! The result for a security board: one file, no script, no network; read on a screen or on paper, by eye or by ear.

use std::fmt::Write as _;

use super::{Mark, SAW_NOTHING, rate, unseen, verdict};
use crate::leaktest::{
    Conclusion, Effort, PROBES, Run,
    outcome::{Finding, Outcome, Plot, Series},
};

const STYLE: &str = include_str!("style.css");

/// The whole run.
pub fn html(run: &Run) -> String {
    let mut page = String::new();
    let title = format!("Leakage test of {}", run.about.name);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'\">\n\
         <title>{1}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{1}</h1>\n",
        digest(STYLE),
        escaped(&title)
    );
    summary(&mut page, run);
    overview(&mut page, run);
    limits(&mut page, run);
    run.outcomes.iter().for_each(|outcome| probe(&mut page, outcome));
    reading(&mut page, run);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// What lets a browser use this style and no other.
fn digest(style: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style))
}

fn summary(page: &mut String, run: &Run) {
    let class = match run.conclusion() {
        Conclusion::Clean => "clean",
        Conclusion::Leak => "leak",
        Conclusion::Broken => "broken",
        Conclusion::Part | Conclusion::Gaps | Conclusion::NotTested => "part",
    };
    let verdict = verdict(run);
    let _ = writeln!(page, "<p class=\"verdict {class}\"><strong>{}</strong></p>", escaped(&verdict));
    let _ = writeln!(
        page,
        "<p>Each caller of the world below asked as themselves for what they may not see. What they may see was worked out apart from the store, from \
         its policies and people alone. A leak is anything of a record that the caller may not see: an id, a text, a score, a count, a status, or a \
         byte more or less than if that record did not exist.</p>"
    );
    let effort = match run.effort {
        Effort::Quick => "quick",
        Effort::Full => "full",
    };
    let rows = [
        ("Store", format!("{} {}", run.about.name, run.about.version)),
        ("Where", run.about.place.clone()),
        ("World", format!("{}: {} records, {} callers", run.world, run.size.0, run.size.1)),
        ("Begun", format!("{}, took {:.0} s", run.began, run.took_s)),
        ("Kit", format!("wardkeep leaktest {}, {effort}, seed {}", env!("CARGO_PKG_VERSION"), run.seed)),
    ];
    page.push_str("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    let _ = writeln!(page, "<dt>Repeat it</dt><dd><code>{}</code></dd>\n</dl>", escaped(&run.command));
    if let Some(left) = &run.left {
        let _ = writeln!(
            page,
            "<p class=\"verdict broken\">Not all that was planted could be taken away: {}</p>",
            escaped(left)
        );
    }
}

/// How a mark is drawn.
fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Clean => "clean",
        Mark::Part => "part",
        Mark::Leak => "leak",
        Mark::Skipped => "skipped",
        Mark::NotTested => "not-tested",
        Mark::Broken => "broken",
    }
}

fn overview(page: &mut String, run: &Run) {
    page.push_str("<h2>All probes</h2>\n<div class=\"wide\"><table>\n<caption>What was asked, and what leaked</caption>\n<thead><tr>");
    for head in ["Probe", "Verdict", "Requests", "Attempts", "Leaked", "Rate of leaks, 95 % interval"] {
        let _ = write!(page, "<th scope=\"col\">{head}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for outcome in &run.outcomes {
        let interval = rate(outcome);
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\"><a href=\"#{0}\">{1}</a></th><td>{2}</td><td class=\"n\">{3}</td><td class=\"n\">{4}</td><td class=\"n\">{5}</td><td class=\"n\">{interval}</td></tr>",
            outcome.probe,
            escaped(outcome.title),
            badge(outcome),
            outcome.asked,
            outcome.trials,
            outcome.violations,
        );
    }
    for probe in PROBES.iter().filter(|p| run.outcomes.iter().all(|o| o.probe != p.name)) {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td><span class=\"badge skipped\">not run</span></td><td class=\"n\">-</td><td class=\"n\">-</td><td class=\"n\">-</td><td class=\"n\">-</td></tr>",
            escaped(probe.title)
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn limits(page: &mut String, run: &Run) {
    let lines = unseen(run);
    if lines.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>What this test could not see</h2>\n<ul>\n");
    lines.iter().for_each(|line| {
        let _ = writeln!(page, "<li>{}</li>", escaped(line));
    });
    page.push_str("</ul>\n</section>\n");
}

fn badge(outcome: &Outcome) -> String {
    let mark = Mark::of(outcome);
    format!("<span class=\"badge {}\">{}</span>", class(mark), mark.word())
}

fn probe(page: &mut String, outcome: &Outcome) {
    let _ = writeln!(
        page,
        "<section id=\"{}\">\n<h2>{} {}</h2>\n<p>{}</p>",
        outcome.probe,
        escaped(outcome.title),
        badge(outcome),
        escaped(outcome.about)
    );
    let _ = writeln!(
        page,
        "<p>{} requests, {} attempts, {} leaked; {:.0} s.</p>",
        outcome.asked, outcome.trials, outcome.violations, outcome.took_s
    );
    if let Some(why) = &outcome.broken {
        let _ = writeln!(page, "<p class=\"verdict leak\">Could not be finished: {}</p>", escaped(why));
    }
    if Mark::of(outcome) == Mark::NotTested {
        let _ = writeln!(page, "<p class=\"verdict part\">Not tested: {SAW_NOTHING}.</p>");
    }
    findings(page, outcome);
    figures(page, outcome);
    outcome.plots.iter().filter(|plot| !plot.rows.is_empty()).for_each(|one| plot(page, one));
    if !outcome.skipped.is_empty() {
        page.push_str("<p>Left out:</p>\n<ul>\n");
        outcome.skipped.iter().for_each(|why| {
            let _ = writeln!(page, "<li>{}</li>", escaped(why));
        });
        page.push_str("</ul>\n");
    }
    page.push_str("</section>\n");
}

fn findings(page: &mut String, outcome: &Outcome) {
    if outcome.findings.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "<div class=\"wide\"><table>\n<caption>The first {} of {} leaks: ids and kinds, never content</caption>\n<thead><tr><th scope=\"col\">What</th>\
         <th scope=\"col\">To whom</th><th scope=\"col\">How</th><th scope=\"col\">Repeat it</th></tr></thead>\n<tbody>",
        outcome.findings.len(),
        outcome.violations
    );
    for Finding { kind, caller, detail, reproduction } in &outcome.findings {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            escaped(kind),
            escaped(caller),
            escaped(detail),
            escaped(reproduction)
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn figures(page: &mut String, outcome: &Outcome) {
    if outcome.figures.is_empty() {
        return;
    }
    page.push_str("<div class=\"wide\"><table>\n<caption>Measured besides</caption>\n<thead><tr><th scope=\"col\">What</th><th scope=\"col\">Value</th></tr></thead>\n<tbody>\n");
    for figure in &outcome.figures {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escaped(&figure.name),
            escaped(&figure.value)
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
}

/// Width of the part with the rows, and where it begins.
const WIDTH: f64 = 420.0;
const LEFT: f64 = 330.0;
const ROW: f64 = 24.0;
/// Rows of one picture; the table above it has the others in words.
const ROWS: usize = 40;

fn plot(page: &mut String, plot: &Plot) {
    let rows = plot.rows.get(..ROWS).unwrap_or(&plot.rows);
    let most = rows.iter().map(|r| r.interval.map_or(r.value, |(_, high)| high.max(r.value)));
    let most = most.chain(plot.mark).fold(f64::MIN_POSITIVE, f64::max);
    let scale = Scale { most: rounded_up(most) };
    let height = ROW * (rows.len() as f64 + 2.0);
    let described: Vec<String> = rows.iter().map(|r| format!("{}: {}", r.label, words(r))).collect();
    let _ = writeln!(
        page,
        "<figure>\n<svg viewBox=\"0 0 {:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">\n<title>{}</title>",
        LEFT + WIDTH + 70.0,
        escaped(&described.join("; ")),
        escaped(&plot.title)
    );
    if let Some(mark) = plot.mark {
        let x = scale.x(mark);
        let _ = writeln!(
            page,
            "<line class=\"mark\" x1=\"{x:.1}\" y1=\"4\" x2=\"{x:.1}\" y2=\"{:.1}\"/>",
            height - ROW * 1.3
        );
    }
    for (at, row) in rows.iter().enumerate() {
        bar(page, &scale, row, ROW * (at as f64 + 0.2), plot.mark.is_some());
    }
    axis(page, &scale, height, &plot.unit);
    let more = plot.rows.len() - rows.len();
    let more = if more > 0 { format!(" ({more} more rows are not drawn.)") } else { String::new() };
    let _ = writeln!(page, "</svg>\n<figcaption>{}{more}</figcaption>\n</figure>", escaped(&plot.title));
}

/// As much of a label as there is room for; all of it is in the picture's description.
fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL {
        return label.to_owned();
    }
    label.chars().take(LABEL - 1).chain(['…']).collect()
}

/// Characters of a label.
const LABEL: usize = 48;

struct Scale {
    most: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + WIDTH * (value / self.most).clamp(0.0, 1.0)
    }
}

/// One, two or five times a power of ten.
fn rounded_up(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|n| *n >= most * 0.999_999).unwrap_or(most)
}

fn bar(page: &mut String, scale: &Scale, row: &Series, top: f64, dots: bool) {
    let (middle, x) = (top + ROW * 0.4, scale.x(row.value));
    let label = shortened(&row.label);
    let _ = writeln!(
        page,
        "<text x=\"{:.0}\" y=\"{:.1}\" class=\"label\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        escaped(&label)
    );
    if dots {
        let _ = writeln!(page, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"5\"/>");
    } else {
        let _ = writeln!(
            page,
            "<rect class=\"bar\" x=\"{LEFT:.0}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            x - LEFT,
            ROW * 0.8
        );
    }
    if let Some((low, high)) = row.interval {
        let (from, to) = (scale.x(low), scale.x(high));
        let _ = writeln!(
            page,
            "<path class=\"span\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {0:.1}V{1:.1}M{to:.1} {0:.1}V{1:.1}\"/>",
            middle - 5.0,
            middle + 5.0
        );
    }
    let _ =
        writeln!(page, "<text x=\"{:.0}\" y=\"{:.1}\">{}</text>", LEFT + WIDTH + 10.0, middle + 4.0, number(row.value));
}

fn axis(page: &mut String, scale: &Scale, height: f64, unit: &str) {
    let y = height - ROW * 1.3;
    let _ = writeln!(page, "<path class=\"axis\" d=\"M{LEFT:.0} 4V{y:.1}H{:.0}\"/>", LEFT + WIDTH);
    for part in [0.0, 0.5, 1.0] {
        let _ = writeln!(
            page,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + WIDTH * part,
            y + 15.0,
            number(scale.most * part)
        );
    }
    let _ =
        writeln!(page, "<text class=\"label\" x=\"{:.0}\" y=\"{:.1}\">{}</text>", LEFT - 8.0, y + 15.0, escaped(unit));
}

fn words(row: &Series) -> String {
    match row.interval {
        Some((low, high)) => format!("{} ({} to {})", number(row.value), number(low), number(high)),
        None => number(row.value),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 | 100.0.. => format!("{value:.0}"),
        1.0..100.0 => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn reading(page: &mut String, run: &Run) {
    page.push_str("<section>\n<h2>How to read this</h2>\n");
    let _ = writeln!(
        page,
        "<p>An <em>attempt</em> is one request, or one pair of requests that must be answered alike. The <em>interval</em> is that of Clopper and Pearson, which holds the true rate in 95 of \
         100 tests whose attempts know nothing of one another; those here share callers, records and a store, so take it for the order of the rate. With no leak in n attempts it ends near \
         3.7 / n. A probe that is <em>skipped</em> has shown nothing, nor has one that is <em>not tested</em>: it asked, and no record ever came back. One that is <em>clean in part</em> has shown nothing of what was left out. \
         All choices follow from the seed: <code>{}</code> asks the same again.</p>\n<p>A clean result is about these questions, this world and this store. It is not a proof, and it \
         says nothing of who can read the machine's memory or holds its keys.</p>\n</section>",
        escaped(&run.command)
    );
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            c if c.is_control() => " ".to_owned(),
            c => c.to_string(),
        })
        .collect()
}
