//! What stands behind each driver of a variance, in words: counts, prices and reason codes.
//!
//! Decides: the words. Does not: change an amount.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::cents;
use super::variance::Span;
use crate::core::accounting::variance::{Driver, Drivers};
use crate::core::market::CapacityType;
use crate::core::record::Refusal;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::workload::need::UsageUnit;
use crate::ledger::store::LedgerFault;

const HOUR_MS: i64 = 3_600_000;

/// Figures of both months.
pub(super) struct Reasons {
    units: BTreeMap<UsageUnit, [i128; 2]>,
    useful_gpu_ms: [i64; 2],
    by_machine: BTreeMap<String, [i64; 2]>,
    by_market: BTreeMap<CapacityType, [(i64, i64); 2]>,
    new_and_gone: [Vec<String>; 2],
    spot_refusals: BTreeMap<Refusal, i64>,
    lines: BTreeMap<String, [(i64, i64); 2]>,
    moves: [i64; 2],
    interruptions: [i64; 2],
    egress_gib: [i64; 2],
    /// What feed and bill changed by cause, and what stands beside the use by line: dollars of both months, the largest difference first.
    covered: Vec<(String, [i64; 2])>,
}

impl Reasons {
    /// Reads what the drivers do not say of these workloads; `narrowed` says that they are not all there are.
    pub(super) async fn read(
        connection: &mut PgConnection,
        spans: &[Span; 2],
        months: &BTreeMap<ObjectRef, [Drivers; 2]>,
        narrowed: bool,
    ) -> Result<Self, LedgerFault> {
        let mut reasons = Reasons::of_drivers(months);
        let of = &Narrowed::to(months.keys(), narrowed);
        reasons.spot_refusals = spot_refusals(connection, &spans[1], of).await?;
        for (n, month) in spans.iter().enumerate() {
            let counted = counts(connection, month, of).await?;
            (reasons.moves[n], reasons.interruptions[n], reasons.egress_gib[n]) = counted.0;
            for (line, gpu_ms, micro) in counted.1 {
                reasons.lines.entry(line).or_default()[n] = (gpu_ms, micro);
            }
        }
        let coverage = months.values().map(|pair| pair[1].coverage - pair[0].coverage).sum();
        reasons.covered = covered(connection, spans, of, coverage).await?;
        Ok(reasons)
    }

    fn of_drivers(months: &BTreeMap<ObjectRef, [Drivers; 2]>) -> Self {
        let mut reasons = Reasons {
            units: BTreeMap::new(),
            useful_gpu_ms: [0; 2],
            by_machine: BTreeMap::new(),
            by_market: BTreeMap::new(),
            new_and_gone: [Vec::new(), Vec::new()],
            spot_refusals: BTreeMap::new(),
            lines: BTreeMap::new(),
            moves: [0; 2],
            interruptions: [0; 2],
            egress_gib: [0; 2],
            covered: Vec::new(),
        };
        for (workload, pair) in months {
            let used = [0, 1].map(|n: usize| pair[n].useful.values().map(|u| u.gpu_ms).sum::<i64>());
            if used[0] == 0 && used[1] > 0 {
                reasons.new_and_gone[0].push(workload.to_string());
            } else if used[0] > 0 && used[1] == 0 {
                reasons.new_and_gone[1].push(workload.to_string());
            }
            for (n, drivers) in pair.iter().enumerate() {
                reasons.useful_gpu_ms[n] += used[n];
                for ((machine, capacity), use_) in &drivers.useful {
                    reasons.by_machine.entry(machine.clone()).or_default()[n] += use_.gpu_ms;
                    let market = &mut reasons.by_market.entry(*capacity).or_default()[n];
                    *market = (market.0 + use_.gpu_ms, market.1 + use_.cost.0);
                }
                for (unit, micro) in &drivers.units {
                    reasons.units.entry(*unit).or_default()[n] += micro;
                }
            }
        }
        reasons
    }

    /// What stands behind a driver.
    pub(super) fn of(&self, driver: Driver, amount: MicroUsd) -> String {
        match driver {
            Driver::Volume => self.volume(),
            Driver::Efficiency => self.efficiency(),
            Driver::InstanceMix => self.instance_mix(),
            Driver::SpotPrice => self.price_of(CapacityType::Spot),
            Driver::MarketMix => self.market_mix(),
            Driver::MovesAndWaste => self.moves_and_waste(),
            Driver::Idle => {
                let [was, is] = self.line("idle").map(|(gpu_ms, _)| hours(gpu_ms));
                format!("{was} -> {is} GPU-hours without a pod")
            }
            Driver::Egress => format!("{} -> {} GiB carried across regions", self.egress_gib[0], self.egress_gib[1]),
            Driver::Coverage => self.coverage(),
            Driver::Other if amount.0 == 0 => "on-demand prices and other costs as before".into(),
            Driver::Other => {
                let [was, is] = self.line("overhead").map(|(_, micro)| cents(MicroUsd(micro)));
                format!("{}; other costs ${was} -> ${is}", self.price_of(CapacityType::OnDemand))
            }
        }
    }

    fn line(&self, line: &str) -> [(i64, i64); 2] {
        self.lines.get(line).copied().unwrap_or_default()
    }

    fn volume(&self) -> String {
        let mut parts: Vec<String> =
            self.units.iter().map(|(unit, [was, is])| format!("{} {} -> {}", unit.as_str(), was / 1_000_000, is / 1_000_000)).collect();
        if parts.is_empty() {
            parts.push(format!("useful GPU-hours {} -> {}", hours(self.useful_gpu_ms[0]), hours(self.useful_gpu_ms[1])));
        }
        for (word, names) in ["new", "ended"].iter().zip(&self.new_and_gone) {
            match names.as_slice() {
                [] => {}
                [first] => parts.push(format!("{word}: {first}")),
                [first, rest @ ..] => parts.push(format!("{word}: {first} and {} others", rest.len())),
            }
        }
        parts.join("; ")
    }

    fn efficiency(&self) -> String {
        let per_unit = |unit: &UsageUnit, [was, is]: &[i128; 2]| {
            let each = |gpu_ms: i64, micro: i128| (micro > 0).then(|| format!("{:.3}", gpu_ms as f64 * 1e3 / micro as f64));
            let (was, is) = (each(self.useful_gpu_ms[0], *was)?, each(self.useful_gpu_ms[1], *is)?);
            Some(format!("GPU-seconds per {} {was} -> {is}", unit.as_str().trim_end_matches('s')))
        };
        self.units
            .iter()
            .find_map(|(unit, amounts)| per_unit(unit, amounts))
            .unwrap_or_else(|| "no usage is known for both months: all of it is volume".into())
    }

    fn instance_mix(&self) -> String {
        let share = |n: usize, gpu_ms: i64| if self.useful_gpu_ms[n] == 0 { 0 } else { gpu_ms * 100 / self.useful_gpu_ms[n] };
        let moved = |pair: &[i64; 2]| share(1, pair[1]) - share(0, pair[0]);
        match self.by_machine.iter().max_by_key(|(_, pair)| moved(pair).abs()) {
            Some((machine, pair)) if moved(pair) != 0 => {
                format!("{machine}: {} % -> {} % of useful GPU time", share(0, pair[0]), share(1, pair[1]))
            }
            _ => "the same machines".into(),
        }
    }

    fn price_of(&self, capacity: CapacityType) -> String {
        let each = |(gpu_ms, micro): (i64, i64)| {
            (gpu_ms > 0)
                .then(|| cents(MicroUsd(i64::try_from(i128::from(micro) * i128::from(HOUR_MS) / i128::from(gpu_ms)).unwrap_or(i64::MAX))))
        };
        let [was, is] = self.by_market.get(&capacity).copied().unwrap_or_default().map(each);
        match (was, is) {
            (Some(was), Some(is)) => format!("{capacity} cost ${was} -> ${is} per GPU-hour"),
            (None, Some(is)) => format!("{capacity} cost ${is} per GPU-hour, none before"),
            (Some(was), None) => format!("{capacity} cost ${was} per GPU-hour, none now"),
            (None, None) => format!("nothing ran {}", if capacity == CapacityType::Spot { "on spot" } else { "on demand" }),
        }
    }

    fn market_mix(&self) -> String {
        let [was, is] = self.by_market.get(&CapacityType::OnDemand).copied().unwrap_or_default().map(|(gpu_ms, _)| hours(gpu_ms));
        let refused: i64 = self.spot_refusals.values().sum();
        let mut sorted: Vec<(&Refusal, &i64)> = self.spot_refusals.iter().collect();
        sorted.sort_by_key(|(refusal, n)| (std::cmp::Reverse(**n), **refusal));
        let words: Vec<String> = sorted.into_iter().take(3).map(|(refusal, n)| format!("{n} {refusal}")).collect();
        let why = if refused == 0 { String::new() } else { format!("; {refused} spot offers refused there: {}", words.join(", ")) };
        format!("{was} -> {is} GPU-hours on demand{why}")
    }

    fn moves_and_waste(&self) -> String {
        let lines = ["double-running", "lost-work", "boot", "drain"].map(|line| {
            let [was, is] = self.line(line).map(|(_, micro)| micro);
            (is - was, line)
        });
        let largest = lines.iter().max_by_key(|(difference, _)| difference.abs()).filter(|(difference, _)| *difference != 0);
        let mostly = largest
            .map_or_else(String::new, |(difference, line)| format!("; mostly {line} ({})", super::signed_dollars(MicroUsd(*difference))));
        let [(m0, m1), (i0, i1)] = [(self.moves[0], self.moves[1]), (self.interruptions[0], self.interruptions[1])];
        format!("{m0} -> {m1} moves, {i0} -> {i1} interruptions{mostly}")
    }

    fn coverage(&self) -> String {
        if self.covered.is_empty() {
            return "AWS's bill has not been imported, or says the same".into();
        }
        let difference = |pair: &[i64; 2]| MicroUsd(pair[1] - pair[0]);
        let shown = self.covered.iter().take(3);
        let mut words: Vec<String> = shown.map(|(what, pair)| format!("{what} {}", super::signed_dollars(difference(pair)))).collect();
        let rest: MicroUsd = self.covered.iter().skip(3).map(|(_, pair)| difference(pair)).sum();
        if self.covered.len() > 3 {
            words.push(format!("others {}", super::signed_dollars(rest)));
        }
        words.join(", ")
    }
}

fn hours(gpu_ms: i64) -> String {
    format!("{:.1}", gpu_ms as f64 / HOUR_MS as f64)
}

/// The workloads that queries are narrowed to, by namespace and name; nothing is all.
struct Narrowed {
    namespaces: Option<Vec<String>>,
    names: Option<Vec<String>>,
}

impl Narrowed {
    fn to<'a>(workloads: impl Iterator<Item = &'a ObjectRef>, narrowed: bool) -> Self {
        if !narrowed {
            return Narrowed { namespaces: None, names: None };
        }
        let (namespaces, names) = workloads.map(|of| (of.namespace.clone(), of.name.clone())).unzip();
        Narrowed { namespaces: Some(namespaces), names: Some(names) }
    }
}

/// Why spot offers were refused in the decisions that took on-demand, of the offers that are kept.
async fn spot_refusals(connection: &mut PgConnection, month: &Span, of: &Narrowed) -> Result<BTreeMap<Refusal, i64>, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT c.refusal AS "refusal!", count(*) AS "n!"
           FROM ledger.decision d JOIN ledger.candidate c ON c.decision = d.id AND c.decided_at = d.at
           WHERE d.at >= ($1::text::date)::timestamp AT TIME ZONE 'UTC' AND d.at < ($2::text::date)::timestamp AT TIME ZONE 'UTC'
             AND ($3::text[] IS NULL OR (d.workload_namespace, d.workload_name) IN (SELECT * FROM unnest($3, $4::text[])))
             AND d.outcome = 'launch' AND d.capacity_type = 'on-demand' AND c.capacity_type = 'spot' AND c.refusal IS NOT NULL
           GROUP BY c.refusal"#,
        month.from,
        month.to,
        of.namespaces.as_deref(),
        of.names.as_deref()
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read why spot was refused"))?;
    rows.into_iter().map(|row| Ok((LedgerFault::read_word(&row.refusal, "ledger.candidate", "refusal", "of a launch")?, row.n))).collect()
}

/// Moves, interruptions and GiB carried in a month; and each line's GPU time and computed cost.
type Counts = ((i64, i64, i64), Vec<(String, i64, i64)>);

async fn counts(connection: &mut PgConnection, month: &Span, of: &Narrowed) -> Result<Counts, LedgerFault> {
    let doing = LedgerFault::during;
    let row = sqlx::query!(
        r#"WITH b AS (SELECT ($1::text::date)::timestamp AT TIME ZONE 'UTC' AS first, ($2::text::date)::timestamp AT TIME ZONE 'UTC' AS next)
           SELECT (SELECT count(*) FROM ledger.migration m WHERE m.at >= b.first AND m.at < b.next AND ($3::text[] IS NULL OR EXISTS (
                       SELECT FROM ledger.occupancy_opened o WHERE o.pod_uid = m.pod_uid AND o.pod_namespace = m.pod_namespace AND o.pod_name = m.pod_name
                         AND (o.workload_namespace, o.workload_name) IN (SELECT * FROM unnest($3, $4::text[]))))) AS "moves!",
                  (SELECT count(*) FROM ledger.interruption i WHERE i.at >= b.first AND i.at < b.next AND ($3::text[] IS NULL OR EXISTS (
                       SELECT FROM ledger.occupancy_opened o WHERE o.claim_uid = i.claim_uid
                         AND (o.workload_namespace, o.workload_name) IN (SELECT * FROM unnest($3, $4::text[])))))
                      AS "interruptions!",
                  (SELECT coalesce(sum(o.carried_gib), 0)::bigint FROM ledger.occupancy_opened o WHERE o.at >= b.first AND o.at < b.next
                     AND ($3::text[] IS NULL OR (o.workload_namespace, o.workload_name) IN (SELECT * FROM unnest($3, $4::text[])))) AS "gib!"
           FROM b"#,
        month.from,
        month.to,
        of.namespaces.as_deref(),
        of.names.as_deref()
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(doing("count the month's moves"))?;
    let lines = sqlx::query!(
        r#"SELECT line AS "line!", sum(gpu_ms)::bigint AS "gpu_ms!", (sum(cost_usd - true_up_usd) * 1000000)::bigint AS "micro!" FROM ledger.share_daily
           WHERE day >= $1::text::date AND day < $2::text::date AND line <> 'pod'
             AND ($3::text[] IS NULL OR (coalesce(workload_namespace, ''), coalesce(workload_name, '')) IN (SELECT * FROM unnest($3, $4::text[]))) GROUP BY line"#,
        month.from,
        month.to,
        of.namespaces.as_deref(),
        of.names.as_deref()
    )
    .fetch_all(connection)
    .await
    .map_err(doing("read the month's lines"))?;
    Ok(((row.moves, row.interruptions, row.gib), lines.into_iter().map(|line| (line.line, line.gpu_ms, line.micro)).collect()))
}

/// What feed and bill changed in both months: of the use of machines by cause, beside it by line. The parts add
/// up to `coverage`.
async fn covered(
    connection: &mut PgConnection,
    [before, after]: &[Span; 2],
    of: &Narrowed,
    coverage: MicroUsd,
) -> Result<Vec<(String, [i64; 2])>, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT CASE WHEN ledger.is_use(p.line) THEN p.cause ELSE p.line END AS "what!", p.at >= ($3::text::date)::timestamp AT TIME ZONE 'UTC' AS "after!",
                  (sum(p.cost_usd) * 1000000)::bigint AS "micro!"
           FROM ledger.posting p LEFT JOIN ledger.workload_version w ON w.id = p.workload
           WHERE p.kind IN ('feed', 'bill') AND p.claim_uid IS NOT NULL AND p.posted_at < (SELECT ledger.known_before())
             AND ((p.at >= ($1::text::date)::timestamp AT TIME ZONE 'UTC' AND p.at < ($2::text::date)::timestamp AT TIME ZONE 'UTC')
               OR (p.at >= ($3::text::date)::timestamp AT TIME ZONE 'UTC' AND p.at < ($4::text::date)::timestamp AT TIME ZONE 'UTC'))
             AND ($5::text[] IS NULL OR (coalesce(w.workload_namespace, ''), coalesce(w.workload_name, '')) IN (SELECT * FROM unnest($5, $6::text[])))
           GROUP BY 1, 2 HAVING sum(p.cost_usd) <> 0"#,
        before.from,
        before.to,
        after.from,
        after.to,
        of.namespaces.as_deref(),
        of.names.as_deref()
    );
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("read what AWS changed"))?;
    let mut found: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    for row in rows {
        found.entry(row.what).or_default()[usize::from(row.after)] += row.micro;
    }
    let said: i64 = found.values().map(|pair| pair[1] - pair[0]).sum();
    if said != coverage.0 {
        found.insert("not posted yet".into(), [0, coverage.0 - said]);
    }
    let mut found: Vec<_> = found.into_iter().filter(|(_, pair)| pair[0] != pair[1]).collect();
    found.sort_by_key(|(what, pair)| (std::cmp::Reverse((pair[1] - pair[0]).abs()), what.clone()));
    Ok(found)
}
