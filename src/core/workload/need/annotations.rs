//! The owner's annotations.
//!
//! Decides: how each key under `lowtide.dev/` is read, and that no key is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::core::market::catalog::Catalog;
use crate::core::market::shipped::snapshot_offerings;
use crate::core::units::ids::{GpuModel, Region};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::pattern::matches_pattern;
use crate::core::units::time::{Timestamp, parse_span};
use crate::core::units::{Mebibytes, Millicores};

use crate::core::workload::PodRules;
use crate::core::workload::labels::{LabelOperator, LabelRequirement, both};
use crate::core::workload::need::constraints::{self, Place};
use crate::core::workload::need::do_not_disrupt::DoNotDisrupt;
use crate::core::workload::need::error::NeedError;
use crate::core::workload::need::manifest::PodManifest;
use crate::core::workload::need::quantity::{DISK, GPU, milli_units, requested};
use crate::core::workload::need::{CapacityPreference, Deadline, Need, Schedule, UsageQuery, WorkloadKind};

const PREFIX: &str = "lowtide.dev/";

/// The keys an owner may write, after `lowtide.dev/`.
pub const OWNER_KEYS: [&str; 20] = [
    "availability-goal",
    "capacity",
    "checkpoint-grace",
    "checkpointed-at",
    "data-gib",
    "data-region",
    "deadline",
    "do-not-disrupt",
    "expected-runtime",
    "gang",
    "gpu-memory",
    "gpu-models",
    "max-pool-share",
    "max-price-per-gpu-hour",
    "quiet-hours",
    "regions",
    "spares",
    "standby",
    "usage-query",
    "workload",
];

/// The keys lowtide itself writes on pods.
const OPERATOR_KEYS: [&str; 8] = ["attempt", "baseline", "claim", "decision", "let-go", "managed", "replaces", "workload-ref"];

/// The names that annotations may use: a misspelt model or region must not turn into "no offer fits".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    /// GPU models.
    pub models: BTreeSet<GpuModel>,
    /// Regions.
    pub regions: BTreeSet<Region>,
    /// Labels that node classes add to their nodes, besides [`super::constraints::KNOWN_LABELS`].
    pub node_labels: BTreeSet<String>,
}

static SNAPSHOT: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary {
    models: Catalog::snapshot().models().into_iter().collect(),
    regions: snapshot_offerings().into_iter().map(|(region, _, _)| region).collect(),
    node_labels: BTreeSet::new(),
});

impl Vocabulary {
    /// The models and regions of the shipped snapshot.
    pub fn snapshot() -> &'static Vocabulary {
        &SNAPSHOT
    }
}

/// Reads what a pod needs, or every fault it has.
pub fn parse(manifest: &PodManifest) -> Result<(Need, Schedule), Vec<NeedError>> {
    parse_with(manifest, Vocabulary::snapshot())
}

/// Like [`parse`], with the models and regions of `vocabulary`.
pub fn parse_with(manifest: &PodManifest, vocabulary: &Vocabulary) -> Result<(Need, Schedule), Vec<NeedError>> {
    let mut reader = Reader { annotations: &manifest.metadata.annotations, faults: Vec::new() };
    reader.refuse_unknown_keys();
    let kind = reader.workload();
    let gpu_memory = reader.gpu_memory();
    let gpu_models = reader.models(vocabulary);
    let mut regions = reader.regions(vocabulary);
    let capacity = reader.capacity();
    let max_price_per_gpu_hour = reader.price("max-price-per-gpu-hour");
    let data_gib = reader.whole("data-gib").unwrap_or(0);
    let data_region = reader.data_region(vocabulary);
    let schedule = reader.schedule();
    let do_not_disrupt = reader.do_not_disrupt();
    let mut faults = reader.faults;
    let Place { regions: selected, zones, instance_types, architecture, terms } =
        constraints::read(&manifest.spec, &vocabulary.node_labels, &mut faults);
    let (rules, more) = PodRules::read(manifest, &BTreeMap::new());
    faults.extend(more);
    let must_have = |key: &String| vec![vec![LabelRequirement { key: key.clone(), operator: LabelOperator::Exists }]];
    let terms = rules.node_labels.iter().fold(terms, |terms, key| both(terms, must_have(key)));
    if let Some(selected) = selected {
        let kept: BTreeSet<String> =
            selected.into_iter().filter(|r| regions.is_empty() || regions.iter().any(|p| matches_pattern(p, r))).collect();
        if kept.is_empty() {
            faults.push(NeedError::Contradiction { what: "lowtide.dev/regions and the pod's node selector or affinity", of: "region" });
        }
        regions = kept.into_iter().collect();
    }
    let amounts = requested(&manifest.spec).unwrap_or_else(|more| {
        faults.extend(more);
        BTreeMap::new()
    });
    constraints::refuse_unknown_resources(&amounts, &mut faults);
    let whole = |name: &str, unit: i128| i64::try_from(amounts.get(name).copied().unwrap_or(0).div_ceil_of(unit)).unwrap_or(i64::MAX);
    let gpus = whole(GPU, 1_000);
    if gpus < 1 {
        faults.push(NeedError::NoGpu);
    }
    match (kind, faults.is_empty()) {
        (Some(kind), true) => Ok((
            Need {
                kind,
                gpus,
                gpu_memory,
                gpu_models,
                cpu: Millicores(whole("cpu", 1)),
                memory: Mebibytes(whole("memory", 1_000 << 20)),
                disk: Mebibytes(whole(DISK, 1_000 << 20)),
                volumes: 0,
                architecture,
                regions,
                zones,
                instance_types,
                node_terms: terms,
                capacity,
                max_price_per_gpu_hour,
                data_gib,
                data_region,
            },
            Schedule { zone_max_skew: rules.zone_spread().map(|spread| spread.max_skew), do_not_disrupt, ..schedule },
        )),
        _ => Err(faults),
    }
}

/// Division rounded up.
trait DivCeilOf {
    fn div_ceil_of(self, by: i128) -> i128;
}
impl DivCeilOf for i128 {
    fn div_ceil_of(self, by: i128) -> i128 {
        self.div_euclid(by) + i128::from(self.rem_euclid(by) != 0)
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    faults: Vec<NeedError>,
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.annotations.get(&format!("{PREFIX}{key}")).map(String::as_str)
    }

    fn bad(&mut self, key: &str, value: &str, expected: &'static str) {
        self.faults.push(NeedError::BadAnnotation { key: format!("{PREFIX}{key}"), value: value.to_owned(), expected });
    }

    /// The value of `key` read by `read`; a fault if it is present and cannot be read.
    fn read<T>(&mut self, key: &str, expected: &'static str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let result = read(value.trim());
        if result.is_none() {
            self.bad(key, value, expected);
        }
        result
    }

    fn refuse_unknown_keys(&mut self) {
        for key in self.annotations.keys() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if !OWNER_KEYS.contains(&name) && !OPERATOR_KEYS.contains(&name) {
                self.faults
                    .push(NeedError::UnknownAnnotation { key: key.clone(), known: OWNER_KEYS.map(|k| format!("{PREFIX}{k}")).join(", ") });
            }
        }
    }

    fn workload(&mut self) -> Option<WorkloadKind> {
        let expected = "inference or batch";
        if self.get("workload").is_none() {
            self.faults.push(NeedError::MissingAnnotation { key: format!("{PREFIX}workload"), expected });
        }
        self.read("workload", expected, |text| match text {
            "inference" => Some(WorkloadKind::Inference),
            "batch" => Some(WorkloadKind::Batch),
            _ => None,
        })
    }

    fn gpu_memory(&mut self) -> Mebibytes {
        let read = |text: &str| {
            let mib = milli_units(text)?.div_ceil_of(1_000 << 20);
            i64::try_from(mib).ok().filter(|m| *m > 0)
        };
        Mebibytes(self.read("gpu-memory", "memory per GPU above 0, e.g. 20Gi", read).unwrap_or(0))
    }

    fn models(&mut self, vocabulary: &Vocabulary) -> Vec<GpuModel> {
        let mut models = BTreeSet::new();
        for text in words(self.get("gpu-models").unwrap_or_default()) {
            let model = GpuModel::from_ec2(text);
            if vocabulary.models.contains(&model) {
                models.insert(model);
            } else {
                self.faults.push(NeedError::UnknownModel { model: text.to_owned(), known: joined(&vocabulary.models) });
            }
        }
        self.refuse_empty_list("gpu-models");
        models.into_iter().collect()
    }

    fn regions(&mut self, vocabulary: &Vocabulary) -> Vec<String> {
        let mut patterns = BTreeSet::new();
        for text in words(self.get("regions").unwrap_or_default()) {
            if vocabulary.regions.iter().any(|r| matches_pattern(text, r.as_str())) {
                patterns.insert(text.to_owned());
            } else {
                self.faults.push(NeedError::UnknownRegion { pattern: text.to_owned(), known: joined(&vocabulary.regions) });
            }
        }
        self.refuse_empty_list("regions");
        patterns.into_iter().collect()
    }

    /// An existing but empty list would otherwise mean "any".
    fn refuse_empty_list(&mut self, key: &str) {
        if let Some(value) = self.get(key).filter(|v| words(v).next().is_none()) {
            self.bad(key, value, "at least one name, separated by commas; remove the annotation to accept any");
        }
    }

    fn capacity(&mut self) -> CapacityPreference {
        let read = |text: &str| match text {
            "spot-first" => Some(CapacityPreference::SpotFirst),
            "spot-only" => Some(CapacityPreference::SpotOnly),
            "on-demand" => Some(CapacityPreference::OnDemand),
            _ => None,
        };
        self.read("capacity", "spot-first, spot-only or on-demand", read).unwrap_or_default()
    }

    fn price(&mut self, key: &str) -> Option<MicroUsdPerHour> {
        let read = |text: &str| text.parse::<MicroUsdPerHour>().ok().filter(|p| p.0 > 0);
        self.read(key, "US dollars per GPU-hour above 0, e.g. \"1.20\"", read)
    }

    fn whole(&mut self, key: &str) -> Option<i64> {
        self.read(key, "a whole number of at least 0", |text| text.parse::<i64>().ok().filter(|n| *n >= 0))
    }

    fn data_region(&mut self, vocabulary: &Vocabulary) -> Option<Region> {
        let region = Region::from(self.get("data-region")?.trim());
        if vocabulary.regions.contains(&region) {
            return Some(region);
        }
        self.faults.push(NeedError::UnknownRegion { pattern: region.to_string(), known: joined(&vocabulary.regions) });
        None
    }

    fn do_not_disrupt(&mut self) -> Option<DoNotDisrupt> {
        let (read, faults) = DoNotDisrupt::read(self.annotations);
        self.faults.extend(faults);
        read
    }

    fn schedule(&mut self) -> Schedule {
        let span = "a duration, e.g. 90s, 45m, 26h, 1h30m or 2d";
        let deadline = |text: &str| instant(text).map(Deadline::At).or_else(|| parse_span(text).map(Deadline::After));
        let share = |text: &str| {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            (1..=100).contains(&percent).then_some(percent * 10)
        };
        let name = |text: &str| (!text.is_empty() && text.len() <= 63).then(|| text.to_owned());
        Schedule {
            deadline: self.read("deadline", "a point in time, e.g. 2026-12-24T18:00:00Z, or a duration from creation, e.g. 26h", deadline),
            expected_runtime: self.read("expected-runtime", span, parse_span),
            checkpoint_grace: self.read("checkpoint-grace", span, parse_span),
            standby: self
                .read("standby", "a whole number of warm slots, 0 to 1000", |t| t.parse().ok().filter(|n| *n <= 1_000))
                .unwrap_or(0),
            max_share_per_mille: self.read("max-pool-share", "a whole percentage, e.g. 50%", share),
            spares: self
                .read("spares", "a whole number of replicas, 0 to 1000", |t| t.parse().ok().filter(|n| *n <= 1_000))
                .unwrap_or(0),
            availability_goal_ppm: self.read("availability-goal", "a percentage from 50 to below 100, e.g. 99.5%", goal),
            zone_max_skew: None,
            do_not_disrupt: None,
            gang: self.read("gang", "a name of 1 to 63 characters", name),
            checkpointed_at: self.read("checkpointed-at", "a point in time, e.g. 2026-12-24T18:00:00Z", instant),
            quiet_hours: self.read("quiet-hours", "hours of the day in UTC, e.g. 22:00-06:00, or 22:00-06:00 +02:00", |text| text.parse().ok()),
            usage_query: self.read(
                "usage-query",
                "requests, transactions, tokens, tokens_in, tokens_out or users, then = and a PromQL query for one hour's amount, as in requests=sum(increase(x[1h]))",
                UsageQuery::parse,
            ),
        }
    }
}

/// `99.5%`, `99.95%`: from 50 to below 100, with at most four decimals, in parts per million.
fn goal(text: &str) -> Option<i64> {
    let number = text.strip_suffix('%')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |t: &str| (!t.is_empty() && t.len() <= 4 && t.bytes().all(|b| b.is_ascii_digit())).then_some(());
    digits(whole).and(digits(decimals))?;
    let ppm = whole.parse::<i64>().ok()? * 10_000 + format!("{decimals:0<4}").parse::<i64>().ok()?;
    (500_000..1_000_000).contains(&ppm).then_some(ppm)
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|w| !w.is_empty())
}

fn joined<T: ToString>(names: &BTreeSet<T>) -> String {
    names.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// RFC 3339: `2026-12-24T18:00:00Z`, with an optional fraction and `Z` or an offset.
fn instant(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok();
    let at = |index: usize| text.as_bytes().get(index).copied();
    if (at(4)?, at(7)?, at(13)?, at(16)?) != (b'-', b'-', b':', b':') || !matches!(at(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let date = Timestamp::from_date(year, month, day);
    // A day that does not exist would silently become one of the next month.
    if date.to_rfc3339().get(..10) != text.get(..10) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |r| 1 + r.bytes().take_while(u8::is_ascii_digit).count());
    let zone = rest.get(digits..)?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ if zone.len() == 6 && zone.as_bytes()[3] == b':' => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            match zone.as_bytes()[0] {
                b'+' => minutes,
                b'-' => -minutes,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Timestamp(date.0 + ((hour * 60 + minute - offset) * 60 + second) * 1_000))
}

#[cfg(test)]
mod tests;
