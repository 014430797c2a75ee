//! Why a machine was bought or work moved: one decision, explained from the ledger alone.
//!
//! Decides: what of a decision is shown, and in which words.
//! Does not: look at the cluster or at today's prices.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::store::LedgerFault;
use super::text::aligned;
use crate::core::record::Refusal;

/// A decision as the ledger holds it; prices as decimal text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedDecision {
    /// Its id.
    pub decision: Uuid,
    /// When, RFC 3339 UTC.
    pub decided_at: String,
    /// What made lowtide decide.
    pub trigger: String,
    /// What was decided.
    pub outcome: String,
    /// The sentence of the decision.
    pub text: String,
    /// Whose work.
    pub workload: Option<String>,
    /// Who pays.
    pub team: Option<String>,
    /// Zone of the chosen offer.
    pub zone: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its type.
    pub instance_type: Option<String>,
    /// Its capacity type.
    pub capacity_type: Option<String>,
    /// Its price for the machine, USD per hour.
    pub price_usd_h: Option<String>,
    /// What one replica costs on it, with expected interruption and egress, USD per hour.
    pub per_replica_usd_h: Option<String>,
    /// How many replicas fit.
    pub replicas: Option<i64>,
    /// B0: on-demand of the same type and region, for the machine.
    pub b0: Option<Json<Value>>,
    /// B1: cheapest on-demand at home.
    pub b1: Option<Json<Value>>,
    /// B2: cheapest spot at home.
    pub b2: Option<Json<Value>>,
    /// B1 for one replica, USD per hour.
    pub b1_replica_usd_h: Option<String>,
    /// B2 for one replica, USD per hour.
    pub b2_replica_usd_h: Option<String>,
    /// Offers refused, by reason.
    pub refused_counts: Json<Value>,
    /// Hash over all offers judged.
    pub offers_hash: String,
    /// The claim bought, used or ended.
    pub claim: Option<String>,
    /// The claim the work left.
    pub from_claim: Option<String>,
    /// Paid so far for the claim's machine, USD.
    pub paid_usd: Option<String>,
    /// The machine still runs; unknown when there is none.
    pub runs: Option<bool>,
    /// The best refused offers, cheapest first.
    pub refused: Json<Vec<RefusedOffer>>,
}

/// An offer that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOffer {
    /// 1 is the cheapest.
    pub rank: i64,
    /// Type.
    pub instance_type: String,
    /// Capacity type.
    pub capacity_type: String,
    /// Zone.
    pub zone: String,
    /// Price for the machine, USD per hour.
    pub price_usd_h: String,
    /// For one replica, USD per hour; absent when none fits.
    pub per_replica_usd_h: Option<String>,
    /// Why not.
    pub refusal: Option<String>,
}

/// The decision with this id; `None` when the ledger does not have it.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn decision(connection: &mut PgConnection, id: Uuid) -> Result<Option<ExplainedDecision>, LedgerFault> {
    let query = sqlx::query_as!(
        ExplainedDecision,
        r#"SELECT d.decision AS "decision!", to_char(d.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "decided_at!",
                  d.trigger AS "trigger!", d.outcome AS "outcome!", d.text AS "text!", d.workload_namespace || '/' || d.workload_name AS workload,
                  d.team, d.zone, d.region, d.instance_type, d.capacity_type, trim_scale(d.price_usd_h)::text AS price_usd_h,
                  trim_scale(d.per_replica_usd_h)::text AS per_replica_usd_h, d.replicas, d.b0 AS "b0: Json<Value>", d.b1 AS "b1: Json<Value>",
                  d.b2 AS "b2: Json<Value>", trim_scale(d.b1_replica_usd_h)::text AS b1_replica_usd_h,
                  trim_scale(d.b2_replica_usd_h)::text AS b2_replica_usd_h, d.refused_counts AS "refused_counts!: Json<Value>",
                  d.offers_hash AS "offers_hash!", d.claim, d.from_claim, p.paid_usd, p.runs,
                  (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'rank', c.rank, 'instance_type', c.instance_type, 'capacity_type', c.capacity_type, 'zone', c.zone,
                       'price_usd_h', trim_scale(c.price_usd_h)::text, 'per_replica_usd_h', trim_scale(c.per_replica_usd_h)::text,
                       'refusal', c.refusal) ORDER BY c.rank), '[]')
                   FROM ledger.candidate c WHERE c.decision = d.decision) AS "refused!: Json<Vec<RefusedOffer>>"
           FROM ledger.explain_decision d
           LEFT JOIN LATERAL (SELECT sum(s.cost_usd)::numeric(24,6)::text AS paid_usd, bool_or(s.kind = 'running') AS runs FROM ledger.share s
                              WHERE s.claim_uid IN (SELECT o.claim_uid FROM ledger.interval_opened o WHERE o.claim = d.claim) AND s.line <> 'egress') p
                     ON true
           WHERE d.decision = $1"#,
        id
    );
    query.fetch_optional(connection).await.map_err(LedgerFault::during("read the decision"))
}

/// The decisions about a pod, newest first, at most `limit`: those that name it, and the one that placed it.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn decisions_of_pod(connection: &mut PgConnection, namespace: &str, name: &str, limit: i64) -> Result<Vec<Uuid>, LedgerFault> {
    let query = sqlx::query_scalar!(
        "SELECT id FROM ledger.decision
         WHERE posted_at < (SELECT ledger.known_before())
           AND (pods @> jsonb_build_array(jsonb_build_object('namespace', $1::text, 'name', $2::text))
                OR id IN (SELECT decision FROM ledger.occupancy_opened WHERE pod_namespace = $1 AND pod_name = $2
                          AND posted_at < (SELECT ledger.known_before())))
         ORDER BY at DESC, id LIMIT $3",
        namespace,
        name,
        limit
    );
    query.fetch_all(connection).await.map_err(LedgerFault::during("look for the pod's decisions"))
}

impl ExplainedDecision {
    /// For people: the sentence first, then the offer, what it beat, and what it would have cost otherwise.
    pub fn to_text(&self) -> String {
        let mut lines = vec![self.text.clone(), String::new()];
        let mut fact = |name: &str, value: String| lines.push(format!("{name:<14}{value}"));
        fact("decision", self.decision.to_string());
        fact("decided", format!("{} ({} after {})", self.decided_at, self.outcome, self.trigger));
        if let Some(workload) = &self.workload {
            fact("workload", format!("{workload}, team {}", self.team.as_deref().unwrap_or("(untagged)")));
        }
        if let (Some(kind), Some(zone), Some(price)) = (&self.instance_type, &self.zone, &self.price_usd_h) {
            let share = self
                .per_replica_usd_h
                .as_ref()
                .map_or_else(String::new, |p| format!("; one replica costs ${p}/h with expected interruptions"));
            fact("chosen", format!("{kind} {} in {zone} at ${price}/h{share}", self.capacity_type.as_deref().unwrap_or("")));
        }
        for (name, what, rate, replica) in [
            ("B0", "on-demand, same type and region", &self.b0, None),
            ("B1", "cheapest on-demand at home", &self.b1, self.b1_replica_usd_h.as_ref()),
            ("B2", "cheapest spot at home", &self.b2, self.b2_replica_usd_h.as_ref()),
        ] {
            fact(name, counterfactual(what, rate.as_ref().map(|json| &json.0), replica));
        }
        if let Some(claim) = &self.claim {
            let paid = self.paid_usd.as_ref().map_or_else(String::new, |paid| {
                let so_far = if self.runs == Some(true) { " so far (it still runs)" } else { "" };
                format!("; its machine cost ${paid}{so_far}")
            });
            fact("claim", format!("{claim}{paid}"));
        }
        if let Some(left) = &self.from_claim {
            fact("left", left.clone());
        }
        lines.push(String::new());
        lines.push(self.beaten());
        lines.join("\n")
    }

    fn beaten(&self) -> String {
        let counts = self.refused_counts.0.as_object().into_iter().flatten();
        let mut counts: Vec<(u64, &str)> = counts.map(|(reason, n)| (n.as_u64().unwrap_or(0), reason.as_str())).collect();
        counts.sort_by(|a, b| b.cmp(a));
        let total: u64 = counts.iter().map(|(n, _)| n).sum();
        if total == 0 && self.refused.is_empty() {
            return "No other offer was judged.".into();
        }
        let reasons: Vec<String> = counts.iter().map(|(n, reason)| format!("{n} {}", Refusal::in_words(reason))).collect();
        let rows: Vec<Vec<String>> = self.refused.iter().map(RefusedOffer::cells).collect();
        let shown = if rows.is_empty() { String::new() } else { format!("\nThe {} best of them:", rows.len()) };
        format!(
            "{total} offers were refused: {}.{shown}\n{}",
            reasons.join(", "),
            aligned(&["#", "type", "capacity", "zone", "usd_per_hour", "per_replica", "refused_because"], &rows)
        )
    }
}

impl RefusedOffer {
    fn cells(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        vec![
            self.rank.to_string(),
            self.instance_type.clone(),
            self.capacity_type.clone(),
            self.zone.clone(),
            self.price_usd_h.clone(),
            text(&self.per_replica_usd_h),
            self.refusal.as_deref().map_or_else(|| "-".into(), Refusal::in_words),
        ]
    }
}

fn counterfactual(what: &str, rate: Option<&Value>, per_replica: Option<&String>) -> String {
    let Some(rate) = rate else { return format!("{what}: not known when decided") };
    let text = |name: &str| rate[name].as_str().unwrap_or("?").to_owned();
    let share = per_replica.map_or_else(String::new, |price| format!(", ${price}/h for one replica"));
    format!("{what}: {} in {} at ${}/h{share}", text("instance_type"), text("zone"), text("price_usd_h"))
}
