//! The tamper-evident log: entries sealed, chained and Merkle-hashed. Knows neither keys nor policies.
