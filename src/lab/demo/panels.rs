//! Every panel of the dashboards asked as Grafana asks it: a real Prometheus that scraped the story, and the story's ledger.
//!
//! Decides: how variables are filled in, and that a panel without data is a fault unless it says why it may be empty.
//! Does not: choose panels or their reasons (`monitoring::dashboard`).

use sqlx::PgConnection;

use crate::core::units::time::Timestamp;
use crate::lab::error::LabError;
use crate::lab::prometheus::{LabPrometheus, SCRAPE_SECONDS};
use crate::monitoring::dashboard::{Draw, Panel, Query, Source, all};

/// Between two points of a line.
const STEP_SECONDS: u32 = 3 * SCRAPE_SECONDS;
/// Grafana, "Prometheus template variables": the larger of step and scrape interval together, and four scrapes.
const RATE_SECONDS: u32 = STEP_SECONDS + SCRAPE_SECONDS;

/// What came of all panels.
#[derive(Debug, Default)]
pub struct Answered {
    /// Panels that drew something.
    pub with_data: usize,
    /// Panels that drew nothing, with the reason that they declare.
    pub empty: Vec<String>,
    /// Queries that failed or gave nothing, by dashboard, panel and query.
    pub faults: Vec<String>,
}

impl Answered {
    /// A panel's queries, each with how much it gave; none when there was nobody to ask.
    fn panel(&mut self, dashboard: &str, panel: &Panel, answers: &[(Query, Result<usize, String>)]) {
        let mut fault = |query: &Query, why: &str| self.faults.push(format!("{dashboard}: {}: {why}: {}", panel.title, query.text));
        for (query, answer) in answers {
            match (answer, panel.may_be_empty) {
                (Err(why), _) => fault(query, why),
                (Ok(0), None) => fault(query, "no data"),
                _ => {}
            }
        }
        match panel.may_be_empty {
            _ if answers.is_empty() => {}
            Some(reason) if answers.iter().all(|(_, answer)| matches!(answer, Ok(0))) => {
                self.empty.push(format!("{}: {reason}", panel.title))
            }
            _ if answers.iter().any(|(_, answer)| matches!(answer, Ok(1..))) => self.with_data += 1,
            _ => {}
        }
    }
}

/// Asks all panels about the time from the first to the second of `span`; those on Prometheus only where there is one.
pub async fn ask(
    prometheus: Option<&LabPrometheus>,
    ledger: &mut PgConnection,
    span: (Timestamp, Timestamp),
) -> Result<Answered, LabError> {
    let variables = match prometheus {
        Some(prometheus) => Some((prometheus, Variables::read(prometheus, span).await?)),
        None => None,
    };
    let mut answered = Answered::default();
    for dashboard in all() {
        for panel in dashboard.panels() {
            let mut answers = Vec::new();
            for query in &panel.queries {
                let answer = match (panel.source, &variables) {
                    (Source::Ledger, _) => rows(ledger, query, span).await,
                    (Source::Prometheus, Some((prometheus, variables))) => {
                        let text = variables.filled_in(query);
                        let over_time = matches!(panel.draw, Draw::Lines | Draw::Stacked | Draw::Heatmap);
                        let numbers = match over_time {
                            true => prometheus.numbers_over(&text, span, STEP_SECONDS).await,
                            false => prometheus.numbers_at(&text, span.1).await,
                        };
                        numbers.map_err(|fault| fault.to_string())
                    }
                    (Source::Prometheus, None) => continue,
                };
                answers.push((*query, answer));
            }
            answered.panel(dashboard.title, panel, &answers);
        }
    }
    Ok(answered)
}

/// What the dashboards' variables offer, all of it chosen.
struct Variables {
    cluster: String,
    job: String,
    range_seconds: i64,
}

impl Variables {
    /// As the variables' own queries say.
    async fn read(prometheus: &LabPrometheus, span: (Timestamp, Timestamp)) -> Result<Variables, LabError> {
        let cluster = prometheus.values_of("cluster", "lowtide_build_info").await?.join("|");
        let job = prometheus.values_of("job", &format!("lowtide_build_info{{cluster=~\"{cluster}\"}}")).await?.join("|");
        Ok(Variables { cluster, job, range_seconds: span.1.since(span.0).0.div_euclid(1_000) })
    }

    fn filled_in(&self, query: &Query) -> String {
        let text = query.expression().replace("$cluster", &self.cluster).replace("$job", &self.job);
        text.replace("$__rate_interval", &format!("{RATE_SECONDS}s")).replace("$__range", &format!("{}s", self.range_seconds))
    }
}

/// How many rows a panel on the ledger gets.
async fn rows(ledger: &mut PgConnection, query: &Query, (from, to): (Timestamp, Timestamp)) -> Result<usize, String> {
    let quoted = |at: Timestamp| format!("'{}'", at.to_rfc3339());
    let sql = query.text.replace("$__timeFrom()", &quoted(from)).replace("$__timeTo()", &quoted(to));
    // The program's own text; nothing comes from outside.
    sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(ledger).await.map(|rows| rows.len()).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_without_data_is_a_fault_unless_it_says_why() {
        let query = |text| Query { text, legend: "" };
        let plain = Panel::prometheus("Machines", "", Draw::Stat, "short", &[]);
        let excused = Panel::prometheus("Anomalies", "", Draw::Stat, "short", &[]).may_be_empty("there are none");
        let mut answered = Answered::default();
        answered.panel("Fleet", &plain, &[(query("a"), Ok(2)), (query("b"), Ok(0))]);
        answered.panel("Fleet", &excused, &[(query("c"), Ok(0)), (query("d"), Ok(0))]);
        answered.panel("Fleet", &excused, &[(query("c"), Ok(0)), (query("d"), Ok(1))]);
        answered.panel("Fleet", &excused, &[(query("e"), Err("parse error".to_owned()))]);
        answered.panel("Fleet", &excused, &[]);
        assert_eq!(answered.faults, ["Fleet: Machines: no data: b", "Fleet: Anomalies: parse error: e"]);
        assert_eq!((answered.with_data, answered.empty), (2, vec!["Anomalies: there are none".to_owned()]));
    }
}
