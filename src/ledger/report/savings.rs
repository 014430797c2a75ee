//! What was saved, net of everything it cost to save it.
//!
//! Decides: the deductions, and the sentence. Spend of which it is not known what would have been bought otherwise is on neither side. Does not: hide a loss.

use sqlx::PgConnection;

use super::{Days, IN_DAYS, Keys, Only, Report, ask, cents, condition, dollars, known_by, with_day_of_knowledge};
use crate::core::units::money::MicroUsd;
use crate::ledger::store::LedgerFault;

/// The statement behind [`savings`]: `$1` is the first day and `$2` the day after the last; NULL for the last 30 days. `as_of`: of what was known by the day
/// that the session's `lowtide.as_of` names.
pub fn savings_sql(keys: &Keys, only: &[Only], as_of: bool) -> String {
    let (named, names, columns, condition) = (keys.named(), keys.names(), keys.columns(), condition(only));
    // Sums by owner and line first, and what is rolled up apart from the few shares that are not: of both together the planner expects so
    // many groups that it sorts all sums, and by one process.
    let sums_of = |view: &str| {
        format!(
            "SELECT {named}, line, sum(cost_usd) AS spend, sum(b0_usd) AS b0, sum(b1_usd) AS b1, sum(b2_usd) AS b2, sum(without_b1_usd) AS no_b1,
                    sum(feed_usd) AS feed, sum(bill_usd) AS bill, bool_or(running) AS running
             FROM ledger.{view} WHERE {IN_DAYS}{condition} GROUP BY {names}, line"
        )
    };
    let sums = match as_of {
        false => format!("{} UNION ALL {}", sums_of("share_rolled_up"), sums_of("share_not_rolled_up")),
        true => sums_of("share_as_of"),
    };
    format!(
        "WITH a AS ({sums}), s AS (
             SELECT {names}, grouping(key0) AS is_total,
                    coalesce(sum(spend) FILTER (WHERE ledger.is_use(line)), 0) AS spend, sum(b0) AS b0,
                    sum(b1) AS b1, sum(b2) AS b2, sum(no_b1) AS no_b1, bool_or(running) AS running,
                    coalesce(sum(feed) FILTER (WHERE ledger.is_use(line)), 0) AS feed, coalesce(sum(bill) FILTER (WHERE ledger.is_use(line)), 0) AS bill,
                    sum(spend) FILTER (WHERE line = 'pod') AS useful, sum(spend) FILTER (WHERE line = 'boot') AS boot,
                    sum(spend) FILTER (WHERE line = 'idle') AS idle, sum(spend) FILTER (WHERE line = 'drain') AS drain,
                    sum(spend) FILTER (WHERE line = 'double-running') AS moves, sum(spend) FILTER (WHERE line = 'lost-work') AS lost,
                    sum(spend) FILTER (WHERE line = 'egress') AS egress, sum(spend) FILTER (WHERE NOT ledger.is_use(line)) AS beside
             FROM a GROUP BY GROUPING SETS (({names}), ()) HAVING count(*) > 0
         )
         SELECT {columns}, spend::numeric(24,6)::text AS spend_usd, b0::numeric(24,6)::text AS b0_usd, b1::numeric(24,6)::text AS b1_usd,
                b2::numeric(24,6)::text AS b2_usd, (b1 - coalesce(useful, 0) + no_b1)::numeric(24,6)::text AS gross_saving_usd,
                coalesce(boot, 0)::numeric(24,6)::text AS boot_usd, coalesce(idle, 0)::numeric(24,6)::text AS idle_usd,
                coalesce(drain, 0)::numeric(24,6)::text AS drain_usd, coalesce(moves, 0)::numeric(24,6)::text AS moves_usd,
                coalesce(lost, 0)::numeric(24,6)::text AS lost_work_usd, coalesce(egress, 0)::numeric(24,6)::text AS egress_usd,
                (b1 - spend + no_b1)::numeric(24,6)::text AS net_saving_usd,
                round(100 * (b1 - spend + no_b1) / nullif(b1, 0), 1)::text AS net_saving_percent, no_b1::numeric(24,6)::text AS spend_without_b1_usd,
                ledger.basis_of(running, spend, feed, bill, 0) AS basis, coalesce(beside, 0)::numeric(24,6)::text AS beside_usd
         FROM s ORDER BY is_total, spend DESC, {names}"
    )
}

/// Spend, what it would have cost otherwise, and what was saved, net.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn savings(connection: &mut PgConnection, days: &Days, by: impl Into<Keys>, only: &[Only]) -> Result<Report, LedgerFault> {
    let as_of = known_by(connection).await?.is_some();
    let sql = savings_sql(&by.into(), only, as_of);
    let mut report = ask(connection, sql, days).await?;
    report.sentence = savings_sentence(&report);
    with_day_of_knowledge(connection, report).await
}

/// The headline, from the row of totals.
fn savings_sentence(report: &Report) -> String {
    let Some(total) = report.rows.last() else { return "No spend is recorded for these days.".into() };
    let text = |name: &str| report.columns.iter().position(|c| c == name).and_then(|at| total.get(at)).and_then(|v| v.as_deref());
    let usd = |name: &str| text(name).and_then(|v| v.parse::<MicroUsd>().ok()).unwrap_or_default();
    let (net, without) = (usd("net_saving_usd"), usd("spend_without_b1_usd"));
    // What moving costs: running twice, data carried, work done again.
    let moves = usd("moves_usd") + usd("egress_usd") + usd("lost_work_usd");
    let percent = text("net_saving_percent").map_or_else(|| "no".to_owned(), |p| p.trim_start_matches('-').to_owned());
    let mut sentence = if usd("b1_usd") == MicroUsd(0) && usd("spend_usd") == MicroUsd(0) {
        "No spend of machines is recorded for these days.".to_owned()
    } else if usd("b1_usd") == MicroUsd(0) && without.0 <= 0 {
        format!(
            "Spend was ${}, and none of it was useful time: a loss of ${}; moves cost ${}.",
            cents(usd("spend_usd")),
            cents(usd("spend_usd")),
            cents(moves)
        )
    } else if usd("b1_usd") == MicroUsd(0) {
        format!("Spend was ${}; the price of on-demand is not known for any of it; moves cost ${}.", cents(usd("spend_usd")), cents(moves))
    } else if net.0 >= 0 {
        format!("Spot saved ${} net ({percent} %) against the on-demand you would have bought; moves cost ${}.", cents(net), cents(moves))
    } else {
        format!("Spot lost ${} net ({percent} %) against the on-demand you would have bought; moves cost ${}.", cents(-net), cents(moves))
    };
    if without.0 > 0 && usd("b1_usd").0 > 0 {
        sentence.push_str(&format!(" For ${} of spend the on-demand price is unknown: it is on neither side of this.", cents(without)));
    }
    if usd("beside_usd") != MicroUsd(0) {
        sentence.push_str(&format!(
            " {} of other costs, credits and charges besides the machines counts toward no saving.",
            dollars(usd("beside_usd"))
        ));
    }
    if text("basis") == Some("running") {
        sentence.push_str(" Machines still running are counted up to now.");
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(spend: &str, b1: &str, net: &str, percent: Option<&str>, without: &str) -> Report {
        let columns = ["spend_usd", "b1_usd", "net_saving_usd", "net_saving_percent", "moves_usd", "spend_without_b1_usd", "basis"];
        let row = [Some(spend), Some(b1), Some(net), percent, Some("0.250000"), Some(without), Some("estimate")];
        Report {
            sentence: String::new(),
            columns: columns.map(String::from).to_vec(),
            rows: vec![row.map(|v| v.map(String::from)).to_vec()],
        }
    }

    #[test]
    fn a_loss_is_called_a_loss() {
        assert_eq!(
            savings_sentence(&total("31.900000", "100.004000", "68.104000", Some("68.1"), "0.000000")),
            "Spot saved $68.10 net (68.1 %) against the on-demand you would have bought; moves cost $0.25."
        );
        assert_eq!(
            savings_sentence(&total("1.022800", "0.804800", "-0.218000", Some("-27.1"), "0.000000")),
            "Spot lost $0.218 net (27.1 %) against the on-demand you would have bought; moves cost $0.25."
        );
        let none = savings_sentence(&total("0.000000", "0.000000", "0.000000", None, "0.000000"));
        assert_eq!(none, "No spend of machines is recorded for these days.");
        assert!(savings_sentence(&total("5.000000", "0.000000", "-5.000000", None, "5.000000")).contains("not known for any of it"));
        // Idle time earns no B1, whatever is known of prices.
        assert_eq!(
            savings_sentence(&total("5.000000", "0.000000", "-5.000000", None, "0.000000")),
            "Spend was $5.00, and none of it was useful time: a loss of $5.00; moves cost $0.25."
        );
        assert!(savings_sentence(&total("5.000000", "9.000000", "4.000000", Some("44.4"), "1.500000")).contains("For $1.50 of spend"));
    }
}
