//! GPU use and waste: which GPUs a pod holds, and how hard they work, as NVIDIA's DCGM exporter says and as the ledger puts it in dollars.
//!
//! Source: dcgm-exporter, "etc/default-counters.csv". The exporter is a job of its own, so that its series are chosen by cluster alone.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-gpu",
        title: "lowtide / GPU use and waste",
        description: "GPUs held by pods and GPUs held by nobody, and how hard the held ones work, in dollars.",
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
            work(),
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

fn work() -> Row {
    Row {
        title: "How hard they work",
        panels: vec![
            Panel::prometheus(
                "Engine activity",
                "Share of the time in which a GPU's engine was active, by namespace of the pod that holds it. Memory in use says nothing: serving engines take all of it.",
                Draw::Lines,
                "percentunit",
                &[q(
                    "avg by (namespace) (label_replace(DCGM_FI_PROF_GR_ENGINE_ACTIVE{cluster=~\"$cluster\"}, \"namespace\", \"$1\", \"exported_namespace\", \"(.+)\"))",
                    "{{namespace}}",
                )],
            )
            .may_be_empty("NVIDIA's DCGM exporter is not scraped"),
            Panel::prometheus(
                "Held and idle, 24 hours",
                "Dollars of the last 24 hours for GPUs that pods held, by team: while they were active, idle, or not measured. What the alert on held and idle GPUs reads.",
                Draw::Table,
                "currencyUSD",
                &[q("max by (team, use) (lowtide_ledger_gpu_use_dollars{@})", "")],
            )
            .may_be_empty("the operator's login may not read the ledger"),
            Panel::ledger(
                "Useful cost by use",
                "Dollars per day of useful pod time: while GPUs were active, while they were held and idle, and while nobody read them.",
                Draw::Stacked,
                "currencyUSD",
                &[q(
                    "SELECT u.day::timestamp AT TIME ZONE 'UTC' AS time, p.metric, sum(p.usd) AS value\nFROM ledger.gpu_use_of(date_trunc('day', ($__timeFrom())::timestamptz, 'UTC'), $__timeTo()) u CROSS JOIN LATERAL (VALUES ('active', u.active_usd), ('held, idle', u.idle_usd), ('unmeasured', u.unmeasured_usd)) AS p(metric, usd)\nGROUP BY 1, 2 ORDER BY 1",
                    "",
                )],
            ),
            Panel::ledger(
                "Held and idle by owner",
                "Who pays most for GPUs that are held and do nothing. Use is active time as a share of the measured.",
                Draw::Table,
                "currencyUSD",
                &[q(
                    "SELECT coalesce(team, '(untagged)') AS team, coalesce(workload_name, '(none)') AS workload, sum(idle_usd) AS idle, sum(active_usd) AS active, sum(unmeasured_usd) AS unmeasured, sum(cost_usd) AS usd, round(100 * sum(active_gpu_hours) / nullif(sum(active_gpu_hours + idle_gpu_hours), 0), 1) AS use_percent\nFROM ledger.gpu_use_of(date_trunc('day', ($__timeFrom())::timestamptz, 'UTC'), $__timeTo()) GROUP BY 1, 2 ORDER BY idle DESC, usd DESC LIMIT 50",
                    "",
                )],
            ),
        ],
    }
}
