//! Where a pod's own scheduling constraints let it run.
//!
//! Decides: which constraints are honoured, and that every other hard one is refused.
//! Does not: read preferences; they keep no pod off a node.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::catalog::Architecture;
use crate::core::units::ids::{InstanceType, ZoneId};

use crate::core::workload::need::error::NeedError;
use crate::core::workload::need::manifest::{NodeSelectorRequirement, PodManifest, PodSpec};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
/// AWS' own label for the zone id.
const ZONE_ID: &str = "topology.k8s.aws/zone-id";
const ARCH: &str = "kubernetes.io/arch";
const OS: &str = "kubernetes.io/os";
const TYPE: &str = "node.kubernetes.io/instance-type";
/// The pin that lowtide itself sets when it binds a pod.
const PIN: &str = "lowtide.node-restriction.kubernetes.io/claim";

const HONOURED: &str = "select nodes by region, zone, architecture or instance type only (topology.kubernetes.io/region, \
     topology.kubernetes.io/zone with a zone id, kubernetes.io/arch, node.kubernetes.io/instance-type)";

/// Where the pod may run; `None` and empty mean anywhere.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub regions: Option<BTreeSet<String>>,
    pub zones: Vec<ZoneId>,
    pub instance_types: Vec<InstanceType>,
    pub architecture: Option<Architecture>,
}

/// Reads the constraints of `spec`; adds a fault for each that is not honoured.
pub(super) fn read(spec: &PodSpec, faults: &mut Vec<NeedError>) -> Place {
    let mut allowed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in &spec.node_selector {
        select(&mut allowed, key, vec![value.clone()], &format!("spec.nodeSelector[{key}]"), faults);
    }
    let affinity = spec.affinity.clone().unwrap_or_default();
    let terms = affinity
        .node_affinity
        .unwrap_or_default()
        .required_during_scheduling_ignored_during_execution
        .unwrap_or_default()
        .node_selector_terms;
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    match terms.as_slice() {
        [] => {}
        [term] => {
            for requirement in &term.match_expressions {
                require(&mut allowed, requirement, path, faults);
            }
            if !term.match_fields.is_empty() {
                refuse(faults, path, "matches fields of a node", HONOURED);
            }
        }
        _ => refuse(faults, path, "has several alternative terms", "write one term with several values instead"),
    }
    refuse_others(spec, faults);
    place_of(allowed, faults)
}

fn require(
    allowed: &mut BTreeMap<&'static str, BTreeSet<String>>,
    want: &NodeSelectorRequirement,
    path: &str,
    faults: &mut Vec<NeedError>,
) {
    let path = format!("{path}[{}]", want.key);
    match want.operator.as_str() {
        "In" => select(allowed, &want.key, want.values.clone(), &path, faults),
        "Exists" if key_of(&want.key).is_some() => {}
        other => refuse(faults, &path, &format!("uses the operator {other}"), "use the operator In with the values allowed"),
    }
}

/// The key under which a label's values are kept; `None` when the label is not honoured.
fn key_of(label: &str) -> Option<&'static str> {
    [REGION, ZONE, ARCH, OS, TYPE, PIN].into_iter().find(|k| *k == label).or((label == ZONE_ID).then_some(ZONE))
}

fn select(
    allowed: &mut BTreeMap<&'static str, BTreeSet<String>>,
    label: &str,
    values: Vec<String>,
    path: &str,
    faults: &mut Vec<NeedError>,
) {
    let Some(key) = key_of(label) else {
        return refuse(faults, path, &format!("selects nodes by {label}"), HONOURED);
    };
    let values: BTreeSet<String> = values.into_iter().collect();
    match allowed.get_mut(key) {
        Some(have) => have.retain(|v| values.contains(v)),
        None => {
            allowed.insert(key, values);
        }
    }
}

fn place_of(mut allowed: BTreeMap<&'static str, BTreeSet<String>>, faults: &mut Vec<NeedError>) -> Place {
    let of = [(REGION, "region"), (ZONE, "zone"), (ARCH, "architecture"), (OS, "operating system"), (TYPE, "instance type")];
    for (key, name) in of {
        if allowed.get(key).is_some_and(BTreeSet::is_empty) {
            faults.push(NeedError::Contradiction { what: "the pod's node selector and node affinity", of: name });
        }
    }
    if allowed.get(OS).is_some_and(|v| !v.contains("linux")) {
        refuse(faults, "spec.nodeSelector[kubernetes.io/os]", "wants another system than linux", "lowtide's nodes run linux");
    }
    let architectures = allowed.remove(ARCH).unwrap_or_default();
    let known: Vec<Architecture> = architectures
        .iter()
        .filter_map(|a| match a.as_str() {
            "amd64" => Some(Architecture::Amd64),
            "arm64" => Some(Architecture::Arm64),
            _ => None,
        })
        .collect();
    if !architectures.is_empty() && known.is_empty() {
        refuse(faults, "kubernetes.io/arch", "wants an architecture that no NVIDIA type has", "use amd64 or arm64");
    }
    Place {
        regions: allowed.remove(REGION),
        zones: allowed.remove(ZONE).unwrap_or_default().into_iter().map(ZoneId::from).collect(),
        instance_types: allowed.remove(TYPE).unwrap_or_default().into_iter().map(InstanceType::from).collect(),
        architecture: match known.as_slice() {
            [one] => Some(*one),
            _ => None,
        },
    }
}

fn refuse_others(spec: &PodSpec, faults: &mut Vec<NeedError>) {
    let affinity = spec.affinity.clone().unwrap_or_default();
    let between = [("podAffinity", affinity.pod_affinity), ("podAntiAffinity", affinity.pod_anti_affinity)];
    for (name, rule) in between {
        if rule.is_some_and(|r| !r.required_during_scheduling_ignored_during_execution.is_empty()) {
            let path = format!("spec.affinity.{name}.requiredDuringSchedulingIgnoredDuringExecution");
            refuse(faults, &path, "ties pods to other pods", "make it preferred, or use a topology spread over zones or lowtide.dev/gang");
        }
    }
    for (index, constraint) in spec.topology_spread_constraints.iter().enumerate().filter(|(_, c)| c.when_unsatisfiable != "ScheduleAnyway")
    {
        let path = format!("spec.topologySpreadConstraints[{index}]");
        if constraint.topology_key != ZONE && constraint.topology_key != ZONE_ID {
            refuse(
                faults,
                &path,
                &format!("spreads over {}", constraint.topology_key),
                "spread over topology.kubernetes.io/zone, or ScheduleAnyway",
            );
        }
        if constraint.max_skew < 1 {
            let what = format!("has maxSkew {}", constraint.max_skew);
            refuse(faults, &path, &what, "set maxSkew to 1 or more: Kubernetes refuses less");
        }
        if constraint.min_domains.is_some_and(|d| d > 1) {
            refuse(faults, &path, "sets minDomains", "take minDomains away; lowtide.dev/max-pool-share limits what stands in one place");
        }
    }
    // A pod that lowtide pinned has been given its node by the scheduler since.
    if spec.node_name.as_ref().is_some_and(|n| !n.is_empty()) && !spec.node_selector.contains_key(PIN) {
        refuse(faults, "spec.nodeName", "names a node", "take it away; lowtide chooses the node");
    }
    if spec.scheduler_name.as_ref().is_some_and(|n| !n.is_empty() && n != "default-scheduler") {
        refuse(faults, "spec.schedulerName", "names another scheduler", "use the default scheduler");
    }
    let claims = spec.containers.iter().chain(&spec.init_containers).any(|c| !c.resources.claims.is_empty());
    if claims || !spec.resource_claims.is_empty() {
        refuse(faults, "spec.resourceClaims", "asks for devices by resource claim", "ask for GPUs with the limit nvidia.com/gpu");
    }
    if spec.containers.iter().flat_map(|c| &c.ports).any(|p| p.host_port.is_some_and(|n| n > 0)) {
        refuse(faults, "spec.containers[].ports[].hostPort", "takes a port of the node", "serve through a Service");
    }
}

/// Refuses resources that the catalog does not count.
pub(super) fn refuse_unknown_resources(amounts: &BTreeMap<String, i128>, faults: &mut Vec<NeedError>) {
    for (name, _) in amounts.iter().filter(|(_, amount)| **amount > 0) {
        if !["cpu", "memory", crate::core::workload::need::quantity::GPU].contains(&name.as_str()) {
            let path = format!("resources.requests[{name}]");
            refuse(faults, &path, "asks for a resource that the catalog does not count", "ask for cpu, memory and nvidia.com/gpu only");
        }
    }
}

fn refuse(faults: &mut Vec<NeedError>, path: &str, what: &str, advice: &'static str) {
    faults.push(NeedError::NotHonoured { path: path.to_owned(), what: what.to_owned(), advice });
}

/// The strictest `maxSkew` over zones that must hold for a pod, if any.
pub fn zone_max_skew(manifest: &PodManifest) -> Option<i64> {
    let over_zones = |key: &str| key == ZONE || key == ZONE_ID;
    let hard = manifest.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable != "ScheduleAnyway");
    hard.filter(|c| over_zones(&c.topology_key)).map(|c| c.max_skew.max(1)).min()
}

#[cfg(test)]
mod tests {
    use crate::core::workload::need::constraints::*;

    #[test]
    fn a_pod_that_lowtide_pinned_may_have_a_node_and_nobody_else() {
        let faults_of = |selector: &[(&str, &str)]| {
            let node_selector = selector.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let spec = PodSpec { node_name: Some("n1".into()), node_selector, ..PodSpec::default() };
            let mut faults = Vec::new();
            read(&spec, &mut faults);
            faults.len()
        };
        assert_eq!(faults_of(&[(PIN, "lt-1")]), 0);
        assert_eq!(faults_of(&[]), 1);
    }
}
