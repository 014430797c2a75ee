//! What NVIDIA's DCGM exporter says of the GPUs of pods, as Prometheus keeps it.
//!
//! Decides: which metrics are asked for, whose GPU a series is, and what of a value is a share of a GPU.
//! Does not: measure time (see [`crate::core::accounting::gpu_use`]).
//!
//! Source: dcgm-exporter, "etc/default-counters.csv" (metrics) and "internal/pkg/transformation" (labels of pods and MIG instances).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::accounting::gpu_use::{LONGEST_GAP, WHOLE};
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::Timestamp;
use crate::ledger::prometheus::{Prometheus, PrometheusFault, Series};

/// Share of the time in which a graphics or compute engine was active; exists for MIG instances as well.
pub const ENGINE_ACTIVE: &str = "DCGM_FI_PROF_GR_ENGINE_ACTIVE";
/// Percent of the time in which any kernel ran: says less, and is taken where the other is not exported.
pub const UTILISATION: &str = "DCGM_FI_DEV_GPU_UTIL";
const MEMORY_USED: &str = "DCGM_FI_DEV_FB_USED";
/// More than any GPU has: DCGM's values for "not supported" lie beyond.
const MOST_MEMORY_MIB: f64 = 16_777_216.0;

/// Readings of a pod's GPU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OfGpu {
    /// Uid of the pod, where the exporter says it.
    pub pod_uid: Option<String>,
    /// The GPU, or the MIG instance of it.
    pub device: String,
    /// An instance of MIG, which one pod holds alone.
    pub is_instance: bool,
    /// Activity in millionths, or MiB.
    pub values: Vec<(Timestamp, i64)>,
}

type OfPods = BTreeMap<ObjectRef, Vec<OfGpu>>;

/// What is known of pods.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub engine: OfPods,
    pub utilisation: OfPods,
    pub memory: OfPods,
}

/// Asks for the readings of `pods` from the first to the second point of `span`, and so far beside it that its ends are covered.
pub(super) async fn ask(
    prometheus: &Prometheus,
    selector: &str,
    pods: &BTreeSet<ObjectRef>,
    (from, to): (Timestamp, Timestamp),
) -> Result<Readings, PrometheusFault> {
    let span = (from - LONGEST_GAP, to + LONGEST_GAP);
    // Of a whole in millionths.
    let share = |value: f64, millionths: f64| Some(rounded(value * millionths)).filter(|share| (0..=WHOLE).contains(share));
    let engine = of_metric(prometheus, (ENGINE_ACTIVE, selector), pods, span, |value| share(value, 1_000_000.0)).await?;
    let utilisation = if pods.iter().all(|pod| engine.contains_key(pod)) {
        OfPods::new()
    } else {
        of_metric(prometheus, (UTILISATION, selector), pods, span, |value| share(value, 10_000.0)).await?
    };
    let mib = |value: f64| (0.0..=MOST_MEMORY_MIB).contains(&value).then(|| rounded(value));
    let memory = of_metric(prometheus, (MEMORY_USED, selector), pods, span, mib).await?;
    Ok(Readings { engine, utilisation, memory })
}

async fn of_metric(
    prometheus: &Prometheus,
    (metric, selector): (&str, &str),
    pods: &BTreeSet<ObjectRef>,
    (from, to): (Timestamp, Timestamp),
    value_of: impl Fn(f64) -> Option<i64>,
) -> Result<OfPods, PrometheusFault> {
    let names: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    // Names of objects hold nothing that an expression would read but the dot.
    let names = names.into_iter().collect::<Vec<_>>().join("|").replace('.', "[.]");
    let also = if selector.is_empty() { String::new() } else { format!("{selector},") };
    let mut found = OfPods::new();
    // Prometheus renames the exporter's label where the scraped pod has one of that name itself.
    for of_pod in [format!("exported_pod=~\"{names}\""), format!("exported_pod=\"\",pod=~\"{names}\"")] {
        let named = format!("{metric}{{{also}{of_pod}}}");
        for series in prometheus.readings(&named, to.since(from), to).await? {
            let (pod, gpu) = of_series(series, &value_of);
            if pods.contains(&pod) && !gpu.values.is_empty() {
                found.entry(pod).or_default().push(gpu);
            }
        }
    }
    Ok(found)
}

/// Whose series it is, and what it says.
fn of_series(series: Series, value_of: impl Fn(f64) -> Option<i64>) -> (ObjectRef, OfGpu) {
    let label = |name: &str| series.labels.get(name).filter(|value| !value.is_empty()).cloned();
    let (namespace, pod) = match label("exported_pod") {
        Some(pod) => (label("exported_namespace"), Some(pod)),
        None => (label("namespace"), label("pod")),
    };
    let instance = label("GPU_I_ID");
    let gpu = label("UUID").or_else(|| Some(format!("{} {}", label("Hostname")?, label("gpu")?))).unwrap_or_default();
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    let reading = |(seconds, text): &(f64, String)| Some((Timestamp(rounded(seconds * 1_000.0)), value_of(number(text)?)?));
    let of_gpu = OfGpu {
        pod_uid: label("pod_uid"),
        is_instance: instance.is_some(),
        device: format!("{gpu} {}", instance.unwrap_or_default()),
        values: series.values.iter().filter_map(reading).collect(),
    };
    (ObjectRef { namespace: namespace.unwrap_or_default(), name: pod.unwrap_or_default() }, of_gpu)
}

/// A measured value as a whole number; floats end here.
fn rounded(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], values: &[(f64, &str)]) -> Series {
        Series {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            values: values.iter().map(|(at, value)| (*at, (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_series_is_that_of_the_pod_that_holds_the_gpu_and_not_of_the_exporter() {
        let labels = [
            ("pod", "dcgm-exporter-x7"),
            ("namespace", "gpu-operator"),
            ("exported_pod", "chat-0"),
            ("exported_namespace", "ml"),
            ("UUID", "GPU-1"),
        ];
        let (pod, gpu) = of_series(series(&labels, &[(1.5, "0.25"), (31.5, "NaN"), (61.5, "9.2e18")]), |value| {
            (value < 2.0).then(|| rounded(value * 100.0))
        });
        assert_eq!(pod, ObjectRef { namespace: "ml".into(), name: "chat-0".into() });
        assert_eq!((gpu.device.as_str(), gpu.values, gpu.is_instance), ("GPU-1 ", vec![(Timestamp(1_500), 25)], false));
        let labels = [("pod", "chat-0"), ("namespace", "ml"), ("exported_pod", ""), ("UUID", "GPU-1"), ("GPU_I_ID", "7"), ("pod_uid", "u")];
        let (pod, gpu) = of_series(series(&labels, &[]), |_| None);
        assert_eq!(
            (pod.name.as_str(), gpu.device.as_str(), gpu.is_instance, gpu.pod_uid.as_deref()),
            ("chat-0", "GPU-1 7", true, Some("u"))
        );
    }
}
