//! What is looked at before a bundle is put into force: places, objections, warnings, widening, forecasts, style.

use std::collections::BTreeSet;

use super::{
    Bundle, BundleFault, Code, Means, Part, Warning, count, formatted,
    samples::{POLICIES, schema},
    starter,
};
use crate::model::{BundleSource, EntityUid, TemplateLink};

fn source(policies: &str) -> BundleSource {
    BundleSource { schema: schema(""), policies: policies.into(), ..BundleSource::default() }
}

fn bundle(policies: &str) -> Bundle {
    Bundle::compile(&source(policies)).unwrap_or_else(|faults| panic!("{faults:?}\n{policies}"))
}

fn faults(policies: &str) -> Vec<BundleFault> {
    match Bundle::compile(&source(policies)) {
        Ok(bundle) => bundle.objections().to_vec(),
        Err(faults) => faults,
    }
}

/// The texts that the faults point at, with their codes.
fn pointed<'t>(policies: &'t str, faults: &[BundleFault]) -> Vec<(&'static str, &'t str)> {
    let at = |fault: &BundleFault| {
        fault.place.as_ref().map_or("", |place| {
            let before = &policies[..place.start];
            assert_eq!(place.line, 1 + before.matches('\n').count());
            assert_eq!(place.column, 1 + before.rsplit('\n').next().unwrap().chars().count());
            &policies[place.start..place.end]
        })
    };
    faults.iter().map(|fault| (fault.code, at(fault))).collect()
}

fn warned(bundle: &Bundle) -> Vec<(Code, &str)> {
    bundle.warnings().iter().map(|w| (w.code, w.policy.as_deref().unwrap_or_default())).collect()
}

fn pointed_by_warnings<'t>(policies: &'t str, warnings: &[Warning]) -> Vec<&'t str> {
    let places = warnings.iter().map(|w| w.place.as_ref().unwrap());
    places.map(|place| &policies[place.start..place.end]).collect()
}

#[test]
fn every_kind_of_fault_points_at_its_place() {
    for (policies, expected) in [
        ("permit (principal, action, resource);", ("missing_id", "permit")),
        ("@note(\"ü\") permit\n(principal, action, resource);", ("missing_id", "permit")),
        (
            "@id(\"a\") permit (principal, action, resource is Record);\n  @id(\"a\")\nforbid (principal, action, resource);",
            ("duplicate_id", "@id(\"a\")"),
        ),
        ("@id(\"a\") permit (principal, action, who);", ("syntax", "who")),
        (
            "@id(\"a\") permit (principal, action, resource is Record) when { resource.knd == \"x\" };",
            ("invalid_policy", "resource.knd"),
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"Retriev\", resource);",
            ("invalid_policy", "Action::\"Retriev\""),
        ),
        (
            "@id(\"a\") forbid (principal, action, resource is Record) when { resource.sealed };",
            ("invalid_policy", "resource.sealed"),
        ),
        ("@id(\"a\")\n@max_records(\"0\") permit (principal, action, resource);", ("bad_cap", "@max_records(\"0\")")),
        ("@id(\"a\") @max_patients(\"5\") forbid (principal, action, resource);", ("bad_cap", "@max_patients(\"5\")")),
        (
            "@id(\"a\") @max_record(\"5\") permit (principal, action, resource);",
            ("unknown_annotation", "@max_record(\"5\")"),
        ),
        (
            "@id(\"a\") @accept(\"everything\") permit (principal, action, resource);",
            ("bad_accept", "@accept(\"everything\")"),
        ),
        ("@id(\" a\") permit (principal, action, resource);", ("hidden_characters", "@id(\" a\")")),
        ("@id(\"a\u{200b}b\") permit (principal, action, resource);", ("hidden_characters", "@id(\"a\u{200b}b\")")),
    ] {
        let faults = faults(policies);
        assert_eq!(pointed(policies, &faults)[0], expected, "{policies}: {faults:?}");
    }
    assert!(
        faults("@id(\"a\") @accept(\"unscoped_action, uncapped_retrieve\") permit (principal, action, resource);")
            .is_empty()
    );
}

#[test]
fn schema_faults_point_into_the_schema() {
    let schema = schema("").replace("entity Document", "entity Dcument in [Nothing];\nentity Document");
    let source = BundleSource { schema: schema.clone(), ..BundleSource::default() };
    let fault = Bundle::compile(&source).unwrap_err().remove(0);
    assert_eq!(fault.code, "schema");
    let place = fault.place.unwrap();
    assert_eq!((place.part, &schema[place.start..place.end]), (Part::Schema, "Nothing"));
}

#[test]
fn names_that_look_alike_are_refused() {
    let pair = |a: &str, b: &str| {
        let rest = "permit (principal, action == Action::\"Search\", resource);";
        faults(&format!("@id(\"{a}\") {rest} @id(\"{b}\") {rest}")).iter().map(|f| f.code).collect::<Vec<_>>()
    };
    assert_eq!(pair("care-team", "Care-Team"), ["look_alike_id"]);
    assert_eq!(pair("vip", "ViP"), ["look_alike_id"]);
    assert_eq!(pair("vip", "vip\u{ad}"), ["look_alike_id", "hidden_characters"]);
    assert!(pair("vip", "vip2").is_empty());
}

#[test]
fn each_mistake_is_warned_of_where_it_stands_and_only_it() {
    let scope = "(principal, action == Action::\"Retrieve\", resource is Record)";
    for (policies, expected) in [
        ("@id(\"a\") permit (principal, action, resource is System);".to_owned(), vec![(Code::UnscopedAction, "action")]),
        (format!("@id(\"a\") permit {scope};"), vec![(Code::UncappedRetrieve, "permit")]),
        (format!("@id(\"a\") @max_patients(\"1\") permit {scope};"), vec![]),
        ("@id(\"a\") permit (principal, action == Action::\"Read\", resource is Record);".to_owned(), vec![]),
        ("@id(\"a\") forbid (principal, action, resource);".to_owned(), vec![]),
        (format!("@id(\"a\") forbid {scope} when {{ resource.sensitivity + 1 > 3 }};"), vec![(Code::ForbidMayErr, "+")]),
        (format!("@id(\"a\") forbid {scope} unless {{ resource.sensitivity * 2 > 3 }};"), vec![(Code::ForbidMayErr, "*")]),
        (format!("@id(\"a\") forbid {scope} when {{ resource.sensitivity > -3 }};"), vec![]),
        (
            format!("@id(\"a\") forbid {scope} when {{ context.now.offset(duration(\"1d\")) < context.now }};"),
            vec![(Code::ForbidMayErr, "offset")],
        ),
        (format!("@id(\"a\") forbid {scope} when {{ context.now.toDate() < context.now }};"), vec![]),
        (
            format!("@id(\"a\") forbid {scope} when {{ resource has made && resource.made.toDate() < context.now }};"),
            vec![(Code::ForbidMayErr, "toDate"), (Code::OptionalAttribute, "has made")],
        ),
        (
            format!("@id(\"a\") forbid {scope} when {{ resource has sealed && resource.sealed }};"),
            vec![(Code::OptionalAttribute, "has sealed")],
        ),
        (format!("@id(\"a\") forbid {scope} when {{ !(resource has sealed) }};"), vec![]),
        (format!("@id(\"a\") forbid {scope} unless {{ resource has sealed && !resource.sealed }};"), vec![]),
        (format!("@id(\"a\") forbid {scope} unless {{ !(resource has sealed) }};"), vec![(Code::OptionalAttribute, "has sealed")]),
        (format!("@id(\"a\") forbid {scope} when {{ resource has kind && resource.kind == \"x\" }};"), vec![]),
        (
            format!("@id(\"a\") forbid {scope} when {{ resource has info.who && resource.info.who == principal }};"),
            vec![(Code::OptionalAttribute, "has info")],
        ),
        (
            format!("@id(\"a\") forbid {scope} when {{ resource.hasTag(\"x\") && resource.getTag(\"x\") == \"y\" }};"),
            vec![(Code::OptionalAttribute, "hasTag")],
        ),
        (
            "@id(\"a\") forbid (principal is Clinician, action == Action::\"Retrieve\", resource) when { principal has shift && principal.shift == Team::\"x\" };".to_owned(),
            vec![(Code::OptionalAttribute, "has shift")],
        ),
        (format!("@id(\"a\") forbid {scope} when {{ false }};"), vec![(Code::NeverMatches, "false")]),
        ("@id(\"a\") permit (principal is Clinician, action == Action::\"Explain\", resource);".to_owned(), vec![(Code::NeverMatches, "permit")]),
        ("@id(\"a\") permit (principal is Patient, action == Action::\"Search\", resource);".to_owned(), vec![(Code::NeverMatches, "permit")]),
        ("@id(\"a\") @max_records(\"1\") permit (principal in ?principal, action == Action::\"Retrieve\", resource is Record);".to_owned(), vec![(Code::UnlinkedTemplate, "permit")]),
        (
            format!("@id(\"a\") @accept(\"unscoped_action\") @max_records(\"1\") permit {scope};"),
            vec![(Code::NeedlessAccept, "@accept(\"unscoped_action\")")],
        ),
        (format!("@id(\"a\") @accept(\"uncapped_retrieve\") permit {scope};"), vec![]),
    ] {
        let bundle = bundle(&policies);
        assert!(bundle.objections().is_empty(), "{policies}: {:?}", bundle.objections());
        let told: BTreeSet<_> = bundle.warnings().iter().map(|w| w.code).zip(pointed_by_warnings(&policies, bundle.warnings())).collect();
        if told.iter().any(|(code, _)| *code == Code::NeverMatches) {
            assert_eq!(told.len(), 1, "{policies}: {told:?}");
            assert_eq!(told.first().unwrap().0, expected[0].0, "{policies}");
        } else {
            assert_eq!(told, expected.into_iter().collect(), "{policies}");
        }
    }
}

#[test]
fn policies_that_others_make_superfluous_are_named_and_ones_that_are_not_are_not() {
    let scope = |role: &str, ty: &str| format!("({role}, action == Action::\"Read\", {ty})");
    let any = scope("principal", "resource");
    let one = scope("principal == Clinician::\"x\"", "resource == Record::\"ward/1\"");
    let clinicians = scope("principal is Clinician", "resource is Record");
    for (policies, expected) in [
        (format!("@id(\"a\") permit {any}; @id(\"b\") permit {one};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") permit {one}; @id(\"b\") permit {any};"), vec![(Code::Shadowed, "a")]),
        (format!("@id(\"a\") permit {clinicians}; @id(\"b\") permit {one} when {{ principal.level > 1 }};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") permit {clinicians} when {{ principal.level > 1 }}; @id(\"b\") permit {one};"), vec![]),
        (format!("@id(\"a\") permit {clinicians} when {{ principal.level > 1 }}; @id(\"b\") permit {one} when {{ principal.level > 1 }};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") permit {any}; @id(\"b\") permit {any};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") forbid {clinicians}; @id(\"b\") permit {one};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") forbid {one}; @id(\"b\") permit {clinicians};"), vec![]),
        (format!("@id(\"a\") forbid {any}; @id(\"b\") forbid {one};"), vec![(Code::Shadowed, "b")]),
        (format!("@id(\"a\") permit {any}; @id(\"b\") @max_records(\"5\") permit {one};"), vec![(Code::CapWithoutEffect, "b")]),
        (format!("@id(\"a\") @max_records(\"9\") permit {any}; @id(\"b\") permit {one};"), vec![]),
        (
            "@id(\"a\") permit (principal, action in [Action::\"Search\", Action::\"Ingest\"], resource); @id(\"b\") permit (principal, action == Action::\"Erase\", resource);".to_owned(),
            vec![],
        ),
    ] {
        assert_eq!(warned(&bundle(&policies)), expected, "{policies}");
    }
}

#[test]
fn actions_that_are_never_asked_about_are_warned_of() {
    let schema = schema("action Dream appliesTo { principal: [Clinician], resource: [Record], context: {} };");
    let policies = "@id(\"a\") permit (principal, action == Action::\"Dream\", resource);";
    let bundle = Bundle::compile(&BundleSource { schema, policies: policies.into(), ..Default::default() }).unwrap();
    assert_eq!(warned(&bundle), [(Code::UnaskedAction, "a")]);
}

const TEMPLATE: &str = "@id(\"t\") @max_records(\"5\") permit (principal in ?principal, action == Action::\"Retrieve\", resource is Record in ?resource);";

fn linked(template: &str, links: &[(&str, &str, &str)]) -> BundleSource {
    let link = |(id, principal, resource): &(&str, &str, &str)| TemplateLink {
        template: "t".into(),
        id: (*id).into(),
        values: [
            ("?principal".to_owned(), EntityUid::new(*principal, "x")),
            ("?resource".to_owned(), EntityUid::new(*resource, "y")),
        ]
        .into(),
    };
    BundleSource { links: links.iter().map(link).collect(), ..source(template) }
}

#[test]
fn a_link_whose_values_the_slots_can_never_match_is_refused() {
    let objections = |links: &[(&str, &str, &str)]| {
        let bundle = Bundle::compile(&linked(TEMPLATE, links)).unwrap();
        bundle.objections().iter().map(|f| (f.code, f.policy.clone().unwrap())).collect::<Vec<_>>()
    };
    assert!(objections(&[("l1", "Team", "Team"), ("l2", "Clinician", "Collection")]).is_empty());
    assert_eq!(objections(&[("l1", "Team", "Team"), ("l2", "Patient", "Team")]), [("bad_link", "t".to_owned())]);
    assert_eq!(objections(&[("l1", "Team", "System")]), [("bad_link", "t".to_owned())]);
}

#[test]
fn counts_agree_with_cedar_and_need_no_compiling() {
    let texts = format!("{TEMPLATE}\n{POLICIES}");
    let source = linked(&texts, &[("l1", "Team", "Team"), ("l2", "Clinician", "Team")]);
    let counts = count(&source);
    assert_eq!((counts.permits, counts.forbids, counts.templates, counts.links), (4, 5, 1, 2));
    let compiled = Bundle::compile(&source).unwrap();
    assert_eq!(compiled.policies.iter().filter(|p| p.permits).count(), counts.permits + counts.links);
    let broken = BundleSource { policies: "permit permit (((".into(), ..BundleSource::default() };
    assert_eq!(count(&broken).permits, 0);
}

#[test]
fn what_is_in_force_compiles_whatever_is_objected_to_later() {
    for policies in [
        "@id(\"a\") @max_record(\"5\") permit (principal, action, resource);",
        "@id(\"a \") forbid (principal, action, resource);",
    ] {
        assert!(!bundle(policies).objections().is_empty());
    }
    let starter = Bundle::compile(&starter()).unwrap();
    assert!(starter.objections().is_empty() && starter.warnings().is_empty(), "{:?}", starter.warnings());
}

#[test]
fn findings_are_told_up_to_their_bound() {
    use crate::model::limits::BUNDLE_FINDINGS;
    let policies = |n: usize, rest: &str| (0..n).map(|i| format!("@id(\"p{i}\") {rest}")).collect::<String>();
    let permit = "permit (principal == Clinician::\"x\", action, resource is System);";
    for (n, told) in [(BUNDLE_FINDINGS, BUNDLE_FINDINGS), (BUNDLE_FINDINGS + 1, BUNDLE_FINDINGS)] {
        let bad = policies(n, "@max_records(\"0\") permit (principal, action, resource);");
        assert_eq!(faults(&bad).len(), told);
        let near = policies(n, "@max_record(\"1\") permit (principal, action, resource);");
        assert_eq!(faults(&near).len(), told);
        assert!(bundle(&policies(n, permit)).warnings().len() == told);
    }
}

mod widening {
    use super::*;

    const FORBID: &str = "@id(\"f\") forbid (principal is Clinician, action in [Action::\"Retrieve\", Action::\"Read\"], resource is Record) when { resource.sensitivity >= 3 };";
    const PERMIT: &str = "@id(\"p\") @max_records(\"5\") permit (principal is Clinician, action == Action::\"Retrieve\", resource is Record) when { principal.level > 1 };";

    fn widened(old: &BundleSource, new: &BundleSource) -> Vec<String> {
        let compile = |source| Bundle::compile(source).unwrap_or_else(|faults| panic!("{faults:?}"));
        compile(new).widening(&compile(old))
    }

    fn by(old: &str, new: &str) -> Vec<String> {
        widened(&source(old), &source(new))
    }

    #[test]
    fn a_forbid_may_stay_change_its_name_or_forbid_more() {
        for new in [
            FORBID.to_owned(),
            FORBID.replace("\"f\"", "\"other\""),
            FORBID.replace("principal is Clinician", "principal"),
            FORBID.replace("resource is Record", "resource"),
            FORBID.replace("action in [Action::\"Retrieve\", Action::\"Read\"]", "action"),
            FORBID.replace(" when { resource.sensitivity >= 3 }", ""),
            format!("{FORBID} @id(\"g\") forbid (principal, action, resource);"),
        ] {
            assert!(by(FORBID, &new).is_empty(), "{new}");
        }
    }

    #[test]
    fn a_forbid_that_goes_or_forbids_less_is_seen() {
        for new in [
            String::new(),
            FORBID.replace("principal is Clinician", "principal is Administrator"),
            FORBID.replace("principal is Clinician", "principal == Clinician::\"x\""),
            FORBID.replace("principal is Clinician", "principal is Clinician in Team::\"x\""),
            FORBID.replace("resource is Record", "resource == Record::\"ward/1\""),
            FORBID.replace("resource is Record", "resource is Record in Collection::\"ward\""),
            FORBID.replace("Action::\"Retrieve\", Action::\"Read\"", "Action::\"Retrieve\""),
            FORBID.replace("action in [Action::\"Retrieve\", Action::\"Read\"]", "action == Action::\"ReadVector\""),
            FORBID.replace(">= 3", ">= 4"),
            FORBID.replace("};", "} unless { principal.level > 3 };"),
            FORBID.replace("forbid", "permit"),
        ] {
            assert_eq!(by(FORBID, &new), ["f"], "{new}");
        }
        assert_eq!(
            by(
                &FORBID.replace("principal is Clinician", "principal in Team::\"a\""),
                &FORBID.replace("principal is Clinician", "principal in Team::\"b\"")
            ),
            ["f"]
        );
    }

    #[test]
    fn a_cap_may_stay_or_tighten_and_its_permit_may_narrow_or_go() {
        for new in [
            PERMIT.to_owned(),
            String::new(),
            PERMIT.replace("\"5\"", "\"4\""),
            PERMIT.replace("permit (", "@max_patients(\"9\") permit ("),
            PERMIT.replace("\"p\"", "\"renamed\""),
            PERMIT.replace("> 1", "> 2"),
            format!(
                "{PERMIT} @id(\"q\") permit (principal is Administrator, action == Action::\"Retrieve\", resource is Record);"
            ),
            format!(
                "{PERMIT} @id(\"q\") @max_records(\"90\") permit (principal in Team::\"x\", action == Action::\"Retrieve\", resource is Record);"
            ),
        ] {
            assert!(by(PERMIT, &new).is_empty(), "{new}: {:?}", by(PERMIT, &new));
        }
    }

    #[test]
    fn a_cap_that_binds_less_is_seen_under_whatever_name() {
        for new in [
            PERMIT.replace("\"5\"", "\"6\""),
            PERMIT.replace("@max_records(\"5\")", ""),
            PERMIT.replace("@max_records(\"5\")", "@max_patients(\"1\")"),
            // its condition may change with it
            PERMIT.replace("\"5\"", "\"6\"").replace("> 1", "> 2"),
            // renamed to escape it
            PERMIT.replace("\"p\"", "\"q\"").replace("\"5\"", "\"6\""),
            PERMIT.replace("\"p\"", "\"q\"").replace("@max_records(\"5\")", ""),
            // a second permit beside it, which adds its own
            format!("{PERMIT} {}", PERMIT.replace("\"p\"", "\"q\"")),
            // a wider one without
            format!("{PERMIT} @id(\"q\") permit (principal, action, resource);"),
            "@id(\"q\") @max_records(\"6\") permit (principal is Clinician, action, resource is Record);".to_owned(),
        ] {
            assert_eq!(by(PERMIT, &new), ["p"], "{new}");
        }
    }

    #[test]
    fn links_of_forbids_and_caps_of_templates_are_seen() {
        let forbid = TEMPLATE.replace("@max_records(\"5\") permit", "forbid");
        let (both, one) = ([("l1", "Team", "Team"), ("l2", "Clinician", "Team")], [("l1", "Team", "Team")]);
        let moved = [("l1", "Team", "Team"), ("l2", "Clinician", "Collection")];
        assert!(widened(&linked(&forbid, &both), &linked(&forbid, &both)).is_empty());
        assert!(widened(&linked(&forbid, &one), &linked(&forbid, &both)).is_empty());
        assert_eq!(widened(&linked(&forbid, &both), &linked(&forbid, &one)), ["t"]);
        assert_eq!(widened(&linked(&forbid, &both), &linked(&forbid, &moved)), ["t"]);
        assert_eq!(widened(&linked(&forbid, &both), &linked(&forbid, &[])), ["t"]);
        assert_eq!(widened(&linked(TEMPLATE, &both), &linked(&TEMPLATE.replace("\"5\"", "\"6\""), &both)), ["t"]);
        assert_eq!(
            widened(&linked(TEMPLATE, &both), &linked(&TEMPLATE.replace("@max_records(\"5\")", ""), &both)),
            ["t"]
        );
        assert!(widened(&linked(TEMPLATE, &one), &linked(TEMPLATE, &both)).is_empty());
    }

    #[test]
    fn a_schema_that_leaves_a_forbid_less_to_forbid_is_seen() {
        let old = |extra: &str| BundleSource { schema: schema(extra), ..source("") };
        // an action that leaves the group that the forbid names
        let group = "@id(\"f\") forbid (principal, action in Action::\"Anything\", resource is Record);";
        let with = |schema: String, policies: &str| BundleSource { schema, policies: policies.into(), ..old("") };
        let apart =
            schema("").replace("action Retrieve, Read, ReadVector in [Anything]", "action Retrieve, Read, ReadVector");
        assert_eq!(widened(&with(schema(""), group), &with(apart.clone(), group)), ["f"]);
        assert!(widened(&with(apart, group), &with(schema(""), group)).is_empty());
        // context and attributes that it asks for with `has`
        let asks = "@id(\"f\") forbid (principal, action == Action::\"Retrieve\", resource is Record) when { context has patient && context.patient == \"x\" };";
        let silent = schema("").replace("break_glass: Bool, patient?: String", "break_glass: Bool");
        assert_eq!(widened(&with(schema(""), asks), &with(silent, asks)), ["f"]);
        let sealed = "@id(\"f\") forbid (principal, action == Action::\"Retrieve\", resource is Record) when { resource has sealed && resource.sealed };";
        let without = schema("").replace("sealed?: Bool, ", "");
        assert_eq!(widened(&with(schema(""), sealed), &with(without, sealed)), ["f"]);
        let required = schema("").replace("sealed?: Bool", "sealed: Bool");
        assert_eq!(widened(&with(required.clone(), sealed), &with(schema(""), sealed)), ["f"]);
        assert!(widened(&with(schema(""), sealed), &with(required, sealed)).is_empty());
    }
}

mod style {
    use super::*;

    #[test]
    fn formatting_keeps_comments_and_annotations_and_is_stable() {
        let text = "// file\n\n\n// first\n@id(\"a\")@max_records(\"5\")\npermit(principal,action,   resource is Record)when{true // why\n&& resource.kind==\"x\"};\n// last";
        let once = formatted(text, Part::Policies).unwrap();
        assert!(once.starts_with("// file\n\n// first\n@id"), "{once}");
        for kept in ["// first", "// why", "// last", "@id(\"a\")", "@max_records(\"5\")"] {
            assert!(once.contains(kept), "{once}");
        }
        assert_eq!(formatted(&once, Part::Policies).unwrap(), once);
        assert_eq!(formatted("// only words\n\n\n", Part::Policies).unwrap(), "// only words\n");
        assert_eq!(formatted("permit (", Part::Policies).unwrap_err().code, "syntax");
        let deep = format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {}true{} }};",
            "(".repeat(100),
            ")".repeat(100)
        );
        assert_eq!(formatted(&deep, Part::Policies).unwrap_err().code, "too_deep");
    }

    #[test]
    fn schemas_are_indented_by_their_brackets_and_keep_their_lines() {
        let text = "// words {\nentity A = {\nx: Long, // why {\n      y: {\n z: Set<\nString\n>,  \n},\n\t};\n\n\n\nentity B enum [\"  {\",\n\"c\"];\n\n";
        let expected = "// words {\nentity A = {\n  x: Long, // why {\n  y: {\n    z: Set<\n      String\n    >,\n  },\n};\n\nentity B enum [\"  {\",\n  \"c\"];\n";
        let once = formatted(text, Part::Schema).unwrap();
        assert_eq!(once, expected);
        assert_eq!(formatted(&once, Part::Schema).unwrap(), once);
        assert_eq!(formatted("entity ;", Part::Schema).unwrap_err().code, "schema");
    }

    #[test]
    fn strings_over_several_lines_keep_their_blanks() {
        let text = "entity B enum [\n\"a   \n  b\n\n\n  c\"\n];\n";
        let once = formatted(text, Part::Schema);
        match once {
            Ok(once) => assert!(once.contains("\"a   \n  b\n\n\n  c\""), "{once}"),
            Err(fault) => assert_eq!(fault.code, "schema"),
        }
    }
}

mod forecasts {
    use std::{cmp::Ordering, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::{
        model::Slot,
        policy::{
            Columns, Scope,
            samples::{ask, directory, record},
        },
    };

    /// Conditions of every shape, and how they are decided.
    const ATOMS: &[(&str, Means)] = &[
        ("true", Means::Indexed),
        ("principal.role == \"nurse\"", Means::Indexed),
        ("context.now > datetime(\"2020-01-01\")", Means::Indexed),
        ("resource.kind == \"kind-1\"", Means::Indexed),
        ("principal.role != resource.kind", Means::Indexed),
        ("resource == Record::\"ward/1\"", Means::Indexed),
        ("resource in Team::\"x\"", Means::Indexed),
        ("resource is Record", Means::Indexed),
        ("resource has patient && resource.patient in principal.assigned", Means::Indexed),
        ("resource has patient && principal.assigned.contains(resource.patient)", Means::Indexed),
        ("[\"kind-1\", \"kind-2\"].contains(resource.kind)", Means::Indexed),
        ("resource has labels && resource.labels.contains(\"a\")", Means::Indexed),
        ("resource has labels && resource.labels.containsAll([\"a\"])", Means::Indexed),
        ("resource has labels && resource.labels.containsAny([\"a\"])", Means::Indexed),
        ("resource has sealed && resource.sealed", Means::Indexed),
        ("!(resource has author)", Means::Indexed),
        ("resource has author && principal == resource.author", Means::Indexed),
        ("resource.hasTag(\"t\") && resource.getTag(\"t\") == \"y\"", Means::Indexed),
        ("if principal.level > 1 then resource.kind == \"a\" else resource.department == \"b\"", Means::Indexed),
        ("resource.kind like \"kind-*\"", Means::ByValue),
        ("resource.sensitivity >= 2", Means::Indexed),
        ("resource.sensitivity + 1 == principal.level", Means::ByValue),
        ("resource has score && resource.score == decimal(\"0.5\")", Means::ByValue),
        ("resource has score && resource.score.lessThan(decimal(\"0.5\"))", Means::ByValue),
        ("resource has made && context.now > resource.made", Means::Indexed),
        ("resource.kind == \"x\" || resource.kind like \"kind-1*\"", Means::ByValue),
        ("resource.kind == resource.department", Means::ByValue),
        ("resource.kind == \"x\" || resource.kind == resource.department", Means::ByValue),
        (
            "resource has patient && resource has author && resource.patient.team.contains(resource.author)",
            Means::ByValue,
        ),
        (
            "[resource.kind == \"a\", resource.department == \"b\", resource.sensitivity > 1, resource has sealed, resource has score].contains(true)",
            Means::Asked,
        ),
        ("[resource].contains(Record::\"ward/1\")", Means::Asked),
    ];

    fn permit(condition: &str) -> Bundle {
        bundle(&format!(
            "@id(\"a\") @max_records(\"5\") permit (principal is Clinician, action == Action::\"Retrieve\", resource is Record) when {{ {condition} }};"
        ))
    }

    /// What the planner does with `n` records that have as many values in every column.
    fn planned(bundle: &Bundle, n: u32) -> Arc<Scope> {
        let directory = directory(bundle);
        let mut columns = Columns::new();
        for at in 0..n {
            let more = [
                ("score", json!(format!("{}.5", at))),
                ("sensitivity", json!(at)),
                ("labels", json!([format!("label-{at}")])),
                ("made", json!({"__extn": {"fn": "datetime", "arg": format!("20{:02}-01-01", at % 60)}})),
                ("department", json!(format!("department-{at}"))),
                ("author", json!({"type": "Clinician", "id": format!("author-{at}")})),
            ];
            let more: Vec<_> = more
                .into_iter()
                .map(|(k, v)| match k {
                    "score" => (k, json!({"__extn": {"fn": "decimal", "arg": v}})),
                    _ => (k, v),
                })
                .collect();
            columns.insert(Slot(at), &record(bundle, &at.to_string(), "p1", &format!("kind-{at}"), &more));
        }
        bundle.plan(&ask(bundle, "nurse"), &columns, &directory)
    }

    #[test]
    fn the_forecast_agrees_with_what_the_planner_does() {
        for (condition, expected) in ATOMS {
            let bundle = permit(condition);
            let forecast = bundle.forecast().remove(0);
            assert_eq!(forecast.means, Some(*expected), "{condition}: {forecast:?}");
            let (few, many) = (planned(&bundle, 10), planned(&bundle, 50));
            let values = many.evaluations.cmp(&few.evaluations);
            match expected {
                Means::Once => unreachable!(),
                Means::Indexed => assert_eq!((values, many.ask.len()), (Ordering::Equal, 0), "{condition}"),
                Means::ByValue => assert_eq!((values, many.ask.len()), (Ordering::Greater, 0), "{condition}"),
                Means::Asked => assert!(!many.ask.is_empty(), "{condition}: {many:?}"),
            }
        }
    }

    #[test]
    fn the_clause_that_costs_most_is_named() {
        let whole = "[resource].contains(Record::\"ward/1\")";
        let bundle = permit(&format!("resource.kind == \"x\" && resource.kind like \"a*\" && {whole}"));
        assert_eq!(bundle.forecast().remove(0).clause.as_deref(), Some(whole));
        let bundle = permit("resource.kind == \"x\" && resource.kind like \"a*\"");
        assert_eq!(bundle.forecast().remove(0).clause.as_deref(), Some("resource.kind like \"a*\""));
        assert_eq!(permit("resource.kind == \"x\"").forecast().remove(0).clause, None);
    }

    #[test]
    fn policies_and_templates_are_listed_in_the_order_of_the_texts() {
        let texts = format!(
            "@id(\"z\") permit (principal, action == Action::\"Search\", resource);\n{TEMPLATE}\n@id(\"a\") forbid (principal, action, resource) when {{ false }};"
        );
        let bundle = Bundle::compile(&linked(&texts, &[("l1", "Team", "Team"), ("l2", "Clinician", "Team")])).unwrap();
        let all = bundle.forecast();
        let shown: Vec<_> = all.iter().map(|f| (f.name.as_ref(), f.permits, f.links, f.means)).collect();
        assert_eq!(
            shown,
            [
                ("z", Some(true), None, Some(Means::Once)),
                ("t", Some(true), Some(2), Some(Means::Indexed)),
                ("a", Some(false), None, Some(Means::Indexed)),
            ]
        );
        assert_eq!(all[1].caps, [Some(5), None]);
        assert_eq!(all[2].remarks, [Code::NeverMatches]);
    }
}
