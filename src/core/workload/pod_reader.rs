//! The one reader of pods: from a pod's own JSON to what it needs, which pods it may run with, who owns it and how it can be moved.
//!
//! Decides: nothing of its own; it asks [`super::need`], [`super::company`], [`super::volumes`] and [`super::controllers`], so that a pod of
//! the cluster's watch and a template of a file get the same answers.
//! Does not: read the state of a pod (phase, gates, our marks): the watch does.

use std::collections::BTreeMap;

use super::controllers::Controllers;
use super::labels::both;
use super::need::{Metadata, NeedAnswer, PodManifest, Vocabulary, WorkloadKind, parse_with};
use super::volumes::{self, PodVolumes, Volumes};
use super::{Attribution, LetGo, Mobility, PodRules, Workload};
use crate::core::units::shared::Shared;
use crate::core::units::time::Millis;

/// Labels of namespaces, by name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// Which labels of a pod say who pays. Platform teams may have words of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributionKeys {
    /// Label of the team.
    pub team: String,
    /// Label of the service.
    pub service: String,
    /// Label of the environment.
    pub environment: String,
    /// Label of the cost center.
    pub cost_center: String,
    /// Label of the product area.
    pub product_area: String,
    /// Label of the component: training, inference, baseline or api.
    pub component: String,
    /// Team, environment, cost center and product area are those of the namespace, whatever the pod says: owners write pods, and not
    /// their namespace.
    pub from_namespace: bool,
}

impl Default for AttributionKeys {
    fn default() -> Self {
        AttributionKeys {
            team: "team".into(),
            service: "service".into(),
            environment: "environment".into(),
            cost_center: "cost-center".into(),
            product_area: "product-area".into(),
            component: "component".into(),
            from_namespace: false,
        }
    }
}

/// Everything besides the pod that reading it needs.
#[derive(Debug, Clone, Copy)]
pub struct PodReader<'a> {
    /// Controllers above pods.
    pub controllers: &'a Controllers,
    /// PersistentVolumeClaims.
    pub volumes: &'a Volumes,
    /// Who pays.
    pub keys: &'a AttributionKeys,
    /// Labels of namespaces, for keys that are read from there.
    pub namespaces: &'a NamespaceLabels,
    /// Models, regions and labels that may be named.
    pub vocabulary: &'a Vocabulary,
}

/// A pod according to its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPod {
    /// Whose work it is.
    pub workload: Shared<Workload>,
    /// How it can be moved.
    pub mobility: Shared<Mobility>,
    /// What it needs, or why that cannot be read.
    pub need: NeedAnswer,
    /// Which pods it may run with.
    pub rules: Shared<PodRules>,
    /// Who pays.
    pub attribution: Shared<Attribution>,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace: Millis,
}

impl PodReader<'_> {
    /// What the pod requests, including where its volumes are.
    pub fn need(&self, manifest: &PodManifest) -> NeedAnswer {
        let (mut need, schedule) =
            parse_with(manifest, self.vocabulary).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let mounted = volumes::of_pod(manifest, self.volumes);
        let reached = volumes::reached_from(&mounted);
        need.volumes = volumes::attached(&mounted);
        need.node_terms = both(std::mem::take(&mut need.node_terms), reached);
        Ok((need.into(), schedule.into()))
    }

    /// With which pods it may run.
    pub fn rules(&self, manifest: &PodManifest) -> Shared<PodRules> {
        let rules = PodRules::read(manifest, self.namespaces).0;
        PodRules { volumes: PodVolumes::of(manifest, self.volumes), ..(*rules).clone() }.into()
    }

    /// Reads a pod; `need` and `rules` are what [`PodReader::need`] and [`PodReader::rules`] said of it, `let_go` the mark on it.
    pub fn read(&self, manifest: &PodManifest, (need, rules): (NeedAnswer, Shared<PodRules>), let_go: Option<&LetGo>) -> ReadPod {
        let (workload, mobility) = self.controllers.of(manifest, self.volumes, let_go);
        let kind = need.as_ref().ok().map(|(need, _)| need.kind);
        ReadPod {
            workload: workload.into(),
            mobility: mobility.into(),
            need,
            rules,
            attribution: self.attribution(&manifest.metadata, kind).into(),
            // 30 s is the API server's default; it fills the field in itself.
            termination_grace: Millis::from_secs(manifest.spec.termination_grace_period_seconds.unwrap_or(30)),
        }
    }

    fn attribution(&self, pod: &Metadata, kind: Option<WorkloadKind>) -> Attribution {
        let label = |key: &str| pod.labels.get(key).cloned();
        let payer = |key: &str| {
            let of_namespace = || self.namespaces.get(pod.namespace.as_ref()?)?.get(key).cloned();
            if self.keys.from_namespace { of_namespace() } else { label(key) }
        };
        let said = Attribution {
            team: payer(&self.keys.team),
            service: label(&self.keys.service),
            environment: payer(&self.keys.environment),
            cost_center: payer(&self.keys.cost_center),
            product_area: payer(&self.keys.product_area),
            component: label(&self.keys.component),
        };
        match kind {
            Some(kind) => said.or_component_of(kind),
            None => said,
        }
    }
}
