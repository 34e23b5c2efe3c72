//! Pieces of derived data as bytes, for tests that keep them elsewhere than on disk.

use serde::{Serialize, de::DeserializeOwned};

use super::codec;

pub(crate) fn encode<T: Serialize>(piece: &T) -> Vec<u8> {
    codec::encode(piece, 0).unwrap().to_vec()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    codec::decode(bytes)
}
