//! Old months leave as files, and everything stays provable.

use std::path::{Path, PathBuf};

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::archive::{ArchiveFault, Retention, archive};
use lowtide::ledger::connect;
use lowtide::ledger::poster::post;
use lowtide::ledger::report::Month;
use lowtide::ledger::seal::seal;
use lowtide::ledger::table_file::Format;
use lowtide::ledger::verify::{Finding, verify};
use lowtide::ports::Ledger;

use crate::facts::{Bench, DAY, Machine, bench, decision, stay};

const MONTH: i64 = 31 * 86_400_000;
const LATER: Timestamp = Timestamp(DAY.0 + 3 * MONTH);

struct Folder(PathBuf);
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

async fn two_months() -> (Bench, Folder) {
    let bench = bench().await;
    for n in 0..6 {
        let mut machine =
            Machine::new(&format!("m{n}"), CapacityType::Spot, 302_000, Some(804_800), Millis::from_hours(3), EndedBy::Lowtide);
        let shift = Millis(if n < 3 { 0 } else { MONTH });
        (machine.interval.from, machine.interval.to) = (machine.interval.from + shift, machine.interval.to + shift);
        machine.stays.push(stay(&format!("p{n}"), "search", &machine, Millis::from_mins(4), Some(804_800)));
        let mut records = machine.records();
        let mut bought = decision(&machine);
        bought.text = "[\"a text that looks like JSON\"]".into();
        records.push(LedgerRecord::Decision(Box::new(bought)));
        bench.ledger.write(&records).await.unwrap();
    }
    let mut connection = connect(&bench.url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder(std::env::temp_dir().join(format!("lowtide-archive-{}-{}", std::process::id(), bench.server.port())));
    (bench, folder)
}

/// July's tables, when it is late enough for July but not for August.
async fn archive_july(url: &str, to: &Path, format: Format) -> Result<usize, ArchiveFault> {
    let mut connection = connect(url).await.unwrap();
    let kept = Retention { months: 84, candidate_months: 84 };
    let archived = archive(&mut connection, month("2030-01"), month("2033-08"), kept, to, format).await?;
    assert!(archived.iter().all(|a| a.month < month("2026-08")));
    Ok(archived.iter().map(|a| a.rows).sum())
}

#[tokio::test]
async fn a_month_leaves_as_files_and_the_rest_still_verifies() {
    for format in [Format::Parquet, Format::Csv] {
        let (Bench { url, ledger, server }, folder) = two_months().await;
        let mut connection = connect(&url).await.unwrap();
        let unsealed = archive_july(&url, &folder.0, format).await.unwrap_err().to_string();
        assert!(unsealed.contains("some of its rows have no seal; run lowtide ledger seal first"), "{unsealed}");
        seal(&mut connection).await.unwrap();
        let before = verify(&mut connection).await.unwrap();
        assert_eq!(before.findings.len(), 0);
        let report = "SELECT sum(spend_usd)::numeric(10,6), sum(net_saving_b1_usd)::numeric(10,6) FROM ledger.savings_daily";
        let saved = server.psql("postgres", report).unwrap();
        let young = archive(&mut connection, month("2030-01"), month("2027-01"), Retention::default(), &folder.0, format).await.unwrap();
        assert!(young.is_empty(), "half a year is kept: {young:?}");
        let candidates = Retention { months: 84, candidate_months: 3 };
        let only = archive(&mut connection, month("2030-01"), month("2026-11"), candidates, &folder.0, format).await.unwrap();
        assert!(only.iter().all(|a| a.table == "candidate_set") && only.iter().map(|a| a.rows).sum::<usize>() == 3, "{only:?}");
        let rows = archive_july(&url, &folder.0, format).await.unwrap();
        assert!(rows > 20, "{rows}");

        let after = verify(&mut connection).await.unwrap();
        assert_eq!(after.findings.len(), 0, "{:?}", after.findings);
        assert_eq!(after.archived_rows, i64::try_from(rows + 3).unwrap());
        assert_eq!(after.sealed_rows, before.sealed_rows);
        assert_eq!(server.psql("postgres", report).unwrap(), saved, "sums of archived days are kept");
        let left = server.psql("postgres", "SELECT count(*) FROM ledger.interval_opened").unwrap();
        assert_eq!(left.trim(), "3");
        assert!(std::fs::read_dir(&folder.0).unwrap().any(|file| file.unwrap().file_name().to_str().unwrap().starts_with("seals_")));

        // News about a machine that is archived changes nothing that was posted.
        let mut late = Machine::new("m0", CapacityType::Spot, 302_000, Some(804_800), Millis::from_hours(3), EndedBy::Lowtide);
        late.interval.to = late.interval.to + Millis(MONTH);
        ledger.write(&[late.closed()]).await.unwrap();
        post(&mut connection, LATER).await.unwrap();
        assert_eq!(server.psql("postgres", report).unwrap(), saved);
        seal(&mut connection).await.unwrap();
        assert_eq!(verify(&mut connection).await.unwrap().findings.len(), 0, "the archive's own rows are sealed too");
        assert_eq!(archive_july(&url, &folder.0, format).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_row_that_is_missing_is_not_taken_for_an_archived_one_and_sums_are_checked() {
    let (Bench { url, server, .. }, folder) = two_months().await;
    let mut connection = connect(&url).await.unwrap();
    seal(&mut connection).await.unwrap();
    archive_july(&url, &folder.0, Format::Csv).await.unwrap();
    let behind = |sql: &str| server.psql("postgres", &format!("SET session_replication_role = replica; {sql}")).unwrap();
    behind("DELETE FROM ledger.interval_closed WHERE claim_uid = 'uid-m4'");
    behind("UPDATE ledger.cost_rollup SET cost_usd = cost_usd + 1 WHERE day = '2026-08-20' AND line = 'pod'");
    let findings = verify(&mut connection).await.unwrap().findings;
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings.iter().any(|f| matches!(f, Finding::Missing(table, _) if table == "interval_closed")));
    assert!(findings.contains(&Finding::SumsDiffer("2026-08-20".into())));
    // Whoever claims that a missing row was archived has to say so in a row that is sealed, with a root that its seal gives.
    behind(
        "SET timezone = 'UTC'; UPDATE ledger.archived_month t SET row_ids = row_ids || uuid_send((SELECT id FROM ledger.posting ORDER BY id LIMIT 1)), rows = rows + 1
         WHERE table_name = 'posting'; DELETE FROM ledger.posting WHERE id = (SELECT id FROM ledger.posting ORDER BY id LIMIT 1)",
    );
    let findings = verify(&mut connection).await.unwrap().findings;
    assert!(findings.contains(&Finding::BrokenArchive("posting 2026-07".into())), "{findings:?}");
    assert!(findings.iter().any(|f| matches!(f, Finding::Altered(table, _) if table == "archived_month")));
}

#[tokio::test]
async fn what_still_runs_or_waits_is_not_archived() {
    let (Bench { url, ledger, server: _server }, folder) = two_months().await;
    let mut connection = connect(&url).await.unwrap();
    let running = Machine::new("runs", CapacityType::Spot, 302_000, None, Millis::from_hours(3), EndedBy::Lowtide);
    ledger.write(&[running.opened()]).await.unwrap();
    seal(&mut connection).await.unwrap();
    let fault = archive_july(&url, &folder.0, Format::Csv).await.unwrap_err().to_string();
    assert!(fault.contains("something is still waiting to be posted"), "{fault}");
    let _ = std::fs::remove_dir_all(&folder.0);
    post(&mut connection, LATER).await.unwrap();
    seal(&mut connection).await.unwrap();
    let fault = archive_july(&url, &folder.0, Format::Csv).await.unwrap_err().to_string();
    assert!(fault.contains("a machine that started then is still running"), "{fault}");
}
