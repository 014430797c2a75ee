//! How the replicas of a service are shared out over capacity that is lost as a whole.
//!
//! Decides: how many of the replicas to buy go to each spot pool, by what they cost there and by what the loss of a whole pool would cost.
//! Does not: serve a service with spares or a goal ([`super::serving`] does), or buy.
//!
//! EC2 takes a pool back as a whole: over 94 % of the time all or none of a zone's instances are up (Can't Be Late, NSDI'24). Without a price
//! for that, the cheapest pool gets every replica, and one loss is an outage. So the loss of `k` of `n` replicas counts as `(k/n)²` of an
//! outage: half of the replicas lost is half of the requests hit by half of the capacity missing, and the rest may well carry them; all of
//! them lost is an outage. An outage lasts until replacements are up, and an hour of it is worth what the service costs in the time for which
//! its goal allows one: whoever pays for 99.5 % loses as much by an hour without service as 200 hours of service cost.
//!
//! How often a pool is lost is not known where nothing ran. Interruption rates that EC2 publishes are means over a month and a region; the
//! recorded pools were lost every 0.7 to 10 hours. An unseen pool counts as lost once a week ([`UNSEEN_STAY`]), one that was seen by what was
//! seen, and never less often than its expected interruptions.
//!
//! The sum of costs and expected losses is convex in the number of replicas per pool (but for machines that stay partly empty), so each
//! replica in turn goes where it adds least. A pool takes part only while a replica costs at most a set share more there than where all of
//! them together cost least: nothing expensive is bought for the sake of a spread.

use crate::core::market::availability::CapacityMemory;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;

/// A pool of which nothing is known is lost this often: a prior of one loss in as much observed time.
pub const UNSEEN_STAY: Millis = Millis::from_hours(168);
/// The goal of a service that names none, in parts per million of the time.
pub const DEFAULT_GOAL_PPM: i64 = 995_000;

const HOUR: i128 = 3_600_000;

/// What holds for all replicas of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// All replicas, those that stand and those to be bought.
    pub replicas: i64,
    /// From the loss of a pool to replacements that serve.
    pub back_after: Millis,
    /// Parts per million of the time in which the service is to be up.
    pub goal_ppm: i64,
    /// A replica may cost this much more, in thousandths, than where all of them cost least.
    pub most_extra_per_mille: i64,
}

/// A pool that is lost as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Machines sold there: what one costs per hour in micro-dollars, and how many replicas it holds (at least 1).
    pub machines: &'a [(i64, i64)],
    /// What each replica costs besides, such as the transfer of its data.
    pub per_replica: i64,
    /// Replicas that stand there and stay.
    pub standing: i64,
    /// How often it is expected to be lost, per million hours; 0 for on-demand.
    pub losses_per_million_hours: i64,
}

/// A spread that pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// How many of the replicas to buy go to each place.
    pub counts: Vec<usize>,
    /// How much more they cost than all in one place.
    pub extra: MicroUsdPerHour,
    /// What they would cost all in one place.
    pub together: MicroUsdPerHour,
    /// By how much the expected cost of losing a pool is lower.
    pub avoided: MicroUsdPerHour,
}

/// How often a pool is expected to be lost, per million hours, by what was seen of it.
pub fn losses_per_million_hours(memory: &CapacityMemory, interruptions_per_million_hours: i64) -> i64 {
    let (up, ended) = memory.stays();
    // Thousandths of a loss per millisecond, as losses per million hours.
    let seen = (i128::from(ended) + 1_000) * HOUR * 1_000 / (i128::from(UNSEEN_STAY.0) + i128::from(up));
    i64::try_from(seen).unwrap_or(i64::MAX).max(interruptions_per_million_hours)
}

/// The least cost of 0 to `most` replicas on machines of one place, in whole machines.
fn costs(place: &Place, most: usize) -> Vec<i64> {
    let mut least: Vec<i64> = vec![0; most + 1];
    for count in 1..=most {
        let with = |(cost, holds): &(i64, i64)| {
            let rest = count.saturating_sub(usize::try_from((*holds).max(1)).unwrap_or(usize::MAX));
            cost.saturating_add(least[rest])
        };
        least[count] = place.machines.iter().map(with).min().unwrap_or(i64::MAX);
    }
    least.iter().zip(0..).map(|(cost, count)| cost.saturating_add(place.per_replica.saturating_mul(count))).collect()
}

impl Terms {
    /// What the loss of a place with `count` replicas is expected to cost per hour, where a replica costs `each`.
    fn loss(&self, place: &Place, count: i64, each: i64) -> i64 {
        let outage = i128::from(self.back_after.0) * i128::from(place.losses_per_million_hours);
        let allowed = i128::from((1_000_000 - self.goal_ppm).max(1));
        let share = i128::from(count) * i128::from(count);
        let cost = share.saturating_mul(i128::from(each)).saturating_mul(outage) / (HOUR * allowed * i128::from(self.replicas.max(1)));
        i64::try_from(cost).unwrap_or(i64::MAX)
    }
}

/// A market for the replicas of one service.
struct Market<'a> {
    terms: &'a Terms,
    places: &'a [Place<'a>],
    /// What 0 to all of them cost, by place.
    costs: Vec<Vec<i64>>,
    asked: usize,
    /// Where all of them cost least.
    cheapest: usize,
}

impl Market<'_> {
    fn together(&self) -> i64 {
        self.costs[self.cheapest][self.asked]
    }

    fn each(&self) -> i64 {
        self.together() / self.asked.max(1) as i64
    }

    fn loss(&self, place: usize, count: usize) -> i64 {
        let place = &self.places[place];
        self.terms.loss(place, place.standing + count as i64, self.each())
    }

    /// Each replica in turn where it adds least, over the places that are `open`.
    fn share_out(&self, open: &[bool]) -> Vec<usize> {
        let mut counts = vec![0; self.places.len()];
        for _ in 0..self.asked {
            let adds = |at: usize| {
                let (cost, now) = (&self.costs[at], counts[at]);
                i128::from(cost[now + 1]) - i128::from(cost[now]) + i128::from(self.loss(at, now + 1)) - i128::from(self.loss(at, now))
            };
            if let Some(at) = (0..counts.len()).filter(|at| open[*at]).min_by_key(|at| (adds(*at), *at)) {
                counts[at] += 1;
            }
        }
        counts
    }

    /// Whether a replica costs too much more at this place.
    fn is_expensive(&self, at: usize, count: usize) -> bool {
        let (here, most) = (i128::from(self.costs[at][count]), 1_000 + i128::from(self.terms.most_extra_per_mille));
        here * 1_000 * self.asked as i128 > i128::from(self.together()) * most * count as i128
    }
}

/// Shares out `asked` replicas; `None` where all of them are best bought where they cost least.
pub fn share_out(terms: &Terms, places: &[Place<'_>], asked: usize) -> Option<Spread> {
    if terms.most_extra_per_mille <= 0 || terms.replicas < 2 || asked == 0 {
        return None;
    }
    let costs: Vec<Vec<i64>> = places.iter().map(|place| costs(place, asked)).collect();
    let cheapest = (0..places.len()).min_by_key(|at| (costs[*at][asked], *at))?;
    let market = Market { terms, places, costs, asked, cheapest };
    // A place where even the best filling is too expensive never takes part.
    let mut open: Vec<bool> = (0..places.len()).map(|at| (1..=asked).any(|count| !market.is_expensive(at, count))).collect();
    let counts = loop {
        let counts = market.share_out(&open);
        let expensive = |at: &usize| counts[*at] > 0 && market.is_expensive(*at, counts[*at]);
        match (0..places.len()).filter(|at| *at != cheapest).find(expensive) {
            Some(at) => open[at] = false,
            None if expensive(&cheapest) => return None,
            None => break counts,
        }
    };
    if counts[cheapest] == asked {
        return None;
    }
    let sum = |of: &dyn Fn(usize) -> i64| (0..places.len()).map(of).fold(0_i64, i64::saturating_add);
    let extra = sum(&|at| market.costs[at][counts[at]]) - market.together();
    let at_once = sum(&|at| market.loss(at, if at == cheapest { asked } else { 0 }));
    let avoided = at_once - sum(&|at| market.loss(at, counts[at]));
    let [extra, together, avoided] = [extra, market.together(), avoided].map(MicroUsdPerHour);
    (avoided > extra).then_some(Spread { counts, extra, together, avoided })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(replicas: i64) -> Terms {
        Terms { replicas, back_after: Millis::from_mins(4), goal_ppm: DEFAULT_GOAL_PPM, most_extra_per_mille: 100 }
    }

    fn place(machines: &[(i64, i64)], standing: i64) -> Place<'_> {
        let unseen = losses_per_million_hours(&CapacityMemory::default(), 70);
        Place { machines, per_replica: 0, standing, losses_per_million_hours: unseen }
    }

    fn counts(terms: &Terms, places: &[Place<'_>], asked: usize) -> Option<Vec<usize>> {
        share_out(terms, places, asked).map(|spread| spread.counts)
    }

    #[test]
    fn replicas_spread_where_it_is_nearly_free_and_only_there() {
        let at = |price: i64| vec![(price, 1)];
        let (cheap, near, far) = (at(1_000_000), at(1_050_000), at(1_200_000));
        let places = [place(&cheap, 0), place(&near, 0), place(&far, 0)];
        assert_eq!(counts(&terms(2), &places, 2), Some(vec![1, 1, 0]));
        assert_eq!(counts(&terms(2), &places[..1], 2), None, "one place only");
        assert_eq!(counts(&terms(2), &[places[0], places[2]], 2), None, "a fifth more is not nearly free");
        let ten = share_out(&terms(10), &places, 10).unwrap();
        assert!(ten.counts[0] > ten.counts[1] && ten.counts[1] >= 3 && ten.counts[2] == 0, "the cheaper has more: {ten:?}");
        assert_eq!(ten.extra.0, 50_000 * ten.counts[1] as i64, "what it costs is what its machines cost more");
        assert!(ten.avoided > ten.extra && ten.together.0 == 10_000_000);
        assert_eq!(counts(&Terms { most_extra_per_mille: 0, ..terms(2) }, &places, 2), None, "switched off");
        assert_eq!(counts(&terms(1), &places, 1), None, "a single replica has nothing to spread");
    }

    #[test]
    fn what_stands_counts_and_a_replacement_goes_beside_none() {
        let (cheap, near) = (vec![(1_000_000, 1)], vec![(1_020_000, 1)]);
        assert_eq!(counts(&terms(2), &[place(&cheap, 1), place(&near, 0)], 1), Some(vec![0, 1]));
        assert_eq!(counts(&terms(2), &[place(&cheap, 0), place(&near, 1)], 1), None, "the cheapest is the emptiest");
        assert_eq!(counts(&terms(3), &[place(&cheap, 0), place(&near, 2)], 1), None);
    }

    #[test]
    fn machines_are_bought_whole() {
        // Four replicas fill a large machine; two on each of two would pay for twice the machines.
        let (one, other) = (vec![(2_000_000, 4)], vec![(2_000_000, 4)]);
        let places = [place(&one, 0), place(&other, 0)];
        assert_eq!(counts(&terms(4), &places, 4), None);
        assert_eq!(counts(&terms(8), &places, 8), Some(vec![4, 4]));
        assert_eq!(
            costs(&place(&[(2_000_000, 4), (700_000, 1)], 0), 6),
            [0, 700_000, 1_400_000, 2_000_000, 2_000_000, 2_700_000, 3_400_000]
        );
    }

    #[test]
    fn a_pool_that_is_lost_often_is_avoided_and_one_that_never_was_is_relied_on() {
        use crate::core::units::time::Timestamp;
        let (mut flaps, mut lasts) = (CapacityMemory::default(), CapacityMemory::default());
        for minute in 0..120 * 60 {
            flaps.observe(Timestamp(minute * 60_000), minute % 60 < 45);
            lasts.observe(Timestamp(minute * 60_000), true);
        }
        let rate = |memory: &CapacityMemory| losses_per_million_hours(memory, 0);
        assert!(rate(&flaps) > 100_000 && rate(&lasts) < 5_952, "{} {}", rate(&flaps), rate(&lasts));
        assert_eq!(losses_per_million_hours(&lasts, 9_000), 9_000, "never less often than its machines are interrupted");
        let machines = vec![(1_000_000, 1)];
        let with = |memory: &CapacityMemory| Place { losses_per_million_hours: rate(memory), ..place(&machines, 0) };
        let ten = share_out(&terms(10), &[with(&flaps), with(&lasts), place(&machines, 0)], 10).unwrap().counts;
        assert!(ten[0] == 0 && ten[1] > ten[2], "{ten:?}");
    }

    #[test]
    fn no_sharing_out_of_few_replicas_costs_less_with_its_losses() {
        let mut seed = 5_u64;
        let mut below = |limit: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % limit
        };
        for _ in 0..300 {
            let machines: Vec<Vec<(i64, i64)>> = (0..3).map(|_| vec![(1_000_000 + below(95_000), 1)]).collect();
            let places: Vec<Place> = machines
                .iter()
                .map(|m| Place { machines: m, per_replica: 0, standing: below(3), losses_per_million_hours: 500 + below(20_000) })
                .collect();
            let asked = 2 + below(4) as usize;
            let terms = terms(asked as i64 + places.iter().map(|p| p.standing).sum::<i64>());
            let least = (0..3).map(|at| costs(&places[at], asked)[asked]).min().unwrap();
            let total = |counts: &[usize]| -> i64 {
                let of = |at: usize| {
                    let place = &places[at];
                    costs(place, asked)[counts[at]] + terms.loss(place, place.standing + counts[at] as i64, least / asked as i64)
                };
                (0..3).map(of).sum()
            };
            let cheapest = (0..3).min_by_key(|at| (costs(&places[*at], asked)[asked], *at)).unwrap();
            let mut ours = vec![0; 3];
            ours[cheapest] = asked;
            ours = counts(&terms, &places, asked).unwrap_or(ours);
            let every = (0..=asked).flat_map(|a| (0..=asked - a).map(move |b| vec![a, b, asked - a - b]));
            // Losses are rounded down to whole micro-dollars, so two ways may differ by a few of them.
            let best = every.map(|counts| total(&counts)).min().unwrap();
            assert!(total(&ours) <= best + 10, "{ours:?} costs {} and the best {best}: {places:?}", total(&ours));
        }
    }
}
