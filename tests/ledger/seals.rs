//! Seals name what was altered, removed or added.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::time::Millis;
use lowtide::ledger::connect;
use lowtide::ledger::seal::seal;
use lowtide::ledger::verify::{Finding, Sample, recompute, verify};
use lowtide::ports::Ledger;

use crate::facts::{Bench, Machine, bench};

#[tokio::test]
async fn verify_names_the_row_that_was_altered_removed_or_slipped_in() {
    let Bench { url, ledger, server } = bench().await;
    let machines: Vec<Machine> = (0..5)
        .map(|n| Machine::new(&format!("m{n}"), CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide))
        .collect();
    let mut connection = connect(&url).await.unwrap();
    // The definitions of the migration.
    let definitions = seal(&mut connection).await.unwrap().rows;
    assert!(definitions > 100 && seal(&mut connection).await.unwrap().rows == 0);
    ledger.write(&machines[0].records()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap().rows, 2);
    ledger.write(&[machines[1].records(), machines[2].records()].concat()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap().rows, 4);
    ledger.write(&machines[3].records()).await.unwrap();
    let clean = verify(&mut connection).await.unwrap();
    assert_eq!((clean.seals, clean.sealed_rows - definitions, clean.unsealed_rows, clean.findings.len()), (3, 6, 2, 0), "{clean:?}");

    // What only a superuser can do, behind the triggers' back.
    let behind = |sql: &str| server.psql("postgres", &format!("SET session_replication_role = replica; {sql}")).unwrap();
    let id = |record: LedgerRecord| record.id();
    behind("UPDATE ledger.interval_opened SET price_usd_h = 0.1 WHERE claim IN ('m0', 'm3')");
    behind("DELETE FROM ledger.interval_closed WHERE claim_uid = 'uid-m1'");
    let slipped = "INSERT INTO ledger.occupancy_closed (id, at, claim_uid, pod_uid, posted_at, xid, content_hash)
                   SELECT '00000000-0000-0000-0000-000000000001', at, claim_uid, 'p', posted_at, xid, content_hash FROM ledger.interval_opened WHERE claim = 'm2'";
    behind(slipped);
    let found = verify(&mut connection).await.unwrap().findings;
    let expected = [
        Finding::Altered("interval_opened".into(), id(machines[0].opened())),
        Finding::Altered("interval_opened".into(), id(machines[3].opened())),
        Finding::Missing("interval_closed".into(), id(machines[1].closed())),
        Finding::Added("occupancy_closed".into(), "00000000-0000-0000-0000-000000000001".parse().unwrap()),
    ];
    assert_eq!(found, expected.into_iter().collect());
    // A forger who recomputes the row's own hash still breaks the seal's.
    behind(
        "SET timezone = 'UTC'; UPDATE ledger.interval_opened t SET content_hash = sha256(convert_to(ledger.canonical_v1(to_jsonb(t)), 'UTF8'))",
    );
    assert!(
        verify(&mut connection).await.unwrap().findings.contains(&Finding::Altered("interval_opened".into(), id(machines[0].opened())))
    );
    behind("UPDATE ledger.seal SET rows = rows + 1 WHERE number = 1");
    assert!(verify(&mut connection).await.unwrap().findings.contains(&Finding::BrokenSeal(1)));
}

/// Rows hashed by an older version hold, and so do those of sessions with settings of their own.
#[tokio::test]
async fn a_hash_holds_whatever_version_or_session_wrote_it() {
    let Bench { url, ledger, server } = bench().await;
    let machine = Machine::new("m", CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    ledger.write(&machine.records()).await.unwrap();
    let elsewhere = "SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'; SET bytea_output = 'escape';
        INSERT INTO ledger.checkpoint (id, at, claim_uid, pod_uid) VALUES (gen_random_uuid(), '2026-07-05 12:00+02', 'a, \"quoted\" name)', ''),
            (gen_random_uuid(), '2026-07-05 12:00+02', ',)', ',)')";
    server.psql("postgres", elsewhere).unwrap();
    let behind =
        |sql: &str| server.psql("postgres", &format!("SET session_replication_role = replica; SET timezone = 'UTC'; {sql}")).unwrap();
    let first_version = "content_hash = sha256(convert_to(ledger.canonical_v1(to_jsonb(t)), 'UTF8'))";
    behind(&format!("UPDATE ledger.interval_opened t SET {first_version}"));
    let mut connection = connect(&url).await.unwrap();
    assert_eq!(verify(&mut connection).await.unwrap().findings.len(), 0);
    // An empty text is not no text, and text that looks like the end of a row is not cut off.
    let row = |sql: &str| server.psql("postgres", sql).unwrap().trim().parse().unwrap();
    let checkpoint = row("SELECT id FROM ledger.checkpoint WHERE pod_uid = ',)'");
    behind("UPDATE ledger.checkpoint SET pod_uid = '' WHERE pod_uid = ',)'");
    let altered = verify(&mut connection).await.unwrap().findings;
    assert_eq!(altered, [Finding::Altered("checkpoint".into(), checkpoint)].into_iter().collect());
    // Neither version's hash is taken for a row of other content.
    behind("UPDATE ledger.interval_opened SET gpus = gpus + 1");
    assert_eq!(verify(&mut connection).await.unwrap().findings.len(), 2);
}

/// Refused offers as three versions wrote them.
#[tokio::test]
async fn refused_offers_of_older_versions_are_read_as_those_of_today() {
    let Bench { server, .. } = bench().await;
    let by_name = r#"[{"region": "us-east-1", "zone": "use1-az4", "instance_type": "g6.xlarge", "capacity_type": "spot", "price_usd_h": "0.31", "per_replica_usd_h": null,
        "replicas": 1, "price_age_ms": 40, "price_source": "file", "refusal": "dearer", "interruptions_per_million_hours": 151, "placement_score": null}]"#;
    let by_position = r#"[["us-east-1", "use1-az4", "g6.xlarge", "spot", "0.31", null, 1, 40, "file", "dearer", 151, null]]"#;
    let lines = "us-east-1,use1-az4,g6.xlarge,spot,0.31,,1,40,file,dearer,151,";
    let insert = format!(
        "INSERT INTO ledger.candidate_set (id, at, candidates, offers) VALUES (gen_random_uuid(), '2026-07-05', '{by_name}', NULL),
            (gen_random_uuid(), '2026-07-05', '{by_position}', NULL), (gen_random_uuid(), '2026-07-05', NULL, '{lines}'),
            (gen_random_uuid(), '2026-07-05', NULL, '')"
    );
    server.psql("postgres", &insert).unwrap();
    let read = server.psql("postgres", "SELECT DISTINCT to_jsonb(c) - 'decision', count(*) OVER () FROM ledger.candidate c").unwrap();
    assert_eq!(read.trim().lines().count(), 1, "{read}");
    assert!(
        read.contains(r#""price_usd_h": 0.31"#) && read.contains(r#""per_replica_usd_h": null"#) && read.trim().ends_with('3'),
        "{read}"
    );
}

/// A view that its owner replaces, a right that is given, a trigger that is put off, a posting that nothing stands behind: each is found.
#[tokio::test]
async fn verify_finds_what_no_longer_follows_from_the_facts() {
    let Bench { url, ledger, server } = bench().await;
    let mut machine = Machine::new("m", CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
    machine.stays.push(crate::facts::stay("p", "search", &machine, Millis::ZERO, None));
    ledger.write(&machine.records()).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    lowtide::ledger::poster::post(&mut connection, crate::imports::LATER).await.unwrap();
    let mut found = async || -> Vec<String> {
        let mut found = verify(&mut connection).await.unwrap().findings;
        found.extend(recompute(&mut connection, &Sample::default()).await.unwrap());
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(found().await, Vec::<String>::new());
    lowtide::ledger::migrate(&url).await.unwrap();
    assert_eq!(found().await, Vec::<String>::new(), "a migration that changes nothing leaves nothing to find");
    let view = "CREATE OR REPLACE VIEW ledger.revenue AS SELECT ledger.utc_day(at) AS day, workload_namespace, workload_name, 2 * sum(revenue_usd) AS revenue_usd
                FROM ledger.revenue_day WHERE statement IS NOT NULL GROUP BY at, workload_namespace, workload_name HAVING sum(lines) > 0";
    server.psql("postgres", view).unwrap();
    let of = |what: &str| vec![format!("{what} since the last migration: figures may not follow from rows")];
    assert_eq!(found().await, of("view revenue: replaced"));
    lowtide::ledger::migrate(&url).await.unwrap();
    server.psql("postgres", "GRANT DELETE ON ledger.posting TO lowtide_writer").unwrap();
    assert_eq!(found().await, of("rights on posting: replaced"));
    server
        .psql("postgres", "REVOKE DELETE ON ledger.posting FROM lowtide_writer; ALTER TABLE ledger.posting DISABLE TRIGGER refuse_change")
        .unwrap();
    assert_eq!(found().await, of("trigger posting.refuse_change: replaced"));
    server.psql("postgres", "ALTER TABLE ledger.posting ENABLE TRIGGER refuse_change").unwrap();
    // A row that is well made and has nothing behind it, and one that only changes an amount.
    let slipped = "INSERT INTO ledger.posting (id, at, workload, gpu_ms, span_ms, hour, claim_uid, line, kind, cause, cost_usd, feed_usd, bill_usd, statement)
        VALUES ('00000000-0000-0000-0000-000000000007', '2026-07-20', '00000000-0000-0000-0000-000000000000', 0, 0, 0, 'uid-m', 'credit', 'bill', 'x', -5, 0, -5,
                '00000000-0000-0000-0000-00000000000a')";
    server.psql("postgres", slipped).unwrap();
    lowtide::ledger::poster::post(&mut connect(&url).await.unwrap(), crate::imports::LATER).await.unwrap();
    assert_eq!(
        found().await,
        [
            "ledger.posting 00000000-0000-0000-0000-000000000007 has no cause: the statement or machine that it names does not exist",
            "the postings of machine uid-m do not follow from its facts and bills",
        ]
    );
}

/// What reports read beside the postings: daily sums moved from one owner to another, other costs that no file has, a rule and row security on a table.
#[tokio::test]
async fn sums_and_other_costs_are_held_against_what_they_are_made_of() {
    let Bench { url, ledger, server } = bench().await;
    for (name, team) in [("m", "search"), ("n", "vision")] {
        let mut machine = Machine::new(name, CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide);
        machine.stays.push(crate::facts::stay(&format!("p-{name}"), team, &machine, Millis::ZERO, None));
        ledger.write(&machine.records()).await.unwrap();
    }
    let mut connection = connect(&url).await.unwrap();
    let folder = crate::imports::Folder::new("seals-sums");
    let costs = folder.file("c.csv", "period,item,cost_usd,team\n2026-07-20,llm-api,30,search\n");
    crate::imports::taken(&mut connection, lowtide::ledger::import::Format::Costs, &[costs]).await.unwrap();
    let mut found = async || -> Vec<String> { verify(&mut connection).await.unwrap().findings.iter().map(ToString::to_string).collect() };
    assert_eq!(found().await, Vec::<String>::new());
    // The day's total stays what it was.
    let moved = "WITH two AS (SELECT workload, line, row_number() OVER (ORDER BY workload) AS n FROM ledger.cost_rollup WHERE line = 'pod')
        UPDATE ledger.cost_rollup r SET cost_usd = r.cost_usd + CASE two.n WHEN 1 THEN 0.1 ELSE -0.1 END FROM two WHERE r.workload = two.workload AND r.line = two.line";
    server.psql("postgres", moved).unwrap();
    assert_eq!(found().await, ["the sums of 2026-07-20 in ledger.cost_rollup are not those of its postings"]);
    server.psql("postgres", &moved.replace("0.1 ELSE -0.1", "-0.1 ELSE 0.1")).unwrap();
    assert_eq!(found().await, Vec::<String>::new());
    // Every column that a report reads or groups by.
    for (column, other) in [
        ("region", "'eu-west-1'"),
        ("instance_type", "'p5.48xlarge'"),
        ("capacity_type", "'on-demand'"),
        ("gpu_ms", "gpu_ms + 1"),
        ("b0_usd", "b0_usd + 0.1"),
        ("b1_usd", "b1_usd + 0.1"),
        ("b2_usd", "b2_usd + 0.1"),
        ("without_b0_usd", "without_b0_usd + 0.1"),
        ("without_b1_usd", "without_b1_usd + 0.1"),
        ("without_b2_usd", "without_b2_usd + 0.1"),
        ("feed_usd", "feed_usd + 0.1"),
        ("bill_usd", "bill_usd + 0.1"),
        ("true_up_usd", "true_up_usd + 0.1"),
    ] {
        let kept = "CREATE TABLE IF NOT EXISTS public.kept AS SELECT * FROM ledger.cost_rollup";
        let altered = format!("{kept}; UPDATE ledger.cost_rollup SET {column} = {other} WHERE line = 'pod'");
        server.psql("postgres", &altered).unwrap();
        assert_eq!(found().await, ["the sums of 2026-07-20 in ledger.cost_rollup are not those of its postings"], "{column}");
        server.psql("postgres", "DELETE FROM ledger.cost_rollup; INSERT INTO ledger.cost_rollup SELECT * FROM public.kept").unwrap();
        assert_eq!(found().await, Vec::<String>::new(), "{column}");
    }
    // A cost of the statement that is on record, and of nothing in its file.
    let slipped = "INSERT INTO ledger.posting (id, at, workload, gpu_ms, span_ms, line, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd, statement)
        SELECT gen_random_uuid(), at, workload, 0, span_ms, line, kind, cause, -5, 0, 0, 0, 0, 0, statement FROM ledger.posting WHERE line = 'overhead' LIMIT 1";
    server.psql("postgres", slipped).unwrap();
    lowtide::ledger::poster::post(&mut connect(&url).await.unwrap(), crate::imports::LATER).await.unwrap();
    assert_eq!(found().await, ["other costs of 2026-07-20 are not posted as the imported files say"]);
    for (sql, said) in [
        ("CREATE RULE also AS ON INSERT TO ledger.posting DO ALSO NOTHING", "rule posting.also: added"),
        ("ALTER TABLE ledger.revenue_day ENABLE ROW LEVEL SECURITY", "row security of revenue_day: added"),
        // What a row gets that says nothing of a column, what a table takes, and what a call with other arguments finds.
        ("ALTER TABLE ledger.posting ALTER COLUMN b0_usd SET DEFAULT 7", "columns of posting: replaced"),
        ("ALTER TABLE ledger.usage_hour ADD COLUMN of_mine int", "columns of usage_hour: replaced"),
        ("ALTER TABLE ledger.revenue_day ADD CONSTRAINT none CHECK (revenue_usd >= 0) NOT VALID", "constraint revenue_day.none: added"),
        ("CREATE FUNCTION ledger.utc_day(at timestamp) RETURNS date LANGUAGE sql RETURN at::date + 1", "function ledger.utc_day("),
        (
            "CREATE TRIGGER mine BEFORE INSERT ON ledger.posting_default FOR EACH ROW EXECUTE FUNCTION ledger.stamp()",
            "trigger posting_default.mine: added",
        ),
        ("ALTER TABLE ledger.checkpoint_default DISABLE TRIGGER refuse_change", "trigger checkpoint_default.refuse_change: added"),
        // One column may be written, a view has an option, a function is another's, and every view ends at a day.
        ("CREATE ROLE mallory; GRANT UPDATE (revenue_usd) ON ledger.revenue_day TO mallory", "rights on revenue_day: replaced"),
        ("ALTER VIEW ledger.cost_daily SET (security_barrier = true)", "view cost_daily: replaced"),
        (
            "ALTER FUNCTION ledger.utc_day(timestamptz) OWNER TO mallory",
            "rights on function ledger.utc_day(timestamp with time zone): replaced",
        ),
        ("ALTER DATABASE postgres SET lowtide.as_of = '2026-07-01'", "setting lowtide.as_of of the database: added"),
        ("ALTER ROLE mallory SET session_replication_role = replica", "setting session_replication_role of mallory: added"),
    ] {
        server.psql("postgres", sql).unwrap();
        let found = found().await;
        assert!(found.iter().any(|finding| finding.starts_with(said)), "{sql}: {found:?}");
    }
    // What somebody keeps beside ours changes no figure of ours.
    let before = found().await;
    server
        .psql("postgres", "CREATE VIEW ledger.of_mine AS SELECT 1 AS one; CREATE TABLE ledger.notes (text text CHECK (text <> ''))")
        .unwrap();
    assert_eq!(found().await, before);
}

/// The table of what went wrong names tests that exist.
#[test]
fn every_row_of_what_went_wrong_has_its_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let rules = ["src/core/accounting/bill", "src/core/accounting/posting"];
    for folder in ["tests/ledger", "src/ledger/import", "src/ledger/import/reading", "src/ledger/import/focus_in"].into_iter().chain(rules)
    {
        for entry in std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
    }
    let rows: Vec<&str> = include_str!("README.md").lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id")).collect();
    assert_eq!(rows.len(), 63);
    for row in rows {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "{test}, named in tests/ledger/README.md, is no test");
        }
    }
}

/// The settled hours of a machine that runs are recomputed as well, and a sample by date leaves out what did not run then.
#[tokio::test]
async fn hours_of_running_machines_are_recomputed_and_a_sample_goes_by_date() {
    let Bench { url, ledger, server } = bench().await;
    let hours = Millis::from_hours;
    let mut ended = Machine::new("ended", CapacityType::Spot, 302_000, Some(804_800), hours(2), EndedBy::Lowtide);
    ended.stays.push(crate::facts::stay("p", "search", &ended, Millis::ZERO, None));
    ledger.write(&ended.records()).await.unwrap();
    let mut runs = Machine::new("runs", CapacityType::Spot, 302_000, Some(804_800), hours(9), EndedBy::Lowtide);
    runs.stays.push(crate::facts::stay("q", "search", &runs, Millis::from_mins(7), None));
    runs.stays[0].to = None;
    let mut open = runs.records();
    open.pop();
    ledger.write(&open).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    lowtide::ledger::poster::post(&mut connection, crate::facts::DAY + Millis::from_mins(5 * 60 + 17)).await.unwrap();
    let posted = "SELECT hours > 2 FROM ledger.posted_machine WHERE claim_uid = 'uid-runs' AND NOT complete";
    assert_eq!(server.psql("postgres", posted).unwrap().trim(), "t");
    let mut found = async |from: Option<&str>, to: Option<&str>| -> Vec<String> {
        let sample = Sample { every: 1, from: from.map(str::to_owned), to: to.map(str::to_owned) };
        recompute(&mut connection, &sample).await.unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(found(None, None).await, Vec::<String>::new());
    server
        .psql("postgres", "SET session_replication_role = replica; UPDATE ledger.posting SET cost_usd = cost_usd + 0.1 WHERE hour = 1")
        .unwrap();
    let both = found(None, None).await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(found(None, Some("2026-07-20")).await, Vec::<String>::new());
    assert_eq!(found(Some("2026-07-20"), Some("2026-07-21")).await, both);
    // On the day after, one of them still ran.
    let later = found(Some("2026-07-21"), None).await;
    assert!(later.len() == 1 && later[0].contains("uid-runs"), "{later:?}");
}
