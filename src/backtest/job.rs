//! The job of a batch backtest: how much work, by when, and what a change of machine costs.

use crate::core::units::time::Millis;

/// One deadline job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchJob {
    /// Work to do on one instance, without any changeover.
    pub work: Millis,
    /// Time from the start until the job is late.
    pub deadline: Millis,
    /// What every launch loses before work goes on: boot, load, restore. It is billed.
    pub changeover: Millis,
    /// What a move to another region must carry, in GiB.
    pub checkpoint_gib: i64,
}

/// What runs for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// Nothing.
    Idle,
    /// A spot instance in this zone.
    Spot(usize),
    /// An on-demand instance in this zone's region.
    OnDemand(usize),
}

/// What a policy may know of its own job when a tick begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// The job as it was asked for.
    pub job: BatchJob,
    /// Work left.
    pub remaining: Millis,
    /// What runs now; a spot instance pre-empted at this tick is gone already.
    pub running: Running,
    /// Changeover still to serve on what runs.
    pub changeover_left: Millis,
    /// The zone that was pre-empted at this tick.
    pub preempted: Option<usize>,
    /// Where the checkpoint lies: the zone of the last instance.
    pub home: Option<usize>,
}

/// One thing to try. A policy gives a list; the first that succeeds is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// Leave what runs running (or idle, when nothing does).
    Keep,
    /// Run nothing.
    Idle,
    /// A spot instance in this zone: kept when it runs there, launched when the zone has capacity, else refused.
    Spot(usize),
    /// An on-demand instance in this zone's region: always to be had.
    OnDemand(usize),
}
