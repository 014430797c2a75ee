//! Rows of a FOCUS file that name a machine, or a claim by its tag, until it is known whether it is ours.
//!
//! Decides: that they are added up by machine, payer and day while the file is read: a file has a row for each hour of each machine, and millions of them.
//! Does not: know which machines are ours; the ledger is asked once the files are read.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::super::costs::{Content, Paid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::ledger::store::LedgerFault;

/// By source and month.
pub(super) type OfMachines = BTreeMap<(String, Timestamp), Machines>;

/// An instance's id, and the claim that its tag names; what a row does not say is empty.
type Name = (String, String);

/// What one month of one source says of machines.
#[derive(Debug, Default)]
pub(super) struct Machines {
    machines: BTreeMap<Name, Machine>,
    /// Who pays for what, once each; machines refer to it by its place.
    paid: Vec<Paid>,
    places: BTreeMap<(uuid::Uuid, String, Option<String>), usize>,
}

#[derive(Debug, Default)]
struct Machine {
    rows: usize,
    /// Micro-dollars by what was paid for and by day.
    days: BTreeMap<(usize, Timestamp), i128>,
}

impl Machines {
    /// Adds a row.
    pub(super) fn add(&mut self, [instance, claim_uid]: [Option<&str>; 2], paid: Paid, days: &[(Timestamp, MicroUsd)]) {
        let next = self.paid.len();
        let place = *self.places.entry((paid.owner.id, paid.item.clone(), paid.model.clone())).or_insert(next);
        if place == next {
            self.paid.push(paid);
        }
        let name = (instance.unwrap_or_default().to_owned(), claim_uid.unwrap_or_default().to_owned());
        let machine = self.machines.entry(name).or_default();
        machine.rows += 1;
        for (day, amount) in days {
            *machine.days.entry((place, *day)).or_default() += i128::from(amount.0);
        }
    }

    /// How many rows were added.
    #[cfg(test)]
    pub(super) fn rows(&self) -> usize {
        self.machines.values().map(|machine| machine.rows).sum()
    }
}

/// Adds what is about machines of others; gives how many rows are about machines of ours.
pub(super) async fn without_ours(
    connection: &mut PgConnection,
    of_machines: OfMachines,
    content: &mut Content,
) -> Result<usize, LedgerFault> {
    let names = || of_machines.values().flat_map(|month| month.machines.keys());
    let instances: BTreeSet<&str> = names().map(|(instance, _)| instance.as_str()).collect();
    let instances: Vec<String> = instances.into_iter().map(str::to_owned).collect();
    let claims: BTreeSet<&str> = names().map(|(_, claim_uid)| claim_uid.as_str()).collect();
    let claims: Vec<String> = claims.into_iter().map(str::to_owned).collect();
    let ours = sqlx::query!(
        "SELECT DISTINCT instance, claim_uid FROM ledger.interval_opened WHERE instance = ANY($1) OR claim_uid = ANY($2)",
        &instances,
        &claims
    );
    let ours = ours.fetch_all(&mut *connection).await.map_err(LedgerFault::during("look for machines of ours"))?;
    let (by_id, by_tag): (BTreeSet<String>, BTreeSet<String>) = ours.into_iter().map(|row| (row.instance, row.claim_uid)).unzip();
    let mut left_out = 0;
    for ((source, month), Machines { machines, paid, .. }) in of_machines {
        for ((instance, claim_uid), machine) in machines {
            if by_id.contains(&instance) || by_tag.contains(&claim_uid) {
                left_out += machine.rows;
                continue;
            }
            for ((place, day), micro) in machine.days {
                if let Some(paid) = paid.get(place) {
                    content.add_micro(&source, month, paid, [(day, micro)]);
                }
            }
        }
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::super::super::costs::owner_of;
    use super::*;
    use crate::core::units::time::Millis;
    use crate::core::workload::Attribution;

    /// A million rows, an hour of a machine each: what is kept of them grows with the days, not with the rows.
    #[test]
    fn hours_of_one_machine_are_kept_by_the_day() {
        let mut month = Machines::default();
        let paid = |team: &str| {
            let attribution = Attribution { team: Some(team.into()), ..Attribution::default() };
            Paid { item: "AWS: EC2".to_owned(), owner: owner_of("AWS: EC2", None, attribution), model: None }
        };
        let from = Timestamp::from_date(2026, 7, 1);
        for hour in 0..720 {
            for (machine, team) in [("i-1", "search"), ("i-2", "search"), ("i-2", "ads")] {
                month.add([Some(machine), None], paid(team), &[(from + Millis::from_hours(hour / 24 * 24), MicroUsd(10))]);
            }
        }
        assert_eq!((month.rows(), month.paid.len(), month.machines.len()), (3 * 720, 2, 2));
        let kept: Vec<&i128> = month.machines.values().flat_map(|machine| machine.days.values()).collect();
        assert_eq!((kept.len(), kept.iter().all(|micro| **micro == 240)), (90, true));
    }
}
