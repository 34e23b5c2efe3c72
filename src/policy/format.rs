//! One style for bundles. Policies go through Cedar's own formatter, which keeps comments and annotations and proves that it changed
//! nothing; schemas, for which it has none, are indented anew and otherwise left as their author broke them.

use cedar_policy_formatter::{Config, policies_str_to_pretty};

use super::{
    BundleFault, bounds,
    fault::{Part, Place},
    tokens::{Kind, tokens},
};

/// Columns of a line of policies, where Cedar's formatter can keep to it.
const LINE_WIDTH: usize = 100;
const INDENT: usize = 2;

/// A text in that style. Call it on a large stack.
pub(super) fn formatted(text: &str, part: Part) -> Result<String, BundleFault> {
    bounds::check(text, part)?;
    match part {
        Part::Schema => schema(text),
        Part::Policies | Part::Templates => policies(text, part),
    }
}

fn policies(text: &str, part: Part) -> Result<String, BundleFault> {
    if let Err(error) = text.parse::<cedar_policy::PolicySet>() {
        let error = cedar_policy::ffi::DetailedError::from(&error);
        let place = error.source_locations.first().map(|l| Place::new(part, text, l.loc.start..l.loc.end));
        return Err(BundleFault::new("syntax", super::compile::told(&error)).at(place));
    }
    let (heading, text) = heading(text);
    if tokens(text).all(|token| token.kind == Kind::Comment) {
        return Ok(tidied(&format!("{heading}{text}")));
    }
    let config = Config { line_width: LINE_WIDTH, indent_width: isize::try_from(INDENT).unwrap_or(2) };
    policies_str_to_pretty(text, &config)
        .map(|text| if heading.trim().is_empty() { text } else { format!("{}\n{text}", tidied(heading)) })
        .map_err(|_| {
            BundleFault::new("syntax", "the formatter could not keep the meaning of this text; it is left as it is")
        })
}

/// The comments that a file begins with, as far as a blank line parts them from what follows: Cedar's formatter would join them to
/// the first policy's own.
fn heading(text: &str) -> (&str, &str) {
    let (mut end, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        match line.trim() {
            "" => end = at,
            comment if comment.starts_with("//") => {}
            _ => break,
        }
    }
    text.split_at_checked(end).unwrap_or(("", text))
}

fn schema(text: &str) -> Result<String, BundleFault> {
    let meaning = |text: &str| {
        cedar_policy::schema_str_to_json_with_resolved_types(text).map(|(json, _)| json).map_err(|error| {
            let error = cedar_policy::ffi::DetailedError::from(&error);
            let place = error.source_locations.first().map(|l| Place::new(Part::Schema, text, l.loc.start..l.loc.end));
            BundleFault::new("schema", super::compile::told(&error)).at(place)
        })
    };
    let new = indented(text);
    if meaning(text)? == meaning(&new)? {
        Ok(new)
    } else {
        Err(BundleFault::new("schema", "the formatter could not keep the meaning of this text; it is left as it is"))
    }
}

/// Lines begin as deep as the brackets around them; strings and comments keep what they hold.
fn indented(text: &str) -> String {
    let (mut lines, mut depth, mut text_end) = (Vec::new(), 0_usize, 0);
    let mut spans = tokens(text).peekable();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let (mut opened, mut closed_first, mut first) = (0_isize, 0, true);
        let began_in_text = text_end > start;
        while let Some(token) = spans.next_if(|token| token.span.start < end) {
            match (token.kind, token.of(text)) {
                (Kind::Sign, "{" | "[" | "(" | "<") => (opened, first) = (opened + 1, false),
                (Kind::Sign, "}" | "]" | ")" | ">") => {
                    opened -= 1;
                    closed_first += usize::from(first);
                }
                (Kind::Text, _) => (text_end, first) = (token.span.end, false),
                (Kind::Word | Kind::Comment | Kind::Sign, _) => first = false,
            }
        }
        if began_in_text {
            lines.push(line.trim_end_matches('\n').to_owned());
        } else {
            let level = depth.saturating_sub(closed_first);
            let trimmed = if text_end > end { line.trim_start().trim_end_matches('\n') } else { line.trim() };
            let indent = if trimmed.is_empty() { 0 } else { level * INDENT };
            lines.push(format!("{}{trimmed}", " ".repeat(indent)));
        }
        depth = depth.saturating_add_signed(opened);
        start = end;
    }
    tidied(&lines.join("\n"))
}

/// No blank line at the start or the end, never two together, and one newline last.
fn tidied(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if !line.is_empty() || kept.last().is_some_and(|last| !last.is_empty()) {
            kept.push(line);
        }
    }
    let text = kept.join("\n");
    let text = text.trim_end();
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}
