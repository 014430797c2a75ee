//! What kubelet and system keep of a machine for themselves, so that pods cannot use it.
//!
//! Decides: what is allocatable of a machine before it exists. What a node says once it has joined counts instead.

use crate::core::units::{Mebibytes, Millicores};

/// Pods of DaemonSets and of the node itself that a bound on pods is shared with: network, proxy, device plugin, and agents for logs and
/// metrics.
const SYSTEM_PODS: i64 = 8;

/// What the nodes of a class keep; the default is what EKS's own images keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NodeReserve {
    /// CPU for kubelet and container runtime (`kubeReserved.cpu`).
    pub kube_cpu: Option<Millicores>,
    /// Memory for them (`kubeReserved.memory`).
    pub kube_memory: Option<Mebibytes>,
    /// CPU for the system (`systemReserved.cpu`).
    pub system_cpu: Millicores,
    /// Memory for the system (`systemReserved.memory`).
    pub system_memory: Mebibytes,
    /// The most pods on a node (`maxPods`).
    pub max_pods: Option<i64>,
}

impl NodeReserve {
    /// What pods can use of this many vCPUs and this much memory, before daemonsets.
    ///
    /// - CPU: capacity less what is kept; by default 6 % of the first core, 1 % of the second, 0.5 % of the third and fourth, 0.25 % of the
    ///   rest. Source: EKS bootstrap and nodeadm, `kubeReserved.cpu`.
    /// - Memory: capacity less 7.5 % that firmware and kernel keep (Karpenter's default `VM_MEMORY_OVERHEAD_PERCENT`), less what is kept, by
    ///   default 255 MiB + 11 MiB per pod (EKS `kubeReserved.memory`; 110 pods up to 30 vCPUs, else 250, the EKS bound for prefix
    ///   delegation), less 100 MiB eviction threshold (kubelet default `memory.available<100Mi`).
    ///
    /// Integer arithmetic, rounded against us.
    pub fn leaves(&self, cores: i64, whole: Mebibytes) -> (Millicores, Mebibytes) {
        // In hundredths of a millicore, so that 2.5 millicores stay whole.
        let by_formula = 6_000 * cores.min(1) + 1_000 * (cores - 1).clamp(0, 1) + 500 * (cores - 2).clamp(0, 2) + 250 * (cores - 4).max(0);
        let cpu = self.kube_cpu.map_or((by_formula + 99) / 100, |kept| kept.0) + self.system_cpu.0;
        let pods = self.max_pods.unwrap_or(if cores <= 30 { 110 } else { 250 });
        let overhead = (whole.0 * 75 + 999) / 1_000;
        let memory = self.kube_memory.map_or(255 + 11 * pods, |kept| kept.0) + self.system_memory.0;
        (Millicores((cores * 1_000 - cpu).max(0)), Mebibytes((whole.0 - overhead - memory - 100).max(0)))
    }

    /// The most pods with GPUs that a node takes; each has at least one unit.
    pub fn gpu_pods(&self) -> i64 {
        self.max_pods.map_or(i64::MAX, |most| (most - SYSTEM_PODS).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_class_keeps_replaces_the_formula_and_bounds_the_pods() {
        let kept = NodeReserve {
            kube_cpu: Some(Millicores(500)),
            kube_memory: Some(Mebibytes(1_000)),
            system_cpu: Millicores(100),
            system_memory: Mebibytes(200),
            max_pods: Some(20),
        };
        // 4,000 - 600. 16,384 - 1,229 - 1,200 - 100.
        let g6_xlarge = (4, Mebibytes(16_384));
        assert_eq!(kept.leaves(g6_xlarge.0, g6_xlarge.1), (Millicores(3_400), Mebibytes(13_855)));
        assert_eq!((kept.gpu_pods(), NodeReserve::default().gpu_pods()), (12, i64::MAX));
        // Fewer pods, less memory kept for them: 255 + 11 x 20 instead of 11 x 110.
        let fewer = NodeReserve { max_pods: Some(20), ..NodeReserve::default() };
        let memory = |of: NodeReserve| of.leaves(g6_xlarge.0, g6_xlarge.1).1.0;
        assert_eq!(memory(fewer) - memory(NodeReserve::default()), 990);
    }
}
