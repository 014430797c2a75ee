//! A real Prometheus that scrapes the lab's operator, as one in a cluster would.
//!
//! Decides: how often it scrapes, under which cluster's name, and how much shorter the waits of the chart's alerts are. Does not: know any panel.

use std::time::Duration;

use serde_json::Value;

use super::alertmanager::LabAlertmanager;
use super::control_plane::start_on_free_ports;
use super::error::LabError;
use super::process::{Process, ProcessSpec, free_port};
use super::sim_client;
use super::start::{CLUSTER, Lab};
use crate::core::units::time::Timestamp;
use crate::ports::percent_encoding::percent_encoded;

/// Seconds between two scrapes: a third of what is usual, because a story is over in minutes.
pub const SCRAPE_SECONDS: u32 = 5;
const RULES: &str = include_str!("../../charts/lowtide/files/alerts/lowtide.yaml");
/// How much shorter than in a cluster an alert waits before it fires.
const WAITS_SHORTER: u64 = 60;
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A running Prometheus. Dropping it ends it.
#[derive(Debug)]
pub struct LabPrometheus {
    process: Process,
    url: String,
}

impl LabPrometheus {
    /// Starts the one that `make tools` fetched, and waits until it answers; `None` where there is none, which is no Debian. With an Alertmanager it
    /// evaluates the chart's alerts.
    pub async fn start(lab: &Lab, alertmanager: Option<&LabAlertmanager>) -> Result<Option<LabPrometheus>, LabError> {
        let program = lab.tools().folder().join("prometheus");
        if !program.is_file() {
            return Ok(None);
        }
        let target = lab.operator_url().trim_start_matches("http://").to_owned();
        let mut config = format!(
            "global: {{scrape_interval: {SCRAPE_SECONDS}s, scrape_timeout: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s}}\n\
             scrape_configs:\n- job_name: lowtide\n  static_configs:\n  - targets: ['{target}']\n    labels: {{cluster: {CLUSTER}}}\n"
        );
        if let Some(alertmanager) = alertmanager {
            let rules = lab.write("alerts.yml", &with_shorter_waits(RULES))?;
            let target = alertmanager.target();
            config += &format!(
                "rule_files: ['{}']\nalerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['{target}']\n",
                rules.display()
            );
        }
        let (config, data, logs) = (lab.write("prometheus.yml", &config)?, lab.folder("prometheus")?, lab.logs()?);
        let spec = || {
            let port = free_port()?;
            let spec = ProcessSpec::new("prometheus", program.clone(), &logs).args([
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", data.display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ]);
            Ok((spec, format!("http://127.0.0.1:{port}")))
        };
        let ready = async |url: &String| match sim_client::get(url, "/-/ready").await {
            Ok(_) => Ok(format!("{url}, scrapes the operator")),
            Err(fault) => Err(fault.to_string()),
        };
        let (process, url) = start_on_free_ports("prometheus", &logs, STARTS_WITHIN, spec, ready).await?;
        Ok(Some(LabPrometheus { process, url }))
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.process.check()
    }

    /// The values that a label of a metric has.
    pub async fn values_of(&self, label: &str, metric: &str) -> Result<Vec<String>, LabError> {
        let answer = self.ask(&format!("label/{label}/values?match[]={}", percent_encoded(metric))).await?;
        let values = answer["data"].as_array().into_iter().flatten();
        Ok(values.filter_map(|value| value.as_str().map(str::to_owned)).collect())
    }

    /// How many series of `query` have a number at `at`.
    pub async fn numbers_at(&self, query: &str, at: Timestamp) -> Result<usize, LabError> {
        let answer = self.ask(&format!("query?query={}&time={}", percent_encoded(query), at.0.div_euclid(1_000))).await?;
        let series = answer["data"]["result"].as_array().into_iter().flatten();
        Ok(series.filter(|series| is_number(&series["value"])).count())
    }

    /// How many points of `query` between two times are numbers.
    pub async fn numbers_over(&self, query: &str, (from, to): (Timestamp, Timestamp), step_seconds: u32) -> Result<usize, LabError> {
        let (from, to) = (from.0.div_euclid(1_000), to.0.div_euclid(1_000));
        let answer = self.ask(&format!("query_range?query={}&start={from}&end={to}&step={step_seconds}", percent_encoded(query))).await?;
        let series = answer["data"]["result"].as_array().into_iter().flatten();
        Ok(series.flat_map(|series| series["values"].as_array().into_iter().flatten()).filter(|point| is_number(point)).count())
    }

    async fn ask(&self, what: &str) -> Result<Value, LabError> {
        sim_client::get_json(&self.url, &format!("/api/v1/{what}")).await
    }
}

/// Rules whose alerts fire after a sixtieth of their time.
fn with_shorter_waits(rules: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("for: ").and_then(seconds) {
        Some(seconds) => format!("{}for: {}s\n", &line[..line.len() - line.trim_start().len()], seconds.div_ceil(WAITS_SHORTER)),
        None => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

/// Seconds of a duration as Prometheus writes it, in one unit.
fn seconds(duration: &str) -> Option<u64> {
    let (number, unit) = duration.split_at_checked(duration.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

/// Whether a sample, `[seconds, "value"]`, has a value that can be drawn.
fn is_number(sample: &Value) -> bool {
    sample[1].as_str().and_then(|value| value.parse::<f64>().ok()).is_some_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_waits_a_sixtieth_of_its_time() {
        let shorter = with_shorter_waits(RULES);
        let waits = |text: &str| text.lines().filter_map(|line| seconds(line.trim_start().strip_prefix("for: ")?)).collect::<Vec<u64>>();
        assert_eq!(waits(&shorter), waits(RULES).into_iter().map(|wait| wait / 60).collect::<Vec<_>>());
        assert_eq!(shorter.matches("for: ").count(), RULES.matches("for: ").count());
        let others = |text: &str| text.lines().filter(|line| !line.contains("for: ")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(others(&shorter), others(RULES));
    }

    #[test]
    fn what_cannot_be_drawn_is_no_number() {
        let samples = [r#"[1, "2.5"]"#, r#"[1, "NaN"]"#, r#"[1, "+Inf"]"#, "null"].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(samples.each_ref().map(is_number), [true, false, false, false]);
    }
}
