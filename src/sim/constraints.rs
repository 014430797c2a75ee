//! What owners ask beside GPUs: zones and types, volumes, ports, company, disk, priority.
//!
//! Decides: which of these a workload has, from the seed alone, and that together they leave it a place: at most one constraint of a workload is
//! about zones, and where the account is tight, zones are those of the region that stays open.
//! Does not: write anything that `asks` could not read again, or decide how many replicas there are (but how many there may be at most).

use serde_json::{Value, json};

use super::account::Account;
use super::chance::Chance;
use super::kube::scheduler::{HOSTNAME, REGION, TYPE, ZONE};
use super::kube::volumes::{Store, Volume};
use super::kube::{Keeper, Replicated, Template};
use super::market::ZONES;

/// Draws constraints.
#[derive(Debug)]
pub struct Constraints {
    chance: Chance,
}

/// A label of nodes that nobody buys from EC2.
const RACK: &str = "example.com/rack";
/// The part of a thousand workloads that has each.
const ABOUT_ZONES: i64 = 450;
const OF_TYPES: i64 = 200;
const OF_MACHINES: i64 = 250;
const VOLUMES: i64 = 350;
const DISK: i64 = 300;
const PRIORITY: i64 = 300;

impl Constraints {
    /// Those of a seed.
    pub fn new(seed: u64) -> Constraints {
        Constraints { chance: Chance::new(seed, "constraints of pods") }
    }

    /// Puts constraints on a workload with replicas, of the name that is also its pods' label `app`.
    pub fn of_replicated(&mut self, name: &str, work: &mut Replicated, account: &Account, volumes: &mut Store) {
        let zones = zones_of(work, account);
        self.of_pod(&mut work.template);
        if matches!(work.keeper, Keeper::StatefulSet { .. }) {
            let waits_for = zones.iter().map(|zone| (*zone).to_owned()).collect();
            work.of_each_pod = self.chance.happens(700).then_some(Volume { mode: "ReadWriteOnce", waits_for, bound: false, zone: None });
        } else if self.chance.happens(VOLUMES) {
            self.volume(name, work, volumes);
        }
        if self.chance.happens(OF_MACHINES) {
            self.about_machines(name, work);
        }
        // A volume for each pod has a zone of its own in the end.
        if work.of_each_pod.is_none() && work.template.asks().spread.is_empty() && self.chance.happens(ABOUT_ZONES) {
            self.about_zones(name, work, &zones, volumes);
        }
    }

    /// Puts constraints on the pods of a Job, or on a bare pod.
    pub fn of_job(&mut self, name: &str, template: &mut Template, account: &Account, volumes: &mut Store) {
        self.of_pod(template);
        let zones = open_zones(account);
        match self.chance.below(10) {
            0 => select(template, ZONE, self.one(&zones)),
            1 => {
                let two: Vec<&str> = zones.iter().copied().skip(usize::try_from(self.chance.between(0, 1)).unwrap_or(0)).take(2).collect();
                affine(template, ZONE, "In", &two);
            }
            // Its checkpoint stays where the first pod wrote it.
            2 | 3 => {
                let claim = format!("checkpoints-of-{name}");
                let waits_for = zones.iter().map(|zone| (*zone).to_owned()).collect();
                volumes.add(&claim, Volume { mode: "ReadWriteOnce", waits_for, bound: false, zone: None });
                mount(&mut template.manifest, &claim);
            }
            4 => keep_apart(template, HOSTNAME, "train"),
            _ => {}
        }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.chance.one_of(of).copied().unwrap_or("use2-az1")
    }

    /// What any pod may ask.
    fn of_pod(&mut self, template: &mut Template) {
        let asks = template.asks();
        if self.chance.happens(DISK) {
            let disk = format!("{}Gi", 10 * self.chance.between(2, 10));
            template.manifest["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"] = json!(disk);
        }
        if self.chance.happens(PRIORITY) {
            let spec = &mut template.manifest["spec"];
            (spec["priority"], spec["priorityClassName"]) = (json!(1_000), json!("important"));
        }
        // The larger ones run on one type only.
        if asks.resources.gpus == 1 && asks.gpu_memory.0 <= 22 * 1_024 && self.chance.happens(OF_TYPES) {
            match self.chance.below(3) {
                0 => select(template, TYPE, "g6.xlarge"),
                1 => affine(template, TYPE, "In", &["g6.xlarge", "g6.2xlarge", "g5.xlarge"]),
                _ => affine(template, TYPE, "NotIn", &["g5.xlarge", "g6e.xlarge"]),
            }
        }
    }

    /// A claim that all replicas mount: of many nodes, or of one, and then there is one replica.
    fn volume(&mut self, name: &str, work: &mut Replicated, volumes: &mut Store) {
        let (claim, shared) = (format!("weights-of-{name}"), self.chance.happens(400));
        let mode = match self.chance.below(10) {
            _ if shared => "ReadWriteMany",
            0..3 => "ReadWriteOncePod",
            _ => "ReadWriteOnce",
        };
        volumes.add(&claim, Volume { mode, waits_for: Vec::new(), bound: true, zone: None });
        mount(&mut work.template.manifest, &claim);
        if !shared {
            (work.surges, work.most_replicas, work.replicas) = (false, 1, work.replicas.min(1));
        }
    }

    fn about_machines(&mut self, name: &str, work: &mut Replicated) {
        match self.chance.below(3) {
            0 => keep_apart(&mut work.template, HOSTNAME, name),
            1 => spread(&mut work.template, HOSTNAME, name),
            _ => {
                let port = json!([{ "containerPort": 8_000, "hostPort": 8_000 }]);
                work.template.manifest["spec"]["containers"][0]["ports"] = port;
                work.surges = false;
            }
        }
    }

    /// At most one of these: two together may leave no zone while a pod is being replaced.
    fn about_zones(&mut self, name: &str, work: &mut Replicated, zones: &[&str], volumes: &mut Store) {
        // One zone is left while a pod is being replaced.
        let most = if zones.len() > 2 { 2 } else { 1 };
        let few = |work: &mut Replicated| (work.most_replicas, work.replicas) = (most.min(work.most_replicas), work.replicas.min(most));
        match self.chance.below(12) {
            0 | 1 => select(&mut work.template, ZONE, self.one(zones)),
            2 | 3 => affine(&mut work.template, ZONE, "In", zones.get(..2).unwrap_or(zones)),
            4 => select(&mut work.template, REGION, "us-east-2"),
            5 | 6 => {
                keep_apart(&mut work.template, ZONE, name);
                few(work);
            }
            // Replicas of the other may be in every zone of two regions.
            7 | 8 if work.template.asks().regions.is_empty() => {
                let other = if name == "chat" { "vision" } else { "chat" };
                keep_apart(&mut work.template, ZONE, other);
                few(work);
            }
            9 => {
                // lowtide does not honour it, and says so: none of its nodes has the label.
                spread(&mut work.template, RACK, name);
                work.honoured = false;
            }
            _ => {
                let (claim, zone) = (format!("index-of-{name}"), self.one(zones).to_owned());
                let mode = if work.surges { "ReadWriteMany" } else { "ReadWriteOnce" };
                volumes.add(&claim, Volume { mode, waits_for: Vec::new(), bound: true, zone: Some(zone) });
                mount(&mut work.template.manifest, &claim);
                if mode == "ReadWriteOnce" {
                    (work.most_replicas, work.replicas) = (1, work.replicas.min(1));
                }
            }
        }
    }
}

/// Zones in which there is always something to be had: everywhere, unless quotas or shared GPUs leave only the last region whole.
fn open_zones(account: &Account) -> Vec<&'static str> {
    let open = |region: &str| region == "us-east-2" || !(account.is_tight() || account.shares());
    ZONES.iter().filter(|(region, _)| open(region)).map(|(_, zone)| *zone).collect()
}

/// ... of them those that the workload's own annotations leave. Under a price cap, on-demand is to be had in the United States.
fn zones_of(work: &Replicated, account: &Account) -> Vec<&'static str> {
    let (asks, open) = (work.template.asks(), open_zones(account));
    let allowed = |region: &str| asks.allows_region(region) && (asks.cap.is_none() || region.starts_with("us-"));
    ZONES.iter().filter(|(region, zone)| open.contains(zone) && allowed(region)).map(|(_, zone)| *zone).collect()
}

fn select(template: &mut Template, key: &str, value: &str) {
    template.manifest["spec"]["nodeSelector"][key] = json!(value);
}

fn affine(template: &mut Template, key: &str, operator: &str, values: &[&str]) {
    let required = &mut template.manifest["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let wanted = json!({ "key": key, "operator": operator, "values": values });
    match required["nodeSelectorTerms"].get_mut(0) {
        Some(term) => push(&mut term["matchExpressions"], wanted),
        None => required["nodeSelectorTerms"] = json!([{ "matchExpressions": [wanted] }]),
    }
}

fn keep_apart(template: &mut Template, domain: &str, app: &str) {
    let affinity = &mut template.manifest["spec"]["affinity"]["podAntiAffinity"];
    let term = json!({ "topologyKey": domain, "labelSelector": { "matchLabels": { "app": app } } });
    push(&mut affinity["requiredDuringSchedulingIgnoredDuringExecution"], term);
}

/// A hard spread with `maxSkew` 1.
pub fn spread(template: &mut Template, domain: &str, app: &str) {
    let selector = json!({ "matchLabels": { "app": app } });
    let constraint = json!({ "maxSkew": 1, "topologyKey": domain, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector });
    push(&mut template.manifest["spec"]["topologySpreadConstraints"], constraint);
}

/// Mounts a PersistentVolumeClaim.
pub fn mount(manifest: &mut Value, claim: &str) {
    push(&mut manifest["spec"]["volumes"], json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }));
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(have) => have.push(value),
        none => *none = json!([value]),
    }
}
