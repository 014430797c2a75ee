//! What moving data from one region to another costs.
//!
//! Decides: the price per GiB of each pair of regions, from AWS's list prices as shipped.
//! Does not: know what must be moved (see `need`), or spread the cost over time (see `placement`).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::core::units::ids::Region;
use crate::core::units::money::MicroUsd;

/// Prices per pair, dated in `data/catalog/SOURCES.md`. A row `FROM,*` applies to every destination without a row of its own.
const PRICES: &str = include_str!("../../../data/catalog/egress_prices.csv");
const ANYWHERE: &str = "*";

/// What moving data out of a region costs, per GiB. Free within a region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EgressPrices {
    /// By source, then by destination, if that differs from the source's usual price.
    between: BTreeMap<Region, BTreeMap<Region, MicroUsd>>,
    /// By source, for all other destinations.
    from: BTreeMap<Region, MicroUsd>,
    /// For sources that are not known.
    otherwise: MicroUsd,
}

#[derive(Deserialize)]
struct Row {
    from_region: String,
    to_region: String,
    usd_per_gb: String,
}

impl EgressPrices {
    /// One price between all regions.
    pub fn flat(per_gib: MicroUsd) -> Self {
        EgressPrices { otherwise: per_gib, ..EgressPrices::default() }
    }

    /// AWS's list prices as shipped. An unknown source costs as much as the most expensive known one, so that moving data is never assumed
    /// cheaper than it is.
    pub fn snapshot() -> Arc<Self> {
        static SNAPSHOT: LazyLock<Arc<EgressPrices>> = LazyLock::new(|| Arc::new(EgressPrices::read()));
        Arc::clone(&SNAPSHOT)
    }

    fn read() -> Self {
        // The shipped file is part of the program; a test reads every row.
        let rows = csv::Reader::from_reader(PRICES.as_bytes()).into_deserialize::<Row>().filter_map(Result::ok);
        let mut prices = EgressPrices::default();
        for row in rows {
            // AWS bills data transfer in GB of 2^30 bytes, so its price per GB is one per GiB.
            let Ok(price) = row.usd_per_gb.parse::<MicroUsd>() else { continue };
            prices.otherwise = prices.otherwise.max(price);
            if row.to_region == ANYWHERE {
                prices.from.insert(row.from_region.into(), price);
            } else {
                prices.between.entry(row.from_region.into()).or_default().insert(row.to_region.into(), price);
            }
        }
        prices
    }

    /// The price per GiB from `from` to `to`.
    pub fn per_gib(&self, from: &Region, to: &Region) -> MicroUsd {
        if from == to {
            return MicroUsd(0);
        }
        let pair = self.between.get(from).and_then(|to_where| to_where.get(to));
        pair.or_else(|| self.from.get(from)).copied().unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use crate::core::market::egress::*;

    #[test]
    fn no_row_of_the_shipped_file_is_lost_and_known_pairs_cost_what_aws_lists() {
        let rows: Vec<Row> = csv::Reader::from_reader(PRICES.as_bytes()).into_deserialize().map(Result::unwrap).collect();
        assert!(rows.iter().all(|row| row.usd_per_gb.parse::<MicroUsd>().is_ok()));
        assert_eq!(rows.len(), PRICES.lines().count() - 1);
        let prices = EgressPrices::snapshot();
        let of = |from: &str, to: &str| prices.per_gib(&from.into(), &to.into()).0;
        assert_eq!(of("us-east-1", "us-east-2"), 10_000);
        assert_eq!(of("us-east-1", "eu-west-1"), 20_000);
        assert_eq!(of("af-south-1", "us-east-1"), 147_000);
        assert_eq!(of("sa-east-1", "sa-east-1"), 0);
        assert_eq!(of("moon-1", "us-east-1"), 150_000, "an unknown source costs as much as the most expensive known");
    }
}
