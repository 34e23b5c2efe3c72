//! Nothing that is removed or left out lifts a prohibition: not an entity, a parent, an attribute or a tag that a forbid relies on, not by
//! whoever may write only some entities, and not by whoever may write records.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{
    harness::{Answer, Client, Server},
    plain,
};

const SCHEMA: &str = r#"
entity Administrator; entity System;
entity Zone in [Zone]; entity Collection in [Zone];
entity Folder in [Folder]; entity Document in [Folder, Collection];
entity Register in [Register];
entity Guardian = { blocks: Bool };
entity Patient in [Register] = { sealed: Bool, note?: String, guardian?: Guardian } tags String;
entity Department in [Department];
entity Team = { suspended: Bool, patients: Set<Patient> };
entity Group in [Group];
entity Clinician in [Group] = { team?: Team };
entity Switch = { on: Bool };
entity Record in [Document, Collection, Department] = {
  patient?: Patient, level: Long, author?: Clinician, cleared?: Bool
} tags String;
type Question = { purpose: String, collection: String, patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest, Erase, Export appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const PERMITS: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("staff") permit (principal is Clinician, action in [Action::"Search", Action::"Retrieve", Action::"Read"], resource);
"#;

/// A change of what is stored.
enum Step {
    /// An entity, whole.
    Put(Json),
    /// An entity goes, by force where something refers to it.
    Remove(&'static str),
    /// The record `it`, whole.
    Record(Json),
    /// What is refused, with this code.
    Refused(Json, &'static str),
}

use Step::{Put, Record, Refused, Remove};

/// One way to lift a prohibition by removing or omitting something.
struct Way {
    /// What happens.
    name: &'static str,
    /// The prohibition.
    forbid: &'static str,
    /// Fills the slots of a template: `?principal`, `?resource`.
    link: Option<(&'static str, &'static str, &'static str)>,
    /// Puts it in force.
    on: Vec<Step>,
    /// Removes or omits what it relies on.
    gone: Vec<Step>,
    /// Who else is hit is told by the record `other`, which has nothing to do with it.
    others_stay: bool,
    /// The prohibition looks at the patient that a question is narrowed to, so that a read by id is not concerned.
    narrowed: bool,
}

fn way(name: &'static str, forbid: &'static str, on: Vec<Step>, gone: Vec<Step>) -> Way {
    Way { name, forbid, link: None, on, gone, others_stay: true, narrowed: false }
}

fn entity(ty: &str, id: &str, attrs: Json, parents: &[(&str, &str)]) -> Json {
    let parents: Vec<Json> = parents.iter().map(|(ty, id)| json!({"type": ty, "id": id})).collect();
    json!({"uid": {"type": ty, "id": id}, "attrs": attrs, "parents": parents})
}

fn reference(ty: &str, id: &str) -> Json {
    json!({"__entity": {"type": ty, "id": id}})
}

fn patient(changes: &Json, parents: &[(&str, &str)]) -> Json {
    let mut attrs = json!({"sealed": false, "guardian": reference("Guardian", "g")});
    attrs.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    entity("Patient", "p", attrs, parents)
}

fn tagged(mut entity: Json, key: &str, value: &str) -> Json {
    entity["tags"] = json!({key: value});
    entity
}

/// Everything benign: no prohibition of the ways holds.
fn base() -> Vec<Json> {
    let team = json!({"suspended": false, "patients": [reference("Patient", "p")]});
    vec![
        entity("Guardian", "g", json!({"blocks": false}), &[]),
        patient(&json!({}), &[("Register", "r1")]),
        entity("Patient", "p2", json!({"sealed": false}), &[]),
        entity("Register", "r1", json!({}), &[("Register", "r2")]),
        entity("Register", "r2", json!({}), &[]),
        entity("Register", "r3", json!({}), &[]),
        entity("Department", "d1", json!({}), &[("Department", "d2")]),
        entity("Department", "d2", json!({}), &[]),
        entity("Department", "d3", json!({}), &[]),
        entity("Team", "t", team, &[]),
        entity("Group", "staff", json!({}), &[]),
        entity("Group", "suspended", json!({}), &[]),
        entity("Clinician", "c", json!({"team": reference("Team", "t")}), &[("Group", "staff")]),
        entity("Clinician", "a", json!({}), &[]),
        entity("Switch", "lockdown", json!({"on": false}), &[]),
        entity("Zone", "z1", json!({}), &[]),
        entity("Zone", "z2", json!({}), &[]),
        entity("Folder", "f1", json!({}), &[]),
        entity("Folder", "f2", json!({}), &[]),
        entity("Collection", "notes", json!({}), &[]),
        entity("Document", "notes/doc", json!({}), &[]),
    ]
}

fn attributes() -> Json {
    json!({"patient": reference("Patient", "p"), "level": 1, "author": reference("Clinician", "a"), "cleared": true})
}

fn it(attributes: &Json, tags: &Json) -> Json {
    json!({"id": "it", "document": "doc", "vector": [1.0, 0.0], "text": "a secret", "attributes": attributes, "tags": tags,
           "parents": [{"type": "Document", "id": "notes/doc"}, {"type": "Department", "id": "d1"}]})
}

fn without(mut json: Json, key: &str) -> Json {
    json.as_object_mut().unwrap().remove(key).unwrap();
    json
}

fn ways() -> Vec<Way> {
    let in_register_3 = r#"forbid (principal, action, resource is Record) when { resource has patient && resource.patient in Register::"r3" };"#;
    let in_department_3 = r#"forbid (principal, action, resource in Department::"d3");"#;
    let in_folder_2 = r#"forbid (principal, action, resource in Folder::"f2");"#;
    let in_zone_2 = r#"forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource in Zone::"z2");"#;
    let suspended =
        r#"forbid (principal in Group::"suspended", action in [Action::"Retrieve", Action::"Read"], resource);"#;
    let sealed =
        "forbid (principal, action, resource is Record) when { resource has patient && resource.patient.sealed };";
    let register_3 = || Put(entity("Register", "r2", json!({}), &[("Register", "r3")]));
    let department_3 = || Put(entity("Department", "d2", json!({}), &[("Department", "d3")]));
    let folder_2 = || {
        vec![
            Put(entity("Folder", "f1", json!({}), &[("Folder", "f2")])),
            Put(entity("Document", "notes/doc", json!({}), &[("Folder", "f1")])),
        ]
    };
    let zone_2 = || {
        vec![
            Put(entity("Zone", "z1", json!({}), &[("Zone", "z2")])),
            Put(entity("Collection", "notes", json!({}), &[("Zone", "z1")])),
        ]
    };
    let seal = || vec![Put(patient(&json!({"sealed": true}), &[("Register", "r1")]))];
    vec![
        way("the patient goes whose attribute is tested", sealed, seal(), vec![Remove("Patient/p")]),
        way(
            "the patient goes of whom `has` is asked",
            "forbid (principal, action, resource is Record) when { resource has patient && resource.patient has note };",
            vec![Put(patient(&json!({"note": "withheld"}), &[]))],
            vec![Remove("Patient/p")],
        ),
        way(
            "the patient goes whose tag is asked for",
            r#"forbid (principal, action, resource is Record) when { resource has patient && resource.patient.hasTag("hold") };"#,
            vec![Put(tagged(patient(&json!({}), &[]), "hold", "yes"))],
            vec![Remove("Patient/p")],
        ),
        way(
            "the patient goes whose tag is read",
            r#"forbid (principal, action, resource is Record)
               when { resource has patient && resource.patient.hasTag("hold") && resource.patient.getTag("hold") == "yes" };"#,
            vec![Put(tagged(patient(&json!({}), &[]), "hold", "yes"))],
            vec![Remove("Patient/p")],
        ),
        way(
            "an entity two steps away goes",
            "forbid (principal, action, resource is Record)
             when { resource has patient && resource.patient has guardian && resource.patient.guardian.blocks };",
            vec![Put(entity("Guardian", "g", json!({"blocks": true}), &[]))],
            vec![Remove("Guardian/g")],
        ),
        way(
            "an entity two steps away goes and then the one between",
            "forbid (principal, action, resource is Record)
             when { resource has patient && resource.patient has guardian && resource.patient.guardian.blocks };",
            vec![Put(entity("Guardian", "g", json!({"blocks": true}), &[]))],
            vec![Remove("Guardian/g"), Remove("Patient/p")],
        ),
        way("the patient's direct parent goes", in_register_3, vec![register_3()], vec![Remove("Register/r1")]),
        way("a parent between the patient and the register goes", in_register_3, vec![register_3()], vec![Remove("Register/r2")]),
        way("the register itself goes", in_register_3, vec![register_3()], vec![Remove("Register/r3")]),
        way(
            "every register goes",
            in_register_3,
            vec![register_3()],
            vec![Remove("Register/r3"), Remove("Register/r2"), Remove("Register/r1")],
        ),
        way("the record's direct parent goes", in_department_3, vec![department_3()], vec![Remove("Department/d1")]),
        way("a parent between the record and the department goes", in_department_3, vec![department_3()], vec![Remove("Department/d2")]),
        way("the department itself goes", in_department_3, vec![department_3()], vec![Remove("Department/d3")]),
        way(
            "a parent is replaced by one that is below a department nobody stored",
            in_department_3,
            vec![department_3()],
            vec![Put(entity("Department", "d2", json!({}), &[("Department", "nowhere")]))],
        ),
        way(
            "a department goes of which a type and a group are asked",
            r#"forbid (principal, action, resource is Record in Department::"d3");"#,
            vec![department_3()],
            vec![Remove("Department/d2")],
        ),
        Way {
            link: Some(("closed", "?resource", r#"{"type":"Department","id":"d3"}"#)),
            ..way(
                "a parent goes between the record and what a link names",
                r#"@id("closed") forbid (principal, action, resource in ?resource);"#,
                vec![department_3()],
                vec![Remove("Department/d2")],
            )
        },
        Way {
            link: Some(("closed", "?resource", r#"{"type":"Department","id":"d3"}"#)),
            ..way(
                "what a link names goes",
                r#"@id("closed") forbid (principal, action, resource in ?resource);"#,
                vec![department_3()],
                vec![Remove("Department/d3")],
            )
        },
        Way {
            link: Some(("out", "?principal", r#"{"type":"Group","id":"suspended"}"#)),
            others_stay: false,
            ..way(
                "the caller's group goes, below what a link names",
                r#"@id("out") forbid (principal in ?principal, action in [Action::"Retrieve", Action::"Read"], resource);"#,
                vec![Put(entity("Group", "staff", json!({}), &[("Group", "suspended")]))],
                vec![Remove("Group/staff")],
            )
        },
        Way {
            others_stay: false,
            ..way(
                "the caller's group goes",
                suspended,
                vec![Put(entity("Group", "staff", json!({}), &[("Group", "suspended")]))],
                vec![Remove("Group/staff")],
            )
        },
        Way {
            others_stay: false,
            ..way(
                "the caller's own entity goes",
                r#"forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource)
                   when { principal has team && principal.team.suspended };"#,
                vec![Put(entity("Team", "t", json!({"suspended": true, "patients": []}), &[]))],
                vec![Remove("Clinician/c")],
            )
        },
        Way {
            others_stay: false,
            ..way(
                "the caller's team goes",
                r#"forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource)
                   when { principal has team && principal.team.suspended };"#,
                vec![Put(entity("Team", "t", json!({"suspended": true, "patients": []}), &[]))],
                vec![Remove("Team/t")],
            )
        },
        way(
            "the team goes whose patients are excepted",
            r#"forbid (principal, action, resource is Record)
               when { resource has patient && !(Team::"t".patients.contains(resource.patient)) && resource.patient == Patient::"p" };"#,
            vec![Put(entity("Team", "t", json!({"suspended": false, "patients": []}), &[]))],
            vec![Remove("Team/t")],
        )
        .hits_others(),
        Way {
            narrowed: true,
            ..way(
                "the patient goes that the question is narrowed to",
                "forbid (principal, action, resource is Record) when { context has patient && context.patient.sealed };",
                seal(),
                vec![Remove("Patient/p")],
            )
        },
        Way {
            others_stay: false,
            ..way(
                "an entity goes that the policy names",
                r#"forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource) when { Switch::"lockdown".on };"#,
                vec![Put(entity("Switch", "lockdown", json!({"on": true}), &[]))],
                vec![Remove("Switch/lockdown")],
            )
        },
        way("a folder goes between the document and the one that is closed", in_folder_2, folder_2(), vec![Remove("Folder/f1")]),
        way("the document's entity goes", in_folder_2, folder_2(), vec![Remove("Document/notes%2Fdoc")]),
        Way {
            others_stay: false,
            ..way("a zone goes between the collection and the one that is closed", in_zone_2, zone_2(), vec![Remove("Zone/z1")])
        },
        Way { others_stay: false, ..way("the collection's entity goes", in_zone_2, zone_2(), vec![Remove("Collection/notes")]) },
        way(
            "the author goes",
            r#"forbid (principal, action, resource is Record) when { resource has author && resource.author in Group::"suspended" };"#,
            vec![Put(entity("Clinician", "a", json!({}), &[("Group", "suspended")]))],
            vec![Remove("Clinician/a")],
        ),
        way(
            "the patient loses the parent that an exception rests on",
            r#"forbid (principal, action, resource is Record)
               unless { resource has patient && (resource.patient == Patient::"p2" || resource.patient in Register::"r1") };"#,
            vec![Put(patient(&json!({}), &[("Register", "r2")]))],
            vec![Put(patient(&json!({}), &[]))],
        ),
        way(
            "the patient's register goes that an exception rests on",
            r#"forbid (principal, action, resource is Record)
               unless { resource has patient && (resource.patient == Patient::"p2" || resource.patient in Register::"r2") };"#,
            vec![Put(entity("Register", "r1", json!({}), &[]))],
            vec![Remove("Register/r1")],
        ),
        way(
            "the record is written again without the attribute that an exception rests on",
            r#"forbid (principal, action, resource is Record) when { resource.level > 0 } unless { resource has cleared && resource.cleared };"#,
            vec![Record(it(&json!({"patient": reference("Patient", "p"), "level": 1, "cleared": false}), &json!({})))],
            vec![Record(it(&without(attributes(), "cleared"), &json!({})))],
        ),
        way(
            "the record is written again without the tag that an exception rests on",
            r#"forbid (principal, action, resource is Record) when { resource.level > 0 }
               unless { resource.hasTag("class") && resource.getTag("class") == "open" };"#,
            vec![Record(it(&attributes(), &json!({"class": "secret"})))],
            vec![Record(it(&attributes(), &json!({})))],
        ),
        way(
            "an attribute that the schema requires is left out",
            sealed,
            seal(),
            vec![Refused(entity("Patient", "p", json!({}), &[]), "missing_attribute")],
        ),
        way(
            "the patient is written again with a guardian that nobody stored",
            "forbid (principal, action, resource is Record)
             when { resource has patient && resource.patient has guardian && resource.patient.guardian.blocks };",
            vec![Put(entity("Guardian", "g", json!({"blocks": true}), &[]))],
            vec![Put(patient(&json!({"guardian": reference("Guardian", "nobody")}), &[]))],
        ),
        way(
            "the patient goes on the other side of an `if`",
            "forbid (principal, action, resource is Record)
             when { if resource has patient then !(resource.patient.sealed == false) else false };",
            seal(),
            vec![Remove("Patient/p")],
        ),
        way(
            "the patient goes behind an `or` that is false",
            r#"forbid (principal, action, resource is Record)
               when { context.purpose == "research" || (resource has patient && resource.patient.sealed) };"#,
            seal(),
            vec![Remove("Patient/p")],
        ),
        way(
            "the patient goes within a set",
            "forbid (principal, action, resource is Record)
             when { resource has patient && [resource.patient.sealed, false].contains(true) };",
            seal(),
            vec![Remove("Patient/p")],
        ),
    ]
}

impl Way {
    fn hits_others(self) -> Self {
        Self { others_stay: false, ..self }
    }

    fn policies(&self) -> Json {
        let id = if self.forbid.contains("@id") { "" } else { "@id(\"prohibition\") " };
        let mut body = json!({"schema": SCHEMA, "policies": format!("{PERMITS}\n{id}{}", self.forbid)});
        if let Some((template, slot, uid)) = self.link {
            body["links"] = json!([{"template": template, "id": "link", "values": {slot: serde_json::from_str::<Json>(uid).unwrap()}}]);
        }
        body
    }
}

struct Stage {
    server: Server,
    reader: Client,
}

/// Whether a reader sees a record by each of the three ways to it.
#[derive(Debug, PartialEq)]
struct Seen {
    read: bool,
    search: bool,
    list: bool,
}

const NOTHING: Seen = Seen { read: false, search: false, list: false };

impl Stage {
    fn new() -> Self {
        let server = Server::new();
        server.root().put("/v1/policies", &json!({"schema": SCHEMA, "policies": PERMITS})).ok();
        server.root().put("/v1/entities", &json!(base())).ok();
        server.root().put("/v1/collections/notes", &json!({"dimension": 2, "metric": "cosine"})).ok();
        let reader = server.key_for("Clinician", "c");
        Self { server, reader }
    }

    /// Everything benign, under the policies of a way.
    fn reset(&self, way: &Way) {
        let root = self.server.root();
        root.put("/v1/entities", &json!(base())).ok();
        root.put("/v1/policies?allow_widening=true", &way.policies()).ok();
        let other = json!({"id": "other", "document": "other", "vector": [0.0, 1.0], "text": "no secret",
                           "attributes": {"patient": reference("Patient", "p2"), "level": 0}});
        root.put(
            "/v1/collections/notes/records",
            &json!({"records": [it(&attributes(), &json!({"class": "open"})), other]}),
        )
        .ok();
    }

    fn take(&self, steps: &[Step]) {
        let root = self.server.root();
        for step in steps {
            match step {
                Put(entity) => drop(root.put("/v1/entities", &json!([entity])).ok()),
                Record(record) => drop(root.put("/v1/collections/notes/records", &json!({"records": [record]})).ok()),
                Refused(entity, code) => {
                    assert_eq!(root.put("/v1/entities", &json!([entity])).expect(422).code(), *code)
                }
                Remove(path) => {
                    let first = root.delete(&format!("/v1/entities/{path}"));
                    if first.status == 409 {
                        assert_eq!(first.code(), "referred_to");
                        root.delete(&format!("/v1/entities/{path}?force=true")).ok();
                    } else {
                        first.ok();
                    }
                    root.get(&format!("/v1/entities/{path}")).expect(404);
                }
            }
        }
    }

    fn seen(&self, id: &str, narrowed: bool) -> Seen {
        let mut asked = json!({"purpose": "treatment", "limit": 10});
        if narrowed {
            asked["patient"] = json!("p");
        }
        let list = self.reader.post("/v1/collections/notes/records/list", &asked);
        asked["vector"] = json!([1.0, 0.1]);
        let search = self.reader.search("notes", &asked);
        let holds = |answer: &Answer| match answer.status {
            200 => answer.ids().iter().any(|found| found == id),
            403 => false,
            other => panic!("{other}: {}", answer.text()),
        };
        if list.status == 200 {
            assert_eq!(
                list.json()["count"].as_u64().unwrap() as usize,
                list.ids().len(),
                "the count is of what is listed"
            );
        }
        let read = self.reader.get(&format!("/v1/collections/notes/records/{id}?purpose=treatment"));
        assert!([200, 404].contains(&read.status), "{}", read.text());
        Seen { read: read.status == 200 && !narrowed, search: holds(&search), list: holds(&list) }
    }
}

#[test]
fn whatever_a_prohibition_relies_on_may_go_and_the_record_stays_denied() {
    let stage = Stage::new();
    let ways = ways();
    assert!(ways.len() >= 30);
    let mut faults = String::new();
    for way in &ways {
        stage.reset(way);
        let everything = Seen { read: !way.narrowed, search: true, list: true };
        let start = stage.seen("it", way.narrowed);
        stage.take(&way.on);
        let on = stage.seen("it", way.narrowed);
        stage.take(&way.gone);
        let gone = stage.seen("it", way.narrowed);
        let others = way.narrowed || stage.seen("other", false) == (Seen { read: true, search: true, list: true });
        if (&start, &on, &gone) != (&everything, &NOTHING, &NOTHING) {
            writeln!(faults, "{}: at first {start:?}, in force {on:?}, after it {gone:?}", way.name).unwrap();
        }
        if others != way.others_stay {
            writeln!(faults, "{}: other records stay visible: {others}", way.name).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn what_was_removed_stays_removed_over_a_restart_until_it_is_written_again() {
    for (path, back) in [
        ("Document/notes%2Fdoc", entity("Document", "notes/doc", json!({}), &[])),
        ("Collection/notes", entity("Collection", "notes", json!({}), &[])),
        ("Patient/p", patient(&json!({}), &[])),
        ("Department/d2", entity("Department", "d2", json!({}), &[])),
        ("Team/t", entity("Team", "t", json!({"suspended": false, "patients": []}), &[])),
    ] {
        let ways = ways();
        let way = ways.iter().find(|w| w.gone.iter().any(|s| matches!(s, Remove(p) if *p == path))).unwrap();
        let mut stage = Stage::new();
        stage.reset(way);
        stage.take(&way.on);
        stage.take(&way.gone);
        assert_eq!(stage.seen("it", false), NOTHING, "{path}");
        let key = stage.reader.key.clone();
        let server = stage.server.restart();
        stage = Stage { reader: server.client(&key), server };
        assert_eq!(stage.seen("it", false), NOTHING, "{path} after a restart");
        // New records of the document, and the policies once more, do not bring it back either.
        stage.server.root().put("/v1/policies?allow_widening=true", &way.policies()).ok();
        let mut more = it(&attributes(), &json!({}));
        more["id"] = json!("more");
        let body = json!({"records": [more]});
        // Into a collection whose entity is gone nothing may be written: policies ask about it.
        let expected = if path == "Collection/notes" { 403 } else { 200 };
        stage.server.root().put("/v1/collections/notes/records", &body).expect(expected);
        assert_eq!(
            (stage.seen("it", false), stage.seen("more", false)),
            (NOTHING, NOTHING),
            "{path} after new records"
        );
        stage.server.root().get(&format!("/v1/entities/{path}")).expect(404);
        stage.server.root().delete(&format!("/v1/entities/{path}?force=true")).expect(404);
        // Writing it again without what was forbidden is a decision that somebody made, and it takes effect.
        stage.take(&[Put(back)]);
        assert!(stage.seen("it", false).read, "{path} written again");
    }
}

#[test]
fn an_entity_that_something_refers_to_goes_only_by_force() {
    let stage = Stage::new();
    let ways = ways();
    let way = ways.iter().find(|w| w.link.is_some()).unwrap();
    stage.reset(way);
    stage.take(&way.on);
    let root = stage.server.root();
    // A record's parent, a patient of a record, a parent of an entity, a link's, an attribute of an entity, one with a key.
    for path in
        ["Department/d1", "Patient/p", "Department/d2", "Department/d3", "Team/t", "Clinician/c", "Collection/notes"]
    {
        let answer = root.delete(&format!("/v1/entities/{path}")).expect(409);
        assert_eq!(answer.code(), "referred_to", "{path}");
        assert!(answer.json()["referrers"].as_u64().unwrap() > 0, "{path}");
        root.get(&format!("/v1/entities/{path}")).expect(200);
    }
    root.delete("/v1/entities/Zone/z2").ok();
    let written = root.put("/v1/entities", &json!([patient(&json!({}), &[])])).ok();
    assert_eq!(written["entities"][0]["removed_parents"], json!([{"type": "Register", "id": "r1"}]));
    let written = root.put("/v1/entities", &json!([entity("Patient", "p", json!({"sealed": false}), &[])])).ok();
    assert_eq!(written["entities"][0]["removed_attributes"], json!(["guardian"]));
}

#[test]
fn a_collection_that_is_deleted_before_its_first_record_stays_deleted() {
    let mut server = plain::server();
    let written = json!([entity("Collection", "notes", json!({}), &[])]);
    server.root().put("/v1/entities", &written).ok();
    server.root().delete("/v1/entities/Collection/notes?force=true").ok();
    for again in ["at once", "after a restart"] {
        // Were it implied by its records, what forbade them on its account would be lifted.
        let refused = plain::put_records(&server.root(), &[plain::record("first", "d", 1)]);
        assert_eq!(refused.status, 403, "{again}: {}", refused.text());
        server.root().get("/v1/entities/Collection/notes").expect(404);
        server = server.restart();
    }
    server.root().put("/v1/entities", &written).ok();
    plain::put_records(&server.root(), &[plain::record("first", "d", 1)]).ok();
}

#[test]
fn an_id_that_is_named_twice_is_erased_or_missed_once() {
    let server = plain::server();
    let root = server.root();
    plain::put_records(&root, &[plain::record("a", "d", 1), plain::record("b", "d", 1)]).ok();
    let ids = json!({"ids": ["a", "x", "a", "x", "a", "y"]});
    let answer = root.post("/v1/collections/notes/erase", &ids).expect(200);
    assert_eq!(answer.json(), json!({"erased": 1, "missing": 2, "resealed": 1}));
    let log = plain::all_entries(&root, 0);
    let entry = log.iter().find(|e| plain::what(e) == "erase").unwrap();
    assert_eq!(entry["counts"], json!({"asked": 3, "returned": 1}));
    assert_eq!(entry["records"], json!(["a"]));
}

mod misfits {
    //! What does not fit a new schema and is tolerated all the same (`allow_invalid`) counts as not stored.

    use super::*;

    /// A bundle whose patients have these attributes; who consents may be looked at by root.
    fn bundle(attributes: &str) -> Json {
        let schema = format!(
            "entity Administrator; entity System; entity Collection; entity Document; entity Patient = {{ {attributes} }};
             entity Record in [Document, Collection] = {{ patient: Patient }};
             action Retrieve, Read, ReadVector appliesTo
                 {{ principal: [Administrator], resource: [Record], context: {{ purpose: String }} }};
             action Search, Ingest, Erase, Export, BreakGlass appliesTo
                 {{ principal: [Administrator], resource: [Collection], context: {{}} }};
             action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass,
                 Explain appliesTo {{ principal: [Administrator], resource: [System], context: {{}} }};"
        );
        let policies = r#"
            @id("everything") permit (principal is Administrator, action, resource);
            @id("consent") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource)
            unless { resource.patient.consents };"#;
        json!({"schema": schema, "policies": policies})
    }

    #[track_caller]
    fn shows(server: &Server, expected: bool) {
        let root = server.root();
        let found = root.search("notes", &json!({"vector": [1, 0], "purpose": "treatment"})).expect(200).ids();
        assert_eq!(found.len(), usize::from(expected), "search");
        root.get("/v1/collections/notes/records/r?purpose=treatment").expect(if expected { 200 } else { 404 });
    }

    #[test]
    fn an_entity_that_does_not_fit_the_new_schema_lifts_nothing_also_after_a_restart() {
        let server = Server::new();
        let root = server.root();
        let patient = |attrs| json!([entity("Patient", "p", attrs, &[])]);
        root.put("/v1/policies?allow_widening=true", &bundle("consents: Bool")).ok();
        root.put("/v1/entities", &patient(json!({"consents": true}))).ok();
        root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "cosine"})).ok();
        let record = json!({"id": "r", "document": "d", "vector": [1, 0], "text": "a text",
                            "attributes": {"patient": reference("Patient", "p")}});
        root.put("/v1/collections/notes/records", &json!({"records": [record]})).ok();
        shows(&server, true);
        // The consent is there still, but what it says under a schema that wants more of it nobody knows.
        let stricter = bundle("consents: Bool, since: Long");
        assert_eq!(root.put("/v1/policies", &stricter).expect(409).code(), "stored_data_invalid");
        root.put("/v1/policies?allow_invalid=true", &stricter).ok();
        shows(&server, false);
        let server = server.restart();
        shows(&server, false);
        // other policies under the same schema: what did not fit before does not fit now
        let mut again = stricter;
        again["policies"] = json!(again["policies"].as_str().unwrap().to_owned() + "// the same, once more");
        assert_eq!(server.root().put("/v1/policies", &again).expect(409).code(), "stored_data_invalid");
        server.root().put("/v1/policies?allow_invalid=true", &again).ok();
        shows(&server, false);
        server.root().put("/v1/entities", &patient(json!({"consents": true, "since": 7}))).ok();
        shows(&server, true);
    }

    /// Wards that lie within wards; `more` is what the schema wants of each.
    fn wards(more: &str) -> Json {
        let mut bundle = bundle("consents: Bool");
        let schema = bundle["schema"].as_str().unwrap().to_owned() + &format!("entity Ward in [Ward] {more};");
        bundle["schema"] = json!(schema);
        bundle
    }

    fn ward(id: &str, attrs: Json, parents: &[(&str, &str)]) -> Json {
        json!([entity("Ward", id, attrs, parents)])
    }

    #[test]
    fn what_is_set_aside_is_still_read_listed_counted_replaced_and_deleted() {
        let server = Server::new();
        let root = server.root();
        root.put("/v1/policies?allow_widening=true", &wards("")).ok();
        root.put("/v1/entities", &ward("a", json!({}), &[])).ok();
        root.put("/v1/entities", &ward("b", json!({}), &[("Ward", "a")])).ok();
        root.put("/v1/policies?allow_invalid=true", &wards("= { beds: Long }")).ok();
        shows_what_is_set_aside(&server);
        shows_what_is_set_aside(&server.restart());
    }

    fn shows_what_is_set_aside(server: &Server) {
        let root = server.root();
        assert_eq!(root.get("/v1/entities/Ward/b").ok()["parents"], json!([{"type": "Ward", "id": "a"}]));
        root.put("/v1/entities", &ward("c", json!({"beds": 2}), &[])).ok();
        let listed = root.get("/v1/entities/Ward").ok();
        let listed: Vec<_> =
            listed["entities"].as_array().unwrap().iter().map(|e| e["uid"]["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
        let refused = root.delete("/v1/entities/Ward/a").expect(409);
        assert_eq!((refused.code().as_str(), &refused.json()["referrers"]), ("referred_to", &json!(1)));
    }

    #[test]
    fn what_is_set_aside_comes_back_in_no_cycle() {
        let server = Server::new();
        let root = server.root();
        root.put("/v1/policies?allow_widening=true", &wards("")).ok();
        root.put("/v1/entities", &ward("a", json!({}), &[])).ok();
        root.put("/v1/entities", &ward("b", json!({}), &[("Ward", "a")])).ok();
        root.put("/v1/policies?allow_invalid=true", &wards("= { beds: Long }")).ok();
        // `b` lies in `a`, unseen: were `a` to lie in `b`, both would return in a circle under a schema that they fit again
        let circle = ward("a", json!({"beds": 1}), &[("Ward", "b")]);
        assert_eq!(root.put("/v1/entities", &circle).expect(422).code(), "cycle");
        let replaced = root.put("/v1/entities", &ward("b", json!({"beds": 1}), &[])).ok();
        assert_eq!(replaced["entities"][0]["created"], false, "{replaced}");
        assert_eq!(replaced["entities"][0]["removed_parents"], json!([{"type": "Ward", "id": "a"}]), "{replaced}");
        root.put("/v1/entities", &circle).ok();
        root.delete("/v1/entities/Ward/a").ok();
        root.get("/v1/entities/Ward/a").expect(404);
        root.put("/v1/policies?allow_widening=true", &wards("= { beds: Long }")).ok();
        root.get("/v1/entities/Ward/a").expect(404);
    }
}

mod feeds {
    //! Whoever may write one type of entity writes no other, however it is dressed.

    use super::super::{
        harness::{Server, bundle},
        refusals::entries,
    };
    use super::*;

    #[test]
    fn a_feed_of_care_teams_writes_neither_clinicians_nor_patients_in_any_form() {
        let server = Server::clinical();
        let feed = server.key_for("Service", "care-team-feed");
        let root = server.root();
        let watched = [
            "Clinician/m-nurse-000",
            "Patient/m-P000043",
            "Role/attending",
            "Service/care-team-feed",
            "CareTeam/team-m-nurse-000",
        ];
        let state = || watched.map(|path| root.get(&format!("/v1/entities/{path}")).ok());
        let (before, people) = (state(), root.get("/v1/entities/Clinician").ok());
        let attrs =
            r#""attrs":{"departments":[],"care_team":{"__entity":{"type":"CareTeam","id":"team-m-nurse-000"}}}"#;
        let parents = r#""parents":[{"type":"Role","id":"attending"}]"#;
        let nurse = |uid: &str| format!(r#"{{"uid":{uid},{attrs},{parents}}}"#);
        let team = r#"{"uid":{"type":"CareTeam","id":"new"},"attrs":{"patients":[]},"parents":[]}"#;
        let patient = |uid: &str| {
            format!(r#"{{"uid":{uid},"attrs":{{"vip":false,"part2_consent":true,"facility":"x"}},"parents":[]}}"#)
        };
        let plain = r#"{"type":"Clinician","id":"m-nurse-000"}"#;
        let refused = [
            nurse(plain),
            patient(r#"{"type":"Patient","id":"m-P000043"}"#),
            patient(r#"{"type":"Patient","id":"new"}"#),
            r#"{"uid":{"type":"Role","id":"attending"},"attrs":{},"parents":[]}"#.to_owned(),
            r#"{"uid":{"type":"Service","id":"care-team-feed"},"attrs":{},"parents":[{"type":"ServiceRole","id":"registration-feed"}]}"#.to_owned(),
            nurse(r#"{"__entity":{"type":"Clinician","id":"m-nurse-000"}}"#),
            nurse(r#"{"type":"CareTeam","id":"m-nurse-000","__entity":{"type":"Clinician","id":"m-nurse-000"}}"#),
            nurse(r#"{"__entity":{"type":"Clinician","id":"m-nurse-000"},"type":"CareTeam","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"\u0043linician","id":"m-nurse-000"}"#),
            nurse(r#"{"\u0074ype":"Clinician","id":"m-nurse-000"}"#),
            nurse(r#""Clinician::\"m-nurse-000\"""#),
            nurse(r#""m-nurse-000""#),
            nurse(r#"["Clinician","m-nurse-000"]"#),
            nurse(r#"{"__entity":"Clinician::\"m-nurse-000\""}"#),
            nurse(r#"{"__entity":{"__entity":{"type":"Clinician","id":"m-nurse-000"}}}"#),
            nurse(r#"{"__expr":"Clinician::\"m-nurse-000\""}"#),
            nurse(r#"{"type":" Clinician","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"Clinician ","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"::Clinician","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"CareTeam::Clinician","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"Clinician::CareTeam","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"CareTeam ","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"careteam","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"CareTeam\u0000","id":"m-nurse-000"}"#),
            nurse(r#"{"type":"CareTeam\u200b","id":"m-nurse-000"}"#),
            nurse(r#"{"type":null,"id":"m-nurse-000"}"#),
            nurse(r#"{"type":["Clinician"],"id":"m-nurse-000"}"#),
            nurse(r#"{"id":"m-nurse-000"}"#),
            nurse("null"),
            format!(r#"{{"type":"CareTeam","id":"m-nurse-000",{attrs},{parents}}}"#),
            format!(r#"{{"__entity":{plain},{attrs},{parents}}}"#),
            format!("[{}]", nurse(plain)),
            "null".to_owned(),
        ];
        for entity in &refused {
            for body in [format!("[{entity}]"), format!("[{team},{entity}]"), format!("[{entity},{team}]")] {
                let answer = feed.send("PUT", "/v1/entities", "application/json", body.as_bytes());
                assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{body}: {}", answer.text());
            }
        }
        // Here a name occurs twice, or what is written is a care team that looks like a clinician.
        let teams = [
            nurse(r#"{"type":"CareTeam","id":"m-nurse-000","type":"Clinician"}"#),
            format!(r#"{{"uid":{{"type":"CareTeam","id":"m-nurse-000"}},"uid":{plain},{attrs},{parents}}}"#),
            nurse(r#"{"type":"Clinician","id":"m-nurse-000","type":"CareTeam"}"#),
            nurse(r#"{"type":"Clinician","id":"m-nurse-000","__entity":{"type":"CareTeam","id":"m-nurse-000"}}"#),
            format!(r#"{{"uid":{plain},"uid":{{"type":"CareTeam","id":"m-nurse-000"}},{attrs},{parents}}}"#),
            nurse(r#"{"type":"CareTeam","id":"m-nurse-000"}"#),
        ];
        for entity in &teams {
            let answer = feed.send("PUT", "/v1/entities", "application/json", format!("[{entity}]").as_bytes());
            assert_eq!(answer.status, 422, "{entity}: {}", answer.text());
        }
        for body in
            [nurse(plain), format!(r#"{{"entities":[{}]}}"#, nurse(plain)), format!("[{}][{team}]", nurse(plain))]
        {
            let answer = feed.send("PUT", "/v1/entities", "application/json", body.as_bytes());
            assert!([400, 403, 422].contains(&answer.status), "{body}: {}", answer.text());
        }
        for path in watched {
            feed.delete(&format!("/v1/entities/{path}?force=true")).expect(403);
            feed.get(&format!("/v1/entities/{path}")).expect(403);
        }
        assert_eq!(state(), before);
        assert_eq!(root.get("/v1/entities/Clinician").ok(), people);
        root.get("/v1/entities/CareTeam/new").expect(404);
        let log = entries(&root, 0);
        let denied = log.iter().filter(|e| e["caller"]["id"] == "care-team-feed" && e["outcome"] == "denied").count();
        assert!(denied >= refused.len() * 3, "{denied}");
        // What it is there for still works.
        feed.put("/v1/entities", &serde_json::from_str(&format!("[{team}]")).unwrap()).ok();
    }

    #[test]
    fn one_who_may_only_create_never_replaces_what_another_created_at_the_same_time() {
        let server = Server::clinical();
        let mut policies = bundle("policies/clinical");
        let text = policies["policies"]
            .as_str()
            .unwrap()
            .replace(r#"["create", "replace"].contains(context.operation)"#, r#"context.operation == "create""#);
        policies["policies"] = json!(text);
        server.root().put("/v1/policies", &policies).ok();
        let feed = server.key_for("Service", "care-team-feed");
        for round in 0..12 {
            let barrier = std::sync::Barrier::new(8);
            let written: Vec<(usize, u16)> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..8)
                    .map(|n| {
                        let (feed, barrier) = (feed.clone(), &barrier);
                        scope.spawn(move || {
                            let team = json!([{"uid": {"type": "CareTeam", "id": format!("team-{round}")},
                                               "attrs": {"patients": [reference("Patient", &format!("p{n}"))]}}]);
                            barrier.wait();
                            (n, feed.put("/v1/entities", &team).status)
                        })
                    })
                    .collect();
                writers.into_iter().map(|w| w.join().unwrap()).collect()
            });
            let won: Vec<_> = written.iter().filter(|(_, status)| *status == 200).collect();
            assert_eq!(won.len(), 1, "{written:?}");
            assert!(written.iter().all(|(_, status)| [200, 403].contains(status)), "{written:?}");
            let stored = server.root().get(&format!("/v1/entities/CareTeam/team-{round}")).ok();
            assert_eq!(stored["attrs"]["patients"][0]["__entity"]["id"], format!("p{}", won[0].0));
        }
    }
}

mod ingesters {
    //! Whoever may write records moves none to another patient, document or collection, and sets nothing that the server sets.

    use super::*;

    const SCHEMA: &str = r#"
entity Administrator; entity System;
entity Region; entity Collection in [Region];
entity Document in [Collection];
entity Patient in [Region];
entity Unit in [Unit, Patient, Collection, Document];
entity Clinician = { patients: Set<Patient> };
entity Feed;
entity Record in [Record, Document, Collection, Patient, Unit] = {
  patient?: Patient, kind: String, ingested_by?: Feed, ingested_at?: datetime
};
type Question = { purpose: String, patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest appliesTo { principal: [Feed, Administrator], resource: [Collection], context: { document?: String, replaces?: Bool } };
action Erase, Export appliesTo { principal: [Feed, Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Feed, Administrator], resource: [System], context: {} };
"#;

    const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("feed") permit (principal is Feed, action == Action::"Ingest", resource);
@id("search") permit (principal is Clinician, action == Action::"Search", resource);
@id("by-attribute") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
when { resource has patient && principal.patients.contains(resource.patient) };
@id("by-hierarchy") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
when { resource in principal.patients };
@id("by-collection") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource in Collection::"public");
@id("by-document") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource in Document::"notes/open");
"#;

    fn record(id: &str, document: &str, patient: &str, parents: Json) -> Json {
        json!({"id": id, "document": document, "vector": [1.0, 0.0], "text": "a secret of mine",
               "attributes": {"patient": reference("Patient", patient), "kind": "note"}, "parents": parents})
    }

    #[test]
    fn whoever_may_write_records_cannot_show_one_to_somebody_elses_reader() {
        let server = Server::new();
        let root = server.root();
        root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": POLICIES})).ok();
        let below = |ty: &str, id: &str| entity("Unit", &format!("below-{ty}"), json!({}), &[(ty, id)]);
        root.put(
            "/v1/entities",
            &json!([
                entity("Patient", "mine", json!({}), &[]),
                entity("Patient", "theirs", json!({}), &[]),
                entity("Feed", "feed", json!({}), &[]),
                entity("Clinician", "reader", json!({"patients": [reference("Patient", "theirs")]}), &[]),
                entity("Clinician", "owner", json!({"patients": [reference("Patient", "mine")]}), &[]),
                below("Patient", "theirs"),
                below("Collection", "public"),
                below("Document", "notes/open"),
                entity("Unit", "deep", json!({}), &[("Unit", "below-Patient")]),
                entity("Unit", "deeper", json!({}), &[("Unit", "deep")]),
                entity(
                    "Unit",
                    "own",
                    json!({}),
                    &[("Patient", "mine"), ("Collection", "notes"), ("Document", "notes/d")]
                ),
                entity("Unit", "plain", json!({}), &[]),
            ]),
        )
        .ok();
        for name in ["notes", "public"] {
            root.put(&format!("/v1/collections/{name}"), &json!({"dimension": 2, "metric": "cosine"})).ok();
        }
        let feed = server.key_for("Feed", "feed");
        let (reader, owner) = (server.key_for("Clinician", "reader"), server.key_for("Clinician", "owner"));
        let to = "/v1/collections/notes/records";
        feed.put(
            to,
            &json!({"records": [record("r", "d", "mine", json!([])), record("o", "open", "theirs", json!([]))]}),
        )
        .ok();
        let nobody =
            json!({"id": "n", "document": "d", "vector": [1.0, 0.0], "text": "x", "attributes": {"kind": "note"}});
        feed.put(to, &json!({"records": [nobody]})).ok();
        let read = |client: &Client, id: &str| client.get(&format!("{to}/{id}?purpose=treatment"));
        let before = read(&owner, "r").expect(200).json();
        let uid = |ty: &str, id: &str| json!([{"type": ty, "id": id}]);
        let text = |record: Json| record.to_string();
        let mut without_patient = record("r", "d", "mine", json!([]));
        without_patient["attributes"].as_object_mut().unwrap().remove("patient");
        let with = |name: &str, value: Json| {
            let mut record = record("r", "d", "mine", json!([]));
            record["attributes"][name] = value;
            record.to_string()
        };
        let mine = text(record("r", "d", "mine", json!([])));
        let theirs = r#""patient":{"__entity":{"type":"Patient","id":"theirs"}}"#;
        let attempts = [
            (text(record("r", "d", "theirs", json!([]))), "immutable"),
            (text(without_patient), "immutable"),
            (text(record("n", "d", "theirs", json!([]))), "immutable"),
            (text(record("r", "open", "mine", json!([]))), "immutable"),
            (with("patient", json!({"type": "Patient", "id": "theirs"})), "immutable"),
            (mine.replace(r#""kind":"note""#, &format!(r#""kind":"note",{theirs}"#)), "wrong_type"),
            (
                mine.replace(r#""attributes":"#, &format!(r#""attributes":{{"kind":"x",{theirs}}},"attributes":"#)),
                "wrong_type",
            ),
            (mine.replace(r#""id":"r""#, r#""id":"new","id":"r""#), "wrong_type"),
            (mine.replace(r#""document":"d""#, r#""document":"open","document":"d""#), "wrong_type"),
            (mine.replace(r#""text":"#, r#""patient":"theirs","text":"#), "wrong_type"),
            (text(record("r", "d", "mine", uid("Patient", "theirs"))), "parent"),
            (text(record("r", "d", "mine", uid("Document", "notes/open"))), "parent"),
            (text(record("r", "d", "mine", uid("Document", "public/d"))), "parent"),
            (text(record("r", "d", "mine", uid("Collection", "public"))), "parent"),
            (text(record("r", "d", "mine", uid("Record", "notes/o"))), "parent"),
            (text(record("r", "d", "mine", uid("Record", "notes/r"))), "parent"),
            (text(record("r", "d", "mine", uid("Unit", "below-Patient"))), "parent"),
            (text(record("r", "d", "mine", uid("Unit", "below-Collection"))), "parent"),
            (text(record("r", "d", "mine", uid("Unit", "below-Document"))), "parent"),
            (text(record("r", "d", "mine", uid("Unit", "deeper"))), "parent"),
            (
                text(record(
                    "r",
                    "d",
                    "mine",
                    json!([{"type": "Unit", "id": "plain"}, {"type": "Unit", "id": "deep"}]),
                )),
                "parent",
            ),
            (text(record("n2", "d", "mine", uid("Patient", "theirs"))), "parent"),
            (
                mine.replace(r#""parents":[]"#, r#""parents":[],"parents":[{"type":"Patient","id":"theirs"}]"#),
                "wrong_type",
            ),
            (
                mine.replace(r#""parents":[]"#, r#""parents":[{"__entity":{"type":"Patient","id":"theirs"}}]"#),
                "wrong_type",
            ),
            (with("ingested_by", reference("Feed", "other")), "reserved_attribute"),
            (with("ingested_by", reference("Feed", "feed")), "reserved_attribute"),
            (with("ingested_by", Json::Null), "reserved_attribute"),
            (with("ingested_at", json!({"__extn": {"fn": "datetime", "arg": "1990-01-01"}})), "reserved_attribute"),
            (
                mine.replace(
                    r#""kind":"note""#,
                    r#""kind":"note","ingested\u005fby":{"__entity":{"type":"Feed","id":"other"}}"#,
                ),
                "reserved_attribute",
            ),
        ];
        for (line, code) in &attempts {
            let whole = feed.send("PUT", to, "application/json", format!(r#"{{"records":[{line}]}}"#).as_bytes());
            assert_eq!((whole.status, whole.code().as_str()), (422, *code), "{line}: {}", whole.text());
            let streamed = feed.put_lines(to, line).ok();
            assert_eq!((&streamed["accepted"], &streamed["rejected"][0]["code"]), (&json!(0), &json!(code)), "{line}");
            // Hidden among good ones, the good ones stay out of a whole body too.
            let among = format!(r#"{{"records":[{},{line}]}}"#, record("fresh", "d", "mine", json!([])));
            assert_eq!(feed.send("PUT", to, "application/json", among.as_bytes()).status, 422);
            assert_eq!(read(&owner, "fresh").status, 404);
            assert_eq!(read(&reader, "r").status, 404, "{line}");
        }
        // Nor by way of what only others may do.
        feed.post("/v1/collections/notes/erase", &json!({"ids": ["r"]})).expect(403);
        feed.delete("/v1/collections/notes").expect(403);
        feed.put("/v1/entities", &json!([entity("Unit", "own", json!({}), &[("Patient", "theirs")])])).expect(403);
        assert_eq!(
            feed.put(&format!("{to}?mode=create"), &json!({"records": [record("r", "d", "mine", json!([]))]}))
                .expect(422)
                .code(),
            "exists"
        );
        let after = read(&owner, "r").expect(200).json();
        assert_eq!(
            (&after["text"], &after["attributes"]),
            (&before["text"], &before["attributes"]),
            "the record is as it was"
        );
        let search = json!({"vector": [1.0, 0.0], "purpose": "treatment", "limit": 100});
        assert_eq!(reader.search("notes", &search).ids(), ["o"]);
        assert_eq!(root.get("/v1/collections/public").ok()["records"], 0);

        // What it may do: write the record again, below what is its own.
        assert_eq!(after["attributes"]["ingested_by"], reference("Feed", "feed"));
        feed.put(to, &json!({"records": [record("r", "d", "mine", uid("Unit", "own"))]})).ok();
        feed.put(to, &json!({"records": [record("r", "d", "mine", json!([{"type": "Patient", "id": "mine"}, {"type": "Document", "id": "notes/d"}]))]})).ok();
        assert_eq!(read(&reader, "r").status, 404);
        // Another's id is another record: ids of two collections never meet.
        feed.put("/v1/collections/public/records", &json!({"records": [record("r", "d", "theirs", json!([]))]})).ok();
        assert_eq!(read(&owner, "r").expect(200).json()["attributes"]["patient"], reference("Patient", "mine"));
        assert_eq!(read(&reader, "r").status, 404);
    }
}
