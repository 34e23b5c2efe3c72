//! Sealed things on disk: the only home of the storage engine and of the codec.
