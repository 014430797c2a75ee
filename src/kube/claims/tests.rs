//! What a released version wrote is read; what a later one wrote owns its machine all the same.

use std::path::Path;

use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::super::api::GpuNodeClaim;
use super::super::api::node_claim::ClaimPhase;
use super::{claims_now, conditions_of, derived_again, read_guarded};
use crate::core::fleet::{Claim, EndedBy, Trigger};

/// The objects of a released version, by file name.
fn released(version: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(version);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut objects: Vec<(String, Value)> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
        })
        .collect();
    objects.sort_by(|a, b| a.0.cmp(&b.0));
    objects
}

fn guarded(value: &Value) -> DeserializeGuard<GpuNodeClaim> {
    serde_json::from_value(value.clone()).unwrap()
}

fn ready() -> Value {
    released("0.1.0").into_iter().find(|(name, _)| name == "claim-ready").unwrap().1
}

#[test]
fn every_claim_that_0_1_0_wrote_is_read() {
    let objects = released("0.1.0");
    assert_eq!(objects.len(), 6, "one of each phase");
    let read: Vec<Claim> =
        objects.iter().map(|(name, object)| read_guarded(&guarded(object)).unwrap_or_else(|e| panic!("{name}: {e:?}"))).collect();
    assert!(read.iter().all(|claim| claim.spec.capacity.instance_type.as_str() == "g6.xlarge" && claim.spec.adopted.is_none()));
    let draining = read.iter().find(|claim| claim.name.as_str() == "lt-draining").unwrap();
    assert_eq!(draining.status.moving.as_ref().map(|mark| mark.trigger), Some(Trigger::InterruptionNotice));
    assert!(draining.interrupted() && draining.status.occupants.len() == 1);
}

#[test]
fn words_of_a_later_version_do_not_hide_a_claim() {
    let mut object = ready();
    object["spec"]["reason"] = json!("tomorrow");
    object["status"]["phase"] = json!("Hibernating");
    object["status"]["move"] =
        json!({ "reason": "tomorrow", "decisionId": "1fe02eb0-2c73-52de-a931-00bcc49225a8", "decidedAt": "2026-11-20T11:00:00Z" });
    object["status"]["ended"] = json!({ "at": "2026-11-20T11:00:00Z", "by": "the-sun" });
    object["status"]["somethingNew"] = json!({ "a": 1 });
    let claim = read_guarded(&guarded(&object)).unwrap();
    assert_eq!((claim.spec.trigger, claim.status.moving.unwrap().trigger), (Trigger::Unknown, Trigger::Unknown));
    assert_eq!(claim.status.ended.unwrap().by, EndedBy::Unknown);
}

#[test]
fn a_claim_that_cannot_be_read_is_given_by_name_uid_and_instance() {
    let mut unparsed = ready();
    unparsed["spec"]["capacityType"] = json!("on-the-moon");
    let mut bad_id = ready();
    bad_id["status"]["termination"] = json!({ "decisionId": "no uuid", "askedAt": "2026-11-20T11:00:00Z", "reason": "empty" });
    for (object, instance) in [(&unparsed, None), (&bad_id, Some("i-0123456789abcdef0"))] {
        let unreadable = read_guarded(&guarded(object)).unwrap_err().unwrap();
        assert_eq!((unreadable.name.as_str(), unreadable.uid.as_str()), ("lt-ready", "00000000-0000-4000-8000-000000000003"));
        assert_eq!(unreadable.instance.as_ref().map(|id| id.as_str()), instance);
    }
    let said = read_guarded(&guarded(&unparsed)).unwrap_err().unwrap().fault;
    assert!(said.contains("on-the-moon") && said.contains("its machine is kept"), "{said}");
    let now = claims_now(&[guarded(&unparsed)]);
    assert!(now.keeps(&"i-other".into(), None).unwrap().contains("lt-ready"), "nothing is swept while it is there");
}

#[test]
fn a_phase_that_was_derived_from_an_old_status_is_derived_again() {
    let mut stored = serde_json::from_value::<GpuNodeClaim>(ready()).unwrap().status.unwrap();
    stored.conditions = conditions_of(&stored);
    assert_eq!(derived_again(&stored), None, "what is true is not written again");
    // The watch had not delivered that the machine was launched when somebody recorded that it is empty.
    stored.phase = ClaimPhase::Pending;
    stored.conditions.clear();
    let patch = derived_again(&stored).expect("the phase is wrong");
    assert_eq!(patch["status"]["phase"], "Ready");
    assert_eq!(patch["status"]["conditions"].as_array().map(Vec::len), Some(2), "{patch}");
}
