//! CPU, memory and GPU units: what a machine has and what pods ask for.

use serde::{Deserialize, Serialize};

/// CPU in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millicores(pub i64);

/// Memory in MiB (2^20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub i64);

/// What pods can use of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// CPU.
    pub cpu: Millicores,
    /// Memory.
    pub memory: Mebibytes,
    /// `nvidia.com/gpu` units.
    pub gpus: i64,
    /// Disk for containers' own files, logs and images (`ephemeral-storage`).
    #[serde(default)]
    pub disk: Mebibytes,
    /// EBS volumes that are attached.
    #[serde(default)]
    pub volumes: i64,
}

impl Resources {
    /// Subtracts `other`; the result may be negative.
    pub fn take(&mut self, other: Resources) {
        self.cpu.0 -= other.cpu.0;
        self.memory.0 -= other.memory.0;
        self.gpus -= other.gpus;
        self.disk.0 -= other.disk.0;
        self.volumes -= other.volumes;
    }
}
