//! What NVIDIA's DCGM exporter says of the GPUs of pods, as Prometheus keeps it.
//!
//! Decides: which metrics are asked for, whose GPU a series is (the pod's, or all of a node's), and what of a value is a share of a GPU.
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

type Of<K> = BTreeMap<K, Vec<OfGpu>>;

/// What is known of pods, or of whole nodes.
#[derive(Debug)]
pub(super) struct Readings<K> {
    pub engine: Of<K>,
    pub utilisation: Of<K>,
    pub memory: Of<K>,
}

impl<K> Default for Readings<K> {
    fn default() -> Self {
        Readings { engine: Of::new(), utilisation: Of::new(), memory: Of::new() }
    }
}

/// Where to ask: a server, and which of its series are this cluster's, as in `cluster="prod"`; empty: all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exporter<'a> {
    pub prometheus: &'a Prometheus,
    pub selector: &'a str,
}

/// From the first to the second point.
type Span = (Timestamp, Timestamp);

impl Exporter<'_> {
    /// The readings of the GPUs that the exporter says are held by `pods`.
    pub(super) async fn of_pods(self, pods: &BTreeSet<ObjectRef>, span: Span) -> Result<Readings<ObjectRef>, PrometheusFault> {
        let names = any_of(pods.iter().map(|pod| pod.name.as_str()));
        // Prometheus renames the exporter's label where the scraped pod has one of that name itself.
        let matchers = [format!("exported_pod=~\"{names}\""), format!("exported_pod=\"\",pod=~\"{names}\"")];
        self.ask(&matchers, pods, pod_of, span).await
    }

    /// The readings of all GPUs of `nodes`.
    pub(super) async fn of_nodes(self, nodes: &BTreeSet<String>, span: Span) -> Result<Readings<String>, PrometheusFault> {
        let matcher = format!("Hostname=~\"{}\"", any_of(nodes.iter().map(String::as_str)));
        self.ask(&[matcher], nodes, |series| series.labels.get("Hostname").cloned().unwrap_or_default(), span).await
    }

    /// Asks so far beside the span that its ends are covered.
    async fn ask<K: Ord>(
        self,
        matchers: &[String],
        keys: &BTreeSet<K>,
        key_of: impl Fn(&Series) -> K,
        (from, to): Span,
    ) -> Result<Readings<K>, PrometheusFault> {
        let span = (from - LONGEST_GAP, to + LONGEST_GAP);
        let asked = (matchers, keys, &key_of, span);
        // Of a whole in millionths.
        let share = |value: f64, millionths: f64| Some(rounded(value * millionths)).filter(|share| (0..=WHOLE).contains(share));
        let engine = self.metric(ENGINE_ACTIVE, asked, |value| share(value, 1_000_000.0)).await?;
        let utilisation = if keys.iter().all(|key| engine.contains_key(key)) {
            Of::new()
        } else {
            self.metric(UTILISATION, asked, |value| share(value, 10_000.0)).await?
        };
        let mib = |value: f64| (0.0..=MOST_MEMORY_MIB).contains(&value).then(|| rounded(value));
        let memory = self.metric(MEMORY_USED, asked, mib).await?;
        Ok(Readings { engine, utilisation, memory })
    }

    async fn metric<K: Ord>(
        self,
        metric: &str,
        (matchers, keys, key_of, (from, to)): (&[String], &BTreeSet<K>, &impl Fn(&Series) -> K, Span),
        value_of: impl Fn(f64) -> Option<i64>,
    ) -> Result<Of<K>, PrometheusFault> {
        let also = if self.selector.is_empty() { String::new() } else { format!("{},", self.selector) };
        let mut found = Of::new();
        for matcher in matchers {
            let named = format!("{metric}{{{also}{matcher}}}");
            for series in self.prometheus.readings(&named, to.since(from), to).await? {
                let (key, gpu) = (key_of(&series), gpu_of(&series, &value_of));
                if keys.contains(&key) && !gpu.values.is_empty() {
                    found.entry(key).or_insert_with(Vec::new).push(gpu);
                }
            }
        }
        Ok(found)
    }
}

/// Names as a matcher reads them: those of objects hold nothing that an expression would read but the dot.
fn any_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<BTreeSet<&str>>().into_iter().collect::<Vec<_>>().join("|").replace('.', "[.]")
}

fn label(series: &Series, name: &str) -> Option<String> {
    series.labels.get(name).filter(|value| !value.is_empty()).cloned()
}

/// Who holds the GPU, as the exporter says: not the exporter's own pod, which scraping adds.
fn pod_of(series: &Series) -> ObjectRef {
    let (namespace, name) = match label(series, "exported_pod") {
        Some(pod) => (label(series, "exported_namespace"), Some(pod)),
        None => (label(series, "namespace"), label(series, "pod")),
    };
    ObjectRef { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
}

/// Which GPU it is, and what is said of it.
fn gpu_of(series: &Series, value_of: impl Fn(f64) -> Option<i64>) -> OfGpu {
    let label = |name: &str| label(series, name);
    let instance = label("GPU_I_ID");
    let gpu = label("UUID").or_else(|| Some(format!("{} {}", label("Hostname")?, label("gpu")?))).unwrap_or_default();
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    let reading = |(seconds, text): &(f64, String)| Some((Timestamp(rounded(seconds * 1_000.0)), value_of(number(text)?)?));
    OfGpu {
        pod_uid: label("pod_uid"),
        is_instance: instance.is_some(),
        device: format!("{gpu} {}", instance.unwrap_or_default()),
        values: series.values.iter().filter_map(reading).collect(),
    }
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
        let renamed = [
            ("pod", "dcgm-exporter-x7"),
            ("namespace", "gpu-operator"),
            ("exported_pod", "chat-0"),
            ("exported_namespace", "ml"),
            ("UUID", "GPU-1"),
        ];
        let renamed = series(&renamed, &[(1.5, "0.25"), (31.5, "NaN"), (61.5, "9.2e18")]);
        assert_eq!(pod_of(&renamed), ObjectRef { namespace: "ml".into(), name: "chat-0".into() });
        let gpu = gpu_of(&renamed, |value| (value < 2.0).then(|| rounded(value * 100.0)));
        assert_eq!((gpu.device.as_str(), gpu.values, gpu.is_instance), ("GPU-1 ", vec![(Timestamp(1_500), 25)], false));
        let own = [("pod", "chat-0"), ("namespace", "ml"), ("exported_pod", ""), ("UUID", "GPU-1"), ("GPU_I_ID", "7"), ("pod_uid", "u")];
        let own = series(&own, &[]);
        let gpu = gpu_of(&own, |_| None);
        assert_eq!(
            (pod_of(&own).name.as_str(), gpu.device.as_str(), gpu.is_instance, gpu.pod_uid.as_deref()),
            ("chat-0", "GPU-1 7", true, Some("u"))
        );
        assert_eq!(any_of(["b.c", "a", "a"].into_iter()), "a|b[.]c");
    }
}
