//! What a simulated run cost: a running total, and beside it the rows a ledger would hold.
//!
//! Decides: nothing. The total is added up tick by tick and the rows are merged spans priced once, so that their sum proves
//! the total (as INV-5 does for the operator).

use crate::core::units::money::{MicroUsd, MicroUsdMillis, MicroUsdPerHour};
use crate::core::units::time::Millis;
use serde::Serialize;

/// What a row pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Charge {
    /// A spot instance.
    Spot,
    /// An on-demand instance.
    OnDemand,
    /// Data carried between regions.
    Egress,
}

/// One row: `count` instances of one kind in one zone at one rate from one tick to another, or one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CostRow {
    /// What it pays for.
    pub charge: Charge,
    /// The zone's index in the market.
    pub zone: usize,
    /// The first tick.
    pub from_tick: usize,
    /// The tick after the last.
    pub until_tick: usize,
    /// Instances.
    pub count: u32,
    /// The rate of one instance; zero for a transfer.
    pub rate: MicroUsdPerHour,
    /// The price of a transfer; zero for instances.
    pub transfer: MicroUsd,
}

const HOUR: i128 = 3_600_000;

impl CostRow {
    /// What this row comes to, with ticks of `tick`.
    pub fn amount(&self, tick: Millis) -> MicroUsdMillis {
        let held = self.rate.over(Millis(tick.0 * (self.until_tick - self.from_tick) as i64));
        MicroUsdMillis(held.0 * i128::from(self.count) + i128::from(self.transfer.0) * HOUR)
    }
}

/// A running total and its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    /// The total, added tick by tick.
    pub total: MicroUsdMillis,
    /// The part of it that is egress.
    pub egress: MicroUsdMillis,
    /// The rows, in order of their last tick.
    pub rows: Vec<CostRow>,
    /// For each charge and zone, the row still growing.
    open: Vec<(Charge, usize, usize)>,
}

impl Bill {
    /// `count` instances ran through tick `at` for `rate` each.
    pub fn hold(&mut self, charge: Charge, zone: usize, at: usize, count: u32, rate: MicroUsdPerHour, tick: Millis) {
        if count == 0 {
            return;
        }
        self.total = self.total + MicroUsdMillis(rate.over(tick).0 * i128::from(count));
        let slot = self.open.iter().position(|(c, z, _)| *c == charge && *z == zone);
        if let Some(row) = slot.and_then(|s| self.rows.get_mut(self.open[s].2))
            && row.until_tick == at
            && row.rate == rate
            && row.count == count
        {
            row.until_tick = at + 1;
            return;
        }
        self.rows.push(CostRow { charge, zone, from_tick: at, until_tick: at + 1, count, rate, transfer: MicroUsd(0) });
        let row = self.rows.len() - 1;
        match slot {
            Some(s) => self.open[s].2 = row,
            None => self.open.push((charge, zone, row)),
        }
    }
    /// A transfer into `zone` at tick `at`.
    pub fn transfer(&mut self, zone: usize, at: usize, price: MicroUsd) {
        if price.0 == 0 {
            return;
        }
        let amount = MicroUsdMillis(i128::from(price.0) * HOUR);
        self.total = self.total + amount;
        self.egress = self.egress + amount;
        let row =
            CostRow { charge: Charge::Egress, zone, from_tick: at, until_tick: at, count: 0, rate: MicroUsdPerHour(0), transfer: price };
        self.rows.push(row);
    }
    /// The sum of the rows; equal to `total` always.
    pub fn sum_of_rows(&self, tick: Millis) -> MicroUsdMillis {
        self.rows.iter().map(|r| r.amount(tick)).sum()
    }
}
