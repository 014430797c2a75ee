//! How the nodes of a class share their GPUs between pods.
//!
//! Decides: how many schedulable units a machine has, and how much GPU memory a pod can use of each.
//! Does not: set up a device plugin; a node class declares what its image does.

use serde::{Deserialize, Serialize};

use crate::core::market::catalog::MachineType;
use crate::core::units::Mebibytes;

/// How GPUs are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Sharing {
    /// One pod per GPU.
    #[default]
    Exclusive,
    /// NVIDIA device plugin time-slicing: each GPU counts `replicas` times, without isolation.
    TimeSlicing {
        /// Pods per GPU, at least 1.
        replicas: i64,
    },
    /// NVIDIA MPS: each GPU counts `replicas` times, with equal shares of its memory.
    Mps {
        /// Pods per GPU, at least 1.
        replicas: i64,
    },
    /// MIG: each GPU is partitioned into `replicas` instances of the largest profile that fits that many times. Models without MIG are
    /// refused.
    Mig {
        /// Instances per GPU, e.g. 7 for `1g.10gb` on an H100.
        replicas: i64,
    },
}

/// How GPUs are shared, and what each process takes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct GpuSharing {
    /// How.
    #[serde(flatten)]
    pub sharing: Sharing,
    /// GPU memory that each process takes for its context, in addition to what its pod requests; zero if GPUs are exclusive, because the
    /// pod's own figure includes it.
    #[serde(default)]
    pub context_reserve: Mebibytes,
}

/// Schedulable GPU units of one machine: what its node advertises as `nvidia.com/gpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuUnits {
    /// How many.
    pub count: i64,
    /// Memory a pod can use of each.
    pub memory: Mebibytes,
    /// The most one pod may ask for: all when exclusive, one when shared (two units may be the same GPU).
    pub most_per_pod: i64,
}

/// MIG: model, memory of the whole GPU in MiB, instances per GPU, memory of each in MiB.
///
/// Source: NVIDIA MIG User Guide, "Supported MIG Profiles": the largest profile of which that many fit on one GPU. Memory as the
/// profile's name says (1g.5gb, 2g.10gb, ...), taken as GB of 10^9 bytes and rounded down to MiB, so never more than there is.
const MIG_PROFILES: &[(&str, i64, i64, i64)] = &[
    ("a100", 40_960, 7, 4_768),
    ("a100", 40_960, 3, 9_536),
    ("a100", 40_960, 2, 19_073),
    ("a100", 81_920, 7, 9_536),
    ("a100", 81_920, 4, 19_073),
    ("a100", 81_920, 3, 19_073),
    ("a100", 81_920, 2, 38_146),
    ("h100", 81_920, 7, 9_536),
    ("h100", 81_920, 4, 19_073),
    ("h100", 81_920, 3, 19_073),
    ("h100", 81_920, 2, 38_146),
    ("h200", 144_384, 7, 17_166),
    ("h200", 144_384, 4, 33_378),
    ("h200", 144_384, 3, 33_378),
    ("h200", 144_384, 2, 67_710),
];

impl GpuSharing {
    /// The units of `machine`; none if its model cannot be shared that way.
    pub fn units(&self, machine: &MachineType) -> GpuUnits {
        let shared = |per_gpu: i64, memory: i64| GpuUnits {
            count: machine.gpus * per_gpu,
            memory: Mebibytes((memory - self.context_reserve.0).max(0)),
            most_per_pod: 1,
        };
        match self.sharing {
            Sharing::Exclusive => GpuUnits { count: machine.gpus, memory: machine.gpu_memory, most_per_pod: machine.gpus },
            Sharing::TimeSlicing { replicas } | Sharing::Mps { replicas } => {
                let replicas = replicas.max(1);
                shared(replicas, machine.gpu_memory.0 / replicas)
            }
            Sharing::Mig { replicas } => {
                let known = MIG_PROFILES.iter().find(|(model, whole, count, _)| {
                    *model == machine.gpu_model.as_str() && *whole == machine.gpu_memory.0 && *count == replicas
                });
                known.map_or(shared(0, 0), |(_, _, count, memory)| shared(*count, *memory))
            }
        }
    }

    /// Whether a GPU may be used by more than one pod.
    pub fn is_shared(&self) -> bool {
        self.sharing != Sharing::Exclusive
    }
}

impl std::fmt::Display for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sharing::Exclusive => f.write_str("exclusive"),
            Sharing::TimeSlicing { replicas } => write!(f, "time-slicing-{replicas}"),
            Sharing::Mps { replicas } => write!(f, "mps-{replicas}"),
            Sharing::Mig { replicas } => write!(f, "mig-{replicas}"),
        }
    }
}

impl std::str::FromStr for Sharing {
    type Err = ();

    /// The reverse of `Display`, e.g. `mps-4`.
    fn from_str(text: &str) -> Result<Sharing, ()> {
        if text == "exclusive" {
            return Ok(Sharing::Exclusive);
        }
        let (mode, replicas) = text.rsplit_once('-').ok_or(())?;
        let replicas: i64 = replicas.parse().map_err(drop)?;
        match mode {
            "time-slicing" => Ok(Sharing::TimeSlicing { replicas }),
            "mps" => Ok(Sharing::Mps { replicas }),
            "mig" => Ok(Sharing::Mig { replicas }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::market::catalog::Catalog;
    use crate::core::workload::sharing::*;

    #[test]
    fn units_count_and_share_memory_as_the_mode_says() {
        let catalog = Catalog::snapshot();
        let of = |sharing, name: &str| {
            let units = GpuSharing { sharing, context_reserve: Mebibytes(500) }.units(&catalog.types[&name.into()]);
            (units.count, units.memory.0, units.most_per_pod)
        };
        assert_eq!(of(Sharing::Exclusive, "g6.12xlarge"), (4, 22_888, 4));
        assert_eq!(of(Sharing::Mps { replicas: 4 }, "g6.12xlarge"), (16, 5_222, 1));
        assert_eq!(of(Sharing::TimeSlicing { replicas: 2 }, "g6.xlarge"), (2, 10_944, 1));
        assert_eq!(of(Sharing::Mig { replicas: 7 }, "p5.48xlarge"), (56, 9_036, 1));
        assert_eq!(of(Sharing::Mig { replicas: 7 }, "g6.xlarge"), (0, 0, 1), "an L4 has no MIG");
        assert_eq!(of(Sharing::Mig { replicas: 5 }, "p5.48xlarge"), (0, 0, 1), "no profile of which five fit");
        for sharing in
            [Sharing::Exclusive, Sharing::TimeSlicing { replicas: 2 }, Sharing::Mps { replicas: 4 }, Sharing::Mig { replicas: 7 }]
        {
            assert_eq!(sharing.to_string().parse(), Ok(sharing));
        }
        assert_eq!("mps-many".parse::<Sharing>(), Err(()));
    }
}
