//! Whether the API server would take a replacement, asked under lowtide's own rights and behind its own policies.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use lowtide::core::action::ClusterAction;
use lowtide::core::workload::Pod as Seen;
use lowtide::ports::{Cluster, ClusterError};
use serde_json::json;

use crate::fixture::{Fixture, deployment, gated, pod_spec};

/// A running pod of a Deployment of one replica, in a namespace that is there.
async fn running(fixture: &Fixture, namespace: &str, spec: serde_json::Value) -> Seen {
    fixture.node(&format!("{namespace}-node"), json!([])).await;
    fixture.make::<Deployment>(namespace, deployment("chat", 1, spec, "RollingUpdate")).await;
    let gated_pod = fixture.pod(namespace, "a gated pod", gated).await;
    fixture.place(&gated_pod, &format!("{namespace}-node")).await
}

async fn ask(fixture: &Fixture, pod: &Seen, ends_first: bool) -> Result<(), String> {
    match fixture.cluster.apply(&ClusterAction::Rehearse { pod: pod.identity.clone(), ends_first }).await {
        Ok(_) => Ok(()),
        Err(ClusterError::ReplacementRefused(said)) => Err(said),
        Err(other) => panic!("{other:?}"),
    }
}

pub async fn a_quota_that_is_full_or_was_lowered_is_seen_before_the_pod_is_touched(fixture: &Fixture) {
    fixture.namespace("quota").await;
    let pod = running(fixture, "quota", pod_spec(json!({}))).await;
    assert_eq!(ask(fixture, &pod, false).await, Ok(()), "nothing is in the way");
    let quotas: Api<ResourceQuota> = Api::namespaced(fixture.admin.clone(), "quota");
    let quota = json!({ "metadata": { "name": "gpus" }, "spec": { "hard": { "requests.nvidia.com/gpu": "1" } } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // The quota controller counts what is there first.
    let said = fixture
        .until("the quota is full", async || match ask(fixture, &pod, false).await {
            Err(said) if said.contains("exceeded quota: gpus") => Some(said),
            _ => None,
        })
        .await;
    assert!(said.contains("requests.nvidia.com/gpu=1"), "{said}");
    assert_eq!(ask(fixture, &pod, true).await, Ok(()), "it is free again when the pod has ended");
    let lower = json!({ "spec": { "hard": { "requests.nvidia.com/gpu": "0" } } });
    quotas.patch("gpus", &PatchParams::default(), &Patch::Merge(lower)).await.unwrap();
    fixture.until("the quota was lowered", async || ask(fixture, &pod, true).await.err()).await;
    let all: Api<Pod> = Api::namespaced(fixture.admin.clone(), "quota");
    assert_eq!(all.list(&Default::default()).await.unwrap().items.len(), 1, "nothing was made");
    assert!(fixture.pods("quota").iter().all(|p| p.identity == pod.identity && p.let_go.is_none() && p.deleting_until.is_none()));
}

pub async fn an_admission_policy_and_a_missing_account_are_seen_before_the_pod_is_touched(fixture: &Fixture) {
    fixture.namespace("admitted").await;
    let account = json!({ "metadata": { "name": "server" } });
    fixture.make::<ServiceAccount>("admitted", account).await;
    let pod = running(fixture, "admitted", pod_spec(json!({ "serviceAccountName": "server" }))).await;
    assert_eq!(ask(fixture, &pod, false).await, Ok(()));
    let policy = json!({ "metadata": { "name": "no-such-image" }, "spec": { "failurePolicy": "Fail",
        "matchConstraints": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "admitted" } },
            "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }] },
        "validations": [{ "expression": "false", "message": "images of example/ are not allowed any more" }] } });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(fixture.admin.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let binding =
        json!({ "metadata": { "name": "no-such-image" }, "spec": { "policyName": "no-such-image", "validationActions": ["Deny"] } });
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(fixture.admin.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    for ends_first in [false, true] {
        let said = fixture.until("the policy refuses", async || ask(fixture, &pod, ends_first).await.err()).await;
        assert!(said.contains("images of example/ are not allowed any more"), "{said}");
    }
    bindings.delete("no-such-image", &DeleteParams::default()).await.unwrap();
    fixture.until("the policy is gone", async || ask(fixture, &pod, true).await.ok()).await;
    Api::<ServiceAccount>::namespaced(fixture.admin.clone(), "admitted").delete("server", &DeleteParams::default()).await.unwrap();
    let said = fixture.until("the account is gone", async || ask(fixture, &pod, true).await.err()).await;
    assert!(said.contains("serviceaccount \"server\" not found"), "{said}");
}
