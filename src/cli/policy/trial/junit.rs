//! Results as JUnit XML, for machines that show test results: one suite a page.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Held;

/// The whole document.
pub(super) fn document(held: &[Held]) -> String {
    let mut pages: BTreeMap<&str, Vec<&Held>> = BTreeMap::new();
    for one in held {
        pages.entry(&one.page).or_default().push(one);
    }
    let failed = |cases: &[&Held]| cases.iter().filter(|case| !case.passed).count();
    let all: Vec<&Held> = held.iter().collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"wardkeep policy test\" tests=\"{}\" failures=\"{}\" errors=\"0\">",
        all.len(),
        failed(&all)
    );
    for (page, cases) in &pages {
        let (tests, failures) = (cases.len(), failed(cases));
        let page = escaped(page);
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{page}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">"
        );
        cases.iter().for_each(|case| one(&mut xml, &page, case));
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn one(xml: &mut String, page: &str, case: &Held) {
    let name = escaped(&case.name);
    let _ = write!(xml, "    <testcase classname=\"{page}\" name=\"{name}\"");
    if case.passed {
        xml.push_str("/>\n");
        return;
    }
    let message = escaped(&format!("expected {}, got {}", case.expected, case.got));
    let deciding = escaped(&case.deciding.join(", "));
    let _ = writeln!(xml, "><failure message=\"{message}\">deciding policies: {deciding}</failure></testcase>");
}

/// Good in text and in attributes: what XML 1.0 has no way to write becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_is_called_cannot_break_the_document() {
        assert_eq!(escaped("a<b>&\"'\u{1}\n"), "a&lt;b&gt;&amp;&quot;&apos;\u{fffd}&#10;");
        let held = Held {
            page: "p&.json".into(),
            name: "<\"x\">".into(),
            expected: "allow".into(),
            got: "deny".into(),
            deciding: vec!["a".into(), "b".into()],
            passed: false,
        };
        let passed = Held { name: "y".into(), passed: true, deciding: vec![], page: "q".into(), ..held_like(&held) };
        let xml = document(&[held, passed]);
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="wardkeep policy test" tests="2" failures="1" errors="0">
  <testsuite name="p&amp;.json" tests="1" failures="1" errors="0" skipped="0">
    <testcase classname="p&amp;.json" name="&lt;&quot;x&quot;&gt;"><failure message="expected allow, got deny">deciding policies: a, b</failure></testcase>
  </testsuite>
  <testsuite name="q" tests="1" failures="0" errors="0" skipped="0">
    <testcase classname="q" name="y"/>
  </testsuite>
</testsuites>
"#;
        assert_eq!(xml, expected);
    }

    fn held_like(held: &Held) -> Held {
        Held {
            page: held.page.clone(),
            name: held.name.clone(),
            expected: held.expected.clone(),
            got: held.got.clone(),
            deciding: held.deciding.clone(),
            passed: held.passed,
        }
    }
}
