//! Plays EC2's hypervisor: a real machine is on while EC2 says that its instance runs, and cut off when it ends.
//!
//! Decides: what a machine is, from its type. Does not: know anything of Kubernetes; a machine joins by its user data or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::machine::{BootDisk, Machine, MachineSpec};
use crate::core::market::catalog::Catalog;
use crate::core::units::ids::InstanceType;
use crate::lab::error::LabError;
use crate::lab::machine::{BootOutcome, SimulatedInstance};
use crate::lab::progress::say;
use crate::lab::sim_client;

/// How often EC2 is asked.
const POLL: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct SimulatorState {
    instances: Vec<SimulatedInstance>,
}

/// All machines of a lab, by instance id, shared with whoever plays its story.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    machines: Arc<Mutex<BTreeMap<String, Machine>>>,
    numbers: Arc<AtomicU8>,
    disk: BootDisk,
    gpus_after: Duration,
}

impl Hypervisor {
    /// One whose machines boot from `disk` and offer their GPUs so long after the kubelet listens.
    pub fn new(disk: BootDisk, gpus_after: Duration) -> Hypervisor {
        Hypervisor { machines: Arc::default(), numbers: Arc::default(), disk, gpus_after }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches on a machine that is not EC2's: it has no GPUs, and is there from the start.
    pub fn own_machine(&self, address: &str, user_data: String) -> Result<String, LabError> {
        let (cores, memory_mib) = (4, 16_384);
        let spec = MachineSpec {
            number: self.new_number()?,
            address: address.to_owned(),
            cores,
            memory_mib,
            gpus: 0,
            gpus_after: Duration::ZERO,
            user_data: Some(user_data),
        };
        let machine = Machine::power_on(&spec, &self.disk)?;
        let name = machine.name.clone();
        self.machines().insert(name.clone(), machine);
        Ok(name)
    }

    /// Cuts the cable of an instance's machine.
    pub fn unplug(&self, instance: &str) -> Result<(), LabError> {
        match self.machines().get(instance) {
            Some(machine) => machine.unplug(),
            None => Err(LabError::Unreadable {
                what: "the machines that are on".into(),
                expected: format!("one of instance {instance}"),
                found: "none".into(),
            }),
        }
    }

    /// Whether the machine of an instance is on.
    pub fn is_on(&self, instance: &str) -> bool {
        self.machines().contains_key(instance)
    }

    /// What the machines logged last, for a message.
    pub fn last_words(&self) -> String {
        self.machines().values().map(|machine| format!("{}\n{}", machine.name, machine.last_words())).collect::<Vec<_>>().join("\n")
    }

    /// Cuts the power of all machines.
    pub fn power_off(&self) {
        let all = std::mem::take(&mut *self.machines());
        drop(all);
        super::machine::sweep_cgroups(true);
    }

    /// A number that no machine of this lab ever had: its cable and pod network are nobody else's.
    fn new_number(&self) -> Result<u8, LabError> {
        let last = self.numbers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| last.checked_add(1));
        last.map(|last| last + 1).map_err(|last| LabError::Unreadable {
            what: "the router".into(),
            expected: "a free cable".into(),
            found: format!("{last} machines so far"),
        })
    }

    /// Follows EC2 until dropped. A fault is reported, and tried again at the next turn.
    pub async fn follow(self, simulator: String) -> Result<(), LabError> {
        let catalog = Catalog::snapshot();
        let (mut seen, mut last_fault) = (BTreeSet::new(), String::new());
        loop {
            let turn = match sim_client::get_json::<SimulatorState>(&simulator, "/_sim/state").await {
                Ok(state) => state.instances.iter().try_for_each(|instance| self.turn(instance, &catalog, &mut seen)),
                Err(fault) => Err(fault),
            };
            let fault = turn.err().map(|fault| fault.to_string()).unwrap_or_default();
            if !fault.is_empty() && fault != last_fault {
                say(&format!("  hypervisor: {fault}"));
            }
            last_fault = fault;
            tokio::time::sleep(POLL).await;
        }
    }

    fn turn(&self, instance: &SimulatedInstance, catalog: &Catalog, seen: &mut BTreeSet<String>) -> Result<(), LabError> {
        if instance.is_gone() {
            if let Some(machine) = self.machines().remove(&instance.id) {
                let (name, began) = (machine.name.clone(), Instant::now());
                drop(machine);
                say(&format!("     power cut: {} ({name}), all gone after {:.2} s", instance.id, began.elapsed().as_secs_f64()));
            }
            return Ok(());
        }
        if !instance.is_up() || instance.boot_outcome == BootOutcome::NeverJoins || !seen.insert(instance.id.clone()) {
            return Ok(());
        }
        let kind = catalog.types.get(&InstanceType::from(instance.instance_type.as_str())).ok_or_else(|| LabError::Unreadable {
            what: format!("instance {}", instance.id),
            expected: "a type of data/catalog/gpu_instance_types.csv".to_owned(),
            found: instance.instance_type.clone(),
        })?;
        let gpus = if instance.boot_outcome == BootOutcome::NoGpus { 0 } else { kind.gpus };
        let spec = MachineSpec {
            number: self.new_number()?,
            address: instance.private_ip.clone(),
            cores: kind.vcpus,
            memory_mib: kind.memory.0,
            gpus,
            gpus_after: self.gpus_after,
            user_data: None,
        };
        let machine = Machine::power_on(&spec, &self.disk)?;
        say(&format!("     power on: {} ({}, {}, {})", instance.id, machine.name, instance.instance_type, instance.zone));
        self.machines().insert(instance.id.clone(), machine);
        Ok(())
    }
}
