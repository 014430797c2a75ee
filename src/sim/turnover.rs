//! What makes machines be replaced by choice in the simulated world, and what keeps them: classes that change, disruption budgets, owners who want to be
//! left alone.
//!
//! Decides: when a class changes, which budgets a pool has, and which workloads are not to be disrupted.
//! Does not: say which machines an operator may leave (see [`super::check`]).

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::kube::Template;
use super::world::World;
use crate::core::fleet::{Disruption, DisruptionSpec};
use crate::core::units::ids::ClassName;
use crate::core::units::time::{Millis, Timestamp};

/// Somebody changes a class this often, on average.
const EVERY: Millis = Millis::from_hours(40);
/// Budgets that pools have, beside none at all and the default.
const BUDGETS: [&str; 3] = [
    r#"[{"nodes": "0", "schedule": "0 9 * * mon-fri", "duration": "8h", "timeZone": "Europe/Berlin"}, {"nodes": "2"}]"#,
    r#"[{"nodes": "1"}, {"nodes": "0", "reasons": ["Expiry", "Drift"], "schedule": "@hourly", "duration": "40m"}]"#,
    r#"[{"nodes": "50%"}, {"nodes": "0", "reasons": ["SavingsMove"], "schedule": "30 6 * * *", "duration": "6h30m", "timeZone": "America/New_York"}]"#,
];

/// What is drawn of all that.
#[derive(Debug)]
pub struct Turnover {
    chance: Chance,
    of_owners: Chance,
}

impl Turnover {
    /// Of a seed.
    pub fn new(seed: u64) -> Turnover {
        Turnover { chance: Chance::new(seed, "turnover"), of_owners: Chance::new(seed, "do not disrupt") }
    }

    /// When a class changes next.
    pub fn next(&mut self, now: Timestamp) -> Timestamp {
        now + self.chance.waiting(EVERY)
    }

    /// The budgets of the pool.
    pub fn disruption(&mut self) -> Disruption {
        let drawn = match self.chance.below(10) {
            0..5 => self.chance.one_of(&BUDGETS).copied(),
            5..7 => Some("[]"),
            _ => None,
        };
        let spec = drawn.and_then(|budgets| serde_json::from_str::<DisruptionSpec>(&format!(r#"{{"budgets": {budgets}}}"#)).ok());
        spec.unwrap_or_default().read()
    }

    /// One owner in eight does not want to be disturbed, at least for a while.
    pub fn ask_for_peace(&mut self, template: &mut Template) {
        let words = [
            ("lowtide.dev/do-not-disrupt", "true"),
            ("karpenter.sh/do-not-disrupt", "2h"),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ];
        if self.of_owners.happens(125)
            && let Some((key, value)) = self.of_owners.one_of(&words)
        {
            template.manifest["metadata"]["annotations"][*key] = serde_json::json!(value);
        }
    }
}

impl World {
    /// Somebody changes a class: it makes nodes from another launch template from now on.
    pub(super) fn class_changes(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.push((self.turnover.next(now), Event::ClassChanges));
        let names: Vec<ClassName> = self.kube.templates.keys().cloned().collect();
        let Some(class) = self.turnover.chance.one_of(&names).cloned() else { return };
        if let Some(template) = self.kube.templates.get_mut(&class) {
            template.name = format!("lowtide-{}-{}", template.region, now.0 / 1_000);
            template.client_token = template.name.replace("lowtide", "template");
        }
        self.say(&format!("somebody changes {class}"));
        // Under a new version of the class, so that the watches show it.
        if let Some(object) = self.kube.classes.get(&class).map(|stored| stored.object.clone()) {
            self.kube.put_class(object);
        }
    }
}
