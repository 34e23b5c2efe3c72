//! Vectors that are fit to search: right length, finite, bounded, normalised once where the metric wants it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits;

/// How nearness is measured. A score is higher for what is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Inner product of normalised vectors.
    Cosine,
    /// Inner product.
    Dot,
    /// Minus the squared distance.
    Euclidean,
}

/// Why a vector was refused. Never repeats a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    /// Another length than the collection's.
    #[error("the vector has {found} components, the collection takes {expected}")]
    Dimension {
        /// The collection's dimension.
        expected: usize,
        /// What was sent.
        found: usize,
    },
    /// NaN, infinite, or beyond 1e6.
    #[error("component {at} is not a finite number of magnitude 1e6 or less")]
    Component {
        /// Position in the vector, from 0.
        at: usize,
    },
    /// The zero vector has no direction.
    #[error("a cosine collection cannot take a vector of zeros")]
    Zero,
}

/// A vector ready for the index. For cosine it has unit length; the components as given are not kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// Checks `components` against a collection's dimension and metric; normalises for cosine.
    pub fn new(components: Vec<f32>, dimension: usize, metric: Metric) -> Result<Self, EmbeddingError> {
        if components.len() != dimension {
            return Err(EmbeddingError::Dimension { expected: dimension, found: components.len() });
        }
        let wild = |x: &f32| !x.is_finite() || x.abs() > limits::COMPONENT_MAX;
        if let Some(at) = components.iter().position(wild) {
            return Err(EmbeddingError::Component { at });
        }
        match metric {
            Metric::Cosine => normalised(components).map(Self),
            Metric::Dot | Metric::Euclidean => Ok(Self(components.into())),
        }
    }

    /// The components.
    pub fn components(&self) -> &[f32] {
        &self.0
    }
}

/// Unit length, computed in f64; a vector already within one f32 rounding of it is kept bit for bit,
/// so that storing, reading and storing again does not drift.
fn normalised(mut components: Vec<f32>) -> Result<Box<[f32]>, EmbeddingError> {
    let norm = components.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return Err(EmbeddingError::Zero);
    }
    if (norm - 1.0).abs() > 3e-7 {
        for x in &mut components {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
    Ok(components.into())
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({} components)", self.0.len())
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let build = |v: Vec<f32>| Embedding::new(v, 2, Metric::Cosine).err();
        assert_eq!(build(vec![1.0]), Some(EmbeddingError::Dimension { expected: 2, found: 1 }));
        assert_eq!(build(vec![0.0, f32::NAN]), Some(EmbeddingError::Component { at: 1 }));
        assert_eq!(build(vec![f32::INFINITY, 0.0]), Some(EmbeddingError::Component { at: 0 }));
        assert_eq!(build(vec![1.1e6, 0.0]), Some(EmbeddingError::Component { at: 0 }));
        assert_eq!(build(vec![0.0, 0.0]), Some(EmbeddingError::Zero));
        assert!(Embedding::new(vec![0.0, 0.0], 2, Metric::Euclidean).is_ok());
        assert!(Embedding::new(vec![1e6, 0.0], 2, Metric::Dot).is_ok());
    }

    #[test]
    fn cosine_vectors_get_unit_length_even_when_tiny() {
        for v in [vec![3.0, 4.0], vec![1e-40, 0.0], vec![1e6, 1e6]] {
            let e = Embedding::new(v, 2, Metric::Cosine).unwrap();
            let norm: f32 = e.components().iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-6);
        }
    }
}
