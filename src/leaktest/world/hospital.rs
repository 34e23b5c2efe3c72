//! A hospital that a seed generates, of any size, under the clinical bundle: patients in clusters of vectors, care teams, departments, and all
//! that the bundle's prohibitions look at.

use serde_json::{Value as Json, json};

use super::{Caller, LOOPBACK, Metric, Record, World, clinical};
use crate::leaktest::dice::Dice;

/// Records of one patient, about.
const RECORDS_A_PATIENT: usize = 10;
const DEPARTMENTS: [&str; 5] = ["cardiology", "oncology", "neurology", "psychiatry", "surgery"];
const FACILITY: &str = "north";
/// Roles, how many of each ask, whether they treat, and the purpose for which they ask.
const STAFF: [(&str, usize, bool, &str); 8] = [
    ("nurse", 4, true, "treatment"),
    ("physician", 3, true, "treatment"),
    ("attending", 2, true, "treatment"),
    ("psychotherapist", 2, true, "treatment"),
    ("department_head", 2, false, "operations"),
    ("researcher", 1, false, "research"),
    ("privacy_officer", 1, false, "operations"),
    ("temp", 1, false, "treatment"),
];

/// A hospital of about `records` records.
pub fn hospital(records: usize, dimension: usize, seed: u64) -> World {
    let mut dice = Dice::of(seed, "hospital");
    let patients = (records / RECORDS_A_PATIENT).max(8);
    let staff = staff();
    let teams = teams(&staff, patients, &mut dice);
    World {
        name: "generated hospital".to_owned(),
        collection: "ward".to_owned(),
        rules: clinical(),
        entities: entities(&staff, &teams, patients, &mut dice),
        dimension,
        metric: Metric::Cosine,
        source_ip: LOOPBACK.to_owned(),
        records: charts(records, dimension, patients, &staff, &mut dice),
        callers: staff,
        named: Vec::new(),
        matrix: None,
    }
}

fn staff() -> Vec<Caller> {
    let person = |role: &str, purpose: &str, n: usize| Caller {
        ty: "Clinician".to_owned(),
        id: format!("{role}-{n}"),
        role: role.to_owned(),
        purpose: purpose.to_owned(),
        seat: 0,
    };
    STAFF.iter().flat_map(|(role, count, _, purpose)| (0..*count).map(|n| person(role, purpose, n))).collect()
}

fn treats(role: &str) -> bool {
    STAFF.iter().any(|(name, _, treats, _)| *name == role && *treats)
}

/// Patients of each who treats: some 3 to 12 each, neighbours among them.
fn teams(staff: &[Caller], patients: usize, dice: &mut Dice) -> Vec<(String, Vec<usize>)> {
    let treating = staff.iter().filter(|c| treats(&c.role));
    treating
        .map(|caller| {
            let all: Vec<usize> = (0..patients).collect();
            let most = (patients / 3).clamp(2, 12);
            let count = 2 + dice.below(most);
            (caller.id.clone(), dice.some(&all, count))
        })
        .collect()
}

fn uid(ty: &str, id: &str) -> Json {
    json!({"type": ty, "id": id})
}

fn entity(ty: &str, id: &str, attrs: &Json, parents: &Json) -> Json {
    json!({"uid": uid(ty, id), "attrs": attrs, "parents": parents})
}

fn patient(n: usize) -> String {
    format!("pat-{n:05}")
}

fn entities(staff: &[Caller], teams: &[(String, Vec<usize>)], patients: usize, dice: &mut Dice) -> Vec<Json> {
    let bare = |ty: &str, id: &str| entity(ty, id, &json!({}), &json!([]));
    let mut all = vec![bare("Role", "treating")];
    for (role, _, treats, _) in STAFF {
        let parents = if treats { json!([uid("Role", "treating")]) } else { json!([]) };
        all.push(entity("Role", role, &json!({}), &parents));
    }
    all.extend(DEPARTMENTS.iter().map(|d| bare("Department", d)));
    for n in 0..patients {
        let attrs = json!({"vip": dice.one_in(10), "part2_consent": dice.one_in(2), "facility": FACILITY});
        all.push(entity("Patient", &patient(n), &attrs, &json!([])));
    }
    for (id, members) in teams {
        let members: Vec<Json> = members.iter().map(|n| uid("Patient", &patient(*n))).collect();
        all.push(entity("CareTeam", id, &json!({ "patients": members }), &json!([])));
    }
    all.extend(staff.iter().zip(0..).map(|(caller, n)| clinician(caller, n)));
    all
}

fn clinician(caller: &Caller, n: usize) -> Json {
    let department = DEPARTMENTS.get(n % DEPARTMENTS.len()).copied().unwrap_or_default();
    let mut attrs = json!({"departments": [uid("Department", department)], "facility": FACILITY});
    if treats(&caller.role)
        && let Some(fields) = attrs.as_object_mut()
    {
        fields.insert("care_team".into(), uid("CareTeam", &caller.id));
    }
    entity(&caller.ty, &caller.id, &attrs, &json!([uid("Role", &caller.role)]))
}

/// Records: those of a patient around a direction of their own, and departments around one that their patients share.
fn charts(count: usize, dimension: usize, patients: usize, staff: &[Caller], dice: &mut Dice) -> Vec<Record> {
    let wards: Vec<Vec<f32>> = DEPARTMENTS.iter().map(|_| dice.direction(dimension)).collect();
    let homes: Vec<(usize, Vec<f32>)> = (0..patients)
        .map(|_| {
            let ward = dice.below(wards.len());
            (ward, wards.get(ward).map(|w| dice.near(w, 0.7)).unwrap_or_default())
        })
        .collect();
    let authors: Vec<&Caller> = staff.iter().filter(|c| treats(&c.role)).collect();
    (0..count)
        .map(|n| {
            let whose = dice.below(patients);
            let (ward, home) = homes.get(whose).cloned().unwrap_or_default();
            let author = dice.pick(&authors).map(|c| c.id.clone()).unwrap_or_default();
            let spread = 0.2 + 0.6 * dice.unit();
            record(n, whose, ward, &author, dice.near(&home, spread), dice)
        })
        .collect()
}

fn record(n: usize, whose: usize, ward: usize, author: &str, vector: Vec<f32>, dice: &mut Dice) -> Record {
    let kinds =
        ["progress_note", "lab_report", "medication", "substance_use", "psychotherapy_note", "research_deidentified"];
    let weights = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5];
    let kind = dice.pick(&weights).and_then(|at| kinds.get(*at)).copied().unwrap_or_default();
    let research = kind == "research_deidentified";
    let sensitivity = if research { 0 } else { 1 + dice.below(3) + usize::from(dice.one_in(8)) }.min(3);
    let department = DEPARTMENTS.get(ward).copied().unwrap_or_default();
    let mut attributes = json!({
        "doc_type": kind, "department": uid("Department", department), "facility": FACILITY, "sensitivity": sensitivity,
        "author": uid("Clinician", author), "created_at": format!("20{:02}-0{}-1{}T08:00:00Z", 10 + dice.below(16), 1 + dice.below(9), dice.below(10)),
        "source": "generated",
    });
    let id = format!("rec-{n:07}");
    let patient = (!research).then(|| patient(whose));
    if let (Some(patient), Some(fields)) = (&patient, attributes.as_object_mut()) {
        fields.insert("patient".into(), uid("Patient", patient));
    }
    Record {
        document: format!("{}-{kind}", patient.as_deref().unwrap_or("research")),
        text: format!(
            "Note {n} of {}: {kind} in {department}, word {:016x}.",
            patient.as_deref().unwrap_or("nobody"),
            dice.roll()
        ),
        id,
        patient,
        attributes,
        tags: json!({}),
        parents: json!([]),
        vector,
    }
}
