use super::*;

const DAYS: i64 = 14;

/// A service of `replicas` pods of one L4 each, whose GPUs are active `per_mille` of every hour, with memory in use.
fn service(replicas: i64, per_mille: i64, memory: Option<i64>) -> MeasuredUse {
    let hour = HourOfUse { held: replicas * HOUR, active: replicas * HOUR * per_mille / 1_000, sampled: replicas * HOUR };
    MeasuredUse {
        kind: WorkloadKind::Inference,
        gpus_per_pod: 1,
        ran_from_the_start: true,
        hours: (0..DAYS * 24).map(|at| (at, hour)).collect(),
        busiest_pod_per_mille: Some(per_mille),
        types: BTreeMap::from([("g6.xlarge".into(), memory.map(Mebibytes))]),
        memory_read_gpu_ms: if memory.is_some() { DAYS * 24 * replicas * HOUR } else { 0 },
        shared: false,
        requests: BTreeMap::new(),
    }
}

fn of(measured: &MeasuredUse) -> Advice {
    advise(measured, DAYS, &Catalog::snapshot(), None).unwrap()
}

fn why(advice: &Advice, what: What) -> Option<Not> {
    advice.not.iter().find(|(not, _)| *not == what).map(|(_, why)| *why)
}

fn change(advice: &Advice, what: What) -> Option<&Change> {
    advice.recommended.iter().map(|recommended| &recommended.change).find(|change| change.what() == what)
}

#[test]
fn what_is_young_unmeasured_shared_or_unknown_gets_none() {
    let good = service(6, 100, Some(4_000));
    let mut half_measured = good.clone();
    half_measured.hours.values_mut().for_each(|hour| (hour.sampled, hour.active) = (hour.sampled * 799 / 1_000, hour.active / 2));
    for (measured, unknown) in [
        (MeasuredUse { ran_from_the_start: false, ..good.clone() }, Unknown::Young),
        (half_measured, Unknown::Unmeasured),
        (MeasuredUse { hours: BTreeMap::new(), ..good.clone() }, Unknown::Unmeasured),
        (MeasuredUse { shared: true, ..good.clone() }, Unknown::Shared),
        (MeasuredUse { types: BTreeMap::from([("g99.xlarge".into(), None)]), ..good.clone() }, Unknown::UnknownType),
    ] {
        assert_eq!(advise(&measured, DAYS, &Catalog::snapshot(), None), Err(unknown));
    }
    assert_eq!(of(&good).evidence.replicas, 6);
}

#[test]
fn replicas_are_those_of_the_busiest_hour_at_the_target_and_never_less_than_two() {
    // Ten replicas at 10 % are one GPU's work: two stay. In one hour they are at 42 %: 4.2 GPUs' work is seven at 60 %.
    let mut measured = service(10, 100, None);
    let advice = of(&measured);
    assert_eq!(change(&advice, What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 2 }));
    assert_eq!(advice.recommended[0].gpu_ms_after, DAYS * 24 * 2 * HOUR);
    measured.hours.insert(100, HourOfUse { held: 10 * HOUR, active: 42 * HOUR / 10, sampled: 10 * HOUR });
    assert_eq!(change(&of(&measured), What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 7 }));
    // Half of that hour is measured, and stands for all of it; of less, nothing is said.
    measured.hours.insert(100, HourOfUse { held: 10 * HOUR, active: 21 * HOUR / 10, sampled: 5 * HOUR });
    assert_eq!(change(&of(&measured), What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 7 }));
    measured.hours.insert(100, HourOfUse { held: 10 * HOUR, active: 4 * HOUR, sampled: 4 * HOUR });
    assert_eq!(change(&of(&measured), What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 2 }));
    // A pod of four GPUs is four times as much of everything.
    let mut large = service(40, 100, None);
    large.gpus_per_pod = 4;
    assert_eq!(change(&of(&large), What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 2 }));
    for (measured, not) in [
        (service(10, 590, None), Not::Busy),
        (service(2, 10, None), Not::FewReplicas),
        (MeasuredUse { kind: WorkloadKind::Batch, ..service(10, 100, None) }, Not::RunsToCompletion),
    ] {
        assert_eq!(why(&of(&measured), What::FewerReplicas), Some(not));
    }
}

/// Replicas that come and go keep their hours below the limit.
#[test]
fn hours_below_the_limit_stay_as_they_are() {
    let mut measured = service(2, 50, None);
    for at in 0..24 {
        measured.hours.insert(at, HourOfUse { held: 8 * HOUR, active: 2 * HOUR, sampled: 8 * HOUR });
    }
    let advice = of(&measured);
    assert_eq!(change(&advice, What::FewerReplicas), Some(&Change::FewerReplicas { replicas: 4 }));
    assert_eq!(advice.recommended[0].gpu_ms_after, (24 * 4 + (DAYS * 24 - 24) * 2) * HOUR);
}

/// An L4 has 22,888 MiB: 15,998 is just below what an engine takes in advance, 15,999 is not.
#[test]
fn nothing_rests_on_memory_that_an_engine_takes_whole_or_that_nobody_read() {
    for (memory, not) in [(Some(20_600), Not::MemoryTakenWhole), (Some(15_999), Not::MemoryTakenWhole), (None, Not::MemoryUnknown)] {
        let advice = of(&service(6, 50, memory));
        assert_eq!((why(&advice, What::Sharing), why(&advice, What::SmallerGpu)), (Some(not), Some(not)), "{memory:?}");
        assert!(change(&advice, What::FewerReplicas).is_some(), "replicas do not rest on memory");
    }
    assert_ne!(why(&of(&service(6, 50, Some(15_998))), What::SmallerGpu), Some(Not::MemoryTakenWhole));
    let mut seldom_read = service(6, 50, Some(4_000));
    seldom_read.memory_read_gpu_ms = seldom_read.memory_read_gpu_ms * 799 / 1_000;
    assert_eq!(why(&of(&seldom_read), What::SmallerGpu), Some(Not::MemoryUnknown), "a peak may lie in what was not read");
    // Of one type it is read, of the other not; on one GPU the engine takes all, on the other that is a small part.
    let mut measured = service(6, 50, Some(4_000));
    measured.types.insert("g5.xlarge".into(), None);
    assert_eq!(why(&of(&measured), What::Sharing), Some(Not::MemoryUnknown));
    measured.types.insert("p5.48xlarge".into(), Some(Mebibytes(20_000)));
    measured.types.insert("g5.xlarge".into(), Some(Mebibytes(20_000)));
    assert_eq!(why(&of(&measured), What::Sharing), Some(Not::MemoryTakenWhole));
}

#[test]
fn a_gpu_is_shared_by_as_many_as_stay_below_the_target_and_have_the_memory() {
    let mps = |replicas, memory| Change::Sharing { sharing: Sharing::Mps { replicas }, memory: Mebibytes(memory) };
    // 4 x 15 % and 4 x (4,000 MiB and a fifth, and a context) fit; with 25 % only two do; with 8,000 MiB two as well.
    assert_eq!(change(&of(&service(4, 150, Some(4_000))), What::Sharing), Some(&mps(4, 4_800)));
    assert_eq!(change(&of(&service(4, 250, Some(4_000))), What::Sharing), Some(&mps(2, 4_800)));
    assert_eq!(change(&of(&service(4, 150, Some(8_000))), What::Sharing), Some(&mps(2, 9_600)));
    assert_eq!(change(&of(&service(3, 150, Some(4_000))), What::Sharing), Some(&mps(3, 4_800)), "no more than there are");
    let batch = MeasuredUse { kind: WorkloadKind::Batch, ..service(4, 150, Some(4_000)) };
    assert_eq!(change(&of(&batch), What::Sharing), Some(&mps(4, 4_800)));
    for (measured, not) in [
        (service(4, 310, Some(4_000)), Not::Busy),
        (service(4, 150, Some(11_000)), Not::MemoryNeeded),
        (service(1, 50, Some(2_000)), Not::FewReplicas),
        (MeasuredUse { gpus_per_pod: 2, ..service(4, 50, Some(2_000)) }, Not::SeveralGpus),
        (MeasuredUse { busiest_pod_per_mille: None, ..service(4, 50, Some(2_000)) }, Not::Busy),
    ] {
        assert_eq!(why(&of(&measured), What::Sharing), Some(not));
    }
    // What the class offers, and nothing else.
    let offered = |way: &str, per_mille| {
        let advice = advise(&service(4, per_mille, Some(4_000)), DAYS, &Catalog::snapshot(), way.parse().ok()).unwrap();
        (change(&advice, What::Sharing).cloned(), why(&advice, What::Sharing))
    };
    let slices = Change::Sharing { sharing: Sharing::TimeSlicing { replicas: 2 }, memory: Mebibytes(4_800) };
    assert_eq!(offered("time-slicing-2", 150), (Some(slices), None));
    assert_eq!(offered("mps-8", 150), (None, Some(Not::Busy)));
    assert_eq!(offered("mig-7", 50), (None, Some(Not::MemoryNeeded)), "an L4 has no MIG");
}

#[test]
fn a_smaller_gpu_has_the_memory_and_by_published_figures_the_power() {
    // On an H100 at 5 %: 50 of its 989 TFLOPS. An L4 (121) and an A10G (70) would be at 56 % and more than 60 %.
    let mut measured = service(2, 50, Some(1));
    measured.types = BTreeMap::from([("p5.4xlarge".into(), Some(Mebibytes(10_000)))]);
    let advice = of(&measured);
    let Some(Change::SmallerGpu { memory, models, types }) = change(&advice, What::SmallerGpu) else { panic!("{advice:?}") };
    assert_eq!(*memory, Mebibytes(12_000));
    assert!(models.contains(&"l40s".into()) && models.contains(&"a100".into()), "{models:?}");
    assert!(!models.contains(&"t4".into()) && !models.contains(&"a10g".into()) && !models.contains(&"rtx-pro-4500".into()), "{models:?}");
    assert!(types.contains(&"g6e.xlarge".into()) && !types.contains(&"p5.48xlarge".into()));
    // On an L4: parts of an L4 are as strong as they are large, and those that are too weak have too little of the memory that is asked for.
    let Some(Change::SmallerGpu { memory, models, types }) = change(&of(&service(2, 200, Some(1_000))), What::SmallerGpu).cloned() else {
        panic!("no part of an L4")
    };
    assert_eq!(models, ["l4", "t4", "v100"].map(GpuModel::from));
    assert_eq!(memory, Mebibytes(5_723), "a quarter of an L4 has 5,722 MiB and would be at 80 %");
    let has = |name: &str| types.contains(&name.into());
    assert!(has("g6f.4xlarge") && has("g4dn.xlarge") && !has("g6f.2xlarge") && !has("g6f.large") && !has("g6.xlarge"), "{types:?}");
    for (measured, not) in [(service(2, 650, Some(1_000)), Not::NoSmaller), (service(2, 10, Some(14_000)), Not::NoSmaller)] {
        assert_eq!(why(&of(&measured), What::SmallerGpu), Some(not));
    }
    // Of a model whose figures are not published nothing is said.
    let mut unknown = service(2, 10, Some(1));
    unknown.types = BTreeMap::from([("p6-b200.48xlarge".into(), Some(Mebibytes(4_000)))]);
    assert_eq!(why(&of(&unknown), What::SmallerGpu), Some(Not::NoSmaller));
}

/// From nine to twelve each day.
fn office_hours(measured: &mut MeasuredUse) {
    measured.requests = measured.hours.keys().map(|at| (*at, if (9..12).contains(&(at % 24)) { 100 } else { 0 })).collect();
}

#[test]
fn work_that_is_asked_for_in_few_hours_is_done_in_those() {
    let mut measured = service(2, 300, None);
    assert_eq!(why(&of(&measured), What::Batch), Some(Not::RequestsUnknown));
    office_hours(&mut measured);
    let advice = of(&measured);
    assert_eq!(change(&advice, What::Batch), Some(&Change::Batch { busy_hours: 42 }));
    let batch = advice.recommended.iter().find(|recommended| recommended.change.what() == What::Batch).unwrap();
    assert_eq!(batch.gpu_ms_after, DAYS * 4 * 2 * HOUR, "three hours and one to start");
    // Of an hour that is missing nothing is known: with too many of them, of none.
    measured.requests.retain(|at, _| at % 4 != 0);
    assert_eq!(why(&of(&measured), What::Batch), Some(Not::RequestsUnknown));
    let mut all_day = service(2, 300, None);
    all_day.requests = all_day.hours.keys().map(|at| (*at, i64::from(at % 24 < 7))).collect();
    assert_eq!(why(&of(&all_day), What::Batch), Some(Not::AskedAllDay));
    let mut job = MeasuredUse { kind: WorkloadKind::Batch, ..service(2, 300, None) };
    office_hours(&mut job);
    assert_eq!(why(&of(&job), What::Batch), Some(Not::RunsToCompletion));
}

/// Whatever was measured, nothing is recommended that would hold more GPU time than there was.
#[test]
fn no_recommendation_holds_more_than_there_was() {
    for replicas in 1..12 {
        for per_mille in (0..1_000).step_by(37) {
            let mut measured = service(replicas, per_mille, Some(3_000));
            office_hours(&mut measured);
            let advice = of(&measured);
            for recommended in &advice.recommended {
                assert!(recommended.gpu_ms_after <= advice.evidence.held_gpu_ms, "{replicas} {per_mille} {recommended:?}");
            }
            assert_eq!(advice.recommended.len() + advice.not.len(), 4);
        }
    }
}
