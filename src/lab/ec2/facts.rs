//! What the published facts say: GPU types, where they are offered, and what they cost. Unknown stays unknown.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;

const TYPES: &str = include_str!("../../../data/catalog/gpu_instance_types.csv");
const OFFERINGS: &str = include_str!("../../../data/catalog/gpu_offerings.csv");
const PRICES: &str = include_str!("../../../data/catalog/gpu_prices.csv");
const ADVISOR: &str = include_str!("../../../data/catalog/spot_advisor.csv");

/// A fact file that does not read as it must.
#[derive(Debug, thiserror::Error)]
#[error("catalog file {file}, row {row}: expected {expected} in column {column}, found {found:?}; correct the file under data/catalog")]
pub struct BadFact {
    file: &'static str,
    row: usize,
    column: &'static str,
    expected: &'static str,
    found: String,
}

/// One instance type, as `DescribeInstanceTypes` words it.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeFacts {
    /// The type's name.
    pub name: InstanceType,
    /// As EC2 spells it: `L4`, `A10G`, `H100`.
    pub gpu_model: String,
    /// Whole GPUs; 0 for fractional types.
    pub gpu_count: u32,
    /// GPUs the guest sees; 1 for fractional types.
    pub logical_gpu_count: u32,
    /// Share of a whole GPU, in eighths as EC2 writes it: `0.125` to `1.0`.
    pub gpu_partition_size: String,
    /// Memory of one (logical) GPU, where known.
    pub gpu_memory_mib: Option<u32>,
    /// Default vCPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Instance storage; `None` is unknown, 0 is none.
    pub nvme_gb: Option<u64>,
    /// As in `Up to 10 Gigabit`.
    pub network_performance: String,
    /// Network cards, where known.
    pub network_cards: Option<u32>,
    /// Elastic Fabric Adapters, where known.
    pub efa_interfaces: Option<u32>,
    /// EBS volumes that can be attached, where known.
    pub ebs_attachments: Option<u32>,
    /// Network interfaces count among them.
    pub ebs_shared: bool,
    /// `on-demand`, `spot`, `capacity-block`.
    pub usage_classes: Vec<String>,
    /// EC2's own flag.
    pub current_generation: bool,
    /// Whether it runs without a hypervisor.
    pub bare_metal: bool,
}

/// All facts of the catalog.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Every GPU type known.
    pub types: BTreeMap<InstanceType, TypeFacts>,
    /// Which zone offers which types.
    pub offered: BTreeMap<ZoneId, BTreeSet<InstanceType>>,
    /// The zones of each region that offer anything, local zones included.
    pub zones: BTreeMap<Region, BTreeSet<ZoneId>>,
    /// Spot price per zone and type, where there is a row.
    pub spot: BTreeMap<(ZoneId, InstanceType), MicroUsdPerHour>,
    /// On-demand price per region and type, where there is a row.
    pub on_demand: BTreeMap<(Region, InstanceType), MicroUsdPerHour>,
    /// The spot advisor's interruption bucket, 0 ("<5%") to 4 (">20%").
    pub interruption_bucket: BTreeMap<(Region, InstanceType), u8>,
}

/// One row of a fact file, read by column name.
struct Row<'a> {
    file: &'static str,
    number: usize,
    headers: &'a csv::StringRecord,
    record: csv::StringRecord,
}

impl Row<'_> {
    fn text(&self, column: &'static str) -> Result<&str, BadFact> {
        let index = self.headers.iter().position(|name| name == column);
        index.and_then(|at| self.record.get(at)).ok_or_else(|| self.bad(column, "a column of that name"))
    }
    fn bad(&self, column: &'static str, expected: &'static str) -> BadFact {
        let found = self.record.iter().collect::<Vec<_>>().join(",");
        BadFact { file: self.file, row: self.number, column, expected, found }
    }
    /// A number; empty is unknown. Real-valued cells (`30.5` GiB) are scaled by `scale` and rounded.
    fn number(&self, column: &'static str, scale: f64) -> Result<Option<u64>, BadFact> {
        match self.text(column)? {
            "" => Ok(None),
            text => match text.parse::<f64>() {
                Ok(value) if value >= 0.0 => Ok(Some((value * scale).round() as u64)),
                _ => Err(self.bad(column, "a number")),
            },
        }
    }
    fn small(&self, column: &'static str) -> Result<Option<u32>, BadFact> {
        self.number(column, 1.0)?.map(|n| u32::try_from(n).map_err(|_| self.bad(column, "a number below 2^32"))).transpose()
    }
    fn needed(&self, column: &'static str) -> Result<u32, BadFact> {
        self.small(column)?.ok_or_else(|| self.bad(column, "a number"))
    }
    fn price(&self, column: &'static str) -> Result<Option<MicroUsdPerHour>, BadFact> {
        match self.text(column)? {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| self.bad(column, "dollars per hour")),
        }
    }
}

fn each_row(file: &'static str, text: &str, mut each: impl FnMut(&Row<'_>) -> Result<(), BadFact>) -> Result<(), BadFact> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let unreadable = |row, error: csv::Error| BadFact { file, row, column: "(all)", expected: "CSV", found: error.to_string() };
    let headers = reader.headers().map_err(|error| unreadable(1, error))?.clone();
    for (index, record) in reader.records().enumerate() {
        let number = index + 2;
        each(&Row { file, number, headers: &headers, record: record.map_err(|error| unreadable(number, error))? })?;
    }
    Ok(())
}

fn type_facts(row: &Row<'_>) -> Result<TypeFacts, BadFact> {
    Ok(TypeFacts {
        name: row.text("type")?.into(),
        gpu_model: row.text("gpu_model")?.to_owned(),
        gpu_count: row.needed("gpu_count")?,
        logical_gpu_count: row.needed("logical_gpu_count")?,
        gpu_partition_size: row.text("gpu_partition_size")?.to_owned(),
        gpu_memory_mib: row.small("gpu_mem_mib_each")?,
        vcpus: row.needed("vcpu")?,
        memory_mib: row.number("mem_gib", 1024.0)?.ok_or_else(|| row.bad("mem_gib", "a number"))?,
        architecture: row.text("arch")?.to_owned(),
        nvme_gb: row.number("nvme_gb", 1.0)?,
        network_performance: row.text("network_performance")?.to_owned(),
        network_cards: row.small("network_cards")?,
        efa_interfaces: row.small("efa_max")?,
        ebs_attachments: row.small("ebs_attachments")?,
        ebs_shared: row.text("ebs_attachments_shared")? == "true",
        usage_classes: row.text("usage_classes")?.split('|').map(str::to_owned).collect(),
        current_generation: row.text("current_generation")? == "true",
        bare_metal: row.text("bare_metal")? == "true",
    })
}

impl Facts {
    /// The facts shipped with lowtide (`data/catalog`, sources in its `SOURCES.md`).
    ///
    /// # Errors
    /// [`BadFact`] names the file, row and column that does not read.
    pub fn shipped() -> Result<Facts, BadFact> {
        let mut facts = Facts::default();
        each_row("gpu_instance_types.csv", TYPES, |row| {
            let it = type_facts(row)?;
            facts.types.insert(it.name.clone(), it);
            Ok(())
        })?;
        each_row("gpu_offerings.csv", OFFERINGS, |row| {
            facts.offer(row.text("region")?.into(), row.text("az_id")?.into(), row.text("type")?.into());
            Ok(())
        })?;
        each_row("gpu_prices.csv", PRICES, |row| {
            let (region, it): (Region, InstanceType) = (row.text("region")?.into(), row.text("type")?.into());
            if let Some(price) = row.price("on_demand_usd_h")? {
                facts.on_demand.entry((region.clone(), it.clone())).or_insert(price);
            }
            if let Some(price) = row.price("spot_usd_h")? {
                let zone: ZoneId = row.text("az_id")?.into();
                facts.spot.insert((zone.clone(), it.clone()), price);
                // A capacity with a spot price is offered; the offerings file does not cover local zones.
                facts.offer(region, zone, it);
            }
            Ok(())
        })?;
        each_row("spot_advisor.csv", ADVISOR, |row| {
            let bucket = row.needed("interruption_index")?;
            let bucket = u8::try_from(bucket).map_err(|_| row.bad("interruption_index", "0 to 4"))?;
            facts.interruption_bucket.insert((row.text("region")?.into(), row.text("type")?.into()), bucket);
            Ok(())
        })?;
        Ok(facts)
    }

    fn offer(&mut self, region: Region, zone: ZoneId, it: InstanceType) {
        self.zones.entry(region).or_default().insert(zone.clone());
        self.offered.entry(zone).or_default().insert(it);
    }

    /// Whether `zone` offers `it` at all.
    pub fn is_offered(&self, zone: &ZoneId, it: &InstanceType) -> bool {
        self.offered.get(zone).is_some_and(|types| types.contains(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_facts_read_and_say_what_the_sources_say() {
        let facts = Facts::shipped().unwrap();
        assert_eq!(facts.types.len(), 78);
        let fraction = &facts.types[&"g6f.large".into()];
        assert_eq!((fraction.gpu_count, fraction.logical_gpu_count, fraction.gpu_memory_mib), (0, 1, Some(2861)));
        assert_eq!(facts.types[&"p2.xlarge".into()].memory_mib, 62_464);
        assert_eq!(facts.spot[&("eus2-az3".into(), "g6.xlarge".into())], MicroUsdPerHour(91_300));
        assert_eq!(facts.on_demand[&("us-east-1".into(), "g6.xlarge".into())], MicroUsdPerHour(804_800));
        assert!(facts.is_offered(&"use1-atl2-az1".into(), &"p5.48xlarge".into()));
        assert!(!facts.spot.contains_key(&("use1-az4".into(), "g5.xlarge".into())), "g5 spot rows were never taken");
    }
}
