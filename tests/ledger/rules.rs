//! Both statements of the billing and allocation rules agree.

use std::collections::BTreeMap;

use lowtide::core::accounting::allocation::allocate;
use lowtide::core::accounting::billing::HourRate;
use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::{CarriedData, LedgerRecord};
use lowtide::core::units::money::MicroUsd;
use lowtide::core::units::time::Millis;
use lowtide::core::workload::need::WorkloadKind;
use lowtide::ledger::connect;
use lowtide::ports::Ledger;
use sqlx::Row;

use crate::facts::{Bench, DAY, Dice, Machine, Stay, bench, moved};

pub fn random_machine(n: usize, dice: &mut Dice) -> Machine {
    let capacity_type = if dice.one_in(4) { CapacityType::OnDemand } else { CapacityType::Spot };
    let longest = [90_000, 3_600_000, 3_600_001, 20_000_000][usize::try_from(dice.between(0, 3)).unwrap()];
    let ended_by = [EndedBy::Ec2Interruption, EndedBy::Lowtide, EndedBy::Unknown][usize::try_from(dice.between(0, 2)).unwrap()];
    let on_demand = dice.maybe(1, 60_000_000).map(|rate| rate.0);
    let ran = Millis(dice.between(0, longest));
    let mut machine = Machine::new(&format!("m{n}"), capacity_type, dice.between(1, 50_000_000), on_demand, ran, ended_by);
    machine.gpus = dice.between(1, 8);
    machine.interval.from = DAY + Millis(dice.between(0, 3 * 86_400_000));
    machine.interval.to = machine.interval.from + ran;
    for hour in 0..u32::try_from(ran.0 / 3_600_000 + 1).unwrap() {
        if !dice.one_in(3) {
            let rate = HourRate {
                price: dice.maybe(1, 50_000_000).unwrap_or(machine.interval.bought_at.price),
                on_demand: dice.maybe(1, 60_000_000),
            };
            machine.interval.hours.insert(hour, rate);
        }
    }
    for pod in 0..dice.between(0, 4) {
        let from = machine.interval.from + Millis(dice.between(-5_000, ran.0));
        let length = if dice.one_in(3) { 2 * ran.0 } else { dice.between(0, ran.0) };
        machine.stays.push(Stay {
            pod: format!("pod-{n}-{pod}"),
            workload: format!("w-{n}-{pod}"),
            team: ["search", "vision"].get(usize::try_from(dice.between(0, 2)).unwrap()).copied(),
            kind: if dice.one_in(2) { WorkloadKind::Batch } else { WorkloadKind::Inference },
            gpus: dice.between(1, machine.gpus),
            from,
            to: (!dice.one_in(5)).then_some(from + Millis(length)),
            b1: dice.maybe(1, 9_000_000),
            b2: dice.maybe(1, 9_000_000),
            doubled_from: None,
            carried: dice.one_in(4).then(|| CarriedData {
                gib: dice.between(1, 500),
                from_region: "eu-south-2".into(),
                price_per_gib: MicroUsd(dice.between(1, 150_000)),
                moved_by: None,
            }),
            checkpoints: (0..dice.between(0, 3)).map(|_| from + Millis(dice.between(-1_000, length + 1_000))).collect(),
        });
    }
    machine
}

/// For some pods, a replacement on a machine of its own that begins before they end.
pub fn with_moves(machines: &mut Vec<Machine>, dice: &mut Dice) -> Vec<LedgerRecord> {
    let (mut moves, mut new_machines) = (Vec::new(), Vec::new());
    for machine in machines.iter_mut() {
        let (from, to) = (machine.interval.from, machine.interval.to);
        let original = machine.clone();
        for stay in &mut machine.stays {
            let (begins, ends) = (stay.from.clamp(from, to), stay.to.unwrap_or(to).clamp(from, to));
            if !dice.one_in(4) || ends <= begins {
                continue;
            }
            let doubled = begins + Millis(dice.between(0, ends.since(begins).0 + 1_000));
            let mut target = random_machine(1_000 + new_machines.len(), dice);
            target.interval.from = doubled - Millis(10_000);
            target.interval.to = doubled + Millis(100_000);
            target.interval.hours.clear();
            target.stays = vec![Stay {
                pod: format!("{}-new", stay.pod),
                from: doubled,
                to: None,
                gpus: 1,
                doubled_from: None,
                carried: None,
                checkpoints: Vec::new(),
                ..stay.clone()
            }];
            moves.push(moved(stay, &original, &target, doubled - Millis(5_000)));
            stay.doubled_from = (doubled < ends).then_some(doubled);
            new_machines.push(target);
        }
    }
    machines.extend(new_machines);
    moves
}

type Line = (i64, i64, String, Option<String>, i64, i64, Option<i64>, Option<i64>, Option<i64>);

fn expected(machine: &Machine) -> Vec<Line> {
    let mut lines: Vec<Line> = allocate(machine.gpus, &machine.interval, &machine.occupied())
        .into_iter()
        .map(|s| {
            let pod = s.pod.map(|pod| pod.as_str().to_owned());
            let money = |amount: Option<lowtide::core::units::money::MicroUsd>| amount.map(|m| m.0);
            (i64::from(s.hour), s.day, s.line.as_str().to_owned(), pod, s.gpu_ms, s.cost.0, money(s.b0), money(s.b1), money(s.b2))
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_views_and_the_pure_rules_agree_to_the_micro_dollar() {
    let Bench { url, ledger, server: _server } = bench().await;
    let mut dice = Dice(6);
    let mut machines: Vec<Machine> = (0..300).map(|n| random_machine(n, &mut dice)).collect();
    let mut records = with_moves(&mut machines, &mut dice);
    assert!(records.len() > 30, "too few moves to mean anything: {}", records.len());
    records.extend(machines.iter().flat_map(Machine::records));
    records.reverse();
    for chunk in records.chunks(97) {
        ledger.write(chunk).await.unwrap();
    }
    let sql = "SELECT claim, hour::bigint, (day - date '1970-01-01')::bigint, line, pod_uid, gpu_ms::bigint, cost_micro::bigint, b0_micro::bigint,
                      b1_micro::bigint, b2_micro::bigint FROM ledger.recomputed_share";
    let mut connection = connect(&url).await.unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    let mut found: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for r in rows {
        let line = (r.get(1), r.get(2), r.get(3), r.get(4), r.get(5), r.get(6), r.get(7), r.get(8), r.get(9));
        found.entry(r.get(0)).or_default().push(line);
    }
    for machine in &machines {
        let mut lines = found.remove(&machine.name).unwrap_or_default();
        lines.sort();
        assert_eq!(lines, expected(machine), "{machine:#?}");
        assert_eq!(
            lines.iter().filter(|line| line.2 != "egress").map(|line| line.5).sum::<i64>(),
            machine.interval.cost().0,
            "the split of {} does not add up",
            machine.name
        );
    }
    assert!(found.is_empty());
}
