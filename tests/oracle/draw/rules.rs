//! Where a drawn pod may run, and beside whom: selectors, affinity, spread.

use serde_json::{Value, json};

use super::*;

impl Draw {
    pub(super) fn zone_forms(&self) -> Vec<String> {
        let all: Vec<String> = PLACES.iter().map(|(_, zone)| (*zone).to_owned()).chain(self.zone_names.values().cloned()).collect();
        all
    }

    pub(super) fn label(&mut self) -> (String, Vec<String>) {
        let own = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        let zones = self.zone_forms();
        let names: Vec<String> = self.zone_names.values().cloned().collect();
        let all = [
            (ZONE, zones),
            (ZONE_ID, own(&PLACES.map(|(_, zone)| zone))),
            (EBS_ZONE, names),
            (REGION, own(&["us-east-1", "us-west-2", "eu-south-2"])),
            (TYPE, own(&TYPES)),
            ("kubernetes.io/arch", own(&["amd64", "amd64", "arm64"])),
            ("kubernetes.io/os", own(&["linux"])),
            ("beta.kubernetes.io/os", own(&["linux"])),
            ("beta.kubernetes.io/arch", own(&["amd64"])),
            (CAPACITY, own(&["spot", "on-demand"])),
            ("karpenter.sh/capacity-type", own(&["spot", "on-demand"])),
            ("karpenter.k8s.aws/instance-family", own(&["g4dn", "g5", "g6", "p4d"])),
            ("karpenter.k8s.aws/instance-gpu-name", own(&["l4", "a10g", "t4"])),
            ("nvidia.com/gpu.product", own(&["NVIDIA-L4", "NVIDIA-A10G", "Tesla-T4", "NVIDIA-A100-SXM4-40GB"])),
            ("nvidia.com/gpu.present", own(&["true"])),
            ("tier", own(&["gpu", "batch"])),
        ];
        let (key, values) = self.one(&all);
        (key.to_owned(), values)
    }

    pub(super) fn node_selector(&mut self, spec: &mut Value) {
        let (key, values) = self.label();
        spec["nodeSelector"][key] = json!(self.one(&values));
    }

    pub(super) fn requirement(&mut self) -> Value {
        if self.happens(150) {
            let (key, values) = self.one(&[
                ("karpenter.k8s.aws/instance-cpu", ["3", "8", "40"]),
                ("nvidia.com/gpu.count", ["0", "1", "3"]),
                ("nvidia.com/gpu.memory", ["10000", "20000", "40000"]),
                ("karpenter.k8s.aws/instance-generation", ["3", "4", "5"]),
            ]);
            return json!({ "key": key, "operator": self.one(&["Gt", "Lt"]), "values": [self.one(&values)] });
        }
        let (key, values) = self.label();
        let operator = self.one(&["In", "In", "In", "NotIn", "NotIn", "Exists", "DoesNotExist"]);
        let key = if operator == "DoesNotExist" && self.happens(700) {
            self.one(&["karpenter.sh/capacity-type", "tier", "example.com/none"]).to_owned()
        } else {
            key
        };
        match operator {
            "Exists" | "DoesNotExist" => json!({ "key": key, "operator": operator }),
            _ => json!({ "key": key, "operator": operator, "values": self.some(&values, 3) }),
        }
    }

    pub(super) fn node_affinity(&mut self, spec: &mut Value) {
        let terms = self.chance.between(1, 3);
        let term = |draw: &mut Draw| {
            if draw.happens(40) {
                return json!({});
            }
            json!({ "matchExpressions": (0..draw.chance.between(1, 2)).map(|_| draw.requirement()).collect::<Vec<_>>() })
        };
        let terms: Vec<Value> = (0..terms).map(|_| term(self)).collect();
        spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = json!(terms);
    }

    pub(super) fn domain(&mut self) -> &'static str {
        self.one(&[HOSTNAME, HOSTNAME, ZONE, ZONE, REGION, CAPACITY, ZONE_ID])
    }

    pub(super) fn selector(&mut self, name: &str, others: &[String]) -> Value {
        match self.chance.below(8) {
            0..4 => json!({ "matchLabels": { "app": name } }),
            4..6 => json!({ "matchLabels": { "app": self.one(others) } }),
            6 => json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": self.some(others, 3) }] }),
            _ => json!({ "matchLabels": { "part": "front" }, "matchExpressions": [{ "key": "app", "operator": "In", "values": others }] }),
        }
    }

    pub(super) fn between(&mut self, kind: &str, name: &str, others: &[String], namespace: &str) -> Value {
        let mut term = json!({ "topologyKey": self.domain(), "labelSelector": self.selector(name, others) });
        if self.happens(150) {
            term["matchLabelKeys"] = json!(["pod-template-hash"]);
        } else if kind == "podAntiAffinity" && self.happens(80) {
            term["mismatchLabelKeys"] = json!(["pod-template-hash"]);
        }
        match self.chance.below(12) {
            0 => term["namespaceSelector"] = json!({}),
            1 => term["namespaceSelector"] = json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace } }),
            2 => term["namespaces"] = json!([format!("k{}b", self.seed)]),
            _ => {}
        }
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] })
    }

    pub(super) fn spread(&mut self, name: &str, others: &[String]) -> Value {
        let mut spread = json!({
            "maxSkew": self.one(&[1, 1, 2, 3]), "topologyKey": self.domain(), "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": self.selector(name, others),
        });
        if self.happens(250) {
            spread["minDomains"] = json!(self.one(&[1, 2, 3]));
        }
        if self.happens(250) {
            spread["matchLabelKeys"] = json!(["pod-template-hash"]);
        }
        if self.happens(120) {
            spread["nodeAffinityPolicy"] = json!(self.one(&["Honor", "Ignore"]));
        }
        if self.happens(120) {
            spread["nodeTaintsPolicy"] = json!(self.one(&["Honor", "Ignore"]));
        }
        if self.happens(80) {
            spread["whenUnsatisfiable"] = json!("ScheduleAnyway");
            spread.as_object_mut().unwrap().remove("minDomains");
        }
        spread
    }

    /// Where a drawn volume or class can be reached from.
    pub(super) fn topology(&mut self) -> (&'static str, Vec<String>) {
        let zones: Vec<String> = PLACES.iter().map(|(_, zone)| (*zone).to_owned()).collect();
        let names: Vec<String> = self.zone_names.values().cloned().collect();
        let (key, values) = self.one(&[
            (ZONE, zones.clone()),
            (ZONE, names.clone()),
            (ZONE_ID, zones),
            (EBS_ZONE, names),
            (REGION, vec!["us-east-1".to_owned(), "us-west-2".to_owned()]),
        ]);
        (key, self.some(&values, 3))
    }
}
