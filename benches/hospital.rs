//! What policy costs a request in a large hospital: 10,000 to a million records of 20 a patient, 12 and 200 policies, five kinds of caller.
//! Prints tables of CPU time; asserts nothing.
//!
//! `cargo bench --bench hospital` (WARDKEEP_BENCH_RECORDS=100000 leaves out what is larger)

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, fmt::Write as _, hint::black_box, time::Duration};

use comfy_table::Table;
use rustix::time::{ClockId, clock_gettime};
use wardkeep::{
    model::{Action, BundleSource, Entity, EntityUid, Slot, Value},
    policy::{Bundle, Columns, Directory, Inquiry},
};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS_PER_PATIENT: usize = 20;
const DEPARTMENTS: usize = 11;
/// Decisions that the cost of deciding every record in full is reckoned from.
const DECIDED: usize = 2_000;

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document in [Collection]; entity Role in [Role]; entity Department;
    entity CareTeam = { patients: Set<Patient> };
    entity Clinician in [Role] = { care_team?: CareTeam, departments: Set<Department>, level: Long };
    entity Patient = { vip: Bool, part2_consent: Bool, facility: String, locked?: Bool };
    entity Record in [Document, Collection] = {
        patient?: Patient, doc_type: String, department: Department, facility: String, sensitivity: Long, author: Clinician,
        created_at: datetime, source: String, sealed?: Bool,
    };
    action Retrieve, Read, ReadVector appliesTo {
        principal: [Clinician], resource: [Record], context: { purpose: String, now: datetime, break_glass: Bool },
    };
    action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Clinician], resource: [Collection] };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
    appliesTo { principal: [Administrator], resource: [System] };
"#;

const POLICIES: &str = r#"
    @id("care-team") @max_records("50")
    permit (principal in Role::"treating", action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { context.purpose == "treatment" && principal has care_team && resource has patient
        && principal.care_team.patients.contains(resource.patient) };
    @id("head") permit (principal in Role::"head", action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { principal.departments.contains(resource.department) };
    @id("researcher") permit (principal in Role::"researcher", action == Action::"Retrieve", resource is Record)
    when { context.purpose == "research" && resource.doc_type == "research" };
    @id("privacy") permit (principal in Role::"privacy", action in [Action::"Retrieve", Action::"Read"], resource is Record);
    @id("author") permit (principal is Clinician, action == Action::"Retrieve", resource is Record)
    when { resource.author == principal && context.purpose == "treatment" };
    @id("psychotherapy") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource.doc_type == "psychotherapy" } unless { resource.author == principal };
    @id("part2") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource.doc_type == "substance_use" && !(principal in Role::"privacy") }
    unless { resource has patient && resource.patient.part2_consent && principal has care_team
        && principal.care_team.patients.contains(resource.patient) };
    @id("sensitive") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource.sensitivity >= 3 } unless { principal.level >= 2 };
    @id("vip") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource has patient && resource.patient.vip && principal.level < 2 };
    @id("locked") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource has patient && resource.patient has locked && resource.patient.locked };
    @id("sealed") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource has sealed && resource.sealed && !context.break_glass };
    @id("facility") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource is Record)
    when { resource.facility like "closed*" && principal.level < 3 };
"#;

/// The 12, and as many more of the kinds that large bundles have: permits of roles that are not the caller's, and forbids that concern
/// everybody.
fn policies(count: usize) -> String {
    let mut text = POLICIES.to_owned();
    for n in 12..count {
        let scope = r#"action in [Action::"Retrieve", Action::"Read"], resource is Record"#;
        match n % 4 {
            0 => writeln!(
                text,
                r#"@id("p{n}") forbid (principal, {scope}) when {{ resource.doc_type == "kind-{n}" && principal.level < 3 }};"#
            ),
            1 => writeln!(
                text,
                r#"@id("p{n}") forbid (principal, {scope}) when {{ resource.source == "source-{n}" }} unless {{ context.purpose == "operations" }};"#
            ),
            2 => writeln!(
                text,
                r#"@id("p{n}") permit (principal in Role::"role-{n}", {scope}) when {{ resource.department == Department::"d{}" }};"#,
                n % DEPARTMENTS
            ),
            _ => writeln!(
                text,
                r#"@id("p{n}") permit (principal in Role::"role-{n}", {scope}) when {{ resource has patient && resource.patient.facility == "site-{n}" }};"#
            ),
        }
        .unwrap();
    }
    text
}

fn bundle(count: usize) -> Bundle {
    let source = BundleSource { schema: SCHEMA.into(), policies: policies(count), ..BundleSource::default() };
    Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"))
}

struct Hospital {
    directory: Directory,
    columns: Columns,
    records: usize,
    columns_mib: f64,
}

fn uid(ty: &str, id: impl std::fmt::Display) -> EntityUid {
    EntityUid::new(ty, id.to_string())
}

fn entity(uid: EntityUid, attrs: &[(&str, Value)], parents: &[EntityUid]) -> Entity {
    let mut entity = Entity::bare(uid);
    entity.attrs = attrs.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    entity.parents = parents.iter().cloned().collect();
    entity
}

const CALLERS: [(&str, &str, usize, &str); 5] = [
    ("nurse", "treating", 8, "treatment"),
    ("physician", "treating", 50, "treatment"),
    ("attending", "treating", 500, "treatment"),
    ("head", "head", 0, "operations"),
    ("privacy", "privacy", 0, "operations"),
];

impl Hospital {
    fn new(records: usize) -> Self {
        let patients = records / RECORDS_PER_PATIENT;
        let mut directory = Directory::new();
        for role in ["treating", "head", "privacy"] {
            directory.upsert(entity(uid("Role", role), &[], &[]));
        }
        (0..DEPARTMENTS).for_each(|d| drop(directory.upsert(entity(uid("Department", format!("d{d}")), &[], &[]))));
        for p in 0..patients {
            directory.upsert(patient(p));
        }
        for (name, role, count, _) in CALLERS {
            let mut attrs = vec![
                (
                    "departments",
                    Value::Set([Value::Entity(uid("Department", "d1")), Value::Entity(uid("Department", "d4"))].into()),
                ),
                ("level", Value::Long(2)),
            ];
            if count > 0 {
                directory.upsert(team(name, count, patients));
                attrs.push(("care_team", Value::Entity(uid("CareTeam", name))));
            }
            directory.upsert(entity(uid("Clinician", name), &attrs, &[uid("Role", role)]));
        }
        directory.imply(uid("Collection", "ward"));
        for n in 0..records {
            directory.imply(document(n, patients));
        }
        let (mut columns, before) = (Columns::new(), resident_mib());
        (0..records).for_each(|n| columns.insert(Slot(n as u32), &record(n, patients)));
        Self { directory, columns, records, columns_mib: resident_mib() - before }
    }
}

fn patient(p: usize) -> Entity {
    let facility = Value::text(format!("site-{}", p % 7));
    let attrs =
        [("vip", Value::Bool(p % 50 == 49)), ("part2_consent", Value::Bool(p % 2 == 0)), ("facility", facility)];
    entity(uid("Patient", p), &attrs, &[])
}

fn team(name: &str, count: usize, patients: usize) -> Entity {
    let assigned = (0..count.min(patients)).map(|i| Value::Entity(uid("Patient", i * patients / count))).collect();
    entity(uid("CareTeam", name), &[("patients", Value::Set(assigned))], &[])
}

/// Records of a patient come together, as an import of charts does; each was made at a moment of its own.
fn record(n: usize, patients: usize) -> Entity {
    const KINDS: [&str; 8] = [
        "progress_note",
        "lab_report",
        "radiology",
        "psychotherapy",
        "substance_use",
        "research",
        "medication",
        "letter",
    ];
    let p = (n / RECORDS_PER_PATIENT) % patients;
    let kind = KINDS[(n * 7 / 3) % KINDS.len()];
    let at = 1_600_000_000_000_i64 + n as i64 * 61_001;
    let attrs = [
        ("patient", Value::Entity(uid("Patient", p))),
        ("doc_type", Value::text(kind)),
        ("department", Value::Entity(uid("Department", format!("d{}", p % DEPARTMENTS)))),
        ("facility", Value::text(format!("site-{}", p % 7))),
        ("sensitivity", Value::Long((n % 13 / 4) as i64)),
        ("author", Value::Entity(uid("Clinician", format!("c{}", n % 3_000)))),
        ("created_at", Value::Extension { function: "datetime".into(), arguments: vec![Value::text(rfc3339(at))] }),
        ("source", Value::text(format!("source-{}", n % 40))),
    ];
    let parents = [document(n, patients), uid("Collection", "ward")];
    entity(uid("Record", format!("ward/rec-{n:07}")), &attrs, &parents)
}

/// Two documents a patient.
fn document(n: usize, patients: usize) -> EntityUid {
    uid("Document", format!("ward/{}-{}", (n / RECORDS_PER_PATIENT) % patients, n * 2 / RECORDS_PER_PATIENT % 2))
}

fn rfc3339(at_ms: i64) -> String {
    wardkeep::clock::Instant::from_millis(at_ms).rfc3339()
}

fn inquiry(bundle: &Bundle, who: &str, purpose: &str) -> Inquiry {
    let now = Value::Extension { function: "datetime".into(), arguments: vec![Value::text("2026-03-01T12:00:00Z")] };
    let offered =
        BTreeMap::from([("purpose", Value::text(purpose)), ("now", now), ("break_glass", Value::Bool(false))]);
    bundle.inquiry(uid("Clinician", who), Action::Retrieve, &offered).unwrap()
}

/// Time that this thread has had of a core: what others do on the machine is not in it.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Median of `rounds` runs.
fn median(rounds: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let started = cpu();
            run();
            cpu() - started
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        us if us < 1e3 => format!("{us:.1} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(head);
    table
}

/// Resident memory.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let most: usize = std::env::var("WARDKEEP_BENCH_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let most = if std::env::args().any(|a| a == "--bench") { most } else { 2_000 };
    let sizes: Vec<usize> = [2_000, 10_000, 100_000, 1_000_000].into_iter().filter(|n| *n <= most).collect();
    let mut upkeep = table(&[
        "records",
        "one record",
        "and the next bind",
        "one assignment",
        "and the next bind",
        "one patient",
        "and the next bind",
    ]);
    for records in sizes.into_iter().rev() {
        let mut hospital = Hospital::new(records);
        bind(&mut hospital);
        follow(&mut hospital, &mut upkeep);
    }
    println!("\nAfter one change, at 12 policies (nurse)\n{upkeep}");
}

fn bind(hospital: &mut Hospital) {
    let mut rows =
        table(&["policies", "caller", "permitted", "asked", "cold", "warm", "again", "every record in full", "ratio"]);
    for count in [12, 200] {
        let bundle = bundle(count);
        for (who, _, _, purpose) in CALLERS {
            hospital.columns.forget_all();
            let inquiry = inquiry(&bundle, who, purpose);
            let started = cpu();
            let scope = bundle.plan(&inquiry, &hospital.columns, &hospital.directory);
            let cold = cpu() - started;
            let warm = median(21, || {
                hospital.columns.forget_plans();
                black_box(bundle.plan(&inquiry, &hospital.columns, &hospital.directory));
            });
            let again = median(101, || drop(black_box(bundle.plan(&inquiry, &hospital.columns, &hospital.directory))));
            let full = full(&bundle, &inquiry, hospital);
            rows.add_row([
                count.to_string(),
                who.into(),
                scope.allowed.len().to_string(),
                scope.ask.len().to_string(),
                shown(cold),
                shown(warm),
                shown(again),
                shown(full),
                format!("{:.0}", full.as_secs_f64() / warm.as_secs_f64()),
            ]);
        }
    }
    println!("\n{} records, {:.0} MiB of columns\n{rows}", hospital.records, hospital.columns_mib);
}

/// What asking Cedar about every record would take, from a sample.
fn full(bundle: &Bundle, inquiry: &Inquiry, hospital: &Hospital) -> Duration {
    let patients = hospital.records / RECORDS_PER_PATIENT;
    let sample: Vec<Entity> = (0..DECIDED).map(|i| record(i * hospital.records / DECIDED, patients)).collect();
    let started = cpu();
    for some in sample.chunks(10) {
        black_box(bundle.decide_many(inquiry, some, &hospital.directory));
    }
    (cpu() - started).mul_f64(hospital.records as f64 / DECIDED as f64)
}

fn follow(hospital: &mut Hospital, rows: &mut Table) {
    let bundle = bundle(12);
    let inquiry = inquiry(&bundle, "nurse", "treatment");
    let patients = hospital.records / RECORDS_PER_PATIENT;
    let plan = |hospital: &Hospital| drop(black_box(bundle.plan(&inquiry, &hospital.columns, &hospital.directory)));
    plan(hospital);
    let mut cells = vec![hospital.records.to_string()];
    let mut measure = |hospital: &mut Hospital, change: &mut dyn FnMut(&mut Hospital, usize)| {
        let (mut changes, mut binds) = (Vec::new(), Vec::new());
        for round in 0..101 {
            let started = cpu();
            change(hospital, round);
            changes.push(cpu() - started);
            let started = cpu();
            plan(hospital);
            binds.push(cpu() - started);
        }
        for mut times in [changes, binds] {
            times.sort();
            cells.push(shown(times[times.len() / 2]));
        }
    };
    measure(hospital, &mut |hospital, round| {
        let next = hospital.records + round;
        hospital.columns.insert(Slot(next as u32), &record(next, patients));
    });
    measure(hospital, &mut |hospital, round| {
        hospital.directory.upsert(team("nurse", 7 + round % 2, patients));
    });
    measure(hospital, &mut |hospital, round| {
        let mut moved = patient(round);
        moved.attrs.insert("vip".into(), Value::Bool(round % 2 == 0));
        hospital.directory.upsert(moved);
    });
    rows.add_row(cells);
}
