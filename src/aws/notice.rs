//! Reading EventBridge's envelopes: which events are notices, and which texts are not. AWS Health's events are read in `health`.
//!
//! Deliberately strict: a message we only half understand must be reported, not guessed at.

use aws_sdk_ec2::types::InstanceStateName;
use serde::Deserialize;

use crate::core::fleet::{Notice, NoticeKind};
use crate::core::units::ids::Region;
use crate::core::units::time::Timestamp;
use crate::ports::MalformedMessage;

use super::conversion::parse_rfc3339;
use super::health;
use super::instances::instance_state;

/// EventBridge's envelope; additional fields are allowed, as AWS adds some occasionally.
#[derive(Deserialize)]
pub(super) struct Envelope<D> {
    version: String,
    #[serde(rename = "detail-type")]
    pub(super) detail_type: String,
    time: String,
    region: String,
    pub(super) detail: D,
}

impl<D> Envelope<D> {
    /// That it is an event of `region`, in the version that is known here.
    pub(super) fn is_of(&self, region: &Region) -> Result<(), String> {
        expect("version", "0", &self.version)?;
        expect("region", region.as_str(), &self.region)
    }

    pub(super) fn sent_at(&self) -> Result<Timestamp, String> {
        parse_rfc3339(&self.time).ok_or_else(|| format!("expected an RFC 3339 time, found {:?}", self.time))
    }
}

/// Who sent an event: what its detail looks like depends on it.
#[derive(Deserialize)]
struct Sender {
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    instance_id: String,
    instance_action: Option<String>,
    state: Option<String>,
}

/// The notice in a message from the queue of `region`.
///
/// # Errors
/// [`MalformedMessage`] with the text and the fault if it is not one of the events we know, or comes from another region.
pub fn parse(text: &str, region: &Region) -> Result<Notice, MalformedMessage> {
    let sender = serde_json::from_str::<Sender>(text).map_err(|error| format!("not an EventBridge event: {error}"));
    let notice = sender.and_then(|sender| match sender.source.as_str() {
        "aws.health" => health::read(text, region),
        source => expect("source", "aws.ec2", source).and_then(|()| read(text, region)),
    });
    notice.map_err(|fault| MalformedMessage { fault, text: text.to_owned() })
}

/// That a field of an event is what it must be.
pub(super) fn expect(what: &str, wanted: &str, found: &str) -> Result<(), String> {
    match wanted == found {
        true => Ok(()),
        false => Err(format!("expected {what} {wanted:?}, found {found:?}")),
    }
}

fn read(text: &str, region: &Region) -> Result<Notice, String> {
    let event: Envelope<Detail> =
        serde_json::from_str(text).map_err(|error| format!("not an EventBridge event about an instance: {error}"))?;
    event.is_of(region)?;
    if !event.detail.instance_id.starts_with("i-") {
        return Err(format!("expected an instance id, found {:?}", event.detail.instance_id));
    }
    let sent_at = event.sent_at()?;
    let kind = kind(&event)?;
    Ok(Notice { instance: event.detail.instance_id.into(), also: Vec::new(), region: region.clone(), kind, sent_at })
}

fn kind(event: &Envelope<Detail>) -> Result<NoticeKind, String> {
    match event.detail_type.as_str() {
        "EC2 Spot Instance Interruption Warning" => match event.detail.instance_action.as_deref() {
            Some("terminate" | "stop" | "hibernate") => Ok(NoticeKind::Interruption),
            other => Err(format!("expected instance-action terminate, stop or hibernate, found {other:?}")),
        },
        "EC2 Instance Rebalance Recommendation" => Ok(NoticeKind::Rebalance),
        "EC2 Instance State-change Notification" => {
            let state = event.detail.state.as_deref().map(InstanceStateName::from);
            let known = state.as_ref().and_then(instance_state);
            known.map(NoticeKind::StateChange).ok_or_else(|| format!("expected a state of an instance, found {:?}", event.detail.state))
        }
        other => Err(format!("expected a spot interruption, rebalance or state-change event, found {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::InstanceState;
    use serde_json::{Value, json};

    fn event(detail_type: &str, detail: Value) -> Value {
        json!({
            "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": detail_type, "source": "aws.ec2",
            "account": "123456789012", "time": "2026-07-20T13:44:30Z", "region": "us-east-1",
            "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"], "detail": detail
        })
    }
    fn warning() -> Value {
        event("EC2 Spot Instance Interruption Warning", json!({"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"}))
    }
    fn read(event: &Value) -> Result<Notice, MalformedMessage> {
        parse(&event.to_string(), &"us-east-1".into())
    }

    #[test]
    fn each_event_we_subscribe_to_becomes_its_notice() {
        let id = json!({"instance-id": "i-0123456789abcdef0"});
        let state = json!({"instance-id": "i-0123456789abcdef0", "state": "shutting-down"});
        for (event, kind) in [
            (warning(), NoticeKind::Interruption),
            (event("EC2 Instance Rebalance Recommendation", id), NoticeKind::Rebalance),
            (event("EC2 Instance State-change Notification", state), NoticeKind::StateChange(InstanceState::ShuttingDown)),
        ] {
            let notice = read(&event).unwrap();
            assert_eq!((notice.kind, notice.instance.as_str()), (kind, "i-0123456789abcdef0"));
            assert_eq!(notice.sent_at.to_rfc3339(), "2026-07-20T13:44:30.000Z");
        }
    }

    #[test]
    fn anything_else_is_kept_with_its_fault() {
        for (pointer, value, fault) in [
            ("/version", json!("1"), "version"),
            ("/source", json!("aws.s3"), "source"),
            ("/source", json!("aws.health"), "Health"),
            ("/region", json!("eu-west-1"), "region"),
            ("/time", json!("yesterday"), "time"),
            ("/detail-type", json!("EC2 Fleet Error"), "EC2 Fleet Error"),
            ("/detail/instance-id", json!("vol-1"), "instance id"),
            ("/detail/instance-action", json!("explode"), "explode"),
            ("/detail", json!({}), "instance-id"),
        ] {
            let mut other = warning();
            *other.pointer_mut(pointer).unwrap() = value;
            let malformed = read(&other).unwrap_err();
            assert!(malformed.fault.contains(fault), "{pointer}: {malformed}");
            assert_eq!(malformed.text, other.to_string());
        }
        assert!(parse("not json", &"us-east-1".into()).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_comes_by_the_queue_is_a_notice_of_this_region_or_kept_with_its_fault(
            message in crate::mutation::text(&[
                &warning().to_string(),
                &event("EC2 Instance Rebalance Recommendation", json!({"instance-id": "i-0123456789abcdef0"})).to_string(),
                &event("EC2 Instance State-change Notification", json!({"instance-id": "i-0", "state": "stopping"})).to_string(),
            ])
        ) {
            match parse(&message, &"us-east-1".into()) {
                Ok(notice) => assert!(notice.instance.as_str().starts_with("i-") && notice.region.as_str() == "us-east-1"),
                Err(malformed) => assert!(malformed.text == message && !malformed.fault.is_empty()),
            }
        }
    }
}
