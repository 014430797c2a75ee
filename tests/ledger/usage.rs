//! Usage from Prometheus: a real one where its programs are, and everything it may answer by its documentation.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lowtide::core::ids::ObjectRef;
use lowtide::core::need::{UsageQuery, UsageUnit};
use lowtide::core::time::{Millis, Timestamp};
use lowtide::ledger::connect;
use lowtide::ledger::import::store_usage;
use lowtide::ledger::prometheus::Prometheus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::facts::{Bench, DAY, bench};

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

struct Server {
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
    let bin = lowtide::lab::tools::cache_folder().join("bin");
    if !bin.join("prometheus").is_file() {
        eprintln!("left out: no prometheus in {}; `make tools` fetches it on Debian", bin.display());
        return None;
    }
    let folder = std::env::temp_dir().join(format!("lowtide-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut text = "# TYPE served counter\n".to_owned();
    for minute in 0..=180 {
        for (pod, each) in [("a", 4), ("b", 6)] {
            text.push_str(&format!("served_total{{app=\"chat\",pod=\"{pod}\"}} {} {}\n", minute * each, DAY.0 / 1_000 + minute * 60));
        }
    }
    text.push_str("# EOF\n");
    std::fs::write(folder.join("served.om"), text).unwrap();
    std::fs::write(folder.join("prometheus.yml"), "global: {}\n").unwrap();
    let data = folder.join("data");
    let made = Command::new(bin.join("promtool"))
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([folder.join("served.om"), data.clone()])
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
