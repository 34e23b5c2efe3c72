//! Each route in words, in the order of `ROUTES`.

use serde_json::{Value as Json, json};

use super::{
    super::{audit, foresight::body_bytes, policies},
    codes,
    operation::{Operation, open, operation},
    shape::{count, default, flag, id, text, time, within, word},
};
use crate::{
    model::{Action, limits},
    policy,
};

/// Method, path, and what is said.
type Told = (&'static str, &'static str, fn() -> Operation);

/// All of them.
pub(super) const ALL: &[Told] = &[
    ("GET", "/healthz", alive),
    ("GET", "/readyz", ready),
    ("GET", "/openapi.json", description),
    ("GET", "/metrics", metrics),
    ("GET", "/v1/collections", list_collections),
    ("GET", "/v1/collections/{c}", show_collection),
    ("PUT", "/v1/collections/{c}", put_collection),
    ("DELETE", "/v1/collections/{c}", drop_collection),
    ("PUT", "/v1/collections/{c}/records", put_records),
    ("POST", "/v1/collections/{c}/erase", erase),
    ("POST", "/v1/collections/{c}/search", search),
    ("POST", "/v1/collections/{c}/records/list", list),
    ("GET", "/v1/collections/{c}/records/{id}", read),
    ("PUT", "/v1/entities", put_entities),
    ("GET", "/v1/entities/{type}", list_entities),
    ("GET", "/v1/entities/{type}/{id}", show_entity),
    ("DELETE", "/v1/entities/{type}/{id}", remove_entity),
    ("GET", "/v1/holds", list_holds),
    ("PUT", "/v1/holds/{type}/{id}", put_hold),
    ("DELETE", "/v1/holds/{type}/{id}", lift_hold),
    ("GET", "/v1/policies", show_policies),
    ("PUT", "/v1/policies", put_policies),
    ("GET", "/v1/policies/history", history),
    ("POST", "/v1/policies/rollback", rollback),
    ("POST", "/v1/policies/validate", validate),
    ("POST", "/v1/policies/explain", explain),
    ("POST", "/v1/policies/diff", diff),
    ("GET", "/v1/callers", list_callers),
    ("POST", "/v1/callers", make_caller),
    ("DELETE", "/v1/callers/keys/{key_id}", revoke),
    ("GET", "/v1/keys", key_status),
    ("POST", "/v1/keys/rotate", rotate),
    ("POST", "/v1/backup", back_up),
    ("POST", "/v1/backup/stream", stream_backup),
    ("POST", "/v1/escrow", escrow),
    ("GET", "/v1/audit", entries),
    ("GET", "/v1/audit/checkpoint", checkpoint),
];

const NOT_FOUND: [&str; 1] = ["not_found"];

fn alive() -> Operation {
    open("Keep", "alive", "Is the server alive?").answers_with("Status", "It is.", json!({"status": "ok"}))
}

fn ready() -> Operation {
    open("Keep", "ready", "Can the server answer?")
        .told("It listens only once the store is loaded. 503 once a write has failed: mend the disk, then restart.")
        .answers_with("Status", "It can.", json!({"status": "ready"}))
}

fn description() -> Operation {
    open("Keep", "description", "This description").answers("Description", "OpenAPI 3.1; the same bytes to everybody.")
}

fn metrics() -> Operation {
    operation("Keep", "metrics", "Counters in Prometheus' text format")
        .told("Requests by method and status, the ledger, retention: nothing of what was asked or found.")
        .answers_in("text/plain; version=0.0.4; charset=utf-8", "The counters.")
}

fn list_collections() -> Operation {
    operation("Collections", "listCollections", "Every collection").answers("Collections", "All there are.")
}

fn show_collection() -> Operation {
    operation("Collections", "showCollection", "One collection")
        .answers("CollectionShown", "Its settings, and how much is in it.")
        .fails(404, NOT_FOUND)
}

fn put_collection() -> Operation {
    let example = json!({"dimension": 4, "metric": "cosine", "embedding_model": "all-MiniLM-L6-v2"});
    operation("Collections", "putCollection", "Make a collection")
        .told("Settings never change: the same again changes nothing, others are 409. To change them, erase it.")
        .takes("NewCollection", limits::BODY_BYTES, &[("for a small model", example)])
        .answers("Collection", "Its settings, with what was left out.")
        .fails(409, ["collection_differs"])
        .fails(
            422,
            ["collection", "dimension", "subject_attribute", "embedding_model", "too_many_collections", "too_large"],
        )
}

fn drop_collection() -> Operation {
    operation("Collections", "dropCollection", "Erase a collection and all in it")
        .told("Both actions are asked for. Refused as long as a patient whose records are in it is under a legal hold.")
        .answers("Dropped", "It is gone, and the keys of its records are destroyed.")
        .fails(404, NOT_FOUND)
        .fails(409, ["legal_hold"])
}

fn note(n: u32) -> Json {
    json!({
        "id": format!("note-{n}"),
        "document": "m-P000043-progress_note",
        "vector": [0.1, -0.2, 0.3, f64::from(n)],
        "text": "Follow-up visit. Blood pressure 128/82 mmHg.",
        "attributes": {
            "patient": {"type": "Patient", "id": "m-P000043"},
            "doc_type": "progress_note",
            "department": {"type": "Department", "id": "general_medicine"},
            "facility": "harborview_hospital",
            "sensitivity": 1,
            "author": {"type": "Clinician", "id": "m-attending-000"},
            "created_at": "2026-01-31T09:30:00Z",
            "source": "example",
        },
    })
}

fn put_records() -> Operation {
    let told = format!(
        "An id that is there is replaced; its `document` and its patient never change. `application/json` is all or nothing, at most {} \
         records. `application/x-ndjson` is a stream of any length: one record a line, commits of at most {} lines or {} bytes, each whole or \
         absent; a line of at most {} bytes that does not fit is rejected by itself and named, blank lines count and say nothing, lines end \
         with LF or CRLF, the last one may end without. Answered once all is durable and can be found. After a broken connection what was \
         committed stays, and sending all again is harmless. A stream is authorised anew at each commit, and at least every 5 seconds. Where \
         the schema declares `replaces` or `document` in the context of `Ingest`, each record is asked about, and one refusal refuses the \
         request.",
        limits::BATCH_RECORDS,
        limits::COMMIT_LINES,
        limits::COMMIT_BYTES,
        limits::LINE_BYTES,
    );
    let (first, second) = (note(1), note(2));
    operation("Write", "putRecords", "Write records")
        .told(told)
        .query(
            "mode",
            default(word(&["create", "upsert"], "`create`: an id that is there is a fault."), json!("upsert")),
        )
        .takes(
            "NewRecords",
            limits::BULK_BODY_BYTES,
            &[("two records of a patient", json!({"records": [first, second]}))],
        )
        .or_takes("application/x-ndjson", "One `NewRecord` a line.", &format!("{}\n{}\n", note(3), note(4)))
        .answers_with(
            "Ingested",
            "What was taken. From a stream also what was not, and why.",
            json!({"accepted": 2, "rejected": [], "rejected_count": 0}),
        )
        .fails(404, NOT_FOUND)
        .fails(422, codes::record())
        .fails(422, ["malformed_json", "too_deep", "too_many_records"])
}

fn erase() -> Operation {
    let told = format!(
        "Send one of `ids`, `document` and `patient`. The keys of what is erased are destroyed before the answer, so that no page, copy or \
         backup of it opens any more; other records under the same keys are sealed anew, at most {}.",
        limits::RESEALED_RECORDS
    );
    operation("Write", "erase", "Erase records")
        .told(told)
        .takes(
            "Erase",
            limits::BODY_BYTES,
            &[
                ("records", json!({"ids": ["note-3", "note-4"]})),
                ("a patient, with a certificate", json!({"patient": "m-P000043", "certificate": true})),
            ],
        )
        .answers("Erased", "What is gone, and what still speaks of the patient.")
        .fails(404, NOT_FOUND)
        .fails(409, ["legal_hold", "immutable", "nothing_to_certify", "referred_to", "too_many_under_one_key"])
        .fails(422, ["erase", "ids", "id", "document", "patient", "too_large"])
}

fn search() -> Operation {
    let asked = json!({"vector": [0.1, -0.2, 0.3, 1.0], "limit": 8, "purpose": "treatment"});
    let narrowed = json!({
        "vector": [0.1, -0.2, 0.3, 1.0], "limit": 8, "purpose": "treatment", "patient": "m-P000043", "include": ["text", "provenance"],
        "filter": "resource.doc_type == \"progress_note\" && resource.created_at > context.now.offset(duration(\"-90d\"))",
    });
    let answer = json!({
        "retrieval_id": "8f14e45fceea167a5a36dedd4bea2543", "policy_version": 7,
        "results": [{
            "id": "note-1", "document": "m-P000043-progress_note", "score": 0.83, "text": "Follow-up visit. Blood pressure 128/82 mmHg.",
            "attributes": {"patient": {"__entity": {"type": "Patient", "id": "m-P000043"}}, "sensitivity": 1}, "permitted_by": ["nurse-care-team"],
        }],
        "limit": {"requested": 50, "applied": 20, "bound_by": ["nurse-care-team"]},
    });
    operation("Ask", "search", "Find the nearest records that you may see")
        .told(
            "There is no filter to forget: what the policies do not permit is never scored, counted or hinted at. How many come back is bound \
             by `limit`, by the server, and by `@max_records` and `@max_patients` of the permits; `limit` of the answer says which. A search \
             that may see nothing is 200 with an empty list. Every answer is in the audit log under its `retrieval_id`.",
        )
        .takes("Search", limits::BODY_BYTES, &[("a question", asked), ("about one patient, narrowed", narrowed)])
        .answers_with("Found", "The nearest first.", answer)
        .fails(404, NOT_FOUND)
        .fails(422, ["vector", "limit", "purpose", "patient", "model", "model_mismatch", "context"])
        .fails(422, codes::FILTER.iter().copied())
}

fn list() -> Operation {
    operation("Ask", "listRecords", "List what you may read, or read several")
        .told(
            "In order of ids, over what the caller may read, with its count. With `ids` those, and what is missing or not permitted is \
             skipped without a word.",
        )
        .takes(
            "List",
            limits::BODY_BYTES,
            &[
                ("a page", json!({"purpose": "treatment", "limit": 100})),
                ("several by id", json!({"purpose": "treatment", "ids": ["note-1", "note-2"]})),
            ],
        )
        .answers("Listed", "A page.")
        .fails(404, NOT_FOUND)
        .fails(422, ["limit", "purpose", "patient", "id", "ids", "context"])
        .fails(422, codes::FILTER.iter().copied())
}

fn read() -> Operation {
    operation("Ask", "readRecord", "Read one record")
        .told("404 where it does not exist and where it is not yours: the same bytes but for the request's id.")
        .required_query("purpose", id("Purpose of use."), "treatment")
        .answers("Read", "The record.")
        .never(403)
        .fails(404, NOT_FOUND)
        .fails(422, ["purpose", "context"])
}

fn put_entities() -> Operation {
    let example = json!([{
        "uid": {"type": "CareTeam", "id": "night-shift"},
        "attrs": {"patients": [{"type": "Patient", "id": "m-P000043"}]},
        "parents": [],
    }]);
    operation("People", "putEntities", "Write entities")
        .told(
            "Each replaces the one that is stored, whole; the answer says which attributes and parents went. The action is asked for each. In \
             force for every request that starts after the answer.",
        )
        .takes("NewEntities", limits::BULK_BODY_BYTES, &[("a care team", example)])
        .answers("EntitiesWritten", "What became of each.")
        .fails(409, ["legal_hold", "immutable"])
        .fails(422, codes::entities())
}

fn list_entities() -> Operation {
    operation("People", "listEntities", "Entities of one type")
        .query("after", text("Go on after this id: `next` of the last answer."))
        .query("limit", default(within(1, limits::LIST_PAGE, "How many, at most."), json!(limits::LIST_PAGE)))
        .answers("Entities", "A page, in order of ids. Empty for a type that has none.")
        .fails(422, ["limit"])
}

fn show_entity() -> Operation {
    operation("People", "showEntity", "One entity").answers("Entity", "As it is stored.").fails(404, NOT_FOUND)
}

fn remove_entity() -> Operation {
    operation("People", "removeEntity", "Delete an entity")
        .told("409 where records, entities, links or keys refer to it; with `force=true` policies that look at it then deny.")
        .query("force", default(flag("Delete it all the same."), json!(false)))
        .answers_with("Deleted", "It is gone.", json!({"deleted": 1}))
        .fails(404, NOT_FOUND)
        .fails(409, ["referred_to", "legal_hold", "immutable"])
}

fn list_holds() -> Operation {
    operation("People", "listHolds", "Legal holds").answers("Holds", "Every hold.")
}

fn put_hold() -> Operation {
    operation("People", "putHold", "Put a patient under a legal hold")
        .told(
            "As long as it lasts, nothing erases the patient's records or writes over them. Policies are told `operation` \"hold\", and \"lift\" \
             where it is lifted. A hold that is there stays as it is. One on `System::\"wardkeep\"` lets nothing expire.",
        )
        .takes("NewHold", limits::BODY_BYTES, &[("for a lawsuit", json!({"reason": "case 26-1042"}))])
        .answers("Hold", "The hold.")
        .fails(422, ["type", "id", "reason", "too_many_holds", "too_large"])
}

fn lift_hold() -> Operation {
    operation("People", "liftHold", "Lift a legal hold")
        .answers_with("Lifted", "It is lifted.", json!({"lifted": 1}))
        .fails(404, NOT_FOUND)
}

fn show_policies() -> Operation {
    operation("Policies", "showPolicies", "The bundle in force, or an earlier one")
        .query("version", count("Which; the one in force, if left out."))
        .answers("Edition", "Its texts, as they were sent.")
        .tagged("ETag", "Its version, for `If-Match`.")
        .fails(404, NOT_FOUND)
}

/// Guards that may be lifted where a bundle is put into force.
fn guarded(operation: Operation) -> Operation {
    operation
        .query(
            "allow_invalid",
            default(flag("What is stored may not fit the new schema: such records are then denied."), json!(false)),
        )
        .query("allow_widening", default(flag("Forbids may go, and caps may loosen."), json!(false)))
        .query("allow_lockout", default(flag("You may lose the right to manage policies."), json!(false)))
        .query("strict", default(flag("Warnings are faults."), json!(false)))
        .header("If-Match", text("Only if this version is in force: `7`, `\"7\"` or `*`."))
        .answers("Activated", "In force for every request that starts after this answer.")
        .tagged("ETag", "The new version.")
        .fails(409, ["stored_data_invalid", "widening", "lockout"])
        .fails(412, ["version_mismatch"])
        .fails(422, codes::bundle())
        .fails(422, ["if_match"])
}

/// The bundle of a new store, as an example of one.
fn starter() -> Json {
    let source = policy::starter();
    json!({"schema": source.schema, "policies": source.policies, "note": "as a new store has it"})
}

fn put_policies() -> Operation {
    guarded(operation("Policies", "putPolicies", "Put a bundle into force"))
        .told(
            "Schema and policies, whole, validated in strict mode; any bundle that validates is served. All that is stored is held against the \
             new schema first. Every policy and template needs an `@id`. A permit may carry `@max_records(\"n\")` and `@max_patients(\"n\")`.",
        )
        .takes("Bundle", body_bytes(1), &[("the bundle of a new store", starter())])
}

fn history() -> Operation {
    operation("Policies", "policyHistory", "Versions, newest first")
        .query("before", count("Versions before this one: `next` of the last answer."))
        .query("limit", default(within(1, limits::HISTORY_PAGE, "How many, at most."), json!(policies::DEFAULT_PAGE)))
        .answers("History", "A page.")
        .fails(422, ["limit"])
}

fn rollback() -> Operation {
    guarded(operation("Policies", "rollback", "Put an earlier bundle into force again"))
        .told("As a new version, past the same guards.")
        .takes("Rollback", limits::BODY_BYTES, &[("to the first", json!({"version": 1, "note": "back to the start"}))])
        .fails(404, NOT_FOUND)
}

fn validate() -> Operation {
    operation("Policies", "validate", "Try a bundle without putting it into force")
        .query("strict", default(flag("Warnings are faults."), json!(false)))
        .takes("Bundle", body_bytes(1), &[("the bundle of a new store", starter())])
        .answers("Validated", "It is valid.")
        .fails(422, codes::bundle())
}

fn explain() -> Operation {
    let example = json!({
        "caller": {"type": "Clinician", "id": "m-nurse-000"}, "collection": "notes", "record": "note-1",
        "action": "Retrieve", "purpose": "treatment",
    });
    operation("Policies", "explain", "Why may somebody see a record, or not?")
        .told("Says which requirements are met, never by what values. Asking a bundle that is sent needs `ManagePolicies` too.")
        .takes("Why", body_bytes(1), &[("a nurse and a record", example)])
        .answers("Explained", "The decision with its reasons.")
        .fails(404, NOT_FOUND)
        .fails(422, ["caller", "action", "purpose", "patient", "now", "context"])
        .fails(422, codes::bundle())
}

fn diff() -> Operation {
    let example = json!({"old": {"version": 1}, "new": {"version": 2}, "purposes": ["treatment"], "samples": 3});
    let told = format!(
        "Compares two bundles on all that is stored, callers times purposes times collections at most {}; with `days`, which needs \
         `ReadAudit` too, past answers as well, the newest {} of them.",
        limits::DIFF_COMPARISONS,
        limits::DIFF_ENTRIES
    );
    operation("Policies", "diff", "What would another bundle change, for whom?")
        .told(told)
        .takes("Diff", body_bytes(2), &[("two versions", example)])
        .answers("Difference", "Who gains and loses what.")
        .fails(404, NOT_FOUND)
        .fails(
            422,
            [
                "bundle",
                "caller",
                "callers",
                "collections",
                "context",
                "days",
                "purpose",
                "purposes",
                "samples",
                "too_many_comparisons",
                "version",
            ],
        )
        .fails(422, codes::bundle())
}

fn list_callers() -> Operation {
    operation("People", "listCallers", "Keys of callers").answers("Callers", "Every key, without its secret.")
}

fn make_caller() -> Operation {
    let bound = json!({"type": "Clinician", "id": "m-nurse-000", "expires_in": 43_200, "purposes": ["treatment"]});
    operation("People", "makeCaller", "Make a key for a caller")
        .told("Keys for an `Administrator` are made by root alone.")
        .takes(
            "NewCaller",
            limits::BODY_BYTES,
            &[("a nurse's shift", bound), ("a program", json!({"type": "Service", "id": "record-feed"}))],
        )
        .answers("Issued", "The key, shown once.")
        .fails(422, ["type", "id", "expires_in", "purposes", "too_large"])
}

fn revoke() -> Operation {
    operation("People", "revokeKey", "Revoke a key")
        .told("In force for every request that starts after the answer.")
        .answers_with("Revoked", "It works no more.", json!({"revoked": 1}))
        .fails(404, NOT_FOUND)
}

fn key_status() -> Operation {
    operation("Keep", "keyStatus", "How the keys are that seal what is stored").answers("KeyStatus", "How they are.")
}

fn rotate() -> Operation {
    operation("Keep", "rotateKeys", "Renew the keys that seal what is stored")
        .told("The ring key at once, data keys in the background, while requests go on; `GET /v1/keys` tells how far it is.")
        .answers("KeyStatus", "The rotation has begun.")
        .fails(409, ["rotation_under_way"])
}

fn back_up() -> Operation {
    operation("Keep", "backUp", "Write the next file of the backup")
        .told("Into `backup.directory` of the server's configuration, while requests go on. No key is in it: take an escrow too.")
        .answers("BackupTaken", "The file is durable.")
        .fails(409, ["backup_unwritable", "backup_running", "backup_foreign", "backup_missing", "backup_damaged"])
        .fails(422, ["no_backup_directory"])
}

fn stream_backup() -> Operation {
    let told = format!(
        "The form of a whole file, without a directory on the server. After the first byte an error breaks the connection off: what came is \
         whole only with its end, which `wardkeep backup verify` looks for. Given up where nobody reads on for {} seconds; authorised anew \
         every few seconds.",
        limits::BACKUP_STALL_MS / 1_000
    );
    operation("Keep", "streamBackup", "A whole backup as the answer")
        .told(told)
        .answers_in("application/octet-stream", "The backup.")
        .fails(409, ["backup_unwritable", "backup_running", "backup_damaged", "backup_stream"])
}

fn escrow() -> Operation {
    operation("Keep", "escrow", "Take the keys that a restore needs")
        .told("Sealed by the passphrase or key provider of the store. Keep it apart from the backup, and destroy the one before.")
        .answers_in("application/octet-stream", "The escrow.")
}

fn entries() -> Operation {
    let actions: Vec<&str> = Action::all().map(Action::name).collect();
    operation("Keep", "audit", "Read the audit log")
        .told("Entries in order, those that fit every part of the query. Reading it is an entry too.")
        .query("after", count("Go on after this entry: `next` of the last answer."))
        .query("limit", default(within(1, limits::AUDIT_PAGE, "How many, at most."), json!(audit::DEFAULT_LIMIT)))
        .query("caller", text("Id of the caller."))
        .query("patient", text("Id of a patient."))
        .query("record", id("Id of a record."))
        .query("action", word(&actions, "The action that was asked for."))
        .query("since", time("Not before."))
        .query("until", time("Before."))
        .answers("Entries", "A page.")
        .fails(422, ["limit", "record", "action", "since", "until"])
}

fn checkpoint() -> Operation {
    operation("Keep", "checkpoint", "The signed head of the audit log")
        .told("A C2SP checkpoint: keep it elsewhere, and a rollback of the whole directory shows.")
        .answers_in("text/plain; charset=utf-8", "A signed note.")
}
