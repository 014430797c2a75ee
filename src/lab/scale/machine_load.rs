//! What one process takes, and how busy the whole machine is, from `/proc`.
//!
//! Decides: nothing. CPU time is what the kernel charged to the process, not what a profiler guessed.

use std::time::Instant;

use serde::Serialize;

use crate::lab::error::LabError;

/// Clock ticks per second in `/proc`: 100 on every Linux, whatever its own timer is (`USER_HZ`).
const TICKS: f64 = 100.0;

/// What a process took over a while.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Taken {
    /// For how long it was looked at.
    pub seconds: f64,
    /// CPU time, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory at the end, in MiB.
    pub rss_mib: f64,
    /// The most it ever had since its start, in MiB.
    pub peak_rss_mib: f64,
    /// CPU time of the whole machine meanwhile, in percent of all cores: near 100, everything waits for everything.
    pub machine_cpu_percent: f64,
}

/// A look at a process, to be compared with a later one.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    pid: u32,
    began: Instant,
    ticks: u64,
    machine: (u64, u64),
}

fn read(path: &str) -> Result<String, LabError> {
    std::fs::read_to_string(path).map_err(LabError::io(format!("reading {path}")))
}

fn unreadable(what: &str, found: &str) -> LabError {
    LabError::Unreadable {
        what: what.to_owned(),
        expected: "the form that proc(5) describes".to_owned(),
        found: found.chars().take(200).collect(),
    }
}

/// User and system time of a process, in ticks.
fn ticks_in(stat: &str) -> Option<u64> {
    // The name stands in parentheses and may contain anything; the state follows, as the third field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A field of `/proc/PID/status` in MiB.
fn mib_in(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1_024.0)
}

/// Busy and all ticks of the machine.
fn machine_in(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0)).collect();
    let (all, idle) = (fields.iter().sum::<u64>(), fields.get(3)? + fields.get(4)?);
    Some((all - idle, all))
}

fn look(pid: u32) -> Result<(u64, (u64, u64)), LabError> {
    let (own, machine) = (read(&format!("/proc/{pid}/stat"))?, read("/proc/stat")?);
    let ticks = ticks_in(&own).ok_or_else(|| unreadable(&format!("/proc/{pid}/stat"), &own))?;
    Ok((ticks, machine_in(&machine).ok_or_else(|| unreadable("/proc/stat", &machine))?))
}

impl Meter {
    /// Begins.
    pub fn start(pid: u32) -> Result<Meter, LabError> {
        let (ticks, machine) = look(pid)?;
        Ok(Meter { pid, began: Instant::now(), ticks, machine })
    }

    /// What the process took since.
    pub fn taken(&self) -> Result<Taken, LabError> {
        let (ticks, (busy, all)) = look(self.pid)?;
        let path = format!("/proc/{}/status", self.pid);
        let status = read(&path)?;
        let memory = |field| mib_in(&status, field).ok_or_else(|| unreadable(&path, &status));
        let seconds = self.began.elapsed().as_secs_f64();
        let of_machine = (all - self.machine.1).max(1) as f64;
        Ok(Taken {
            seconds,
            cpu_percent: (ticks - self.ticks) as f64 / TICKS / seconds.max(0.01) * 100.0,
            rss_mib: memory("VmRSS")?,
            peak_rss_mib: memory("VmHWM")?,
            machine_cpu_percent: (busy - self.machine.0) as f64 / of_machine * 100.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_a_process_is_called() {
        let stat = "12 (low) tide (x)) S 1 12 12 0 -1 4194304 500 0 1 0 150 50 0 0 20 0 5 0 100 1000000 900 18446744073709551615";
        assert_eq!(ticks_in(stat), Some(200));
        assert_eq!(mib_in("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t  1024 kB\n", "VmRSS"), Some(1.0));
        assert_eq!(machine_in("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2\n"), Some((20, 100)));
        assert!(ticks_in("nonsense").is_none() && machine_in("").is_none());
    }

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let meter = Meter::start(std::process::id()).unwrap();
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed().as_millis() < 300 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        let taken = meter.taken().unwrap();
        assert!(taken.cpu_percent > 5.0 && taken.rss_mib > 1.0 && taken.peak_rss_mib >= taken.rss_mib, "{taken:?} {sum}");
    }
}
