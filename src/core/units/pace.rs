//! When something is read again, so that many regions and many clusters do not poll in step.
//!
//! Decides: the pause before the next read. No randomness: the same cluster, subject and round give the same pause.

use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Millis;

/// The pause before round `round` of reading `what` by `cluster`: between three quarters of `period` and all of it, so that nothing is ever
/// read less often than requested.
pub fn jittered(period: Millis, cluster: &str, what: &str, round: u64) -> Millis {
    let drawn = derive_uuid(&["pace", cluster, what, &round.to_string()]).as_u128() % 1_000;
    let share = 750 + i64::try_from(drawn).unwrap_or(0) / 4;
    Millis(period.0 * share / 1_000)
}

#[cfg(test)]
mod tests {
    use crate::core::units::pace::*;

    #[test]
    fn pauses_differ_between_regions_and_rounds_repeat_and_never_exceed_the_period() {
        let period = Millis::from_secs(30);
        let pause = |cluster, what, round| jittered(period, cluster, what, round).0;
        let drawn: Vec<i64> = (0..200).map(|round| pause("prod", "us-east-1", round)).collect();
        assert!(drawn.iter().all(|p| (22_500..=30_000).contains(p)));
        let mut distinct = drawn.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 60, "{}", distinct.len());
        assert_eq!(pause("prod", "us-east-1", 7), drawn[7]);
        assert_ne!(pause("prod", "us-east-2", 7), pause("prod", "us-east-1", 7));
        assert_ne!(pause("test", "us-east-1", 7), pause("prod", "us-east-1", 7));
    }
}
