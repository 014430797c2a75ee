//! Instance metadata, read on the node itself: the fastest way to learn about an interruption.
//!
//! Decides: what a metadata document means. Does not: act on it, or choose how often to poll (EC2 recommends every 5 s).

use std::time::Duration;

use aws_config::imds::client::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use serde::Deserialize;

use crate::core::fleet::{Notice, NoticeKind};
use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::{Millis, Timestamp};

use super::conversion::parse_rfc3339;

/// EC2 gives this much time between notice and end (EC2 user guide, "Spot Instance interruption notices").
pub const INTERRUPTION_NOTICE: Millis = Millis::from_secs(120);

const INSTANCE_ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
const REGION: &str = "/latest/meta-data/placement/region";

/// Instance metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImdsUnreadable {
    /// The endpoint is not a URL.
    #[error("{endpoint:?} is not a valid instance metadata endpoint: {fault}; expected a URL such as http://169.254.169.254")]
    Endpoint {
        /// The given value.
        endpoint: String,
        /// What is wrong with it.
        fault: String,
    },
    /// No answer, or a refusal.
    #[error("instance metadata returned no {path}: {fault}; the agent needs the host network and IMDSv2 enabled on the instance")]
    NoAnswer {
        /// What was requested.
        path: &'static str,
        /// What happened.
        fault: String,
    },
    /// An answer that is not as documented.
    #[error("instance metadata returned an unexpected {path}: {fault}")]
    Document {
        /// What was requested.
        path: &'static str,
        /// Expected and found.
        fault: String,
    },
}

/// Reads this machine's metadata with IMDSv2 tokens, which it fetches and renews itself.
#[derive(Debug)]
pub struct ImdsReader {
    client: Client,
    /// The machine's own id.
    pub instance: InstanceId,
    /// The region it is in.
    pub region: Region,
}

#[derive(Deserialize)]
struct InstanceAction {
    action: String,
    time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rebalance {
    notice_time: String,
}

impl ImdsReader {
    /// Connects to instance metadata, at `endpoint` instead of `http://169.254.169.254` if given, and asks it for our identity.
    ///
    /// # Errors
    /// [`ImdsUnreadable`], if there is none.
    pub async fn connect(endpoint: Option<&str>) -> Result<Self, ImdsUnreadable> {
        let config = ProviderConfig::without_region().with_http_client(super::http_client());
        let mut builder = Client::builder()
            .configure(&config)
            .max_attempts(2)
            .connect_timeout(Duration::from_secs(1))
            .read_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(4));
        if let Some(endpoint) = endpoint {
            let bad = |fault: &dyn std::fmt::Display| ImdsUnreadable::Endpoint { endpoint: endpoint.to_owned(), fault: fault.to_string() };
            builder = builder.endpoint(endpoint).map_err(|error| bad(&error))?;
        }
        let client = builder.build();
        let instance = expected(&client, INSTANCE_ID).await?.into();
        let region = expected(&client, REGION).await?.into();
        Ok(ImdsReader { client, instance, region })
    }

    /// The worst that metadata says now: an interruption, else a rebalance recommendation, else nothing.
    ///
    /// # Errors
    /// [`ImdsUnreadable`]: the state is then unknown, which does not mean that nothing threatens.
    pub async fn poll(&self) -> Result<Option<Notice>, ImdsUnreadable> {
        let found = match document(&self.client, INSTANCE_ACTION).await? {
            Some(text) => Some((NoticeKind::Interruption, interruption_sent_at(&text)?)),
            None => match document(&self.client, REBALANCE).await? {
                Some(text) => Some((NoticeKind::Rebalance, rebalance_sent_at(&text)?)),
                None => None,
            },
        };
        Ok(found.map(|(kind, sent_at)| Notice {
            instance: self.instance.clone(),
            also: Vec::new(),
            region: self.region.clone(),
            kind,
            sent_at,
        }))
    }
}

/// A document; `None` if metadata has none (404), as long as nothing threatens the machine.
async fn document(client: &Client, path: &'static str) -> Result<Option<String>, ImdsUnreadable> {
    match client.get(path).await {
        Ok(text) => Ok(Some(text.into())),
        Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
        Err(ImdsError::ErrorResponse(answer)) => {
            Err(ImdsUnreadable::NoAnswer { path, fault: format!("HTTP {}", answer.response().status().as_u16()) })
        }
        Err(error) => {
            Err(ImdsUnreadable::NoAnswer { path, fault: aws_smithy_types::error::display::DisplayErrorContext(&error).to_string() })
        }
    }
}

async fn expected(client: &Client, path: &'static str) -> Result<String, ImdsUnreadable> {
    document(client, path).await?.ok_or_else(|| ImdsUnreadable::NoAnswer { path, fault: "HTTP 404".to_owned() })
}

fn time(path: &'static str, text: &str) -> Result<Timestamp, ImdsUnreadable> {
    parse_rfc3339(text).ok_or_else(|| ImdsUnreadable::Document { path, fault: format!("expected an RFC 3339 time, found {text:?}") })
}

/// When an interruption was sent: metadata says when the machine goes, two minutes later.
fn interruption_sent_at(text: &str) -> Result<Timestamp, ImdsUnreadable> {
    let bad = |fault: String| ImdsUnreadable::Document { path: INSTANCE_ACTION, fault };
    let action: InstanceAction = serde_json::from_str(text).map_err(|error| bad(format!("{error} in {text:?}")))?;
    match action.action.as_str() {
        "terminate" | "stop" | "hibernate" => Ok(time(INSTANCE_ACTION, &action.time)? - INTERRUPTION_NOTICE),
        other => Err(bad(format!("expected action terminate, stop or hibernate, found {other:?}"))),
    }
}

fn rebalance_sent_at(text: &str) -> Result<Timestamp, ImdsUnreadable> {
    let read: Result<Rebalance, _> = serde_json::from_str(text);
    let read = read.map_err(|error| ImdsUnreadable::Document { path: REBALANCE, fault: format!("{error} in {text:?}") })?;
    time(REBALANCE, &read.notice_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_was_sent_two_minutes_before_the_end() {
        let sent = interruption_sent_at(r#"{"action":"terminate","time":"2026-07-20T13:46:30Z"}"#).unwrap();
        assert_eq!(sent.to_rfc3339(), "2026-07-20T13:44:30.000Z");
        assert_eq!(rebalance_sent_at(r#"{"noticeTime":"2026-07-20T13:44:30Z"}"#).unwrap(), sent);
    }

    #[test]
    fn documents_that_are_not_as_documented_are_errors() {
        for text in ["", "{}", r#"{"action":"dance","time":"2026-07-20T13:46:30Z"}"#, r#"{"action":"stop","time":"soon"}"#] {
            assert!(interruption_sent_at(text).is_err(), "{text}");
        }
        assert!(rebalance_sent_at(r#"{"time":"2026-07-20T13:46:30Z"}"#).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_metadata_answers_is_a_time_or_an_error_that_names_the_document(
            text in crate::mutation::text(&[
                r#"{"action":"terminate","time":"2026-07-20T13:46:30Z"}"#,
                r#"{"noticeTime":"2026-07-20T13:44:30Z"}"#,
            ])
        ) {
            for (read, path) in [(interruption_sent_at(&text), INSTANCE_ACTION), (rebalance_sent_at(&text), REBALANCE)] {
                if let Err(fault) = read {
                    assert!(fault.to_string().contains(path), "{fault}");
                }
            }
        }
    }
}
