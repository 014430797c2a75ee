//! Every metric that lowtide exports.
//!
//! Decides: names (base units, `_total` for counters), types, labels, what each means, and when a person should look.
//! `docs/metrics.md` is written from this list; a test holds it, the dashboards and the alerts to it, both ways.

use super::counts::{LONG_BUCKETS, SHORT_BUCKETS};

/// The type of a metric, as Prometheus has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// What is so now.
    Gauge,
    /// Spans of time, in buckets with these upper bounds in milliseconds.
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
    /// The metric that replaces it, when it is an old name that the next release leaves out.
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
    BUILD: Kind::Gauge, "lowtide_build_info", ["version"], "1, with the version that runs.";
    LEADING: Kind::Gauge, "lowtide_leading", [], "1 while this replica leads.";
    PASSES: Kind::Counter, "lowtide_passes_total", [], "Passes since the start; one every 2 s at least.";
    PASS_DURATION: Kind::Histogram(SHORT_BUCKETS), "lowtide_pass_duration_seconds", [], "How long a pass took that planned anew.";
    STEPS: Kind::Gauge, "lowtide_steps_in_flight", [], "Steps being carried out.";
    STEPS_STOPPED: Kind::Counter, "lowtide_steps_stopped_total", [], "Steps that ended early and are decided again.";
    FAULTS: Kind::Counter, "lowtide_invariant_faults_total", ["invariant"], "Passes that saw an invariant broken; anything but 0 is a bug of lowtide.";

    FOREIGN: Kind::Gauge, "lowtide_foreign_instances", [], "Machines that carry this cluster's name and another cluster's UID: left alone.";
    UNMARKED: Kind::Gauge, "lowtide_unmarked_instances", [], "Machines that carry this cluster's name and no UID: made before lowtide wrote one.";
    UNCLAIMED: Kind::Gauge, "lowtide_unclaimed_instances", [], "Machines that no claim stands for.";
    UNREADABLE: Kind::Gauge, "lowtide_unreadable_claims", [], "Claims that this version cannot read: their machines are kept, and nothing is swept.";
    HELD_ENDS: Kind::Gauge, "lowtide_held_ends", [], "Machines that would be ended and are kept by the breaker until a person says so.";
    DOUBTFUL: Kind::Gauge, "lowtide_doubtful_nodes", [], "Nodes that pass for a machine and are not used.";
    CLOCK_AHEAD: Kind::Gauge, "lowtide_clock_ahead_seconds", ["clock"], "How far another clock (ec2, api-server) is ahead of ours.";

    CLAIMS: Kind::Gauge, "lowtide_claims", [], "Node claims.";
    MACHINES: Kind::Gauge, "lowtide_machines", ["pool", "region", "zone", "instance_type", "capacity_type", "phase"], "Node claims by where, what and phase: asking, booting, ready, leaving, failed or ended.";
    GPUS: Kind::Gauge, "lowtide_gpus", ["pool", "state"], "GPUs of machines that run: allocated to a pod, or idle.";
    GATED: Kind::Gauge, "lowtide_gated_pods", [], "Pods that wait for a machine.";
    GATED_OLDEST: Kind::Gauge, "lowtide_gated_pod_oldest_seconds", [], "For how long the pod that waits longest has waited; 0 when none waits.";
    POD_WAIT: Kind::Histogram(LONG_BUCKETS), "lowtide_pod_wait_seconds", ["kind"], "From a pod's creation until it used its GPUs.";

    DECISIONS: Kind::Counter, "lowtide_decisions_total", ["trigger", "outcome"], "Decisions by what made lowtide decide and what was decided.";
    REFUSED: Kind::Counter, "lowtide_offers_refused_total", ["reason"], "Offers that decisions refused, by the first reason that held.";
    LAUNCHES: Kind::Counter, "lowtide_launches_total", ["region", "capacity_type", "outcome"], "Launches that EC2 was asked for, by its answer: launched, no-capacity, quota, refused, throttled, token or unknown.";
    NOTICES: Kind::Counter, "lowtide_notices_total", ["region", "kind"], "Messages of the interruption queues: interruption, rebalance or state-change.";
    INTERRUPTIONS: Kind::Counter, "lowtide_interruptions_total", ["region", "capacity_type"], "Machines of ours that EC2 gave notice of.";
    MOVES: Kind::Counter, "lowtide_moves_total", ["trigger", "kind"], "Decisions to move work off a machine, by cause and kind of work.";
    MOVE_PHASES: Kind::Histogram(LONG_BUCKETS), "lowtide_move_phase_seconds", ["kind", "phase"], "Phases of a move: notice to decision, decision to launched, launched to node Ready, node Ready to pod Ready.";
    MOVE_DURATION: Kind::Histogram(LONG_BUCKETS), "lowtide_move_duration_seconds", ["kind"], "From the notice of a move to the replacement's Ready.";
    MOVES_LATE: Kind::Counter, "lowtide_moves_late_total", ["kind"], "Moves whose replacement was Ready only after EC2's deadline.";
    RISK: Kind::Gauge, "lowtide_expected_interruptions_per_hour", ["pool"], "Interruptions to be expected in an hour of the machines that run now.";

    OFFERS: Kind::Gauge, "lowtide_offers", [], "Offers with a price.";
    OFFER_PRICE: Kind::Gauge, "lowtide_offer_price_dollars_per_hour", ["region", "zone", "instance_type", "capacity_type"], "Price of an offer, for the whole machine.";
    PRICE_AGE: Kind::Gauge, "lowtide_price_age_seconds", [], "Age of the oldest spot price.";
    REGION_PRICE_AGE: Kind::Gauge, "lowtide_region_price_age_seconds", ["region", "capacity_type"], "Age of the oldest price of a region.";
    REGION_OFFERS: Kind::Gauge, "lowtide_region_offers", ["region"], "Offers of a region.";
    REGION_CLOSED: Kind::Gauge, "lowtide_region_closed", ["region"], "1 while EC2 does not let the account use a region.";
    COOL_DOWNS: Kind::Gauge, "lowtide_cool_downs", [], "Pools of capacity left alone now.";
    REMEMBERED: Kind::Gauge, "lowtide_pools_remembered", [], "Pools of capacity of which something was learnt.";
    SCORES: Kind::Gauge, "lowtide_placement_scores", [], "Spot placement scores known.";
    PRICES_WAITING: Kind::Gauge, "lowtide_prices_waiting", [], "Price changes that wait for the ledger.";
    CALLS: Kind::Counter, "lowtide_cloud_calls_total", ["operation", "code"], "Calls to AWS by operation and answer: ok, or AWS's code; what the SDK asks again is one call.";
    CALL_DURATION: Kind::Histogram(SHORT_BUCKETS), "lowtide_cloud_call_duration_seconds", ["operation"], "How long AWS took to answer.";

    QUOTA: Kind::Gauge, "lowtide_quota_vcpus", ["region", "family", "capacity_type"], "vCPUs that a quota lets the account run; a quota that could not be read is absent.";
    QUOTA_USED: Kind::Gauge, "lowtide_quota_used_vcpus", ["region", "family", "capacity_type"], "vCPUs of ours that count in a quota.";
    POOL_SPEND: Kind::Gauge, "lowtide_pool_month_spend_dollars", ["pool"], "What counts against a node pool's budget of this month: settled, accrued and committed.";
    POOL_BUDGET: Kind::Gauge, "lowtide_pool_month_budget_dollars", ["pool"], "A node pool's monthly budget, where it has one.";
    SPEND: Kind::Gauge, "lowtide_spend_dollars_per_hour", ["team", "capacity_type"], "What machines cost now, by the team whose pods are on them; GPUs without a pod are under (idle).";
    SAVING: Kind::Gauge, "lowtide_saving_dollars_per_hour", ["team"], "What pods would cost now on demand at home (B1), less what they cost; below 0 is a loss.";

    OUTBOX: Kind::Gauge, "lowtide_outbox_records", [], "Records that wait for the ledger.";
    OUTBOX_BOUND: Kind::Gauge, "lowtide_outbox_bound_records", [], "At so many waiting records refusals are not recorded any more; purchases, moves and ends always are.";
    OUTBOX_AGE: Kind::Gauge, "lowtide_outbox_age_seconds", [], "Age of the oldest waiting record.";
    POSTING_AGE: Kind::Gauge, "lowtide_posting_age_seconds", [], "Since everything settled was posted; 0 before the first time.";
    SEAL_AGE: Kind::Gauge, "lowtide_seal_age_seconds", [], "Since everything settled was sealed; 0 before the first time.";
    LEDGER: Kind::Gauge, "lowtide_ledger_available", [], "1 while Postgres takes records.";

    MONTH_SPEND: Kind::Gauge, "lowtide_ledger_month_spend_dollars", ["team"], "Spend of this month by the ledger.";
    MONTH_SAVING: Kind::Gauge, "lowtide_ledger_month_saving_dollars", ["team"], "Net saving of this month against B1, by the ledger.";
    BUDGET: Kind::Gauge, "lowtide_budget_dollars", ["budget"], "A budget's plan for this month.";
    BUDGET_SPENT: Kind::Gauge, "lowtide_budget_spent_dollars", ["budget"], "What was spent of a budget this month.";
    BUDGET_EXPECTED: Kind::Gauge, "lowtide_budget_expected_dollars", ["budget"], "What will be spent of a budget by the end of the month at the pace of the last seven days.";
    BUDGET_EXHAUSTED: Kind::Gauge, "lowtide_budget_exhausted_timestamp_seconds", ["budget"], "When a budget will be used up at that pace; absent when not in this month.";
    ANOMALIES: Kind::Gauge, "lowtide_cost_anomalies", ["team", "service", "cause"], "Services whose cost of the last two hours is out of the ordinary, by what moved it most: price, quantity or mix.";
    UNIT_COST: Kind::Gauge, "lowtide_unit_cost_dollars", ["unit", "window"], "Cost of one unit over all workloads that report it: the last 24 hours, and the 7 days before.";

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
