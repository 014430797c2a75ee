//! The manifests of the measurement: services of ten replicas, a pool that sells machines of one GPU, node classes that share it.

use serde_json::{Value, json};

/// The namespace of the services.
pub const NAMESPACE: &str = "scale";

/// Memory of the smallest GPU the pool sells, in MiB, less what a driver and the contexts take.
const GPU_MEMORY_MIB: u32 = 14_000;

/// Machines of one GPU: what a pod's share of it is does not depend on which is bought.
const ONE_GPU: [&str; 10] = [
    "g4dn.xlarge",
    "g4dn.2xlarge",
    "g4dn.4xlarge",
    "g5.xlarge",
    "g5.2xlarge",
    "g5.4xlarge",
    "g6.xlarge",
    "g6.2xlarge",
    "g6.4xlarge",
    "g6e.xlarge",
];

/// What makes a node class share its GPUs between this many pods.
pub fn sharing_patch(sharing: u32) -> Option<String> {
    let shared = json!({"spec": {"gpuSharing": {"mode": "mps", "replicas": sharing, "contextReserveMib": 0}}});
    (sharing > 1).then(|| shared.to_string())
}

/// The pool, and the namespace that may use it.
pub fn pool(classes: &[String]) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"lowtide.dev/may-buy": "true"}}}),
        json!({"apiVersion": "lowtide.dev/v1", "kind": "GpuNodePool", "metadata": {"name": "gpus"}, "spec": {
            "namespaceSelector": {"matchLabels": {"lowtide.dev/may-buy": "true"}},
            "nodeClasses": classes,
            "instanceTypes": ONE_GPU,
            "capacityTypes": ["spot", "on-demand"],
            "homeRegion": "us-east-1",
            "emptyGraceSeconds": 60,
            "joinTimeoutSeconds": 900,
            "unhealthyAfterSeconds": 300,
        }}),
    ]
}

/// A service of ten replicas; five sizes of need, all of which share a GPU as often.
pub fn service(wave: &str, number: u32, sharing: u32) -> Vec<Value> {
    let name = format!("{wave}-{number:04}");
    let memory = GPU_MEMORY_MIB / sharing * (5 - number % 3) / 5;
    let resources = json!({"requests": {"cpu": "100m", "memory": format!("{}Mi", 256 + number % 5 * 64)}, "limits": {"nvidia.com/gpu": 1}});
    let labels = json!({"app": name, "team": format!("team-{}", number % 12), "service": name, "environment": "production"});
    let annotations = json!({
        "lowtide.dev/workload": "inference",
        "lowtide.dev/gpu-memory": format!("{memory}Mi"),
        "lab.lowtide.dev/start-seconds": "2",
    });
    let kind = |kind: &str, version: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
    let deployment = json!({
        "replicas": 10, "selector": {"matchLabels": {"app": name}},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "server", "image": "server:1", "resources": resources}],
        }},
    });
    let service = json!({"selector": {"app": name}, "ports": [{"port": 80}]});
    vec![kind("Service", "v1", service), kind("Deployment", "apps/v1", deployment)]
}

/// One text for `kubectl apply`.
pub fn list(items: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_share_a_gpu_as_often_whatever_their_size() {
        for sharing in [1, 4, 5, 10] {
            for number in 0..6 {
                let [_, deployment] = &service("a", number, sharing)[..] else { panic!("a service and a deployment") };
                let memory =
                    deployment.pointer("/spec/template/metadata/annotations/lowtide.dev~1gpu-memory").and_then(Value::as_str).unwrap();
                let mib: u32 = memory.strip_suffix("Mi").unwrap().parse().unwrap();
                assert!(mib * sharing <= GPU_MEMORY_MIB && mib > 500, "{memory} of {sharing}");
            }
        }
    }
}
