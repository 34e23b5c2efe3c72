//! What bundles and decisions promise, case by case.

use serde_json::json;

use super::{samples::*, *};
use crate::model::TemplateLink;

fn names(names: &[&str]) -> Vec<PolicyName> {
    names.iter().map(|n| PolicyName::from(*n)).collect()
}

fn faults(schema: String, policies: &str) -> Vec<&'static str> {
    let source = BundleSource { schema, policies: policies.into(), ..Default::default() };
    Bundle::compile(&source).unwrap_err().into_iter().map(|f| f.code).collect()
}

#[test]
fn the_starter_bundle_lets_root_set_up_and_nobody_retrieve() {
    let bundle = Bundle::compile(&starter()).unwrap();
    assert!(bundle.warnings().is_empty(), "{:?}", bundle.warnings());
    let mut directory = Directory::new();
    let root = EntityUid::new("Administrator", "root");
    for id in ["root", "other"] {
        directory.imply(EntityUid::new("Administrator", id));
    }
    let may = |who: &str, action: Action| {
        let resource = match action.resource_type() {
            "System" => EntityUid::system(),
            ty => EntityUid::new(ty, "ward"),
        };
        let offered = [("purpose", Value::text("treatment"))].into();
        let inquiry = bundle.inquiry(EntityUid::new("Administrator", who), action, &offered).unwrap();
        bundle.decide(&inquiry, &Entity::bare(resource), &directory).is_allow()
    };
    for action in Action::all() {
        let expected = !Action::ON_RECORD.contains(&action) && action != Action::Export;
        assert_eq!(may("root", action), expected, "{action:?}");
        assert!(!may("other", action), "{action:?}");
    }
    directory.remove(&root);
    let inquiry = bundle.inquiry(root, Action::Search, &Default::default()).unwrap();
    let verdict = bundle.decide(&inquiry, &Entity::bare(EntityUid::new("Collection", "ward")), &directory);
    assert_eq!(verdict, Verdict::Deny(DenyReason::UnknownPrincipal));
}

#[test]
fn the_clinical_rules_hold() {
    let bundle = bundle(POLICIES);
    let directory = directory(&bundle);
    let decide = |who: &str, record: &Entity| bundle.decide(&ask(&bundle, who), record, &directory);
    let allow = |by: &[&str]| Verdict::Allow { permits: names(by) };
    let own = record(&bundle, "1", "p1", "progress_note", &[]);
    assert_eq!(decide("nurse", &own), allow(&["care-team"]));
    assert_eq!(decide("temp", &own), Verdict::Deny(DenyReason::NoPermit));
    assert_eq!(decide("privacy", &own), allow(&["privacy-officer"]));
    let sealed = record(&bundle, "2", "p1", "progress_note", &[("sealed", json!(true))]);
    assert_eq!(decide("nurse", &sealed), Verdict::Deny(DenyReason::Forbidden(names(&["sealed"]))));
    let other = record(&bundle, "3", "p2", "progress_note", &[]);
    assert_eq!(decide("nurse", &other), Verdict::Deny(DenyReason::Forbidden(names(&["vip-patient"]))));
    let orphan = record(&bundle, "4", "p9", "progress_note", &[]);
    assert_eq!(
        decide("nurse", &orphan),
        Verdict::Deny(DenyReason::MissingEntity(names(&["care-team", "vip-patient"])))
    );
    let many = [own.clone(), sealed.clone(), other.clone(), orphan.clone(), own.clone()];
    let one_by_one: Vec<_> = many.iter().map(|r| decide("nurse", r)).collect();
    assert_eq!(bundle.decide_many(&ask(&bundle, "nurse"), &many, &directory), one_by_one);
}

#[test]
fn caps_are_told_for_permits_that_match_the_caller() {
    let bundle = bundle(POLICIES);
    let caps = bundle.caps(&ask(&bundle, "nurse"), &directory(&bundle));
    let care = caps.permits.iter().find(|p| p.name.as_ref() == "care-team").unwrap();
    assert_eq!((care.max_records, care.max_patients), (Some(25), Some(5)));
    assert_eq!(caps.permits.len(), 4);
}

#[test]
fn every_fault_of_a_bundle_has_its_code() {
    let ok = r#"@id("a") permit (principal, action, resource);"#;
    let nested = format!(
        "@id(\"a\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(1_000),
        ")".repeat(1_000)
    );
    assert_eq!(faults(schema(""), &nested), ["too_deep"]);
    assert_eq!(faults(schema(""), "permit (principal, action, resource);"), ["missing_id"]);
    assert_eq!(faults(schema(""), &format!("{ok}{ok}")), ["duplicate_id"]);
    let invalid = "@id(\"a\") permit (principal, action, resource) when { resource.nope == 1 };";
    assert!(faults(schema(""), invalid).iter().all(|code| *code == "invalid_policy"));
    assert_eq!(faults(schema(""), "@id(\"a\") permit (principal"), ["syntax"]);
    assert_eq!(faults("entity".into(), ok), ["schema"]);
    for bad in ["0", "-1", "x", "1.5", "+5", "99999999999999999999999"] {
        let policy = format!("@id(\"a\") @max_records(\"{bad}\") permit (principal, action, resource);");
        assert_eq!(faults(schema(""), &policy), ["bad_cap"], "{bad}");
    }
    assert_eq!(
        faults(schema(""), "@id(\"a\") @max_patients(\"1\") forbid (principal, action, resource);"),
        ["bad_cap"]
    );
    assert_eq!(
        faults(schema("").replace("entity System;", "entity Systems;").replace("[System]", "[Systems]"), ok)[0],
        "missing_type"
    );
    assert_eq!(faults(schema("").replace("Export, ", ""), ok), ["missing_action"]);
    assert_eq!(faults(schema("").replace("context: {}", "context: { moon: String }"), ok)[0], "context_unavailable");
    assert_eq!(faults(schema("").replace("purpose: String", "purpose: Long"), ok), ["context_unavailable"; 3]);
    assert_eq!(faults("x".repeat(crate::model::limits::BUNDLE_BYTES + 1), ok), ["too_long"]);
}

#[test]
fn the_fault_names_the_place() {
    let source = BundleSource {
        schema: schema(""),
        policies: "\n\n\n  permit (principal, action, resource);".into(),
        ..Default::default()
    };
    let at = |source: &BundleSource| {
        let place = Bundle::compile(source).unwrap_err()[0].place.clone().unwrap();
        (place.part, place.line, place.column)
    };
    assert_eq!(at(&source), (Part::Policies, 4, 3));
    let source = BundleSource { schema: schema(""), policies: "\n\npermit (who);".into(), ..Default::default() };
    assert_eq!(at(&source), (Part::Policies, 3, 9));
}

#[test]
fn links_count_and_go_by_their_templates_name() {
    let link = |template: &str, id: &str, values: &[(&str, EntityUid)]| TemplateLink {
        template: template.into(),
        id: id.into(),
        values: values.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
    };
    let nurse = EntityUid::new("Clinician", "nurse");
    let source = |links: Vec<TemplateLink>| BundleSource {
        schema: schema(""),
        templates: "@id(\"one\") @max_records(\"3\") permit (principal == ?principal, action, resource is Record);"
            .into(),
        links,
        ..Default::default()
    };
    let good = source(vec![
        link("one", "l1", &[("?principal", nurse.clone())]),
        link("one", "l2", &[("principal", EntityUid::new("Clinician", "temp"))]),
    ]);
    let bundle = Bundle::compile(&good).unwrap();
    let directory = directory(&bundle);
    let own = record(&bundle, "1", "p1", "progress_note", &[]);
    let verdict = bundle.decide(&ask(&bundle, "nurse"), &own, &directory);
    assert_eq!(verdict, Verdict::Allow { permits: names(&["one"]) });
    assert!(!bundle.decide(&ask(&bundle, "privacy"), &own, &directory).is_allow());
    assert_eq!(bundle.caps(&ask(&bundle, "nurse"), &directory).permits[0].max_records, Some(3));
    for bad in [
        link("two", "l", &[("?principal", nurse.clone())]),
        link("one", "l", &[]),
        link("one", "l", &[("?action", nurse.clone())]),
        link("one", "l", &[("?resource", nurse.clone()), ("?principal", nurse.clone())]),
    ] {
        assert_eq!(Bundle::compile(&source(vec![bad])).unwrap_err()[0].code, "bad_link");
    }
    let twice = link("one", "l", &[("?principal", nurse)]);
    assert_eq!(Bundle::compile(&source(vec![twice.clone(), twice])).unwrap_err()[0].code, "duplicate_id");
}

#[test]
fn entities_are_checked_and_messages_repeat_no_value() {
    let bundle = bundle(POLICIES);
    let good = json!({"uid": {"type": "Patient", "id": "x"}, "attrs": {"vip": true, "team": [{"type": "Clinician", "id": "a"}]}, "parents": [], "tags": {"k": "v"}});
    let entity = bundle.entity(&good).unwrap();
    assert!(bundle.check(&entity).is_ok());
    assert_eq!(bundle.entity(&entity.to_json()).unwrap(), entity);
    let code = |change: &dyn Fn(&mut Json)| {
        let mut json = good.clone();
        change(&mut json);
        let fault = bundle.entity(&json).unwrap_err();
        assert!(!fault.message.contains("secret"), "{}", fault.message);
        fault.code
    };
    assert_eq!(code(&|j| j["attrs"]["vip"] = json!("secret")), "wrong_type");
    assert_eq!(code(&|j| j["attrs"]["nope"] = json!("secret")), "unknown_attribute");
    assert_eq!(code(&|j| drop(j["attrs"].as_object_mut().unwrap().remove("vip"))), "missing_attribute");
    assert_eq!(code(&|j| j["attrs"]["team"] = json!([{"type": "Patient", "id": "secret"}])), "wrong_type");
    assert_eq!(code(&|j| j["parents"] = json!([{"type": "Clinician", "id": "secret"}])), "wrong_parent");
    assert_eq!(code(&|j| j["uid"]["type"] = json!("Secret")), "unknown_type");
    assert_eq!(code(&|j| j["uid"]["id"] = json!("a\u{7}")), "bad_id");
    assert_eq!(code(&|j| j["tags"] = json!({"k": 5})), "wrong_tag");
    assert_eq!(code(&|j| j["extra"] = json!(1)), "malformed");
    assert_eq!(code(&|j| j["attrs"] = json!([])), "malformed");
    assert_eq!(bundle.entity(&json!(null)).unwrap_err().code, "malformed");
    let record = |attrs: Json| bundle.record(EntityUid::new("Record", "ward/1"), &attrs, &json!(null), &[]);
    let base = json!({"kind": "a", "department": "b", "sensitivity": 1});
    let with = |name: &str, value: Json| {
        let mut attrs = base.clone();
        attrs[name] = value;
        record(attrs)
    };
    assert!(with("made", json!("2024-01-01T00:00:00Z")).is_ok());
    assert!(with("made", json!({"__extn": {"fn": "datetime", "arg": "2024-01-01"}})).is_ok());
    assert_eq!(with("made", json!("secret")).unwrap_err().code, "wrong_type");
    assert_eq!(with("score", json!("0.123456789")).unwrap_err().code, "wrong_type");
    assert_eq!(with("sensitivity", json!(1.5)).unwrap_err().code, "wrong_type");
    assert_eq!(with("info", json!({"note": 1})).unwrap_err().message, "attribute `info.note` must be a valid String");
    assert_eq!(with("info", json!({})).unwrap_err().code, "missing_attribute");
    let made = with("made", json!("2024-01-01")).unwrap();
    assert!(bundle.check(&made).is_ok());
}

#[test]
fn a_stored_entity_is_checked_against_another_schema() {
    let old = bundle(POLICIES);
    let other = schema("").replace("vip: Bool", "vip: String");
    let new = Bundle::compile(&BundleSource { schema: other, ..Default::default() }).unwrap();
    let stored = patient(&old, "p", true);
    assert!(old.check(&stored).is_ok());
    assert_eq!(new.check(&stored).unwrap_err().code, "wrong_type");
}

#[test]
fn the_schema_can_be_asked() {
    let bundle = bundle(POLICIES);
    assert!(bundle.declares_type("Patient") && !bundle.declares_type("Nobody"));
    assert!(bundle.is_principal("Clinician") && !bundle.is_principal("Patient"));
    assert!(bundle.may_have_parent("Record", "Collection") && !bundle.may_have_parent("Patient", "Collection"));
    assert!(bundle.requires_attributes("Patient") && !bundle.requires_attributes("Document"));
    assert_eq!(bundle.attribute_type("Record", "patient"), Some(AttributeType::Entity("Patient".into())));
    assert_eq!(bundle.attribute_type("Record", "made"), Some(AttributeType::Datetime));
    assert_eq!(bundle.attribute_type("Record", "score"), Some(AttributeType::Extension("decimal".into())));
    assert_eq!(bundle.attribute_type("Record", "labels"), Some(AttributeType::Set(Box::new(AttributeType::Text))));
    assert_eq!(bundle.attribute_type("Record", "sealed"), Some(AttributeType::Bool));
    assert_eq!(bundle.attribute_type("Record", "sensitivity"), Some(AttributeType::Long));
    assert_eq!(bundle.context_declares(Action::Retrieve, "purpose"), Some(AttributeType::Text));
    assert_eq!(bundle.context_declares(Action::Search, "purpose"), None);
}

#[test]
fn context_is_what_the_schema_declares_and_nothing_else() {
    let bundle = bundle(POLICIES);
    let inquiry = ask(&bundle, "nurse");
    let Value::Record(context) = inquiry.context() else { panic!() };
    assert_eq!(context.get("patient"), Some(&Value::text("p1")));
    assert!(!context.contains_key("collection"));
    let principal = || EntityUid::new("Clinician", "nurse");
    let mut lacking = offered("x");
    lacking.remove("now");
    assert_eq!(bundle.inquiry(principal(), Action::Read, &lacking).err(), Some(InquiryError::Missing("now".into())));
    let mut wrong = offered("x");
    wrong.insert("now", Value::text("noon"));
    assert_eq!(bundle.inquiry(principal(), Action::Read, &wrong).err(), Some(InquiryError::Type("now".into())));
    let refused = bundle.inquiry(EntityUid::new("Patient", "p"), Action::Read, &offered("x"));
    assert_eq!(refused.err(), Some(InquiryError::Principal("Patient".into())));
}

#[test]
fn dropping_a_forbid_or_loosening_a_cap_is_widening() {
    let old = bundle(POLICIES);
    assert!(old.widening(&old).is_empty());
    assert!(bundle(&POLICIES.replace("@id(\"vip\")", "@id(\"very-important\")")).widening(&old).is_empty());
    assert_eq!(bundle(&POLICIES.replace(">= 3", ">= 4")).widening(&old), ["vip"]);
    assert_eq!(bundle(&POLICIES.replace("@max_records(\"25\")", "")).widening(&old), ["care-team"]);
    assert_eq!(bundle(&POLICIES.replace("\"25\"", "\"26\"")).widening(&old), ["care-team"]);
    assert!(bundle(&POLICIES.replace("\"25\"", "\"24\"")).widening(&old).is_empty());
}

#[test]
fn the_longest_chain_that_is_taken_is_served_from_a_small_stack() {
    let chain = "resource.kind == \"x\" || ".repeat(390);
    let policy = format!("@id(\"a\") permit (principal, action, resource is Record) when {{ {chain} true }};");
    let work = move || {
        let bundle = bundle(&policy);
        let directory = directory(&bundle);
        let own = record(&bundle, "1", "p1", "progress_note", &[]);
        let mut columns = Columns::new();
        columns.insert(crate::model::Slot(0), &own);
        assert!(bundle.decide(&ask(&bundle, "nurse"), &own, &directory).is_allow());
        assert_eq!(bundle.plan(&ask(&bundle, "nurse"), &columns, &directory).allowed.len(), 1);
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_forbid_that_the_new_schema_blinds_is_widening_however_deep_it_looks() {
    let compiled = |from: &str, to: &str| {
        let policies = format!(
            "{POLICIES} @id(\"deep\") forbid (principal, action, resource is Record) when {{ resource has info.who && resource.info.who is Clinician }};"
        );
        let source = BundleSource { schema: schema("").replace(from, to), policies, ..Default::default() };
        Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let old = compiled("", "");
    assert!(compiled("", "").widening(&old).is_empty());
    assert!(compiled("note: String }", "note: String, more?: Long }").widening(&old).is_empty());
    let names = |from: &str, to: &str| {
        let policies = format!(
            "{POLICIES} @id(\"deep\") forbid (principal, action, resource is Record) when {{ resource has info.note }};"
        );
        let with = |schema: String| {
            Bundle::compile(&BundleSource { schema, policies: policies.clone(), ..Default::default() }).unwrap()
        };
        with(schema("").replace(from, to)).widening(&with(schema("")))
    };
    assert_eq!(names("note: String }", "note?: String }"), ["deep"]);
    assert_eq!(names("note: String }", "remark: String }"), ["deep"]);
    assert!(names("who?: Clinician, ", "").is_empty());
}
