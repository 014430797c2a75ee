//! Means and how sure they are: paired bootstrap with a fixed seed, so that the same data always gives the same interval.

/// The mean; zero for nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The 95 % bootstrap interval of the mean over 2,000 resamples (xorshift64* from a fixed seed).
pub fn bootstrap95(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % values.len()
    };
    let mut means: Vec<f64> = (0..2_000).map(|_| (0..values.len()).map(|_| values[draw()]).sum::<f64>() / values.len() as f64).collect();
    means.sort_by(f64::total_cmp);
    (means[50], means[1_949])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_mean_and_repeats() {
        let v: Vec<f64> = (0..18).map(|i| f64::from(i % 5)).collect();
        let (low, high) = bootstrap95(&v);
        assert!(low < mean(&v) && mean(&v) < high && (low, high) == bootstrap95(&v));
        assert_eq!(bootstrap95(&[2.0, 2.0]), (2.0, 2.0));
    }
}
