//! NAT gateways and VPC endpoints that our machines use: whose they are, and how their lines are split over the machines.
//!
//! Decides: that a gateway is ours by a tag of its own, which says the share of it that is our machines' in percent: no bill says what went through a gateway
//! for whom; that each of its lines is split over the machines of ours that the same bill has in the same account, region and span, by their billed time; and that what no
//! machine of ours ran beside stays with the account, on the bill and in FOCUS files alike.
//! Does not: guess. Without the tag a gateway is the account's, and of other resources the tag says nothing.
//! Source: Amazon VPC user guide, "Pricing for NAT gateways" (by the hour and by the GB processed, on the gateway itself).

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::ImportFault;
use super::checks::{Check, Checks};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Timestamp;
use crate::ledger::store::LedgerFault;

/// The tag by which a gateway is ours, in percent.
pub(super) const SHARE_TAG: &str = "lowtide-share";

/// All of it, in units of 10^-10.
const WHOLE: BilledUsd = BilledUsd(100 * 10_000_000_000);

/// A gateway that our machines use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    /// The region that its ARN names.
    pub region: String,
    /// The share that is our machines', in percent.
    pub percent: BilledUsd,
}

impl Gateway {
    /// What is left of an amount for the others.
    pub(super) fn of_others(&self, amount: BilledUsd) -> BilledUsd {
        BilledUsd(amount.0 - amount.part(self.percent.0, WHOLE.0).0)
    }
}

/// The gateway that a resource is, if its tag says that our machines use it. A share that cannot be read is refused; accepted, the gateway is the account's.
pub(super) fn gateway_of(
    resource: &str,
    share: impl FnOnce() -> Option<String>,
    checks: &mut Checks,
) -> Result<Option<Gateway>, ImportFault> {
    // arn:aws:ec2:us-east-1:444455556666:natgateway/nat-0a1b
    let mut parts = resource.splitn(6, ':').skip(3);
    let (Some(region), Some(name)) = (parts.next(), parts.nth(1)) else { return Ok(None) };
    if !["natgateway/", "vpc-endpoint/"].iter().any(|kind| name.starts_with(kind)) {
        return Ok(None);
    }
    let Some(said) = share() else { return Ok(None) };
    let figure = said.trim().trim_end_matches('%').trim_end();
    match figure.parse::<BilledUsd>() {
        Ok(percent) if (0..=WHOLE.0).contains(&percent.0) => Ok(Some(Gateway { region: region.to_owned(), percent })),
        _ => {
            checks.refuse(Check::BeyondReason, || {
                format!("the tag {SHARE_TAG} of {resource} is {said:?}; expected a share in percent from 0 to 100, as in 40: accepted, it stays with the account")
            })?;
            Ok(None)
        }
    }
}

/// A row of a FOCUS file about a gateway that our machines use.
pub(super) struct GatewayRow {
    /// The gateway.
    pub gateway: Gateway,
    /// Whose use; empty where the file does not say.
    pub account: String,
    /// Start of what it is about.
    pub from: Timestamp,
    /// End of it.
    pub to: Timestamp,
}

/// When machines of ours ran, by region, and in which accounts as far as bills say.
pub(super) struct Ran(Vec<(String, Vec<String>, i64, i64)>);

impl Ran {
    /// Whether one ran in the region and account of a row, in its span: then the bill has a line of it, and lays our share of the gateway on it.
    pub(super) fn beside(&self, row: &GatewayRow) -> bool {
        let is_there = |(region, accounts, from, to): &(String, Vec<String>, i64, i64)| {
            *region == row.gateway.region
                && *from < row.to.0.max(row.from.0 + 1)
                && *to > row.from.0
                && (accounts.is_empty() || row.account.is_empty() || accounts.contains(&row.account))
        };
        self.0.iter().any(is_there)
    }
}

/// When machines ran in the regions of these rows.
pub(super) async fn ran<'a>(connection: &mut PgConnection, rows: impl Iterator<Item = &'a GatewayRow>) -> Result<Ran, LedgerFault> {
    let regions: BTreeSet<&str> = rows.map(|row| row.gateway.region.as_str()).collect();
    let regions: Vec<&str> = regions.into_iter().collect();
    if regions.is_empty() {
        return Ok(Ran(Vec::new()));
    }
    let sql = "SELECT o.region, ledger.ms(o.at) AS from_ms, ledger.ms(c.at) AS to_ms,
                      ARRAY(SELECT DISTINCT l.account FROM ledger.billed_line l
                            WHERE l.instance = o.instance AND l.source = 'bill' AND l.kind IN ('usage', 'commitment') AND l.account <> '') AS accounts
               FROM (SELECT DISTINCT ON (claim_uid) claim_uid, instance, region, at FROM ledger.interval_opened WHERE region = ANY($1)
                     ORDER BY claim_uid, posted_at, at) o
               LEFT JOIN LATERAL (SELECT x.at FROM ledger.interval_closed x WHERE x.claim_uid = o.claim_uid ORDER BY x.posted_at, x.at LIMIT 1) c ON true";
    let doing = LedgerFault::during;
    let rows = sqlx::query(sql).bind(&regions).fetch_all(connection).await.map_err(doing("ask when machines ran beside gateways"))?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<(String, Vec<String>, i64, i64), sqlx::Error> {
        let end: Option<i64> = row.try_get("to_ms")?;
        Ok((row.try_get("region")?, row.try_get("accounts")?, row.try_get("from_ms")?, end.unwrap_or(i64::MAX)))
    };
    rows.iter().map(|row| read(row).map_err(doing("ask when machines ran beside gateways"))).collect::<Result<_, _>>().map(Ran)
}

/// Parts of the lines of gateways: differences of the running share of each line, machine by machine, so that they add up.
const PARTS: &str = "CREATE TEMPORARY TABLE gateway_part ON COMMIT DROP AS
    WITH gateway AS (
        SELECT ctid AS line, account, region, at, until, cost * share AS hundredfold FROM staged_line
        WHERE payer = $1 AND period = $2::date AND instance = '' AND share > 0
    ), ours AS (
        SELECT s.account, o.region, s.at, s.until, s.instance, sum(s.used_ms) AS used
        FROM staged_line s JOIN (SELECT DISTINCT instance, region FROM ledger.interval_opened) o ON o.instance = s.instance
        WHERE s.payer = $1 AND s.period = $2::date AND s.kind IN ('usage', 'commitment') GROUP BY 1, 2, 3, 4, 5 HAVING sum(s.used_ms) > 0
    ), parts AS (
        SELECT g.line, g.hundredfold, o.instance, o.used, sum(o.used) OVER (PARTITION BY g.line ORDER BY o.instance COLLATE \"C\") AS upto,
               100 * sum(o.used) OVER (PARTITION BY g.line) AS whole
        FROM gateway g JOIN ours o USING (account, region, at, until)
    )
    SELECT line, instance, round(hundredfold * upto / whole, 10) - round(hundredfold * (upto - used) / whole, 10) AS cost FROM parts";

/// Splits what is staged of a period: our part of each gateway's lines is lines of its machines, the rest stays as it is.
pub(super) async fn split(connection: &mut PgConnection, payer: &str, period: &str) -> Result<(), LedgerFault> {
    let there = "SELECT EXISTS (SELECT FROM staged_line WHERE payer = $1 AND period = $2::date AND instance = '' AND share > 0)";
    let there: bool = sqlx::query_scalar(there)
        .bind(payer)
        .bind(period)
        .fetch_one(&mut *connection)
        .await
        .map_err(LedgerFault::during("look for gateways"))?;
    if !there {
        return Ok(());
    }
    let parted = sqlx::query(AssertSqlSafe(PARTS)).bind(payer).bind(period).execute(&mut *connection).await;
    parted.map_err(LedgerFault::during("split the gateways' lines"))?;
    sqlx::raw_sql(
        "INSERT INTO staged_line
             SELECT g.file, g.part, NULL, NULL, g.payer, g.period, g.kind, g.account, p.instance, '', NULL, NULL, g.usage_type, g.operation, g.service, g.at, g.until, p.cost, NULL,
                    NULL, g.invoice, g.currency, NULL
             FROM staged_line g JOIN gateway_part p ON p.line = g.ctid WHERE p.cost <> 0;
         DELETE FROM staged_line g USING (SELECT line, sum(cost) AS cost FROM gateway_part GROUP BY line) p
             WHERE g.ctid = p.line AND g.cost = p.cost AND g.cost <> 0;
         UPDATE staged_line g SET cost = g.cost - p.cost FROM (SELECT line, sum(cost) AS cost FROM gateway_part GROUP BY line) p WHERE g.ctid = p.line;
         DROP TABLE gateway_part",
    )
    .execute(connection)
    .await
    .map_err(LedgerFault::during("lay the gateways' lines on the machines"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_ours_by_its_tag_alone() {
        let arn = "arn:aws:ec2:eu-south-2:444455556666:natgateway/nat-0a1b";
        let of = |resource: &str, share: &str| {
            let share = (!share.is_empty()).then(|| share.to_owned());
            gateway_of(resource, || share, &mut Checks::default()).map_err(|fault| fault.to_string())
        };
        let percent = |text: &str| of(arn, text).unwrap().map(|gateway| (gateway.region, gateway.percent.0 / 1_000_000_000));
        assert_eq!(percent("100"), Some(("eu-south-2".into(), 1_000)));
        assert_eq!(percent(" 37.5 %"), Some(("eu-south-2".into(), 375)));
        assert_eq!(percent("0"), Some(("eu-south-2".into(), 0)));
        assert_eq!(percent(""), None);
        for other in ["", "nat-0a1b", "vol-1", "arn:aws:ec2:eu-south-2:444455556666:instance/i-0a", "arn:aws:ec2:natgateway/nat-1"] {
            assert_eq!(of(other, "100"), Ok(None), "{other}");
        }
        assert!(of("arn:aws-cn:ec2:cn-north-1:1:vpc-endpoint/vpce-1", "50").unwrap().is_some());
        for bad in ["all", "101", "-1", "NaN", "1e3", "99999999999999999999"] {
            let fault = of(arn, bad).unwrap_err();
            assert!(
                fault.contains("expected a share in percent from 0 to 100") && fault.contains("accept beyond-reason"),
                "{bad}: {fault}"
            );
            assert_eq!(gateway_of(arn, || Some(bad.into()), &mut Checks::accepting([Check::BeyondReason])).unwrap(), None);
        }
        let gateway = of(arn, "37.5").unwrap().unwrap();
        assert_eq!(gateway.of_others(BilledUsd(80)), BilledUsd(50));
    }
}
