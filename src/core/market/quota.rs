//! vCPU quotas: how much of a family a region lets the account run, per market, and what is left for us to buy.
//!
//! Decides: which quota a type counts towards, and what our own machines leave of it.
//! Does not: read quotas (see the `aws` adapter), or know what others in the account run: EC2 has the final say, and its refusal is
//! remembered (see [`crate::core::snapshot::memory`]).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::core::market::{Capacity, CapacityType};
use crate::core::units::ids::{InstanceType, Region};

/// The families that EC2 counts vCPU quotas for. Source: Service Quotas, "Running On-Demand/Spot G and VT", "... P".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaFamily {
    /// G and VT: `g4dn` to `g7e`, `gr6`, `vt1`.
    GAndVt,
    /// P: `p3` to `p6`.
    P,
}

impl QuotaFamily {
    /// The family a type counts towards; `None` for families that no quota of ours covers.
    pub fn of(instance_type: &InstanceType) -> Option<QuotaFamily> {
        let text = instance_type.as_str();
        let letters = text.find(|c: char| !c.is_ascii_alphabetic()).map_or(text, |end| &text[..end]);
        match letters {
            "g" | "gr" | "vt" => Some(QuotaFamily::GAndVt),
            "p" => Some(QuotaFamily::P),
            _ => None,
        }
    }

    /// Its name in metrics and messages.
    pub fn label(self) -> &'static str {
        match self {
            QuotaFamily::GAndVt => "g-and-vt",
            QuotaFamily::P => "p",
        }
    }
}

/// What one vCPU quota covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaKey {
    /// The region.
    pub region: Region,
    /// The families.
    pub family: QuotaFamily,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
}

impl QuotaKey {
    /// The quota that a machine from `pool` counts in. None for reserved capacity: the reservation itself was counted when it was made
    /// (EC2 user guide, "Capacity Reservations": unused ones count towards the on-demand limit too).
    pub fn of(capacity: &Capacity) -> Option<QuotaKey> {
        let family = QuotaFamily::of(&capacity.instance_type)?;
        (capacity.capacity_type != CapacityType::Reserved).then(|| QuotaKey {
            region: capacity.region.clone(),
            family,
            capacity_type: capacity.capacity_type,
        })
    }
}

/// A quota from Service Quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VcpuQuota {
    /// Which types share it.
    pub family: QuotaFamily,
    /// Which market it limits.
    pub capacity_type: CapacityType,
    /// vCPUs that may run at once.
    pub vcpus: i64,
}

/// What is left of each quota: `limits` by region, less the vCPUs of `ours`: every machine that we have or have requested.
///
/// A quota that was not read is absent: it is unknown and does not apply.
pub fn vcpus_left<'a>(
    limits: &BTreeMap<Region, Vec<VcpuQuota>>,
    ours: impl IntoIterator<Item = (&'a Capacity, i64)>,
) -> BTreeMap<QuotaKey, i64> {
    let mut left = BTreeMap::new();
    for (region, quotas) in limits {
        for quota in quotas {
            let key = QuotaKey { region: region.clone(), family: quota.family, capacity_type: quota.capacity_type };
            left.insert(key, quota.vcpus);
        }
    }
    for (pool, vcpus) in ours {
        if let Some(rest) = QuotaKey::of(pool).and_then(|key| left.get_mut(&key)) {
            *rest = rest.saturating_sub(vcpus);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use crate::core::market::quota::*;

    #[test]
    fn types_fall_under_the_quota_of_their_family() {
        for (name, family) in [
            ("g6.xlarge", Some(QuotaFamily::GAndVt)),
            ("gr6f.4xlarge", Some(QuotaFamily::GAndVt)),
            ("g4dn.xlarge", Some(QuotaFamily::GAndVt)),
            ("vt1.3xlarge", Some(QuotaFamily::GAndVt)),
            ("p5.48xlarge", Some(QuotaFamily::P)),
            ("p6-b200.48xlarge", Some(QuotaFamily::P)),
            ("m7i.large", None),
        ] {
            assert_eq!(QuotaFamily::of(&name.into()), family, "{name}");
        }
    }

    #[test]
    fn our_machines_come_off_the_quota_of_their_region_family_and_market() {
        let capacity = |region: &str, instance_type: &str, capacity_type| Capacity {
            region: region.into(),
            zone: "z".into(),
            instance_type: instance_type.into(),
            capacity_type,
        };
        let quota = |family, capacity_type, vcpus| VcpuQuota { family, capacity_type, vcpus };
        let limits = BTreeMap::from([(
            Region::from("us-east-1"),
            vec![quota(QuotaFamily::GAndVt, CapacityType::Spot, 64), quota(QuotaFamily::P, CapacityType::Spot, 0)],
        )]);
        let ours = [
            (capacity("us-east-1", "g6.xlarge", CapacityType::Spot), 4),
            (capacity("us-east-1", "gr6.4xlarge", CapacityType::Spot), 16),
            (capacity("us-east-1", "g6.xlarge", CapacityType::OnDemand), 4),
            (capacity("us-east-1", "g6.xlarge", CapacityType::Reserved), 4),
            (capacity("eu-west-1", "g6.xlarge", CapacityType::Spot), 4),
        ];
        let left = vcpus_left(&limits, ours.iter().map(|(capacity, vcpus)| (capacity, *vcpus)));
        let of = |instance_type, capacity_type| QuotaKey::of(&capacity("us-east-1", instance_type, capacity_type));
        assert_eq!(of("g6.xlarge", CapacityType::Spot).and_then(|key| left.get(&key).copied()), Some(44));
        assert_eq!(of("p5.48xlarge", CapacityType::Spot).and_then(|key| left.get(&key).copied()), Some(0));
        assert_eq!((of("g6.xlarge", CapacityType::OnDemand).and_then(|key| left.get(&key).copied()), left.len()), (None, 2));
    }
}
