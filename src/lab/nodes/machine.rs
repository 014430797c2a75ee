//! One machine: a set of Linux namespaces with a first process, a disk, cgroups and a cable of its own.
//!
//! Decides: how it is switched on and off. Does not: know why (see `hypervisor`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::router;
use crate::lab::error::LabError;
use crate::lab::process::{Process, ProcessSpec};
use crate::lab::progress::say;

/// Where the kernel shows cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long the kernel may take to end what ran in a machine.
const DIES_WITHIN: Duration = Duration::from_secs(10);

/// What a machine is.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Its number in this lab, for its cable and pod network.
    pub number: u8,
    /// Its private address.
    pub address: String,
    /// Its cores.
    pub cores: i64,
    /// Its memory.
    pub memory_mib: i64,
    /// What its device plugin offers.
    pub gpus: i64,
    /// How long after the kubelet listens it does.
    pub gpus_after: Duration,
    /// User data of a machine that is not EC2's.
    pub user_data: Option<String>,
}

/// Where machines boot from.
#[derive(Debug, Clone)]
pub struct BootDisk {
    /// What `image/` holds, with the cluster's files.
    pub image: PathBuf,
    /// The folder of `scripts/node-tools.sh`.
    pub node: PathBuf,
    /// This program.
    pub lab: PathBuf,
    /// Every machine gets a folder here.
    pub machines: PathBuf,
}

/// A machine that is on. Dropping it is the power cut.
#[derive(Debug)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    number: u8,
    address: String,
    process: Process,
    folder: PathBuf,
    group: String,
}

impl Machine {
    /// Switches it on.
    pub fn power_on(spec: &MachineSpec, disk: &BootDisk) -> Result<Machine, LabError> {
        let name = format!("ip-{}", spec.address.replace('.', "-"));
        let folder = disk.machines.join(&name);
        let part = folder.join("disk");
        std::fs::create_dir_all(&part).map_err(LabError::io(format!("making {}", part.display())))?;
        if let Some(text) = &spec.user_data {
            let path = folder.join("user-data");
            std::fs::write(&path, text).map_err(LabError::io(format!("writing {}", path.display())))?;
        }
        let group = format!("{}/{name}", cgroup_of_lab(std::process::id()));
        let mut environment = vec![
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME".into(), "/root".into()),
            ("MACHINE".into(), folder.display().to_string()),
            ("IMAGE".into(), disk.image.display().to_string()),
            ("NODE".into(), disk.node.display().to_string()),
            ("LAB".into(), disk.lab.display().to_string()),
            ("HOST".into(), name.clone()),
            ("ADDRESS".into(), spec.address.clone()),
            ("CPUS".into(), spec.cores.to_string()),
            ("MEMORY_MIB".into(), spec.memory_mib.to_string()),
            ("GPUS".into(), spec.gpus.to_string()),
            ("GPUS_AFTER_SECONDS".into(), spec.gpus_after.as_secs().to_string()),
            ("POD_NETWORK".into(), router::pod_network(spec.number)),
        ];
        environment.extend(spec.user_data.as_ref().map(|_| ("USER_DATA".to_owned(), "/opt/machine/user-data".to_owned())));
        // Nothing of our own environment: a machine knows no proxy, no credentials and no settings of ours.
        let pairs = environment.into_iter().map(|(key, value)| format!("{key}={value}"));
        let script = disk.image.join("power-on.sh").display().to_string();
        let arguments = std::iter::once("-i".to_owned()).chain(pairs).chain(["bash".to_owned(), script, group.clone()]);
        let process = Process::spawn(&ProcessSpec::new("console", "env", &folder).args(arguments))?;
        let mut machine = Machine { name, number: spec.number, address: spec.address.clone(), process, folder, group };
        let pid = machine.first_process()?;
        router::plug(spec.number, pid, &spec.address)?;
        Ok(machine)
    }

    /// The child of `unshare`, in whose network namespace the cable ends.
    fn first_process(&mut self) -> Result<u32, LabError> {
        let (own, until) = (self.process.pid(), Instant::now() + Duration::from_secs(20));
        let path = format!("/proc/{own}/task/{own}/children");
        loop {
            self.process.check()?;
            // In this order: before it is `unshare`, its children are those of the script that becomes it.
            let is_unshare = std::fs::read_to_string(format!("/proc/{own}/comm")).is_ok_and(|name| name.trim() == "unshare");
            let children = std::fs::read_to_string(&path).unwrap_or_default();
            if let (true, Some(pid)) = (is_unshare, children.split_whitespace().next().and_then(|text| text.parse().ok())) {
                return Ok(pid);
            }
            if Instant::now() > until {
                return Err(LabError::NotReady {
                    what: format!("machine {}", self.name),
                    seconds: 20,
                    last: "no first process".into(),
                    logs: self.folder.clone(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The folder of its logs: console, cloud-init, kubelet, containerd.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cuts its cable and leaves it running: nobody hears of it any more.
    pub fn unplug(&self) -> Result<(), LabError> {
        router::unplug(self.number, &self.address)
    }

    /// Fails when its first process has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.process.check()
    }

    /// The end of its logs, for a message.
    pub fn last_words(&self) -> String {
        let end = |name: &str| {
            let text = std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(3)..].join("\n    ")
        };
        ["console.log", "cloud-init.log", "kubelet.log"].map(|name| format!("  {name}:\n    {}", end(name))).join("\n")
    }

    fn groups(&self) -> Vec<PathBuf> {
        hierarchies().into_iter().map(|hierarchy| hierarchy.join(self.group.trim_start_matches('/'))).collect()
    }
}

impl Drop for Machine {
    /// The power cut: `unshare` dies, with it the machine's first process, and with that everything in its namespaces.
    fn drop(&mut self) {
        self.process.kill();
        // It may be gone with its namespace already.
        let _ = router::remove(self.number);
        let until = Instant::now() + DIES_WITHIN;
        while self.groups().iter().any(|group| !is_empty(group)) {
            if Instant::now() > until {
                say(&format!("  machine {}: processes are left in its cgroups after {} s", self.name, DIES_WITHIN.as_secs()));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.groups().iter().for_each(|group| remove(group));
    }
}

/// The cgroup of all machines of a lab.
fn cgroup_of_lab(pid: u32) -> String {
    format!("/lowtide-lab-{pid}")
}

/// Every hierarchy of cgroups on this host: one of version 2, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let controllers = own.lines().filter_map(|line| line.split(':').nth(1)).filter(|name| !name.is_empty());
    let found: Vec<PathBuf> = controllers.map(|name| Path::new(CGROUPS).join(name.trim_start_matches("name="))).collect();
    if found.is_empty() { vec![PathBuf::from(CGROUPS)] } else { found }
}

fn folders_in(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(group) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn is_empty(group: &Path) -> bool {
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.trim().is_empty() && folders_in(group).iter().all(|inner| is_empty(inner))
}

/// Removes a group and those in it; what still holds a process stays, and is swept by a later lab.
fn remove(group: &Path) {
    folders_in(group).iter().for_each(|inner| remove(inner));
    let _ = std::fs::remove_dir(group);
}

/// Removes the empty cgroups of labs that have ended, our own included.
pub fn sweep_cgroups(own_too: bool) {
    for hierarchy in hierarchies() {
        for folder in folders_in(&hierarchy) {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(pid) = name.strip_prefix("lowtide-lab-").and_then(|pid| pid.parse::<u32>().ok()) else { continue };
            if !Path::new(&format!("/proc/{pid}")).exists() || (own_too && pid == std::process::id()) {
                remove(&folder);
            }
        }
    }
}
