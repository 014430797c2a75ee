//! Step i: what finance sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;

use super::report::StepReport;
use super::stage::{Stage, text};
use super::workloads::NAMESPACE;
use crate::lab::error::LabError;

/// The one query, as finance's read-only user.
const PER_TEAM: &str = "SELECT team, round(sum(spend_usd), 4) AS spend_usd, round(sum(b1_usd), 4) AS on_demand_at_home_usd, \
     round(sum(net_saving_b1_usd), 4) AS net_saving_usd FROM ledger.savings_daily GROUP BY team ORDER BY team";

/// i. Spend, counterfactual and saving per team, by one query and one command; and why a pod is where it is.
pub async fn the_bill(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin('i', "finance: one query, one command, and the decision behind a pod");
    let rows = stage.lab.psql_as_finance(PER_TEAM)?;
    step.happened(format!("{PER_TEAM}\n{rows}"));
    step.check(
        "one query shows spend, on-demand counterfactual and saving per team",
        rows.lines().filter(|l| l.contains('|')).count() >= 3,
    );
    let refused = stage.lab.psql_as_finance("DELETE FROM ledger.decision");
    step.check("finance cannot change a row", refused.is_err());
    let report = stage.lab.lowtide(&["ledger", "savings"])?;
    step.happened(format!("lowtide ledger savings\n{report}"));
    step.check(
        "lowtide ledger savings says it in a sentence first",
        report.lines().next().is_some_and(|l| l.contains("saved") || l.contains("lost") || l.contains("Spend")),
    );
    let pod = stage.pods.all().into_iter().find(|(_, p)| p.app == "chat").map(|(name, _)| name).unwrap_or_default();
    let why = stage.lab.lowtide(&["explain", "pod", &pod, "-n", NAMESPACE])?;
    step.happened(format!("lowtide explain pod {pod}\n{why}"));
    step.check("lowtide explain pod shows the decision with the offers it beat", why.contains("chosen") && why.contains("refused"));
    the_bill_agrees(stage, &mut step).await?;
    stage.end(step, began);
    Ok(())
}

/// What each machine cost by the ledger, in micro-dollars; what was carried between regions is on another line of a bill.
const PER_MACHINE: &str = "SELECT m.instance || ' ' || round(coalesce(sum(s.cost_usd), 0) * 1000000)::bigint FROM ledger.capacity_interval m \
     LEFT JOIN ledger.share s ON s.claim_uid = m.claim_uid AND s.line <> 'egress' GROUP BY m.instance";
/// What finance's reports say all machines cost.
const IN_ALL: &str =
    "SELECT coalesce(round(sum(cost_usd) * 1000000), 0)::bigint FROM ledger.cost_daily WHERE line NOT IN ('egress', 'overhead')";

/// What each machine cost, in micro-dollars, by instance.
type Costs = BTreeMap<String, i64>;

/// The ledger against what the simulator bills from its own records: to the micro-dollar, machine by machine and in all.
async fn the_bill_agrees(stage: &Stage, step: &mut StepReport) -> Result<(), LabError> {
    let bill = stage.lab.ec2("bill").await?;
    let lines = bill.pointer("/lines").and_then(Value::as_array).cloned().unwrap_or_default();
    let amount = |line: &Value| Some((text(line, "/instance_id"), line.pointer("/amount_micro_usd")?.as_i64()?));
    let billed: Costs = lines.iter().filter_map(amount).collect();
    let rows = stage.sql(PER_MACHINE)?;
    let ledger: Costs =
        rows.lines().filter_map(|row| row.split_once(' ')).filter_map(|(id, n)| Some((id.to_owned(), n.parse().ok()?))).collect();
    let reported: i64 = stage.sql(IN_ALL)?.parse().unwrap_or(-1);
    let (all_billed, all_ledgered): (i64, i64) = (billed.values().sum(), ledger.values().sum());
    let free = billed.values().filter(|cost| **cost == 0).count();
    step.happened(format!(
        "EC2's simulated bill: {all_billed} micro-dollars for {} machines ({free} taken back in their first hour: free); the ledger: {all_ledgered}",
        lines.len()
    ));
    let apart = apart(&billed, &ledger);
    apart.iter().for_each(|text| step.happened(text.as_str()));
    step.check("every machine EC2 bills has a known price", billed.len() == lines.len());
    step.check(format!("each of {} machines costs in the ledger what EC2 bills, to the micro-dollar", lines.len()), apart.is_empty());
    step.check("so do all together in finance's reports", reported == all_billed && all_billed > 0);
    Ok(())
}

/// The machines whose cost differs, with both figures.
fn apart(billed: &Costs, ledger: &Costs) -> Vec<String> {
    let machines: BTreeSet<&String> = billed.keys().chain(ledger.keys()).collect();
    let figure = |costs: &Costs, id: &String| costs.get(id).map_or_else(|| "nothing".to_owned(), |cost| format!("{cost} micro-dollars"));
    let differs = machines.into_iter().filter(|id| billed.get(*id) != ledger.get(*id));
    differs.map(|id| format!("{id}: {} on EC2's bill, {} in the ledger", figure(billed, id), figure(ledger, id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_dollar_and_a_missing_machine_are_named() {
        let costs = |all: &[(&str, i64)]| all.iter().map(|(id, cost)| ((*id).to_owned(), *cost)).collect::<Costs>();
        let billed = costs(&[("i-1", 1_522), ("i-2", 0), ("i-3", 7)]);
        assert_eq!(apart(&billed, &billed), Vec::<String>::new());
        let ledger = costs(&[("i-1", 1_523), ("i-2", 0), ("i-4", 0)]);
        assert_eq!(
            apart(&billed, &ledger),
            [
                "i-1: 1522 micro-dollars on EC2's bill, 1523 micro-dollars in the ledger",
                "i-3: 7 micro-dollars on EC2's bill, nothing in the ledger",
                "i-4: nothing on EC2's bill, 0 micro-dollars in the ledger",
            ]
        );
    }
}
