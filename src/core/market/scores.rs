//! Spot placement scores: EC2's estimate of how likely a spot request is to succeed now, 1 to 10.
//!
//! Decides: the few, fixed requests that are made, and which score an offer gets.
//! Does not: send them (see the `aws` adapter), or turn a score into money: it is a prior for availability, never a price.
//!
//! EC2 limits **new** requests per day and allows old ones to be repeated. So the requests are few (one per GPU family) and change only
//! when
//! the regions of the node classes or the types of a family change. EC2 gives requests with fewer than three types low scores, whatever
//! they are: a family with fewer is not requested. It returns the ten best zones; a zone that is not among them has no score, which is not
//! the same as a bad one.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::catalog::Catalog;
use crate::core::market::{Capacity, CapacityType, Market};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::{Millis, Timestamp};

/// EC2 gives low scores for fewer types. Source: EC2 user guide, "Spot placement score", limitations.
const LEAST_TYPES: usize = 3;
/// A score is about an immediate request: one older than this is dropped.
pub const SCORE_LIFETIME: Millis = Millis::from_hours(3);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScoreQuestion {
    /// Any of these types would do; sorted.
    pub types: Vec<InstanceType>,
    /// How many instances.
    pub instances: i32,
    /// Where to look, sorted; one region's endpoint answers for all of them.
    pub regions: Vec<Region>,
    /// Score individual zones instead of regions.
    pub by_zone: bool,
}

/// A score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementScore {
    /// The region.
    pub region: Region,
    /// The zone, if zones were requested.
    pub zone: Option<ZoneId>,
    /// 1 (unlikely) to 10 (likely).
    pub score: u8,
}

/// The requests for `regions`: one per family of `catalog` that `market` offers on spot and that has enough spot types, for one machine in
/// one zone.
pub fn questions(catalog: &Catalog, market: &Market, regions: &BTreeSet<Region>) -> BTreeMap<String, ScoreQuestion> {
    let spot = market.offers.keys().filter(|capacity| capacity.capacity_type == CapacityType::Spot);
    let offered: BTreeSet<&str> = spot.map(|capacity| capacity.instance_type.family()).collect();
    let mut families: BTreeMap<String, Vec<InstanceType>> = BTreeMap::new();
    for machine in catalog.types.values().filter(|m| m.spot_supported && offered.contains(m.instance_type.family())) {
        families.entry(machine.instance_type.family().to_owned()).or_default().push(machine.instance_type.clone());
    }
    families.retain(|_, types| types.len() >= LEAST_TYPES && !regions.is_empty());
    let regions: Vec<Region> = regions.iter().cloned().collect();
    let question = |types| ScoreQuestion { types, instances: 1, regions: regions.clone(), by_zone: true };
    families.into_iter().map(|(family, types)| (family, question(types))).collect()
}

/// The scores known: by family and zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoreBoard {
    scores: BTreeMap<(String, ZoneId), (u8, Timestamp)>,
}

impl ScoreBoard {
    /// Keeps the answer for `family`, replacing what was known about it.
    pub fn keep(&mut self, family: &str, answer: &[PlacementScore], at: Timestamp) {
        self.scores.retain(|(of, _), _| of != family);
        let known = answer.iter().filter_map(|s| Some(((family.to_owned(), s.zone.clone()?), (s.score, at))));
        self.scores.extend(known);
    }

    /// The score of a spot pool's family in its zone, while it is recent enough to be meaningful.
    pub fn of(&self, capacity: &Capacity, now: Timestamp) -> Option<u8> {
        if capacity.capacity_type != CapacityType::Spot {
            return None;
        }
        let (score, at) = self.scores.get(&(capacity.instance_type.family().to_owned(), capacity.zone.clone()))?;
        (now.since(*at) <= SCORE_LIFETIME).then_some(*score)
    }

    /// Number of known scores.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crate::core::market::scores::*;
    use crate::core::market::shipped::snapshot_market;

    #[test]
    fn questions_are_few_fixed_and_only_about_families_ec2_can_score() {
        let catalog = Catalog::snapshot();
        let regions = BTreeSet::from([Region::from("us-east-1"), Region::from("eu-west-1")]);
        let market = snapshot_market();
        let asked = questions(&catalog, &market, &regions);
        assert_eq!(asked, questions(&catalog, &market, &regions));
        assert!(asked.len() < 12 && asked.contains_key("g6") && !asked.contains_key("p5en"), "{:?}", asked.keys());
        assert!(asked.values().all(|q| q.types.len() >= 3 && q.types.is_sorted() && q.regions.len() == 2 && q.by_zone));
        assert_eq!(questions(&catalog, &market, &BTreeSet::new()), BTreeMap::new());
        assert_eq!(questions(&catalog, &Market::default(), &regions), BTreeMap::new(), "nothing is asked about what is not sold");
    }

    #[test]
    fn a_score_belongs_to_the_spot_pools_of_its_family_and_zone_and_fades() {
        let mut board = ScoreBoard::default();
        let at = Timestamp(1_000_000_000);
        let answer = PlacementScore { region: "us-east-1".into(), zone: Some("use1-az4".into()), score: 7 };
        board.keep("g6", std::slice::from_ref(&answer), at);
        let capacity = |instance_type: &str, zone: &str, capacity_type| Capacity {
            region: "us-east-1".into(),
            zone: zone.into(),
            instance_type: instance_type.into(),
            capacity_type,
        };
        assert_eq!(board.of(&capacity("g6.xlarge", "use1-az4", CapacityType::Spot), at), Some(7));
        assert_eq!(board.of(&capacity("g6.xlarge", "use1-az4", CapacityType::OnDemand), at), None);
        assert_eq!(board.of(&capacity("g6e.xlarge", "use1-az4", CapacityType::Spot), at), None);
        assert_eq!(board.of(&capacity("g6.xlarge", "use1-az6", CapacityType::Spot), at), None);
        assert_eq!(board.of(&capacity("g6.xlarge", "use1-az4", CapacityType::Spot), at + Millis::from_hours(4)), None);
        board.keep("g6", &[PlacementScore { zone: Some("use1-az6".into()), ..answer }], at);
        assert_eq!(board.of(&capacity("g6.xlarge", "use1-az4", CapacityType::Spot), at), None, "the last answer counts");
    }
}
