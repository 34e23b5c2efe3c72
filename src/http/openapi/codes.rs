//! Every stable `code` of a refusal, in words. Which route gives which is said with the route.

use crate::policy::Code;

/// Where somebody must be signed in and permitted.
pub(super) const SIGNED_IN: &[(u16, &[&str])] =
    &[(401, &["unauthenticated"]), (403, &["forbidden"]), (500, &["damaged"])];
/// Where a query is taken.
pub(super) const QUERY: &[(u16, &[&str])] = &[(422, &["query"])];
/// Where a body is taken.
pub(super) const BODY: &[(u16, &[&str])] = &[
    (400, &["malformed_json", "too_deep", "body_broken"]),
    (408, &["body_paused", "body_slow"]),
    (413, &["body_too_large"]),
    (415, &["unsupported_media_type"]),
    (422, &["wrong_type"]),
];

/// What may be wrong with an entity, or with what a record has of one.
const ENTITY: [&str; 10] = [
    "bad_id",
    "invalid",
    "malformed",
    "missing_attribute",
    "too_many",
    "unknown_attribute",
    "unknown_type",
    "wrong_parent",
    "wrong_tag",
    "wrong_type",
];

/// What may be wrong with a filter.
pub(super) const FILTER: &[&str] = &[
    "filter_attribute",
    "filter_costly",
    "filter_dereference",
    "filter_entity",
    "filter_function",
    "filter_optional",
    "filter_syntax",
    "filter_too_deep",
    "filter_too_long",
    "filter_type",
    "filter_variable",
    // several of them
    "invalid",
];

/// What may be wrong with a record, in `errors` of a JSON body and in `rejected` of a stream.
pub(super) fn record() -> Vec<&'static str> {
    let own = [
        "attributes",
        "document",
        "duplicate_id",
        "exists",
        "id",
        "immutable",
        "legal_hold",
        "parent",
        "parents",
        "reserved_attribute",
        "text",
        "too_large",
        "vector",
    ];
    own.into_iter().chain(ENTITY).collect()
}

/// What may be wrong with entities that are written.
pub(super) fn entities() -> Vec<&'static str> {
    ["cycle", "duplicate_id", "entities", "reserved_type", "too_large"].into_iter().chain(ENTITY).collect()
}

/// What may be wrong with a bundle; the codes of warnings are faults where `strict` is asked for.
pub(super) fn bundle() -> Vec<&'static str> {
    let own = [
        "bad_accept",
        "bad_cap",
        "bad_link",
        "context_unavailable",
        "duplicate_id",
        "hidden_characters",
        "invalid",
        "invalid_policy",
        "look_alike_id",
        "missing_action",
        "missing_id",
        "missing_type",
        "note",
        "schema",
        "syntax",
        "too_deep",
        "too_large",
        "too_long",
        "too_many",
        "unknown_annotation",
    ];
    own.into_iter().chain(Code::ALL.map(Code::name)).collect()
}

/// What a code means, and so what is to be done.
pub(super) const MEANINGS: &[(&str, &str)] = &[
    ("action", "`action` is none that this route takes"),
    ("attributes", "`attributes` is not an object"),
    ("backup_damaged", "a file of the backup does not open or does not add up"),
    ("backup_foreign", "the directory holds the backup of another store"),
    ("backup_missing", "a file of the backup is missing"),
    ("backup_running", "a backup into this directory is being made already; ask again later"),
    ("backup_stream", "what took the streamed backup took no more of it"),
    ("backup_unwritable", "the directory cannot be written, or others may write it"),
    ("bad_accept", "`@accept` names something that is no code of a warning"),
    ("bad_cap", "`@max_records` or `@max_patients` is no positive integer, or stands on a forbid"),
    ("bad_id", "an id of an entity has not the form that ids have, or is none of those that its type lists"),
    ("bad_link", "a link of a template names no template, or does not fill its slots"),
    ("body_broken", "the body ended before it was complete"),
    ("body_paused", "the body paused for too long; what a stream had committed stays (`accepted`)"),
    ("body_slow", "the body came too slowly"),
    ("body_too_large", "the body is larger than this route takes; send less at a time, or records as NDJSON"),
    ("bundle", "each side of a comparison is named by either `version` or `bundle`"),
    ("caller", "the id of a caller has not the form that ids have"),
    ("callers", "callers that are named are not stored, or too many"),
    ("cap_without_effect", "a cap that another permit lets everybody around"),
    ("collection", "the name of a collection has not its form"),
    ("collection_differs", "the collection is there with other settings; settings never change"),
    ("collections", "too many collections are named, or none"),
    ("confusable_text", "text that can be taken for other text"),
    ("context", "what the policies are told of a request does not fit their schema"),
    ("context_unavailable", "the schema requires something in a context that the server does not supply"),
    ("cycle", "an entity would be its own ancestor"),
    ("damaged", "stored data does not open; `wardkeep store verify` says where"),
    ("days", "`days` is out of its bounds"),
    ("dimension", "`dimension` is out of its bounds"),
    ("document", "`document` has not the form that ids have"),
    ("duplicate_id", "the same id occurs twice in one request, or names two policies of a bundle"),
    ("embedding_model", "`embedding_model` is too long, empty, or has control characters"),
    ("entities", "no entity, or too many in one request"),
    ("erase", "send exactly one of `ids`, `document` and `patient`; `entity` goes with `patient`"),
    ("exists", "a record with this id is there, and `mode=create` was asked for"),
    ("expires_in", "`expires_in` is out of its bounds"),
    ("filter_attribute", "the filter names an attribute or tag that the schema does not give records"),
    ("filter_costly", "the filter asks Cedar for too much, value by value"),
    ("filter_dereference", "the filter looks into another entity; of those it can only ask which one it is"),
    ("filter_entity", "the filter names an entity that the schema does not know"),
    ("filter_function", "the filter calls a function that is not there, or with other arguments than it takes"),
    ("filter_optional", "the filter reads an optional attribute without asking `has` first"),
    ("filter_syntax", "the filter is not one Cedar expression"),
    ("filter_too_deep", "the filter nests too deep"),
    ("filter_too_long", "the filter is too long"),
    ("filter_type", "a part of the filter has another type than is needed there"),
    ("filter_variable", "the filter speaks of something else than `resource` and `context`"),
    ("forbid_may_err", "a forbid whose evaluation can err, and so denies more than it says"),
    ("forbidden", "the policies in force do not permit this action to this caller (for this purpose)"),
    ("hidden_characters", "a policy's `@id` holds characters that are not seen"),
    ("id", "an id has not the form that ids have"),
    ("ids", "too many ids, none, or `ids` together with `after` or `limit`"),
    ("if_match", "`If-Match` is no version number"),
    ("immutable", "what is to be written would change something that stays as it is"),
    ("invalid", "several things of different kinds are to be mended; `errors` names each"),
    ("invalid_policy", "a policy does not fit the schema"),
    ("legal_hold", "the patient is under a legal hold, which must be lifted first"),
    ("limit", "`limit` is out of its bounds"),
    ("line_too_long", "a line of NDJSON is too long"),
    ("lockout", "you could no longer manage policies; pass `allow_lockout=true` if that is meant"),
    ("look_alike_id", "two policies have names that look alike"),
    ("malformed", "an entity is not `{uid: {type, id}, attrs, parents, tags?}`"),
    ("malformed_json", "the body, or the line, is not JSON in UTF-8"),
    ("malformed_request", "the request line, path, query or headers are malformed"),
    ("method_not_allowed", "this path does not take this method; `Allow` says which it takes"),
    ("missing_action", "the schema must declare this action, with its resource"),
    ("missing_attribute", "an attribute that the schema requires is missing"),
    ("missing_id", "every policy and template needs an `@id`"),
    ("missing_type", "the schema must declare this entity type"),
    ("model", "`model` is too long, empty, or has control characters"),
    ("model_mismatch", "the collection's vectors were made by another embedding model"),
    ("needless_accept", "`@accept` of a warning that is not given"),
    ("never_matches", "a policy that can hold for no request"),
    ("no_backup_directory", "the server's configuration names no directory for backups"),
    ("not_found", "there is no such thing, or it is not yours: the two are told alike"),
    ("note", "`note` is too long"),
    ("nothing_to_certify", "nothing was there to be erased, so that nothing can be certified"),
    ("now", "`now` is not a time"),
    ("optional_attribute", "a forbid that says nothing where an optional attribute is absent"),
    ("parent", "a parent would put the record under another patient, document or collection than its own"),
    ("parents", "too many parents"),
    ("patient", "`patient` has not the form that ids have"),
    ("purpose", "the purpose of use is missing, or has not its form"),
    ("purposes", "purposes are missing, too many, or have not their form"),
    ("query", "the query has a name that is not known here, one twice, or a value of the wrong kind"),
    ("reason", "`reason` is too long, empty, or has control characters"),
    ("record", "`record` has not the form that ids have"),
    ("referred_to", "something still refers to it; `force=true`, where the route takes it, goes on all the same"),
    ("reserved_attribute", "the attribute is set by the server; leave it out"),
    ("reserved_type", "records are written to their collection, not as entities"),
    ("rotation_under_way", "a rotation of keys goes on; `GET /v1/keys` tells how far it is"),
    ("samples", "`samples` is out of its bounds"),
    ("schema", "the schema cannot be read, or contradicts itself"),
    ("shadowed", "a policy that another makes superfluous"),
    ("shadowed_name", "a name in the schema that hides another"),
    ("since", "`since` is not a time"),
    ("stored_data_invalid", "what is stored does not fit the new schema; `misfits` counts it by type and attribute"),
    ("subject_attribute", "the schema gives `Record` no such attribute that refers to an entity"),
    ("syntax", "a policy cannot be read"),
    ("text", "`text` is too long"),
    ("too_deep", "the JSON, or a text of a bundle, nests too deep"),
    ("too_large", "a value is too large to store"),
    ("too_long", "a text of a bundle is too long"),
    ("too_many", "too many attributes, tags, parents or policies"),
    ("too_many_collections", "the store holds as many collections as it can"),
    ("too_many_comparisons", "callers times purposes times collections are too many; name fewer"),
    ("too_many_holds", "the store holds as many legal holds as it can"),
    ("too_many_records", "too many records in one JSON body; send NDJSON"),
    ("too_many_under_one_key", "too much would have to be sealed anew; erase the whole document or patient"),
    ("type", "the schema has no such type where one is needed: a caller's, or a patient's"),
    ("unasked_action", "a policy for actions that the server never asks about"),
    ("unauthenticated", "send a valid API key as `Authorization: Bearer wk_…`"),
    ("unavailable", "the store cannot write at the moment; nothing leaves without its audit entry"),
    ("uncapped_retrieve", "a permit for `Retrieve` without a cap"),
    ("unknown_annotation", "an annotation that is nearly a known one, and would do nothing"),
    ("unknown_attribute", "the schema declares no such attribute here"),
    ("unknown_type", "the schema declares no such entity type"),
    ("unlinked_template", "a template without links"),
    ("unscoped_action", "a permit for every action, and for those that are added later"),
    ("unsupported_media_type", "the body is of another kind than this route takes"),
    ("until", "`until` is not a time"),
    (
        "vector",
        "the vector has another length than the collection's, a component out of bounds, or only zeros for cosine",
    ),
    ("version", "there is no such version of the policies"),
    ("version_mismatch", "`If-Match` names another version than the one in force; read it and decide again"),
    ("widening", "the bundle drops a forbid or loosens a cap; pass `allow_widening=true` if that is meant"),
    ("wrong_parent", "the schema does not let this entity have such a parent"),
    ("wrong_tag", "a tag is not of the type that the schema gives tags here, or there are none"),
    ("wrong_type", "a value has another type or range than is needed there, or a name is missing or not known"),
];

/// The meaning of one.
pub(super) fn meaning(code: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}
