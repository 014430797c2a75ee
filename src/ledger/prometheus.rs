//! Usage from Prometheus: what a workload produced in an hour, asked at the hour's end; and raw readings of metrics.
//!
//! Decides: which hours are asked for, and that an answer is one number or a fault that says what to change. No answer is no usage
//! known, never zero.
//! Does not: know queries (owners annotate them, [`super::gpu_use`] has its own) or store answers (see [`super::import::store_usage`]).
//!
//! Source: Prometheus' HTTP API, "Instant queries"; for readings, "Querying basics", range vector selectors.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use serde::Deserialize;

use super::import::{UsageHour, micro_units};
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::UsageQuery;
use crate::ports::percent_encoding::percent_encoded;

const HOUR: Millis = Millis::from_hours(1);
/// How long an answer may take, and how large it may be.
type Limits = (Duration, usize);

const OF_A_NUMBER: Limits = (Duration::from_secs(10), 1 << 20);
const OF_READINGS: Limits = (Duration::from_secs(60), 64 << 20);

/// A URL as messages say it: without a user and password, which some write before the host, with a slash of theirs or not, and without what is asked, in which
/// some write a token.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}")
}

/// Prometheus could not be asked, or did not say a number.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusFault {
    /// Nobody answered.
    #[error("{url} does not answer: {fault}; expected Prometheus' address, as in http://prometheus.monitoring:9090")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        fault: String,
    },
    /// It answered something else.
    #[error("{url} did not answer as Prometheus does: {fault}")]
    NotPrometheus {
        /// What was asked.
        url: String,
        /// What came.
        fault: String,
    },
    /// It refused the query.
    #[error("Prometheus refused the query {query:?}: {fault}")]
    Refused {
        /// The query.
        query: String,
        /// Prometheus' words.
        fault: String,
    },
    /// It answered several numbers, or none that is one.
    #[error("the query {query:?} gives {found}; expected one number for the hour: put sum(...) around it")]
    NotOneNumber {
        /// The query.
        query: String,
        /// What it gives.
        found: String,
    },
}

/// A Prometheus server.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    connector: Connector,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

/// A series with its readings, in the order of time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Series {
    /// Its labels.
    #[serde(rename = "metric")]
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the value.
    pub values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Readings {
    status: String,
    data: Option<Matrix>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Matrix {
    result: Vec<Series>,
}

/// The number that an answer to `query` from `url` holds, in millionths.
fn one_number(body: &[u8], query: &str, url: &str) -> Result<Option<i128>, PrometheusFault> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|fault| PrometheusFault::NotPrometheus { url: url.to_owned(), fault: fault.to_string() })?;
    let not_one = |found: String| PrometheusFault::NotOneNumber { query: query.to_owned(), found };
    let text = match answer {
        Answer { status, error, .. } if status != "success" => {
            return Err(PrometheusFault::Refused { query: query.to_owned(), fault: error });
        }
        Answer { data: Some(Data::Scalar((_, text))), .. } => text,
        Answer { data: Some(Data::Vector(samples)), .. } => match <[Sample; 1]>::try_from(samples) {
            Ok([sample]) => sample.value.1,
            Err(samples) if samples.is_empty() => return Ok(None),
            Err(samples) => return Err(not_one(format!("{} series", samples.len()))),
        },
        Answer { data: Some(Data::Matrix(_)), .. } => return Err(not_one("a range".into())),
        Answer { data: Some(Data::String(_)), .. } => return Err(not_one("a text".into())),
        Answer { data: None, .. } => return Err(PrometheusFault::NotPrometheus { url: url.to_owned(), fault: "no data".into() }),
    };
    micro_units(&text).map(Some).ok_or_else(|| not_one(text))
}

/// The series that an answer to `query` from `url` holds.
fn all_readings(body: &[u8], query: String, url: &str) -> Result<Vec<Series>, PrometheusFault> {
    let not_prometheus = |fault: String| PrometheusFault::NotPrometheus { url: url.to_owned(), fault };
    match serde_json::from_slice(body).map_err(|fault| not_prometheus(fault.to_string()))? {
        Readings { status, error, .. } if status != "success" => Err(PrometheusFault::Refused { query, fault: error }),
        Readings { data: Some(Matrix { result }), .. } => Ok(result),
        Readings { data: None, .. } => Err(not_prometheus("no data".into())),
    }
}

impl Prometheus {
    /// The server at `url`, as in `http://prometheus.monitoring:9090`.
    pub fn new(url: &str) -> Self {
        let connector = Connector::builder().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build();
        Prometheus { url: url.trim_end_matches('/').to_owned(), connector }
    }

    /// What `query` gives at `at`, in millionths; `None` when there is no such series.
    ///
    /// # Errors
    /// [`PrometheusFault`].
    pub async fn ask(&self, query: &str, at: Timestamp) -> Result<Option<i128>, PrometheusFault> {
        let url = self.address(query, at);
        let body = self.get(&url, OF_A_NUMBER).await?;
        one_number(&body, query, &shown(&url))
    }

    /// The readings of all series that `selector` names, as in `up{job="x"}`, within `span` before `at`: as they were scraped, with nothing put in between.
    ///
    /// # Errors
    /// [`PrometheusFault`].
    pub async fn readings(&self, selector: &str, span: Millis, at: Timestamp) -> Result<Vec<Series>, PrometheusFault> {
        let query = format!("{selector}[{}s]", span.as_secs());
        let url = self.address(&query, at);
        let body = self.get(&url, OF_READINGS).await?;
        all_readings(&body, query, &shown(&url))
    }

    fn address(&self, query: &str, at: Timestamp) -> String {
        format!("{}/api/v1/query?query={}&time={}", self.url, percent_encoded(query), at.0.div_euclid(1_000))
    }

    async fn get(&self, url: &str, (patience, most_bytes): Limits) -> Result<Vec<u8>, PrometheusFault> {
        let unreachable = |fault: String| PrometheusFault::Unreachable { url: shown(url), fault };
        let request = HttpRequest::get(url).map_err(|fault| unreachable(fault.to_string()))?;
        let exchange = async {
            let response = self.connector.call(request).await.map_err(|fault| unreachable(format!("{fault:?}")))?;
            let status = response.status();
            let body = ByteStream::new(response.into_body()).collect().await.map_err(|fault| unreachable(fault.to_string()))?.to_vec();
            // 400, 422 and 503 carry the reason as JSON.
            let explained = status.is_success() || body.starts_with(b"{");
            if !explained || body.len() > most_bytes {
                let fault = format!("status {} and {} bytes", status.as_u16(), body.len());
                return Err(PrometheusFault::NotPrometheus { url: shown(url), fault });
            }
            Ok(body)
        };
        tokio::time::timeout(patience, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("nothing within {} s", patience.as_secs()))))
    }

    /// The usage of `workload` for the last `hours` full hours before `now`. Hours without data are left out.
    ///
    /// # Errors
    /// [`PrometheusFault`] at the first hour that cannot be asked.
    pub async fn usage(
        &self,
        workload: &ObjectRef,
        query: &UsageQuery,
        now: Timestamp,
        hours: u32,
    ) -> Result<Vec<UsageHour>, PrometheusFault> {
        let last_end = Timestamp(now.0 - now.0.rem_euclid(HOUR.0));
        let mut usage = Vec::new();
        for back in (0..i64::from(hours)).rev() {
            let end = last_end - Millis(back * HOUR.0);
            if let Some(micro_units) = self.ask(&query.query, end).await? {
                usage.push(UsageHour { workload: workload.clone(), hour: end - HOUR, unit: query.unit, micro_units });
            }
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_repeats_a_password() {
        assert_eq!(shown("http://me:tiger-lily@prom:9090/api?token=tiger-lily"), "http://prom:9090/api");
        assert_eq!(shown("http://me:tiger@lily@prom"), "http://prom");
        assert_eq!((shown("me:tiger/lily@prom/a"), shown("http://prom/a")), ("prom/a".to_owned(), "http://prom/a".to_owned()));
        let fault = PrometheusFault::Unreachable { url: shown("https://me:tiger-lily@prom"), fault: "x".into() };
        assert!(!format!("{fault} {fault:?}").contains("tiger"), "{fault}");
    }

    #[test]
    fn queries_survive_the_address() {
        assert_eq!(percent_encoded(r#"sum(increase(x{a="b c"}[1h]))"#), "sum%28increase%28x%7Ba%3D%22b%20c%22%7D%5B1h%5D%29%29");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_prometheus_answers_is_a_number_series_or_a_fault(
            text in crate::mutation::text(&[
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1784505600.781,"1234.5"]}]}}"#,
                r#"{"status":"success","data":{"resultType":"scalar","result":[1784505600.781,"1"]}}"#,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"gpu":"0"},"values":[[1784505600.781,"0.5"],[1784505630.781,"NaN"]]}]}}"#,
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#,
            ])
        ) {
            let said = |fault: PrometheusFault| assert!(fault.to_string().len() > 20, "{fault}");
            one_number(text.as_bytes(), "up", "http://prom").err().into_iter().for_each(said);
            all_readings(text.as_bytes(), "up[1h]".to_owned(), "http://prom").err().into_iter().for_each(said);
        }
    }
}
