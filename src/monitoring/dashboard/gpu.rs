//! GPU use and waste as far as lowtide knows: which GPUs a pod holds. Whether the pod uses them is not measured here.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-gpu",
        title: "lowtide / GPU use and waste",
        description: "GPUs held by pods and GPUs held by nobody, in dollars. GPU utilisation is not measured.",
        span: "7d",
        rows: vec![
            Row {
                title: "Now",
                panels: vec![
                    Panel::prometheus(
                        "GPUs by state",
                        "Allocated to a pod, or idle.",
                        Draw::Stacked,
                        "short",
                        &[q("sum by (state) (lowtide_gpus{@})", "{{state}}")],
                    ),
                    Panel::prometheus(
                        "Allocated share by node pool",
                        "GPUs held by a pod, as a share of all that are paid for.",
                        Draw::Lines,
                        "percentunit",
                        &[q("sum by (pool) (lowtide_gpus{@,state=\"allocated\"}) / (sum by (pool) (lowtide_gpus{@}) > 0)", "{{pool}}")],
                    ),
                    Panel::prometheus(
                        "Idle spend",
                        "Dollars per hour for GPUs that no pod holds, including boots, gaps and drains.",
                        Draw::Lines,
                        "currencyUSD",
                        &[q(
                            "sum by (capacity_type) (lowtide_spend_dollars_per_hour{@,team=\"(idle)\"}) or vector(0)",
                            "{{capacity_type}}",
                        )],
                    ),
                ],
            },
            Row {
                title: "According to the ledger",
                panels: vec![
                    Panel::ledger(
                        "GPU-hours by line",
                        "Useful time, and all other time that was paid for.",
                        Draw::Stacked,
                        "h",
                        &[q(
                            "SELECT day::timestamp AT TIME ZONE 'UTC' AS time, line AS metric, sum(gpu_hours) AS value FROM ledger.cost_daily\nWHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY 1",
                            "",
                        )],
                    ),
                    Panel::ledger(
                        "Waste by owner",
                        "Dollars for boot, idle and drain, charged to whoever the machine was bought for.",
                        Draw::Table,
                        "currencyUSD",
                        &[q(
                            "SELECT coalesce(team, '(untagged)') AS team, coalesce(workload_name, '(none)') AS workload, sum(cost_usd) FILTER (WHERE line = 'boot') AS boot, sum(cost_usd) FILTER (WHERE line = 'idle') AS idle, sum(cost_usd) FILTER (WHERE line = 'drain') AS drain, sum(cost_usd) AS usd\nFROM ledger.cost_daily WHERE line IN ('boot', 'idle', 'drain') AND day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY usd DESC LIMIT 50",
                            "",
                        )],
                    ),
                    Panel::ledger(
                        "Useful share by type",
                        "Share of each machine type's cost during which it served or computed.",
                        Draw::Bars,
                        "percentunit",
                        &[q(
                            "SELECT instance_type, sum(cost_usd) FILTER (WHERE line = 'pod') / nullif(sum(cost_usd), 0) AS useful FROM ledger.cost_daily\nWHERE instance_type IS NOT NULL AND day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1 ORDER BY 1",
                            "",
                        )],
                    ),
                ],
            },
        ],
    }
}
