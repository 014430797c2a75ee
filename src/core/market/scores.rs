//! Spot placement scores: how likely EC2 holds a spot request to succeed now, 1 to 10.
//!
//! Decides: the few, fixed questions that are asked, and which score an offer carries.
//! Does not: ask (see the `aws` adapter), or turn a score into money: it is a prior of availability, never a price.
//!
//! EC2 limits **new** questions per day and lets old ones be repeated. So the questions are few (one per GPU family) and change only when
//! the regions of the node classes or the types of a family change. EC2 scores fewer than three types low, whatever they are: a family with
//! fewer is not asked about. It names the ten best zones; a zone that is not among them has no score, which is not a bad one.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::catalog::Catalog;
use crate::core::market::{Capacity, CapacityType, Market};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::{Millis, Timestamp};

/// EC2 scores questions about fewer types low. Source: EC2 user guide, "Spot placement score", limitations.
const LEAST_TYPES: usize = 3;
/// A score says how a request would fare at once: an older one than this is forgotten.
pub const SCORE_LIFETIME: Millis = Millis::from_hours(3);

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScoreQuestion {
    /// Any of these types would do; sorted.
    pub types: Vec<InstanceType>,
    /// How many instances.
    pub instances: i32,
    /// Where to look, sorted; one region's endpoint answers for all of them.
    pub regions: Vec<Region>,
    /// Score single zones rather than regions.
    pub by_zone: bool,
}

/// A score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementScore {
    /// The region.
    pub region: Region,
    /// The zone, when zones were asked for.
    pub zone: Option<ZoneId>,
    /// 1 (unlikely) to 10 (likely).
    pub score: u8,
}

/// The questions for `regions`: one per family of `catalog` that `market` offers on spot and that has spot types enough, about one machine in
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
    /// Keeps the answer to the question about `family`; what was known of it before is replaced.
    pub fn keep(&mut self, family: &str, answer: &[PlacementScore], at: Timestamp) {
        self.scores.retain(|(of, _), _| of != family);
        let known = answer.iter().filter_map(|s| Some(((family.to_owned(), s.zone.clone()?), (s.score, at))));
        self.scores.extend(known);
    }

    /// The score of a spot pool's family in its zone, while it is young enough to mean anything.
    pub fn of(&self, capacity: &Capacity, now: Timestamp) -> Option<u8> {
        if capacity.capacity_type != CapacityType::Spot {
            return None;
        }
        let (score, at) = self.scores.get(&(capacity.instance_type.family().to_owned(), capacity.zone.clone()))?;
        (now.since(*at) <= SCORE_LIFETIME).then_some(*score)
    }

    /// How many scores are known.
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
