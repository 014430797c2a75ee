//! A real Alertmanager with the example's configuration, and the receivers of its messages, which record them.
//!
//! Decides: which words of the example are replaced: the addresses of Slack and PagerDuty, and how long alerts are gathered.
//! Does not: know any alert.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::control_plane::start_on_free_ports;
use super::error::LabError;
use super::process::{Process, ProcessSpec, free_port};
use super::sim_client;
use super::start::Lab;

const EXAMPLE: &str = include_str!("../../examples/alertmanager/alertmanager.yaml");
/// Where Debian's Alertmanager reads the templates of its messages.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager/default.tmpl";
/// Where the example has its keys.
const SECRETS: &str = "/etc/alertmanager/secrets";
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A message that a receiver got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The receiver's name in the example.
    pub receiver: String,
    /// What it was sent, as Slack or PagerDuty would get it.
    pub body: String,
}

type Recorded = Arc<Mutex<Vec<Delivery>>>;

/// A running Alertmanager. Dropping it ends it and its receivers.
#[derive(Debug)]
pub struct LabAlertmanager {
    process: Process,
    url: String,
    recorded: Recorded,
    receivers: JoinHandle<()>,
}

impl LabAlertmanager {
    /// Starts the one that `make tools` fetched, and waits until it answers; `None` where there is none, which is no Debian.
    pub async fn start(lab: &Lab) -> Result<Option<LabAlertmanager>, LabError> {
        let program = lab.tools().folder().join("alertmanager");
        if !program.is_file() || !Path::new(TEMPLATES).is_file() {
            return Ok(None);
        }
        let what = "listening for what Alertmanager sends";
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(LabError::io(what))?;
        let address = format!("http://{}", listener.local_addr().map_err(LabError::io(what))?);
        let recorded = Recorded::default();
        let router = Router::new().fallback(record).with_state(recorded.clone());
        let receivers = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        for receiver in names(EXAMPLE) {
            lab.write(&format!("address-of-{receiver}"), &format!("{address}/{receiver}"))?;
            lab.write(&format!("key-of-{receiver}"), "0123456789abcdef0123456789abcdef")?;
        }
        let folder = lab.folder("alertmanager")?;
        let secrets = folder.parent().unwrap_or(&folder).display().to_string();
        let config = lab.write("alertmanager.yml", &configuration(EXAMPLE, &secrets, &address))?;
        let logs = lab.logs()?;
        let spec = || {
            let port = free_port()?;
            let spec = ProcessSpec::new("alertmanager", program.clone(), &logs).args([
                format!("--config.file={}", config.display()),
                format!("--storage.path={}", folder.display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--cluster.listen-address=".to_owned(),
            ]);
            Ok((spec, format!("http://127.0.0.1:{port}")))
        };
        let ready = async |url: &String| match sim_client::get(url, "/-/ready").await {
            Ok(_) => Ok(format!("{url}, with receivers that record")),
            Err(fault) => Err(fault.to_string()),
        };
        let (process, url) = start_on_free_ports("alertmanager", &logs, STARTS_WITHIN, spec, ready).await?;
        Ok(Some(LabAlertmanager { process, url, recorded, receivers }))
    }

    /// Where Prometheus sends alerts, e.g. `127.0.0.1:40001`.
    pub fn target(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.process.check()
    }

    /// Everything that was delivered so far.
    pub fn delivered(&self) -> Vec<Delivery> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for LabAlertmanager {
    fn drop(&mut self) {
        self.receivers.abort();
    }
}

/// Answers as PagerDuty and Slack do.
async fn record(State(recorded): State<Recorded>, uri: Uri, body: String) -> impl IntoResponse {
    let receiver = uri.path().trim_start_matches('/').to_owned();
    let pages = receiver.ends_with("pagerduty");
    recorded.lock().unwrap_or_else(PoisonError::into_inner).push(Delivery { receiver, body });
    if pages { (StatusCode::ACCEPTED, "{\"status\":\"success\"}") } else { (StatusCode::OK, "ok") }
}

/// The receivers of a configuration.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("  - name: "))
}

/// The example with addresses of our own, and alerts gathered for seconds instead of minutes.
fn configuration(example: &str, secrets: &str, address: &str) -> String {
    let mut receiver = "";
    let line = |line| {
        receiver = names(line).next().unwrap_or(receiver);
        let line = line.replace(&format!("{SECRETS}/slack-url"), &format!("{secrets}/address-of-{receiver}"));
        match line.find(SECRETS) {
            Some(_) => {
                let key = line.replace("- routing_key_file", "  routing_key_file");
                let (before, _) = key.split_once(SECRETS).unwrap_or((&key, ""));
                format!("      - url: {address}/{receiver}\n{before}{secrets}/key-of-{receiver}\n")
            }
            None => line.replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 2s") + "\n",
        }
    };
    example.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_example_goes_to_anybody_but_the_labs_receivers() {
        let text = configuration(EXAMPLE, "/lab", "http://127.0.0.1:9");
        assert!(!text.contains(SECRETS) && !text.contains("30s") && !text.contains("5m"), "{text}");
        let expected = ["platform-slack", "finance-slack", "integrity-pagerduty", "capacity-pagerduty"];
        assert_eq!(names(&text).collect::<Vec<_>>(), expected);
        for receiver in expected {
            let address = match receiver.ends_with("slack") {
                true => format!("      - api_url_file: /lab/address-of-{receiver}\n"),
                false => format!("      - url: http://127.0.0.1:9/{receiver}\n        routing_key_file: /lab/key-of-{receiver}\n"),
            };
            assert_eq!(text.matches(&address).count(), 1, "{receiver}: {text}");
        }
        assert_eq!(text.lines().count(), EXAMPLE.lines().count() + 2, "a line more for each of PagerDuty's");
    }
}
