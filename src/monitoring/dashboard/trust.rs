//! Ledger trust: whether records arrive, are posted and sealed, and which source the figures rest on.

use super::{Dashboard, Draw, Panel, Row, q};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "lowtide-trust",
        title: "lowtide / Ledger trust",
        description: "How far the figures can be trusted.",
        span: "30d",
        rows: vec![
            Row {
                title: "Now",
                panels: vec![
                    Panel::prometheus("Ledger", "1 while Postgres accepts records.", Draw::Stat, "short", &[q("min(lowtide_ledger_available{@})", "available")]),
                    Panel::prometheus("Broken invariants", "Passes that saw one, in the time range shown; anything but 0 is a bug.", Draw::Stat, "short", &[q("sum(increase(lowtide_invariant_faults_total{@}[$__range]))", "faults")]),
                    Panel::prometheus("Outbox", "Waiting records, and the age of the oldest.", Draw::Stat, "short", &[q("max(lowtide_outbox_records{@})", "records"), q("max(lowtide_outbox_age_seconds{@})", "age, s"), q("max(lowtide_outbox_bound_records{@})", "bound")]),
                    Panel::prometheus("Waiting prices", "Price changes on their way into Postgres.", Draw::Stat, "short", &[q("max(lowtide_prices_waiting{@})", "prices")]),
                    Panel::prometheus("Posting and seal", "Seconds since everything settled was posted, and sealed; 0 before the first time.", Draw::Stat, "s", &[q("max(lowtide_posting_age_seconds{@})", "posted"), q("max(lowtide_seal_age_seconds{@})", "sealed")]),
                    Panel::prometheus("Bills", "Seconds since every bill and feed that AWS had written was taken (0 where nothing is fetched), and how many were refused.", Draw::Stat, "short", &[q("max(lowtide_bills_age_seconds{@})", "age, s"), q("max(lowtide_bills_refused{@})", "refused")]),
                ],
            },
            Row {
                title: "According to the ledger",
                panels: vec![
                    Panel::ledger("What the figures rest on", "Dollars by the source they rest on, unattributed amounts, and facts without a counterpart.", Draw::Table, "short", &[q(
                        "SELECT * FROM ledger.trust_of(($__timeFrom())::date, ($__timeTo())::date + 1)", "")]),
                    Panel::ledger("Spend by basis", "Bill, spot data feed, computed from recorded prices, or still running.", Draw::Stacked, "currencyUSD", &[q(
                        "SELECT day::timestamp AT TIME ZONE 'UTC' AS time, basis AS metric, sum(cost_usd) AS value FROM ledger.cost_daily\nWHERE day BETWEEN ($__timeFrom())::date AND ($__timeTo())::date GROUP BY 1, 2 ORDER BY 1", "")]),
                    Panel::ledger("True-ups by cause", "Where AWS's figures differ from the computed ones, and why.", Draw::Table, "currencyUSD", &[q(
                        "SELECT source, cause, count(*) AS hours, sum(billed_usd - computed_usd) AS difference_usd FROM (SELECT DISTINCT ON (claim_uid, hour) * FROM ledger.true_up WHERE at BETWEEN $__timeFrom() AND $__timeTo() ORDER BY claim_uid, hour, posted_at DESC) t WHERE source <> 'none' GROUP BY 1, 2 ORDER BY 3 DESC", "")]).may_be_empty("neither bill nor feed was imported"),
                    Panel::ledger("Seals", "The latest seals: rows and time. Keep their roots somewhere else.", Draw::Table, "short", &[q(
                        "SELECT number, sealed_at, rows, encode(root, 'hex') AS root FROM ledger.seal ORDER BY number DESC LIMIT 20", "")]).may_be_empty("nothing was sealed yet"),
                ],
            },
        ],
    }
}
