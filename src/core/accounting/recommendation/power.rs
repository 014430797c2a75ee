//! How much longer work may take on another GPU.
//!
//! Decides: what is assumed of models whose figures NVIDIA publishes. Does not: guess those of others: they are never recommended.

use crate::core::market::catalog::MachineType;
use crate::core::units::ids::GpuModel;

/// Model, the least memory of a whole one in MiB, dense FP16 tensor TFLOPS, and memory bandwidth in GB/s. Of several forms of a model the weakest.
///
/// Source: NVIDIA's data sheets of T4, V100 (SXM2), A10G, L4, L40S, A100 (40 GB), H100 (SXM5) and H200, without sparsity; memory as EC2 has it.
const PUBLISHED: [(&str, i64, i64, i64); 8] = [
    ("t4", 16_384, 65, 320),
    ("v100", 16_384, 125, 900),
    ("a10g", 22_888, 70, 600),
    ("l4", 22_888, 121, 300),
    ("l40s", 45_776, 362, 864),
    ("a100", 40_960, 312, 1_555),
    ("h100", 81_920, 989, 3_350),
    ("h200", 144_384, 989, 4_800),
];

fn published(model: &GpuModel) -> Option<(i64, i64, i64)> {
    PUBLISHED.iter().find(|(name, ..)| *name == model.as_str()).map(|(_, whole, flops, bandwidth)| (*whole, *flops, *bandwidth))
}

/// How much longer work takes on a GPU of `to` than on the strongest of `from`, in thousandths: by throughput or by bandwidth, whichever is worse. A part of a GPU
/// has the part of its model's power that it has of the memory. `None` where a model's figures are not known.
pub(super) fn slower_per_mille<'a>(from: impl Iterator<Item = &'a MachineType>, to: &MachineType) -> Option<i64> {
    let mut strongest = (0, 0);
    for machine in from {
        let (_, flops, bandwidth) = published(&machine.gpu_model)?;
        strongest = (flops.max(strongest.0), bandwidth.max(strongest.1));
    }
    let (whole, flops, bandwidth) = published(&to.gpu_model)?;
    let slower = |from: i64, of_whole: i64| {
        let (from, part) =
            (i128::from(from) * 1_000 * i128::from(whole), i128::from(of_whole) * i128::from(to.gpu_memory.0.clamp(1, whole)));
        i64::try_from((from + part - 1) / part).ok()
    };
    Some(slower(strongest.0, flops)?.max(slower(strongest.1, bandwidth)?))
}
