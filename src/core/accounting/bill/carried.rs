//! Data carried to another region, which is paid once: posted as egress with the pod that it was carried for, and billed with the machine that sent it.
//!
//! Decides: from which of the bill's lines an egress is taken off.
//! Does not: know which machine sent it (see `ledger::poster`).

use super::laid::running_shares;
use super::{BilledLine, Timestamp};
use crate::core::units::money::BilledUsd;

/// An egress that was posted for a pod that was moved away from a machine, which sent the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarriedAway {
    /// When the move was decided: nothing was sent for it before.
    pub decided_at: Timestamp,
    /// When the pod began to run where it went, with its data: the egress is posted there and then.
    pub at: Timestamp,
    /// How much was posted.
    pub cost: BilledUsd,
}

/// What to take off the machine's `lines` about data carried to another region: off those of the hours from the decision to the pod's start, by what they say, and
/// nothing where they are of other hours. It is taken off where the line stands, so that an hour and a month have what is left of their own lines.
pub fn taken_off(lines: &[BilledLine], posted: &CarriedAway) -> Vec<BilledLine> {
    let is_of = |line: &&BilledLine| line.from <= posted.at && (line.to > posted.decided_at || line.from >= posted.decided_at);
    let of: Vec<&BilledLine> = lines.iter().filter(is_of).collect();
    let said: Vec<i128> = of.iter().map(|line| line.cost.0.max(0)).collect();
    let evenly = vec![1; of.len()];
    let shares = running_shares(-posted.cost.0, if said.iter().sum::<i128>() > 0 { &said } else { &evenly });
    let less = |(line, share): (&BilledLine, i128)| BilledLine { cost: BilledUsd(share), used: None, invoiced: false, ..line.clone() };
    of.into_iter().zip(shares).map(less).filter(|line| line.cost.0 != 0).collect()
}
