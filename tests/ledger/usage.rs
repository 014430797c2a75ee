//! Usage from Prometheus: a real one where its programs are, and everything it may answer by its documentation.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::ids::ObjectRef;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::{UsageQuery, UsageUnit};
use lowtide::ledger::connect;
use lowtide::ledger::import::{Format, UsageHour, store_usage};
use lowtide::ledger::poster::post;
use lowtide::ledger::prometheus::Prometheus;
use lowtide::ledger::report::{By, Days, unit_costs};
use lowtide::ports::Ledger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::facts::{Bench, DAY, Machine, bench, stay};

fn chat() -> ObjectRef {
    ObjectRef { namespace: "ml".into(), name: "chat".into() }
}

/// A server that gives one answer, with the path it was asked for.
async fn answering(status: &'static str, body: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned()
    });
    (url, served)
}

/// Answers as "HTTP API, Instant queries" documents them.
#[tokio::test]
async fn one_number_is_usage_and_everything_else_says_what_to_change() {
    let vector = |values: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{values}]}}}}"#);
    let sample = |value: &str| format!(r#"{{"metric":{{"pod":"a"}},"value":[1435781451.781,"{value}"]}}"#);
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    for (status, body, expected) in [
        ("200 OK", leak(vector(&sample("1200.5"))), Ok(Some(1_200_500_000))),
        ("200 OK", leak(vector(&sample("1.5e+06"))), Ok(Some(1_500_000_000_000))),
        ("200 OK", leak(vector("")), Ok(None)),
        ("200 OK", r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#, Ok(Some(7_000_000))),
        (
            "200 OK",
            leak(vector(&format!("{},{}", sample("1"), sample("2")))),
            Err("gives 2 series; expected one number for the hour: put sum(...)"),
        ),
        ("200 OK", leak(vector(&sample("NaN"))), Err("gives NaN")),
        ("200 OK", r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, Err("gives a range")),
        (
            "400 Bad Request",
            r#"{"status":"error","errorType":"bad_data","error":"parse error: unclosed"}"#,
            Err("refused the query \"q{}\": parse error: unclosed"),
        ),
        ("404 Not Found", "<html>", Err("did not answer as Prometheus does: status 404")),
    ] {
        let (url, served) = answering(status, body).await;
        let answer = Prometheus::new(&url).ask("q{}", Timestamp(7_200_000)).await;
        assert_eq!(served.await.unwrap(), "GET /api/v1/query?query=q%7B%7D&time=7200 HTTP/1.1");
        match (answer, expected) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{body}"),
            (Err(fault), Err(said)) => assert!(fault.to_string().contains(said), "{fault}"),
            (answer, expected) => panic!("{body}: {answer:?} instead of {expected:?}"),
        }
    }
    let fault = Prometheus::new("http://127.0.0.1:1").ask("q", Timestamp(0)).await.unwrap_err().to_string();
    assert!(fault.contains("does not answer") && fault.contains("expected Prometheus' address"), "{fault}");
}

pub struct Server {
    child: Child,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Prometheus that holds a counter rising by 10 a minute, from `DAY` on for three hours.
fn real_prometheus() -> Option<(Server, String)> {
    let mut text = "# TYPE served counter\n".to_owned();
    for minute in 0..=180 {
        for (pod, each) in [("a", 4), ("b", 6)] {
            text.push_str(&format!("served_total{{app=\"chat\",pod=\"{pod}\"}} {} {}\n", minute * each, DAY.0 / 1_000 + minute * 60));
        }
    }
    prometheus_of("served", &text)
}

/// A real Prometheus that holds this OpenMetrics text; none where there is no such program.
pub fn prometheus_of(name: &str, metrics: &str) -> Option<(Server, String)> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let bin = std::env::var_os("LOWTIDE_TOOLS").map_or_else(|| home.join(".cache/lowtide/bin"), PathBuf::from);
    if !bin.join("prometheus").is_file() {
        eprintln!("left out: no prometheus in {}; `make tools` fetches it on Debian", bin.display());
        return None;
    }
    let folder = std::env::temp_dir().join(format!("lowtide-prometheus-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("metrics.om"), format!("{metrics}# EOF\n")).unwrap();
    std::fs::write(folder.join("prometheus.yml"), "global: {}\n").unwrap();
    let data = folder.join("data");
    let made = Command::new(bin.join("promtool"))
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([folder.join("metrics.om"), data.clone()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(bin.join("prometheus"))
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, folder };
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "Prometheus did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some((server, format!("http://127.0.0.1:{port}/")))
}

#[tokio::test]
async fn a_real_prometheus_is_asked_hour_by_hour() {
    let Some((_prometheus, url)) = real_prometheus() else { return };
    let Bench { url: database, server, .. } = bench().await;
    let query = UsageQuery::parse(r#"requests=sum(increase(served_total{app="chat"}[1h]))"#).unwrap();
    let prometheus = Prometheus::new(&url);
    let begun = Instant::now();
    let usage = loop {
        // It answers 503 while it loads its blocks.
        match prometheus.usage(&chat(), &query, DAY + Millis::from_mins(185), 5).await {
            Ok(usage) => break usage,
            Err(fault) => assert!(begun.elapsed() < Duration::from_secs(20), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let hours: Vec<_> = usage.iter().map(|hour| (hour.hour.since(DAY).0 / 3_600_000, hour.unit, hour.micro_units)).collect();
    assert_eq!(hours, [0, 1, 2].map(|hour| (hour, UsageUnit::Requests, 600_000_000)), "hours without the series are unknown, not zero");
    let mut connection = connect(&database).await.unwrap();
    assert_eq!(store_usage(&mut connection, &usage, "prometheus").await.unwrap().new, 3);
    assert_eq!(store_usage(&mut connection, &usage, "prometheus").await.unwrap().same, 3);
    assert_eq!(server.psql("postgres", "SELECT sum(quantity)::bigint, min(source) FROM ledger.usage").unwrap().trim(), "1800|prometheus");
    let fault = prometheus.ask("sum(", DAY).await.unwrap_err().to_string();
    assert!(fault.starts_with("Prometheus refused the query"), "{fault}");
}

/// Two replicas of one machine each for two hours, 1,000 requests in the first and 3,000 in the second; and a workload without usage.
#[tokio::test]
async fn a_request_costs_what_the_whole_hour_cost_idle_and_all() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut machine = Machine::new("m", CapacityType::Spot, 4_000_000, Some(8_000_000), Millis::from_hours(2), EndedBy::Lowtide);
    machine.gpus = 2;
    let mut pod = stay("p", "search", &machine, Millis::ZERO, Some(8_000_000));
    (pod.workload, pod.gpus) = ("chat".into(), 1);
    let mut other = stay("q", "vision", &machine, Millis::ZERO, None);
    (other.workload, other.gpus) = ("train".into(), 1);
    machine.stays = vec![pod, other];
    ledger.write(&machine.records()).await.unwrap();
    let hour = |n: i64, units: i128| UsageHour {
        workload: chat(),
        hour: DAY + Millis::from_hours(n),
        unit: UsageUnit::Requests,
        micro_units: units * 1_000_000,
    };
    store_usage(&mut connection, &[hour(0, 1_000), hour(1, 3_000)], "test").await.unwrap();
    let days = Days { from: Some("2026-07-20".into()), to: Some("2026-07-21".into()) };
    let report = unit_costs(&mut connection, &days, UsageUnit::Requests, By::Workload, &[]).await.unwrap();
    // $2 an hour for the half of the machine: 0.2 and 0.0667 cents a request.
    assert_eq!(
        report.rows[0].iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "),
        "ml/chat 4000 4.00 0.001 0.0006667 0.002 0.002 - - - - 2 100.0 100.0"
    );
    assert_eq!(
        report.sentence,
        "A request cost $0.001, including everything that is posted; half of them at most $0.0006667, 95 % at most $0.002, 99 % at most $0.002, by the hour they fell in."
    );
    post(&mut connection, DAY + Millis::from_hours(48)).await.unwrap();
    let folder = std::env::temp_dir().join(format!("lowtide-revenue-{}.csv", std::process::id()));
    std::fs::write(&folder, "period,workload,revenue_usd\n2026-07-20,ml/chat,40\n").unwrap();
    crate::imports::taken(&mut connection, Format::Revenue, std::slice::from_ref(&folder)).await.unwrap();
    std::fs::remove_file(folder).unwrap();
    for by in [By::Team, By::Workload] {
        let report = unit_costs(&mut connection, &days, UsageUnit::Requests, by, &[]).await.unwrap();
        assert!(report.sentence.ends_with("That leaves $0.009 of $0.01 (90.0 %)."), "{}", report.sentence);
    }
    let unknown = unit_costs(&mut connection, &days, UsageUnit::Tokens, By::Team, &[]).await.unwrap();
    assert_eq!(unknown.sentence, "No usage in tokens is known for these days: import it, or have it collected from Prometheus.");
    let view = "SELECT string_agg(workload_name || ' ' || coalesce(unit, '-') || ' ' || cost_usd::numeric(10,2) || ' ' || coalesce(usd_per_unit::numeric(10,6)::text, '-'), ', ' ORDER BY hour, workload_name)
                FROM ledger.unit_cost_hourly";
    assert_eq!(
        server.psql("postgres", view).unwrap().trim(),
        "chat requests 2.00 0.002000, train - 2.00 -, chat requests 2.00 0.000667, train - 2.00 -"
    );
}

/// An instance-hour that begins at half past lies half in the next clock hour.
#[tokio::test]
async fn instance_hours_are_spread_over_the_clock_hours_they_lie_in() {
    let Bench { ledger, server, .. } = bench().await;
    let mut machine = Machine::new("m", CapacityType::Spot, 1_000_000, None, Millis::from_hours(2), EndedBy::Lowtide);
    machine.interval.from = DAY + Millis::from_mins(30);
    machine.interval.to = machine.interval.from + Millis::from_hours(2);
    machine.stays.push(stay("p", "search", &machine, Millis::ZERO, None));
    ledger.write(&machine.records()).await.unwrap();
    let view = "SELECT string_agg(cost_usd::numeric(10,2)::text, ' ' ORDER BY hour) || ' ' || sum(cost_usd)::numeric(10,6) FROM ledger.unit_cost_hourly";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "0.50 1.00 0.50 2.000000");
}

/// A machine ended half an hour into its hour, and its end came after the hour had been posted as a whole one: what it cost lies before its end.
#[tokio::test]
async fn an_hour_whose_end_came_late_costs_nothing_after_it() {
    let Bench { url, ledger, server } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut machine = Machine::new("m", CapacityType::Spot, 1_000_000, None, Millis::from_mins(30), EndedBy::Lowtide);
    machine.interval.from = DAY + Millis::from_mins(30);
    machine.interval.to = machine.interval.from + Millis::from_mins(30);
    machine.stays.push(stay("p", "search", &machine, Millis::ZERO, None));
    let records = machine.records();
    let (early, late) = records.split_at(2);
    ledger.write(early).await.unwrap();
    post(&mut connection, DAY + Millis::from_hours(5)).await.unwrap();
    ledger.write(late).await.unwrap();
    post(&mut connection, DAY + Millis::from_hours(6)).await.unwrap();
    let view = "SELECT string_agg(ledger.ms(hour) / 3600000 % 24 || ' ' || cost_usd::numeric(10,2), ', ' ORDER BY hour) FROM ledger.unit_cost_hourly";
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "0 0.50");
    let view = r#"SELECT string_agg("ChargePeriodStart" || ' ' || "ChargePeriodEnd" || ' ' || "EffectiveCost"::numeric(10,2), ', ') FROM ledger.focus_1_2"#;
    assert_eq!(server.psql("postgres", view).unwrap().trim(), "2026-07-20T00:30:00Z 2026-07-20T01:00:00Z 0.50");
}
