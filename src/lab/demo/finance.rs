//! Step i: what finance sees.

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
    let rows = stage.world.psql_as_finance(PER_TEAM)?;
    step.happened(format!("{PER_TEAM}\n{rows}"));
    step.check(
        "one query shows spend, on-demand counterfactual and saving per team",
        rows.lines().filter(|l| l.contains('|')).count() >= 3,
    );
    let refused = stage.world.psql_as_finance("DELETE FROM ledger.decision");
    step.check("finance cannot change a row", refused.is_err());
    let report = stage.world.lowtide(&["ledger", "savings"])?;
    step.happened(format!("lowtide ledger savings\n{report}"));
    step.check(
        "lowtide ledger savings says it in a sentence first",
        report.lines().next().is_some_and(|l| l.contains("saved") || l.contains("lost") || l.contains("Spend")),
    );
    let pod = stage.pods.all().into_iter().find(|(_, p)| p.app == "chat").map(|(name, _)| name).unwrap_or_default();
    let why = stage.world.lowtide(&["explain", "pod", &pod, "-n", NAMESPACE])?;
    step.happened(format!("lowtide explain pod {pod}\n{why}"));
    step.check("lowtide explain pod shows the decision with the offers it beat", why.contains("chosen") && why.contains("refused"));
    the_bill_agrees(stage, &mut step).await?;
    stage.end(step, began);
    Ok(())
}

/// The ledger against what the simulator bills.
async fn the_bill_agrees(stage: &Stage, step: &mut StepReport) -> Result<(), LabError> {
    let bill = stage.world.ec2("bill").await?;
    let billed = bill.pointer("/known_total_micro_usd").and_then(Value::as_i64).unwrap_or_default();
    let ledger: i64 = stage.sql("SELECT round(sum(spend_usd) * 1000000)::bigint FROM ledger.savings_daily")?.parse().unwrap_or_default();
    let unknown = text(&bill, "/lines_of_unknown_price");
    step.happened(format!("EC2's simulated bill: {billed} micro-dollars ({unknown} lines of unknown price); the ledger: {ledger}"));
    let apart = (billed - ledger).abs() * 1_000 / billed.max(1);
    step.happened(format!("they differ by {apart} per mille"));
    step.check("ledger and bill agree within 5 %", apart <= 50);
    Ok(())
}
