//! Fetching bills from a bucket: an S3 that is not ours (moto) serves what AWS writes, version by version.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::engine::wall_clock::WallClock;
use lowtide::ledger::connect;
use lowtide::ledger::fetch::{Access, Bucket, Fetched, Found, Hourly, Request, What, fetch, keep};
use lowtide::ledger::import::{Check, Checks, Options};
use lowtide::ports::Ledger;
use sqlx::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::facts::{Bench, Machine, as_role, bench, stay};
use crate::imports::{FEED_HEADER, Folder, LATER};
use crate::statements::{HEADER, line};

/// A server of S3's API; gone when dropped.
struct S3 {
    server: Child,
    python: PathBuf,
    url: String,
}

impl S3 {
    /// None where `tests/s3/install.sh` has not installed it.
    async fn start() -> Option<S3> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cache = std::env::var_os("LOWTIDE_CACHE").map_or_else(|| home.join(".cache/lowtide"), PathBuf::from);
        let python = cache.join("venv-s3/bin/python");
        if !python.with_file_name("moto_server").is_file() {
            assert!(std::env::var_os("CI").is_none(), "no S3 in {}; tests/s3/install.sh installs it", cache.display());
            eprintln!("left out: no S3 in {}; tests/s3/install.sh installs it", cache.display());
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let s3 = S3 { server: command.spawn().unwrap(), python, url: format!("http://127.0.0.1:{port}") };
        for _ in 0..300 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(s3);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not answer");
    }

    /// Writes objects as AWS's own SDK does, in order; each key with its content.
    fn put(&self, bucket: &str, objects: &[(&str, &[u8])]) {
        let script = "import sys, json, boto3\n\
            s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='test', aws_secret_access_key='test')\n\
            bucket = sys.argv[2]\n\
            names = [b['Name'] for b in s3.list_buckets()['Buckets']]\n\
            bucket in names or s3.create_bucket(Bucket=bucket)\n\
            for row in sys.stdin:\n    key, body = json.loads(row)\n    s3.put_object(Bucket=bucket, Key=key, Body=body.encode('latin-1'))\n";
        let mut child = Command::new(&self.python).args(["-c", script, &self.url, bucket]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for (key, body) in objects {
            writeln!(stdin, "{}", serde_json::json!([key, body.iter().map(|byte| char::from(*byte)).collect::<String>()])).unwrap();
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    fn access(&self) -> Access {
        access(&self.url)
    }

    fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(name, self.access())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn access(url: &str) -> Access {
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "key-of-a-test-61d0", None, None, "test"));
    Access { credentials, endpoint: Some(url.to_owned()), region: "us-east-1".into() }
}

fn request(what: What, location: &str, folder: &Path) -> Request {
    Request {
        what,
        location: location.parse().unwrap(),
        since: "2026-07-01".into(),
        again: false,
        options: Options::default(),
        folder: folder.into(),
    }
}

async fn fetched(connection: &mut PgConnection, bucket: &Bucket, request: &Request) -> Vec<Fetched> {
    fetch(connection, bucket, request, &BTreeSet::new(), LATER, false).await.unwrap()
}

/// What became of each version: how many statements hold something new, or why it was refused.
fn said(done: &[Fetched]) -> Vec<String> {
    let of = |one: &Fetched| match &one.outcome {
        Ok(imported) => imported
            .statements
            .iter()
            .map(|s| if s.same { "same".to_owned() } else { format!("version {}", s.version) })
            .collect::<Vec<_>>()
            .join(" "),
        Err(fault) => fault.to_string(),
    };
    done.iter().map(of).collect()
}

async fn cost(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("SELECT coalesce(sum(cost_usd), 0)::numeric(12,2)::text FROM ledger.cost_daily").fetch_one(connection).await.unwrap()
}

/// One machine for ten hours at a dollar.
async fn machine(ledger: &lowtide::ledger::PgLedger) {
    let mut machine = Machine::new("a", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(10), EndedBy::Lowtide);
    machine.stays.push(stay("pod-a", "search", &machine, Millis::ZERO, Some(3_000_000)));
    ledger.write(&machine.records()).await.unwrap();
}

fn hours(hours: std::ops::Range<i64>, cost: &str) -> String {
    hours.map(|hour| line(&format!("a-{hour}"), "Usage", "i-a", "SpotUsage:g6.xlarge", hour, "1", cost, "")).collect()
}

fn gzip(folder: &Folder, text: &str) -> Vec<u8> {
    std::fs::read(folder.packed("part.csv", text)).unwrap()
}

/// A version of July as Data Exports writes it: its data in a folder of its own, in two parts, then the manifest.
fn version(s3: &S3, folder: &Folder, made_at: &str, price: &str) {
    let part = |n: i64| gzip(folder, &format!("{HEADER}{}", hours(5 * n..5 * n + 5, price)));
    let keys = [1, 2].map(|n| format!("exports/cur/data/BILLING_PERIOD=2026-07/{made_at}-x/cur-{n:05}.csv.gz"));
    let files = keys.each_ref().map(|key| format!("\"s3://billing/{key}\""));
    let manifest = format!(r#"{{"executionId": "{made_at}-x", "dataFiles": [{}]}}"#, files.join(", "));
    let metadata = format!("exports/cur/metadata/BILLING_PERIOD=2026-07/{made_at}-x/cur-Manifest.json");
    s3.put("billing", &[(&keys[0], &part(0)), (&keys[1], &part(1)), (&metadata, manifest.as_bytes())]);
}

/// A version is taken once, a newer one replaces it, and one that is incomplete, cut or unlikely is refused and tried again.
#[tokio::test]
async fn versions_of_a_report_are_fetched_once_and_replace_one_another() {
    let Some(s3) = S3::start().await else { return };
    let Bench { url, ledger, server } = bench().await;
    server.psql("postgres", "CREATE ROLE operator LOGIN; GRANT lowtide_writer TO operator").unwrap();
    machine(&ledger).await;
    let mut connection = as_role(&url, "operator").await;
    let mut owner = connect(&url).await.unwrap();
    let folder = Folder::new("fetching-cur");
    let (bucket, cur) = (s3.bucket("billing"), request(What::Cur, "s3://billing/exports/cur/", &folder.0));
    version(&s3, &folder, "2026-07-25T01:00:00.000Z", "1.10");
    let tried = fetch(&mut connection, &bucket, &cur, &BTreeSet::new(), LATER, true).await.unwrap();
    assert_eq!((said(&tried), cost(&mut owner).await), (vec!["version 1".to_owned()], "10.00".to_owned()), "a trial writes nothing");
    assert_eq!(said(&fetched(&mut connection, &bucket, &cur).await), ["version 1"]);
    assert_eq!(cost(&mut owner).await, "11.00");
    assert!(fetched(&mut connection, &bucket, &cur).await.is_empty(), "the same version is not taken twice");
    version(&s3, &folder, "2026-08-03T01:00:00.000Z", "1.20");
    assert_eq!(said(&fetched(&mut connection, &bucket, &cur).await), ["version 2"]);
    assert_eq!(cost(&mut owner).await, "12.00", "the newer version replaces the older");
    let held: Vec<(String, Vec<uuid::Uuid>)> =
        sqlx::query_as("SELECT url, statements FROM ledger.fetched ORDER BY posted_at").fetch_all(&mut connection).await.unwrap();
    let urls: Vec<(&str, usize)> = held.iter().map(|(url, statements)| (url.as_str(), statements.len())).collect();
    let place = "s3://billing/exports/cur/metadata/BILLING_PERIOD=2026-07";
    let expected = ["2026-07-25", "2026-08-03"].map(|day| format!("{place}/{day}T01:00:00.000Z-x/cur-Manifest.json"));
    assert_eq!(urls, [(expected[0].as_str(), 1), (expected[1].as_str(), 1)]);

    // What was taken back stays so until somebody fetches it again.
    let second: uuid::Uuid = held[1].1[0];
    lowtide::ledger::import::retract(&mut connection, second, "a test", LATER).await.unwrap();
    assert!(fetched(&mut connection, &bucket, &cur).await.is_empty());
    assert_eq!(cost(&mut owner).await, "11.00");
    let again = Request { again: true, ..cur.clone() };
    assert_eq!(said(&fetched(&mut connection, &bucket, &again).await), ["version 4"]);
    assert_eq!(cost(&mut owner).await, "12.00");

    // A version far from the one before is refused, again and again, until a person accepts it.
    version(&s3, &folder, "2026-08-05T01:00:00.000Z", "4.00");
    for _ in 0..2 {
        let refused = said(&fetched(&mut connection, &bucket, &cur).await);
        assert!(
            refused[0].contains("our machines cost $12.00 in 2026-07, according to this one $40.00")
                && refused[0].contains("--accept amount-changed"),
            "{refused:?}"
        );
    }
    assert_eq!(cost(&mut owner).await, "12.00");
    let accepting = Options { checks: Checks::accepting([Check::AmountChanged]), ..Options::default() };
    let accepted = Request { options: accepting, ..cur.clone() };
    assert_eq!(said(&fetched(&mut connection, &bucket, &accepted).await), ["version 5"]);
    assert_eq!(cost(&mut owner).await, "40.00");

    // A part that is not there yet, one that is cut, a file of another bucket, a way out of the folder.
    let good = gzip(&folder, &format!("{HEADER}{}", hours(0..10, "4.10")));
    let manifest = |keys: &str| format!(r#"{{"executionId": "e9", "dataFiles": [{keys}]}}"#);
    let place = "exports/cur/metadata/BILLING_PERIOD=2026-07/2026-08-06T01:00:00.000Z-x/cur-Manifest.json";
    let data = "exports/cur/data/BILLING_PERIOD=2026-07/2026-08-06T01:00:00.000Z-x/cur-00001.csv.gz";
    for (named, body, expected) in [
        (
            format!("\"s3://billing/{data}\", \"s3://billing/{}\"", data.replace("00001", "00002")),
            &good[..],
            "is not in the bucket: the delivery is not complete yet",
        ),
        (format!("\"s3://billing/{data}\""), &good[..good.len() - 9], "the file is damaged or was cut off"),
        (format!("\"s3://elsewhere/{data}\""), &good[..], "it names a file of another bucket, elsewhere"),
        ("\"s3://billing/exports/cur/data/..\"".to_owned(), &good[..], "which is no file or comes twice"),
    ] {
        s3.put("billing", &[(data, body), (place, manifest(&named).as_bytes())]);
        let refused = said(&fetched(&mut connection, &bucket, &cur).await);
        assert!(refused.len() == 1 && refused[0].contains(expected), "{refused:?}");
        assert_eq!(cost(&mut owner).await, "40.00");
    }
    s3.put("billing", &[(data, &good), (place, manifest(&format!("\"s3://billing/{data}\"")).as_bytes())]);
    assert_eq!(said(&fetched(&mut connection, &bucket, &cur).await), ["version 6"]);
    assert_eq!(cost(&mut owner).await, "41.00");
    // Months before `since` are left, and two reports below one prefix are not mixed.
    let later = Request { since: "2026-08-15".into(), again: true, ..cur.clone() };
    assert!(fetched(&mut connection, &bucket, &later).await.is_empty());
    s3.put("billing", &[("exports/other/metadata/BILLING_PERIOD=2026-07/other-Manifest.json", b"{}")]);
    let fault = fetch(&mut connection, &bucket, &request(What::Cur, "s3://billing/exports/", &folder.0), &BTreeSet::new(), LATER, false)
        .await
        .unwrap_err();
    assert!(fault.to_string().contains("there are several reports: exports/cur, exports/other"), "{fault}");
    // The record is sealed and verified as everything else.
    assert_eq!(
        std::fs::read_dir(&folder.0)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("lowtide-fetch"))
            .count(),
        0
    );
    lowtide::ledger::seal::seal(&mut owner).await.unwrap();
    assert_eq!(lowtide::ledger::verify::verify(&mut owner).await.unwrap().findings.len(), 0);
    let edited = server.psql("postgres", "UPDATE ledger.fetched SET etag = 'x'").unwrap_err().to_string();
    assert!(edited.contains("append-only") || edited.contains("never changed") || edited.contains("refuse"), "{edited}");
}

/// The older report, overwritten in place, as Parquet or CSV: the manifest's ETag tells versions apart.
/// The documented commands, with the program, as each role: a trial, the report, the feed, and what is refused.
#[tokio::test]
async fn the_program_fetches_for_writers_and_for_nobody_else() {
    let Some(s3) = S3::start().await else { return };
    let Bench { url, ledger, server } = bench().await;
    server.psql("postgres", crate::roles::LOGINS).unwrap();
    machine(&ledger).await;
    let mut owner = connect(&url).await.unwrap();
    let folder = Folder::new("fetching-program");
    version(&s3, &folder, "2026-07-25T01:00:00.000Z", "1.10");
    let row = "2026-07-20 00:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-a\tsir\t9 USD\t1.0 USD\t1.0 USD\t1\n";
    s3.put("billing", &[("spot/111122223333.2026-07-20-00.001.aaaa.gz", &gzip(&folder, &format!("{FEED_HEADER}{row}")))]);
    let run = |role: &str, command: &str| {
        let command = format!("{command} --since 2026-07-01 --endpoint-url {}", s3.url);
        crate::roles::run(&folder.0, &server.url_for(role, "postgres"), &command)
    };
    let (cur, feed) = ("lowtide ledger fetch cur s3://billing/exports/cur/", "lowtide ledger fetch feed s3://billing/spot/");
    for role in ["finance", "auditor"] {
        for command in [cur, feed] {
            let fault = run(role, command).unwrap_err();
            assert!(fault.contains("permission denied"), "{role}: {fault}");
        }
    }
    let tried = run("operator", &format!("{cur} --dry-run")).unwrap();
    assert!(tried.contains("Nothing was written") && tried.contains("search          1.000000"), "{tried}");
    let held = "SELECT count(*) FROM ledger.statement";
    assert_eq!(server.psql("postgres", held).unwrap().trim(), "0", "a trial takes nothing");
    let taken = run("operator", cur).unwrap();
    assert!(taken.contains("cur-Manifest.json") && cost(&mut owner).await == "11.00", "{taken}");
    let again = run("operator", cur).unwrap();
    assert!(!again.trim().is_empty() && cost(&mut owner).await == "11.00", "{again}");
    let taken = run("operator", feed).unwrap();
    assert!(taken.contains("2026-07-20-00.001"), "{taken}");
    version(&s3, &folder, "2026-08-05T01:00:00.000Z", "4.00");
    let refused = run("operator", cur).unwrap_err();
    assert!(refused.contains("--accept amount-changed") && cost(&mut owner).await == "11.00", "{refused}");
    run("operator", &format!("{cur} --accept amount-changed")).unwrap();
    assert_eq!(cost(&mut owner).await, "40.00");
    let statements = crate::roles::run(&folder.0, &server.url_for("finance", "postgres"), "lowtide ledger statements --held").unwrap();
    assert!(statements.contains("bill") && statements.contains("feed"), "{statements}");
}

#[tokio::test]
async fn an_overwritten_report_is_fetched_when_its_manifest_changes() {
    let Some(s3) = S3::start().await else { return };
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("fetching-legacy");
    let (bucket, cur) = (s3.bucket("legacy"), request(What::Cur, "s3://legacy/p/r/", &folder.0));
    for (assembly, price, total) in [("a1", "1.10", "11.00"), ("a2", "1.30", "13.00")] {
        let manifest =
            format!(r#"{{"assemblyId": "{assembly}", "bucket": "legacy", "reportKeys": ["p/r/20260701-20260801/r-00001.csv.gz"]}}"#);
        let data = gzip(&folder, &format!("{HEADER}{}", hours(0..10, price)));
        s3.put(
            "legacy",
            &[("p/r/20260701-20260801/r-00001.csv.gz", &data), ("p/r/20260701-20260801/r-Manifest.json", manifest.as_bytes())],
        );
        assert_eq!(said(&fetched(&mut connection, &bucket, &cur).await).len(), 1);
        assert_eq!(cost(&mut connection).await, total);
        assert!(fetched(&mut connection, &bucket, &cur).await.is_empty());
    }
    let said_versions: Vec<String> =
        sqlx::query_scalar("SELECT said_version FROM ledger.statement ORDER BY version").fetch_all(&mut connection).await.unwrap();
    assert_eq!(said_versions, ["a1", "a2"]);
}

/// More files of the feed than S3 lists at once; one that is damaged holds up none of the others.
#[tokio::test]
async fn all_pages_of_the_feed_are_fetched_and_a_damaged_file_alone_is_refused() {
    let Some(s3) = S3::start().await else { return };
    let Bench { url, ledger, server: _server } = bench().await;
    machine(&ledger).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("fetching-feed");
    // A thousand to a page. Hours without machines have files without lines.
    let empty = gzip(&folder, FEED_HEADER);
    let row =
        |hour: i64| format!("2026-07-20 {hour:02}:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-a\tsir\t9 USD\t1.5 USD\t1.5 USD\t1\n");
    let mut objects: Vec<(String, Vec<u8>)> =
        (0..1_005).map(|n| (format!("spot/123456789012.2026-06-{:02}-{:02}.{n:03}.h.gz", 1 + n % 30, n % 24), empty.clone())).collect();
    for hour in 0..10 {
        let mut body = gzip(&folder, &format!("{FEED_HEADER}{}", row(hour)));
        if hour == 4 {
            let at = body.len() / 2;
            body.truncate(at);
        }
        objects.push((format!("spot/123456789012.2026-07-20-{hour:02}.001.h.gz"), body));
    }
    objects.push(("spot/readme.txt".into(), b"not a file of the feed".to_vec()));
    let borrowed: Vec<(&str, &[u8])> = objects.iter().map(|(key, body)| (key.as_str(), body.as_slice())).collect();
    s3.put("spotfeed", &borrowed);
    let bucket = s3.bucket("spotfeed");
    assert_eq!(bucket.list("spot/").await.unwrap().len(), 1_016, "all pages of the list");
    let feed = request(What::Feed, "s3://spotfeed/spot/", &folder.0);
    let done = fetched(&mut connection, &bucket, &feed).await;
    assert_eq!(done.len(), 2);
    assert!(
        done[0].outcome.as_ref().unwrap_err().to_string().contains("damaged or was cut off") && done[0].urls.len() == 1,
        "{:?}",
        said(&done)
    );
    assert_eq!((done[1].urls.len(), said(&done)[1].as_str()), (9, "version 1"));
    assert_eq!(cost(&mut connection).await, "14.50", "nine hours at 1.50, and the fourth as it was computed");
    // The damaged one alone is new; whole, it is taken.
    assert_eq!(fetched(&mut connection, &bucket, &feed).await.len(), 1);
    let whole = gzip(&folder, &format!("{FEED_HEADER}{}", row(4)));
    s3.put("spotfeed", &[("spot/123456789012.2026-07-20-04.001.h.gz", &whole)]);
    assert_eq!(fetched(&mut connection, &bucket, &feed).await[0].urls.len(), 1);
    assert_eq!(cost(&mut connection).await, "15.00");
    assert!(fetched(&mut connection, &bucket, &feed).await.is_empty());
}

/// What the operator does every hour: it takes what is new, and does not fetch again what was refused until it changes.
#[tokio::test]
async fn the_leader_fetches_and_says_what_is_refused() {
    let Some(s3) = S3::start().await else { return };
    let Bench { url, ledger, server: _server } = bench().await;
    let (from, hours_ago) = (Timestamp(lowtide::ports::Clock::now(&WallClock).0 / 3_600_000 * 3_600_000), 20);
    let from = from - Millis::from_hours(hours_ago);
    let mut recent = Machine::new("r", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(2), EndedBy::Lowtide);
    (recent.interval.from, recent.interval.to) = (from, from + Millis::from_hours(2));
    recent.stays.push(stay("pod-r", "search", &recent, Millis::ZERO, Some(3_000_000)));
    ledger.write(&recent.records()).await.unwrap();
    let folder = Folder::new("fetching-hourly");
    let at = |n: i64| (from + Millis::from_hours(n)).to_rfc3339().replace('T', " ").replace(".000Z", " UTC");
    let row = |n: i64| format!("{}\tSpotUsage:g6.xlarge\tRunInstances\ti-r\tsir\t9 USD\t1.5 USD\t1.5 USD\t1\n", at(n));
    let file =
        |n: i64| format!("spot/123456789012.{}.001.h.gz", (from + Millis::from_hours(n)).to_rfc3339().get(..13).unwrap().replace('T', "-"));
    let good = gzip(&folder, &format!("{FEED_HEADER}{}", row(0)));
    s3.put("hourly", &[(&file(0), &good), (&file(1), b"\x1f\x8bcut")]);
    let (lead, leading) = tokio::sync::watch::channel(false);
    let (found_to, mut found) = tokio::sync::mpsc::unbounded_channel();
    let hourly = Hourly {
        url: url.clone(),
        sources: vec![(What::Feed, "s3://hourly/spot/".parse().unwrap())],
        access: s3.access(),
        every: Duration::from_millis(200),
        clock: Arc::new(WallClock),
        after_round: Arc::new(move |round: Found| _ = found_to.send(round)),
    };
    let running = tokio::spawn(keep(hourly, leading));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(found.try_recv().is_err(), "a replica that does not lead fetches nothing");
    lead.send_replace(true);
    let first = found.recv().await.unwrap();
    assert_eq!(first.refused, 1);
    let mut connection = connect(&url).await.unwrap();
    assert_eq!(cost(&mut connection).await, "2.50");
    assert_eq!(found.recv().await.unwrap().refused, 1, "still refused, and not fetched again");
    s3.put("hourly", &[(&file(1), &gzip(&folder, &format!("{FEED_HEADER}{}", row(1))))]);
    let whole = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let round = found.recv().await.unwrap();
            if round.refused == 0 {
                return round;
            }
        }
    });
    assert!(whole.await.unwrap().complete_at > first.complete_at);
    assert_eq!(cost(&mut connection).await, "3.00");
    running.abort();
}

/// A server that answers every request with these bytes and closes.
async fn answering(answer: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    url
}

/// What is cut on the way, denied, replaced meanwhile, or no S3 at all is said as what it is, and no file is left for an import to find.
#[tokio::test]
async fn what_a_bucket_does_not_give_whole_is_refused() {
    let folder = Folder::new("fetching-cut");
    let object = lowtide::ledger::fetch::Object { key: "a/b.csv.gz".into(), etag: "\"e\"".into(), size: 100, modified: Timestamp(0) };
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    for (head, body, expected) in [
        ("200 OK", "only this", "s3://bucket/a/b.csv.gz has 100 bytes and 9 came"),
        ("403 Forbidden", denied, "S3 answered 403 AccessDenied (Access Denied); the role needs s3:ListBucket"),
        ("412 Precondition Failed", "", "s3://bucket/a/b.csv.gz was replaced while it was being fetched"),
        ("404 Not Found", "<html>no</html>", "S3 answered 404 without a code"),
    ] {
        // The connection ends before the length that was announced.
        let length = if head == "200 OK" { 100 } else { body.len() };
        let url = answering(format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()).await;
        let bucket = Bucket::new("bucket", access(&url));
        let fault = bucket.download(&object, &folder.0.join("file")).await.unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}");
    }
    let html = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>".to_vec()).await;
    let fault = Bucket::new("bucket", access(&html)).list("a/").await.unwrap_err().to_string();
    assert!(fault.contains("s3://bucket/a/ did not answer as S3 does: <html> instead of <ListBucketResult>"), "{fault}");
}
