//! What each event does.
//!
//! Decides: what the market, EC2, people and troubles do when their moment has come. What the cluster does is in [`super::super::kube`].

use super::World;
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClaimName, InstanceId, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodPhase;
use crate::sim::ec2::{Later, TAKEN_BACK};
use crate::sim::event::{Event, Owner};
use crate::sim::faults::Trouble;
use crate::sim::kube::Stored;
use crate::sim::market::Turn;
use crate::sim::people::Deed;

/// The owner of a bare pod looks after it this often.
const OWNER_LOOKS_EVERY: Millis = Millis::from_mins(20);

impl World {
    pub(super) fn happens(&mut self, event: Event, now: Timestamp, later: &mut Later) {
        match event {
            Event::Market(turn) => self.market_turns(turn, now, later),
            Event::AtRisk(index) => self.call_at_risk(index, now, later),
            Event::EventScheduled => self.ec2_schedules(now, later),
            Event::ScheduledComes(id) => self.scheduled_comes(&id, now, later),
            Event::ClassChanges => self.class_changes(now, later),
            Event::CalledOff(id) => self.ec2.call_off(&id, now, later),
            Event::MessageComes => self.readers.iter().for_each(|reader| reader.notify_one()),
            Event::Runs(id) => {
                if let Some(machine) = self.ec2.machines.get_mut(&id).filter(|m| m.alive()) {
                    machine.instance.state = crate::core::fleet::InstanceState::Running;
                }
            }
            Event::Joins(id) => {
                if let Some(machine) = self.ec2.machines.get(&id).cloned() {
                    if let Some(until) = self.kube.cut_until(&machine.instance.capacity.region, now) {
                        return later.push((until + Millis::from_secs(5), Event::Joins(id)));
                    }
                    self.kube.joins(&machine, &self.catalog, now);
                    self.say(&format!("{id} joins: {:?}", machine.boot));
                }
            }
            Event::TakenBack(id) => {
                self.say(&format!("EC2 takes {id}"));
                self.ec2.end(&id, TAKEN_BACK, now, later);
            }
            Event::MachineGone(id) => self.kube.machine_gone(&id, now, later),
            Event::NodeSilent(name) => self.kube.node_silent(&name, now),
            Event::Reconciles(owner) => self.kube.reconcile(&owner, now, later),
            Event::Schedules(uid) => self.kube.schedule(&uid, now, later),
            Event::PodStarts(uid) => self.kube.starts(&uid, now, later),
            Event::PodEnds(uid) => self.kube.ends(&uid, now, later),
            Event::PodRemoved(uid) => self.kube.removed(&uid, now, later),
            Event::PodCollected(uid) => {
                let orphan =
                    self.kube.pods.get(&uid).and_then(|p| p.object.pod.node.clone()).is_some_and(|n| !self.kube.nodes.contains_key(&n));
                if orphan {
                    self.kube.removed(&uid, now, later);
                }
            }
            Event::WorkDone(uid) => self.kube.work_done(&uid, now, later),
            Event::WatchesShow => {
                if now < self.faults.stale_until || now < self.faults.api_away_until {
                    let until = self.faults.stale_until.max(self.faults.api_away_until);
                    later.push((until + self.faults.watch_lag(), Event::WatchesShow));
                } else {
                    self.watches_will_show = false;
                    self.kube.show();
                    self.watchers.iter().for_each(|watcher| watcher.notify_one());
                }
            }
            Event::Done(deed) => self.somebody_does(deed, now, later),
            Event::Recreate(name, work) => {
                self.say(&format!("somebody creates {} {name} again", work.keeper.kind()));
                self.kube.put_replicated(&name, *work);
                later.push((now + Millis(300), Event::Reconciles(Owner::Replicated(name))));
            }
            Event::OwnerLooks(uid) => self.owner_looks(&uid, now, later),
            Event::Readable(name) => self.kube.make_unreadable(&name, false),
            Event::Trouble => self.trouble_comes(now, later),
            Event::BackupRestored => self.backup_is_restored(now, later),
            Event::PoolsUndefined => self.pools_are_undefined(now, later),
            Event::PoolsDefined => self.pools_are_defined(now, later),
            Event::PoolsApplied => self.kube.show_pools(true),
            Event::Adopts(looks) => self.somebody_adopts(looks, now, later),
            Event::NodeForged => self.somebody_forges_a_node(now, later),
            Event::ForgedNodeGoes(name) => self.kube.take_node(&name),
            Event::NodeBared => self.somebody_bares_a_node(now, later),
            Event::KubeletsCutOff => self.kubelets_are_cut_off(now, later),
            Event::KubeletsBack => self.kube.heard_again(now, later),
        }
    }

    fn market_turns(&mut self, turn: Turn, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let again = self.market.turn(turn, now);
        later.push((again, Event::Market(turn)));
        self.warn_early(turn, again, now, later);
        if matches!(turn, Turn::Price(_)) {
            return;
        }
        for (index, ids) in self.ec2.beyond(&self.market) {
            let pool = self.market.pools[index].capacity.clone();
            for id in ids {
                self.say(&format!("EC2 will take {id} ({pool})"));
                // One in four was said to be at risk before; here that comes with the notice.
                if self.of_notices.happens(250) {
                    self.ec2.recommend_rebalance(&id, now, later);
                }
                self.ec2.doom(&id, now, later);
            }
        }
        // Machines that were not taken may still be called at risk.
        let alive: Vec<InstanceId> = self.ec2.alive().filter(|m| m.doomed_at.is_none()).map(|m| m.instance.id.clone()).collect();
        if self.of_notices.happens(20)
            && let Some(id) = self.of_notices.one_of(&alive).cloned()
        {
            self.ec2.recommend_rebalance(&id, now, later);
        }
    }

    /// Before a pool falls short EC2 says so in two of five cases, minutes before, of every machine there; and at times of a pool that does not.
    fn warn_early(&mut self, turn: Turn, again: Timestamp, now: Timestamp, later: &mut Later) {
        if let Turn::Capacity(index) = turn
            && self.market.is_up(index)
        {
            let at = again - self.of_warnings.span(Millis::from_mins(2), Millis::from_mins(45));
            if self.of_warnings.happens(400) && at > now {
                later.push((at, Event::AtRisk(index)));
            }
        }
        if self.of_warnings.happens(30)
            && let Some(at) = self.ec2.alive().map(|m| m.instance.capacity.clone()).nth(0)
            && let Some(index) = self.market.index_of(&at)
        {
            later.push((now, Event::AtRisk(index)));
        }
    }

    fn call_at_risk(&mut self, index: usize, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let capacity = self.market.pools[index].capacity.clone();
        let here = self.ec2.alive().filter(|m| m.doomed_at.is_none() && m.instance.capacity == capacity);
        let spot = here.filter(|m| m.instance.capacity.capacity_type == CapacityType::Spot);
        let ids: Vec<InstanceId> = spot.map(|m| m.instance.id.clone()).collect();
        if !ids.is_empty() {
            self.say(&format!("EC2 calls {} machines in {capacity} at risk", ids.len()));
        }
        ids.iter().for_each(|id| self.ec2.recommend_rebalance(id, now, later));
    }

    fn somebody_does(&mut self, deed: Deed, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.push((self.people.again(&deed, now), Event::Done(deed.clone())));
        let names: Vec<String> = self.kube.replicated.keys().cloned().collect();
        match deed {
            Deed::Scale => {
                let Some((name, work)) = self.people.choose(&names).and_then(|name| self.kube.replicated.get_key_value(name)) else {
                    return;
                };
                let (name, replicas) = (name.clone(), self.people.replicas(work));
                self.kube.scale(&name, replicas);
                self.say(&format!("somebody scales {name} to {replicas}"));
                later.push((now + Millis(200), Event::Reconciles(Owner::Replicated(name))));
            }
            Deed::Submit => {
                let (name, mut job) = self.people.job(now, &self.account, &mut self.kube.volumes);
                self.turnover.ask_for_peace(&mut job.template);
                self.say(&format!("somebody submits Job {name}: {} of work", job.work));
                self.kube.put_job(&name, job);
                later.push((now + Millis(200), Event::Reconciles(Owner::Job(name))));
            }
            Deed::StartNotebook => {
                let (name, template, work) = self.people.notebook(&self.account, &mut self.kube.volumes);
                self.say(&format!("somebody starts the bare pod {name} for {work}"));
                let uid = self.kube.make_bare_pod(&template, &name, work, now);
                later.push((now + OWNER_LOOKS_EVERY, Event::OwnerLooks(uid)));
            }
            Deed::DeleteClaim => {
                let claims: Vec<_> = self.kube.claims.values().map(|Stored { object, .. }| object.clone()).collect();
                let Some(mut claim) = self.people.choose(&claims).cloned() else { return };
                self.say(&format!("somebody deletes claim {}", claim.name));
                claim.deleting = true;
                self.kube.put_claim(claim);
            }
            Deed::Redeploy => {
                let Some(name) = self.people.choose(&names).cloned() else { return };
                let Some(mut work) = self.kube.remove_replicated(&name) else { return };
                self.say(&format!("somebody deletes {} {name}", work.keeper.kind()));
                later.push((now + Millis(200), Event::Reconciles(Owner::Replicated(name.clone()))));
                let own = work.controller == work.uid;
                work.uid = Uid::from(format!("{}-{name}-{}", work.keeper.kind().to_lowercase(), now.0));
                work.controller = if own { work.uid.clone() } else { Uid::from(format!("replica-set-{name}-{}", now.0)) };
                later.push((now + Millis::from_mins(10), Event::Recreate(name, Box::new(work))));
            }
        }
    }

    /// Nobody makes a bare pod again: its owner, who reads that it does not start, deletes it.
    fn owner_looks(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.kube.pods.get(uid).map(|p| p.object.clone()).filter(|p| !p.pod.finished()) else { return };
        let stuck = pod.pod.phase == PodPhase::Pending && pod.pod.node.is_none() && pod.pod.deleting_until.is_none();
        if stuck && pod.pod.stuck.as_ref().is_some_and(|stuck| now.since(stuck.since) > OWNER_LOOKS_EVERY) {
            self.say(&format!("the owner of {} gives it up", pod.pod.identity.object.name));
            self.kube.end_pod(&pod, now, later);
        }
        later.push((now + OWNER_LOOKS_EVERY, Event::OwnerLooks(uid.clone())));
    }

    fn trouble_comes(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        if let Some(at) = self.faults.next_trouble(now) {
            later.push((at, Event::Trouble));
        }
        let trouble = self.faults.draw_trouble();
        self.say(&format!("trouble: {trouble:?}"));
        match trouble {
            Trouble::LedgerAway(span) => self.faults.ledger_away_until = now + span,
            Trouble::ApiAway(span) => self.faults.api_away_until = now + span,
            Trouble::Stale(span) => self.faults.stale_until = now + span,
            Trouble::QueuesDenied(span) => self.faults.queues_denied_until = now + span,
            Trouble::Throttled(span) => self.faults.throttled_until = now + span,
            Trouble::AdmitsNothing(span) => self.kube.admits_nothing = (now, now + span),
            Trouble::UnreadableClaim(span) => {
                let claims: Vec<ClaimName> = self.kube.claims.keys().cloned().collect();
                if let Some(name) = self.of_words.one_of(&claims).cloned() {
                    self.say(&format!("another version writes into {name} what this one cannot read"));
                    self.kube.make_unreadable(&name, true);
                    later.push((now + span, Event::Readable(name)));
                }
            }
            Trouble::SecondOperator(span) => {
                crate::sim::check::two_lead_until(&mut self.checks, now + span);
                self.troubles.push(trouble);
                self.stirred.notify_one();
            }
            Trouble::ClockJumps(_) | Trouble::Crash | Trouble::EmptyApiServer(_) => {
                self.troubles.push(trouble);
                self.stirred.notify_one();
            }
        }
    }
}
