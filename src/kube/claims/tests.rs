//! What a released version wrote is read; what a later one wrote owns its machine all the same.

use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::super::api::GpuNodeClaim;
use super::super::api::node_claim::ClaimPhase;
use super::{claims_now, conditions_of, derived_again, read_guarded, status_patch};
use crate::core::action::ClaimPatch;
use crate::core::fleet::{Claim, EndedBy, Trigger};
use crate::released;

fn guarded(value: &Value) -> DeserializeGuard<GpuNodeClaim> {
    serde_json::from_value(value.clone()).unwrap()
}

fn ready() -> Value {
    released::objects("0.1.0", "claim-ready").remove(0).1
}

#[test]
fn every_claim_that_0_1_0_wrote_is_read() {
    let objects = released::objects("0.1.0", "claim-");
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

#[test]
fn a_warning_that_is_over_is_taken_off_and_a_notice_stays() {
    let over = ClaimPatch { warning_over: true, ..ClaimPatch::default() };
    let patched = |kind: &str| {
        let mut object = ready();
        object["status"]["interruption"] = json!({ "kind": kind, "noticedAt": "2026-11-20T11:00:00Z", "source": "sqs" });
        let status = serde_json::from_value::<GpuNodeClaim>(object).unwrap().status.unwrap();
        status_patch(&status, &over)["status"].get("interruption").cloned()
    };
    assert_eq!(patched("rebalance"), Some(Value::Null), "a merge patch keeps what it does not name");
    assert_eq!(patched("interruption"), None);
}

#[test]
fn bindings_are_kept_to_the_letter_and_a_text_that_cannot_be_read_hides_no_claim() {
    let mut object = ready();
    let replaces = r#"{"namespace":"ml","name":"old","uid":"u-0","from_claim":"lt-0","decision":"1fe02eb0-2c73-52de-a931-00bcc49225a7","noticed_at":1,"decided_at":2,"deadline":3}"#;
    let bindings = json!([
        { "podUid": "u-1", "decisionId": "1fe02eb0-2c73-52de-a931-00bcc49225a7", "attempt": 3, "baseline": r#"{"b1_per_replica_hour":"0.8048","b2_per_replica_hour":null}"#, "replaces": replaces },
        { "podUid": "u-2", "attempt": 1, "baseline": "of another version", "replaces": "neither" },
    ]);
    (object["spec"]["bindings"], object["status"]["bindings"]) = (bindings.clone(), json!({ "u-1": bindings[0], "u-2": bindings[1] }));
    let claim = read_guarded(&guarded(&object)).unwrap();
    let bindings = claim.spec.bindings.clone().unwrap();
    assert_eq!(claim.status.bindings.values().cloned().collect::<Vec<_>>(), bindings);
    let spec = serde_json::from_value(json!(super::write_spec(&claim.spec))).unwrap();
    assert_eq!(super::read_spec(&spec, claim.spec.decision), claim.spec, "written and read again");
    assert_eq!((bindings[0].attempt, bindings[0].replaces.as_ref().unwrap().deadline.map(|at| at.0)), (3, Some(3)));
    assert_eq!(bindings[0].baseline.b1_per_replica_hour.map(|price| price.0), Some(804_800));
    assert_eq!((bindings[1].attempt, &bindings[1].replaces, bindings[1].baseline), (1, &None, Default::default()));
    let changes = [("u-1", Some(bindings[0].clone())), ("u-3", None)].map(|(pod, kept)| (pod.into(), kept));
    let patch = crate::core::action::ClaimPatch { bindings: changes.into(), ..Default::default() };
    let written = super::status_patch(&Default::default(), &patch)["status"]["bindings"].clone();
    assert_eq!(
        (written.as_object().unwrap().len(), &written["u-3"]),
        (2, &json!(null)),
        "one is taken away, and no other touched: {written}"
    );
    object["status"]["bindings"] = json!({ "u-1": written["u-1"] });
    let again = read_guarded(&guarded(&object)).unwrap().status.bindings;
    assert_eq!(again.values().collect::<Vec<_>>(), [&bindings[0]], "written and read again");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

    #[test]
    fn whatever_a_claim_holds_it_is_read_or_owns_its_machine_under_its_name(
        object in crate::mutation::json(released::objects("0.1.0", "claim-").into_iter().map(|(_, object)| object).collect())
    ) {
        // The API server gives no object without a name and a uid that are texts.
        let named = |field: &str| object["metadata"][field].as_str().is_some();
        if let (true, true, Ok(guarded)) = (named("name"), named("uid"), serde_json::from_value::<DeserializeGuard<GpuNodeClaim>>(object.clone())) {
            match read_guarded(&guarded) {
                Ok(claim) => assert_eq!(claim.name.as_str(), object["metadata"]["name"]),
                Err(Some(unread)) => assert!(unread.uid.as_str() == object["metadata"]["uid"] && !unread.fault.is_empty()),
                Err(None) => panic!("a claim without an owner: {object}"),
            }
            assert_eq!(claims_now(std::slice::from_ref(&guarded)).claims.len(), 1, "it stands for its machine either way");
        }
    }
}
