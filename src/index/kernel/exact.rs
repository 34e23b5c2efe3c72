//! The distance of two rows of f32. The only caller of simsimd, which picks AVX-512, AVX2, NEON or plain C when it runs.

use simsimd::SpatialSimilarity;

use crate::model::Metric;

/// A metric's arithmetic on f32 rows: what every answer's scores are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) enum Kernel {
    /// Inner product.
    Product,
    /// Minus the squared distance.
    Nearness,
}

impl Kernel {
    pub(in crate::index) fn new(metric: Metric) -> Self {
        match metric {
            Metric::Cosine | Metric::Dot => Self::Product,
            Metric::Euclidean => Self::Nearness,
        }
    }

    /// The score of `row` for `query`: higher is nearer, never -0.0, so that equal scores are equal bits. A pair of
    /// lengths that differ scores lowest of all.
    #[inline]
    pub(in crate::index) fn score(self, query: &[f32], row: &[f32]) -> f32 {
        let score = match self {
            Self::Product => f32::dot(query, row),
            Self::Nearness => f32::l2sq(query, row).map(|d| -d),
        };
        score.map_or(f32::NEG_INFINITY, |s| s as f32 + 0.0)
    }

    /// The squared distance that a score stands for; of a product, if both rows are of length one.
    #[inline]
    pub(in crate::index) fn squared_distance_of(self, score: f32) -> f32 {
        match self {
            Self::Product => (2.0 - 2.0 * score).max(0.0),
            Self::Nearness => (-score).max(0.0),
        }
    }

    /// What the graph is built by.
    #[inline]
    pub(in crate::index) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
        f32::l2sq(a, b).map_or(f32::MAX, |d| d as f32)
    }
}
