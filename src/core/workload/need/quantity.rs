//! Kubernetes quantities and a pod's total requests.
//!
//! Decides: how requests of containers, init containers and sidecars add up (as the scheduler adds them), rounded up.

use std::collections::BTreeMap;

use crate::core::workload::need::error::NeedError;
use crate::core::workload::need::manifest::{Amount, Container, PodSpec};

/// The GPU resource of NVIDIA's device plugin.
pub(super) const GPU: &str = "nvidia.com/gpu";
/// Disk for containers' own files, logs and images.
pub(super) const DISK: &str = "ephemeral-storage";

/// A quantity in thousandths of its unit, rounded up; `None` if `text` is not one.
///
/// Source: Kubernetes, "Quantity": decimal, binary and exponent suffixes.
pub fn milli_units(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.contains(['+', '-', '.']) || part.len() > 12 || whole.len() > 18 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let (factor, divisor) = factor(suffix)?;
    let (value, by) = (digits.checked_mul(factor)?.checked_mul(1_000)?, scale * divisor);
    Some(value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0))
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << power, 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 15)?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

/// What a pod requests of each resource, in thousandths of its unit. A limit without a request is a request.
///
/// As the scheduler adds: containers and sidecars (init containers that always restart) run together; every other init container runs
/// alongside the sidecars started before it; the pod needs the greater of both. What the pod as a whole requests of CPU, memory and huge
/// pages counts instead; a limit of the pod as a whole counts if neither it nor a container requests any. Overhead comes on top.
///
/// Source: Kubernetes 1.34, "Assign Pod-level CPU and memory resources", and `PodRequests` of `k8s.io/component-helpers`.
pub fn requested(spec: &PodSpec) -> Result<BTreeMap<String, i128>, Vec<NeedError>> {
    let mut faults = Vec::new();
    let mut running: BTreeMap<String, i128> = BTreeMap::new();
    let mut starting: BTreeMap<String, i128> = BTreeMap::new();
    for (index, container) in spec.init_containers.iter().enumerate() {
        let wants = of_container(container, &format!("spec.initContainers[{index}].resources"), &mut faults);
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        for (name, amount) in wants {
            let together = running.get(&name).copied().unwrap_or(0) + amount;
            let most = starting.entry(name.clone()).or_default();
            *most = (*most).max(together);
            if sidecar {
                running.insert(name, together);
            }
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (name, amount) in of_container(container, &format!("spec.containers[{index}].resources"), &mut faults) {
            *running.entry(name).or_default() += amount;
        }
    }
    for (name, amount) in starting {
        let held = running.entry(name).or_default();
        *held = (*held).max(amount);
    }
    for (name, amount) in &spec.resources.limits {
        let amount = read(amount, &format!("spec.resources.limits[{name}]"), &mut faults);
        running.entry(name.clone()).or_insert(amount);
    }
    for (name, amount) in &spec.resources.requests {
        let amount = read(amount, &format!("spec.resources.requests[{name}]"), &mut faults);
        running.insert(name.clone(), amount);
    }
    for (name, amount) in &spec.overhead {
        *running.entry(name.clone()).or_default() += read(amount, &format!("spec.overhead[{name}]"), &mut faults);
    }
    if faults.is_empty() { Ok(running) } else { Err(faults) }
}

fn of_container(container: &Container, path: &str, faults: &mut Vec<NeedError>) -> BTreeMap<String, i128> {
    let mut wants = BTreeMap::new();
    for (kind, amounts) in [("limits", &container.resources.limits), ("requests", &container.resources.requests)] {
        for (name, amount) in amounts {
            // An extended resource cannot be overcommitted, so its limit counts; for CPU and memory the request does.
            wants.insert(name.clone(), read(amount, &format!("{path}.{kind}[{name}]"), faults));
        }
    }
    wants
}

fn read(amount: &Amount, path: &str, faults: &mut Vec<NeedError>) -> i128 {
    let text = amount.text();
    match milli_units(&text).filter(|m| *m >= 0) {
        Some(value) => value,
        None => {
            faults.push(NeedError::BadQuantity { path: path.to_owned(), value: text });
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::workload::need::quantity::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them_and_round_up() {
        for (text, milli) in [("2", 2_000), ("500m", 500), ("1.5", 1_500), ("1Ki", 1_024_000), ("2e3", 2_000_000), ("1u", 1), (".5", 500)] {
            assert_eq!(milli_units(text), Some(milli), "{text}");
        }
        for bad in ["", "x", "1.2.3", "5 Gi", "Gi", "1Zi"] {
            assert_eq!(milli_units(bad), None, "{bad}");
        }
    }
}
