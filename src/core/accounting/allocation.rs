//! Who pays for an instance: its cost split over the pods that were observed to run there.
//!
//! Decides: the lines `pod`, `double-running`, `lost-work`, `boot`, `idle` and `drain`, their weights in GPU time, and the split to
//! whole micro-dollars (largest remainder), so that the shares add up exactly; the line `egress` beside them. The ledger's view
//! `unposted_share` states the same in SQL; a test compares both.
//! Does not: know prices (see [`super::billing`]) or attribute lines to teams.

use std::collections::BTreeMap;

use super::billing::{INSTANCE_HOUR, PaidInterval, PriceSegment};
use crate::core::fleet::EndedBy;
use crate::core::units::ids::Uid;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::WorkloadKind;

const DAY: i64 = 86_400_000;

/// What a share of an instance's cost was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// A pod's useful time.
    Pod,
    /// A pod that ran on beside its replacement: the price of a move.
    DoubleRunning,
    /// Batch work after its last checkpoint on a machine that was taken: it has to be done again.
    LostWork,
    /// Before the first pod ran, or no pod ever did.
    Boot,
    /// GPUs without a pod while other pods ran, or between pods.
    Idle,
    /// After the last pod left.
    Drain,
    /// Data carried across regions for a pod.
    Egress,
    /// What lowtide itself costs, and other costs its owner entered.
    Overhead,
    /// A credit that the bill gives for the machine.
    Credit,
    /// Money that the bill pays back for it.
    Refund,
    /// A negotiated or bundled discount on it.
    Discount,
    /// Data that left the machine, but for what is carried across regions, which is [`Line::Egress`].
    Transfer,
    /// A volume or snapshot of it.
    Volume,
    /// NAT gateways and VPC endpoints that it went out by.
    Nat,
    /// A tax on it.
    Tax,
    /// Any other charge that the bill names it for: a public address, a fee.
    Fee,
}

impl Line {
    /// As the ledger's views write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Line::Pod => "pod",
            Line::DoubleRunning => "double-running",
            Line::LostWork => "lost-work",
            Line::Boot => "boot",
            Line::Idle => "idle",
            Line::Drain => "drain",
            Line::Egress => "egress",
            Line::Overhead => "overhead",
            Line::Credit => "credit",
            Line::Refund => "refund",
            Line::Discount => "discount",
            Line::Transfer => "transfer",
            Line::Volume => "volume",
            Line::Nat => "nat",
            Line::Tax => "tax",
            Line::Fee => "fee",
        }
    }

    /// The line of this name.
    pub fn of(text: &str) -> Option<Line> {
        Line::ALL.into_iter().find(|line| line.as_str() == text)
    }

    /// Every line.
    pub const ALL: [Line; 16] = [
        Line::Pod,
        Line::DoubleRunning,
        Line::LostWork,
        Line::Boot,
        Line::Idle,
        Line::Drain,
        Line::Egress,
        Line::Overhead,
        Line::Credit,
        Line::Refund,
        Line::Discount,
        Line::Transfer,
        Line::Volume,
        Line::Nat,
        Line::Tax,
        Line::Fee,
    ];

    /// Whether it is the use of a machine, or of data moved to run there: the only lines that savings are counted from. Everything else stands
    /// beside them: what was bought elsewhere, and what the bill adds or gives back. `ledger.is_use` says the same in SQL; a test compares both.
    pub fn is_use(self) -> bool {
        matches!(self, Line::Pod | Line::DoubleRunning | Line::LostWork | Line::Boot | Line::Idle | Line::Drain | Line::Egress)
    }
}

/// A pod's time on the machine, within the machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The pod.
    pub pod: Uid,
    /// GPUs it holds.
    pub gpus: i64,
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Since when its replacement ran as well.
    pub doubled_from: Option<Timestamp>,
    /// Since when its work is lost, see [`lost_from`].
    pub lost_from: Option<Timestamp>,
    /// What had to be paid to carry its data here.
    pub egress: Option<MicroUsd>,
    /// Frozen B1 rate of one replica.
    pub b1_per_replica_hour: Option<MicroUsdPerHour>,
    /// Frozen B2 rate of one replica.
    pub b2_per_replica_hour: Option<MicroUsdPerHour>,
}

/// Since when the work of a pod is lost: batch work on a machine that was taken (or vanished) while the pod still ran on it, since its
/// last checkpoint or its start. A pod that left before its machine did had been notified in time and is assumed to have written a checkpoint.
///
/// `from` and `to` are the pod's time within the machine's, `machine_to` the machine's end.
pub fn lost_from(
    kind: WorkloadKind,
    ended_by: Option<EndedBy>,
    machine_to: Timestamp,
    (from, to): (Timestamp, Timestamp),
    checkpoints: &[Timestamp],
) -> Option<Timestamp> {
    let taken = matches!(ended_by, Some(EndedBy::Ec2Interruption | EndedBy::Unknown));
    if kind != WorkloadKind::Batch || !taken || to < machine_to {
        return None;
    }
    let last = checkpoints.iter().copied().filter(|at| *at >= from && *at <= to).max();
    Some(last.unwrap_or(from))
}

/// A share of one instance-hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The instance-hour.
    pub hour: u32,
    /// The UTC day, counted from 1970-01-01.
    pub day: i64,
    /// What for.
    pub line: Line,
    /// Whose, for pod lines.
    pub pod: Option<Uid>,
    /// The start of the part of the instance-hour that lies in the day.
    pub from: Timestamp,
    /// The length of that part.
    pub span: Millis,
    /// GPU milliseconds: the weight.
    pub gpu_ms: i64,
    /// What was paid.
    pub cost: MicroUsd,
    /// B0: on-demand of the same type and region for the same share, where known.
    pub b0: Option<MicroUsd>,
    /// B1: useful time at the frozen rate; zero for all but useful time.
    pub b1: Option<MicroUsd>,
    /// B2: likewise.
    pub b2: Option<MicroUsd>,
}

struct Cell {
    day: i64,
    piece: (i64, i64),
    line: Line,
    pod: Option<usize>,
    weight: i64,
    held: Millis,
}

fn shared(a: (i64, i64), b: (i64, i64)) -> i64 {
    (a.1.min(b.1) - a.0.max(b.0)).max(0)
}

/// Splits the cost of an instance with `gpus` GPUs over `pods` and the named lines, and adds what carrying their data cost.
pub fn allocate(gpus: i64, interval: &PaidInterval, pods: &[Occupied]) -> Vec<Share> {
    let mut shares = Vec::new();
    for segment in interval.segments() {
        let cells = cells(gpus.max(1), &segment, pods);
        let keys: Vec<_> = cells.iter().map(|cell| (cell.day, cell.line, cell.pod.map_or("", |n| pods[n].pod.as_str()))).collect();
        let weights: Vec<i64> = cells.iter().map(|cell| cell.weight).collect();
        let costs = largest_remainder(segment.cost, &weights, &keys);
        let b0s = segment.on_demand_cost.map(|amount| largest_remainder(amount, &weights, &keys));
        for (at, cell) in cells.iter().enumerate() {
            let pod = cell.pod.map(|n| &pods[n]);
            let rated = |rate: fn(&Occupied) -> Option<MicroUsdPerHour>| match pod {
                Some(pod) if cell.line == Line::Pod => rate(pod).map(|rate| rate.over(cell.held).to_micro_usd()),
                _ => Some(MicroUsd(0)),
            };
            shares.push(Share {
                hour: segment.hour,
                day: cell.day,
                line: cell.line,
                pod: pod.map(|pod| pod.pod.clone()),
                from: Timestamp(cell.piece.0),
                span: Millis(cell.piece.1 - cell.piece.0),
                gpu_ms: cell.weight,
                cost: costs[at],
                b0: b0s.as_ref().map(|amounts| amounts[at]),
                b1: rated(|pod| pod.b1_per_replica_hour),
                b2: rated(|pod| pod.b2_per_replica_hour),
            });
        }
    }
    shares.extend(pods.iter().filter_map(|pod| egress(interval, pod)));
    shares
}

/// Data are carried when the pod starts; no baseline would have carried them.
fn egress(interval: &PaidInterval, pod: &Occupied) -> Option<Share> {
    let cost = pod.egress.filter(|cost| cost.0 > 0)?;
    let hour = pod.from.since(interval.from).0.max(0) / INSTANCE_HOUR.0;
    let nothing = Some(MicroUsd(0));
    Some(Share {
        hour: u32::try_from(hour).unwrap_or(u32::MAX),
        day: pod.from.0.div_euclid(DAY),
        line: Line::Egress,
        pod: Some(pod.pod.clone()),
        from: pod.from,
        span: Millis::ZERO,
        gpu_ms: 0,
        cost,
        b0: nothing,
        b1: nothing,
        b2: nothing,
    })
}

/// The parts of one instance-hour with a weight, day by day.
fn cells(gpus: i64, segment: &PriceSegment, pods: &[Occupied]) -> Vec<Cell> {
    let first = pods.iter().map(|pod| pod.from.0).min().unwrap_or(i64::MAX);
    let last = pods.iter().map(|pod| pod.to.0.max(pod.from.0)).max().unwrap_or(i64::MAX);
    let (from, to) = (segment.from.0, segment.from.0 + segment.billed.0);
    let mut cells = Vec::new();
    for day in from.div_euclid(DAY)..=(to - 1).div_euclid(DAY) {
        let piece = (from.max(day * DAY), to.min((day + 1) * DAY));
        let mut used = 0;
        for (n, pod) in pods.iter().enumerate() {
            let lost = pod.lost_from.map_or(pod.to.0, |at| at.0);
            let doubled = pod.doubled_from.map_or(lost, |at| at.0.min(lost));
            for (line, span) in
                [(Line::Pod, (pod.from.0, doubled)), (Line::DoubleRunning, (doubled, lost)), (Line::LostWork, (lost, pod.to.0))]
            {
                let ms = shared(piece, span);
                used += ms * pod.gpus;
                cells.push(Cell { day, piece, line, pod: Some(n), weight: ms * pod.gpus, held: Millis(ms) });
            }
        }
        let rest = [
            (Line::Boot, gpus * shared(piece, (piece.0, first))),
            (Line::Idle, (gpus * shared(piece, (first, last)) - used).max(0)),
            (Line::Drain, gpus * shared(piece, (last, piece.1))),
        ];
        cells.extend(rest.map(|(line, weight)| Cell { day, piece, line, pod: None, weight, held: Millis(weight / gpus) }));
    }
    cells.retain(|cell| cell.weight > 0);
    cells
}

/// Splits `amount` by weight into whole micro-dollars; what is left goes to the largest remainders, ties by key. A negative amount is
/// split as its opposite would be.
pub(super) fn largest_remainder<K: Ord>(amount: MicroUsd, weights: &[i64], keys: &[K]) -> Vec<MicroUsd> {
    if amount.0 < 0 {
        return largest_remainder(-amount, weights, keys).into_iter().map(|share| -share).collect();
    }
    let total = weights.iter().map(|w| i128::from(*w)).sum::<i128>().max(1);
    let parts: Vec<(i128, i128)> = weights.iter().map(|w| i128::from(amount.0) * i128::from(*w)).map(|p| (p / total, p % total)).collect();
    let mut left = i128::from(amount.0) - parts.iter().map(|part| part.0).sum::<i128>();
    let by_remainder: BTreeMap<_, _> = parts.iter().zip(keys).enumerate().map(|(at, (part, key))| ((-part.1, key), at)).collect();
    let mut shares: Vec<MicroUsd> = parts.iter().map(|part| MicroUsd(i64::try_from(part.0).unwrap_or(i64::MAX))).collect();
    for at in by_remainder.into_values() {
        if left == 0 {
            break;
        }
        shares[at] = shares[at] + MicroUsd(1);
        left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::billing::HourRate;
    use super::*;
    use crate::core::market::CapacityType;

    fn interval(ran: Millis, price: i64) -> PaidInterval {
        let from = Timestamp::from_date(2026, 7, 20);
        PaidInterval {
            capacity_type: CapacityType::Spot,
            from,
            to: from + ran,
            ended_by: Some(EndedBy::Lowtide),
            bought_at: HourRate { price: MicroUsdPerHour(price), on_demand: Some(MicroUsdPerHour(804_800)) },
            hours: BTreeMap::new(),
        }
    }

    fn pod(name: &str, gpus: i64, from_min: i64, to_min: i64) -> Occupied {
        let day = Timestamp::from_date(2026, 7, 20);
        Occupied {
            pod: name.into(),
            gpus,
            from: day + Millis::from_mins(from_min),
            to: day + Millis::from_mins(to_min),
            doubled_from: None,
            lost_from: None,
            egress: None,
            b1_per_replica_hour: Some(MicroUsdPerHour(804_800)),
            b2_per_replica_hour: None,
        }
    }

    fn lines(shares: &[Share]) -> Vec<(Line, i64)> {
        shares.iter().map(|share| (share.line, share.cost.0)).collect()
    }

    #[test]
    fn what_no_pod_used_is_named() {
        let shares = allocate(1, &interval(Millis::from_mins(60), 60_000_000), &[pod("a", 1, 5, 20), pod("b", 1, 30, 50)]);
        let expected = [(Line::Pod, 15), (Line::Pod, 20), (Line::Boot, 5), (Line::Idle, 10), (Line::Drain, 10)];
        assert_eq!(lines(&shares), expected.map(|(line, dollars)| (line, dollars * 1_000_000)));
        assert_eq!(shares[0].b1, Some(MicroUsd(201_200)));
        assert_eq!((shares[2].b1, shares[0].b2), (Some(MicroUsd(0)), None), "an unknown rate stays unknown");
    }

    #[test]
    fn a_machine_that_never_served_is_all_boot() {
        assert_eq!(lines(&allocate(4, &interval(Millis::from_mins(6), 1_000_000), &[])), [(Line::Boot, 100_000)]);
    }

    #[test]
    fn thirds_add_up_to_the_micro_dollar() {
        let shares = allocate(3, &interval(Millis::from_mins(60), 100), &[pod("a", 1, 0, 60), pod("b", 1, 0, 60), pod("c", 1, 0, 60)]);
        assert_eq!(lines(&shares), [(Line::Pod, 34), (Line::Pod, 33), (Line::Pod, 33)]);
    }

    #[test]
    fn running_beside_the_replacement_is_the_moves_cost_and_saves_nothing() {
        let mut old = pod("old", 1, 0, 60);
        old.doubled_from = Some(old.from + Millis::from_mins(45));
        let shares = allocate(1, &interval(Millis::from_mins(60), 400_000), &[old]);
        assert_eq!(lines(&shares), [(Line::Pod, 300_000), (Line::DoubleRunning, 100_000)]);
        assert_eq!(shares.iter().map(|s| s.b1).collect::<Vec<_>>(), [Some(MicroUsd(603_600)), Some(MicroUsd(0))]);
    }

    /// "Billing for interrupted Spot Instances": the hour is free; what was done in it and kept would have cost something on demand.
    #[test]
    fn lost_work_is_a_line_of_its_own_without_a_counterfactual() {
        let mut free = interval(Millis::from_mins(30), 400_000);
        free.ended_by = Some(EndedBy::Ec2Interruption);
        let (mut batch, serving) = (pod("batch", 1, 0, 30), pod("serving", 1, 0, 30));
        batch.lost_from = Some(batch.from + Millis::from_mins(20));
        let lines = |interval: &PaidInterval| -> Vec<_> {
            let shares = allocate(2, interval, &[batch.clone(), serving.clone()]);
            shares.into_iter().map(|s| (s.line, s.cost.0, s.b1.unwrap().0)).collect()
        };
        assert_eq!(lines(&free), [(Line::Pod, 0, 268_267), (Line::LostWork, 0, 0), (Line::Pod, 0, 402_400)]);
        free.capacity_type = CapacityType::OnDemand;
        assert_eq!(lines(&free), [(Line::Pod, 66_667, 268_267), (Line::LostWork, 33_333, 0), (Line::Pod, 100_000, 402_400)]);
    }

    #[test]
    fn work_is_lost_since_its_last_checkpoint_and_only_when_the_machine_took_it_along() {
        use EndedBy::{Ec2Interruption, Lowtide, Unknown};
        use WorkloadKind::{Batch, Inference};
        let at = |minute: i64| Timestamp::from_date(2026, 7, 20) + Millis::from_mins(minute);
        let lost = |kind, ended_by, to: i64, checkpoints: &[i64]| {
            let checkpoints: Vec<_> = checkpoints.iter().map(|m| at(*m)).collect();
            lost_from(kind, ended_by, at(60), (at(10), at(to)), &checkpoints)
        };
        assert_eq!(lost(Batch, Some(Ec2Interruption), 60, &[]), Some(at(10)), "no checkpoint: all since the start");
        assert_eq!(lost(Batch, Some(Unknown), 60, &[5, 20, 40, 70]), Some(at(40)));
        assert_eq!(lost(Batch, Some(Ec2Interruption), 59, &[]), None, "it ended in time, after the notice");
        assert_eq!(lost(Batch, Some(Lowtide), 60, &[]), None);
        assert_eq!(lost(Batch, None, 60, &[]), None, "it still runs");
        assert_eq!(lost(Inference, Some(Ec2Interruption), 60, &[]), None, "requests are answered or not: nothing to do again");
    }

    #[test]
    fn carrying_data_is_a_cost_beside_the_machine_that_no_baseline_has() {
        let mut moved = pod("a", 1, 70, 120);
        moved.egress = Some(MicroUsd(400_000));
        let shares = allocate(1, &interval(Millis::from_mins(120), 60_000), &[moved]);
        let egress: Vec<_> = shares.iter().filter(|s| s.line == Line::Egress).map(|s| (s.hour, s.cost.0, s.b1, s.gpu_ms)).collect();
        assert_eq!(egress, [(1, 400_000, Some(MicroUsd(0)), 0)]);
        let machine: i64 = shares.iter().filter(|s| s.line != Line::Egress).map(|s| s.cost.0).sum();
        assert_eq!(machine, 120_000);
    }

    #[test]
    fn a_credit_is_split_as_the_charge_would_be() {
        assert_eq!(largest_remainder(MicroUsd(-100), &[1, 1, 1], &["a", "b", "c"]), [MicroUsd(-34), MicroUsd(-33), MicroUsd(-33)]);
    }

    #[test]
    fn midnight_divides_an_hour() {
        let mut late = interval(Millis::from_mins(60), 1_000_001);
        late.from = late.from + Millis::from_mins(23 * 60 + 30);
        late.to = late.from + Millis::from_mins(60);
        let shares = allocate(1, &late, &[pod("a", 1, 23 * 60 + 30, 24 * 60 + 30)]);
        assert_eq!(shares.iter().map(|s| (s.day, s.cost.0)).collect::<Vec<_>>(), [(20_654, 500_001), (20_655, 500_000)]);
    }
}
