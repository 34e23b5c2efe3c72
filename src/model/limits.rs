//! Every bound in one place. Each is tested at it and one past it.

/// Bytes in an id of a record, document or entity.
pub const ID_BYTES: usize = 256;
/// Components of a vector, fewest.
pub const DIMENSION_MIN: usize = 2;
/// Components of a vector, most.
pub const DIMENSION_MAX: usize = 8_192;
/// Largest magnitude of one component.
pub const COMPONENT_MAX: f32 = 1e6;
/// Records a search may ask for.
pub const SEARCH_LIMIT_MAX: usize = 10_000;
/// Records in one JSON body.
pub const BATCH_RECORDS: usize = 10_000;
/// Lines in one commit of an NDJSON stream.
pub const COMMIT_LINES: usize = 1_000;
/// Bytes of lines in one commit of an NDJSON stream: memory stays flat however long the lines are.
pub const COMMIT_BYTES: usize = 16 << 20;
/// Rejected lines of a stream that are named; more are counted.
pub const REJECTED_NAMED: usize = 1_000;
/// Bytes of one record's text.
pub const TEXT_BYTES: usize = 1 << 20;
/// Bytes of one NDJSON line.
pub const LINE_BYTES: usize = 4 << 20;
/// Bytes of a JSON body of records or entities.
pub const BULK_BODY_BYTES: usize = 64 << 20;
/// Bytes of any other JSON body.
pub const BODY_BYTES: usize = 4 << 20;
/// Entities in one upsert.
pub const ENTITIES_PER_REQUEST: usize = 100_000;
/// Ids in one erase or list request.
pub const IDS_PER_REQUEST: usize = 10_000;
/// Records sealed anew because others under the same key are erased: beyond it the patient or document is erased whole, or nothing.
pub const RESEALED_RECORDS: usize = 100_000;
/// Rows that one step of a rotation seals anew, or data keys that it wraps, most (one bucket of keys at least); fewer while searches wait for
/// their audit entries as long as that takes.
pub const ROTATION_ROWS: usize = 512;
/// Legal holds in a store.
pub const HOLDS: usize = 10_000;
/// Seconds between two looks for records that have outlived their time.
pub const EXPIRY_SECONDS: u64 = 3_600;
/// Entities, and as many earlier versions of policies, that an erasure names because they still speak of the patient; more are counted.
pub const STILL_NAMED: usize = 1_000;
/// Parents of one entity or record.
pub const PARENTS: usize = 1_000;
/// Attributes of one entity, and tags.
pub const ATTRIBUTES: usize = 256;
/// Bytes of a body that was refused and is read to its end all the same, so that the client sees the answer.
pub const DRAINED_BYTES: usize = 256 << 20;
/// Bytes of a ledger of erasures and revocations that are read.
pub const LEDGER_BYTES: u64 = 1 << 30;
/// Bytes of it from which entries that are older than any escrow should be are left out when the store is opened.
pub const LEDGER_KEPT_BYTES: u64 = 32 << 20;
/// How long a commit waits for the ledger's copy beside the backup, in milliseconds; then it goes on without.
pub const LEDGER_COPY_WAIT_MS: u64 = 1_000;
/// Bytes of a streamed backup that are held back while commits are: what they touched since it was last looked at.
pub const BACKUP_HELD_BYTES: usize = 64 << 20;
/// How long a streamed backup waits for whoever reads it, in milliseconds.
pub const BACKUP_STALL_MS: u64 = 30_000;
/// Days after which an escrow is no longer taken for what the store was last like.
pub const ESCROW_DAYS: u64 = 7;
/// Nesting of JSON values in a body.
pub const JSON_DEPTH: usize = 32;
/// Bytes of a bundle's schema or policies.
pub const BUNDLE_BYTES: usize = 2 << 20;
/// Nesting of brackets in a policy or schema: Cedar's parser needs stack for each.
pub const BUNDLE_DEPTH: usize = 64;
/// Policies, templates and links in one bundle.
pub const BUNDLE_POLICIES: usize = 20_000;
/// Bytes of a filter.
pub const FILTER_BYTES: usize = 8 << 10;
/// Nesting of a filter; a chain of one operator, `&&` or `||`, counts once.
pub const FILTER_DEPTH: usize = 32;
/// Calls in a filter that Cedar is asked about value by value: each costs microseconds a value, which others wait for.
pub const FILTER_CALLS: usize = 16;
/// Faults, and warnings, of a bundle that one answer tells.
pub const BUNDLE_FINDINGS: usize = 1_000;
/// Versions of the bundle in one answer.
pub const HISTORY_PAGE: usize = 100;
/// Bytes of a purpose, a note or a model name.
pub const LABEL_BYTES: usize = 256;
/// Collections in a store.
pub const COLLECTIONS: usize = 1_024;
/// Audit entries in one answer.
pub const AUDIT_PAGE: usize = 1_000;
/// Rows of a list in one answer.
pub const LIST_PAGE: usize = 1_000;
/// Seconds that an API key may live, if its end is told: a hundred years.
pub const KEY_SECONDS: u64 = 100 * 31_557_600;
/// Policies that one explanation tells of; more are counted.
pub const EXPLAIN_POLICIES: usize = 200;
/// Requirements that the policies of one explanation make together.
pub const EXPLAIN_PARTS: usize = 5_000;
/// Rows of one table of a comparison of bundles; more are counted.
pub const DIFF_ROWS: usize = 1_000;
/// Ids in one sample of a comparison.
pub const DIFF_SAMPLES: usize = 100;
/// Purposes that a comparison names, and that it takes from the audit log.
pub const DIFF_PURPOSES: usize = 16;
/// Callers times purposes times collections of one comparison.
pub const DIFF_COMPARISONS: usize = 100_000;
/// Days of the audit log that a comparison looks back.
pub const DIFF_DAYS: usize = 366;
/// Entries of the audit log that a comparison looks at: the newest.
pub const DIFF_ENTRIES: usize = 200_000;
/// Connections at a time: below the 1,024 file descriptors that a process usually has. Others wait to be taken.
pub const CONNECTIONS: usize = 768;
/// Milliseconds after whose multiples answers leave, where they leave on time.
pub const ANSWERS_EVERY_MS: u64 = 1_000;
/// Bytes of an anchor: a checkpoint with its signature, and some by witnesses.
pub const ANCHOR_BYTES: u64 = 64 << 10;
