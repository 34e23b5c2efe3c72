//! Explanations of the sample ward: standings agree with the full decision, and words are the author's.

use serde_json::json;

use super::*;
use crate::{
    model::EntityUid,
    policy::{
        DenyReason, Position,
        samples::{POLICIES, ask, bundle, clinician, directory, record},
    },
};

fn account<'e>(explanation: &'e Explanation, policy: &str) -> &'e Account {
    explanation
        .accounts
        .iter()
        .find(|a| a.policy.as_ref() == policy)
        .unwrap_or_else(|| panic!("{policy}: {explanation:?}"))
}

fn words(account: &Account) -> Vec<(String, Met)> {
    account.requires.iter().map(|r| (r.words(), r.met)).collect()
}

#[test]
fn a_permit_that_fails_tells_what_would_have_to_be_and_where_it_is_written() {
    let bundle = bundle(POLICIES);
    let directory = directory(&bundle);
    let explanation = bundle.explain(&ask(&bundle, "nurse"), &record(&bundle, "r", "p2", "lab", &[]), &directory);
    let care_team = account(&explanation, "care-team");
    assert_eq!((care_team.effect, care_team.standing, care_team.turned_by), (Effect::Permit, Standing::Fails, Some(2)));
    let role = r#"`["nurse", "physician", "attending", "psychotherapist"].contains(principal.role)`"#;
    let expected = [
        (role.to_owned(), Met::Yes),
        ("`resource has patient`".to_owned(), Met::Yes),
        ("`resource.patient in principal.assigned`".to_owned(), Met::No),
    ];
    assert_eq!(words(care_team), expected);
    assert_eq!(care_team.change.as_deref(), Some("would hold if `resource.patient in principal.assigned`"));
    let place = care_team.requires[2].place.unwrap();
    let line = POLICIES.lines().nth(place.line - 1).unwrap();
    assert!(line.chars().skip(place.column - 1).collect::<String>().starts_with("resource.patient in"), "{line}");
}

#[test]
fn a_forbid_that_holds_tells_what_holds_it_and_an_unless_is_required_not_to_be() {
    let bundle = bundle(POLICIES);
    let directory = directory(&bundle);
    let record = record(&bundle, "r", "p1", "substance_use", &[("sensitivity", json!(3))]);
    let explanation = bundle.explain(&ask(&bundle, "nurse"), &record, &directory);
    assert!(matches!(explanation.verdict, Verdict::Deny(DenyReason::Forbidden(_))));
    let vip = account(&explanation, "vip");
    let unless = r#"["attending", "head", "privacy"].contains(principal.role)"#;
    let expected = [("`resource.sensitivity >= 3`".to_owned(), Met::Yes), (format!("not `{unless}`"), Met::Yes)];
    assert_eq!((vip.standing, words(vip)), (Standing::Holds, expected.to_vec()));
    assert_eq!(
        vip.change.as_deref(),
        Some(format!("would not hold if not `resource.sensitivity >= 3` or `{unless}`").as_str())
    );
    let part2 = account(&explanation, "part2");
    let last = part2.requires.last().unwrap();
    assert_eq!((last.negated, last.met, last.join), (true, Met::Yes, Some(Join::Any)));
    let met: Vec<_> = last.parts.iter().map(|part| (part.text.as_str(), part.met)).collect();
    let expected = [
        ("resource has patient", Met::No),
        ("resource.patient has consent", Met::Yes),
        ("resource.patient.consent", Met::NotReached),
        ("resource.patient in principal.assigned", Met::No),
    ];
    assert_eq!(met, expected);
    // those that decide come first
    let names: Vec<_> = explanation.accounts.iter().map(|a| (a.policy.as_ref(), a.standing)).take(3).collect();
    assert_eq!(names, [("part2", Standing::Holds), ("vip", Standing::Holds), ("care-team", Standing::Holds)]);
}

#[test]
fn what_is_missing_or_errs_is_told_by_expression_and_type_and_not_by_id() {
    let text = r#"
        @id("counts") permit (principal, action == Action::"Retrieve", resource is Record)
        when { resource has author && 9223372036854775807 + resource.author.level > 0 };
        @id("chart") forbid (principal, action, resource is Record)
        when { resource has patient && resource.patient.vip };"#;
    let bundle = bundle(text);
    let mut directory = directory(&bundle);
    directory.upsert(clinician(&bundle, "author", "nurse", &[]));
    let author = ("author", json!({"type": "Clinician", "id": "author"}));
    let explanation =
        bundle.explain(&ask(&bundle, "nurse"), &record(&bundle, "r", "hidden", "lab", &[author]), &directory);
    assert!(matches!(explanation.verdict, Verdict::Deny(DenyReason::MissingEntity(_))));
    let (chart, counts) = (account(&explanation, "chart"), account(&explanation, "counts"));
    assert_eq!((chart.standing, counts.standing), (Standing::MissingEntity, Standing::Erred));
    let change = "`resource.patient` leads to an entity of type `Patient` that is not stored; what is missing denies";
    assert_eq!(chart.change.as_deref(), Some(change));
    assert_eq!(counts.stumble.as_ref().unwrap().expression, "9223372036854775807 + resource.author.level");
    assert!(!format!("{explanation:?}").contains("hidden"));
}

#[test]
fn a_caller_whom_no_permit_is_for_is_told_whom_the_permits_are_for() {
    let text = r#"
        @id("teams") permit (principal in Team::"a", action == Action::"Retrieve", resource is Record);
        @id("one") permit (principal == Clinician::"x", action == Action::"Retrieve", resource in Collection::"ward");"#;
    let bundle = bundle(text);
    let explanation =
        bundle.explain(&ask(&bundle, "nurse"), &record(&bundle, "r", "p1", "lab", &[]), &directory(&bundle));
    assert_eq!((explanation.verdict, explanation.accounts), (Verdict::Deny(DenyReason::NoPermit), vec![]));
    let scopes: Vec<_> = explanation.elsewhere.iter().map(|e| e.scope.as_str()).collect();
    assert_eq!(
        scopes,
        [
            r#"principal == Clinician::"x", resource in Collection::"ward""#,
            r#"principal in Team::"a", resource is Record"#
        ]
    );
}

#[test]
fn the_standings_of_policies_make_the_verdict_for_every_caller_and_kind_of_record() {
    let bundle = bundle(POLICIES);
    let mut directory = directory(&bundle);
    directory.remove(&EntityUid::new("Patient", "gone"));
    let mut seen = BTreeSet::new();
    for caller in ["nurse", "privacy", "temp"] {
        for patient in ["", "p1", "p2", "gone"] {
            for kind in ["lab", "psychotherapy", "substance_use"] {
                for sensitivity in [1, 3] {
                    let more = [("sensitivity", json!(sensitivity))];
                    let explanation =
                        bundle.explain(&ask(&bundle, caller), &record(&bundle, "r", patient, kind, &more), &directory);
                    let named = |standing, effect| -> Vec<PolicyName> {
                        let of = explanation.accounts.iter().filter(|a| a.standing == standing && a.effect == effect);
                        of.map(|a| a.policy.clone()).collect()
                    };
                    let missing: Vec<_> = explanation
                        .accounts
                        .iter()
                        .filter(|a| a.standing == Standing::MissingEntity)
                        .map(|a| a.policy.clone())
                        .collect();
                    let (forbids, permits) =
                        (named(Standing::Holds, Effect::Forbid), named(Standing::Holds, Effect::Permit));
                    let verdict = match (missing.is_empty(), forbids.is_empty(), permits.is_empty()) {
                        (false, ..) => Verdict::Deny(DenyReason::MissingEntity(missing)),
                        (true, false, _) => Verdict::Deny(DenyReason::Forbidden(forbids)),
                        (true, true, false) => Verdict::Allow { permits },
                        (true, true, true) => Verdict::Deny(DenyReason::NoPermit),
                    };
                    assert_eq!(explanation.verdict, verdict);
                    for account in &explanation.accounts {
                        let all = account.requires.iter().all(|r| r.met == Met::Yes);
                        assert_eq!(all, account.standing == Standing::Holds, "{account:?}");
                        assert!(account.requires.iter().all(|r| r.place.is_some()), "{account:?}");
                    }
                    seen.insert(format!("{:?}", explanation.verdict).split('(').next().unwrap().to_owned());
                }
            }
        }
    }
    assert!(seen.len() >= 2, "{seen:?}");
}

#[test]
fn parts_are_found_in_templates_and_in_any_shape_and_told_in_cedars_own_words_where_the_text_is_not_found() {
    let compiled = |policies: &str, templates: &str| {
        let link = crate::model::TemplateLink {
            template: "shared".into(),
            id: "shared-nurse".into(),
            values: [("principal".to_owned(), EntityUid::new("Clinician", "nurse"))].into(),
        };
        let source = crate::model::BundleSource {
            schema: crate::policy::samples::schema(""),
            policies: policies.into(),
            templates: templates.into(),
            links: vec![link],
            ..Default::default()
        };
        Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let bundle = compiled(
        r#"@id("shapes") permit (principal, action == Action::"Retrieve", resource is Record)
           when { (resource.kind != "lab" || principal is Clinician in Team::"a") && !(resource has sealed) }
           when { if resource has patient then resource.sensitivity >= 1 else false };
           @id("od\u{64}") permit (principal, action == Action::"Retrieve", resource is Record) when { resource.kind like "l*" };"#,
        r#"@id("shared") permit (principal == ?principal, action == Action::"Retrieve", resource is Record)
           when { resource.department == "surgery" };"#,
    );
    let explanation =
        bundle.explain(&ask(&bundle, "nurse"), &record(&bundle, "r", "p1", "lab", &[]), &directory(&bundle));
    let shared = account(&explanation, "shared");
    assert_eq!((shared.link.as_deref(), shared.standing), (Some("shared-nurse"), Standing::Fails));
    assert_eq!(shared.requires[0].place, Some(Position { line: 2, column: 19 }));
    let shapes = account(&explanation, "shapes");
    let expected = [
        ("`resource.kind != \"lab\" || principal is Clinician in Team::\"a\"`".to_owned(), Met::No),
        ("not `resource has sealed`".to_owned(), Met::Yes),
        ("`if resource has patient then resource.sensitivity >= 1 else false`".to_owned(), Met::Yes),
    ];
    assert_eq!(words(shapes), expected);
    assert_eq!((shapes.requires[0].join, shapes.requires[0].parts.len()), (Some(Join::Any), 2));
    assert_eq!(
        shapes.change.as_deref(),
        Some("would hold if `resource.kind != \"lab\"` or `principal is Clinician in Team::\"a\"`")
    );
    let odd = account(&explanation, "odd");
    assert_eq!((odd.requires[0].place, odd.standing), (None, Standing::Holds));
    assert!(odd.requires[0].text.contains("like"), "{odd:?}");
}
