//! A small clinical bundle and ward for tests.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Bundle, Directory};
use crate::model::{Action, BundleSource, Entity, EntityUid, Value};

/// The clinical schema, with what `extra` declares.
pub(super) fn schema(extra: &str) -> String {
    format!(
        r#"
        entity Administrator; entity System; entity Collection; entity Document in [Collection];
        entity Team in [Team];
        entity Clinician in [Team] = {{
            role: String, facility: String, assigned: Set<Patient>, departments: Set<String>, level: Long, shift?: Team,
        }};
        entity Patient in [Team] = {{ vip: Bool, consent?: Bool, author?: Clinician, team: Set<Clinician> }} tags String;
        entity Record in [Document, Collection, Team] = {{
            patient?: Patient, kind: String, department: String, sensitivity: Long, author?: Clinician, score?: decimal,
            made?: datetime, labels?: Set<String>, sealed?: Bool, info?: {{ who?: Clinician, note: String }},
        }} tags String;
        action Anything;
        action Retrieve, Read, ReadVector in [Anything] appliesTo {{
            principal: [Clinician, Administrator], resource: [Record],
            context: {{ purpose: String, now: datetime, break_glass: Bool, patient?: String }},
        }};
        action Search, Ingest, Erase, Export, BreakGlass appliesTo {{
            principal: [Clinician, Administrator], resource: [Collection], context: {{}},
        }};
        action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
        appliesTo {{ principal: [Administrator], resource: [System], context: {{}} }};
        {extra}"#
    )
}

/// The clinical rules.
pub(super) const POLICIES: &str = r#"
    @id("care-team") @max_records("25") @max_patients("5")
    permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
    when { ["nurse", "physician", "attending", "psychotherapist"].contains(principal.role) }
    when { resource has patient && resource.patient in principal.assigned };

    @id("department-head")
    permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
    when { principal.role == "head" && principal.departments.contains(resource.department) };

    @id("researcher")
    permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
    when { principal.role == "researcher" && context.purpose == "research" && resource.kind == "research" };

    @id("privacy-officer")
    permit (principal is Clinician, action in Action::"Anything", resource is Record)
    when { principal.role == "privacy" };

    @id("psychotherapy-notes")
    forbid (principal, action, resource is Record)
    when { resource.kind == "psychotherapy" }
    unless { resource has author && resource.author == principal };

    @id("part2")
    forbid (principal is Clinician, action, resource is Record)
    when { resource.kind == "substance_use" && principal.role != "privacy" }
    unless { resource has patient && resource.patient has consent && resource.patient.consent && resource.patient in principal.assigned };

    @id("vip")
    forbid (principal is Clinician, action, resource is Record)
    when { resource.sensitivity >= 3 }
    unless { ["attending", "head", "privacy"].contains(principal.role) };

    @id("vip-patient")
    forbid (principal is Clinician, action, resource is Record)
    when { resource has patient && resource.patient.vip && principal.level < 2 };

    @id("sealed")
    forbid (principal, action, resource is Record)
    when { resource has sealed && resource.sealed && !context.break_glass };
"#;

/// A bundle of the clinical schema and these policies.
pub(super) fn bundle(policies: &str) -> Bundle {
    Bundle::compile(&BundleSource { schema: schema(""), policies: policies.into(), ..Default::default() }).unwrap()
}

/// What the server knows of a request.
pub(super) fn offered(purpose: &str) -> BTreeMap<&'static str, Value> {
    let now = Value::Extension { function: "datetime".into(), arguments: vec![Value::text("2026-03-01T12:00:00Z")] };
    BTreeMap::from([
        ("purpose", Value::text(purpose)),
        ("now", now),
        ("break_glass", Value::Bool(false)),
        ("patient", Value::Entity(EntityUid::new("Patient", "p1"))),
        ("collection", Value::text("ward")),
    ])
}

/// A clinician and the patients that they care for.
pub(super) fn clinician(bundle: &Bundle, id: &str, role: &str, assigned: &[&str]) -> Entity {
    let json = json!({
        "uid": {"type": "Clinician", "id": id},
        "attrs": {
            "role": role, "facility": "north", "level": 1, "departments": ["cardiology"],
            "assigned": assigned.iter().map(|p| json!({"type": "Patient", "id": p})).collect::<Vec<_>>(),
        },
        "parents": [],
    });
    bundle.entity(&json).unwrap()
}

/// A patient.
pub(super) fn patient(bundle: &Bundle, id: &str, vip: bool) -> Entity {
    bundle
        .entity(&json!({"uid": {"type": "Patient", "id": id}, "attrs": {"vip": vip, "team": []}, "parents": []}))
        .unwrap()
}

/// A record of a kind; no patient if `patient` is empty.
pub(super) fn record(
    bundle: &Bundle,
    id: &str,
    patient: &str,
    kind: &str,
    more: &[(&str, serde_json::Value)],
) -> Entity {
    let mut attrs = json!({"kind": kind, "department": "cardiology", "sensitivity": 1});
    if !patient.is_empty() {
        attrs["patient"] = json!({"type": "Patient", "id": patient});
    }
    more.iter().for_each(|(k, v)| attrs[*k] = v.clone());
    let parents = [EntityUid::new("Document", "ward/d"), EntityUid::new("Collection", "ward")];
    bundle.record(EntityUid::new("Record", format!("ward/{id}")), &attrs, &json!({}), &parents).unwrap()
}

/// Two patients, three clinicians, and what records lie in.
pub(super) fn directory(bundle: &Bundle) -> Directory {
    let mut directory = Directory::new();
    directory.upsert(patient(bundle, "p1", false));
    directory.upsert(patient(bundle, "p2", true));
    directory.upsert(clinician(bundle, "nurse", "nurse", &["p1"]));
    directory.upsert(clinician(bundle, "privacy", "privacy", &[]));
    directory.upsert(clinician(bundle, "temp", "temp", &[]));
    directory.imply(EntityUid::new("Document", "ward/d"));
    directory.imply(EntityUid::new("Collection", "ward"));
    directory
}

/// A question of this clinician's.
pub(super) fn ask(bundle: &Bundle, id: &str) -> super::Inquiry {
    bundle.inquiry(EntityUid::new("Clinician", id), Action::Retrieve, &offered("treatment")).unwrap()
}
