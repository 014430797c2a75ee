//! Where a pod's own node selector and node affinity allow it to run.
//!
//! Decides: which labels of nodes are known, how requirements on them are read, and that every hard constraint that is not honoured is
//! refused. Does not: read preferences, which keep no pod off a node, say which labels an offer's node has (see
//! `placement::node_labels`), or read rules between pods (see `workload::company`).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::catalog::Architecture;
use crate::core::units::ids::{InstanceType, ZoneId};
use crate::core::workload::labels::{LabelOperator, LabelRequirement, LabelTerm, both};
use crate::core::workload::need::error::NeedError;
use crate::core::workload::need::manifest::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// The region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The zone: its id, or its name on EKS and wherever pods use the name.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// AWS's own label for the zone id.
pub const ZONE_ID: &str = "topology.k8s.aws/zone-id";
/// The zone as AWS's EBS driver writes it on its volumes.
pub const EBS_ZONE: &str = "topology.ebs.csi.aws.com/zone";
/// The processor architecture.
pub const ARCH: &str = "kubernetes.io/arch";
/// The operating system.
pub const OS: &str = "kubernetes.io/os";
/// The instance type.
pub const TYPE: &str = "node.kubernetes.io/instance-type";
/// Spot, on-demand or reserved.
pub const CAPACITY_TYPE: &str = "lowtide.dev/capacity-type";
/// ... as Karpenter calls it.
pub const KARPENTER_CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// The processor architecture by the name of old charts; kubelets still set it.
pub const BETA_ARCH: &str = "beta.kubernetes.io/arch";
/// ... and the operating system.
pub const BETA_OS: &str = "beta.kubernetes.io/os";
/// The instance type by its name of old charts; AWS's cloud controller still sets it.
pub const BETA_TYPE: &str = "beta.kubernetes.io/instance-type";
/// ... the region.
pub const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
/// ... and the zone.
pub const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
/// The node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The pin that lowtide itself sets when it lifts a pod's gate.
pub const PIN: &str = "lowtide.node-restriction.kubernetes.io/claim";

/// Labels whose value is known before a node is bought, besides those that its node class adds.
pub const KNOWN_LABELS: [&str; 34] = [
    HOSTNAME,
    BETA_ARCH,
    BETA_OS,
    BETA_TYPE,
    BETA_REGION,
    BETA_ZONE,
    REGION,
    ZONE,
    ZONE_ID,
    EBS_ZONE,
    ARCH,
    OS,
    TYPE,
    CAPACITY_TYPE,
    "lowtide.dev/node-class",
    "lowtide.dev/gpu-sharing",
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.family",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/gpu.compute.minor",
    KARPENTER_CAPACITY_TYPE,
    "karpenter.k8s.aws/instance-category",
    "karpenter.k8s.aws/instance-family",
    "karpenter.k8s.aws/instance-generation",
    "karpenter.k8s.aws/instance-size",
    "karpenter.k8s.aws/instance-cpu",
    "karpenter.k8s.aws/instance-memory",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.k8s.aws/instance-gpu-manufacturer",
    "karpenter.k8s.aws/instance-gpu-count",
    "karpenter.k8s.aws/instance-gpu-memory",
];

/// Where the pod may run; `None` and empty mean anywhere.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub regions: Option<BTreeSet<String>>,
    pub zones: Vec<ZoneId>,
    pub instance_types: Vec<InstanceType>,
    pub architecture: Option<Architecture>,
    /// All other requirements on the node's labels.
    pub terms: Vec<LabelTerm>,
}

/// Reads the constraints of `spec`; adds a fault for each that is not honoured. `own_labels` are those that node classes add.
pub(super) fn read(spec: &PodSpec, own_labels: &BTreeSet<String>, faults: &mut Vec<NeedError>) -> Place {
    let mut common: LabelTerm = Vec::new();
    for (key, value) in spec.node_selector.iter().filter(|(key, _)| *key != PIN) {
        common.push(LabelRequirement { key: key.clone(), operator: LabelOperator::In([value.clone()].into()) });
    }
    refuse_unknown("spec.nodeSelector", &common, own_labels, faults);
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    let mut alternatives = required.map_or_else(Vec::new, |r| alternatives(&r.node_selector_terms, own_labels, faults));
    if let ([_], true) = (alternatives.as_slice(), required.is_some()) {
        common.append(&mut alternatives[0]);
        alternatives.clear();
    }
    refuse_others(spec, faults);
    let (mut place, rest) = folded(common, faults);
    let rest = if rest.is_empty() { Vec::new() } else { vec![rest] };
    place.terms = both(rest, alternatives);
    place
}

const AFFINITY: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// The alternatives of a required node affinity that some node can meet.
fn alternatives(terms: &[NodeSelectorTerm], own_labels: &BTreeSet<String>, faults: &mut Vec<NeedError>) -> Vec<LabelTerm> {
    let mut kept = Vec::new();
    let mut impossible = Vec::new();
    let before = faults.len();
    for term in terms {
        let mut read: Vec<LabelRequirement> =
            term.match_expressions.iter().filter_map(|want| requirement(want, AFFINITY, faults)).collect();
        let mut unknown = Vec::new();
        // The one field there is, is the node's name, and that of a machine which is yet to be bought is none that anybody wrote.
        for want in &term.match_fields {
            if want.operator == "NotIn" {
                read.push(LabelRequirement {
                    key: HOSTNAME.to_owned(),
                    operator: LabelOperator::NotIn(want.values.iter().cloned().collect()),
                });
            } else {
                refuse(&mut unknown, AFFINITY, "names nodes", "select nodes by labels; lowtide chooses the node");
            }
        }
        refuse_unknown(AFFINITY, &read, own_labels, &mut unknown);
        // An alternative that none of our nodes meets is dropped; the others stay.
        if unknown.is_empty() && !read.is_empty() {
            kept.push(read);
        }
        impossible.extend(unknown);
    }
    if kept.is_empty() && faults.len() == before {
        if impossible.is_empty() {
            refuse(
                faults,
                AFFINITY,
                "has no term with a requirement, and such a term selects no node",
                "write one requirement, or remove it",
            );
        }
        faults.extend(impossible);
    }
    kept
}

/// One requirement of a node selector.
pub(in crate::core::workload) fn requirement(
    want: &NodeSelectorRequirement,
    path: &str,
    faults: &mut Vec<NeedError>,
) -> Option<LabelRequirement> {
    let path = format!("{path}[{}]", want.key);
    let values = || want.values.iter().cloned().collect::<BTreeSet<String>>();
    let number = || want.values.first().filter(|_| want.values.len() == 1).and_then(|v| v.parse::<i64>().ok());
    let operator = match want.operator.as_str() {
        "In" => Some(LabelOperator::In(values())),
        "NotIn" => Some(LabelOperator::NotIn(values())),
        "Exists" => Some(LabelOperator::Exists),
        "DoesNotExist" => Some(LabelOperator::DoesNotExist),
        "Gt" => number().map(LabelOperator::Gt),
        "Lt" => number().map(LabelOperator::Lt),
        _ => None,
    };
    if operator.is_none() {
        let what = format!("uses the operator {} with the values {:?}", want.operator, want.values);
        refuse(faults, &path, &what, "use In, NotIn, Exists, DoesNotExist, or Gt or Lt with one whole number");
    }
    Some(LabelRequirement { key: want.key.clone(), operator: operator? })
}

/// Adds a fault for each requirement on a label that none of our nodes has.
fn refuse_unknown(path: &str, wants: &[LabelRequirement], own_labels: &BTreeSet<String>, faults: &mut Vec<NeedError>) {
    for want in wants.iter().filter(|w| w.operator.wants_the_label()) {
        if !KNOWN_LABELS.contains(&want.key.as_str()) && !own_labels.contains(&want.key) {
            let known = KNOWN_LABELS.iter().copied().chain(own_labels.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
            faults.push(NeedError::NotHonoured {
                path: format!("{path}[{}]", want.key),
                what: format!("selects nodes by {}, a label that no lowtide node has", want.key),
                advice: format!("select by {known}, or have the node class add the label (spec.bootstrap.extra.node-label)"),
            });
        }
    }
}

/// Requirements with their own field in a need, and the others.
fn folded(common: LabelTerm, faults: &mut Vec<NeedError>) -> (Place, LabelTerm) {
    let mut allowed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let mut rest: BTreeSet<LabelRequirement> = BTreeSet::new();
    for want in common {
        let key = match (want.key.as_str(), &want.operator) {
            // AWS's own label for the id stays a requirement of its own: a node may have the id under that label alone.
            (ZONE, LabelOperator::In(values)) if !values.iter().any(|v| is_zone_name(v)) => ZONE,
            (REGION, LabelOperator::In(_)) => REGION,
            (ARCH | BETA_ARCH, LabelOperator::In(_)) => ARCH,
            (OS | BETA_OS, LabelOperator::In(_)) => OS,
            (TYPE, LabelOperator::In(_)) => TYPE,
            // The label is on all our nodes.
            (REGION | ZONE | ZONE_ID | ARCH | OS | TYPE | BETA_ARCH | BETA_OS | HOSTNAME, LabelOperator::Exists) => continue,
            _ => {
                rest.insert(want);
                continue;
            }
        };
        if let LabelOperator::In(values) = want.operator {
            match allowed.get_mut(key) {
                Some(have) => have.retain(|v| values.contains(v)),
                None => {
                    allowed.insert(key, values);
                }
            }
        }
    }
    (place_of(allowed, faults), rest.into_iter().collect())
}

/// `us-east-1a`, `us-west-2-lax-1a`: a zone's name in an account. Ids (`use1-az4`) end in a number.
pub fn is_zone_name(text: &str) -> bool {
    let mut back = text.chars().rev();
    let (last, before) = (back.next(), back.next());
    last.is_some_and(|c| c.is_ascii_lowercase()) && before.is_some_and(|c| c.is_ascii_digit()) && text.matches('-').count() >= 2
}

fn place_of(mut allowed: BTreeMap<&'static str, BTreeSet<String>>, faults: &mut Vec<NeedError>) -> Place {
    let of = [(REGION, "region"), (ZONE, "zone"), (ARCH, "architecture"), (OS, "operating system"), (TYPE, "instance type")];
    for (key, name) in of {
        if allowed.get(key).is_some_and(BTreeSet::is_empty) {
            faults.push(NeedError::Contradiction { what: "the pod's node selector and node affinity", of: name });
        }
    }
    if allowed.get(OS).is_some_and(|v| !v.contains("linux")) {
        refuse(faults, "spec.nodeSelector[kubernetes.io/os]", "requires an operating system other than linux", "lowtide's nodes run linux");
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
        refuse(faults, "kubernetes.io/arch", "requires an architecture that no NVIDIA type has", "use amd64 or arm64");
    }
    Place {
        regions: allowed.remove(REGION),
        zones: allowed.remove(ZONE).unwrap_or_default().into_iter().map(ZoneId::from).collect(),
        instance_types: allowed.remove(TYPE).unwrap_or_default().into_iter().map(InstanceType::from).collect(),
        architecture: match known.as_slice() {
            [one] => Some(*one),
            _ => None,
        },
        terms: Vec::new(),
    }
}

fn refuse_others(spec: &PodSpec, faults: &mut Vec<NeedError>) {
    // The scheduler has since bound a pod that lowtide pinned.
    if spec.node_name.as_ref().is_some_and(|n| !n.is_empty()) && !spec.node_selector.contains_key(PIN) {
        refuse(faults, "spec.nodeName", "is set", "remove it; lowtide chooses the node");
    }
    if spec.scheduler_name.as_ref().is_some_and(|n| !n.is_empty() && n != "default-scheduler") {
        refuse(faults, "spec.schedulerName", "is another scheduler", "use the default scheduler");
    }
    // The scheduler does not look at it, and the kubelet refuses the pod.
    if spec.os.name.as_ref().is_some_and(|name| name != "linux") {
        refuse(faults, "spec.os.name", "requires an operating system other than linux", "lowtide's nodes run linux");
    }
    let claims = spec.containers.iter().chain(&spec.init_containers).any(|c| !c.resources.claims.is_empty());
    if claims || !spec.resource_claims.is_empty() {
        refuse(faults, "spec.resourceClaims", "requests devices by resource claim", "request GPUs with the limit nvidia.com/gpu");
    }
}

/// Refuses resources that the catalog does not count.
pub(super) fn refuse_unknown_resources(amounts: &BTreeMap<String, i128>, faults: &mut Vec<NeedError>) {
    for (name, _) in amounts.iter().filter(|(_, amount)| **amount > 0) {
        if ["cpu", "memory", super::quantity::DISK, super::quantity::GPU].contains(&name.as_str()) {
            continue;
        }
        let path = format!("resources.requests[{name}]");
        if name.starts_with("hugepages-") {
            let advice = "no node class reserves huge pages; request memory instead";
            refuse(faults, &path, "requests huge pages", advice);
        } else if name == "vpc.amazonaws.com/efa" {
            let advice =
                "no node class attaches EFA interfaces yet; leave the request out, or run the pods on nodes that are not lowtide's";
            refuse(faults, &path, "requests Elastic Fabric Adapters", advice);
        } else {
            let advice = "request only cpu, memory, ephemeral-storage and nvidia.com/gpu";
            refuse(faults, &path, "requests a resource that the catalog does not count", advice);
        }
    }
}

pub(in crate::core::workload) fn refuse(faults: &mut Vec<NeedError>, path: &str, what: &str, advice: &str) {
    faults.push(NeedError::NotHonoured { path: path.to_owned(), what: what.to_owned(), advice: advice.to_owned() });
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
            read(&spec, &BTreeSet::new(), &mut faults);
            faults.len()
        };
        assert_eq!(faults_of(&[(PIN, "lt-1")]), 0);
        assert_eq!(faults_of(&[]), 1);
    }

    fn affinity(terms: &str) -> (Place, Vec<NeedError>) {
        let text = format!(
            r#"{{"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":{terms}}}}}}}}}"#
        );
        let (spec, mut faults) = (serde_json::from_str::<PodSpec>(&text).unwrap(), Vec::new());
        let place = read(&spec, &["tier".to_owned()].into(), &mut faults);
        (place, faults)
    }

    #[test]
    fn one_alternative_that_can_be_met_is_enough_and_unknown_labels_are_named_with_the_known() {
        let (place, faults) = affinity(
            r#"[{"matchExpressions":[{"key":"disk","operator":"Exists"}]},{"matchExpressions":[{"key":"tier","operator":"In","values":["gpu"]}]}]"#,
        );
        assert!(faults.is_empty() && place.terms.len() == 1, "{faults:?}");
        let (_, faults) = affinity(r#"[{"matchExpressions":[{"key":"disk","operator":"Exists"}]}]"#);
        let text = faults[0].to_string();
        assert!(faults.len() == 1 && text.contains("selects nodes by disk") && text.contains("nvidia.com/gpu.product"), "{text}");
        let (place, faults) = affinity(r#"[{"matchExpressions":[{"key":"disk","operator":"DoesNotExist"}]}]"#);
        assert!(faults.is_empty() && place.terms.len() == 1, "a label that nobody has is absent");
        let (_, faults) = affinity(r#"[{"matchExpressions":[{"key":"nvidia.com/gpu.count","operator":"Gt","values":["many"]}]}]"#);
        assert!(faults[0].to_string().contains("uses the operator Gt"));
    }

    /// An empty term selects no node; the one field that can be matched is the name, which no node to be bought has yet.
    #[test]
    fn empty_terms_and_node_names_are_read_as_the_scheduler_reads_them() {
        let (_, faults) = affinity("[{}]");
        assert!(faults[0].to_string().contains("selects no node"), "{faults:?}");
        let (place, faults) = affinity(r#"[{},{"matchExpressions":[{"key":"tier","operator":"Exists"}]}]"#);
        assert!(faults.is_empty() && place.terms.len() == 1, "{faults:?}");
        let by_name = |operator: &str| {
            affinity(&format!(r#"[{{"matchFields":[{{"key":"metadata.name","operator":"{operator}","values":["n1"]}}]}}]"#))
        };
        assert!(by_name("NotIn").1.is_empty());
        assert!(by_name("In").1[0].to_string().contains("names nodes"));
    }

    #[test]
    fn a_pod_of_another_operating_system_is_refused() {
        let faults_of = |os: &str| {
            let spec = serde_json::from_str(&format!(r#"{{"os":{{"name":"{os}"}}}}"#)).unwrap();
            let mut faults = Vec::new();
            read(&spec, &BTreeSet::new(), &mut faults);
            faults.len()
        };
        assert_eq!((faults_of("linux"), faults_of("windows")), (0, 1));
    }

    #[test]
    fn labels_of_old_charts_that_kubelets_still_set_are_known() {
        let selector = [("beta.kubernetes.io/os", "linux"), ("beta.kubernetes.io/arch", "arm64")];
        let node_selector = selector.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mut faults = Vec::new();
        let place = read(&PodSpec { node_selector, ..PodSpec::default() }, &BTreeSet::new(), &mut faults);
        assert!(faults.is_empty() && place.architecture == Some(Architecture::Arm64), "{faults:?}");
    }

    #[test]
    fn zone_names_are_distinguished_from_zone_ids() {
        assert!(["us-east-1a", "us-west-2-lax-1a", "ap-southeast-3c"].iter().all(|n| is_zone_name(n)));
        assert!(["use1-az4", "usw2-lax1-az1", "us-east-1", "a"].iter().all(|n| !is_zone_name(n)));
        let (place, _) = affinity(
            r#"[{"matchExpressions":[{"key":"topology.kubernetes.io/zone","operator":"In","values":["us-east-1a","us-east-1b"]}]}]"#,
        );
        assert!(place.zones.is_empty() && place.terms.len() == 1);
    }
}
