//! The operator, unchanged, on an EC2, an SQS and an SSM that are not ours: moto. Kubernetes is real but for kwok's kubelets, whose Nodes this test
//! registers by the user data that moto hands out.
//!
//! What moto cannot do, and so is not tried here: prices (every pool costs $0.00001 and never changes; no list prices), capacity, quotas,
//! interruptions of its own (the warning is put on the queue, and the machine runs on), boot times, spot requests behind a fleet's
//! machines, idempotency tokens, tags on a fleet's volumes, instance metadata. Our own simulator does these (docs/verified.md).
#![cfg(all(feature = "lab", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use lowtide::core::market::catalog::Catalog;
use lowtide::lab::start::{Lab, LabOptions, OperatorOptions};
use lowtide::lab::{kubeconfig, machine, user_data};
use serde_json::{Value, json};

use account::{Account, REGIONS, listed, tags, text};

/// Longest wait for anything to happen: two cores may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

const POOL: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: work, labels: {lowtide.dev/may-buy: "true"}}
---
apiVersion: lowtide.dev/v1
kind: GpuNodePool
metadata: {name: gpus}
spec:
  namespaceSelector: {matchLabels: {lowtide.dev/may-buy: "true"}}
  nodeClasses: [us-east-1, us-east-2]
  homeRegion: us-east-1
  emptyGraceSeconds: 5
  joinTimeoutSeconds: 60
"#;

/// A Deployment of one replica that only runs in `region`.
fn deployment(region: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: "{region}", namespace: work}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: "{region}"}}}}
  template:
    metadata:
      labels: {{app: "{region}", team: ml}}
      annotations:
        lowtide.dev/workload: inference
        lowtide.dev/gpu-memory: 20Gi
        lowtide.dev/regions: "{region}"
        lab.lowtide.dev/start-seconds: "0.5"
    spec:
      containers: [{{name: c, image: x, resources: {{requests: {{cpu: "2", memory: 10Gi}}, limits: {{nvidia.com/gpu: 1}}}}}}]
"#
    )
}

struct Stage {
    lab: Lab,
    moto: Account,
    /// Machines whose Node was registered.
    joined: BTreeSet<String>,
}

impl Stage {
    async fn set_up(mut moto: Account) -> Stage {
        let mut lab = Lab::start(LabOptions::default()).await.unwrap();
        lab.prepare_ledger().await.unwrap();
        lab.install_chart(&[]).unwrap();
        let classes = REGIONS.map(|(region, network)| moto.prepare(region, network));
        let own = [
            ("AWS_ENDPOINT_URL", moto.url.as_str()),
            ("LOWTIDE_LOG", "info,lowtide=debug"),
            ("LOWTIDE_PRICE_SECONDS", "5"),
            ("LOWTIDE_INSTANCE_SECONDS", "1"),
        ];
        let environment = own.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        lab.spawn_operator(&OperatorOptions { environment, ..OperatorOptions::default() }).unwrap();
        lab.operator_ready(PATIENCE).await.unwrap();
        lab.apply(&format!("{}\n---\n{POOL}", classes.join("\n---\n"))).unwrap();
        Stage { lab, moto, joined: BTreeSet::new() }
    }

    /// Plays the kubelet of every machine that runs and has not joined: its Node is what the user data says, registered as the node itself.
    async fn kubelets(&mut self) {
        for (region, instance) in self.moto.instances() {
            let machine = self.moto.machine(&region, &instance);
            // A machine without lowtide's user data does not join.
            let Ok(bootstrap) = user_data::parse(machine.user_data.as_deref().unwrap_or_default()) else { continue };
            if !machine.is_up() || !self.joined.insert(machine.id.clone()) {
                continue;
            }
            let node: Node =
                machine::node(&machine, &Catalog::snapshot().types[&machine.instance_type.as_str().into()], &bootstrap).unwrap();
            let admin = self.lab.control_plane.admin_kubeconfig();
            let as_kubelet: Api<Node> = Api::all(kubeconfig::client(admin, Some(&machine.node_name())).await.unwrap());
            as_kubelet.create(&PostParams::default(), &node).await.unwrap();
        }
    }

    fn items(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["get"].into_iter().chain(args.iter().copied()).chain(["-o", "json"]).collect();
        listed(&serde_json::from_str(&self.lab.kubectl(&args).unwrap()).unwrap(), "items")
    }

    /// The nodes under the Ready pods of a Deployment that stay.
    fn serving(&self, app: &str) -> Vec<String> {
        let pods = self.items(&["pods", "-n", "work", "-l", &format!("app={app}")]);
        let ready = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_true(pod, "Ready"));
        ready.map(|pod| text(&pod["spec"]["nodeName"])).collect()
    }

    /// The machine under the one pod of a Deployment.
    fn machine_of(&self, app: &str) -> Option<String> {
        let nodes = self.serving(app);
        let hex = nodes.first()?.strip_prefix("lt-")?;
        (nodes.len() == 1).then(|| format!("i-{hex}"))
    }

    async fn until<T>(&mut self, what: &str, mut seen: impl FnMut(&mut Stage) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            self.lab.check().unwrap();
            self.kubelets().await;
            if let Some(found) = seen(self) {
                eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
                return found;
            }
            if begun.elapsed() > PATIENCE {
                let shown = self.lab.kubectl(&["get", "gpunodeclasses,gpunodeclaims,pods,nodes", "-A", "-o", "wide"]).unwrap_or_default();
                let said = std::fs::read_to_string(self.lab.logs().unwrap().join("operator.log")).unwrap();
                panic!("{what}: not within {PATIENCE:?}\n{shown}\n{}", &said[said.len().saturating_sub(6_000)..]);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

fn is_true(object: &Value, condition: &str) -> bool {
    listed(&object["status"], "conditions").iter().any(|c| c["type"] == condition && c["status"] == "True")
}

/// One story, in order: starting the control plane takes half of the time.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_runs_on_an_ec2_of_others() {
    let Some(moto) = Account::open().await else { return };
    let mut stage = Stage::set_up(moto).await;
    let templates = classes_become_ready(&mut stage).await;
    let foreign = a_machine_of_somebody_else(&mut stage);
    let [first, second] = machines_are_bought_and_join_in_two_regions(&mut stage, &templates).await;
    let replacement = a_warned_machine_is_replaced_and_ended(&mut stage, &first).await;
    a_template_that_is_gone_is_made_again(&mut stage, &templates, &second).await;
    everything_ends_but_what_is_not_ours(&mut stage, &foreign, &replacement).await;
}

async fn classes_become_ready(stage: &mut Stage) -> BTreeMap<&'static str, String> {
    let ready = |s: &mut Stage| {
        let classes = s.items(&["gpunodeclasses"]);
        (classes.len() == 2 && classes.iter().all(|class| is_true(class, "Ready"))).then_some(classes)
    };
    let classes = stage.until("both classes are Ready", ready).await;
    let mut names = BTreeMap::new();
    for (region, _) in REGIONS {
        let class = classes.iter().find(|class| class["metadata"]["name"] == region).unwrap();
        let zones = class["status"]["zones"].as_object().unwrap();
        assert_eq!(zones.len(), listed(&class["spec"], "subnets").len(), "{class}");
        let name = text(&class["status"]["launchTemplate"]["name"]);
        let templates = stage.moto.templates(region);
        let template = templates.iter().find(|template| template["LaunchTemplateName"] == name.as_str()).unwrap();
        let words = tags(template);
        assert_eq!((words["lowtide-cluster"].as_str(), words["lowtide-class"].as_str()), ("lab", region));
        let versions = json!({"LaunchTemplateName": name});
        let made = stage.moto.call(region, "ec2", "describe_launch_template_versions", &versions);
        let data = &made["LaunchTemplateVersions"][0]["LaunchTemplateData"];
        assert_eq!((&data["ImageId"], &data["SecurityGroupIds"]), (&class["spec"]["image"], &class["spec"]["securityGroups"]));
        let found: Vec<Value> = listed(&class["status"], "images").into_iter().map(|image| image["id"].clone()).collect();
        let by_parameter = class["spec"]["image"].is_null();
        assert_eq!(found, by_parameter.then(|| stage.moto.image(region)).into_iter().collect::<Vec<_>>(), "{class}");
        assert_eq!(data["MetadataOptions"]["HttpTokens"], "required", "{data}");
        names.insert(region, name);
    }
    names
}

/// Under the same cluster name, but of another cluster: left alone to the end.
fn a_machine_of_somebody_else(stage: &mut Stage) -> String {
    let words = json!([{"Key": "lowtide-cluster", "Value": "lab"}, {"Key": "lowtide-cluster-uid", "Value": "another"},
        {"Key": "lowtide-claim-uid", "Value": "nobody"}]);
    let with = json!({"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1, "InstanceType": "g6.xlarge",
        "TagSpecifications": [{"ResourceType": "instance", "Tags": words}]});
    text(&stage.moto.call("us-east-1", "ec2", "run_instances", &with)["Instances"][0]["InstanceId"])
}

async fn machines_are_bought_and_join_in_two_regions(stage: &mut Stage, templates: &BTreeMap<&str, String>) -> [String; 2] {
    let work = REGIONS.map(|(region, _)| deployment(region));
    stage.lab.apply(&work.join("\n---\n")).unwrap();
    let both = |s: &mut Stage| Some([s.machine_of("us-east-1")?, s.machine_of("us-east-2")?]);
    let machines = stage.until("a pod runs in each region", both).await;
    let all = stage.moto.instances();
    let uid = text(
        &serde_json::from_str::<Value>(&stage.lab.kubectl(&["get", "ns", "kube-system", "-o", "json"]).unwrap()).unwrap()["metadata"]["uid"],
    );
    let claims = stage.items(&["gpunodeclaims"]);
    for ((region, _), id) in REGIONS.iter().zip(&machines) {
        let (at, instance) = all.iter().find(|(_, instance)| instance["InstanceId"] == id.as_str()).unwrap();
        assert_eq!((at.as_str(), instance["InstanceLifecycle"].as_str()), (*region, Some("spot")));
        let claim = claims.iter().find(|claim| claim["status"]["instanceId"] == id.as_str()).unwrap();
        assert_eq!(claim["spec"]["launch"]["launchTemplate"], templates[region].as_str(), "{claim}");
        assert_eq!(instance["ImageId"], stage.moto.image(region), "{instance}");
        let words = tags(instance);
        for (key, value) in [
            ("lowtide-cluster", "lab"),
            ("lowtide-cluster-uid", &uid),
            ("lowtide-pool", "gpus"),
            ("lowtide-class", region),
            ("lowtide-claim", claim["metadata"]["name"].as_str().unwrap()),
            ("lowtide-claim-uid", claim["metadata"]["uid"].as_str().unwrap()),
            ("owner", "ml-platform"),
        ] {
            assert_eq!(words.get(key).map(String::as_str), Some(value), "{key}: {words:?}");
        }
        assert!(words.keys().all(|key| !key.contains('/')), "instance metadata could not show them: {words:?}");
    }
    machines
}

async fn a_warned_machine_is_replaced_and_ended(stage: &mut Stage, warned: &str) -> String {
    stage.moto.warn("us-east-1", warned);
    let replaced = |s: &mut Stage| s.machine_of("us-east-1").filter(|id| id != warned);
    let replacement = stage.until("the warned machine's pod runs elsewhere", replaced).await;
    // Moto warns nobody and takes nothing back: what EC2 does two minutes later is done here.
    stage.moto.call("us-east-1", "ec2", "terminate_instances", &json!({"InstanceIds": [warned]}));
    let closed = |s: &mut Stage| s.items(&["gpunodeclaims"]).iter().all(|claim| claim["status"]["instanceId"] != warned).then_some(());
    stage.until("the claim of the warned machine is closed", closed).await;
    let acknowledged = |s: &mut Stage| (s.moto.waiting_messages("us-east-1") == 0).then_some(());
    stage.until("the warning is off the queue", acknowledged).await;
    replacement
}

/// Somebody deletes the launch template, and then EC2 ends a machine of its class without a warning.
async fn a_template_that_is_gone_is_made_again(stage: &mut Stage, templates: &BTreeMap<&str, String>, machine: &str) {
    let region = "us-east-2";
    stage.moto.call(region, "ec2", "delete_launch_template", &json!({"LaunchTemplateName": templates[region]}));
    stage.moto.call(region, "ec2", "terminate_instances", &json!({"InstanceIds": [machine]}));
    let replaced = |s: &mut Stage| s.machine_of(region).filter(|id| id != machine);
    stage.until("the machine that was ended is replaced", replaced).await;
    let again = stage.moto.templates(region);
    assert!(again.iter().any(|template| template["LaunchTemplateName"] == templates[region].as_str()), "{again:?}");
}

async fn everything_ends_but_what_is_not_ours(stage: &mut Stage, foreign: &str, last: &str) {
    assert!(stage.moto.running().iter().any(|(_, id)| id == last));
    stage.lab.kubectl(&["delete", "deployments", "-n", "work", "--all", "--wait=false"]).unwrap();
    let alone = |s: &mut Stage| (s.moto.running() == [("us-east-1".to_owned(), foreign.to_owned())]).then_some(());
    stage.until("all machines are ended but the foreign one", alone).await;
    let none = |s: &mut Stage| (s.items(&["gpunodeclaims"]).is_empty() && s.items(&["nodes"]).is_empty()).then_some(());
    stage.until("no claim and no node is left", none).await;
}
