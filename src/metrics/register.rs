//! Every metric that lowtide exports.
//!
//! Decides: names (base units, `_total` for counters), types, labels and the meaning of each.
//! `docs/metrics.md` is generated from this list; a test checks it, the dashboards and the alerts against it, both ways.

use super::counts::{LONG_BUCKETS, SHORT_BUCKETS};

/// The type of a metric, in Prometheus' terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// The current value.
    Gauge,
    /// Durations, in buckets with these upper bounds in milliseconds.
    Histogram(&'static [i64]),
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
    /// The metric that replaces it, if it is an old name that the next release drops.
    pub replaced_by: Option<&'static str>,
}

macro_rules! metrics {
    ($($constant:ident: $kind:expr, $name:literal, [$($label:literal),*], $help:literal $(, replaced by $new:literal)?;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help, replaced_by: metrics!(@new $($new)?) };
        )*
        /// All of them, in the order of the page.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
    (@new) => { None };
    (@new $new:literal) => { Some($new) };
}

metrics! {
    BUILD: Kind::Gauge, "lowtide_build_info", ["version"], "Always 1; the label is the running version.";
    LEADING: Kind::Gauge, "lowtide_leading", [], "1 while this replica leads.";
    PASSES: Kind::Counter, "lowtide_passes_total", [], "Passes since the start; at least one every 2 s.";
    PASS_DURATION: Kind::Histogram(SHORT_BUCKETS), "lowtide_pass_duration_seconds", [], "How long a pass took that made a new plan.";
    STEPS: Kind::Gauge, "lowtide_steps_in_flight", [], "Steps being executed.";
    STEPS_STOPPED: Kind::Counter, "lowtide_steps_stopped_total", [], "Steps that ended early and are decided again.";
    FAULTS: Kind::Counter, "lowtide_invariant_faults_total", ["invariant"], "Passes that saw a broken invariant; anything but 0 is a bug in lowtide.";

    FOREIGN: Kind::Gauge, "lowtide_foreign_instances", [], "Machines that carry this cluster's name and another cluster's UID: left alone.";
    UNMARKED: Kind::Gauge, "lowtide_unmarked_instances", [], "Machines that carry this cluster's name and no UID: launched before lowtide wrote one.";
    UNCLAIMED: Kind::Gauge, "lowtide_unclaimed_instances", [], "Machines without a claim.";
    UNREADABLE: Kind::Gauge, "lowtide_unreadable_claims", [], "Claims that this version cannot read: their machines are kept, and nothing is swept.";
    UNREADABLE_POOLS: Kind::Gauge, "lowtide_unreadable_pools", [], "Node pools that this version cannot read, or that went with the definition (CRD) of all pools: nothing is bought in them, and their machines stay as they are.";
    ABSENT_POLICIES: Kind::Gauge, "lowtide_absent_policies", [], "Admission policies of lowtide (marks, guard, annotations) that are not there, are not as the chart made them, do not deny, or cannot be read.";
    HELD_ENDS: Kind::Gauge, "lowtide_held_ends", [], "Machines that would be terminated but are kept by the breaker until a person allows it.";
    DOUBTFUL: Kind::Gauge, "lowtide_doubtful_nodes", [], "Nodes that pose as a machine and are not used.";
    CLOCK_AHEAD: Kind::Gauge, "lowtide_clock_ahead_seconds", ["clock"], "How far another clock (ec2, api-server) is ahead of ours.";

    CLAIMS: Kind::Gauge, "lowtide_claims", [], "Node claims.";
    MACHINES: Kind::Gauge, "lowtide_machines", ["pool", "region", "zone", "instance_type", "capacity_type", "phase"], "Node claims by location, type and phase: asking, booting, ready, leaving, failed or ended.";
    GPUS: Kind::Gauge, "lowtide_gpus", ["pool", "state"], "GPUs of running machines: allocated to a pod, or idle.";
    GATED: Kind::Gauge, "lowtide_gated_pods", [], "Pods waiting for a machine.";
    GATED_OLDEST: Kind::Gauge, "lowtide_gated_pod_oldest_seconds", [], "How long the longest-waiting pod has waited; 0 if none is waiting.";
    POD_WAIT: Kind::Histogram(LONG_BUCKETS), "lowtide_pod_wait_seconds", ["kind"], "From a pod's creation until it used its GPUs.";

    DECISIONS: Kind::Counter, "lowtide_decisions_total", ["trigger", "outcome"], "Decisions by what triggered them and what was decided.";
    REFUSED: Kind::Counter, "lowtide_offers_refused_total", ["reason"], "Offers that decisions refused, by the first reason that applied.";
    LAUNCHES: Kind::Counter, "lowtide_launches_total", ["region", "capacity_type", "outcome"], "Launches requested from EC2, by its answer: launched, no-capacity, quota, refused, throttled, token or unknown.";
    NOTICES: Kind::Counter, "lowtide_notices_total", ["region", "kind"], "Messages of the interruption queues: interruption, rebalance, scheduled or state-change.";
    INTERRUPTIONS: Kind::Counter, "lowtide_interruptions_total", ["region", "capacity_type"], "Machines of ours for which EC2 sent an interruption notice.";
    WARNINGS: Kind::Gauge, "lowtide_rebalance_warnings", ["region", "zone", "instance_type", "outcome"], "EC2's rebalance recommendations for machines of ours whose outcome is known: followed by an interruption notice, or not-followed within an hour. Older ones count less.";
    MOVES: Kind::Counter, "lowtide_moves_total", ["trigger", "kind"], "Decisions to move work off a machine, by cause and kind of work.";
    MOVE_PHASES: Kind::Histogram(LONG_BUCKETS), "lowtide_move_phase_seconds", ["kind", "phase"], "Phases of a move: notice to decision, decision to launched, launched to node Ready, node Ready to pod Ready.";
    MOVE_DURATION: Kind::Histogram(LONG_BUCKETS), "lowtide_move_duration_seconds", ["kind"], "From the notice of a move until the replacement is Ready.";
    MOVES_LATE: Kind::Counter, "lowtide_moves_late_total", ["kind"], "Moves whose replacement became Ready only after EC2's deadline.";
    RISK: Kind::Gauge, "lowtide_expected_interruptions_per_hour", ["pool"], "Expected interruptions per hour of the machines that are running now.";

    OFFERS: Kind::Gauge, "lowtide_offers", [], "Offers with a price.";
    OFFER_PRICE: Kind::Gauge, "lowtide_offer_price_dollars_per_hour", ["region", "zone", "instance_type", "capacity_type"], "Price of an offer, for the whole machine.";
    PRICE_AGE: Kind::Gauge, "lowtide_price_age_seconds", [], "Age of the oldest spot price.";
    REGION_PRICE_AGE: Kind::Gauge, "lowtide_region_price_age_seconds", ["region", "capacity_type"], "Age of the oldest price of a region.";
    REGION_OFFERS: Kind::Gauge, "lowtide_region_offers", ["region"], "Offers of a region.";
    REGION_CLOSED: Kind::Gauge, "lowtide_region_closed", ["region"], "1 while EC2 does not let the account use a region.";
    COOL_DOWNS: Kind::Gauge, "lowtide_cool_downs", [], "Capacity pools that are cooling down now.";
    REMEMBERED: Kind::Gauge, "lowtide_pools_remembered", [], "Capacity pools about which something was learned.";
    SCORES: Kind::Gauge, "lowtide_placement_scores", [], "Spot placement scores known.";
    PRICES_WAITING: Kind::Gauge, "lowtide_prices_waiting", [], "Price changes waiting for the ledger.";
    CALLS: Kind::Counter, "lowtide_cloud_calls_total", ["operation", "code"], "Calls to AWS by operation and answer: ok, or AWS's error code; the SDK's retries count as one call.";
    CALL_DURATION: Kind::Histogram(SHORT_BUCKETS), "lowtide_cloud_call_duration_seconds", ["operation"], "How long AWS took to answer.";

    QUOTA: Kind::Gauge, "lowtide_quota_vcpus", ["region", "family", "capacity_type"], "vCPUs that a quota allows the account to run; absent if the quota could not be read.";
    QUOTA_USED: Kind::Gauge, "lowtide_quota_used_vcpus", ["region", "family", "capacity_type"], "vCPUs of ours that count towards a quota.";
    POOL_SPEND: Kind::Gauge, "lowtide_pool_month_spend_dollars", ["pool"], "What counts against a node pool's budget of this month: settled, accrued and committed.";
    POOL_BUDGET: Kind::Gauge, "lowtide_pool_month_budget_dollars", ["pool"], "A node pool's monthly budget, if it has one.";
    SPEND: Kind::Gauge, "lowtide_spend_dollars_per_hour", ["team", "capacity_type"], "What machines cost now, by the team whose pods are on them; GPUs without a pod are under (idle).";
    SAVING: Kind::Gauge, "lowtide_saving_dollars_per_hour", ["team"], "What pods would cost now on on-demand at home (B1), less what they do cost; below 0 is a loss.";

    OUTBOX: Kind::Gauge, "lowtide_outbox_records", [], "Records waiting for the ledger.";
    OUTBOX_BOUND: Kind::Gauge, "lowtide_outbox_bound_records", [], "Number of waiting records from which refusals are no longer recorded; purchases, moves and terminations always are.";
    OUTBOX_AGE: Kind::Gauge, "lowtide_outbox_age_seconds", [], "Age of the oldest waiting record.";
    POSTING_AGE: Kind::Gauge, "lowtide_posting_age_seconds", [], "Time since everything settled was posted; 0 before the first time.";
    SEAL_AGE: Kind::Gauge, "lowtide_seal_age_seconds", [], "Time since everything settled was sealed; 0 before the first time.";
    BILLS_AGE: Kind::Gauge, "lowtide_bills_age_seconds", [], "Time since every bill and feed that AWS had written was fetched and taken; 0 where nothing is fetched.";
    BILLS_REFUSED: Kind::Gauge, "lowtide_bills_refused", [], "Bills and files of the feed that were fetched and refused; `lowtide ledger fetch` says why.";
    LEDGER: Kind::Gauge, "lowtide_ledger_available", [], "1 while Postgres accepts records.";

    MONTH_SPEND: Kind::Gauge, "lowtide_ledger_month_spend_dollars", ["team"], "Spend of this month according to the ledger.";
    MONTH_SAVING: Kind::Gauge, "lowtide_ledger_month_saving_dollars", ["team"], "Net saving of this month against B1, according to the ledger.";
    BUDGET: Kind::Gauge, "lowtide_budget_dollars", ["budget"], "A budget's plan for this month.";
    BUDGET_SPENT: Kind::Gauge, "lowtide_budget_spent_dollars", ["budget"], "How much of a budget was spent this month.";
    BUDGET_EXPECTED: Kind::Gauge, "lowtide_budget_expected_dollars", ["budget"], "How much of a budget will be spent by the end of the month at the pace of the last seven days.";
    BUDGET_EXHAUSTED: Kind::Gauge, "lowtide_budget_exhausted_timestamp_seconds", ["budget"], "When a budget will be used up at that pace; absent if not this month.";
    ANOMALIES: Kind::Gauge, "lowtide_cost_anomalies", ["team", "service", "cause"], "Services whose cost of the last two hours is unusual, by the main cause: price, quantity or mix.";
    UNIT_COST: Kind::Gauge, "lowtide_unit_cost_dollars", ["unit", "window"], "Cost of one unit across all workloads that report it: the last 24 hours, and the 7 days before.";
    GPU_USE: Kind::Gauge, "lowtide_ledger_gpu_use_dollars", ["team", "use"], "Useful pod time of the last 24 hours by team: while GPUs were active, while they were held and idle, and while nobody measured them.";

    OLD_CLOCK_AHEAD: Kind::Gauge, "lowtide_clock_ahead_milliseconds", ["clock"], "Old name.", replaced by "lowtide_clock_ahead_seconds";
    OLD_PRICE_AGE: Kind::Gauge, "lowtide_price_age_milliseconds", [], "Old name.", replaced by "lowtide_price_age_seconds";
    OLD_REGION_PRICE_AGE: Kind::Gauge, "lowtide_region_price_age_milliseconds", ["region", "capacity_type"], "Old name.", replaced by "lowtide_region_price_age_seconds";
    OLD_POOL_SPEND: Kind::Gauge, "lowtide_pool_month_spend_micro_usd", ["pool"], "Old name.", replaced by "lowtide_pool_month_spend_dollars";
    OLD_OUTBOX_AGE: Kind::Gauge, "lowtide_outbox_age_milliseconds", [], "Old name.", replaced by "lowtide_outbox_age_seconds";
    OLD_POSTING_AGE: Kind::Gauge, "lowtide_posting_age_milliseconds", [], "Old name.", replaced by "lowtide_posting_age_seconds";
    OLD_SEAL_AGE: Kind::Gauge, "lowtide_seal_age_milliseconds", [], "Old name.", replaced by "lowtide_seal_age_seconds";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_prometheus_conventions() {
        for metric in ALL {
            assert!(metric.name.starts_with("lowtide_") && metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}: counters and only they end in _total",
                metric.name
            );
            if matches!(metric.kind, Kind::Histogram(bounds) if !bounds.is_sorted()) {
                panic!("{}: bounds out of order", metric.name);
            }
            if metric.replaced_by.is_none() {
                assert!(!["milliseconds", "micro", "_ms"].iter().any(|unit| metric.name.contains(unit)), "{}: base units", metric.name);
            } else {
                assert!(ALL.iter().any(|new| Some(new.name) == metric.replaced_by), "{}", metric.name);
            }
            assert!(!metric.labels.iter().any(|label| ["pod", "uid", "workload"].contains(label)), "{}: unbounded label", metric.name);
        }
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name twice");
    }
}
