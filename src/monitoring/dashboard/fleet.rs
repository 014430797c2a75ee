//! Fleet: machines and their phases, waiting pods, the market by zone and type, quotas, and the operator's own health.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-fleet",
        title: "lowtide / Fleet",
        description: "What is running, what it costs now, what is waiting and what the market offers.",
        span: "6h",
        rows: vec![now(), machines(), market(), decisions(), limits(), safety(), health()],
    }
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            Panel::prometheus(
                "Machines",
                "Node claims that have a machine.",
                Draw::Stat,
                "short",
                &[q("sum(lowtide_machines{@,phase=~\"booting|ready|leaving\"}) or vector(0)", "machines")],
            ),
            Panel::prometheus(
                "Spend per hour",
                "What machines cost now.",
                Draw::Stat,
                "currencyUSD",
                &[q("sum(lowtide_spend_dollars_per_hour{@}) or vector(0)", "$/h")],
            ),
            Panel::prometheus(
                "Saved per hour",
                "Against on-demand at home (B1), net of idle GPUs. Below 0 is a loss.",
                Draw::Stat,
                "currencyUSD",
                &[q("sum(lowtide_saving_dollars_per_hour{@}) or vector(0)", "$/h")],
            ),
            Panel::prometheus(
                "Waiting pods",
                "Pods waiting for a machine.",
                Draw::Stat,
                "short",
                &[q("sum(lowtide_gated_pods{@})", "pods")],
            ),
            Panel::prometheus(
                "Longest wait",
                "How long the longest-waiting pod has waited.",
                Draw::Stat,
                "s",
                &[q("max(lowtide_gated_pod_oldest_seconds{@})", "wait")],
            ),
            Panel::prometheus(
                "Price age",
                "Age of the oldest spot price. Above the operator's limit (300 s by default) nothing is bought at it.",
                Draw::Stat,
                "s",
                &[q("max(lowtide_price_age_seconds{@})", "age")],
            )
            .line(300),
        ],
    }
}

fn machines() -> Row {
    Row {
        title: "Machines",
        panels: vec![
            Panel::prometheus(
                "Machines by phase",
                "Asking EC2, booting, ready, leaving, failed or ended.",
                Draw::Stacked,
                "short",
                &[q("sum by (phase) (lowtide_machines{@})", "{{phase}}")],
            ),
            Panel::prometheus(
                "Machines by type and market",
                "What runs.",
                Draw::Stacked,
                "short",
                &[q(
                    "sum by (instance_type, capacity_type) (lowtide_machines{@,phase=~\"booting|ready|leaving\"})",
                    "{{instance_type}} {{capacity_type}}",
                )],
            ),
            Panel::prometheus(
                "Spend by market",
                "Dollars per hour on spot, on on-demand and in reservations.",
                Draw::Stacked,
                "currencyUSD",
                &[q("sum by (capacity_type) (lowtide_spend_dollars_per_hour{@})", "{{capacity_type}}")],
            ),
            Panel::prometheus(
                "Wait for a machine",
                "From a pod's creation until it used its GPUs.",
                Draw::Lines,
                "s",
                &[
                    q(
                        "histogram_quantile(0.5, sum by (kind, le) (rate(lowtide_pod_wait_seconds_bucket{@}[$__rate_interval])))",
                        "{{kind}} p50",
                    ),
                    q(
                        "histogram_quantile(0.95, sum by (kind, le) (rate(lowtide_pod_wait_seconds_bucket{@}[$__rate_interval])))",
                        "{{kind}} p95",
                    ),
                ],
            ),
        ],
    }
}

fn market() -> Row {
    Row {
        title: "Market",
        panels: vec![
            Panel::prometheus(
                "Cheapest spot by type",
                "The lowest spot price of each type over all zones, for the whole machine.",
                Draw::Lines,
                "currencyUSD",
                &[q("min by (instance_type) (lowtide_offer_price_dollars_per_hour{@,capacity_type=\"spot\"})", "{{instance_type}}")],
            ),
            Panel::prometheus(
                "Spot by zone and type",
                "Every spot price known.",
                Draw::Table,
                "currencyUSD",
                &[q("min by (region, zone, instance_type) (lowtide_offer_price_dollars_per_hour{@,capacity_type=\"spot\"})", "")],
            ),
            Panel::prometheus(
                "Age of prices",
                "By region and market. If one region's rises, EC2 or the price list is not answering for it.",
                Draw::Lines,
                "s",
                &[q("max by (region, capacity_type) (lowtide_region_price_age_seconds{@})", "{{region}} {{capacity_type}}")],
            )
            .line(300),
            Panel::prometheus(
                "Offers by region",
                "Offers with a price; closed = 1 means that EC2 does not let the account use the region.",
                Draw::Table,
                "short",
                &[
                    q("max by (region) (lowtide_region_offers{@})", "{{region}}"),
                    q("max by (region) (lowtide_region_closed{@})", "{{region}} closed"),
                ],
            ),
            Panel::prometheus(
                "What is known about capacity",
                "Offers, capacity pools cooling down after a refusal, capacity pools remembered, placement scores.",
                Draw::Lines,
                "short",
                &[
                    q("max(lowtide_offers{@})", "offers"),
                    q("max(lowtide_cool_downs{@})", "cooling down"),
                    q("max(lowtide_pools_remembered{@})", "remembered"),
                    q("max(lowtide_placement_scores{@})", "placement scores"),
                ],
            ),
        ],
    }
}

fn decisions() -> Row {
    Row {
        title: "Decisions",
        panels: vec![
            Panel::prometheus(
                "Decisions",
                "By trigger and outcome, per second.",
                Draw::Stacked,
                "ops",
                &[q("sum by (trigger, outcome) (rate(lowtide_decisions_total{@}[$__rate_interval]))", "{{trigger}}: {{outcome}}")],
            ),
            Panel::prometheus(
                "Launches by answer",
                "EC2's answers to launch requests.",
                Draw::Stacked,
                "ops",
                &[q(
                    "sum by (capacity_type, outcome) (rate(lowtide_launches_total{@}[$__rate_interval]))",
                    "{{capacity_type}} {{outcome}}",
                )],
            ),
            Panel::prometheus(
                "Refused offers by reason",
                "Why offers were not taken; most are merely more expensive (reason `dearer`).",
                Draw::Stacked,
                "ops",
                &[q("sum by (reason) (rate(lowtide_offers_refused_total{@}[$__rate_interval]))", "{{reason}}")],
            ),
        ],
    }
}

fn limits() -> Row {
    Row {
        title: "Limits",
        panels: vec![
            Panel::prometheus("Quota used", "vCPUs of ours as part of each quota. What others in the account run is not known.", Draw::Lines, "percentunit", &[q("max by (region, family, capacity_type) (lowtide_quota_used_vcpus{@}) / (max by (region, family, capacity_type) (lowtide_quota_vcpus{@}) > 0)", "{{region}} {{family}} {{capacity_type}}")]).line(1)
            .may_be_empty("no quota above 0 could be read"),
            Panel::prometheus("Node pools' budgets", "What counts against a pool's budget of this month as part of it. At 1 nothing new is bought.", Draw::Lines, "percentunit", &[q("max by (pool) (lowtide_pool_month_spend_dollars{@}) / max by (pool) (lowtide_pool_month_budget_dollars{@})", "{{pool}}")]).line(1).may_be_empty("no node pool has a budget"),
        ],
    }
}

fn safety() -> Row {
    Row {
        title: "Safety",
        panels: vec![
            Panel::prometheus(
                "Kept from termination",
                "Machines of another cluster with this name, without a UID, without a claim, and those the breaker keeps; claims and node pools that cannot be read; Nodes that are not used.",
                Draw::Table,
                "short",
                &[
                    q("max(lowtide_foreign_instances{@})", "another cluster's"),
                    q("max(lowtide_unmarked_instances{@})", "without a UID"),
                    q("max(lowtide_unclaimed_instances{@})", "without a claim"),
                    q("max(lowtide_unreadable_claims{@})", "unreadable claims"),
                    q("max(lowtide_unreadable_pools{@})", "unreadable node pools"),
                    q("max(lowtide_absent_policies{@})", "absent policies"),
                    q("max(lowtide_held_ends{@})", "kept by the breaker"),
                    q("max(lowtide_doubtful_nodes{@})", "doubtful Nodes"),
                ],
            ),
            Panel::prometheus(
                "Clocks",
                "How far EC2's and the API server's clocks are ahead of ours.",
                Draw::Lines,
                "s",
                &[q("max by (clock) (lowtide_clock_ahead_seconds{@})", "{{clock}}")],
            )
            .may_be_empty("no answer carried its time"),
        ],
    }
}

fn health() -> Row {
    Row {
        title: "Operator",
        panels: vec![
            Panel::prometheus(
                "Leader",
                "Replicas that lead; should be 1.",
                Draw::Stat,
                "short",
                &[q("sum(lowtide_leading{@})", "leading")],
            ),
            Panel::prometheus(
                "Version",
                "What runs.",
                Draw::Table,
                "short",
                &[q("count by (version) (lowtide_build_info{@})", "{{version}}")],
            ),
            Panel::prometheus(
                "Passes",
                "Passes per second, and the 99th percentile of their duration.",
                Draw::Lines,
                "s",
                &[
                    q("sum(rate(lowtide_passes_total{@}[$__rate_interval]))", "passes per second"),
                    q("histogram_quantile(0.99, sum by (le) (rate(lowtide_pass_duration_seconds_bucket{@}[$__rate_interval])))", "p99"),
                ],
            ),
            Panel::prometheus(
                "AWS by answer",
                "Calls per second by AWS's code.",
                Draw::Stacked,
                "ops",
                &[q("sum by (code) (rate(lowtide_cloud_calls_total{@}[$__rate_interval]))", "{{code}}")],
            ),
            Panel::prometheus(
                "AWS by duration",
                "95th percentile by operation. receive-notices waits for messages, up to 20 s.",
                Draw::Lines,
                "s",
                &[q(
                    "histogram_quantile(0.95, sum by (operation, le) (rate(lowtide_cloud_call_duration_seconds_bucket{@}[$__rate_interval])))",
                    "{{operation}}",
                )],
            ),
            Panel::prometheus(
                "Steps",
                "Steps being executed, and steps that ended early and were decided again.",
                Draw::Lines,
                "short",
                &[
                    q("sum(lowtide_steps_in_flight{@})", "in flight"),
                    q("sum(increase(lowtide_steps_stopped_total{@}[$__rate_interval])) or vector(0)", "stopped"),
                    q("sum(lowtide_claims{@})", "claims"),
                ],
            ),
        ],
    }
}
