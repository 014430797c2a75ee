//! What a `GpuNodeClass` says of images, disks, kubelet, labels and taints.
//!
//! Decides: which combinations EC2 and kubelets would refuse, in a sentence where the user stands.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The image of one architecture: exactly one of `id`, `parameter`, `alias` and `newest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.id), has(self.parameter), has(self.alias), has(self.newest)].filter(x, x).size() == 1").message("an image is named by exactly one of id, parameter, alias and newest"))]
pub struct NamedImage {
    /// The architecture of the machines that boot it.
    pub architecture: ImageArchitecture,
    /// Its id, e.g. `ami-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^ami-[a-z0-9-]+$"))]
    pub id: Option<String>,
    /// The SSM parameter that holds its id, e.g. `/aws/service/...` or one of yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1011), regex(pattern = r"^/[a-zA-Z0-9_./-]+$"))]
    pub parameter: Option<String>,
    /// A published image and the cluster's Kubernetes version, e.g. `al2023-nvidia@1.33`, `bottlerocket-nvidia@1.33`,
    /// `ubuntu-eks-24.04@1.33` (which has no NVIDIA driver of its own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^(al2023-nvidia|bottlerocket-nvidia|ubuntu-eks-24\.04)@1\.[0-9]{2}$"))]
    pub alias: Option<String>,
    /// The newest of the images that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestImage>,
}

/// Images of one owner, by name and tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) || (has(self.tags) && size(self.tags) > 0)").message("newest requires a name or tags: whatever its owner made last would be booted"))]
pub struct NewestImage {
    /// The account that owns them, or `self`, `amazon`. Never left open: anybody may publish an image of any name.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{12}|self|amazon)$"))]
    pub owner: String,
    /// Their name, with `*` and `?`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// Tags that they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub tags: BTreeMap<String, String>,
}

/// Kubernetes' words for the architectures that lowtide buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageArchitecture {
    /// x86_64.
    Amd64,
    /// arm64, as of g5g.
    Arm64,
}

/// An image that was found for an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageInUse {
    /// The architecture.
    pub architecture: ImageArchitecture,
    /// Its id: what is bought from now on boots it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it was looked up.
    pub source: String,
}

/// An EBS volume of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.sizeGib) || has(self.snapshotId)").message("a block device requires sizeGib or snapshotId"))]
#[x_kube(validation = Rule::new("!has(self.iops) || self.volumeType in ['gp3', 'io1', 'io2']").message("iops can be set for gp3, io1 and io2 only"))]
#[x_kube(validation = Rule::new("has(self.iops) || !(self.volumeType in ['io1', 'io2'])").message("io1 and io2 require iops"))]
#[x_kube(validation = Rule::new("!has(self.throughputMibps) || self.volumeType == 'gp3'").message("throughputMibps can be set for gp3 only"))]
#[x_kube(validation = Rule::new("!has(self.kmsKeyId) || (has(self.encrypted) && self.encrypted)").message("kmsKeyId requires encrypted: true"))]
pub struct BlockDevice {
    /// The device as the image names it: `/dev/xvda` is the root of Amazon Linux and of Bottlerocket (whose data are on `/dev/xvdb`),
    /// `/dev/sda1` that of Ubuntu.
    #[schemars(length(max = 32), regex(pattern = r"^/dev/[a-z0-9]+$"))]
    pub device_name: String,
    /// Its size, in GiB. Absent: that of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 16384))]
    pub size_gib: Option<i32>,
    /// Its type.
    #[serde(default = "gp3")]
    #[schemars(length(max = 8), regex(pattern = r"^(gp2|gp3|io1|io2|st1|sc1|standard)$"))]
    pub volume_type: String,
    /// Operations per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 100, max = 256000))]
    pub iops: Option<i32>,
    /// Throughput, in MiB per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 125, max = 2000))]
    pub throughput_mibps: Option<i32>,
    /// Whether it is encrypted. Absent: as the account's default is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// The KMS key: id, ARN or `alias/...`. Absent: the account's default key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// A snapshot that it begins as: with container images or model weights on it, nothing has to be pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^snap-[a-z0-9-]+$"))]
    pub snapshot_id: Option<String>,
    /// Kubelet and container runtime are on it: `ephemeral-storage` of pods is counted against its size, if a type has no larger instance
    /// store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_pods: bool,
}

fn gp3() -> String {
    "gp3".to_owned()
}

/// Settings of the kubelet. What is kept is not offered to pods, in lowtide's plans and on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.imageGcHighThresholdPercent) == has(self.imageGcLowThresholdPercent) && (!has(self.imageGcHighThresholdPercent) || self.imageGcLowThresholdPercent < self.imageGcHighThresholdPercent)").message("kubelet.imageGcHighThresholdPercent and imageGcLowThresholdPercent are set together, the low one below the high one"))]
pub struct KubeletSettings {
    /// The most pods on a node, those of DaemonSets included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 16, max = 1000))]
    pub max_pods: Option<u32>,
    /// CPU, memory and disk for kubelet and container runtime. Absent: what the image sets; lowtide plans with EKS's formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_reserved: Option<Reserved>,
    /// The same for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_reserved: Option<Reserved>,
    /// Images are removed when their disk is fuller than this, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 100))]
    pub image_gc_high_threshold_percent: Option<u32>,
    /// ... until it is this full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0, max = 99))]
    pub image_gc_low_threshold_percent: Option<u32>,
}

/// What is kept of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reserved {
    /// CPU, in millicores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 64000))]
    pub cpu_millicores: Option<u32>,
    /// Memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 1048576))]
    pub memory_mib: Option<u32>,
}

/// A taint of every node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaint {
    /// Its key.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum TaintEffect {
    /// They are not scheduled.
    NoSchedule,
    /// They are rather not scheduled.
    PreferNoSchedule,
    /// They are not scheduled, and those that run are evicted.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn word(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        }
    }
}

/// Scripts around what lowtide's user data does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnUserData {
    /// A script that runs before the machine joins. It begins with `#!`, and must not hold secrets: whoever may describe launch templates reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192), regex(pattern = r"^#!"))]
    pub before: Option<String>,
    /// A script that runs after it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192), regex(pattern = r"^#!"))]
    pub after: Option<String>,
}
