//! What an instance type is: its GPUs, CPU and memory, and what of them a pod can use.
//!
//! Decides: how a fractional GPU is counted, and what kubelet and system keep back.
//! Does not: know any price (see `market`) or where a type is sold.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::ids::{GpuModel, InstanceType};

/// CPU in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millicores(pub i64);

/// Memory in MiB (2^20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub i64);

/// A processor architecture, as EC2 and Kubernetes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86_64 in EC2, amd64 in Kubernetes.
    Amd64,
    /// arm64 in both.
    Arm64,
}

/// An instance type as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineType {
    /// As in `g6.xlarge`.
    pub instance_type: InstanceType,
    /// The GPU model, lower case.
    pub gpu_model: GpuModel,
    /// Schedulable GPUs: `LogicalGpuCount`, so a fractional type counts one.
    ///
    /// Source: DescribeInstanceTypes reports `Count = 0` for g6f and gr6f, with `LogicalGpuCount = 1` and a `GpuPartitionSize`.
    pub gpus: i64,
    /// Memory of **each** schedulable GPU, as the API says (an L4 is 22888 MiB, not 24 GB).
    pub gpu_memory: Mebibytes,
    /// vCPUs of the machine.
    pub vcpus: i64,
    /// Memory of the machine.
    pub memory: Mebibytes,
    /// Processor architecture.
    pub architecture: Architecture,
    /// The market supports spot for this type (`SupportedUsageClasses`).
    pub spot_supported: bool,
}

/// What pods can use of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// CPU.
    pub cpu: Millicores,
    /// Memory.
    pub memory: Mebibytes,
    /// `nvidia.com/gpu` units.
    pub gpus: i64,
}

/// All types known, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The types.
    pub types: BTreeMap<InstanceType, MachineType>,
}
