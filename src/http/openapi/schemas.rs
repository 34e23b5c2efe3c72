//! The shapes of requests and answers, by name. Bounds are those of `limits`, which hold the server too.

use serde_json::{Map, Value as Json, json};

use super::{
    super::{callers::PURPOSES, foresight, forms},
    codes,
    shape::{
        about, closed, count, default, flag, hex, id, joined, list, list_within, map, named, named_as, object, or_null,
        text, time, within, word,
    },
};
use crate::model::{Action, limits};

/// `components.schemas`.
pub(super) fn all() -> Json {
    let rooms = [problems(), questions(), records(), collections(), people(), policies(), foresight(), upkeep(), log()];
    Json::Object(rooms.into_iter().flat_map(named_ones).collect())
}

fn named_ones(room: Json) -> Map<String, Json> {
    match room {
        Json::Object(named) => named,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Map::new(),
    }
}

fn problems() -> Json {
    let codes: Vec<&str> = codes::MEANINGS.iter().map(|(code, _)| *code).collect();
    let told = codes::MEANINGS.iter().map(|(code, meaning)| format!("\n- `{code}`: {meaning}")).collect::<String>();
    json!({
        "Problem": about(object(&["type", "title", "status", "code", "detail", "request_id"], json!({
            "type": text("Always `about:blank`: `code` tells more."),
            "title": text("The status in words."),
            "status": within(400, 599, "The status."),
            "code": word(&codes, &format!("Stable; what a program decides by.\n{told}")),
            "detail": text("What to mend, for people. Holds no content of any record, and may change between versions."),
            "request_id": text("The same as the header `X-Request-Id`, and as `trace` in the audit log."),
            "errors": list(named("Fault"), "Each thing to mend, where the request was looked at part by part."),
            "accepted": count("Lines of a stream that were committed before it ended, and stay."),
            "misfits": map(count("How many."), "With `stored_data_invalid`: by type and attribute."),
            "policies": list(text("The `@id` of a policy."), "With `widening`: what was dropped, changed or loosened."),
            "referrers": count("With `referred_to`: how many records, entities, links and keys refer to it."),
            "patients_held": count("With `legal_hold`: how many of the patients are under one."),
            "others": count("With `too_many_under_one_key`: how many other records lie under the same keys."),
        })), "An error, as RFC 9457 has it. \"Absent\" and \"not yours\" are the same bytes but for `request_id`."),
        "Fault": object(&["line", "id", "code", "detail"], json!({
            "line": or_null(count("Position in the list, line of the stream, of the filter or of the bundle's text; from 1.")),
            "id": or_null(text("The id that was sent, if it could be read; of a bundle, the policy's `@id`.")),
            "code": word(&codes, "As in a problem."),
            "detail": text("What to mend."),
            "part": word(&["schema", "policies", "templates"], "The text of a bundle that it is in."),
            "column": or_null(count("Character of the line, from 1.")),
        })),
    })
}

fn vector(about: &str) -> Json {
    let most = f64::from(limits::COMPONENT_MAX);
    let component = json!({"type": "number", "minimum": -most, "maximum": most});
    list_within(limits::DIMENSION_MIN, limits::DIMENSION_MAX, component, about)
}

fn vector_base64() -> Json {
    text("The same as little-endian f32 numbers, in base64. Send one of the two.")
}

fn filter() -> Json {
    let words = format!(
        "One Cedar expression over the record's own attributes, tags and ancestors, and `context`; at most {} bytes, \
         nesting at most {} deep. It only narrows: an error on a record means no match.",
        limits::FILTER_BYTES,
        limits::FILTER_DEPTH
    );
    text(&words)
}

fn include() -> Json {
    let words = word(&["text", "attributes", "vector", "provenance"], "What to show.");
    let told = "What to show of each record besides its ids. Left out: `text` and `attributes`. `vector` comes only where \
                the policies permit `ReadVector` too; an empty list shows ids alone.";
    list(words, told)
}

fn purpose() -> Json {
    id("Purpose of use, such as `treatment`: what the policies decide by, and what the audit log keeps.")
}

fn patient() -> Json {
    id("Id of a patient: always narrows the answer to that patient's records.")
}

fn questions() -> Json {
    let ends = json!({
        "retrieval_id": hex(16, "Names this answer in the audit log."),
        "policy_version": count("The version of the policies that decided."),
    });
    let ends = object(&["retrieval_id", "policy_version"], ends);
    let record = record_shown();
    let scored = object(
        &["score"],
        json!({
            "score": {"type": "number", "description": "Higher is nearer: the inner product for cosine and dot, minus the squared distance for euclidean."},
        }),
    );
    json!({
        "Search": closed(&["purpose"], json!({
            "vector": or_null(vector("The question, embedded as the collection's records are.")),
            "vector_base64": or_null(vector_base64()),
            "limit": default(or_null(within(1, limits::SEARCH_LIMIT_MAX, "How many records to answer with, at most.")), json!(forms::DEFAULT_LIMIT)),
            "purpose": purpose(),
            "patient": or_null(patient()),
            "filter": or_null(filter()),
            "include": or_null(include()),
            "model": or_null(id("The model that made the vector. Refused where it is not the collection's `embedding_model`.")),
        })),
        "Found": joined(&[ends.clone(), object(&["results", "limit"], json!({
            "results": list(named("Hit"), "The nearest permitted records, nearest first; equal scores in order of ids. Empty where nothing is permitted."),
            "limit": named("Limit"),
        }))]),
        "Limit": about(object(&["requested", "applied", "bound_by"], json!({
            "requested": count("What was asked for."),
            "applied": count("What an answer may hold at most."),
            "bound_by": list(text("`requested`, `limits.max_records`, or the `@id` of a permit."), "What bound it."),
        })), "Depends on caller, policies and request alone, never on what was found."),
        "Hit": joined(&[record.clone(), scored]),
        "List": closed(&["purpose"], json!({
            "purpose": purpose(),
            "patient": or_null(patient()),
            "filter": or_null(filter()),
            "after": or_null(id("Go on after this id: `next` of the last answer.")),
            "limit": default(or_null(within(1, limits::LIST_PAGE, "How many records to answer with, at most.")), json!(forms::LIST_LIMIT)),
            "ids": or_null(list_within(1, limits::IDS_PER_REQUEST, id("Id of a record."), "Read these instead; what is missing or not permitted is skipped. Goes with neither `after` nor `limit`.")),
            "include": or_null(include()),
        })),
        "Listed": joined(&[ends.clone(), object(&["records", "next", "count", "limit"], json!({
            "records": list(named("Record"), "In order of their ids, bytewise."),
            "next": or_null(text("`after` of the next request; null where this answer is empty. Says nothing where `ids` were asked for.")),
            "count": count("How many records the caller may read in all, within filter and patient."),
            "limit": named("Limit"),
        }))]),
        "Record": record.clone(),
        "Read": joined(&[record, ends]),
    })
}

fn record_shown() -> Json {
    object(
        &["id", "document", "permitted_by"],
        json!({
            "id": text("The record's id."),
            "document": text("The document that it was cut from."),
            "text": text("What it says."),
            "attributes": map(json!(true), "What the policies decide on, in Cedar's JSON form with escapes: `{\"__entity\": {type, id}}`, `{\"__extn\": {fn, arg}}`."),
            "tags": map(json!(true), "Its tags, in the same form, if it has any."),
            "vector": list(json!({"type": "number"}), "Its vector; for cosine, of length 1."),
            "provenance": about(object(&["collection"], json!({
                "collection": text("The collection."),
                "embedding_model": or_null(text("What made its vector, if that was told.")),
                "ingested_by": {"description": "Who wrote it, where the schema declares the attribute."},
                "ingested_at": {"description": "When, where the schema declares the attribute."},
            })), "Where it comes from."),
            "permitted_by": list(text("The `@id` of a policy or template."), "The policies that permitted it."),
        }),
    )
}

fn uid() -> Json {
    about(
        closed(
            &["type", "id"],
            json!({
                "type": text("Its type, as the schema declares it: `Patient`, `Clinic::Staff`."),
                "id": text("Its id."),
            }),
        ),
        "An entity by name.",
    )
}

fn records() -> Json {
    json!({
        "Uid": uid(),
        "NewRecord": closed(&["id", "document", "text"], json!({
            "id": id("Unique in the collection, compared bytewise."),
            "document": id("What it was cut from. Never changes."),
            "vector": or_null(vector("As many components as the collection has dimensions; not all zero for cosine.")),
            "vector_base64": or_null(vector_base64()),
            "text": text(&format!("What it says; at most {} bytes.", limits::TEXT_BYTES)),
            "attributes": or_null(map(json!(true), "What the schema gives `Record`, in Cedar's JSON form; escapes may be left out where the schema says the type. The attribute that names the patient never changes.")),
            "tags": or_null(map(json!(true), "Where the schema gives `Record` tags.")),
            "parents": default(list_within(0, limits::PARENTS, named("Uid"), "Where the schema lets `Record` have more parents than its document and collection."), json!([])),
        })),
        "NewRecords": closed(&["records"], json!({
            "records": list_within(0, limits::BATCH_RECORDS, named("NewRecord"), "All or none are stored."),
        })),
        "Ingested": object(&["accepted", "rejected", "rejected_count"], json!({
            "accepted": count("Records that are durable and can be found."),
            "rejected": list_within(0, limits::REJECTED_NAMED, named("Fault"), "What was not taken, by line; the first ones."),
            "rejected_count": count("How many were not taken."),
        })),
        "Erase": closed(&[], json!({
            "ids": or_null(list_within(1, limits::IDS_PER_REQUEST, id("Id of a record."), "These records.")),
            "document": or_null(id("Every record of this document.")),
            "patient": or_null(id("Every record of this patient, by id.")),
            "entity": default(flag("With `patient`: the patient's own entity too, in the same commit."), json!(false)),
            "certificate": default(flag("Answer a signed certificate; `wardkeep keys certificate` verifies it anywhere."), json!(false)),
        })),
        "Erased": object(&["erased", "missing"], json!({
            "erased": count("Records that are gone."),
            "missing": count("Ids that were not there; and, where `holds` is `not_told`, those that a legal hold keeps."),
            "holds": word(&["not_told"], "There where you may not know of legal holds: what is held looks as if it were not there, and stays."),
            "resealed": count("Other records that lay under the same keys and were sealed anew, if there were any; for those who may manage keys."),
            "still_named": named("StillNamed"),
            "certificate": named("Certificate"),
        })),
        "StillNamed": about(object(&[], json!({
            "own_entity": flag("Whether the patient's own entity is stored. For those who may manage entities, as the next three are."),
            "entities": list_within(0, limits::STILL_NAMED, named("Uid"), "Entities that refer to the patient, the first of them."),
            "entities_count": count("How many do."),
            "records": count("Records elsewhere that refer to the patient."),
            "policies": list(text("The `@id` of a policy."), "Policies whose text or link names the patient; for those who may manage policies."),
            "earlier_policies": list_within(0, limits::STILL_NAMED, object(&["version", "policies"], json!({
                "version": count("Its number."),
                "policies": list(text("The `@id` of a policy."), "Its policies and templates that do."),
            })), "Earlier versions of the policies that name the patient, the newest of them; for those who may manage policies, as the next two are."),
            "earlier_versions": count("How many do."),
            "unreadable_versions": count("Versions that could not be read, if there are any: nobody knows whom they name."),
            "api_keys": flag("Whether a key speaks for the patient; for those who may manage callers."),
            "elsewhere": map(count("How many."), "The patient's records in other collections in which you may erase."),
        })), "What still speaks of a patient whose records are gone, each part where the right to see it is there."),
        "Certificate": object(&["statement", "public_key", "signature"], json!({
            "statement": {"type": "object", "description": "What is certified, in fields and words."},
            "public_key": hex(32, "The key that signed it: compare it with the one that `wardkeep init` printed."),
            "signature": text("Ed25519 over `wardkeep/erasure/1`, a newline, and the statement as compact JSON in the order of its fields; base64."),
        })),
    })
}

fn collections() -> Json {
    let metric = word(&["cosine", "dot", "euclidean"], "How nearness is measured.");
    let isolation = word(
        &["strict", "fast"],
        "`strict`: answer and work depend on the permitted records alone. `fast`: a graph over all records may be walked.",
    );
    let shown = object(
        &["name", "dimension", "metric", "subject_attribute", "isolation", "embedding_model"],
        json!({
            "name": text("Its name."),
            "dimension": count("Components of every vector."),
            "metric": metric.clone(),
            "subject_attribute": text("The attribute that names a record's patient."),
            "isolation": isolation.clone(),
            "embedding_model": or_null(text("What made the vectors, if told.")),
        }),
    );
    json!({
        "NewCollection": about(closed(&["dimension", "metric"], json!({
            "dimension": within(limits::DIMENSION_MIN, limits::DIMENSION_MAX, "Components of every vector."),
            "metric": metric,
            "subject_attribute": default(or_null(id("The attribute that names a record's patient: a reference to an entity.")), json!("patient")),
            "isolation": default(isolation, json!("strict")),
            "embedding_model": or_null(id("What makes the vectors: a search that names another is refused.")),
        })), "Settings never change: the same again is accepted, others are refused."),
        "Collection": shown.clone(),
        "CollectionShown": joined(&[shown, object(&["records", "index_bytes"], json!({
            "records": count("Records in it."),
            "index_bytes": count("Bytes of memory that its index takes."),
        }))]),
        "Collections": object(&["collections"], json!({"collections": list(named("CollectionShown"), "All there are.")})),
        "Dropped": object(&["erased"], json!({"erased": count("Records that are gone.")})),
    })
}

fn people() -> Json {
    let attributes = || map(json!(true), "Attributes by name, in Cedar's JSON form.");
    let escaped = object(&["__entity"], json!({"__entity": named("Uid")}));
    let reference = json!({"anyOf": [named("Uid"), escaped]});
    json!({
        "NewEntity": about(closed(&["uid"], json!({
            "uid": reference.clone(),
            "attrs": or_null(attributes()),
            "parents": list_within(0, limits::PARENTS, reference, "Its direct parents."),
            "tags": or_null(attributes()),
        })), &format!("Cedar's JSON form of an entity; at most {} attributes and as many tags. It replaces the one that is stored, whole.", limits::ATTRIBUTES)),
        "NewEntities": list_within(1, limits::ENTITIES_PER_REQUEST, named("NewEntity"), "All or none are stored."),
        "EntitiesWritten": object(&["written", "entities"], json!({
            "written": count("How many."),
            "entities": list(object(&["uid", "created", "removed_attributes", "removed_parents"], json!({
                "uid": named("Uid"),
                "created": flag("Whether it is new."),
                "removed_attributes": list(text("A name."), "Attributes and tags that it had and has no more."),
                "removed_parents": list(named("Uid"), "Parents that it had and has no more."),
            })), "What became of each."),
        })),
        "Entity": object(&["uid", "attrs", "parents"], json!({
            "uid": named("Uid"), "attrs": attributes(), "parents": list(named("Uid"), "Its direct parents."), "tags": attributes(),
        })),
        "Entities": object(&["entities", "next"], json!({
            "entities": list_within(0, limits::LIST_PAGE, named("Entity"), "In order of their ids."),
            "next": or_null(text("`after` of the next request; null at the end.")),
        })),
        "Deleted": object(&["deleted"], json!({"deleted": count("How many.")})),
        "NewHold": closed(&[], json!({"reason": or_null(id("Why, such as the number of a case."))})),
        "Hold": object(&["patient", "by", "since", "reason", "records"], json!({
            "patient": named_as("Uid", "Whose."),
            "by": named_as("Uid", "Who put it there."),
            "since": time("Since when."),
            "reason": or_null(text("Why.")),
            "records": count("Records that are the patient's now."),
        })),
        "Holds": object(&["holds"], json!({"holds": list_within(0, limits::HOLDS, named("Hold"), "Every hold, by patient.")})),
        "Lifted": object(&["lifted"], json!({"lifted": count("How many.")})),
        "NewCaller": closed(&["type", "id"], json!({
            "type": id("Type of the entity that the key speaks for: any that the schema allows as a principal."),
            "id": id("Its id. The key works once the entity is stored."),
            "expires_in": or_null(within(1, usize::try_from(limits::KEY_SECONDS).unwrap_or(usize::MAX), "Seconds until it stops working. Left out: never.")),
            "purposes": or_null(list_within(1, PURPOSES, id("A purpose."), "What it may be used for. Left out: anything.")),
        })),
        "Issued": object(&["api_key", "key_id", "expires_at"], json!({
            "api_key": text("Shown once; the store keeps a keyed hash of it."),
            "key_id": hex(8, "Its public name."),
            "expires_at": or_null(time("When it stops working.")),
        })),
        "Callers": object(&["callers"], json!({
            "callers": list(object(&["key_id", "type", "id", "created_at", "expires_at", "purposes"], json!({
                "key_id": hex(8, "The key's public name."),
                "type": text("Type of the entity that it speaks for."),
                "id": text("Its id."),
                "created_at": time("When it was made."),
                "expires_at": or_null(time("When it stops working.")),
                "purposes": or_null(list(text("A purpose."), "What it may be used for; null: anything.")),
            })), "Every key that works or has expired."),
        })),
        "Revoked": object(&["revoked"], json!({"revoked": count("How many.")})),
    })
}

fn link(required: &[&str]) -> Json {
    closed(
        required,
        json!({
            "template": text("The template's `@id`."),
            "id": or_null(text("The link's own name, unique in the bundle.")),
            "values": {
                "type": "object",
                "properties": {
                    "principal": named("Uid"), "resource": named("Uid"), "?principal": named("Uid"), "?resource": named("Uid"),
                },
                "additionalProperties": false,
                "description": "What fills the template's slots, each named with or without its question mark.",
            },
        }),
    )
}

fn policies() -> Json {
    let version = object(
        &["version", "digest", "author", "at", "note", "restores", "counts"],
        json!({
            "version": count("Its number, from 1."),
            "digest": hex(32, "SHA-256 over its texts and note."),
            "author": named_as("Uid", "Who put it into force."),
            "at": time("When."),
            "note": text("What for."),
            "restores": or_null(count("The earlier version that it is again.")),
            "counts": object(&["permits", "forbids", "templates", "links"], json!({
                "permits": count("Static permits."), "forbids": count("Static forbids."), "templates": count("Templates."), "links": count("Links."),
            })),
        }),
    );
    let warnings = || list(named("Warning"), "What is legal and probably not meant.");
    json!({
        "Bundle": about(closed(&["schema", "policies"], json!({
            "schema": text("Cedar's schema syntax (`.cedarschema`)."),
            "policies": text("Policies and templates in Cedar's own syntax; each with an `@id`."),
            "templates": or_null(text("More templates, for those who keep them apart.")),
            "links": default(list(named("NewLink"), "What fills the templates' slots."), json!([])),
            "note": default(text(&format!("What it is for; at most {} bytes.", limits::TEXT_BYTES)), json!("")),
        })), &format!("Schema and policies, whole. Each text at most {} bytes, nesting at most {} deep; at most {} policies, templates and links.", limits::BUNDLE_BYTES, limits::BUNDLE_DEPTH, limits::BUNDLE_POLICIES)),
        "NewLink": link(&["template", "values"]),
        "Link": link(&["template", "id", "values"]),
        "Warning": object(&["code", "policy", "part", "line", "column", "detail"], json!({
            "code": text("Stable; `@accept(\"code\")` on the policy silences it."),
            "policy": or_null(text("The `@id` of the policy.")),
            "part": or_null(text("`schema`, `policies` or `templates`.")),
            "line": or_null(count("Line of that text, from 1.")),
            "column": or_null(count("Character of the line, from 1.")),
            "detail": text("What to do."),
        })),
        "Activated": object(&["version", "digest", "warnings"], json!({
            "version": count("Its number; the header `ETag` too."), "digest": hex(32, "SHA-256 over its texts and note."), "warnings": warnings(),
        })),
        "Validated": object(&["valid", "digest", "warnings"], json!({
            "valid": flag("Always true: what is not valid is a problem."), "digest": hex(32, "SHA-256 over its texts and note."), "warnings": warnings(),
        })),
        "Version": version.clone(),
        "Edition": joined(&[version, object(&["schema", "policies", "templates", "links"], json!({
            "schema": text("Its schema, as it was sent."),
            "policies": text("Its policies."),
            "templates": text("Its templates, as far as they were sent apart."),
            "links": list(named("Link"), "Its links."),
            "warnings": about(warnings(), "What is legal in it and probably not meant; told of the version in force alone."),
        }))]),
        "History": object(&["in_force", "versions", "next"], json!({
            "in_force": count("The version in force."),
            "versions": list_within(0, limits::HISTORY_PAGE, named("Version"), "Newest first."),
            "next": or_null(count("`before` of the next request; null at the end.")),
        })),
        "Rollback": closed(&["version"], json!({
            "version": count("The earlier version that is to be in force again, as a new one."),
            "note": default(text(&format!("What for; at most {} bytes.", limits::TEXT_BYTES)), json!("")),
        })),
    })
}

fn assumed() -> Json {
    about(
        object(
            &["now", "source_ip", "break_glass"],
            json!({
                "now": time("When."), "source_ip": text("From where."), "break_glass": flag("Whether under an emergency."),
            }),
        ),
        "What was told to the policies besides.",
    )
}

fn foresight() -> Json {
    let actions = || list(word(&["Retrieve", "Read"], "An action."), "By which actions; both where they agree.");
    let on_record = Action::ON_RECORD.map(Action::name);
    let purpose_of = || or_null(text("For which purpose."));
    let figures = |words: &str| named_as("Figures", words);
    json!({
        "Why": closed(&["caller", "collection", "record", "action"], json!({
            "caller": named_as("Uid", "Who would ask."),
            "collection": text("In which collection."),
            "record": text("For which record."),
            "action": word(&on_record, "What they would do."),
            "purpose": or_null(purpose()),
            "patient": or_null(patient()),
            "now": or_null(time("When; now, if left out.")),
            "source_ip": or_null(text("From which address; from nowhere, if left out.")),
            "bundle": or_null(named_as("Bundle", "Ask this bundle instead of the one in force; needs `ManagePolicies` too.")),
        })),
        "Explained": object(&["verdict", "summary", "deciding", "would_change", "policies", "policies_omitted", "elsewhere", "elsewhere_omitted", "policy_version", "digest", "assumed"], json!({
            "verdict": word(&["allowed", "forbidden", "not_permitted", "erred", "missing_entity", "unknown_caller", "unfit", "never"], "What it comes to."),
            "summary": text("The same in a sentence."),
            "deciding": list(text("The `@id` of a policy."), "The policies that decide."),
            "would_change": list(text("A sentence."), "What would change it."),
            "policies": list_within(0, limits::EXPLAIN_POLICIES, named("Account"), "Every policy that concerns caller and record, those that decide first."),
            "policies_omitted": count("How many more there are."),
            "elsewhere": list(object(&["policy", "scope"], json!({"policy": text("Its `@id`."), "scope": text("Whom and what it is for.")})), "Permits for the action that are for others."),
            "elsewhere_omitted": count("How many more there are."),
            "policy_version": or_null(count("The version that was asked; null where a bundle was sent.")),
            "digest": hex(32, "SHA-256 of the bundle that was asked."),
            "assumed": assumed(),
        })),
        "Account": about(object(&["policy", "effect", "standing", "requires"], json!({
            "policy": text("Its `@id`."),
            "link": text("The link, where the policy is a template's."),
            "effect": word(&["permit", "forbid"], "What it is for."),
            "standing": word(&["missing_entity", "erred", "holds", "fails"], "What it comes to."),
            "stumble": object(&["expression"], json!({
                "expression": text("Where its evaluation came to nothing."),
                "missing": object(&["at", "ancestor"], json!({
                    "at": text("The expression that leads to the entity that is not stored."),
                    "type": text("Its type, as far as that is known."),
                    "ancestor": flag("Whether it is not the entity itself but an ancestor of it."),
                })),
            })),
            "requires": list(named("Requirement"), "What it requires, in order."),
            "turned_by": count("Which of those turned it, from 0."),
            "change": text("What would change that."),
        })), "What one policy says."),
        "Requirement": object(&["text", "negated", "met"], json!({
            "text": text("As the policy's author wrote it, in one line."),
            "negated": flag("Whether the opposite is required."),
            "place": object(&["line", "column"], json!({"line": count("From 1."), "column": count("From 1.")})),
            "met": word(&["yes", "no", "erred", "missing_entity", "not_reached"], "What it comes to; never by what values."),
            "join": word(&["all", "any"], "How its parts make it."),
            "parts": list(named("Requirement"), "Its parts."),
        })),
        "Diff": closed(&["new"], json!({
            "old": or_null(named_as("Side", "The bundle before; the one in force, if left out.")),
            "new": named_as("Side", "The bundle after."),
            "collections": or_null(list_within(1, limits::COLLECTIONS, text("A name."), "Which; all, if left out.")),
            "callers": or_null(list_within(1, limits::IDS_PER_REQUEST, named("Uid"), "Whom; everybody who may call, if left out.")),
            "purposes": default(list_within(0, limits::DIFF_PURPOSES, id("A purpose."), "Under which purposes."), json!([])),
            "days": or_null(within(1, limits::DIFF_DAYS, "Decide the answers of so many days again; needs `ReadAudit` too.")),
            "samples": default(or_null(within(0, limits::DIFF_SAMPLES, "Ids in each sample.")), json!(foresight::SAMPLES)),
        })),
        "Side": closed(&[], json!({
            "version": or_null(count("A version that is or was in force. Send one of the two.")), "bundle": or_null(named("Bundle")),
        })),
        "Difference": object(&["old", "new", "over", "changed_meanwhile", "totals", "roles", "roles_omitted", "callers", "callers_omitted", "asking"], json!({
            "old": named("Compared"),
            "new": named("Compared"),
            "over": object(&["callers", "collections", "records", "purposes_asked", "purposes_from_audit", "assumed"], json!({
                "callers": count("How many callers."),
                "collections": list(text("A name."), "Which collections."),
                "records": count("How many records are in them."),
                "purposes_asked": list(text("A purpose."), "Those that the request named."),
                "purposes_from_audit": list(text("A purpose."), "Those that the audit log showed besides."),
                "assumed": assumed(),
            })),
            "changed_meanwhile": flag("Whether the store changed while it was compared."),
            "totals": list(object(&["collection", "actions", "callers", "gained", "gained_pairs", "lost", "lost_pairs"], json!({
                "collection": text("In which collection."), "actions": actions(),
                "callers": count("For how many callers something changes."),
                "gained": figures("Records that somebody would see and did not."), "gained_pairs": count("Pairs of caller and record gained."),
                "lost": figures("Records that somebody saw and would not."), "lost_pairs": count("Pairs lost."),
            })), "All callers together."),
            "roles": list_within(0, limits::DIFF_ROWS, object(&["role", "collection", "purpose", "actions", "callers", "changed", "gained", "lost"], json!({
                "role": text("Type and direct parents."), "collection": text("In which collection."), "purpose": purpose_of(), "actions": actions(),
                "callers": count("How many there are."), "changed": count("For how many something changes."),
                "gained": figures("Records that some of them would see and did not."), "lost": figures("Records that some of them saw and would not."),
            })), "By role."),
            "roles_omitted": count("How many more rows there are."),
            "callers": list_within(0, limits::DIFF_ROWS, object(&["caller", "role", "collection", "purpose", "actions", "before", "after", "gained", "lost"], json!({
                "caller": named("Uid"), "role": text("Of which role."), "collection": text("In which collection."), "purpose": purpose_of(), "actions": actions(),
                "before": count("How many records they see before."), "after": count("How many after."),
                "gained": figures("Records that they would see and did not."), "lost": figures("Records that they saw and would not."),
            })), "By caller: those for whom something changes."),
            "callers_omitted": count("How many more rows there are."),
            "asking": list(object(&["role", "collection", "purpose", "gained", "lost"], json!({
                "role": text("Of which role."), "collection": text("In which collection."), "purpose": purpose_of(),
                "gained": count("How many may search who could not."), "lost": count("How many may not who could."),
            })), "For whom it changes whether they may search at all."),
            "past": named("Past"),
        })),
        "Compared": object(&["version", "digest", "misfits"], json!({
            "version": or_null(count("Its version; null where it was sent.")),
            "digest": hex(32, "SHA-256 over its texts and note."),
            "misfits": map(count("How many."), "What is stored and does not fit its schema, by type and attribute."),
        })),
        "Figures": object(&["records", "patients", "sample"], json!({
            "records": count("How many records."), "patients": count("Of how many patients."),
            "sample": list_within(0, limits::DIFF_SAMPLES, text("Id of a record."), "The first of them by id."),
        })),
        "Past": about(object(&["days", "retrievals", "entries_omitted", "returned", "gone", "still", "no_longer", "already_not", "again", "retrievals_cut", "refused", "answered", "callers", "callers_omitted", "unsaid"], json!({
            "days": count("How many days back."),
            "retrievals": count("Answers decided again."),
            "entries_omitted": count("Older entries that were not looked at."),
            "returned": count("Records that they held."),
            "gone": count("Of those: no longer stored, or not named in the log."),
            "still": count("Of those: returned under both."),
            "no_longer": count("Of those: under the old bundle and not under the new one."),
            "already_not": count("Of those: under neither, because something else has changed since."),
            "again": count("Of those: under the new bundle alone."),
            "retrievals_cut": count("Answers that would hold less."),
            "refused": count("Searches that would be refused as a whole."),
            "answered": count("Searches that were refused and would be answered."),
            "callers": list_within(0, limits::DIFF_ROWS, object(&["caller", "role", "retrievals", "pairs", "no_longer"], json!({
                "caller": named("Uid"), "role": or_null(text("Of which role now.")), "retrievals": count("How many answers."),
                "pairs": count("Records no longer in them."), "no_longer": figures("Which records."),
            })), "Whose answers would hold less."),
            "callers_omitted": count("How many more there are."),
            "unsaid": text("What cannot be said."),
        })), "Past answers decided again."),
    })
}

fn upkeep() -> Json {
    json!({
        "Description": {"type": "object", "description": "An OpenAPI document."},
        "Status": object(&["status"], json!({"status": text("`ok` or `ready`.")})),
        "KeyStatus": object(&["provider", "key_file_generation", "rotation", "state", "data_keys", "renewed"], json!({
            "provider": word(&["passphrase", "pkcs11", "vault"], "What keeps the key that wraps the key file."),
            "key_file_generation": count("How often the key file was written anew."),
            "rotation": count("Counts rotations."),
            "state": word(&["current", "renewing"], "Whether a rotation is under way."),
            "data_keys": count("Data keys that there are."),
            "renewed": count("Of these, the ones made since the last rotation began."),
        })),
        "BackupTaken": object(&["number", "whole", "objects", "changed", "gone", "entries", "bytes"], json!({
            "number": count("Of the file, from 0."),
            "whole": flag("Whether it stands alone."),
            "broken": count("The file that is damaged or missing, if that is why it is whole."),
            "objects": count("Objects in the store."),
            "changed": count("Those that are new or changed since the file before."),
            "gone": count("Those that are gone since."),
            "entries": count("Entries of the audit log."),
            "bytes": count("Bytes of the file."),
        })),
    })
}

fn log() -> Json {
    let actions: Vec<&str> = Action::all().map(Action::name).collect();
    let counts = object(
        &[],
        json!({
            "permitted": count("Permitted to the caller."), "asked": count("Asked for."), "returned": count("Returned, written or erased."),
        }),
    );
    let failures = object(
        &["sign_in_failures"],
        json!({
            "sign_in_failures": object(&["count", "since"], json!({"count": count("How many."), "since": {"type": "integer", "description": "Milliseconds since 1970."}})),
        }),
    );
    json!({
        "Entries": object(&["entries", "next"], json!({
            "entries": list_within(0, limits::AUDIT_PAGE, named("Entry"), "In order."),
            "next": or_null(count("`after` of the next request; null at the end.")),
        })),
        "Entry": about(object(&["sequence", "time", "at", "what", "outcome", "authentication"], json!({
            "sequence": count("Its number, from 1."),
            "time": time("When."),
            "at": {"type": "integer", "description": "The same in milliseconds since 1970."},
            "what": {"anyOf": [text("What was asked for, such as `search`, `ingest` or `put_policies`."), failures]},
            "outcome": word(&["allowed", "denied", "invalid", "failed"], "How it ended."),
            "detail": text("The code of a refusal; or more about what was done."),
            "caller": named_as("Uid", "Who asked."),
            "actor": named_as("Uid", "The service that acted for the caller."),
            "authentication": {"anyOf": [word(&["none", "token", "offline"], "How the caller was established."), object(&["api_key"], json!({"api_key": hex(8, "The key's public name.")}))]},
            "source": text("The network address that asked."),
            "action": word(&actions, "The action that was authorised, or refused."),
            "purpose": text("The purpose of use."),
            "patient": named_as("Uid", "The patient that the request was narrowed to."),
            "collection": text("The collection."),
            "target": named_as("Uid", "What was acted on, where it is none of the above."),
            "question": hex(16, "Keyed hash of the question: equal ones can be seen to be equal."),
            "filter": hex(16, "Keyed hash of its filter."),
            "bundle": object(&["version", "digest"], json!({"version": count("The version that decided."), "digest": hex(32, "Its hash.")})),
            "policies": list(text("An `@id`."), "The policies that decided."),
            "counts": counts,
            "records": list(text("Id of a record."), "The records that left, came in, or were erased."),
            "patients": list(named("Uid"), "Whose those are."),
            "cap": count("The cap that was applied."),
            "bound_by": list(text("As in `limit.bound_by`."), "What bound it."),
            "withheld": object(&["records", "by"], json!({
                "records": count("Permitted and reached, and beyond the caps."),
                "undecided": count("Of these, the ones of which that was not found out within the work allowed."),
                "by": list(text("An `@id`."), "The permits whose caps were used up."),
            })),
            "model": text("The model, if the client told."),
            "retrieval": hex(16, "`retrieval_id` of the answer."),
            "trace": text("The request's id."),
            "change": count("The store's sequence number after the change."),
        })), "Ids are in it, content of records is not."),
    })
}
