//! Regions, zones and subnets. Zone names are shifted against zone ids, as they are in most real accounts, so that code
//! which takes one for the other is found out.

use std::collections::BTreeMap;

use crate::core::units::ids::{Region, ZoneId};

use super::super::facts::Facts;
use super::{ACCOUNT, resource_id};

/// A zone of this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its region.
    pub region: Region,
    /// Its id, the same in every account.
    pub id: ZoneId,
    /// Its name in this account, e.g. `us-east-1b` or `us-east-1-atl-2a`.
    pub name: String,
    /// Whether it is a local zone.
    pub is_local: bool,
    /// The account's one subnet there.
    pub subnet: String,
    /// The subnet's addresses: 10.R.Z.0/24.
    pub cidr: String,
}

/// All places of the account.
#[derive(Debug, Clone, Default)]
pub struct Places {
    zones: BTreeMap<ZoneId, Zone>,
}

/// The id of the account's subnet in a zone: known in advance, so that a demo can write it into its node class.
pub fn subnet_id(zone: &ZoneId) -> String {
    resource_id("subnet", &[zone.as_str()])
}

/// The id of the account's VPC in a region.
pub fn vpc_id(region: &Region) -> String {
    resource_id("vpc", &[region.as_str()])
}

/// The id of the image lowtide's examples use in a region, for `x86_64` or `arm64`.
pub fn image_id(region: &Region, architecture: &str) -> String {
    resource_id("ami", &[region.as_str(), architecture])
}

/// The ARN of an instance.
pub fn instance_arn(region: &Region, id: &str) -> String {
    format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/{id}")
}

/// Local zone ids carry a city between region and zone: `use1-atl2-az1`, whose name is `us-east-1-atl-2a`.
fn local_zone_name(region: &Region, id: &ZoneId) -> Option<String> {
    let parts: Vec<&str> = id.as_str().split('-').collect();
    let [_, city, az] = parts[..] else { return None };
    let digits = city.trim_start_matches(|c: char| !c.is_ascii_digit());
    let letter = az.strip_prefix("az")?.parse::<u8>().ok().filter(|n| (1..=26).contains(n))?;
    Some(format!("{region}-{}-{digits}{}", &city[..city.len() - digits.len()], char::from(b'a' + letter - 1)))
}

impl Places {
    /// The zones the facts know of.
    pub fn from_facts(facts: &Facts) -> Places {
        let mut zones = BTreeMap::new();
        for (region_index, (region, ids)) in facts.zones.iter().enumerate() {
            let ordinary: Vec<&ZoneId> = ids.iter().filter(|id| local_zone_name(region, id).is_none()).collect();
            for (zone_index, id) in ids.iter().enumerate() {
                let local = local_zone_name(region, id);
                let place = ordinary.iter().position(|known| *known == id).unwrap_or(0);
                let letter = char::from(b'a' + u8::try_from((place + 1) % ordinary.len().max(1)).unwrap_or(0));
                let zone = Zone {
                    region: region.clone(),
                    id: id.clone(),
                    is_local: local.is_some(),
                    name: local.unwrap_or_else(|| format!("{region}{letter}")),
                    subnet: subnet_id(id),
                    cidr: format!("10.{region_index}.{zone_index}.0/24"),
                };
                zones.insert(id.clone(), zone);
            }
        }
        Places { zones }
    }

    /// Every region, in order.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.zones.values().map(|zone| zone.region.clone()).collect();
        regions.sort();
        regions.dedup();
        regions
    }

    /// The zones of a region, in order of their ids.
    pub fn zones_of(&self, region: &Region) -> Vec<&Zone> {
        self.zones.values().filter(|zone| zone.region == *region).collect()
    }

    /// A zone by its id.
    pub fn zone(&self, id: &ZoneId) -> Option<&Zone> {
        self.zones.get(id)
    }

    /// A zone of `region` by its name in this account.
    pub fn zone_named(&self, region: &Region, name: &str) -> Option<&Zone> {
        self.zones.values().find(|zone| zone.region == *region && zone.name == name)
    }

    /// The zone of `region` that holds a subnet.
    pub fn zone_of_subnet(&self, region: &Region, subnet: &str) -> Option<&Zone> {
        self.zones.values().find(|zone| zone.region == *region && zone.subnet == subnet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_names_are_a_permutation_and_never_follow_the_ids() {
        let places = Places::from_facts(&Facts::shipped().unwrap());
        let names: Vec<(String, String)> =
            places.zones_of(&"us-east-1".into()).iter().map(|zone| (zone.id.to_string(), zone.name.clone())).collect();
        assert!(names.contains(&("use1-az1".into(), "us-east-1b".into())), "{names:?}");
        assert!(names.contains(&("use1-az6".into(), "us-east-1a".into())), "{names:?}");
        assert!(names.contains(&("use1-atl2-az1".into(), "us-east-1-atl-2a".into())), "{names:?}");
        let mut unique: Vec<&String> = names.iter().map(|(_, name)| name).collect();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}
