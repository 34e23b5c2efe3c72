//! Vectors of a generated hospital: the same in every run. Shared by the benches that speak HTTP.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Components of a vector.
pub const DIMENSION: usize = 384;

/// xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    /// Any 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Roughly normal: the sum of four uniforms.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1_u64 << 24) as f32 - 0.5).sum()
    }

    /// With no direction in favour.
    pub fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSION).map(|_| self.normal()).collect()
    }
}

/// As the API takes it: little-endian floats.
pub fn base64(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}
