//! Chance that can be thrown again: every probe's choices follow from one seed. Knows nothing of what is chosen.

/// A stream of numbers that a seed and a purpose determine (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream of `seed` for one purpose.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let mixed = purpose
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut dice = Self(mixed);
        dice.roll();
        dice
    }

    /// 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 where there is none.
    pub fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.roll()) * n as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True one time in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A direction of `dimension` components, of length one.
    pub fn direction(&mut self, dimension: usize) -> Vec<f32> {
        unit_length((0..dimension).map(|_| self.normal()).collect())
    }

    /// `vector`, moved by `distance` of its length in a direction of chance, as long as it was.
    pub fn near(&mut self, vector: &[f32], distance: f64) -> Vec<f32> {
        let away = self.direction(vector.len());
        let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        let moved = vector.iter().zip(&away).map(|(v, a)| f64::from(*v) + distance * length * f64::from(*a));
        let moved = unit_length(moved.collect());
        moved.into_iter().map(|x| (f64::from(x) * length) as f32).collect()
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len());
        items.get(at)
    }

    /// At most `most` of `items`, in an order of chance, each once.
    pub fn some<T: Clone>(&mut self, items: &[T], most: usize) -> Vec<T> {
        let mut items = items.to_vec();
        self.shuffle(&mut items);
        items.truncate(most);
        items
    }

    /// Any order is as likely as any other.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

fn unit_length(vector: Vec<f64>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    vector.into_iter().map(|x| (x / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_choices_and_another_seed_others() {
        let throw = |seed| (0..8).map(|_| 0).scan(Dice::of(seed, "x"), |d, _| Some(d.below(1000))).collect::<Vec<_>>();
        assert_eq!(throw(1), throw(1));
        assert_ne!(throw(1), throw(2));
    }

    #[test]
    fn a_vector_that_was_moved_is_as_near_as_asked() {
        let mut dice = Dice::of(3, "near");
        let one = dice.direction(64);
        for (distance, least) in [(0.0, 0.999_9), (0.1, 0.98), (0.5, 0.8)] {
            let moved = dice.near(&one, distance);
            let product: f32 = one.iter().zip(&moved).map(|(a, b)| a * b).sum();
            assert!(f64::from(product) > least, "{distance}: {product}");
        }
    }
}
