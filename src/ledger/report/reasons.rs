//! What stands behind each driver of a variance, in words: counts, prices and reason codes.
//!
//! Decides: the words. Does not: change an amount.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::cents;
use super::variance::Span;
use crate::core::accounting::allocation::Line;
use crate::core::accounting::variance::{Driver, Drivers, Use, bridge, units_of_both};
use crate::core::market::CapacityType;
use crate::core::record::Refusal;
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsd;
use crate::core::workload::need::UsageUnit;
use crate::ledger::store::LedgerFault;

const HOUR_MS: i64 = 3_600_000;

/// What a line was of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfLine {
    /// GPU time.
    pub gpu_ms: i64,
    /// Computed cost, micro-dollars.
    pub computed: i64,
    /// What is posted, micro-dollars.
    pub cost: i64,
    /// What of that rests on the bill.
    pub billed: i64,
}

impl OfLine {
    /// Both together.
    pub(super) fn and(self, other: OfLine) -> OfLine {
        OfLine {
            gpu_ms: self.gpu_ms + other.gpu_ms,
            computed: self.computed + other.computed,
            cost: self.cost + other.cost,
            billed: self.billed + other.billed,
        }
    }
}

/// Each line of both months.
pub(super) type Lines = BTreeMap<String, [OfLine; 2]>;

/// How much less of one span than of the other is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LessBilled {
    /// Which of the two.
    pub which: usize,
    /// What of the use of machines rests on the bill, in per mille: of it, and of the other.
    pub per_mille: [i64; 2],
}

impl LessBilled {
    /// A bill that is not there yet, or not all of it; `None` where the shares differ by less than five of a hundred.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Lines>) -> Option<LessBilled> {
        // Data moved to run there is on other lines of the bill.
        let of_machines = |line: &str| Line::of(line).is_some_and(|line| line.is_use() && line != Line::Egress);
        let mut both = [OfLine::default(); 2];
        for (_, pair) in lines.flatten().filter(|(line, _)| of_machines(line)) {
            both = [both[0].and(pair[0]), both[1].and(pair[1])];
        }
        let share = |of: OfLine| (of.cost > 0).then(|| (i128::from(of.billed) * 1_000 / i128::from(of.cost)) as i64);
        let (was, is) = (share(both[0])?, share(both[1])?);
        match was - is {
            50.. => Some(LessBilled { which: 1, per_mille: [is, was] }),
            ..=-50 => Some(LessBilled { which: 0, per_mille: [was, is] }),
            _ => None,
        }
    }

    /// As `2026-08 is on no bill yet (0 % against 97 %)`.
    pub(super) fn in_words(self, spans: &[Span; 2]) -> String {
        let month = spans.get(self.which).and_then(|span| span.from.get(..7)).unwrap_or_default();
        let [less, more] = self.per_mille.map(|per_mille| (per_mille + 5) / 10);
        let how = if self.per_mille[0] <= 0 { "is on no bill yet" } else { "is on a bill in part" };
        format!("{month} {how} ({less} % against {more} %)")
    }
}
/// The same of each workload: of those asked for, and of them only what the filter leaves.
pub(super) type LinesOf = BTreeMap<ObjectRef, Lines>;

/// Figures of both months.
pub(super) struct Reasons {
    /// Of the unit that the bridge goes by.
    units: Option<(UsageUnit, [i128; 2])>,
    /// On which share of the GPU time they rest, in per mille.
    known_per_mille: [i64; 2],
    useful_gpu_ms: [i64; 2],
    /// Useful use by machine (region and type) and market.
    used: BTreeMap<(String, CapacityType), [Use; 2]>,
    new_and_gone: [Vec<String>; 2],
    spot_refusals: BTreeMap<Refusal, i64>,
    lines: Lines,
    moves: [i64; 2],
    interruptions: [i64; 2],
    egress_gib: [i64; 2],
    /// What feed and bill changed by cause, and what stands beside the use by line: dollars of both months, the largest difference first.
    covered: Vec<(String, [i64; 2])>,
    /// When less of one month is billed: which, and in words.
    less_billed: Option<(usize, String)>,
}

impl Reasons {
    /// What stands behind each driver of these workloads. Volume, efficiency, mix and prices are those of the workload that moved the driver most, whose
    /// name and part are given where there are others: of several workloads together such a figure can fall while each of theirs rises. `narrowed`
    /// says that these are not all workloads there are.
    pub(super) async fn of_each(
        connection: &mut PgConnection,
        spans: &[Span; 2],
        months: &BTreeMap<ObjectRef, [Drivers; 2]>,
        lines: &LinesOf,
        narrowed: bool,
    ) -> Result<BTreeMap<Driver, String>, LedgerFault> {
        let all = Reasons::read(connection, spans, months, lines, narrowed).await?;
        let bridges: Vec<_> = months.iter().map(|(workload, [was, is])| (workload, bridge(was, is))).collect();
        let mut reasons = BTreeMap::new();
        for driver in Driver::ALL {
            let moved = || bridges.iter().map(|(workload, moved)| (*workload, moved.get(&driver).copied().unwrap_or_default()));
            let amount: MicroUsd = moved().map(|(_, amount)| amount).sum();
            let of_one = matches!(
                driver,
                Driver::Volume | Driver::Efficiency | Driver::InstanceMix | Driver::SpotPrice | Driver::MarketMix | Driver::Other
            );
            let most = moved().max_by_key(|(workload, amount)| (amount.0.abs(), std::cmp::Reverse(*workload)));
            let text = match most.filter(|(_, amount)| amount.0 != 0) {
                Some((workload, part)) if of_one && months.len() > 1 => {
                    let one = BTreeMap::from([(workload.clone(), months.get(workload).cloned().unwrap_or_default())]);
                    let said = Reasons::read(connection, spans, &one, lines, true).await?.of(driver, part);
                    let name = super::variance::name_of(workload);
                    if part == amount {
                        format!("{name}: {said}")
                    } else {
                        format!("mostly {name} ({}): {said}", super::signed_dollars(part))
                    }
                }
                None if of_one && months.len() > 1 => "as before in every workload".to_owned(),
                _ => all.of(driver, amount),
            };
            reasons.insert(driver, text);
        }
        Ok(reasons)
    }

    /// Reads what the drivers do not say of these workloads; `narrowed` says that they are not all there are.
    pub(super) async fn read(
        connection: &mut PgConnection,
        spans: &[Span; 2],
        months: &BTreeMap<ObjectRef, [Drivers; 2]>,
        lines: &LinesOf,
        narrowed: bool,
    ) -> Result<Self, LedgerFault> {
        let mut reasons = Reasons::of_drivers(months);
        let of = &Narrowed::to(months.keys(), narrowed);
        reasons.spot_refusals = spot_refusals(connection, &spans[1], of).await?;
        for (n, month) in spans.iter().enumerate() {
            (reasons.moves[n], reasons.interruptions[n], reasons.egress_gib[n]) = counts(connection, month, of).await?;
        }
        for (line, pair) in months.keys().filter_map(|workload| lines.get(workload)).flatten() {
            let sum = reasons.lines.entry(line.clone()).or_default();
            *sum = [sum[0].and(pair[0]), sum[1].and(pair[1])];
        }
        reasons.less_billed = LessBilled::of([&reasons.lines].into_iter()).map(|less| (less.which, less.in_words(spans)));
        let coverage = months.values().map(|pair| pair[1].coverage - pair[0].coverage).sum();
        reasons.covered = covered(connection, spans, of, coverage).await?;
        Ok(reasons)
    }

    fn of_drivers(months: &BTreeMap<ObjectRef, [Drivers; 2]>) -> Self {
        let mut reasons = Reasons {
            units: None,
            known_per_mille: [1_000; 2],
            useful_gpu_ms: [0; 2],
            used: BTreeMap::new(),
            new_and_gone: [Vec::new(), Vec::new()],
            spot_refusals: BTreeMap::new(),
            lines: BTreeMap::new(),
            moves: [0; 2],
            interruptions: [0; 2],
            egress_gib: [0; 2],
            covered: Vec::new(),
            less_billed: None,
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
                for (machine, use_) in &drivers.useful {
                    let sum = &mut reasons.used.entry(machine.clone()).or_default()[n];
                    *sum = Use { gpu_ms: sum.gpu_ms + use_.gpu_ms, cost: sum.cost + use_.cost };
                }
            }
        }
        // The units of several workloads are not of one kind.
        if let (1, Some([was, is])) = (months.len(), months.values().next()) {
            reasons.units = units_of_both(was, is).map(|(unit, u0, u1)| (unit, [u0, u1]));
            let known = |drivers: &Drivers| reasons.units.and_then(|(unit, _)| drivers.known_per_mille.get(&unit).copied());
            reasons.known_per_mille = [was, is].map(|drivers| known(drivers).unwrap_or(1_000));
        }
        reasons
    }

    /// What stands behind a driver.
    pub(super) fn of(&self, driver: Driver, amount: MicroUsd) -> String {
        match driver {
            Driver::Volume => self.volume(),
            Driver::Efficiency => self.efficiency(),
            Driver::InstanceMix => self.instance_mix(),
            Driver::SpotPrice => {
                self.prices(|capacity| capacity == CapacityType::Spot).unwrap_or_else(|| "nothing ran on spot in both months".into())
            }
            Driver::MarketMix => self.market_mix(),
            Driver::MovesAndWaste => self.moves_and_waste(),
            Driver::Idle => {
                let [was, is] = self.line("idle").map(|(gpu_ms, micro)| (hours(gpu_ms), cents(MicroUsd(micro))));
                format!("{} -> {} GPU-hours without a pod, at ${} -> ${} in all", was.0, is.0, was.1, is.1)
            }
            Driver::Egress => {
                let [was, is] = self.line("egress").map(|(_, micro)| cents(MicroUsd(micro)));
                format!("{} -> {} GiB carried across regions, at ${was} -> ${is} in all", self.egress_gib[0], self.egress_gib[1])
            }
            Driver::Coverage => self.coverage(),
            Driver::Other if amount.0 == 0 => "on-demand prices and other costs as before".into(),
            Driver::Other => {
                let overhead = self.line("overhead").map(|(_, micro)| micro);
                let entered = format!("other costs ${} -> ${}", cents(MicroUsd(overhead[0])), cents(MicroUsd(overhead[1])));
                match self.prices(|capacity| capacity != CapacityType::Spot) {
                    // Nothing else moved it.
                    _ if overhead[1] - overhead[0] == amount.0 => entered,
                    Some(prices) if overhead[0] == overhead[1] => prices,
                    Some(prices) => format!("{prices}; {entered}"),
                    None => entered,
                }
            }
        }
    }

    /// GPU time and computed cost of a line.
    fn line(&self, line: &str) -> [(i64, i64); 2] {
        self.lines.get(line).copied().unwrap_or_default().map(|of| (of.gpu_ms, of.computed))
    }

    fn volume(&self) -> String {
        let percent = |per_mille: i64| format!("{}.{} %", per_mille / 10, per_mille % 10);
        let rests = match self.known_per_mille {
            [1_000, 1_000] => String::new(),
            [was, is] => format!(", reckoned from {} -> {} of its GPU time", percent(was), percent(is)),
        };
        let mut parts = vec![match &self.units {
            Some((unit, [was, is])) => format!("{} {} -> {}{rests}", unit.as_str(), was / 1_000_000, is / 1_000_000),
            None => format!("useful GPU-hours {} -> {}", hours(self.useful_gpu_ms[0]), hours(self.useful_gpu_ms[1])),
        }];
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
        let each = |gpu_ms: i64, micro: i128| format!("{:.3}", gpu_ms as f64 * 1e3 / micro as f64);
        match &self.units {
            Some((unit, [was, is])) if self.useful_gpu_ms.iter().all(|gpu_ms| *gpu_ms > 0) => {
                let (was, is) = (each(self.useful_gpu_ms[0], *was), each(self.useful_gpu_ms[1], *is));
                format!("GPU-seconds per {} {was} -> {is}", unit.as_str().trim_end_matches('s'))
            }
            _ => "no usage is known for both months: all of it is volume".into(),
        }
    }

    /// GPU time by machine, over its markets.
    fn by_machine(&self) -> BTreeMap<&str, [i64; 2]> {
        let mut found: BTreeMap<&str, [i64; 2]> = BTreeMap::new();
        for ((machine, _), pair) in &self.used {
            let sum = found.entry(machine).or_default();
            *sum = [sum[0] + pair[0].gpu_ms, sum[1] + pair[1].gpu_ms];
        }
        found
    }

    fn instance_mix(&self) -> String {
        let share = |n: usize, gpu_ms: i64| if self.useful_gpu_ms[n] == 0 { 0 } else { gpu_ms * 100 / self.useful_gpu_ms[n] };
        let moved = |pair: &[i64; 2]| share(1, pair[1]) - share(0, pair[0]);
        let by_machine = self.by_machine();
        match by_machine.iter().max_by_key(|(_, pair)| moved(pair).abs()) {
            Some((machine, pair)) if moved(pair) != 0 && self.useful_gpu_ms.iter().all(|gpu_ms| *gpu_ms > 0) => {
                format!("{machine}: {} % -> {} % of useful GPU time", share(0, pair[0]), share(1, pair[1]))
            }
            _ => "the same machines".into(),
        }
    }

    /// What the machine cost per GPU-hour whose price moved most money, of those used in both months in such a market: a mean over
    /// machines would move with their mix.
    fn prices(&self, of: impl Fn(CapacityType) -> bool) -> Option<String> {
        let rate = |used: &Use| i128::from(used.cost.0) * i128::from(HOUR_MS) / i128::from(used.gpu_ms.max(1));
        let both = || self.used.iter().filter(|((_, capacity), [was, is])| of(*capacity) && was.gpu_ms > 0 && is.gpu_ms > 0);
        let worth = |[was, is]: &[Use; 2]| (rate(is) - rate(was)).abs() * i128::from(is.gpu_ms);
        let ((machine, capacity), pair) = both().max_by_key(|(machine, pair)| (worth(pair), std::cmp::Reverse(*machine)))?;
        let [was, is] = [0, 1].map(|n: usize| cents(MicroUsd(i64::try_from(rate(&pair[n])).unwrap_or(i64::MAX))));
        let name = if both().count() > 1 { format!("{capacity} {}", machine.trim()) } else { capacity.to_string() };
        Some(format!("{name} cost ${was} -> ${is} per GPU-hour"))
    }

    fn market_mix(&self) -> String {
        // A machine that was not used before has no old mix: it counts as instance mix.
        let by_machine = self.by_machine();
        let both = |machine: &str| by_machine.get(machine).is_some_and(|[was, is]| *was > 0 && *is > 0);
        let (mut whole, mut on_demand) = ([0; 2], [0; 2]);
        for ((_, capacity), pair) in self.used.iter().filter(|((machine, _), _)| both(machine)) {
            for n in [0, 1] {
                whole[n] += pair[n].gpu_ms;
                on_demand[n] += if *capacity == CapacityType::Spot { 0 } else { pair[n].gpu_ms };
            }
        }
        if on_demand == [0, 0] {
            return "all on spot in both months, where the machines are the same".into();
        }
        let refused: i64 = self.spot_refusals.values().sum();
        let mut sorted: Vec<(&Refusal, &i64)> = self.spot_refusals.iter().collect();
        sorted.sort_by_key(|(refusal, n)| (std::cmp::Reverse(**n), **refusal));
        let words: Vec<String> = sorted.into_iter().take(3).map(|(refusal, n)| format!("{n} {refusal}")).collect();
        let why = if refused == 0 { String::new() } else { format!("; {refused} spot offers refused there: {}", words.join(", ")) };
        let each = |n: usize| format!("{} of {}", hours(on_demand[n]), hours(whole[n]));
        format!("{} -> {} GPU-hours on demand{why}", each(0), each(1))
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
        let Some((which, said)) = &self.less_billed else { return largest(self.covered.iter()) };
        // What only the month with the bill has is no change: the other's is not there yet.
        let (open, both): (Vec<_>, Vec<_>) = self.covered.iter().partition(|(_, pair)| pair[*which] == 0);
        let mut text = said.clone();
        for (heading, part) in [("not billed yet", open), ("besides", both)] {
            if !part.is_empty() {
                text.push_str(&format!("; {heading}: {}", largest(part.into_iter())));
            }
        }
        text
    }
}

/// The three largest differences and the others, in words.
fn largest<'a>(of: impl Iterator<Item = &'a (String, [i64; 2])> + Clone) -> String {
    let difference = |pair: &[i64; 2]| MicroUsd(pair[1] - pair[0]);
    let shown = of.clone().take(3);
    let mut words: Vec<String> = shown.map(|(what, pair)| format!("{what} {}", super::signed_dollars(difference(pair)))).collect();
    let rest: Vec<MicroUsd> = of.skip(3).map(|(_, pair)| difference(pair)).collect();
    if !rest.is_empty() {
        words.push(format!("others {}", super::signed_dollars(rest.into_iter().sum())));
    }
    words.join(", ")
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

/// Moves, interruptions and GiB carried in a month.
type Counts = (i64, i64, i64);

async fn counts(connection: &mut PgConnection, month: &Span, of: &Narrowed) -> Result<Counts, LedgerFault> {
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
    .fetch_one(connection)
    .await
    .map_err(LedgerFault::during("count the month's moves"))?;
    Ok((row.moves, row.interruptions, row.gib))
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
