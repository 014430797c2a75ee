//! `GpuNodeClass`: how a node is set up in one region.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::moment::Moment;
use super::node_settings::{BlockDevice, ImageInUse, KubeletSettings, NamedImage, NodeTaint, OwnUserData};
use super::schema;
use crate::core::units::money::MicroUsdPerHour;

/// How a node is set up in one region.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "lowtide.dev",
    version = "v1",
    kind = "GpuNodeClass",
    plural = "gpunodeclasses",
    shortname = "gnc",
    category = "lowtide",
    status = "GpuNodeClassStatus",
    derive = "PartialEq",
    doc = "How a GPU node is set up in one region: subnets, image, security groups, bootstrap and GPU sharing.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Bootstrap", type_ = "string", json_path = ".spec.bootstrap.kind"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images[*].id", priority = "1"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Template", type_ = "string", json_path = ".status.launchTemplate.name", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.image) != (has(self.images) && size(self.images) > 0)").message("spec needs either image (one for whatever is bought) or images (one for each architecture)"))]
#[x_kube(validation = Rule::new("!has(self.associatePublicIpAddress) || !has(self.capacityReservations) || size(self.capacityReservations) == 0").message("associatePublicIpAddress cannot be combined with capacityReservations: let the subnets assign addresses (mapPublicIpOnLaunch)"))]
#[x_kube(validation = Rule::new("!has(self.userData) || self.bootstrap.kind in ['k3s', 'kubeadm'] || (self.bootstrap.kind == 'eks' && !has(self.userData.after))").message("userData.before works for k3s, kubeadm and eks, userData.after for k3s and kubeadm: nodeadm joins after all scripts, and Bottlerocket runs none"))]
#[x_kube(validation = Rule::new("!has(self.blockDevices) || self.blockDevices.filter(d, has(d.holdsPods) && d.holdsPods).size() <= 1").message("at most one block device can have holdsPods"))]
pub struct GpuNodeClassSpec {
    /// The region. It cannot change: create another class.
    #[schemars(schema_with = "schema::region")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.region cannot change: create another GpuNodeClass"))]
    pub region: String,
    /// Subnets, at most one per zone. Their zone ids are read from EC2 and shown in the status.
    #[schemars(length(min = 1, max = 16), inner(length(max = 64), regex(pattern = r"^subnet-[a-z0-9-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub subnets: Vec<String>,
    /// The machine image, e.g. `ami-0123456789abcdef0`, for whatever is bought: its architecture is not looked at. Or use `images`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^ami-[a-z0-9-]+$"))]
    pub image: Option<String>,
    /// The machine image of each architecture; types of others are not bought. Looked up every hour, shown in the status; each claim keeps
    /// the one it was bought with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["architecture".into()]))]
    pub images: Vec<NamedImage>,
    /// Security groups.
    #[schemars(length(min = 1, max = 16), inner(length(max = 64), regex(pattern = r"^sg-[a-z0-9-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub security_groups: Vec<String>,
    /// Name of the instance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub instance_profile: Option<String>,
    /// How a machine becomes a node of this cluster.
    pub bootstrap: Bootstrap,
    /// How pods share a GPU.
    #[serde(default)]
    pub gpu_sharing: GpuSharing,
    /// Name of the SQS queue in this region that EventBridge sends interruption notices to. Absent: interruptions are only seen by the node
    /// agent and in EC2's own state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[A-Za-z0-9_-]+(\.fifo)?$"))]
    pub interruption_queue: Option<String>,
    /// Capacity reservations (ODCR) in this region that nodes may be launched into. Used before anything more expensive by pools whose
    /// `capacityTypes` include `reserved`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub capacity_reservations: Vec<NamedCapacityReservation>,
    /// The size of the image's root volume, in GiB: pods' `ephemeral-storage` is counted against it if a type has no larger instance store.
    /// Absent: that of the block device with `holdsPods`, otherwise 20, as in EKS's own images. It does not change the volume: `blockDevices` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 8, max = 16384))]
    pub root_volume_gib: Option<u32>,
    /// EBS volumes. Absent: the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["deviceName".into()]))]
    pub block_devices: Vec<BlockDevice>,
    /// Whether nodes have a public address. Absent: as the subnet says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associate_public_ip_address: Option<bool>,
    /// Network hops after which answers of instance metadata are dropped. 1, the default, keeps them from every pod outside the host network;
    /// more requires Terraform's `node_hop_limit`. IMDSv2 is always required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 64))]
    pub metadata_hop_limit: Option<i32>,
    /// The placement group that nodes are launched into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub placement_group: Option<String>,
    /// Launches on hardware of this account's own, which costs more than the prices that lowtide compares.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated_tenancy: bool,
    /// CloudWatch metrics every minute, which cost extra.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detailed_monitoring: bool,
    /// Labels that every node registers with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('lowtide.dev/') && !key.contains('.lowtide.dev/') && (!(key.contains('kubernetes.io/') || key.contains('k8s.io/')) || key.startsWith('node.kubernetes.io/') || key.startsWith('kubelet.kubernetes.io/')))").message("labels of lowtide.dev are lowtide's, and kubelets may not set those of kubernetes.io but under node.kubernetes.io and kubelet.kubernetes.io"))]
    #[x_kube(validation = Rule::new("self.all(key, size(self[key]) <= 63)").message("a label's value has at most 63 characters"))]
    pub labels: BTreeMap<String, String>,
    /// Taints that every node registers with; only pods that tolerate them are placed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub taints: Vec<NodeTaint>,
    /// Taints that every node registers with until whoever prepares it (a network plugin, a driver) takes them off: no pod needs to tolerate
    /// them, and a node that keeps one has not joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub startup_taints: Vec<NodeTaint>,
    /// Settings of the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletSettings>,
    /// Scripts of yours around lowtide's user data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<OwnUserData>,
    /// Tags added to instances. Keys without `/`, so that instance metadata can show them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 40))]
    #[x_kube(validation = Rule::new("self.all(key, !key.contains('/') && !key.startsWith('lowtide-') && !key.startsWith('aws:'))").message("a tag key must not contain / and must not start with lowtide- or aws:"))]
    pub tags: BTreeMap<String, String>,
}

/// A capacity reservation. Its type and zone are read from EC2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedCapacityReservation {
    /// Its id, e.g. `cr-0123456789abcdef0`.
    #[schemars(length(max = 64), regex(pattern = r"^cr-[a-z0-9-]+$"))]
    pub id: String,
    /// Cost of one of its machines per hour, in US dollars. Zero, the default, means that it is paid for whether it is used or not.
    #[serde(default)]
    #[schemars(schema_with = "schema::sunk_price")]
    pub price_per_hour: MicroUsdPerHour,
}

/// How a machine becomes a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.kind in ['eks', 'bottlerocket'] || (has(self.tokenParameter) && self.tokenParameter != '')").message("bootstrap.tokenParameter is required for k3s and kubeadm: the name of an SSM parameter, never the token itself"))]
#[x_kube(validation = Rule::new("self.kind != 'eks' || (has(self.extra) && ['clusterName', 'certificateAuthority', 'serviceCidr'].all(k, k in self.extra))").message("bootstrap.extra requires clusterName, certificateAuthority and serviceCidr for eks"))]
#[x_kube(validation = Rule::new("self.kind != 'bottlerocket' || (has(self.extra) && ['clusterName', 'certificateAuthority'].all(k, k in self.extra))").message("bootstrap.extra requires clusterName and certificateAuthority for bottlerocket"))]
#[x_kube(validation = Rule::new("self.kind != 'kubeadm' || (has(self.extra) && 'caCertHash' in self.extra)").message("bootstrap.extra requires caCertHash for kubeadm, e.g. sha256:..."))]
pub struct Bootstrap {
    /// The bootstrap software on the image.
    pub kind: BootstrapKind,
    /// The API server's address as nodes reach it, e.g. `https://10.0.0.10:6443`.
    #[schemars(length(max = 256), regex(pattern = r"^https://[^ ]+$"))]
    pub server_url: String,
    /// Name of the SSM parameter (SecureString) that holds the join token, e.g. `/lowtide/k3s-token`. Never the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^/[a-zA-Z0-9_./-]+$"))]
    pub token_parameter: Option<String>,
    /// What else the kind needs: k3s: additional keys for its `config.yaml`; kubeadm: `caCertHash`; eks: `clusterName`,
    /// `certificateAuthority`, `serviceCidr`; bottlerocket: `clusterName`, `certificateAuthority` and optionally `clusterDnsIp`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub extra: BTreeMap<String, String>,
}

/// The bootstrap software on the image, which determines the user data it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootstrapKind {
    /// k3s, reading `/etc/rancher/k3s/config.yaml`.
    K3s,
    /// kubeadm, reading a JoinConfiguration.
    Kubeadm,
    /// EKS's nodeadm, reading a NodeConfig.
    Eks,
    /// Bottlerocket of EKS, reading its settings as TOML.
    Bottlerocket,
}

/// How pods share a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'exclusive' ? self.replicas == 1 : self.replicas >= 2").message("gpuSharing.replicas must be 1 for exclusive and at least 2 otherwise"))]
pub struct GpuSharing {
    /// How.
    #[serde(default)]
    pub mode: SharingMode,
    /// Pods per GPU; 1 for `exclusive`.
    #[serde(default = "one")]
    #[schemars(with = "i32", range(min = 1, max = 48))]
    pub replicas: u32,
    /// GPU memory that each pod's context takes in addition to what the pod asks for, in MiB; not counted for `exclusive`.
    #[serde(default = "default_context_reserve_mib")]
    #[schemars(with = "i32", range(min = 0, max = 16384))]
    pub context_reserve_mib: u32,
}

/// Ways of sharing a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SharingMode {
    /// One pod has the whole GPU.
    #[default]
    Exclusive,
    /// Pods take turns; their memory is not isolated.
    TimeSlicing,
    /// Multi-Process Service: pods run concurrently, memory is limited.
    Mps,
    /// Multi-Instance GPU: the GPU is partitioned.
    Mig,
}

/// What EC2 reported about the class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeClassStatus {
    /// `Ready`: nodes can be launched; otherwise why not, e.g. `UnknownSubnet`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The zone id of each subnet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zones: BTreeMap<String, String>,
    /// The name of each of these zones in this account, by zone id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zone_names: BTreeMap<String, String>,
    /// The image of each architecture that is used for what is bought now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["architecture".into()]))]
    pub images: Vec<ImageInUse>,
    /// When the images were looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_looked_up_at: Option<Moment>,
    /// The launch template created from this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateRef>,
    /// The generation this refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A launch template in EC2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplateRef {
    /// Its name: `lowtide-<hash>`.
    pub name: String,
    /// Its version.
    pub version: String,
}

fn one() -> u32 {
    1
}

/// What a CUDA context takes on current GPUs, rounded up; measure your own.
fn default_context_reserve_mib() -> u32 {
    500
}

impl Default for GpuSharing {
    fn default() -> Self {
        GpuSharing { mode: SharingMode::Exclusive, replicas: one(), context_reserve_mib: default_context_reserve_mib() }
    }
}
