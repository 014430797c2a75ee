use crate::core::units::time::Millis;
use crate::core::workload::need::annotations::*;

fn pod(annotations: &[(&str, &str)], spec: &str) -> PodManifest {
    let mut manifest: PodManifest = serde_json::from_str(&format!("{{\"spec\":{spec}}}")).unwrap();
    manifest.metadata.annotations = annotations.iter().map(|(k, v)| (format!("lowtide.dev/{k}"), (*v).to_owned())).collect();
    manifest
}

const ONE_GPU: &str = r#"{"containers":[{"name":"a","resources":{"limits":{"nvidia.com/gpu":1,"cpu":"2","memory":"8Gi"}}}]}"#;

#[test]
fn every_annotation_reaches_the_need_or_the_schedule() {
    let manifest = pod(
        &[
            ("workload", "batch"),
            ("gpu-memory", "20Gi"),
            ("gpu-models", "L4, a10g"),
            ("regions", "us-*,eu-west-1"),
            ("capacity", "spot-only"),
            ("max-price-per-gpu-hour", "1.20"),
            ("deadline", "26h"),
            ("expected-runtime", "1h30m"),
            ("checkpoint-grace", "90s"),
            ("standby", "1"),
            ("spares", "2"),
            ("availability-goal", "99.95%"),
            ("data-gib", "40"),
            ("data-region", "us-east-1"),
            ("max-pool-share", "50%"),
            ("gang", "train"),
            ("quiet-hours", "22:00-06:00 +02:00"),
            ("do-not-disrupt", "2h"),
        ],
        ONE_GPU,
    );
    let (need, schedule) = parse(&manifest).unwrap();
    assert_eq!((need.kind, need.gpus, need.gpu_memory), (WorkloadKind::Batch, 1, Mebibytes(20_480)));
    assert_eq!((need.cpu, need.memory), (Millicores(2_000), Mebibytes(8_192)));
    assert_eq!(need.gpu_models, [GpuModel::from("a10g"), GpuModel::from("l4")]);
    assert_eq!(need.regions, ["eu-west-1", "us-*"]);
    assert_eq!((need.capacity, need.max_price_per_gpu_hour), (CapacityPreference::SpotOnly, Some(MicroUsdPerHour(1_200_000))));
    assert_eq!((need.data_gib, need.data_region), (40, Some(Region::from("us-east-1"))));
    assert_eq!(schedule.deadline, Some(Deadline::After(Millis::from_hours(26))));
    assert_eq!((schedule.expected_runtime, schedule.checkpoint_grace), (Some(Millis::from_mins(90)), Some(Millis::from_secs(90))));
    assert_eq!(schedule.quiet_hours, "22:00-06:00 +02:00".parse().ok());
    assert_eq!(schedule.do_not_disrupt, Some(DoNotDisrupt::For(Millis::from_hours(2))));
    assert_eq!((schedule.spares, schedule.availability_goal_ppm), (2, Some(999_500)));
    assert_eq!((schedule.standby, schedule.max_share_per_mille, schedule.gang.as_deref()), (1, Some(500), Some("train")));
}

#[test]
fn every_fault_is_named_at_once_with_what_was_expected() {
    let manifest = pod(
        &[
            ("gpu-model", "l4"),
            ("gpu-models", "l5"),
            ("regions", "mars-*"),
            ("capacity", "cheap"),
            ("deadline", "2026-02-30T00:00:00Z"),
            ("max-price-per-gpu-hour", "0"),
        ],
        r#"{"containers":[{"resources":{"limits":{"cpu":"two"}}}]}"#,
    );
    let faults = parse(&manifest).unwrap_err();
    let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in [
        "lowtide.dev/gpu-model is not known",
        "lowtide.dev/workload is missing",
        "\"l5\" is not in the catalog; known are a100, a10g",
        "\"mars-*\" matches no region",
        "expected spot-first, spot-only or on-demand",
        "lowtide.dev/deadline is \"2026-02-30T00:00:00Z\"",
        "above 0, e.g. \"1.20\"",
        "spec.containers[0].resources.limits[cpu] is \"two\"",
        "nvidia.com/gpu",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert_eq!(faults.len(), 9);
}

#[test]
fn constraints_that_are_not_honoured_are_refused_and_the_others_kept() {
    let containers = r#""containers":[{"resources":{"limits":{"nvidia.com/gpu":1}}}]"#;
    let refused = [
        r#""nodeSelector":{"disk":"ssd"}"#,
        r#""nodeName":"n1""#,
        r#""schedulerName":"volcano""#,
        r#""resourceClaims":[{"name":"gpu"}]"#,
        r#""affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"zone"}]}}"#,
        r#""topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule"}]"#,
        r#""topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"rack","whenUnsatisfiable":"DoNotSchedule"}]"#,
        r#""affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"rack","operator":"Exists"}]}]}}}"#,
        r#""resources":{"requests":{"hugepages-2Mi":"64Mi"}}"#,
    ];
    for constraint in refused {
        let faults = parse(&pod(&[("workload", "batch")], &format!("{{{containers},{constraint}}}"))).unwrap_err();
        assert!(matches!(faults.as_slice(), [NeedError::NotHonoured { .. }]), "{constraint}: {faults:?}");
    }
    let kept = format!(
        r#"{{{containers},"nodeSelector":{{"kubernetes.io/arch":"arm64","topology.kubernetes.io/zone":"use1-az4"}},
        "affinity":{{"podAntiAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":1}}]}}}}}}"#
    );
    let (need, _) = parse(&pod(&[("workload", "batch")], &kept)).unwrap();
    assert_eq!((need.architecture, need.zones), (Some(crate::core::market::catalog::Architecture::Arm64), vec!["use1-az4".into()]));
}

#[test]
fn requests_add_up_as_the_scheduler_adds_them() {
    let spec = r#"{
        "initContainers":[
            {"resources":{"requests":{"cpu":"3"}}},
            {"restartPolicy":"Always","resources":{"requests":{"cpu":"500m","memory":"1Gi"}}},
            {"resources":{"requests":{"cpu":"4"}}}],
        "containers":[{"resources":{"requests":{"cpu":"1","memory":"1.5Gi"},"limits":{"nvidia.com/gpu":"2","cpu":"8"}}},
                      {"resources":{"limits":{"cpu":"250m"}}}],
        "overhead":{"memory":"100k"}}"#;
    let (need, _) = parse(&pod(&[("workload", "inference")], spec)).unwrap();
    // 4 + 0.5 while starting, against 1 + 0.25 + 0.5 while running; 1.5 + 1 GiB and 100 kB, rounded up.
    assert_eq!((need.gpus, need.cpu, need.memory), (2, Millicores(4_500), Mebibytes(2_561)));
}

#[test]
fn deadlines_are_points_or_spans() {
    assert_eq!(instant("2026-07-20T13:44:30Z"), Some(Timestamp(1_784_555_070_000)));
    assert_eq!(instant("2026-07-20T15:44:30.25+02:00"), Some(Timestamp(1_784_555_070_000)));
    for bad in ["2026-07-20", "2026-07-20T25:00:00Z", "2026-07-20T13:44:30", "tomorrow"] {
        assert_eq!(instant(bad), None, "{bad}");
    }
    for bad in ["", "5", "5x", "30m1h", "0s"] {
        assert_eq!(parse_span(bad), None, "{bad}");
    }
}

#[test]
fn a_goal_is_a_percentage_below_a_hundred() {
    let read = |text: &str| {
        let manifest = pod(&[("workload", "inference"), ("gpu-memory", "20Gi"), ("availability-goal", text)], ONE_GPU);
        parse(&manifest).map(|(_, schedule)| schedule.availability_goal_ppm).map_err(|faults| faults[0].to_string())
    };
    for (text, ppm) in [("99.5%", 995_000), ("50%", 500_000), ("99.9999%", 999_999), ("99%", 990_000)] {
        assert_eq!(read(text), Ok(Some(ppm)), "{text}");
    }
    for text in ["99.5", "100%", "49.9%", "99.99999%", "99.%", ".5%", "-99%", "99,5%", "+99%"] {
        let fault = read(text).unwrap_err();
        assert!(fault.contains("lowtide.dev/availability-goal is") && fault.contains("e.g. 99.5%"), "{text}: {fault}");
    }
}

/// A pod with something of everything that is read.
fn whole_pod() -> serde_json::Value {
    serde_json::json!({
        "metadata": { "name": "a", "namespace": "ml", "labels": { "app": "a" }, "annotations": {
            "lowtide.dev/workload": "batch", "lowtide.dev/gpu-memory": "20Gi", "lowtide.dev/gpu-models": "l4,a10g", "lowtide.dev/regions": "us-*",
            "lowtide.dev/max-price-per-gpu-hour": "1.20", "lowtide.dev/deadline": "26h", "lowtide.dev/expected-runtime": "1h30m",
            "lowtide.dev/checkpoint-grace": "90s", "lowtide.dev/data-gib": "40", "lowtide.dev/data-region": "us-east-1",
            "lowtide.dev/max-pool-share": "50%", "lowtide.dev/availability-goal": "99.95%", "lowtide.dev/checkpointed-at": "2026-07-20T13:44:30Z",
        } },
        "spec": {
            "nodeSelector": { "kubernetes.io/arch": "amd64" },
            "terminationGracePeriodSeconds": 30,
            "overhead": { "cpu": "100m" },
            "resources": { "requests": { "cpu": "3" } },
            "affinity": {
                "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "topology.kubernetes.io/region", "operator": "In", "values": ["us-east-1"] },
                                           { "key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["20000"] }] }] } },
                "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                    { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "a" } } }] },
            },
            "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                                            "labelSelector": { "matchLabels": { "app": "a" } }, "matchLabelKeys": ["pod-template-hash"] }],
            "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }],
            "initContainers": [{ "name": "side", "restartPolicy": "Always", "resources": { "requests": { "cpu": "250m", "memory": "1Gi" } } }],
            "containers": [{ "name": "a", "ports": [{ "containerPort": 80 }],
                             "resources": { "requests": { "ephemeral-storage": "10Gi" }, "limits": { "nvidia.com/gpu": 1, "cpu": "2", "memory": "8Gi" } } }],
        },
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2 * crate::mutation::CASES))]

    #[test]
    fn whatever_an_owner_writes_is_a_need_that_makes_sense_or_refused_with_sentences(found in crate::mutation::json(vec![whole_pod()])) {
        // What Kubernetes' own types would not let in is not a pod.
        if let Ok(manifest) = serde_json::from_value::<PodManifest>(found) {
            match parse(&manifest) {
                Ok((need, schedule)) => {
                    assert!(need.gpus > 0 && need.gpu_memory.0 > 0 && need.cpu.0 >= 0 && need.memory.0 >= 0 && need.disk.0 >= 0, "{need:?}");
                    assert!(need.max_price_per_gpu_hour.is_none_or(|price| price.0 > 0) && need.data_gib >= 0, "{need:?}");
                    assert!(schedule.expected_runtime.is_none_or(|span| span.0 > 0), "{schedule:?}");
                }
                Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.to_string().is_empty())),
            }
        }
    }

    #[test]
    fn whatever_an_annotation_holds_is_read_or_refused(
        value in crate::mutation::text(&["20Gi", "1h30m", "2026-12-31T18:00:00Z", "1.20", "us-*,eu-west-1", "99.95%", "50%", "40", "l4,a10g"]),
        key in 0..OWNER_KEYS.len(),
    ) {
        let manifest = pod(&[("workload", "batch"), ("gpu-memory", "20Gi"), (OWNER_KEYS[key], value.as_str())], ONE_GPU);
        if let Err(faults) = parse(&manifest) {
            assert!(!faults.is_empty());
        }
    }
}
