//! What is looked at in Kubernetes: version, definitions, policies, rights, the leader, clocks, and what pools and classes say of themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::CheckArgs;
use super::findings::{Area, Finding};
use crate::core::fleet::NodeClass;
use crate::engine::wall_clock::WallClock;
use crate::kube::api::condition::{Condition, ConditionStatus};
use crate::kube::api::{GpuDecision, GpuNodeClaim, GpuNodeClass, GpuNodePool};
use crate::kube::api_clock::ApiClock;
use crate::kube::errors::call;
use crate::kube::lease::{LeaseSettings, other_release};
use crate::kube::validation_check::{Validation, validation};
use crate::kube::{claims, classes, crd_check, read_uid};
use crate::ports::ClusterError;

/// The oldest Kubernetes whose admission policies the chart relies on.
const LEAST_MINOR: u32 = 30;
/// A leader renews its Lease every few seconds.
const STALE_LEASE_SECONDS: i64 = 30;
/// A clock further off than this is said.
const FAR: i64 = 5_000;
/// More records than this wait only while Postgres is away.
const FEW_RECORDS: usize = 1_000;

/// What the operator does in the cluster, as far as a login may lack it: group, resource, subresource, verbs. The chart's roles give these, and what
/// is limited to one object by name.
const DEEDS: [(&str, &str, &str, &[&str]); 12] = [
    ("", "pods", "", &["list", "watch", "patch", "delete"]),
    ("", "pods", "eviction", &["create"]),
    ("", "nodes", "", &["list", "watch", "patch", "delete"]),
    ("", "namespaces", "", &["get", "list", "watch"]),
    ("", "persistentvolumeclaims", "", &["list", "watch"]),
    ("storage.k8s.io", "storageclasses", "", &["list", "watch"]),
    ("apps", "deployments", "", &["list", "watch"]),
    ("apps", "replicasets", "", &["list", "watch"]),
    ("events.k8s.io", "events", "", &["create"]),
    ("lowtide.dev", "gpunodeclaims", "", &["list", "watch", "create", "patch", "delete"]),
    ("lowtide.dev", "gpunodeclaims", "status", &["patch"]),
    ("lowtide.dev", "gpudecisions", "", &["list", "create", "delete"]),
];

/// What the other checks need to know.
pub struct Seen {
    /// The cluster's UID.
    pub uid: String,
    /// Its node classes.
    pub classes: Vec<NodeClass>,
}

/// Looks at the cluster.
pub async fn check(args: &CheckArgs, client: &Client) -> (Vec<Finding>, Seen) {
    let mut all = Vec::new();
    let clock = ApiClock::start(client.clone(), Arc::new(WallClock));
    let began = Instant::now();
    match call("read the version", client.apiserver_version()).await {
        Ok(version) => {
            let minor: u32 = version.minor.trim_end_matches('+').parse().unwrap_or(0);
            let found = format!("{} in {} ms", version.git_version, began.elapsed().as_millis());
            all.push(if minor >= LEAST_MINOR {
                Finding::good(Area::Cluster, "API server", found)
            } else {
                Finding::fault(Area::Cluster, "API server", found, format!("lowtide needs Kubernetes 1.{LEAST_MINOR} or newer"))
            });
        }
        Err(fault) => {
            all.push(Finding::fault(Area::Cluster, "API server", fault.to_string(), "see whether this KUBECONFIG reaches the cluster"));
            return (all, Seen { uid: String::new(), classes: Vec::new() });
        }
    }
    let uid = match read_uid(client).await {
        Ok(uid) => uid,
        Err(fault) => {
            all.push(Finding::fault(Area::Cluster, "identity", fault.to_string(), "allow `get` of namespace kube-system"));
            String::new()
        }
    };
    if !uid.is_empty() {
        all.push(Finding::good(Area::Cluster, "identity", format!("{} ({uid})", args.cluster)));
    }
    all.push(definitions(client).await);
    all.push(policies(client).await);
    all.push(marks(args, client).await);
    all.push(rights(client).await);
    all.push(leader(args, client).await);
    all.push(pools(client).await);
    let (finding, classes) = node_classes(client).await;
    all.push(finding);
    all.push(unreadable(client).await);
    all.push(outbox(client).await);
    all.push(clocks(&clock).await);
    (all, Seen { uid, classes })
}

fn refused(what: &'static str, fault: &ClusterError) -> Finding {
    Finding::fault(Area::Cluster, what, fault.to_string(), "install the chart first, or use a login that may read it")
}

async fn definitions(client: &Client) -> Finding {
    match crd_check::missing(client).await {
        Ok(lacking) if lacking.is_empty() => Finding::good(Area::Cluster, "definitions", "every field that this version writes is served"),
        Ok(lacking) => {
            let found =
                format!("{} fields are unknown to the API server, first {}", lacking.len(), lacking.first().map_or("", String::as_str));
            Finding::fault(Area::Cluster, "definitions", found, "lowtide crds | kubectl apply --server-side -f -")
        }
        Err(fault) => refused("definitions", &fault),
    }
}

/// Pods are gated by the chart's mutating policy where the API server has that kind, otherwise by their owners.
async fn policies(client: &Client) -> Finding {
    let what = "gates";
    let group = "admissionregistration.k8s.io";
    for version in ["v1", "v1beta1"] {
        if let Ok(served) = call("read what is served", client.list_api_group_resources(&format!("{group}/{version}"))).await
            && served.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies")
        {
            return Finding::good(
                Area::Cluster,
                what,
                format!("mutating admission policies are served ({version}): pods are gated for their owners"),
            );
        }
    }
    let todo = "owners write the scheduling gate themselves (docs/workload-owners.md), or turn the feature on (Kubernetes 1.34 and newer)";
    Finding::note(Area::Cluster, what, "this API server has no mutating admission policies", todo)
}

async fn marks(args: &CheckArgs, client: &Client) -> Finding {
    let what = "owners kept out";
    match validation(client, &args.marks_policy, None).await {
        Validation::InForce => Finding::good(Area::Cluster, what, format!("by the policy {}", args.marks_policy)),
        Validation::Absent(why) => Finding::fault(Area::Cluster, what, why, "install the chart with admission.marks.enabled"),
        Validation::Unknown(fault) => Finding::note(Area::Cluster, what, fault, "use a login that may read admission policies"),
    }
}

async fn rights(client: &Client) -> Finding {
    let all = DEEDS.iter().flat_map(|(group, resource, sub, verbs)| verbs.iter().map(move |verb| (*group, *resource, *sub, *verb)));
    let asked: Vec<_> = stream::iter(all.collect::<Vec<_>>()).map(|deed| may(client, deed)).buffered(8).collect().await;
    let count = asked.len();
    let mut denied = Vec::new();
    for answer in asked {
        match answer {
            Ok(None) => {}
            Ok(Some(deed)) => denied.push(deed),
            Err(fault) => return refused("rights", &fault),
        }
    }
    if denied.is_empty() {
        return Finding::good(Area::Cluster, "rights", format!("all {count} that the operator uses"));
    }
    let todo = "install the chart with rbac.create, or run this where the operator runs (see --help)";
    Finding::fault(Area::Cluster, "rights", format!("denied: {}", denied.join(", ")), todo)
}

/// The deed in words if it is denied.
async fn may(client: &Client, (group, resource, subresource, verb): (&str, &str, &str, &str)) -> Result<Option<String>, ClusterError> {
    let text = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: text(resource),
        subresource: text(subresource),
        verb: text(verb),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = call("ask for our rights", api.create(&PostParams::default(), &review)).await?;
    let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    Ok((!answer.status.is_some_and(|status| status.allowed)).then(|| format!("{verb} {resource}{below}")))
}

async fn leader(args: &CheckArgs, client: &Client) -> Finding {
    let (namespace, what) = (&args.namespace, "leader");
    let lease = LeaseSettings::of_the_cluster(namespace, "");
    let api = Api::<Lease>::namespaced(client.clone(), &lease.namespace);
    let spec = match call("read the leader's Lease", api.get_opt(&lease.name)).await {
        Ok(lease) => lease.and_then(|lease| lease.spec),
        Err(fault) => return refused(what, &fault),
    };
    let held = spec.and_then(|spec| Some((spec.holder_identity.filter(|holder| !holder.is_empty())?, spec.renew_time?.0)));
    let Some((holder, renewed)) = held else {
        let todo = format!("before the install this is as it should be; after it: kubectl -n {namespace} logs deploy/lowtide-operator");
        return Finding::note(Area::Cluster, what, format!("no operator leads (Lease {}/{})", lease.namespace, lease.name), todo);
    };
    if let Some(theirs) = other_release(&holder, &lease.identity) {
        let todo =
            format!("a cluster has one lowtide: uninstall that of {theirs} or that of {namespace}, or name its namespace (--namespace)");
        return Finding::fault(Area::Cluster, what, format!("{holder} leads, of another release than that of {namespace}"), todo);
    }
    let age = Timestamp::now().as_second() - renewed.as_second();
    if age > STALE_LEASE_SECONDS {
        let todo = format!("kubectl -n {namespace} get pods; kubectl -n {namespace} logs deploy/lowtide-operator");
        return Finding::fault(Area::Cluster, what, format!("{holder} last renewed its Lease {age} s ago"), todo);
    }
    Finding::good(Area::Cluster, what, format!("{holder}, renewed {} s ago", age.max(0)))
}

/// The objects of a kind that are not Ready, with the reason.
fn not_ready<'a>(all: impl Iterator<Item = (String, Option<&'a [Condition]>)>) -> Vec<String> {
    all.filter_map(|(name, conditions)| {
        let ready = conditions?.iter().find(|condition| condition.type_ == "Ready")?;
        (ready.status != ConditionStatus::True).then(|| format!("{name}: {} ({})", ready.message, ready.reason))
    })
    .collect()
}

async fn pools(client: &Client) -> Finding {
    let what = "node pools";
    let found = match call("list the pools", Api::<GpuNodePool>::all(client.clone()).list(&ListParams::default())).await {
        Ok(found) => found,
        Err(fault) => return refused(what, &fault),
    };
    if found.items.is_empty() {
        return Finding::note(
            Area::Cluster,
            what,
            "there is none",
            "apply a GpuNodePool: nothing is bought without one (examples/nodepool.yaml)",
        );
    }
    let wrong = not_ready(found.iter().map(|pool| (pool.name_any(), pool.status.as_ref().map(|status| status.conditions.as_slice()))));
    if wrong.is_empty() {
        return Finding::good(Area::Cluster, what, format!("{}", found.items.len()));
    }
    Finding::fault(Area::Cluster, what, wrong.join("; "), "kubectl describe gpunodepool")
}

async fn node_classes(client: &Client) -> (Finding, Vec<NodeClass>) {
    let what = "node classes";
    let found = match call("list the classes", Api::<GpuNodeClass>::all(client.clone()).list(&ListParams::default())).await {
        Ok(found) => found,
        Err(fault) => return (refused(what, &fault), Vec::new()),
    };
    let read: Vec<NodeClass> = found.iter().map(classes::read).collect();
    if read.is_empty() {
        let todo = "apply a GpuNodeClass for each region (examples/nodeclasses.yaml): AWS is looked at in their regions";
        return (Finding::note(Area::Cluster, what, "there is none", todo), read);
    }
    let wrong = not_ready(found.iter().map(|class| (class.name_any(), class.status.as_ref().map(|status| status.conditions.as_slice()))));
    let finding = if wrong.is_empty() {
        Finding::good(Area::Cluster, what, format!("{}", read.len()))
    } else {
        Finding::fault(Area::Cluster, what, wrong.join("; "), "kubectl describe gpunodeclass; the region's checks below may say more")
    };
    (finding, read)
}

async fn unreadable(client: &Client) -> Finding {
    let api: Api<DeserializeGuard<GpuNodeClaim>> = Api::all(client.clone());
    let what = "node claims";
    match call("list the claims", api.list(&ListParams::default())).await {
        Ok(found) => {
            let faults: Vec<String> =
                found.iter().filter_map(|claim| claims::read_guarded(claim).err().flatten()).map(|claim| claim.fault).collect();
            match faults.first() {
                None => Finding::good(Area::Cluster, what, format!("{}, all of which can be read", found.items.len())),
                Some(first) => {
                    let text = format!("{} cannot be read: {first}", faults.len());
                    Finding::fault(
                        Area::Cluster,
                        what,
                        text,
                        "run the version that wrote it, or correct the field; its machine is kept until then",
                    )
                }
            }
        }
        Err(fault) => refused(what, &fault),
    }
}

async fn outbox(client: &Client) -> Finding {
    let what = "records waiting";
    let limit = ListParams::default().limit(u32::try_from(FEW_RECORDS).unwrap_or(u32::MAX));
    match call("list the records", Api::<GpuDecision>::all(client.clone()).list_metadata(&limit)).await {
        Ok(found) if found.metadata.continue_.as_deref().unwrap_or_default().is_empty() => {
            Finding::good(Area::Cluster, what, format!("{} on their way to Postgres", found.items.len()))
        }
        Ok(_) => Finding::note(Area::Cluster, what, format!("more than {FEW_RECORDS}"), "Postgres is away, or was: see its checks below"),
        Err(fault) => refused(what, &fault),
    }
}

async fn clocks(clock: &ApiClock) -> Finding {
    for _ in 0..30 {
        if let Some(ahead) = clock.ahead() {
            let found = format!("{:.1} s ahead of this machine's", ahead.0 as f64 / 1_000.0);
            return if ahead.0.abs() > FAR {
                Finding::note(Area::Cluster, "API server's clock", found, "synchronise both with NTP")
            } else {
                Finding::good(Area::Cluster, "API server's clock", found)
            };
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Finding::note(Area::Cluster, "API server's clock", "not known: its answers carry no date", "nothing, if a proxy stands before it")
}
