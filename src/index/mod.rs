//! Nearest neighbours among permitted slots. The only home of hnsw_rs and simsimd; knows a bitmap, never Cedar.
