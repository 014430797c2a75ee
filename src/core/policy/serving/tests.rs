//! What a service holds where, case by case.

use super::*;

const NOW: Timestamp = Timestamp(100 * 3_600_000);

fn service(on_demand: u32) -> Service {
    let on_demand_price = MicroUsdPerHour(3_000_000);
    Service { replicas: 3, spares: 1, on_demand, on_demand_ready: on_demand, on_demand_price, budget: None }
}

/// The same with a goal of 99.5 %, so 7.2 minutes a day, of which this number of seconds is used; a loss lasts 150 s.
fn with_goal(used_seconds: i64, on_demand: u32) -> Service {
    let mut seen = Shortfall::default();
    let begun = NOW - Millis::from_hours(5);
    for (at, enough) in [(begun, true), (begun, false), (begun + Millis::from_secs(used_seconds), true)] {
        seen.observe(at, enough);
    }
    Service { budget: Some(ErrorBudget::of_goal(995_000, &seen, NOW, Millis::from_secs(150))), ..service(on_demand) }
}

fn pool(memory: &CapacityMemory, launched: u32, ready: u32, price: i64) -> ServingPool<'_> {
    ServingPool { price: MicroUsdPerHour(price), launched, ready, memory, refused: false }
}

/// A pool that has had capacity all the time for this number of hours, and lost it this often in between.
fn history(hours: i64, losses: i64) -> CapacityMemory {
    let mut memory = CapacityMemory::default();
    let begun = NOW - Millis::from_hours(hours);
    for minute in 0..=hours * 60 {
        let lost = losses > 0 && minute % (hours * 60 / losses) == 1;
        memory.observe(begun + Millis::from_mins(minute), !lost);
        if lost {
            memory.note_loss(begun + Millis::from_mins(minute));
        }
    }
    memory
}

#[test]
fn replicas_spread_before_they_look_at_price_unless_a_pool_is_dear() {
    let m = CapacityMemory::default();
    assert_eq!(next_launch(&service(0), &[pool(&m, 1, 1, 900_000), pool(&m, 0, 0, 1_000_000)], NOW), Some(1));
    assert_eq!(next_launch(&service(0), &[pool(&m, 1, 1, 900_000), pool(&m, 0, 0, 2_000_000)], NOW), Some(0));
    assert_eq!(next_launch(&service(0), &[pool(&m, 2, 2, 900_000), pool(&m, 2, 2, 1_000_000)], NOW), None);
}

#[test]
fn on_demand_covers_only_what_spot_could_not_launch_and_stays_until_spot_is_ready() {
    let m = CapacityMemory::default();
    assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 4, 0, 1)], NOW), 0);
    assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 1, 1, 1); 3], NOW), 1, "there is no room for the spare");
    assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 3, 3, 1)], NOW), 0, "one spare would not cover the loss of that pool");
    assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 2, 2, 1)], NOW), 1);
    assert_eq!(on_demand_wanted(&service(0), &[], NOW), 3, "a spare is not bought on on-demand alone");
    assert_eq!(on_demand_wanted(&service(2), &[pool(&m, 4, 1, 1)], NOW), 2);
    assert_eq!(on_demand_wanted(&service(2), &[pool(&m, 4, 3, 1)], NOW), 0);
}

#[test]
fn what_is_left_in_a_pool_after_a_loss_is_replaced_elsewhere_before_it_goes() {
    let (good, mut lossy) = (CapacityMemory::default(), CapacityMemory::default());
    lossy.note_loss(NOW);
    // Two that are about to go are spares as long as they are there.
    let pools = [pool(&lossy, 2, 2, 900_000), pool(&good, 2, 2, 900_000)];
    assert_eq!(next_launch(&service(0), &pools, NOW + Millis(60_000)), Some(1));
    assert_eq!(on_demand_wanted(&service(0), &pools, NOW + Millis(60_000)), 1);
    assert_eq!(next_launch(&service(0), &pools, NOW + Millis(301_000)), None);
}

#[test]
fn while_the_budget_has_room_for_a_loss_no_spare_is_held_and_replicas_stay_together() {
    let m = CapacityMemory::default();
    let at = |used, pools: &[ServingPool<'_>]| next_launch(&with_goal(used, 0), pools, NOW);
    let two = [pool(&m, 2, 2, 900_000), pool(&m, 0, 0, 900_000)];
    assert_eq!(at(0, &two), Some(0), "a second pool is a second one that can fail");
    assert_eq!(at(0, &[pool(&m, 3, 3, 900_000), pool(&m, 0, 0, 900_000)]), None);
    assert_eq!(at(282, &[pool(&m, 3, 3, 900_000), pool(&m, 0, 0, 900_000)]), None, "432 s are allowed, and 282 and 150 are just that");
    assert_eq!(at(283, &two), Some(1), "one loss more would be too many");
    // Coming from spares, the emptiest pool is given up first.
    assert_eq!(next_release(&with_goal(0, 0), &[pool(&m, 2, 2, 1), pool(&m, 3, 3, 1)], NOW), Some(0));
    assert_eq!(on_demand_wanted(&with_goal(0, 0), &[pool(&m, 2, 2, 1)], NOW), 1, "what no pool has room for is bought all the same");
}

#[test]
fn a_tight_budget_is_guarded_until_the_loss_of_the_fullest_pool_leaves_enough() {
    let m = history(40, 1);
    let guarded = with_goal(300, 0);
    let counts = |launched: [u32; 3]| launched.map(|n| pool(&m, n, n, 900_000));
    for (held, next) in [([2, 1, 1], Some(1)), ([2, 2, 1], None), ([2, 2, 0], Some(2)), ([4, 0, 0], Some(1)), ([3, 3, 0], None)] {
        assert_eq!(next_launch(&guarded, &counts(held), NOW), next, "{held:?}");
    }
    let full = |launched: u32| ServingPool { refused: true, ..pool(&m, launched, launched, 900_000) };
    assert_eq!(next_launch(&guarded, &[pool(&m, 4, 4, 1), full(1)], NOW), None, "one more there would be lost with the rest");
}

#[test]
fn a_pool_is_relied_on_for_as_long_as_it_is_expected_to_last_and_the_budget_to_bear() {
    let (steady, flaky, unseen) = (history(40, 1), history(10, 20), CapacityMemory::default());
    // The loss of three of five leaves two: one is missing.
    let wanted = |used, m: &CapacityMemory| on_demand_wanted(&with_goal(used, 0), &[pool(m, 3, 3, 1), pool(m, 2, 2, 1)], NOW);
    for (used, expected) in [(0, [0, 0, 0]), (300, [0, 1, 0]), (648, [0, 1, 0]), (649, [3, 3, 3])] {
        assert_eq!([&steady, &flaky, &unseen].map(|m| wanted(used, m)), expected, "{used} s used");
    }
}

#[test]
fn a_lone_pool_that_is_not_steady_is_left_for_on_demand_until_there_is_a_second() {
    let flaky = history(10, 20);
    let refused = |p: ServingPool<'static>| ServingPool { refused: true, ..p };
    let unseen: &'static CapacityMemory = Box::leak(Box::default());
    let other = pool(unseen, 0, 0, 900_000);
    // Three on on-demand are ready: the three on spot are given back, and the pool is not gone to again.
    assert_eq!(on_demand_wanted(&with_goal(300, 0), &[pool(&flaky, 3, 3, 900_000), other], NOW), 3);
    assert_eq!(next_release(&with_goal(300, 3), &[pool(&flaky, 3, 3, 900_000), other], NOW), Some(0));
    assert_eq!(next_release(&with_goal(300, 2), &[pool(&flaky, 3, 3, 900_000), other], NOW), None, "not before on-demand is ready");
    assert_eq!(next_launch(&with_goal(300, 3), &[pool(&flaky, 0, 0, 900_000), refused(other)], NOW), None);
    // The one that may have room again is asked first; when it has, the other is worth going to as well.
    assert_eq!(next_launch(&with_goal(300, 3), &[pool(&flaky, 0, 0, 900_000), other], NOW), Some(1));
    assert_eq!(next_launch(&with_goal(300, 3), &[pool(&flaky, 0, 0, 900_000), pool(unseen, 1, 0, 900_000)], NOW), Some(0));
    assert_eq!(next_launch(&with_goal(0, 3), &[pool(&flaky, 0, 0, 900_000), refused(other)], NOW), Some(0), "with budget left it is taken");
}

#[test]
fn a_lone_pool_holds_no_spares_and_is_tried_again_when_it_has_not_been_lost_for_half_a_part_of_the_day() {
    let steady = history(40, 1);
    let refused = ServingPool { refused: true, ..pool(&steady, 0, 0, 900_000) };
    assert_eq!(next_launch(&with_goal(300, 0), &[pool(&steady, 3, 3, 900_000), refused], NOW), None);
    assert_eq!(next_launch(&with_goal(300, 0), &[pool(&steady, 3, 3, 900_000), pool(&steady, 0, 0, 900_000)], NOW), Some(1));
    // 348 s of one and a half budgets are left, and a loss takes 150 s: a day in 3.32 parts, half of one is 3 h 36 min 52 s.
    let flaky = history(10, 20);
    let last_loss = NOW - Millis::from_mins(29);
    for (after_minutes, tried) in [(216, None), (217, Some(0))] {
        let now = last_loss + Millis::from_mins(after_minutes);
        let budget = with_goal(300, 3).budget;
        let refused = ServingPool { refused: true, ..pool(&flaky, 0, 0, 900_000) };
        let service = Service { budget, ..service(3) };
        assert_eq!(next_launch(&service, &[pool(&flaky, 0, 0, 900_000), refused], now), tried, "{after_minutes} min after the last loss");
    }
}

#[test]
fn when_one_and_a_half_budgets_are_gone_spot_is_left_once_on_demand_is_ready() {
    let m = history(40, 1);
    let pools = [pool(&m, 2, 2, 1), pool(&m, 2, 2, 1)];
    assert_eq!((next_launch(&with_goal(649, 0), &pools, NOW), on_demand_wanted(&with_goal(649, 0), &pools, NOW)), (None, 3));
    assert_eq!(next_release(&with_goal(649, 2), &pools, NOW), None, "not before on-demand is ready");
    assert_eq!(next_release(&with_goal(649, 3), &pools, NOW), Some(0));
    // Yesterday counts too: two budgets in two days.
    let budget = with_goal(300, 0).budget.map(|b| ErrorBudget { used_in_two: Millis::from_secs(715), ..b });
    assert_eq!(on_demand_wanted(&Service { budget, ..service(0) }, &pools, NOW), 3);
}
