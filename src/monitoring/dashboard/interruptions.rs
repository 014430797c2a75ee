//! Interruptions: from notice to Ready by phase compared with the deadline, what was lost, and where capacity is reclaimed.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-interruptions",
        title: "lowtide / Interruptions",
        description: "How fast work moves when EC2 takes a machine, and what it costs.",
        span: "24h",
        rows: vec![counts(), phases(), recorded()],
    }
}

fn counts() -> Row {
    Row {
        title: "Notices and moves",
        panels: vec![
            Panel::prometheus(
                "Notices",
                "Messages of the interruption queues, per second.",
                Draw::Stacked,
                "ops",
                &[q("sum by (region, kind) (rate(lowtide_notices_total{@}[$__rate_interval]))", "{{region}} {{kind}}")],
            ),
            Panel::prometheus(
                "Machines taken",
                "Machines of ours for which EC2 sent an interruption notice.",
                Draw::Stacked,
                "ops",
                &[q(
                    "sum by (region, capacity_type) (rate(lowtide_interruptions_total{@}[$__rate_interval]))",
                    "{{region}} {{capacity_type}}",
                )],
            ),
            Panel::prometheus(
                "Moves by cause",
                "Decisions to move work off a machine.",
                Draw::Stacked,
                "ops",
                &[q("sum by (trigger, kind) (rate(lowtide_moves_total{@}[$__rate_interval]))", "{{trigger}} {{kind}}")],
            ),
            Panel::prometheus(
                "Expected interruptions",
                "Per hour, for the machines running now, from what was learned about their capacity pools and from AWS's advisor.",
                Draw::Lines,
                "short",
                &[q("sum by (pool) (lowtide_expected_interruptions_per_hour{@})", "{{pool}}")],
            ),
            Panel::prometheus(
                "Warnings and what came of them",
                "Rebalance recommendations for our machines by capacity pool: followed by a notice, or not within an hour.",
                Draw::Lines,
                "short",
                &[q("sum by (zone, instance_type, outcome) (lowtide_rebalance_warnings{@})", "{{zone}} {{instance_type}} {{outcome}}")],
            )
            .may_be_empty("EC2 has warned of none of our machines, or what came of it is not known yet"),
        ],
    }
}

fn phases() -> Row {
    Row {
        title: "From notice to Ready",
        panels: vec![
            Panel::prometheus(
                "Moves, notice to Ready",
                "95th percentile and median by kind of work, against EC2's two minutes.",
                Draw::Lines,
                "s",
                &[
                    q(
                        "histogram_quantile(0.95, sum by (kind, le) (rate(lowtide_move_duration_seconds_bucket{@}[$__rate_interval])))",
                        "{{kind}} p95",
                    ),
                    q(
                        "histogram_quantile(0.5, sum by (kind, le) (rate(lowtide_move_duration_seconds_bucket{@}[$__rate_interval])))",
                        "{{kind}} p50",
                    ),
                ],
            )
            .line(120),
            Panel::prometheus(
                "Mean of each phase",
                "Where the time goes: there is no boot if the next machine is already there.",
                Draw::Stacked,
                "s",
                &[q(
                    "sum by (phase) (rate(lowtide_move_phase_seconds_sum{@}[$__rate_interval])) / sum by (phase) (rate(lowtide_move_phase_seconds_count{@}[$__rate_interval]))",
                    "{{phase}}",
                )],
            ),
            Panel::prometheus(
                "Phases, 95th percentile",
                "By phase and kind of work.",
                Draw::Lines,
                "s",
                &[q(
                    "histogram_quantile(0.95, sum by (phase, kind, le) (rate(lowtide_move_phase_seconds_bucket{@}[$__rate_interval])))",
                    "{{phase}} {{kind}}",
                )],
            ),
            Panel::prometheus(
                "Distribution",
                "Moves by duration.",
                Draw::Heatmap,
                "s",
                &[q("sum by (le) (increase(lowtide_move_duration_seconds_bucket{@}[$__rate_interval]))", "{{le}}")],
            ),
            Panel::prometheus(
                "Too late",
                "Moves whose replacement became Ready only after EC2's deadline, in the time range shown.",
                Draw::Stat,
                "short",
                &[q("sum(increase(lowtide_moves_late_total{@}[$__range])) or vector(0)", "late")],
            ),
        ],
    }
}

fn recorded() -> Row {
    Row {
        title: "According to the ledger",
        panels: vec![
            Panel::ledger("Recovery percentiles", "Seconds by phase over all moves in the time range. Phases that did not happen are left out.", Draw::Table, "s", &[q(
                "SELECT phase, count(ms) AS moves, percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) / 1000.0 AS p50, percentile_disc(0.95) WITHIN GROUP (ORDER BY ms) / 1000.0 AS p95, max(ms) / 1000.0 AS longest\nFROM ledger.migration_timing m CROSS JOIN LATERAL (VALUES (1, 'notice to decision', notice_to_decision_ms), (2, 'decision to launched', decision_to_launched_ms), (3, 'launched to node Ready', launched_to_node_ready_ms), (4, 'node Ready to pod Ready', node_ready_to_pod_ready_ms), (5, 'all', recovery_ms), (6, 'without a Ready pod', gap_ms)) AS p(n, phase, ms)\nWHERE noticed_at BETWEEN $__timeFrom() AND $__timeTo() AND ms IS NOT NULL GROUP BY n, phase ORDER BY n", "")]),
            Panel::ledger("Work lost", "Dollars for work after the last checkpoint on machines that were reclaimed, by day and team.", Draw::Bars, "currencyUSD", &[q(
                "SELECT day, coalesce(team, '(untagged)') AS team, sum(cost_usd) AS usd FROM ledger.cost_daily\nWHERE line = 'lost-work' AND day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY 1", "")]).may_be_empty("no batch work was lost"),
            Panel::ledger("Where capacity is reclaimed", "Interruptions per 1,000 instance-hours with their 95 % interval, by capacity pool, over the time range.", Draw::Table, "short", &[q(
                "SELECT e.region, e.zone, e.instance_type, e.capacity_type, e.launches, e.interruptions, r.per_1000_hours, r.per_1000_hours_low, r.per_1000_hours_high\nFROM ledger.exposure_of($__timeFrom(), $__timeTo()) e CROSS JOIN LATERAL ledger.interruption_rates(e.launches, e.ran_ms, e.interruptions) r\nORDER BY r.per_1000_hours DESC NULLS LAST LIMIT 50", "")]),
        ],
    }
}
