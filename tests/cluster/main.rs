//! The lab on the real control plane: machines join by the user data that was sent, pods live and die as on kubelets,
//! batch programs resume, serving gaps are measured. Needs the programs of `make tools` and a Postgres server.
#![cfg(all(feature = "lab", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use lowtide::core::units::time::Millis;
use lowtide::lab::batch_program::Happening;
use lowtide::lab::ec2::{image_id, subnet_id};
use lowtide::lab::start::{Lab, LabOptions};
use lowtide::lab::{sim_client, wall_clock};
use serde_json::{Value, json};

const USER_DATA: &str = "#cloud-config\nwrite_files:\n- path: /etc/rancher/k3s/config.yaml\n  content: |\n    server: https://10.0.0.10:6443\n    node-label: [lowtide.dev/pool=test]\n    node-taint: ['nvidia.com/gpu=:NoSchedule']\n";

/// RunInstances as any SDK would send it; the simulator does not verify signatures.
async fn launch(lab: &Lab, region: &str, zone: &str, user_data: &str) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let form = format!(
        "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1&InstanceType=g6.xlarge&ImageId={}&SubnetId={}&UserData={}&InstanceMarketOptions.MarketType=spot",
        image_id(&region.into(), "x86_64"),
        subnet_id(&zone.into()),
        encode(&aws_smithy_types::base64::encode(user_data)),
    );
    let scope = format!("AWS4-HMAC-SHA256 Credential=lab/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0");
    let headers = [("Authorization", scope.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = sim_client::send(lab.ec2_url(), "POST", "/", &headers, &form).await.unwrap();
    let id = answer.split_once("<instanceId>").unwrap().1.split_once('<').unwrap().0;
    id.to_owned()
}

async fn until<T>(what: &str, seconds: u64, mut seen: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(seen) = seen().await {
            return seen;
        }
        assert!(since.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn get(lab: &Lab, args: &[&str]) -> Option<Value> {
    let args: Vec<&str> = ["get"].into_iter().chain(args.iter().copied()).chain(["-o", "json"]).collect();
    lab.kubectl(&args).ok().and_then(|text| serde_json::from_str(&text).ok())
}

fn is_true(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == condition && c["status"] == "True")
}

async fn ready_node(lab: &Lab, instance: &str) -> Value {
    let name = format!("lt-{}", instance.trim_start_matches("i-"));
    until(&format!("node {name} Ready"), 30, async || get(lab, &["node", &name]).filter(|node| is_true(node, "Ready"))).await
}

const SERVING: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}, annotations: {lab.lowtide.dev/start-seconds: "1.5"}}
    spec:
      tolerations: [{key: nvidia.com/gpu, operator: Exists}]
      containers: [{name: c, image: x, resources: {limits: {nvidia.com/gpu: "1"}}}]
---
apiVersion: v1
kind: Service
metadata: {name: chat, namespace: default}
spec: {selector: {app: chat}, ports: [{port: 80}]}
"#;

const TRAINING: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: default}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {lab.lowtide.dev/work-seconds: "8", lab.lowtide.dev/checkpoint-seconds: "1", lab.lowtide.dev/start-seconds: "0.5"}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      tolerations: [{key: nvidia.com/gpu, operator: Exists}]
      containers: [{name: c, image: x, resources: {limits: {nvidia.com/gpu: "1"}}}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_serve_work_and_die() {
    let options = LabOptions { boot: Duration::from_millis(500), ..LabOptions::default() };
    let mut lab = Lab::start(options).await.unwrap();
    let (first, second) =
        (launch(&lab, "us-east-1", "use1-az4", USER_DATA).await, launch(&lab, "eu-central-1", "euc1-az2", USER_DATA).await);
    machines_join_by_their_user_data(&lab, &first, &second).await;
    a_dead_machine_serves_nobody(&lab, &first).await;
    a_signalled_program_resumes_from_its_checkpoint(&lab).await;
    machines_that_do_not_join(&lab).await;
    let dead = get(&lab, &["node", &format!("lt-{}", first.trim_start_matches("i-"))]).unwrap();
    assert!(!is_true(&dead, "Ready"), "nobody speaks for a dead machine");
    the_ledger_survives_a_stop(&mut lab);
    lab.check().unwrap();
}

async fn machines_join_by_their_user_data(lab: &Lab, first: &str, second: &str) {
    let node = ready_node(lab, first).await;
    assert_eq!(node["metadata"]["labels"]["lowtide.dev/pool"], "test");
    // Only what the user data names is on a node: this one's says nothing of zones, and no real machine would either.
    assert!(node["metadata"]["labels"]["topology.kubernetes.io/zone"].is_null(), "{node}");
    assert_eq!(node["status"]["allocatable"]["nvidia.com/gpu"], "1");
    assert!(node["spec"]["taints"].as_array().unwrap().iter().any(|taint| taint["key"] == "nvidia.com/gpu"));
    let node = ready_node(lab, second).await;
    assert!(node["metadata"]["labels"]["topology.kubernetes.io/region"].is_null(), "{node}");
}

async fn a_dead_machine_serves_nobody(lab: &Lab, instance: &str) {
    let watch = lab.watch_endpoints("default", "chat").await.unwrap();
    lab.apply(SERVING).unwrap();
    let from = until("two endpoints", 30, async || watch.readings().0.last().filter(|last| last.ready == 2).map(|last| last.at)).await;
    let killed = wall_clock();
    lab.order("interrupt", &json!({"instance_id": instance, "notice_seconds": 0.1, "message": "none"})).await.unwrap();
    until("one endpoint left", 10, async || watch.readings().0.last().filter(|last| last.ready == 1).map(drop)).await;
    let seen = watch.readings().0.last().unwrap().at;
    assert!(seen.since(killed) < Millis::from_secs(5), "the endpoint of a dead machine left after {}", seen.since(killed));
    assert_eq!(watch.readings().serving_gap(from, wall_clock()), Millis::ZERO);
    assert!(watch.readings().below(2, from, wall_clock()) > Millis::ZERO);
    lab.kubectl(&["delete", "deployment", "chat", "--wait=false"]).unwrap();
    let dead = format!("lt-{}", instance.trim_start_matches("i-"));
    let left = until("the living pod is gone", 15, async || {
        let pods = get(lab, &["pods", "-l", "app=chat"])?["items"].as_array()?.clone();
        (pods.len() == 1).then(|| pods[0].clone())
    })
    .await;
    assert_eq!(left["spec"]["nodeName"], dead.as_str(), "no kubelet removes a pod of a dead machine");
}

async fn a_signalled_program_resumes_from_its_checkpoint(lab: &Lab) {
    lab.apply(TRAINING).unwrap();
    let pod = until("the Job's pod works", 30, async || {
        let pods = get(lab, &["pods", "-l", "batch.kubernetes.io/job-name=train"])?;
        pods["items"]
            .as_array()?
            .iter()
            .find(|pod| is_true(pod, "Ready"))
            .and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // As the operator does: the Job lets go of its pod and makes another; the old one gets SIGTERM.
    lab.kubectl(&["label", "pod", &pod, "batch.kubernetes.io/controller-uid-"]).unwrap();
    lab.kubectl(&["delete", "pod", &pod, "--wait=false"]).unwrap();
    until("the Job completes", 60, async || get(lab, &["job", "train"]).filter(|job| is_true(job, "Complete")).map(drop)).await;
    let events = lab.timeline().events();
    let checkpoint = events.iter().find_map(|event| match event.what {
        Happening::Checkpointed { done_ms } if event.pod == pod => Some(done_ms),
        _ => None,
    });
    let checkpoint = checkpoint.expect("the signalled program wrote a checkpoint");
    assert!(checkpoint >= Millis::from_secs(2), "{events:?}");
    let resumed = events
        .iter()
        .any(|event| event.pod != pod && matches!(event.what, Happening::Started { resumed_with_ms, .. } if resumed_with_ms == checkpoint));
    assert!(resumed, "{events:?}");
    assert_eq!(events.last().map(|event| &event.what), Some(&Happening::Finished));
}

async fn machines_that_do_not_join(lab: &Lab) {
    lab.order("boot", &json!({"outcome": "never-joins", "next": 1})).await.unwrap();
    let silent = launch(lab, "us-east-1", "use1-az4", USER_DATA).await;
    until("the silent machine runs", 10, async || {
        let state = lab.ec2("state").await.ok()?;
        state["instances"].as_array()?.iter().any(|i| i["instance_id"] == silent.as_str() && i["state"] == "running").then_some(())
    })
    .await;
    lab.order("boot", &json!({"outcome": "no-gpus", "next": 1})).await.unwrap();
    let broken = launch(lab, "us-east-1", "use1-az4", USER_DATA).await;
    let node = ready_node(lab, &broken).await;
    assert_eq!(node["status"]["allocatable"]["nvidia.com/gpu"], "0");
    assert!(get(lab, &["node", &format!("lt-{}", silent.trim_start_matches("i-"))]).is_none());
}

fn the_ledger_survives_a_stop(lab: &mut Lab) {
    lab.postgres.psql("postgres", "create table kept (n int); insert into kept values (7)").unwrap();
    lab.postgres.stop();
    assert!(lab.postgres.psql("postgres", "select 1").is_err());
    lab.postgres.start_again().unwrap();
    assert_eq!(lab.postgres.psql("postgres", "select n from kept").unwrap().trim(), "7");
}
