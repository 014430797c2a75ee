//! Chance with a name: every kind of accident draws from a stream of its own, so that one more draw of one kind shifts no other.
//!
//! Decides: how numbers are drawn from a seed. The same seed and name give the same numbers.
//! Does not: know what they are for.

use crate::core::units::time::Millis;

/// A stream of numbers: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream called `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a spreads names that differ in one letter.
        let of_name = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut stream = Chance(seed ^ of_name);
        stream.draw();
        stream
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number from 0 up to, not including, `limit`; 0 for a limit below 1.
    pub fn below(&mut self, limit: i64) -> i64 {
        let limit = u64::try_from(limit).unwrap_or(0).max(1);
        i64::try_from(self.draw() % limit).unwrap_or(0)
    }

    /// A whole number from `least` to `most`, both included.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        least + self.below(most - least + 1)
    }

    /// True `per_mille` times in a thousand.
    pub fn happens(&mut self, per_mille: i64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of `options`; `None` when there is none.
    pub fn one_of<'a, T>(&mut self, options: &'a [T]) -> Option<&'a T> {
        options.get(usize::try_from(self.below(i64::try_from(options.len()).unwrap_or(0))).unwrap_or(0))
    }

    /// A number above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A span around which half of all lie, with the given mean: log-normal, so with a heavy tail when the mean is far above the median.
    pub fn heavy_tailed(&mut self, median: Millis, mean: Millis) -> Millis {
        let ratio = (mean.0.max(1) as f64 / median.0.max(1) as f64).max(1.0);
        let sigma = (2.0 * ratio.ln()).sqrt();
        // Box and Muller.
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        Millis((median.0 as f64 * (sigma * normal).exp()).round() as i64)
    }

    /// A span of an event that happens at random, once in `mean` on average: exponential.
    pub fn waiting(&mut self, mean: Millis) -> Millis {
        Millis((-(mean.0 as f64) * self.unit().ln()).round() as i64)
    }

    /// A span from `least` to `most`, evenly.
    pub fn span(&mut self, least: Millis, most: Millis) -> Millis {
        Millis(self.between(least.0, most.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_name() {
        let numbers = |name| {
            let mut stream = Chance::new(7, name);
            (0..4).map(|_| stream.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers("price"), numbers("price"));
        assert_ne!(numbers("price"), numbers("pride"));
    }

    #[test]
    fn spans_have_the_median_and_the_mean_they_are_asked_for() {
        let mut stream = Chance::new(1, "spans");
        let (median, mean) = (Millis::from_mins(30), Millis::from_mins(90));
        let mut drawn: Vec<i64> = (0..20_000).map(|_| stream.heavy_tailed(median, mean).0).collect();
        drawn.sort_unstable();
        let near = |have: i64, want: i64, percent: i64| (have - want).abs() * 100 <= want * percent;
        assert!(near(drawn[10_000], median.0, 5), "{}", drawn[10_000]);
        assert!(near(drawn.iter().sum::<i64>() / 20_000, mean.0, 10));
        let waits: i64 = (0..20_000).map(|_| stream.waiting(mean).0).sum();
        assert!(near(waits / 20_000, mean.0, 5));
    }
}
