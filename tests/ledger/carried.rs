//! Data carried to another region: posted as egress when it was carried, billed with the machine that sent it, and counted once.

use lowtide::core::record::CarriedData;
use lowtide::core::units::ids::DecisionId;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, retract};
use lowtide::ledger::poster::post;
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::verify::{Sample, recompute, verify};
use lowtide::ports::Ledger;
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench, moved, stay};
use crate::imports::{Folder, LATER, taken};
use crate::statements::{HEADER, line, machine_of};

/// Egress and transfer, by machine.
async fn carried(connection: &mut PgConnection) -> String {
    let sql = "SELECT coalesce(string_agg(concat_ws(' ', claim_uid, line, usd), ', ' ORDER BY claim_uid, line), 'nothing') FROM (
                   SELECT claim_uid, line, sum(cost_usd)::numeric(10,2) AS usd FROM ledger.posting WHERE line IN ('egress', 'transfer')
                   GROUP BY 1, 2 HAVING sum(cost_usd) <> 0) x";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn data_carried_to_another_region_costs_what_the_bill_says_and_counts_once() {
    let Bench { url, ledger, server: _server } = bench().await;
    let left = machine_of(&ledger, "left", DAY, 2).await;
    machine_of(&ledger, "stays", DAY, 2).await;
    // The pod of `left` goes on elsewhere, with 20 GiB at two cents.
    let mut target = machine_of(&ledger, "target", DAY + Millis::from_hours(2), 1).await;
    target.name = "next".into();
    target.stays = vec![stay("pod-next", "search", &target, Millis::ZERO, None)];
    target.stays[0].workload.clone_from(&left.stays[0].workload);
    target.stays[0].carried = Some(CarriedData {
        gib: 20,
        from_region: "us-east-1".into(),
        price_per_gib: MicroUsd(20_000),
        moved_by: Some(DecisionId::derive("test", "migrate", &left.stays[0].pod, 0)),
    });
    ledger.write(&target.records()).await.unwrap();
    ledger.write(&[moved(&left.stays[0], &left, &target, left.interval.to - Millis::from_mins(5))]).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    assert_eq!(carried(&mut connection).await, "uid-next egress 0.40");
    let folder = Folder::new("carried");
    let bill = |name: &str, lines: &[String]| {
        let hours: String =
            (0..2).map(|hour| line(&format!("{name}-{hour}"), "Usage", "i-left", "SpotUsage:g6.xlarge", hour, "1", "1.00", "")).collect();
        vec![folder.file(&format!("{name}/cur.csv"), &format!("{HEADER}{hours}{}", lines.concat()))]
    };
    let sent = |id: &str, instance: &str, cost: &str| line(id, "Usage", instance, "USE1-EUS2-AWS-Out-Bytes", 1, "20", cost, "");
    // A bill without such lines says nothing of it.
    taken(&mut connection, Format::Cur, &bill("without", &[])).await.unwrap();
    assert_eq!(carried(&mut connection).await, "uid-next egress 0.40");
    let with =
        taken(&mut connection, Format::Cur, &bill("with", &[sent("x", "i-left", "0.55"), sent("y", "i-stays", "1.00")])).await.unwrap();
    assert_eq!(
        carried(&mut connection).await,
        "uid-left transfer 0.15, uid-next egress 0.40, uid-stays transfer 1.00",
        "of $0.55 forty cents are posted where the pod went; what nobody was moved for is posted whole"
    );
    let said = reconcile(&mut connection, &"2026-07".parse().unwrap()).await.unwrap().sentence;
    assert!(said.contains("Beside them, on lines of their own: data carried across regions, of our machines $1.55."), "{said}");
    let less = taken(&mut connection, Format::Cur, &bill("less", &[sent("x", "i-left", "0.25")])).await.unwrap();
    assert_eq!(carried(&mut connection).await, "uid-left transfer -0.15, uid-next egress 0.40");
    let mut found = verify(&mut connection).await.unwrap().findings;
    found.extend(recompute(&mut connection, &Sample::default()).await.unwrap());
    assert!(found.is_empty(), "{found:?}");
    for statement in [less, with] {
        retract(&mut connection, statement.statements[0].id, "a test", LATER).await.unwrap();
    }
    assert_eq!(carried(&mut connection).await, "uid-next egress 0.40");
}

/// Where the data came from, and when: data from another region than the machine's, and lines of other hours, are no part of what was posted; across midnight of the 1st
/// the hours decide, and not the month.
#[tokio::test]
async fn only_what_was_carried_from_that_machine_in_those_hours_is_taken_off() {
    let Bench { url, ledger, server: _server } = bench().await;
    let first = Timestamp::from_date(2026, 8, 1);
    // Three pods are moved: one within July, one at midnight of the 1st, one whose data is in another region.
    for (name, decided, region) in [
        ("day", DAY + Millis::from_hours(2) - Millis::from_mins(5), "us-east-1"),
        ("midnight", first - Millis::from_mins(10), "us-east-1"),
        ("bucket", DAY + Millis::from_hours(2) - Millis::from_mins(5), "eu-west-1"),
    ] {
        let end = decided + Millis::from_mins(5);
        let left = machine_of(&ledger, name, end - Millis::from_hours(2), 2).await;
        let starts = decided + Millis::from_mins(20);
        let mut target = machine_of(&ledger, &format!("target-{name}"), starts, 1).await;
        target.name = format!("next-{name}");
        target.stays = vec![stay(&format!("pod-next-{name}"), "search", &target, Millis::ZERO, None)];
        target.stays[0].workload.clone_from(&left.stays[0].workload);
        target.stays[0].carried = Some(CarriedData {
            gib: 20,
            from_region: region.into(),
            price_per_gib: MicroUsd(20_000),
            moved_by: Some(DecisionId::derive("test", "migrate", &left.stays[0].pod, 0)),
        });
        ledger.write(&target.records()).await.unwrap();
        ledger.write(&[moved(&left.stays[0], &left, &target, decided)]).await.unwrap();
    }
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("carried-where");
    let night = first.since(DAY).0 / Millis::from_hours(1).0 - 1;
    let sent = |id: &str, instance: &str, hour: i64| line(id, "Usage", instance, "USE1-EUS2-AWS-Out-Bytes", hour, "20", "0.55", "");
    let use_of = |id: &str, instance: &str, hour: i64| line(id, "Usage", instance, "SpotUsage:g6.xlarge", hour, "1", "1.00", "");
    let bill = |name: &str, lines: &[String]| {
        let hours = [("day", 1), ("bucket", 1), ("midnight", night)].map(|(of, hour)| use_of(of, &format!("i-{of}"), hour));
        vec![folder.file(&format!("{name}/cur.csv"), &format!("{HEADER}{}{}", hours.concat(), lines.concat()))]
    };
    let transfer = async |connection: &mut PgConnection| {
        let all = carried(connection).await;
        all.split(", ").filter(|of| of.contains(" transfer ")).map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    // In the hour of the move; across the end of the month; from another region.
    let lines = [sent("x", "i-day", 1), sent("y", "i-midnight", night), sent("z", "i-bucket", 1)];
    taken(&mut connection, Format::Cur, &bill("same", &lines)).await.unwrap();
    assert_eq!(transfer(&mut connection).await, "uid-bucket transfer 0.55, uid-day transfer 0.15, uid-midnight transfer 0.15");
    let months = "SELECT string_agg(to_char(day, 'MM') || ' ' || usd, ', ' ORDER BY day) FROM (
                      SELECT date_trunc('month', day)::date AS day, sum(cost_usd)::numeric(10,2) AS usd FROM ledger.cost_daily WHERE line = 'transfer' GROUP BY 1) x";
    let found: String = sqlx::query_scalar(months).fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, "07 0.85", "in the month of the line that it is taken off");
    // Lines of an hour before the move was decided are of other data.
    let earlier = [sent("x", "i-day", 0), sent("y", "i-midnight", night - 1), sent("z", "i-bucket", 0)];
    taken(&mut connection, Format::Cur, &bill("earlier", &earlier)).await.unwrap();
    assert_eq!(transfer(&mut connection).await, "uid-bucket transfer 0.55, uid-day transfer 0.55, uid-midnight transfer 0.55");
}
