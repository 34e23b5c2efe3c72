//! What policy costs a request: `plan` over 100,000 records of 5,000 patients under 12 policies, and the full decision of 10 hits.
//! `cargo bench --bench plan`

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use wardkeep::{
    model::{Action, BundleSource, Entity, EntityUid, Slot, Value},
    policy::{Bundle, Columns, Directory, Inquiry},
};

const RECORDS: u32 = 100_000;
const PATIENTS: u32 = 5_000;

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document; entity Ward in [Ward];
    entity Clinician in [Ward] = { role: String, assigned: Set<Patient>, departments: Set<String>, level: Long };
    entity Patient in [Ward] = { vip: Bool, consent: Bool, locked?: Bool };
    entity Record in [Document, Collection] = {
        patient?: Patient, kind: String, department: String, sensitivity: Long, author?: Clinician, facility: String,
        made: datetime, sealed?: Bool,
    };
    action Retrieve, Read, ReadVector appliesTo {
        principal: [Clinician], resource: [Record], context: { purpose: String, now: datetime, break_glass: Bool },
    };
    action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Clinician], resource: [Collection] };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
    appliesTo { principal: [Administrator], resource: [System] };
"#;

const POLICIES: &str = r#"
    @id("care-team") @max_records("50") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
    when { ["nurse", "physician", "attending"].contains(principal.role) }
    when { resource has patient && resource.patient in principal.assigned };
    @id("head") permit (principal, action == Action::"Retrieve", resource)
    when { principal.role == "head" && principal.departments.contains(resource.department) };
    @id("researcher") permit (principal, action == Action::"Retrieve", resource)
    when { principal.role == "researcher" && context.purpose == "research" && resource.kind == "research" };
    @id("privacy") permit (principal, action == Action::"Retrieve", resource) when { principal.role == "privacy" };
    @id("author") permit (principal, action == Action::"Retrieve", resource)
    when { resource has author && resource.author == principal };
    @id("psychotherapy") forbid (principal, action, resource is Record)
    when { resource.kind == "psychotherapy" } unless { resource has author && resource.author == principal };
    @id("part2") forbid (principal, action, resource is Record)
    when { resource.kind == "substance_use" && principal.role != "privacy" }
    unless { resource has patient && resource.patient.consent && resource.patient in principal.assigned };
    @id("sensitive") forbid (principal, action, resource is Record)
    when { resource.sensitivity >= 3 } unless { ["attending", "head", "privacy"].contains(principal.role) };
    @id("vip") forbid (principal, action, resource is Record)
    when { resource has patient && resource.patient.vip && principal.level < 2 };
    @id("locked") forbid (principal, action, resource is Record)
    when { resource has patient && resource.patient has locked && resource.patient.locked };
    @id("sealed") forbid (principal, action, resource is Record)
    when { resource has sealed && resource.sealed && !context.break_glass };
    @id("treatment") forbid (principal, action, resource is Record)
    unless { ["treatment", "research", "operations"].contains(context.purpose) };
"#;

struct Ward {
    bundle: Bundle,
    directory: Directory,
    columns: Columns,
    hits: Vec<Entity>,
}

fn ward() -> Ward {
    let source = BundleSource { schema: SCHEMA.into(), policies: POLICIES.into(), ..BundleSource::default() };
    let bundle = Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut directory = Directory::new();
    for i in 0..PATIENTS {
        directory.upsert(read(&bundle, "Patient", &i.to_string(), json!({"vip": i % 50 == 49, "consent": i % 2 == 0})));
    }
    for (role, patients) in [("nurse", 6), ("attending", 50), ("privacy", 0), ("head", 0)] {
        let assigned: Vec<_> = (0..patients).map(|i| json!({"type": "Patient", "id": (i * 7).to_string()})).collect();
        let attrs = json!({"role": role, "assigned": assigned, "departments": ["d1"], "level": 1});
        directory.upsert(read(&bundle, "Clinician", role, attrs));
    }
    let kinds = ["progress_note", "lab", "radiology", "psychotherapy", "substance_use", "research"];
    let (mut columns, mut hits) = (Columns::new(), Vec::new());
    for i in 0..RECORDS {
        let author = ["nurse", "attending", "other"][(i % 3) as usize];
        let attrs = json!({
            "patient": {"type": "Patient", "id": (i / 20).to_string()}, "kind": kinds[(i % 6) as usize],
            "department": format!("d{}", i % 11), "sensitivity": i % 3, "facility": "north", "made": "2026-01-01",
            "author": {"type": "Clinician", "id": author},
        });
        let document = EntityUid::new("Document", format!("ward/{}", i / 20));
        directory.imply(document.clone());
        let parents = [document, EntityUid::new("Collection", "ward")];
        let uid = EntityUid::new("Record", format!("ward/{i}"));
        let record = bundle.record(uid, &attrs, &json!({}), &parents).unwrap_or_else(|fault| panic!("{fault}"));
        columns.insert(Slot(i), &record);
        if i < 10 {
            hits.push(record);
        }
    }
    directory.imply(EntityUid::new("Collection", "ward"));
    Ward { bundle, directory, columns, hits }
}

fn read(bundle: &Bundle, ty: &str, id: &str, attrs: serde_json::Value) -> Entity {
    let json = json!({"uid": {"type": ty, "id": id}, "attrs": attrs, "parents": []});
    bundle.entity(&json).unwrap_or_else(|fault| panic!("{fault}"))
}

fn inquiry(ward: &Ward, who: &str) -> Inquiry {
    let now = Value::Extension { function: "datetime".into(), arguments: vec![Value::text("2026-03-01T12:00:00Z")] };
    let offered =
        BTreeMap::from([("purpose", Value::text("treatment")), ("now", now), ("break_glass", Value::Bool(false))]);
    ward.bundle.inquiry(EntityUid::new("Clinician", who), Action::Retrieve, &offered).unwrap_or_else(|e| panic!("{e}"))
}

fn bench(criterion: &mut Criterion) {
    let ward = ward();
    for who in ["nurse", "attending", "head", "privacy"] {
        let inquiry = inquiry(&ward, who);
        let scope = ward.bundle.plan(&inquiry, &ward.columns, &ward.directory);
        println!(
            "{who}: {} allowed, {} to ask, {} evaluations",
            scope.allowed.len(),
            scope.ask.len(),
            scope.evaluations
        );
        criterion.bench_function(&format!("plan/{who}"), |b| {
            b.iter(|| black_box(ward.bundle.plan(&inquiry, &ward.columns, &ward.directory)));
        });
    }
    let inquiry = inquiry(&ward, "nurse");
    for count in [1, 10] {
        let hits = &ward.hits[..count];
        criterion.bench_function(&format!("decide_many/{count}"), |b| {
            b.iter(|| black_box(ward.bundle.decide_many(&inquiry, hits, &ward.directory)));
        });
    }
    criterion.bench_function("inquiry", |b| b.iter(|| black_box(self::inquiry(&ward, "nurse"))));
}

criterion_group!(benches, bench);
criterion_main!(benches);
