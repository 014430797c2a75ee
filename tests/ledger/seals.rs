//! Seals name what was altered, removed or added.

use lowtide::core::market::CapacityType;
use lowtide::core::record::{EndedBy, LedgerRecord};
use lowtide::core::time::Millis;
use lowtide::engine::ports::Ledger;
use lowtide::ledger::connect;
use lowtide::ledger::seal::seal;
use lowtide::ledger::verify::{Finding, verify};

use crate::facts::{Bench, Machine, bench};

#[tokio::test]
async fn verify_names_the_row_that_was_altered_removed_or_slipped_in() {
    let Bench { url, ledger, server } = bench().await;
    let machines: Vec<Machine> = (0..5)
        .map(|n| Machine::new(&format!("m{n}"), CapacityType::Spot, 302_000, Some(804_800), Millis::from_mins(90), EndedBy::Lowtide))
        .collect();
    let mut connection = connect(&url).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap().rows, 0);
    ledger.write(&machines[0].records()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap().rows, 2);
    ledger.write(&[machines[1].records(), machines[2].records()].concat()).await.unwrap();
    assert_eq!(seal(&mut connection).await.unwrap().rows, 4);
    ledger.write(&machines[3].records()).await.unwrap();
    let clean = verify(&mut connection).await.unwrap();
    assert_eq!((clean.seals, clean.sealed_rows, clean.unsealed_rows, clean.findings.len()), (2, 6, 2, 0), "{clean:?}");

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
