//! The workloads of a manifest file: which kinds run pods, where their pod templates are, and how many of each run at once.
//!
//! Decides: which pods a workload of each kind creates, as its controller would; what the API server would fill in (LimitRange,
//! PriorityClass, RuntimeClass).
//! Does not: read what a pod asks for (see `core::workload::pod_reader`).

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::files::{FileError, documents, malformed, without_nulls};
use crate::core::workload::need::PodManifest;
use crate::core::workload::volumes::{self, VolumeObject, Volumes};

/// More pods than a Kubernetes cluster holds (150,000, according to its documentation), and few enough to plan in seconds.
const MOST_PODS: i64 = 1_000_000;

/// Kinds whose pods run to an end, unless the owner says otherwise.
const BATCH: [&str; 10] = ["Job", "CronJob", "JobSet", "RayJob", "PyTorchJob", "TFJob", "MPIJob", "JAXJob", "XGBoostJob", "PaddleJob"];

/// Pods of one template that a workload of a file runs at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestWorkload {
    /// E.g. `Deployment`.
    pub kind: String,
    /// Its namespace; `default` if none is given.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of its templates, if it has several, e.g. `workers`.
    pub part: String,
    /// Pods that run at once.
    pub replicas: i64,
    /// The strategy of a Deployment.
    pub strategy: String,
    /// The pod, or the template.
    pub pod: PodManifest,
}

impl ManifestWorkload {
    /// What kind of work it is, if no annotation says so.
    pub fn default_work(&self) -> &'static str {
        if BATCH.contains(&self.kind.as_str()) { "batch" } else { "inference" }
    }
}

/// The content of a manifest file.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Its workloads.
    pub workloads: Vec<ManifestWorkload>,
    /// Objects in it that run no pods for us to place.
    pub skipped: Vec<String>,
    /// PersistentVolumeClaims in it, with the volumes and classes in it.
    pub volumes: Volumes,
}

/// A template of a workload: its part, how many run at once, and the template.
type Template = (String, i64, Value);

/// Reads a file.
///
/// # Errors
/// When it cannot be read, contains nothing to place, or asks for the impossible.
pub fn read(path: &Path) -> Result<Manifests, FileError> {
    let documents = documents(path)?;
    let mut manifests = Manifests { volumes: volumes_of(path, &documents)?, ..Manifests::default() };
    let filled = Filled::of(&documents);
    let mut seen: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for (index, document) in documents.iter().enumerate() {
        let text = |pointer: &str| document.pointer(pointer).and_then(|v| v.as_str()).map(str::to_owned);
        let bad = |fault: String| malformed(path, format!("document {}: {fault}", index + 1));
        let kind = text("/kind").ok_or_else(|| bad("has no kind; expected a Kubernetes object".to_owned()))?;
        let name = text("/metadata/name").unwrap_or_default();
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        let Some(templates) = templates(&kind, document).map_err(bad)? else {
            if !READ_BESIDE.contains(&kind.as_str()) {
                manifests.skipped.push(format!("{kind} {namespace}/{name}"));
            }
            continue;
        };
        if templates.is_empty() {
            return Err(bad(format!("{kind} {namespace}/{name} has no pod template where a {kind} has one")));
        }
        let (parts, several) = (templates.len(), templates.len() > 1);
        for (part, replicas, template) in templates {
            let pod: PodManifest =
                serde_json::from_value(without_nulls(template)).map_err(|e| bad(format!("{kind} {namespace}/{name}: {e}")))?;
            let pod = filled.fill(pod, &namespace);
            // The head of a cluster of workers may run without a GPU: we do not place that one.
            if several && !asks_for_gpus(&pod) {
                continue;
            }
            let part = if parts > 1 { part } else { String::new() };
            let strategy = text("/spec/strategy/type").unwrap_or_else(|| "RollingUpdate".to_owned());
            let (kind, namespace, name) = (kind.clone(), namespace.clone(), name.clone());
            manifests.workloads.push(ManifestWorkload { kind, namespace, name, part, replicas, strategy, pod });
        }
        if let Some(first) = seen.insert((kind.clone(), namespace.clone(), name.clone()), index + 1) {
            return Err(bad(format!("{kind} {namespace}/{name} occurs twice; document {first} has it too")));
        }
    }
    if manifests.workloads.is_empty() {
        let kinds = "Pod, Deployment, StatefulSet, ReplicaSet, Job, CronJob, JobSet, LeaderWorkerSet, RayCluster, Rollout, \
                     InferenceService or PyTorchJob";
        return Err(malformed(path, format!("contains no {kinds}; there is nothing to place")));
    }
    let pods = manifests.workloads.iter().fold(0_i64, |sum, workload| sum.saturating_add(workload.replicas));
    if pods > MOST_PODS {
        return Err(malformed(path, format!("asks for {pods} pods at once; expected at most {MOST_PODS}")));
    }
    Ok(manifests)
}

/// Kinds that run no pods and are read for what they say about those that do.
const READ_BESIDE: [&str; 6] = ["PersistentVolumeClaim", "PersistentVolume", "StorageClass", "LimitRange", "PriorityClass", "RuntimeClass"];

fn asks_for_gpus(pod: &PodManifest) -> bool {
    pod.spec.containers.iter().any(|c| c.resources.limits.contains_key("nvidia.com/gpu"))
}

fn count(object: &Value, field: &str) -> Result<i64, String> {
    match object.pointer(field) {
        None | Some(Value::Null) => Ok(1),
        Some(v) => v.as_i64().filter(|n| *n >= 0).ok_or_else(|| format!("{field} is {v}; expected a number of at least 0")),
    }
}

/// The templates of an object; `None` if lowtide knows no pods that its kind runs.
fn templates(kind: &str, object: &Value) -> Result<Option<Vec<Template>>, String> {
    let at = |pointer: &str| object.pointer(pointer).cloned();
    let one = |replicas: i64, template: Option<Value>| template.map(|t| vec![(String::new(), replicas, t)]).unwrap_or_default();
    Ok(Some(match kind {
        "Pod" => one(1, Some(object.clone())),
        "Deployment" | "StatefulSet" | "ReplicaSet" | "Rollout" => one(count(object, "/spec/replicas")?, at("/spec/template")),
        // Volcano's: its tasks run together.
        "Job" if object.pointer("/spec/tasks").is_some() => {
            let mut templates = Vec::new();
            for task in array(object, "/spec/tasks") {
                let running = count(task, "/replicas")?;
                templates.extend(task.pointer("/template").map(|t| (name_of(task), running, t.clone())));
            }
            templates
        }
        // Knative's, which starts with one pod unless the template says more; Kubernetes' own Service runs none.
        "Service" if object.pointer("/spec/template").is_some() => {
            let least = object.pointer("/spec/template/metadata/annotations/autoscaling.knative.dev~1min-scale");
            let least = least.and_then(Value::as_str).and_then(|text| text.parse().ok()).filter(|least| *least >= 0).unwrap_or(1);
            one(least, at("/spec/template"))
        }
        "Notebook" => one(1, at("/spec/template")),
        "Job" => one(at_once(object)?, at("/spec/template")),
        "CronJob" => {
            let job = at("/spec/jobTemplate").unwrap_or_default();
            one(at_once(&job)?, job.pointer("/spec/template").cloned())
        }
        "JobSet" => {
            let mut templates = Vec::new();
            for job in array(object, "/spec/replicatedJobs") {
                let spec = job.pointer("/template").cloned().unwrap_or_default();
                let replicas = count(job, "/replicas")?.saturating_mul(at_once(&spec)?);
                templates.extend(spec.pointer("/spec/template").map(|t| (name_of(job), replicas, t.clone())));
            }
            templates
        }
        "LeaderWorkerSet" => leader_and_workers(object)?,
        "RayCluster" => ray(object.pointer("/spec"))?,
        "RayJob" => ray(object.pointer("/spec/rayClusterSpec"))?,
        "RayService" => ray(object.pointer("/spec/rayClusterConfig"))?,
        "InferenceService" => inference_service(object)?,
        "PyTorchJob" | "TFJob" | "MPIJob" | "JAXJob" | "XGBoostJob" | "PaddleJob" => {
            let specs = object.pointer("/spec").and_then(Value::as_object).into_iter().flatten();
            let mut templates = Vec::new();
            for (role, replicas) in specs.filter(|(key, _)| key.ends_with("ReplicaSpecs")).filter_map(|(_, v)| v.as_object()).flatten() {
                let running = count(replicas, "/replicas")?;
                templates.extend(replicas.pointer("/template").map(|t| (role.clone(), running, t.clone())));
            }
            templates
        }
        _ => return Ok(None),
    }))
}

/// Pods of a Job that run at once.
fn at_once(job: &Value) -> Result<i64, String> {
    let parallel = count(job, "/spec/parallelism")?;
    let whole = job.pointer("/spec/completions").is_none_or(Value::is_null);
    Ok(if whole { parallel } else { parallel.min(count(job, "/spec/completions")?) })
}

fn array<'v>(object: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn name_of(object: &Value) -> String {
    let name = object.get("name").or_else(|| object.get("groupName")).and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// One group has `size` pods: a leader and its workers; without a template of its own the leader is created like a worker.
fn leader_and_workers(object: &Value) -> Result<Vec<Template>, String> {
    let (groups, size) = (count(object, "/spec/replicas")?, count(object, "/spec/leaderWorkerTemplate/size")?);
    let template = |which: &str| object.pointer(&format!("/spec/leaderWorkerTemplate/{which}")).filter(|t| !t.is_null()).cloned();
    let Some(worker) = template("workerTemplate") else { return Ok(Vec::new()) };
    Ok(match template("leaderTemplate") {
        Some(leader) => {
            vec![("leader".into(), groups, leader), ("worker".into(), groups.saturating_mul((size - 1).max(0)), worker)]
        }
        None => vec![("worker".into(), groups.saturating_mul(size), worker)],
    })
}

fn ray(cluster: Option<&Value>) -> Result<Vec<Template>, String> {
    let Some(cluster) = cluster else { return Ok(Vec::new()) };
    let head = cluster.pointer("/headGroupSpec/template").map(|t| ("head".to_owned(), 1, t.clone()));
    let mut templates: Vec<Template> = head.into_iter().collect();
    for group in array(cluster, "/workerGroupSpecs") {
        let replicas = count(group, "/replicas")?.saturating_mul(count(group, "/numOfHosts")?);
        templates.extend(group.pointer("/template").map(|t| (name_of(group), replicas, t.clone())));
    }
    Ok(templates)
}

/// KServe: the predictor is a pod spec, with the model as one more container; annotations of the service are its pods'.
fn inference_service(object: &Value) -> Result<Vec<Template>, String> {
    let Some(predictor) = object.pointer("/spec/predictor").and_then(Value::as_object) else { return Ok(Vec::new()) };
    let mut spec: Map<String, Value> = predictor.clone();
    let mut containers: Vec<Value> = array(object, "/spec/predictor/containers").cloned().collect();
    containers.extend(spec.remove("model"));
    spec.insert("containers".to_owned(), Value::Array(containers));
    let merged = |field: &str| {
        let of = |pointer: String| object.pointer(&pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut all = of(format!("/metadata/{field}"));
        all.extend(of(format!("/spec/predictor/{field}")));
        all
    };
    let template = json!({ "metadata": { "labels": merged("labels"), "annotations": merged("annotations") }, "spec": spec });
    Ok(vec![("predictor".to_owned(), count(object, "/spec/predictor/minReplicas")?, template)])
}

fn volumes_of(path: &Path, documents: &[Value]) -> Result<Volumes, FileError> {
    let of_kind = |kind: &str| -> Result<Vec<VolumeObject>, FileError> {
        let found = documents.iter().filter(|d| d.get("kind").and_then(Value::as_str) == Some(kind));
        found.map(|d| serde_json::from_value(without_nulls(d.clone())).map_err(|e| malformed(path, format!("{kind}: {e}")))).collect()
    };
    Ok(volumes::facts(&of_kind("PersistentVolumeClaim")?, &of_kind("PersistentVolume")?, &of_kind("StorageClass")?))
}

/// Default limits and requests of a container.
type Defaults = (Map<String, Value>, Map<String, Value>);

/// What the API server fills in when a pod is created.
#[derive(Default)]
struct Filled {
    /// By namespace: default limits and requests of containers.
    limits: BTreeMap<String, Defaults>,
    /// By name: the value of a PriorityClass.
    priorities: BTreeMap<String, i64>,
    /// The priority of pods that name no class.
    default_priority: Option<i64>,
    /// By name: what pods of a RuntimeClass take beside their containers, and which nodes they select.
    runtimes: BTreeMap<String, Defaults>,
}

impl Filled {
    fn of(documents: &[Value]) -> Filled {
        let mut filled = Filled::default();
        for document in documents {
            let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("/kind").as_str() {
                "PriorityClass" => {
                    let value = document.get("value").and_then(Value::as_i64).unwrap_or(0);
                    filled.priorities.insert(text("/metadata/name"), value);
                    if document.get("globalDefault").and_then(Value::as_bool) == Some(true) {
                        filled.default_priority = Some(value);
                    }
                }
                "RuntimeClass" => {
                    let map = |pointer: &str| document.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
                    filled.runtimes.insert(text("/metadata/name"), (map("/overhead/podFixed"), map("/scheduling/nodeSelector")));
                }
                "LimitRange" => {
                    let namespace = Some(text("/metadata/namespace")).filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
                    for limit in array(document, "/spec/limits").filter(|l| l.get("type").and_then(Value::as_str) == Some("Container")) {
                        let map = |field: &str| limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
                        let (limits, requests) = filled.limits.entry(namespace.clone()).or_default();
                        limits.extend(map("default"));
                        requests.extend(map("defaultRequest"));
                    }
                }
                _ => {}
            }
        }
        filled
    }

    fn fill(&self, mut pod: PodManifest, namespace: &str) -> PodManifest {
        pod.metadata.namespace = Some(namespace.to_owned());
        let of_class = || match &pod.spec.priority_class_name {
            Some(class) => self.priorities.get(class).copied(),
            None => self.default_priority,
        };
        pod.spec.priority = pod.spec.priority.or_else(of_class);
        let amount = |value: &Value| serde_json::from_value(value.clone()).ok();
        if let Some((overhead, nodes)) = pod.spec.runtime_class_name.as_ref().and_then(|name| self.runtimes.get(name)) {
            pod.spec.overhead.extend(overhead.iter().filter_map(|(name, value)| Some((name.clone(), amount(value)?))));
            let selects = nodes.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            pod.spec.node_selector.extend(selects);
        }
        let Some((limits, requests)) = self.limits.get(namespace) else { return pod };
        for container in pod.spec.containers.iter_mut().chain(&mut pod.spec.init_containers) {
            // If the owner set a limit but no request, the limit is the request; defaults come after that.
            let own: BTreeSet<String> = container.resources.limits.keys().cloned().collect();
            for (name, value) in requests.iter().filter(|(name, _)| !own.contains(*name)) {
                if let (false, Some(value)) = (container.resources.requests.contains_key(name), amount(value)) {
                    container.resources.requests.insert(name.clone(), value);
                }
            }
            for (name, value) in limits {
                if let (false, Some(value)) = (own.contains(name), amount(value)) {
                    container.resources.limits.insert(name.clone(), value);
                }
            }
        }
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Manifests of public bug reports, one document each.
    fn cases() -> Vec<Value> {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/pods"));
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut found: Vec<Value> =
            files.iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")).flat_map(|file| documents(file).unwrap()).collect();
        let template = json!({ "spec": { "containers": [{ "name": "m", "resources": { "limits": { "nvidia.com/gpu": 1 } } }] } });
        for (kind, spec) in [
            (
                "Service",
                json!({ "template": { "metadata": { "annotations": { "autoscaling.knative.dev/min-scale": "2" } }, "spec": template["spec"] } }),
            ),
            (
                "JobSet",
                json!({ "replicatedJobs": [{ "name": "w", "replicas": 2, "template": { "spec": { "parallelism": 3, "template": template } } }] }),
            ),
            ("LeaderWorkerSet", json!({ "replicas": 2, "leaderWorkerTemplate": { "size": 4, "workerTemplate": template } })),
            (
                "RayCluster",
                json!({ "headGroupSpec": { "template": template }, "workerGroupSpecs": [{ "replicas": 2, "numOfHosts": 2, "template": template }] }),
            ),
            ("PyTorchJob", json!({ "pytorchReplicaSpecs": { "Worker": { "replicas": 3, "template": template } } })),
            ("InferenceService", json!({ "predictor": { "minReplicas": 2, "model": template["spec"]["containers"][0] } })),
        ] {
            found.push(json!({ "kind": kind, "metadata": { "name": "x" }, "spec": spec }));
        }
        found
    }

    #[test]
    fn a_file_that_means_more_than_it_says_is_refused() {
        let laughs: String = (1..40).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))).collect();
        let deep = format!("kind: Pod\nspec: {}1{}\n", "[".repeat(50_000), "]".repeat(50_000));
        for text in [format!("a0: &a0 lol\n{laughs}"), deep] {
            let fault = crate::mutation::read_file(&text, |path| read(path).unwrap_err().to_string());
            assert!(fault.len() > 20 && fault.len() < 5_000, "{fault}");
        }
        let negative = json!({ "kind": "Service", "metadata": { "name": "x" }, "spec": { "template": {
            "metadata": { "annotations": { "autoscaling.knative.dev/min-scale": "-9223372036854775808" } }, "spec": { "containers": [] } } } });
        let found = crate::mutation::read_file(negative.to_string(), |path| read(path).unwrap());
        assert_eq!(found.workloads[0].replicas, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::mutation::CASES / 2))]

        #[test]
        fn whatever_a_manifest_holds_is_workloads_of_some_pods_or_refused_with_a_sentence(
            text in prop_oneof![
                3 => prop::collection::vec(crate::mutation::json(cases()), 1..4).prop_map(|documents| {
                    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
                }),
                1 => crate::mutation::text(&[include_str!("../../tests/cases/pods/k01-kinds.yaml")]),
            ]
        ) {
            match crate::mutation::read_file(&text, read) {
                Ok(found) => {
                    assert!(!found.workloads.is_empty());
                    assert!(found.workloads.iter().all(|workload| (0..=MOST_PODS).contains(&workload.replicas)), "{:?}", found.workloads);
                }
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
