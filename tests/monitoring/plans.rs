//! Budgets, anomalies and forecasts on a real Postgres, over costs that are entered by the hour.

use lowtide::core::accounting::forecast::Scenario;
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::plans::{anomalies, budget, figures, forecast};
use lowtide::ledger::report::{Month, Only};
use lowtide::ledger::{connect, migrate};
use sqlx::PgConnection;

/// A ledger in which `search` of team `ml` cost 20 dollars an hour from 1 May to 21 July 2026, 06:00, and three times that for the last three
/// hours, because of more GPU-hours.
async fn ledger() -> (PrivatePostgres, PgConnection) {
    let server = PrivatePostgres::start_temporary().expect("a Postgres server for the test");
    let url = server.url();
    migrate(&url).await.unwrap();
    let mut connection = connect(&url).await.unwrap();
    let fill = "
        INSERT INTO ledger.workload_version (id, at, workload_kind, workload_namespace, workload_name, team, service, component)
        VALUES ('00000000-0000-5000-8000-000000000001', '2026-05-01Z', 'Deployment', 'ml', 'search', 'ml', 'search', 'inference');
        INSERT INTO ledger.posting (id, at, workload, gpu_ms, span_ms, hour, claim_uid, line, pod_uid, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd)
        SELECT gen_random_uuid(), h, '00000000-0000-5000-8000-000000000001', 3600000 * f, 3600000, extract(epoch FROM h)::bigint / 3600, 'c', 'pod', 'p', 'estimate', 'settled',
               20 * f, 60 * f, 60 * f, 20 * f, 0, 0
        FROM (SELECT h, CASE WHEN h >= '2026-07-21T03:00Z' THEN 3 ELSE 1 END AS f FROM generate_series(timestamptz '2026-05-01Z', timestamptz '2026-07-21T05:00Z', interval '1 hour') h) x";
    sqlx::raw_sql(fill).execute(&mut connection).await.unwrap();
    while sqlx::query_scalar::<_, i32>("SELECT ledger.rebuild_rollups(10000)").fetch_one(&mut connection).await.unwrap() > 0 {}
    (server, connection)
}

fn now() -> Timestamp {
    Timestamp::from_date(2026, 7, 21) + Millis::from_hours(6)
}

fn usd(dollars: i64) -> MicroUsd {
    MicroUsd(dollars * 1_000_000)
}

#[tokio::test]
async fn budgets_are_held_against_what_was_spent_and_name_the_day() {
    let (_server, mut connection) = ledger().await;
    let text = "budgets:\n- {name: ml, from: 2026-06, monthlyUsd: '12000', for: {team: ml}}\n- {name: other, from: 2026-07, monthlyUsd: '50', for: {team: other}}\n- {name: gone, from: 2026-01, monthlyUsd: '1'}\n- {name: gone, from: 2026-07}\n";
    budget::enter(&mut connection, &budget::read("b.yaml", text).unwrap()).await.unwrap();
    let july: Month = "2026-07".parse().unwrap();
    let standings = budget::standings(&mut connection, &july, now()).await.unwrap();
    assert_eq!(
        standings.iter().map(|s| (s.name.as_str(), s.of.as_str())).collect::<Vec<_>>(),
        [("ml", "team ml"), ("other", "team other")]
    );
    // 20 full days at 480, three hours at 20 and three at 60; from here 10.75 days at 480.
    assert_eq!((standings[0].spent, standings[0].heading.expected), (usd(9_840), usd(9_840 + 5_160)));
    assert_eq!(standings[0].heading.exhausted_at.unwrap().to_rfc3339(), "2026-07-25T18:00:00.000Z");
    assert_eq!((standings[1].spent, standings[1].heading.exhausted_at), (usd(0), None));
    let (step, _) = standings[0].mostly.clone().unwrap();
    assert_eq!(step, "volume", "July has had fewer hours than June");
    let report = budget::report(&mut connection, &july, now(), &[]).await.unwrap();
    assert_eq!(report.sentence, "Above plan in 2026-07, or heading there: ml.");
    let june = budget::standings(&mut connection, &"2026-06".parse().unwrap(), now()).await.unwrap();
    assert_eq!(june.iter().map(|s| (s.name.as_str(), s.spent)).collect::<Vec<_>>(), [("gone", usd(14_400)), ("ml", usd(14_400))]);
    let refused = sqlx::query("UPDATE ledger.budget SET monthly_usd = 1").execute(&mut connection).await.unwrap_err();
    assert!(refused.to_string().contains("append-only"), "{refused}");
}

#[tokio::test]
async fn a_spike_is_found_within_two_hours_explained_and_left_out_once_planned() {
    let (_server, mut connection) = ledger().await;
    let at = |hour: i64| Timestamp::from_date(2026, 7, 21) + Millis::from_hours(hour);
    assert_eq!(anomalies::find(&mut connection, at(4), 1, &[]).await.unwrap(), [], "one hour is not two");
    let found = anomalies::find(&mut connection, at(5), 1, &[]).await.unwrap();
    let [spike] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((spike.team.as_str(), spike.service.as_str(), spike.cost, spike.ordinary), ("ml", "search", usd(60), usd(20)));
    assert_eq!((spike.cause.as_str(), spike.moved.as_slice()), ("quantity", [("volume", usd(80))].as_slice()));
    assert_eq!(anomalies::find(&mut connection, now(), 24, &[]).await.unwrap().len(), 1, "a run of hours is reported once");
    for (only, count) in
        [(&["team=ml", "service=search"][..], 1), (&["service=search"], 1), (&["team=ml", "service=chat"], 0), (&["team=web"], 0)]
    {
        let only: Vec<Only> = only.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(anomalies::find(&mut connection, now(), 24, &only).await.unwrap().len(), count, "{only:?}");
    }
    let figures = figures::read(&mut connection, now()).await.unwrap();
    assert_eq!(figures.anomalies.keys().collect::<Vec<_>>(), [&("ml".to_owned(), "search".to_owned(), "quantity".to_owned())]);
    assert_eq!(figures.months["ml"].0, usd(9_840));
    let of = |part| figures.gpu_use[&("ml".to_owned(), part)];
    assert_eq!([of("active"), of("idle"), of("unmeasured")], [usd(0), usd(0), usd(600)], "nobody read these GPUs in 24 hours");
    anomalies::mark(&mut connection, (Some("ml"), None), (at(3), at(9)), ("planned", "load test")).await.unwrap();
    assert_eq!(anomalies::find(&mut connection, now(), 24, &[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_forecast_is_kept_and_held_against_what_came() {
    let (_server, mut connection) = ledger().await;
    let made = forecast::make(&mut connection, Timestamp::from_date(2026, 6, 15), 1, &Scenario::usual(), &[]).await.unwrap();
    assert_eq!(made.months, ["2026-07".parse::<Month>().unwrap()]);
    let base = made.scenarios["base"].1[0][""];
    assert!((base.middle - 31.0 * 480.0).abs() < 1.0, "{base:?}");
    let pessimistic = made.scenarios["pessimistic"].1[0]["inference"];
    assert!((pessimistic.middle - 31.0 * 480.0 * 3.0 * 1.1).abs() < 1.0, "{pessimistic:?}");
    assert!(forecast::report(&made).sentence.contains("not calibrated: 4 origins"), "{}", forecast::report(&made).sentence);
    forecast::keep(&mut connection, &made).await.unwrap();
    let early = forecast::outcome(&mut connection, now()).await.unwrap();
    assert!(early.rows.is_empty(), "July is not over");
    let over = forecast::outcome(&mut connection, Timestamp::from_date(2026, 8, 1)).await.unwrap();
    let row = over.rows.iter().find(|row| row[2].as_deref() == Some("base") && row[3].as_deref() == Some("all")).unwrap();
    assert_eq!((row[7].as_deref(), row[8].as_deref()), (Some("9840.00"), Some("missed")), "July ended on the 21st here");
    let nothing = forecast::make(&mut connection, Timestamp::from_date(2026, 5, 5), 1, &Scenario::usual(), &[]).await.unwrap_err();
    assert_eq!(nothing.to_string(), "4 full days of cost are known; a forecast needs 14");
}
