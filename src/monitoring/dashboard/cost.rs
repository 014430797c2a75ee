//! Cost and savings: who pays, net savings, the cost of a request, budgets, and why a month differs from the one before.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-cost",
        title: "lowtide / Cost and savings",
        description: "Spend, net savings against on-demand, cost per request, budgets and reasons for changes.",
        span: "30d",
        rows: vec![now(), money(), units(), why(), budgets()],
    }
}

fn now() -> Row {
    Row {
        title: "Now, according to the operator",
        panels: vec![
            Panel::prometheus(
                "Spend by team",
                "Dollars per hour of machines, by the team whose pods are on them.",
                Draw::Stacked,
                "currencyUSD",
                &[q("sum by (team) (lowtide_spend_dollars_per_hour{@})", "{{team}}")],
            ),
            Panel::prometheus(
                "Saving by team",
                "Dollars per hour against on-demand at home (B1). Below 0 is a loss.",
                Draw::Lines,
                "currencyUSD",
                &[q("sum by (team) (lowtide_saving_dollars_per_hour{@})", "{{team}}")],
            )
            .line(0),
            Panel::prometheus(
                "Anomalies",
                "Services whose cost in the last two hours is anomalous, and the cause.",
                Draw::Table,
                "short",
                &[q("sum by (team, service, cause) (lowtide_cost_anomalies{@}) > 0", "")],
            )
            .may_be_empty("there are no anomalies"),
        ],
    }
}

fn money() -> Row {
    Row {
        title: "Spend and savings, according to the ledger",
        panels: vec![
            Panel::ledger(
                "Net saving",
                "B1 (what the cheapest on-demand at home would have cost for the useful time) less all spend.",
                Draw::Stat,
                "currencyUSD",
                &[q(
                    "SELECT sum(net_saving_b1_usd) AS \"net saving\" FROM ledger.savings_daily WHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date",
                    "",
                )],
            ),
            Panel::ledger(
                "Spend by team, 30 days",
                "Dollars per day.",
                Draw::Stacked,
                "currencyUSD",
                &[q(
                    "SELECT day::timestamp AT TIME ZONE 'UTC' AS time, coalesce(team, '(untagged)') AS metric, sum(cost_usd) AS value FROM ledger.cost_daily\nWHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY 1",
                    "",
                )],
            ),
            Panel::ledger(
                "By service",
                "Spend, what it would have cost, and the net saving.",
                Draw::Table,
                "currencyUSD",
                &[q(
                    "SELECT coalesce(team, '(untagged)') AS team, coalesce(service, '(untagged)') AS service, sum(spend_usd) AS spend, sum(b1_usd) AS b1, sum(net_saving_b1_usd) AS net_saving\nFROM ledger.savings_daily WHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY 3 DESC",
                    "",
                )],
            ),
            Panel::ledger(
                "Breakdown",
                "What was paid for: useful pods, and everything that was of no use.",
                Draw::Bars,
                "currencyUSD",
                &[q(
                    "SELECT line, sum(cost_usd) AS usd FROM ledger.cost_daily WHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1 ORDER BY 2 DESC",
                    "",
                )],
            ),
            Panel::ledger(
                "Saving by deduction",
                "The gross saving and everything that is deducted from it.",
                Draw::Bars,
                "currencyUSD",
                &[q(
                    "SELECT item, sum(usd) AS usd FROM ledger.savings_daily s CROSS JOIN LATERAL (VALUES (1, 'gross', gross_saving_b1_usd), (2, 'boot', -boot_usd), (3, 'idle', -idle_usd), (4, 'drain', -drain_usd), (5, 'moves', -moves_usd), (6, 'lost work', -lost_work_usd), (7, 'egress', -egress_usd), (8, 'overhead', -overhead_usd), (9, 'net', net_saving_b1_usd)) AS d(n, item, usd)\nWHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY n, item ORDER BY n",
                    "",
                )],
            ),
        ],
    }
}

fn units() -> Row {
    Row {
        title: "Cost per request",
        panels: vec![
            Panel::ledger("Cost per unit by day", "Cost (all lines) divided by units, a ratio of sums.", Draw::Lines, "currencyUSD", &[q(
                "SELECT date_trunc('day', hour) AS time, unit || ' ' || coalesce(service, workload_name) AS metric, sum(cost_usd) / nullif(sum(units), 0) AS value\nFROM ledger.unit_cost($__timeFrom(), $__timeTo()) WHERE unit IS NOT NULL GROUP BY 1, 2 ORDER BY 1", "")]).may_be_empty("no workload reports what it produced"),
            Panel::ledger("Percentiles", "P50, P95 and P99 of hours weighted by units: half of all requests fell in hours that cost less than P50.", Draw::Table, "currencyUSD", &[q(
                "WITH hours AS (SELECT coalesce(service, workload_name) AS service, unit, usd_per_unit, sum(units) OVER w AS upto, sum(units) OVER (PARTITION BY coalesce(service, workload_name), unit) AS total\n  FROM ledger.unit_cost($__timeFrom(), $__timeTo()) WHERE units > 0 WINDOW w AS (PARTITION BY coalesce(service, workload_name), unit ORDER BY usd_per_unit, hour))\nSELECT service, unit, min(usd_per_unit) FILTER (WHERE upto >= 0.5 * total) AS p50, min(usd_per_unit) FILTER (WHERE upto >= 0.95 * total) AS p95, min(usd_per_unit) FILTER (WHERE upto >= 0.99 * total) AS p99\nFROM hours GROUP BY 1, 2 ORDER BY 1, 2", "")]).may_be_empty("no workload reports what it produced"),
            Panel::prometheus("Unit cost against the week before", "Over all workloads that report units.", Draw::Table, "currencyUSD", &[q("max by (unit, window) (lowtide_unit_cost_dollars{@})", "")]).may_be_empty("no workload reports what it produced"),
        ],
    }
}

fn why() -> Row {
    Row {
        title: "Why",
        panels: vec![
            Panel::ledger(
                "Bridge",
                "Why each month's cost differs from the month before, in steps that add up exactly.",
                Draw::Table,
                "currencyUSD",
                &[q(
                    "SELECT month, step, sum(difference_usd) AS usd FROM ledger.variance_month WHERE month BETWEEN date_trunc('month', ($__timeFrom())::timestamptz)::date AND ($__timeTo())::date\nGROUP BY month, step_order, step ORDER BY month DESC, step_order",
                    "",
                )],
            )
            .may_be_empty("no full day of this month or of the one before has a cost"),
            Panel::ledger(
                "Largest decisions",
                "The most expensive machines bought, each with its reason.",
                Draw::Table,
                "currencyUSD",
                &[q(
                    "SELECT at, trigger, text, price_usd_h, team FROM ledger.decision WHERE outcome = 'launch' AND at BETWEEN $__timeFrom() AND $__timeTo() ORDER BY price_usd_h DESC NULLS LAST LIMIT 20",
                    "",
                )],
            ),
        ],
    }
}

fn budgets() -> Row {
    Row {
        title: "Budgets",
        panels: vec![
            Panel::prometheus(
                "Budgets spent",
                "This month, as a share of the plan; expected by its end at the pace of the last seven days.",
                Draw::Lines,
                "percentunit",
                &[
                    q(
                        "max by (budget) (lowtide_budget_spent_dollars{@}) / max by (budget) (lowtide_budget_dollars{@})",
                        "{{budget}} spent",
                    ),
                    q(
                        "max by (budget) (lowtide_budget_expected_dollars{@}) / max by (budget) (lowtide_budget_dollars{@})",
                        "{{budget}} expected",
                    ),
                ],
            )
            .line(1)
            .may_be_empty("no budget is entered"),
            Panel::prometheus(
                "Used up",
                "When a budget will be used up at that pace.",
                Draw::Table,
                "dateTimeFromNow",
                &[q("max by (budget) (lowtide_budget_exhausted_timestamp_seconds{@}) * 1000", "{{budget}}")],
            )
            .may_be_empty("no budget will be used up this month"),
            Panel::prometheus(
                "This month by team",
                "Spend and net saving against B1, according to the ledger.",
                Draw::Table,
                "currencyUSD",
                &[
                    q("max by (team) (lowtide_ledger_month_spend_dollars{@})", "{{team}} spend"),
                    q("max by (team) (lowtide_ledger_month_saving_dollars{@})", "{{team}} saving"),
                ],
            )
            .may_be_empty("the operator's login may not read the ledger"),
        ],
    }
}
