//! Reading what is posted already.
//!
//! Decides: nothing; sums of rows as the pure rules take them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::core::accounting::allocation::Line;
use crate::core::accounting::bill::Source;
use crate::core::accounting::billing::PaidInterval;
use crate::core::accounting::posting::{Amounts, Posted};
use crate::core::accounting::statement::{ShareKey, Statement};
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::store::LedgerFault;

/// How an instance-hour compared with AWS's word when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrueUp {
    pub hour: u32,
    pub from: Timestamp,
    pub source: &'static str,
    pub cause: &'static str,
    pub computed: MicroUsd,
    pub billed: MicroUsd,
    /// The version of the bill or feed that said it.
    pub said_by: Option<Uuid>,
    /// How many there were before: names the row.
    pub before: i64,
}

/// The source of an hour that was reported once and is not any more.
const NOBODY: &str = "none";

/// How an hour was compared last: source, cause, computed and billed micro-dollars, and how many rows say so.
type LastTrueUp = (String, String, i64, i64, i64);

/// What is there.
#[derive(Debug)]
pub(super) struct Known {
    pub posted: BTreeMap<Uid, BTreeMap<ShareKey, Posted>>,
    /// By machine and hour.
    true_ups: BTreeMap<(String, u32), LastTrueUp>,
    /// Postings from before are archived.
    pub archived_until: Timestamp,
}

impl Known {
    /// The comparisons that changed. What is open of an hour is on neither side; an hour that nobody reports any more (its bill was retracted) is compared with
    /// nothing.
    pub(super) fn new_true_ups(&self, machine: &Uid, interval: &PaidInterval, statement: &Statement) -> Vec<TrueUp> {
        let of = |(hour, computed): &(crate::core::accounting::bill::BilledHour, MicroUsd)| {
            let source = match hour.source {
                Source::Feed => "feed",
                Source::Bill => "bill",
            };
            let last = self.true_ups.get(&(machine.as_str().to_owned(), hour.hour));
            let new = TrueUp {
                hour: hour.hour,
                from: interval.from + Millis::from_hours(i64::from(hour.hour)),
                source,
                cause: hour.cause.as_str(),
                computed: *computed - hour.open,
                billed: hour.confirmed(),
                said_by: statement.said_by.get(&hour.source).copied(),
                before: last.map_or(0, |last| last.4),
            };
            let same = |last: &LastTrueUp| {
                (last.0.as_str(), last.1.as_str(), last.2, last.3) == (new.source, new.cause, new.computed.0, new.billed.0)
            };
            (!last.is_some_and(same)).then_some(new)
        };
        let mut found: Vec<TrueUp> = statement.billed_hours.iter().filter_map(of).collect();
        let said: BTreeSet<u32> = statement.billed_hours.iter().map(|(hour, _)| hour.hour).collect();
        let uid = machine.as_str().to_owned();
        let gone =
            self.true_ups.range((uid.clone(), 0)..=(uid, u32::MAX)).filter(|((_, hour), last)| !said.contains(hour) && last.0 != NOBODY);
        found.extend(gone.map(|((_, hour), last)| TrueUp {
            hour: *hour,
            from: interval.from + Millis::from_hours(i64::from(*hour)),
            source: NOBODY,
            cause: "retracted",
            computed: MicroUsd(0),
            billed: MicroUsd(0),
            said_by: None,
            before: last.4,
        }));
        found.retain(|true_up| true_up.from >= self.archived_until);
        found
    }
}

/// Everything posted for `machines`.
pub(super) async fn load(connection: &mut PgConnection, machines: &[String]) -> Result<Known, LedgerFault> {
    let doing = LedgerFault::during;
    let rows = sqlx::query!(
        r#"SELECT claim_uid AS "claim_uid!", hour AS "hour!", ledger.utc_day(at) - date '1970-01-01' AS "day!", line, pod_uid, workload,
                  kind IN ('feed', 'bill') AS "billed!", b0_usd IS NOT NULL AS "b0_known!", b1_usd IS NOT NULL AS "b1_known!", b2_usd IS NOT NULL AS "b2_known!",
                  min(ledger.ms(at)) AS "from_ms!", max(span_ms) AS "span_ms!", count(*) AS "rows!", sum(gpu_ms)::bigint AS "gpu_ms!",
                  (sum(cost_usd) * 1000000)::bigint AS "cost!", (sum(b0_usd) * 1000000)::bigint AS b0, (sum(b1_usd) * 1000000)::bigint AS b1,
                  (sum(b2_usd) * 1000000)::bigint AS b2, (sum(feed_usd) * 1000000)::bigint AS "feed!", (sum(bill_usd) * 1000000)::bigint AS "bill!"
           FROM ledger.posting WHERE claim_uid = ANY($1) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"#,
        machines
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read what is posted"))?;
    let mut posted: BTreeMap<Uid, BTreeMap<ShareKey, Posted>> = BTreeMap::new();
    for row in rows {
        let line = Line::of(&row.line).ok_or_else(|| LedgerFault::UnknownWord {
            table: "ledger.posting",
            row: format!("of machine {}, hour {}", row.claim_uid, row.hour),
            column: "line",
            word: row.line.clone(),
        })?;
        let key = ShareKey {
            hour: u32::try_from(row.hour).unwrap_or_default(),
            day: i64::from(row.day),
            line,
            pod: row.pod_uid.map(Uid::from),
            owner: (!row.workload.is_nil()).then_some(row.workload),
        };
        let (from, span) = (Timestamp(row.from_ms), Millis(row.span_ms));
        let share = posted.entry(Uid::from(row.claim_uid)).or_default().entry(key);
        let share = share.or_insert_with(|| Posted { from, span, computed: BTreeMap::new(), billed: BTreeMap::new(), rows: 0 });
        share.from = share.from.min(from);
        share.rows += u32::try_from(row.rows).unwrap_or(u32::MAX);
        let known = |known: bool, amount: Option<i64>| known.then(|| MicroUsd(amount.unwrap_or_default()));
        let amounts = Amounts {
            gpu_ms: row.gpu_ms,
            cost: MicroUsd(row.cost),
            b0: known(row.b0_known, row.b0),
            b1: known(row.b1_known, row.b1),
            b2: known(row.b2_known, row.b2),
            feed: MicroUsd(row.feed),
            bill: MicroUsd(row.bill),
        };
        let layer = if row.billed { &mut share.billed } else { &mut share.computed };
        layer.insert((row.b0_known, row.b1_known, row.b2_known), amounts);
    }
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (claim_uid, hour) claim_uid, hour, source, cause, (computed_usd * 1000000)::bigint AS "computed!",
                  (billed_usd * 1000000)::bigint AS "billed!", count(*) OVER (PARTITION BY claim_uid, hour) AS "rows!"
           FROM ledger.true_up WHERE claim_uid = ANY($1) ORDER BY claim_uid, hour, posted_at DESC"#,
        machines
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("read how hours compared with the bill"))?;
    let true_ups = rows.into_iter().map(|row| {
        let key = (row.claim_uid, u32::try_from(row.hour).unwrap_or_default());
        (key, (row.source, row.cause, row.computed, row.billed, row.rows))
    });
    let archived = sqlx::query_scalar!(r#"SELECT ledger.ms(max(until)) AS until FROM ledger.archived_month WHERE table_name = 'posting'"#)
        .fetch_one(connection)
        .await
        .map_err(doing("read what is archived"))?;
    Ok(Known { posted, true_ups: true_ups.collect(), archived_until: Timestamp(archived.unwrap_or(i64::MIN)) })
}
