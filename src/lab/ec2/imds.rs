//! The instance metadata service, version 2, of every instance, under `/_imds/<instance id>/latest/…`.
//!
//! Source: EC2 user guide, "Use IMDSv2": a session token first, by PUT, refused through proxies; then GETs that carry it.

use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::core::units::ids::InstanceId;
use crate::core::units::time::{Millis, Timestamp};

use super::account::instance::{Instance, InstanceState};
use super::account::{ACCOUNT, Account};
use super::server::Simulator;

const LONGEST_SESSION: i64 = 21_600;

pub(super) fn answer(simulator: &Simulator, method: &Method, path: &str, headers: &HeaderMap) -> Response {
    let (id, path) = path.split_once('/').unwrap_or((path, ""));
    let id = InstanceId::from(id);
    let (mut account, now) = simulator.account();
    let reachable = account.instances.get(&id).is_some_and(|instance| instance.state == InstanceState::Running);
    if !reachable {
        return (StatusCode::BAD_GATEWAY, "no running instance of that id: its metadata service cannot be reached").into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (method, path) {
        (&Method::PUT, "latest/api/token") => {
            if header("x-forwarded-for").is_some() {
                return StatusCode::FORBIDDEN.into_response();
            }
            let ttl = header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<i64>().ok());
            match ttl.filter(|seconds| (1..=LONGEST_SESSION).contains(seconds)) {
                None => StatusCode::BAD_REQUEST.into_response(),
                // The SDK's client takes a token only when the answer says how long it lives.
                Some(seconds) => {
                    let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", seconds.to_string())];
                    (ttl, account.open_metadata_session(&id, Millis::from_secs(seconds), now)).into_response()
                }
            }
        }
        (&Method::GET, _) => {
            let token = header("x-aws-ec2-metadata-token").unwrap_or_default();
            if !account.knows_metadata_session(&id, token, now) {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            match account.instances.get(&id).and_then(|instance| value(&account, instance, path)) {
                Some(text) => text.into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

impl Account {
    /// The running machine with this private address.
    pub(super) fn running_at(&self, address: &str) -> Option<InstanceId> {
        let here = |instance: &&Instance| instance.state == InstanceState::Running && instance.private_ip == address;
        self.instances.values().find(here).map(|instance| instance.id.clone())
    }

    fn open_metadata_session(&mut self, id: &InstanceId, length: Millis, now: Timestamp) -> String {
        let token = self.new_id("AQAEA");
        self.imds_tokens.retain(|_, until| *until > now);
        self.imds_tokens.insert((id.clone(), token.clone()), now + length);
        token
    }

    fn knows_metadata_session(&self, id: &InstanceId, token: &str, now: Timestamp) -> bool {
        self.imds_tokens.get(&(id.clone(), token.to_owned())).is_some_and(|until| *until > now)
    }
}

/// Whole seconds, as the metadata service writes times.
fn whole_seconds(at: Timestamp) -> String {
    format!("{}Z", at.to_rfc3339().split('.').next().unwrap_or_default())
}

fn value(account: &Account, instance: &Instance, path: &str) -> Option<String> {
    let zone = account.places.zone(&instance.zone);
    let data = match path.strip_prefix("latest/")? {
        "user-data" => {
            return instance.details.user_data.as_deref().map(|text| String::from_utf8_lossy(&base64_decoded(text)).into_owned());
        }
        "dynamic/instance-identity/document" => return Some(identity_document(account, instance)),
        other => other.strip_prefix("meta-data/")?,
    };
    match data.trim_end_matches('/') {
        "instance-id" => Some(instance.id.to_string()),
        "instance-type" => Some(instance.instance_type.to_string()),
        "instance-life-cycle" => Some(instance.capacity_type.as_str().to_owned()),
        "ami-id" => Some(instance.details.image_id.clone()),
        "local-ipv4" => Some(instance.private_ip.clone()),
        "placement/region" => Some(instance.region.to_string()),
        "placement/availability-zone" => zone.map(|zone| zone.name.clone()),
        "placement/availability-zone-id" => Some(instance.zone.to_string()),
        "spot/instance-action" => {
            let ends_at = instance.noticed_at.and(instance.ends_at)?;
            Some(json!({"action": "terminate", "time": whole_seconds(ends_at)}).to_string())
        }
        "spot/termination-time" => instance.noticed_at.and(instance.ends_at).map(whole_seconds),
        "events/recommendations/rebalance" => instance.rebalance_at.map(|at| json!({"noticeTime": whole_seconds(at)}).to_string()),
        _ => None,
    }
}

fn identity_document(account: &Account, instance: &Instance) -> String {
    json!({
        "accountId": ACCOUNT, "instanceId": instance.id.as_str(), "instanceType": instance.instance_type.as_str(),
        "region": instance.region.as_str(), "imageId": instance.details.image_id, "privateIp": instance.private_ip,
        "availabilityZone": account.places.zone(&instance.zone).map(|zone| zone.name.clone()), "version": "2017-09-30",
        "architecture": account.facts.types.get(&instance.instance_type).map(|facts| facts.architecture.clone()),
        "pendingTime": whole_seconds(instance.launched_at),
    })
    .to_string()
}

/// Standard base64, as EC2 wants user data; characters outside the alphabet end it.
pub(super) fn base64_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for value in text.bytes().filter(|byte| !byte.is_ascii_whitespace()).map_while(digit) {
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64_decoded;

    #[test]
    fn base64_reads_every_padding() {
        for (text, plain) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("I2Nsb3Vk\nLWNvbmZpZwo=", "#cloud-config\n")] {
            assert_eq!(base64_decoded(text), plain.as_bytes());
        }
    }
}
