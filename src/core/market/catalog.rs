//! What an instance type is: its GPUs, CPU and memory, and how much of them pods can use.
//!
//! Decides: how a fractional GPU is counted.
//! Does not: know any price (see `market`) or where a type is sold (see `market_snapshot`).

use super::reserve::NodeReserve;
use crate::core::units::ids::{GpuModel, InstanceType};
use crate::core::units::{Mebibytes, Millicores, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// DescribeInstanceTypes at the time of this release: see `data/catalog/SOURCES.md`.
const SNAPSHOT: &str = include_str!("../../../data/catalog/gpu_instance_types.csv");

/// The root volume of a node whose class sets none: 20 GiB, as in EKS's own images.
pub const ROOT_VOLUME: Mebibytes = Mebibytes(20 * 1_024);

/// A processor architecture, by EC2's and Kubernetes' names.
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
    /// E.g. `g6.xlarge`.
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
    /// Total instance store (NVMe), if any.
    #[serde(default)]
    pub instance_store: Mebibytes,
    /// EBS volumes that pods can attach to a node of it.
    #[serde(default = "common_volumes")]
    pub volumes: i64,
}

/// Where EC2 does not say: 27 attachments beside the first network interface, as AWS's EBS driver assumes, shared.
pub fn common_volumes() -> i64 {
    volumes_for_pods(27, true)
}

/// Of so many attachments, what pods can have: the root volume takes one; where network interfaces count, two more than the first are
/// attached, as the VPC CNI does on a node with a few dozen pods.
///
/// Source: `getVolumesLimit` of AWS's EBS driver, which reports this on each node (`CSINode`), by the interfaces that are there when it starts.
pub fn volumes_for_pods(attachments: i64, shared: bool) -> i64 {
    (attachments - 1 - if shared { 2 } else { 0 }).max(1)
}

/// All types known, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The types.
    pub types: BTreeMap<InstanceType, MachineType>,
}

/// Why a catalog could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalog row {row}: {fault}; expected the columns of data/catalog/gpu_instance_types.csv")]
pub struct CatalogError {
    /// The row, counted from 1 without the header; 0 is the header.
    pub row: usize,
    /// What was wrong.
    pub fault: String,
}

/// The columns of `gpu_instance_types.csv` that the planner reads.
#[derive(Deserialize)]
struct TypeRow {
    r#type: String,
    gpu_model: String,
    vcpu: i64,
    mem_gib: String,
    arch: String,
    gpu_mem_mib_each: Option<i64>,
    nvme_gb: Option<i64>,
    logical_gpu_count: i64,
    usage_classes: String,
    ebs_attachments: Option<i64>,
    ebs_attachments_shared: Option<bool>,
}

/// `30.5` GiB is 31232 MiB; digits only, no float.
fn mebibytes_of_gib(text: &str) -> Option<Mebibytes> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let scale = 10_i64.checked_pow(u32::try_from(part.len()).ok()?)?;
    Some(Mebibytes(whole.parse::<i64>().ok()? * 1_024 + part.parse::<i64>().ok()? * 1_024 / scale))
}

impl GpuModel {
    /// Our name for a model from EC2's spelling: lower case, spaces as dashes (`RTX PRO 4500` is `rtx-pro-4500`).
    pub fn from_ec2(name: &str) -> GpuModel {
        GpuModel::from(name.trim().to_ascii_lowercase().replace(' ', "-"))
    }
}

impl Catalog {
    /// The catalog that ships with lowtide: every NVIDIA type that DescribeInstanceTypes described, dated in `SOURCES.md`.
    ///
    /// A row without GPU memory (p6e-gb200, sold by Capacity Block only and never seen in the API) is left out: unknown values are not
    /// guessed.
    pub fn snapshot() -> Catalog {
        // The shipped file is part of the program; a test reads every row.
        Catalog::from_csv(SNAPSHOT).unwrap_or_default()
    }

    /// Reads a catalog with the columns of `gpu_instance_types.csv`.
    pub fn from_csv(text: &str) -> Result<Catalog, CatalogError> {
        let mut types = BTreeMap::new();
        for (index, row) in csv::Reader::from_reader(text.as_bytes()).deserialize::<TypeRow>().enumerate() {
            let bad = |fault: String| CatalogError { row: index + 1, fault };
            let row = row.map_err(|e| bad(e.to_string()))?;
            let Some(gpu_memory) = row.gpu_mem_mib_each else { continue };
            let architecture = match row.arch.as_str() {
                "x86_64" => Architecture::Amd64,
                "arm64" => Architecture::Arm64,
                other => return Err(bad(format!("architecture {other:?} is neither x86_64 nor arm64"))),
            };
            let machine = MachineType {
                instance_type: InstanceType::from(row.r#type),
                gpu_model: GpuModel::from_ec2(&row.gpu_model),
                gpus: row.logical_gpu_count,
                gpu_memory: Mebibytes(gpu_memory),
                vcpus: row.vcpu,
                memory: mebibytes_of_gib(&row.mem_gib).ok_or_else(|| bad(format!("memory {:?} is not a number of GiB", row.mem_gib)))?,
                architecture,
                spot_supported: row.usage_classes.split('|').any(|class| class == "spot"),
                // EC2 counts instance store in GB of 10^9 bytes.
                instance_store: Mebibytes(row.nvme_gb.unwrap_or(0) * 1_000_000_000 / (1 << 20)),
                volumes: row.ebs_attachments.map_or_else(common_volumes, |n| volumes_for_pods(n, row.ebs_attachments_shared == Some(true))),
            };
            types.insert(machine.instance_type.clone(), machine);
        }
        Ok(Catalog { types })
    }

    /// The GPU models known, sorted.
    pub fn models(&self) -> Vec<GpuModel> {
        let set: std::collections::BTreeSet<_> = self.types.values().map(|m| m.gpu_model.clone()).collect();
        set.into_iter().collect()
    }
}

impl MachineType {
    /// What pods can use of this machine, before daemonsets, if its node keeps what EKS's own images do.
    pub fn allocatable(&self) -> Resources {
        self.allocatable_of(&NodeReserve::default())
    }

    /// The same if its node keeps `reserve`. All GPUs are allocatable.
    pub fn allocatable_of(&self, reserve: &NodeReserve) -> Resources {
        let (cpu, memory) = reserve.leaves(self.vcpus, self.memory);
        Resources { cpu, memory, gpus: self.gpus, disk: self.disk(ROOT_VOLUME), volumes: self.volumes }
    }

    /// What pods can use of its disk if the root volume has `root`: of the instance store, on which the user data of our node classes
    /// puts kubelet and container runtime, or of the root volume, whichever is larger; less 15 %.
    ///
    /// The kubelet evicts below 10 % free (`nodefs.available<10%`) and reserves that; file system and system image take the rest.
    pub fn disk(&self, root: Mebibytes) -> Mebibytes {
        Mebibytes(self.instance_store.0.max(root.0) * 85 / 100)
    }

    /// What the machine has, before anything is reserved.
    pub fn capacity(&self) -> Resources {
        Resources {
            cpu: Millicores(self.vcpus * 1_000),
            memory: self.memory,
            gpus: self.gpus,
            disk: self.instance_store.max(ROOT_VOLUME),
            volumes: self.volumes,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::market::catalog::*;

    #[test]
    fn the_shipped_catalog_reads_and_counts_fractional_gpus_as_one() {
        let catalog = Catalog::from_csv(SNAPSHOT).unwrap();
        assert_eq!(catalog.types.len(), 77, "77 types have GPU memory; p6e-gb200 has none");
        let part = &catalog.types[&InstanceType::from("g6f.large")];
        assert_eq!((part.gpus, part.gpu_memory, part.gpu_model.as_str()), (1, Mebibytes(2_861), "l4"));
        let metal = &catalog.types[&InstanceType::from("g5g.metal")];
        assert_eq!((metal.gpus, metal.architecture), (2, Architecture::Arm64));
        assert!(catalog.models().contains(&GpuModel::from("rtx-pro-4500")));
        assert!(Catalog::from_csv("type,gpu_model\nx,y\n").is_err());
    }

    /// Eight GPUs, and volumes for six pods with one each.
    #[test]
    fn a_type_whose_accelerators_and_interfaces_count_has_few_volumes_left() {
        let catalog = Catalog::snapshot();
        let of = |name: &str| catalog.types[&InstanceType::from(name)].volumes;
        assert_eq!(["g5.48xlarge", "g5.xlarge", "p3.16xlarge", "p5.48xlarge"].map(of), [6, 22, 38, 63]);
        assert!(catalog.types.values().all(|t| t.volumes >= 6));
    }

    #[test]
    fn allocatable_follows_the_reserve_formula_by_hand() {
        let catalog = Catalog::snapshot();
        let of = |name: &str| catalog.types[&InstanceType::from(name)].allocatable();
        // 4 cores: 60 + 10 + 5 + 5 = 80 m. 16384 - 1229 - 255 - 1210 - 100.
        assert_eq!(
            of("g6.xlarge"),
            Resources { cpu: Millicores(3_920), memory: Mebibytes(13_590), gpus: 1, disk: Mebibytes(202_655), volumes: 31 }
        );
        // 250 GB are 238,418 MiB; 85 % of them. A type without instance store has the root volume: 20,480 MiB.
        assert_eq!(of("p3.2xlarge").disk, Mebibytes(17_408));
        // 192 cores: 80 + 188 * 2.5 = 550 m. 786432 - 58983 - 255 - 2750 - 100.
        assert_eq!(
            of("g6.48xlarge"),
            Resources { cpu: Millicores(191_450), memory: Mebibytes(724_344), gpus: 8, disk: of("g6.48xlarge").disk, volumes: 127 }
        );
    }
}
