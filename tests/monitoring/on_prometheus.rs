//! Every panel and every alert asked of a real Prometheus that scraped a real operator's `/metrics` through days of a simulated world.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lowtide::core::units::time::Millis;
use lowtide::monitoring::dashboard::{Source, all};
use lowtide::sim::faults::Level;
use lowtide::sim::run::{Scenario, play};
use serde_json::Value;

/// Pages of a history, half an hour apart: what an operator said in two days. Played once for all tests.
fn pages() -> Vec<String> {
    static PAGES: OnceLock<Vec<String>> = OnceLock::new();
    let scenario = || Scenario { metrics_every: Some(Millis::from_mins(30)), ..Scenario::new(3, 2, Level::Calm) };
    PAGES.get_or_init(|| play(&scenario()).unwrap().metrics).clone()
}

/// What NVIDIA's DCGM exporter says of two GPUs, of one of which Prometheus has renamed the pod's labels.
const DCGM: &str = "# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-1\",namespace=\"ml\",pod=\"chat-0\"} 0.35
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"1\",UUID=\"GPU-2\",namespace=\"gpu-operator\",pod=\"dcgm-exporter-x\",exported_namespace=\"batch\",exported_pod=\"train-0\"} 0.78
";

/// Gives one page after the other, one for each scrape, and the last one from then on.
fn serve(pages: Vec<String>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let at = count.fetch_add(1, Ordering::SeqCst).min(pages.len() - 1);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                pages[at].len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(pages[at].as_bytes()));
        }
    });
    (port, given)
}

struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    /// Scrapes `target` five times a second.
    fn start(target: u16) -> Option<Server> {
        let bin = super::tools();
        if !bin.join("prometheus").is_file() {
            eprintln!("left out: no prometheus in {}; `make tools` fetches it on Debian", bin.display());
            return None;
        }
        let folder = std::env::temp_dir().join(format!("lowtide-panels-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/lowtide/files/alerts/lowtide.yaml");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n- job_name: lowtide\n  static_configs:\n  - targets: ['127.0.0.1:{target}']\n    labels: {{cluster: test}}\n",
            rules.display()
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(bin.join("prometheus"))
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Server { child, folder, port })
    }

    /// `path` as JSON; HTTP 1.0, so that nothing is chunked.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// What `query` gives now: the values that are numbers.
    fn ask(&self, query: &str) -> Result<Vec<f64>, String> {
        let encoded: String =
            query.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).ok_or("no answer")?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let values = answer["data"]["result"].as_array().ok_or("no vector")?.iter();
        Ok(values.filter_map(|series| series["value"][1].as_str()?.parse::<f64>().ok()).filter(|value| !value.is_nan()).collect())
    }
}

/// A query with its variables, as Grafana would fill them in: the whole history lies within a minute.
fn filled_in(query: &str) -> String {
    query.replace("$cluster", "test").replace("$job", "lowtide").replace("$__rate_interval", "2m").replace("$__range", "2m")
}

#[test]
fn promtool_finds_nothing_to_say_of_the_page() {
    let promtool = super::tools().join("promtool");
    if !promtool.is_file() {
        eprintln!("left out: no promtool");
        return;
    }
    let page = pages().pop().unwrap();
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    // Old names are what they were.
    let old = ["_milliseconds", "_micro_usd"];
    let lines: Vec<&str> = text.lines().filter(|line| !old.iter().any(|old| line.contains(old))).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

#[test]
fn every_panel_on_prometheus_gives_data_or_says_why_not() {
    let pages = pages();
    assert!(pages.len() > 60, "{} pages", pages.len());
    let wanted = pages.len();
    let (target, given) = serve(pages.into_iter().map(|page| page + DCGM).collect());
    let Some(prometheus) = Server::start(target) else { return };
    let began = Instant::now();
    while given.load(Ordering::SeqCst) < wanted + 3 {
        assert!(began.elapsed() < Duration::from_secs(90), "only {} of {wanted} pages were scraped", given.load(Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (mut asked, mut empty, mut wrong) = (0, Vec::new(), Vec::new());
    for dashboard in all() {
        for panel in dashboard.panels().filter(|panel| panel.source == Source::Prometheus) {
            for query in &panel.queries {
                asked += 1;
                let what = format!("{}: {}: {}", dashboard.title, panel.title, query.text);
                match (prometheus.ask(&filled_in(&query.expression())), panel.may_be_empty) {
                    (Err(fault), _) => wrong.push(format!("{what}: {fault}")),
                    (Ok(values), None) if values.is_empty() => wrong.push(format!("{what}: no data")),
                    (Ok(values), Some(_)) if values.is_empty() => empty.push(panel.title),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} queries:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!empty.contains(&"Engine activity"), "the exporter is scraped here");
    let activity = all()
        .into_iter()
        .flat_map(|dashboard| dashboard.rows)
        .flat_map(|row| row.panels)
        .find(|panel| panel.title == "Engine activity")
        .unwrap();
    let mut shown = prometheus.ask(&filled_in(&activity.queries[0].expression())).unwrap();
    shown.sort_by(f64::total_cmp);
    assert_eq!(shown, [0.35, 0.78], "each namespace by itself, and not that of the exporter");
    println!("{asked} queries answered by Prometheus, declared empty and empty here: {empty:?}");
    // The rules are loaded and evaluated on the same data, none with an error.
    let rules = prometheus.get("/api/v1/rules").unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let ill: Vec<&Value> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).filter(|rule| rule["health"] != "ok").collect();
    assert!(!groups.is_empty() && ill.is_empty(), "{ill:#?}");
}
