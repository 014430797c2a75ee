//! What each form of user data says.

use super::*;

fn spec(bootstrap: Value) -> GpuNodeClassSpec {
    serde_json::from_value(json!({
        "region": "us-east-1", "subnets": ["subnet-1"], "image": "ami-1", "securityGroups": ["sg-1"], "bootstrap": bootstrap
    }))
    .unwrap()
}

fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn k3s_finds_its_configuration_and_its_labels() {
    let spec = spec(json!({ "kind": "k3s", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/lowtide/token",
                            "extra": { "server": "https://elsewhere", "node-label": "tier=gpu" } }));
    let text = write(&"us".into(), &spec).unwrap();
    assert!(!text.contains(names::GPU_SHARING) && text.starts_with("#cloud-config\n"), "{text}");
    let document = parsed(&text);
    assert_eq!(document["write_files"][0]["path"], K3S_CONFIG);
    let config = parsed(document["write_files"][0]["content"].as_str().unwrap());
    assert_eq!(config["server"], "https://10.0.0.10:6443");
    assert_eq!(config["node-label"], json!(["lowtide.dev/node-class=us", "topology.kubernetes.io/region=us-east-1", "tier=gpu"]));
    assert_eq!(config["node-taint"], json!(["nvidia.com/gpu=present:NoSchedule", "lowtide.dev/claim=none-yet:NoSchedule"]));
    let script = document["write_files"][1]["content"].as_str().unwrap();
    assert!(script.contains("--name '/lowtide/token'"), "{script}");
    assert!(script.contains("- provider-id=lowtide://$REGION/$ZONE/lt-$INSTANCE\n"), "{script}");
    let labels = "- lowtide.dev/instance-id=$INSTANCE\n- topology.kubernetes.io/zone=$ZONE\n- topology.k8s.aws/zone-id=$ZONE\n\
        - node.kubernetes.io/instance-type=$TYPE\n";
    assert!(script.contains(labels) && script.contains("- node-status-update-frequency=2s\n"), "{script}");
    assert_eq!(document["runcmd"][0][0], JOIN_SCRIPT);
    let shared = GpuNodeClassSpec { gpu_sharing: serde_json::from_value(json!({ "mode": "mps", "replicas": 4 })).unwrap(), ..spec };
    assert!(write(&"us".into(), &shared).unwrap().contains("lowtide.dev/gpu-sharing=mps-4"));
}

#[test]
fn kubeadm_and_eks_say_what_is_missing_or_write_their_documents() {
    let short = spec(json!({ "kind": "kubeadm", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/t" }));
    let fault = write(&"us".into(), &short).unwrap_err().to_string();
    assert_eq!(fault, "GpuNodeClass us: spec.bootstrap.extra.caCertHash is required for this bootstrap kind; set it");

    let full = spec(json!({ "kind": "kubeadm", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/t",
                            "extra": { "caCertHash": "sha256:ab" } }));
    let document = parsed(&write(&"us".into(), &full).unwrap());
    let join = parsed(document["write_files"][0]["content"].as_str().unwrap());
    assert_eq!(join["discovery"]["bootstrapToken"]["apiServerEndpoint"], "10.0.0.10:6443");
    assert_eq!(join["nodeRegistration"]["taints"][1], json!({ "key": "lowtide.dev/claim", "value": "none-yet", "effect": "NoSchedule" }));
    assert_eq!(join["nodeRegistration"]["kubeletExtraArgs"][1]["value"], "lowtide://@REGION@/@ZONE@/lt-@INSTANCE@");

    let eks = spec(json!({ "kind": "eks", "serverUrl": "https://x.eks.amazonaws.com",
                           "extra": { "clusterName": "prod", "certificateAuthority": "QQ==", "serviceCidr": "10.100.0.0/16" } }));
    let document = parsed(&write(&"us".into(), &eks).unwrap());
    assert_eq!((&document["kind"], &document["spec"]["cluster"]["name"]), (&json!("NodeConfig"), &json!("prod")));
    assert_eq!(document["spec"]["kubelet"]["flags"][0], "--node-labels=lowtide.dev/node-class=us");
    let taints = "--register-with-taints=nvidia.com/gpu=present:NoSchedule,lowtide.dev/claim=none-yet:NoSchedule";
    assert!(document["spec"]["kubelet"]["flags"].as_array().unwrap().contains(&json!(taints)), "{document}");
}

/// A class with everything that a bootstrap can carry.
fn full(kind: &str) -> GpuNodeClassSpec {
    let own = json!({ "before": "#!/bin/sh\necho first\n", "after": "#!/bin/sh\necho last\n" });
    let before = json!({ "before": "#!/bin/sh\necho first\n" });
    let user_data = match kind {
        "k3s" | "kubeadm" => Some(own),
        "eks" => Some(before),
        _ => None,
    };
    serde_json::from_value(json!({
        "region": "us-east-1", "subnets": ["subnet-1"], "image": "ami-1", "securityGroups": ["sg-1"],
        "bootstrap": { "kind": kind, "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/t",
            "extra": { "clusterName": "prod", "certificateAuthority": "QQ==", "serviceCidr": "10.100.0.0/16", "caCertHash": "sha256:ab" } },
        "labels": { "tier": "gpu" }, "taints": [{ "key": "team", "value": "ml", "effect": "NoExecute" }],
        "startupTaints": [{ "key": "cilium.io/agent-not-ready", "effect": "NoSchedule" }],
        "kubelet": { "maxPods": 40, "kubeReserved": { "cpuMillicores": 300, "memoryMib": 900 }, "systemReserved": { "memoryMib": 200 },
            "imageGcHighThresholdPercent": 90, "imageGcLowThresholdPercent": 70 },
        "userData": user_data,
    }))
    .unwrap()
}

const FLAGS: [(&str, &str); 5] = [
    ("max-pods", "40"),
    ("kube-reserved", "cpu=300m,memory=900Mi"),
    ("system-reserved", "memory=200Mi"),
    ("image-gc-high-threshold", "90"),
    ("image-gc-low-threshold", "70"),
];

#[test]
fn labels_taints_and_kubelet_settings_reach_k3s_and_kubeadm_and_own_scripts_run_around_the_join() {
    let document = parsed(&write(&"us".into(), &full("k3s")).unwrap());
    let config = parsed(document["write_files"][0]["content"].as_str().unwrap());
    assert!(config["node-label"].as_array().unwrap().contains(&json!("tier=gpu")), "{config}");
    let taints = config["node-taint"].as_array().unwrap();
    assert_eq!(taints[2..], [json!("team=ml:NoExecute"), json!("cilium.io/agent-not-ready=:NoSchedule")]);
    assert_eq!(config["kubelet-arg"], json!(FLAGS.map(|(flag, value)| format!("{flag}={value}"))));
    assert_eq!(document["write_files"][2]["path"], BEFORE_SCRIPT);
    let commands = "/usr/local/sbin/lowtide-before && /usr/local/sbin/lowtide-join && /usr/local/sbin/lowtide-after";
    assert_eq!(document["runcmd"], json!([["sh", "-c", commands]]));

    let document = parsed(&write(&"us".into(), &full("kubeadm")).unwrap());
    let join = parsed(document["write_files"][0]["content"].as_str().unwrap());
    let registration = &join["nodeRegistration"];
    assert_eq!(registration["taints"][2], json!({ "key": "team", "value": "ml", "effect": "NoExecute" }));
    let arguments = registration["kubeletExtraArgs"].as_array().unwrap();
    assert!(arguments[0]["value"].as_str().unwrap().contains(",tier=gpu,"), "{registration}");
    assert_eq!(arguments[3..], FLAGS.map(|(name, value)| json!({ "name": name, "value": value })));
}

#[test]
fn nodeadm_gets_them_in_its_config_with_an_own_script_in_front() {
    let text = write(&"us".into(), &full("eks")).unwrap();
    let parts: Vec<&str> = text.split(&format!("--{BOUNDARY}")).collect();
    assert_eq!((parts.len(), parts[3]), (4, "--\n"));
    assert!(parts[0].starts_with("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="), "{}", parts[0]);
    assert!(parts[1].contains("Content-Type: text/x-shellscript") && parts[1].contains("\n\n#!/bin/sh\necho first"), "{}", parts[1]);
    let (head, config) = parts[2].trim_start().split_once("\n\n").unwrap();
    assert_eq!(head, "Content-Type: application/node.eks.aws");
    let kubelet = &parsed(config)["spec"]["kubelet"];
    assert_eq!(
        kubelet["config"],
        json!({ "maxPods": 40, "kubeReserved": { "cpu": "300m", "memory": "900Mi" }, "systemReserved": { "memory": "200Mi" },
            "imageGCHighThresholdPercent": 90, "imageGCLowThresholdPercent": 70 })
    );
    let flags = kubelet["flags"].as_array().unwrap();
    assert_eq!(flags[0], "--node-labels=lowtide.dev/node-class=us,tier=gpu");
    assert!(flags[2].as_str().unwrap().ends_with(",team=ml:NoExecute,cilium.io/agent-not-ready=:NoSchedule"), "{flags:?}");
}

#[test]
fn bottlerocket_gets_its_settings() {
    let text = write(&"us".into(), &full("bottlerocket")).unwrap();
    let begin = "[settings.kubernetes]\napi-server = \"https://10.0.0.10:6443\"\ncluster-name = \"prod\"\ncluster-certificate = \"QQ==\"\nmax-pods = 40\n";
    assert!(text.starts_with(begin), "{text}");
    let read = text.parse::<toml_edit::Document<String>>().unwrap();
    let commands = &read["settings"]["bootstrap-commands"]["lowtide-instance-store"]["commands"];
    assert_eq!(commands.as_array().unwrap().len(), 2);
    assert_eq!(read["settings"]["kubernetes"]["node-labels"]["lowtide.dev/node-class"].as_str(), Some("us"));
    for (table, rows) in [
        ("node-labels", "\"lowtide.dev/node-class\" = \"us\"\n\"tier\" = \"gpu\"\n"),
        (
            "node-taints",
            "\"nvidia.com/gpu\" = [\"present:NoSchedule\"]\n\"lowtide.dev/claim\" = [\"none-yet:NoSchedule\"]\n\"team\" = [\"ml:NoExecute\"]\n\
             \"cilium.io/agent-not-ready\" = [\":NoSchedule\"]\n",
        ),
        ("kube-reserved", "\"cpu\" = \"300m\"\n\"memory\" = \"900Mi\"\n"),
        ("system-reserved", "\"memory\" = \"200Mi\"\n"),
    ] {
        assert!(text.contains(&format!("[settings.kubernetes.{table}]\n{rows}")), "{table}: {text}");
    }
}

#[test]
fn a_label_that_no_kubelet_would_register_with_is_said() {
    let mut spec = full("k3s");
    spec.labels.insert("tier".into(), "a b".into());
    let fault = write(&"us".into(), &spec).unwrap_err().to_string();
    assert!(fault.starts_with("GpuNodeClass us: spec.labels[tier] is \"a b\""), "{fault}");
}
