//! Bounds of what the kit takes in and asks at once; `model::limits` has the server's.

/// Connections over which a throw-away store is asked at once.
pub const CONNECTIONS: usize = 16;
/// Connections over which a store in use is asked at once.
pub const CONNECTIONS_LIVE: usize = 4;
/// Connections that may be asked for.
pub const CONNECTIONS_MAX: usize = 64;
/// Requests whose answers are held at once.
pub const HELD_ANSWERS: usize = 64;
/// Stores with one caller's records alone that are kept for the next probe.
pub const TWINS: usize = 16;
/// Bytes of one answer over HTTP.
pub const ANSWER_BYTES: u64 = 256 << 20;
/// Bytes of one line from an adapter.
pub const LINE_BYTES: u64 = 256 << 20;
/// Bytes of one file of a world, and of one that a store left behind.
pub const FILE_BYTES: u64 = 8 << 30;
/// Records of a world.
pub const RECORDS: usize = 10_000_000;
/// Callers of a world.
pub const CALLERS: usize = 10_000;
/// Files that a store left behind.
pub const TRACES: usize = 100_000;
/// Fields of answers that are listed as not known.
pub const FIELDS: usize = 64;
/// Bytes of the record of what was planted.
pub const PLANTED_BYTES: u64 = 16 << 20;
