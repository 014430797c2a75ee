//! `lowtide place`, `offers` and `catalog` as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn lowtide(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lowtide")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

const MANIFESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: serving}
spec:
  replicas: 2
  template:
    metadata:
      labels:
      annotations: {lowtide.dev/workload: inference, lowtide.dev/gpu-memory: 20Gi}
    spec:
      containers:
      - name: model
        resources: {requests: {cpu: 1.5, memory: 8Gi}, limits: {nvidia.com/gpu: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: serving}
---
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  parallelism: 3
  completions: 1
  template:
    metadata: {annotations: {lowtide.dev/max-price-per-gpu-hour: "0.10"}}
    spec:
      containers: [{name: t, resources: {limits: {nvidia.com/gpu: "1"}}}]
"#;

const OFFERS: &str = "region,zone,instance_type,capacity_type,price_per_hour
us-east-1,use1-az1,g6.xlarge,spot,0.349
us-east-1,use1-az1,g6.12xlarge,spot,0.60
us-east-1,use1-az1,g4dn.xlarge,on-demand,0.526
";

#[test]
fn place_answers_as_documented() {
    let (manifests, offers) = (file("m.yaml", MANIFESTS), file("o.csv", OFFERS));
    let output = lowtide(&["place", "-f", manifests.to_str().unwrap(), "--offers", offers.to_str().unwrap(), "--json"]);
    assert!(output.status.success());
    let answer = json(&output);
    let bound: f64 = answer["lower_bound_per_hour"].as_str().unwrap().parse().unwrap();
    assert_eq!(answer["price_per_hour"].as_str(), Some("0.6000"));
    assert!((0.5999..=0.6).contains(&bound), "values of pods are rounded down to micro-dollars, so the bound is a hair below: {bound}");
    let node = &answer["nodes"][0];
    assert_eq!((node["zone"].as_str(), node["capacity_type"].as_str()), (Some("use1-az1"), Some("spot")));
    assert_eq!(node["pods"][1], serde_json::json!({"namespace": "serving", "workload": "web", "replica": 1}));
    let refused = &answer["unplaced"][0];
    assert_eq!((refused["workload"].as_str(), refused["replicas"].as_i64()), (Some("train"), Some(1)));
    assert_eq!(refused["reasons"][0]["reason"].as_str(), Some("owner-price-cap"));
    assert_eq!(refused["reasons"][0]["offers"].as_i64(), Some(3));
    assert!(refused["reasons"][0]["example"].as_str().unwrap().contains("g6.xlarge spot in use1-az1 at $0.3490/h"));
}

#[test]
fn a_pool_file_caps_what_is_bought() {
    let pool = "kind: GpuNodePool\nmetadata: {name: p}\nspec: {gpuModels: [l4], instanceTypes: ['g6.x*'], monthlyBudgetUsd: '300'}\n";
    let (manifests, offers, pool) = (file("m2.yaml", MANIFESTS), file("o2.csv", OFFERS), file("p2.yaml", pool));
    let arguments =
        ["place", "-f", manifests.to_str().unwrap(), "--offers", offers.to_str().unwrap(), "--pool", pool.to_str().unwrap(), "--json"];
    let answer = json(&lowtide(&arguments));
    assert_eq!((answer["nodes"].as_array().unwrap().len(), answer["price_per_hour"].as_str()), (1, Some("0.3490")));
}

#[test]
fn a_pool_keeps_a_workload_from_standing_in_one_place() {
    let offers = OFFERS.replace("use1-az1,g6.12xlarge", "use1-az2,g6.12xlarge");
    let (manifests, offers) = (file("m4.yaml", MANIFESTS), file("o4.csv", &offers));
    let types = |pool: &str| -> Vec<String> {
        let pool = file("p4.yaml", &format!("kind: GpuNodePool\nmetadata: {{name: p}}\nspec: {{{pool}}}\n"));
        let arguments =
            ["place", "-f", manifests.to_str().unwrap(), "--offers", offers.to_str().unwrap(), "--pool", pool.to_str().unwrap(), "--json"];
        let answer = json(&lowtide(&arguments));
        answer["nodes"].as_array().unwrap().iter().map(|n| n["instance_type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(""), ["g6.12xlarge"]);
    assert_eq!(types("maxPoolSharePercent: 50"), ["g6.xlarge", "g6.12xlarge"]);
}

#[test]
fn a_pool_that_does_not_fall_back_sells_no_on_demand_to_work_that_asks_for_spot_first() {
    let offers = OFFERS.lines().filter(|row| !row.contains(",spot,")).map(|row| format!("{row}\n")).collect::<String>();
    let web = MANIFESTS.split("---").next().unwrap().replace("20Gi", "8Gi");
    let answer = |name: &str, manifests: &str, pool: &str| -> Value {
        let (manifests, offers) = (file(&format!("{name}.yaml"), manifests), file(&format!("{name}.csv"), &offers));
        let pool = file(&format!("{name}-pool.yaml"), &format!("kind: GpuNodePool\nmetadata: {{name: p}}\nspec: {{{pool}}}\n"));
        let arguments =
            ["place", "-f", manifests.to_str().unwrap(), "--offers", offers.to_str().unwrap(), "--pool", pool.to_str().unwrap(), "--json"];
        json(&lowtide(&arguments))
    };
    let bought = |answer: &Value| answer["nodes"].as_array().unwrap().len();
    let forbids = "fallback: {onDemand: false}";
    let spot_first = answer("spot-first", &web, forbids);
    assert_eq!(bought(&spot_first), 0);
    assert_eq!(spot_first["unplaced"][0]["reasons"][0]["reason"].as_str(), Some("no-fallback"));
    let on_demand = web.replace("lowtide.dev/workload", "lowtide.dev/capacity: on-demand, lowtide.dev/workload");
    assert_eq!(bought(&answer("on-demand", &on_demand, forbids)), 2, "work that asks for on-demand gets it");
    assert_eq!(bought(&answer("falls-back", &web, "fallback: {onDemand: true}")), 2);
}

#[test]
fn faults_are_said_and_fail() {
    let bad = file("bad.yaml", &MANIFESTS.replace("gpu-memory", "gpu-memry"));
    let output = lowtide(&["place", "-f", bad.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("lowtide.dev/gpu-memry is not known"));
    let offers = file("bad.csv", &OFFERS.replace("0.349", "cheap"));
    let output = lowtide(&["offers", "--offers", offers.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("offer 1"));
}

#[test]
fn files_that_say_nothing_or_the_impossible_are_refused_with_a_sentence() {
    let header = OFFERS.lines().next().unwrap();
    let manifests = file("good.yaml", MANIFESTS);
    let refused = |arguments: &[&str], said: &str| {
        let output = lowtide(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {error}");
        assert!(error.contains(said), "{error}");
    };
    let row = |row: &str| format!("{header}\n{row}\n");
    for (at, (offers, said)) in [
        (String::new(), "the first line is \"\"; expected region,zone,"),
        (row("").replace("_per_hour", ""), "region,zone,instance_type,capacity_type,price\"; expected region,zone,"),
        (row(""), "contains no offers"),
        (row(",use1-az1,g6.xlarge,spot,0.3"), "offer 1: region is empty"),
        (row("us-east-1,use1-az1,g6.xlarge,spot,9223372036854.775807"), "is not between 0 and 10000.0000 dollars an hour"),
        (row("us-east-1,use1-az1,g6.xlarge,spot,-0.1"), "is not between 0 and"),
    ]
    .into_iter()
    .enumerate()
    {
        let offers = file(&format!("refused-{at}.csv"), &offers);
        refused(&["place", "-f", manifests.to_str().unwrap(), "--offers", offers.to_str().unwrap()], said);
    }
    for (name, manifests, said) in [
        ("none.yaml", "kind: Service\nmetadata: {name: web}\n".to_owned(), "there is nothing to place"),
        (
            "many.yaml",
            MANIFESTS.replace("replicas: 2", "replicas: 999999999999"),
            "asks for 1000000000000 pods at once; expected at most 1000000",
        ),
    ] {
        refused(&["place", "-f", file(name, &manifests).to_str().unwrap()], said);
    }
    let pool = file("misspelt.yaml", "kind: GpuNodePool\nmetadata: {name: p}\nspec: {monthlyBudget: '300'}\n");
    refused(&["place", "-f", manifests.to_str().unwrap(), "--pool", pool.to_str().unwrap()], "spec.monthlyBudget is not known");
}

#[test]
fn offers_say_how_many_do_not_serve_and_why() {
    let output = lowtide(&["offers", "--gpu-memory", "9000Gi"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("no offer meets this need\nrefused: ") && text.contains("(too little GPU memory)"), "{text}");
    let unknown = file("unknown.csv", &OFFERS.replace("g4dn.xlarge", "zz9.bogus"));
    let output = lowtide(&["place", "-f", file("m3.yaml", MANIFESTS).to_str().unwrap(), "--offers", unknown.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("zz9.bogus is not in the catalog"));
}

#[test]
fn offers_and_catalog_print_json() {
    let offers = json(&lowtide(&["offers", "--gpu-memory", "20Gi", "--models", "l4", "--regions", "us-*", "--json"]));
    let costs: Vec<f64> =
        offers.as_array().unwrap().iter().map(|o| o["cost_per_replica_hour"].as_str().unwrap().parse().unwrap()).collect();
    assert!(costs.len() > 20 && costs.windows(2).all(|w| w[0] <= w[1]));
    let catalog = json(&lowtide(&["catalog", "--json"]));
    let one = catalog.as_array().unwrap().iter().find(|t| t["instance_type"] == "g6f.large").unwrap();
    assert_eq!((one["gpus"].as_i64(), one["capacity"]["cpu_millicores"].as_i64()), (Some(1), Some(2_000)));
}
