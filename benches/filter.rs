//! What a filter costs a request: compiled once, bound over 140 permitted records of 100,000 and over all of them, and asked again
//! of 10 hits. `cargo bench --bench filter`

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use roaring::RoaringBitmap;
use serde_json::json;
use wardkeep::{
    model::{Action, BundleSource, Entity, EntityUid, Slot, Value},
    policy::{Bundle, Columns, Directory, Inquiry, Rows},
};

const RECORDS: u32 = 100_000;

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document in [Collection]; entity Patient; entity Clinician;
    entity Record in [Document, Collection] = {
        patient?: Patient, kind: String, department: String, sensitivity: Long, author?: Clinician, made: datetime,
        labels: Set<String>, score: decimal,
    };
    action Retrieve, Read, ReadVector appliesTo {
        principal: [Clinician], resource: [Record], context: { purpose: String, now: datetime },
    };
    action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Clinician], resource: [Collection] };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
    appliesTo { principal: [Administrator], resource: [System] };
"#;

const FILTERS: [(&str, &str); 8] = [
    ("equal", r#"resource.kind == "lab""#),
    ("patient", r#"resource has patient && resource.patient == Patient::"17""#),
    ("recent", r#"resource.made > context.now.offset(duration("-30d"))"#),
    ("like", r#"resource.department like "d1*""#),
    ("label", r#"resource.labels.contains("l3")"#),
    ("document", r#"resource in Document::"ward/17""#),
    ("three", r#"resource.kind == "lab" && resource.sensitivity < 2 && resource.made > datetime("2026-01-15")"#),
    // Cedar alone knows decimals: asked once for each distinct value
    ("decimal", r#"resource.score.greaterThan(decimal("0.5"))"#),
];

struct Ward {
    bundle: Bundle,
    directory: Directory,
    columns: Columns,
    hits: Vec<Entity>,
}

fn ward() -> Ward {
    let policies = r#"@id("all") permit (principal, action, resource);"#.into();
    let source = BundleSource { schema: SCHEMA.into(), policies, ..BundleSource::default() };
    let bundle = Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"));
    let kinds = ["progress_note", "lab", "radiology", "psychotherapy", "substance_use", "research"];
    let (mut directory, mut columns, mut hits) = (Directory::new(), Columns::new(), Vec::new());
    directory.imply(EntityUid::new("Collection", "ward"));
    for i in 0..RECORDS {
        let attrs = json!({
            "patient": {"type": "Patient", "id": (i / 20).to_string()}, "kind": kinds[(i % 6) as usize],
            "department": format!("d{}", i % 11), "sensitivity": i % 3, "labels": [format!("l{}", i % 5), format!("l{}", i % 7)],
            "made": format!("2026-0{}-1{}T{:02}:{:02}:{:02}Z", 1 + i % 3, i % 10, i / 3_600 % 24, i / 60 % 60, i % 60),
            "score": format!("0.{:04}", i % 1_000),
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
    Ward { bundle, directory, columns, hits }
}

fn inquiry(ward: &Ward) -> Inquiry {
    let now = Value::Extension { function: "datetime".into(), arguments: vec![Value::text("2026-03-20T12:00:00Z")] };
    let offered = BTreeMap::from([("purpose", Value::text("treatment")), ("now", now)]);
    ward.bundle.inquiry(EntityUid::new("Clinician", "c"), Action::Retrieve, &offered).unwrap_or_else(|e| panic!("{e}"))
}

fn bench(criterion: &mut Criterion) {
    let ward = ward();
    let inquiry = inquiry(&ward);
    let name = |slot: Slot| Some(EntityUid::new("Record", format!("ward/{}", slot.0)));
    let rows = Rows { columns: &ward.columns, directory: &ward.directory, name: &name };
    let sets: [(&str, RoaringBitmap); 2] =
        [("nurse", (0..140).map(|i| i / 20 * 7_000 + i % 20).collect()), ("privacy", (0..RECORDS).collect())];
    for (label, text) in FILTERS {
        let compile = || ward.bundle.filter(text, Action::Retrieve).unwrap_or_else(|faults| panic!("{faults:?}"));
        criterion.bench_function(&format!("filter/compile/{label}"), |b| b.iter(|| black_box(compile())));
        let filter = compile();
        for (who, permitted) in &sets {
            let matching = filter.bind(&inquiry, &rows, permitted);
            println!("{label}, {who}: {} of {}, {:?}", matching.slots.len(), permitted.len(), matching.work);
            criterion.bench_function(&format!("filter/bind/{who}/{label}"), |b| {
                b.iter(|| black_box(filter.bind(&inquiry, &rows, permitted)));
            });
        }
        criterion.bench_function(&format!("filter/gate/10/{label}"), |b| {
            b.iter(|| black_box(filter.matches_each(&inquiry, &ward.hits, &ward.directory)));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
