//! An AWS account that is not ours: moto in server mode, spoken to by AWS's own Python SDK.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use lowtide::lab::machine::SimulatedInstance;
use serde_json::{Value, json};

/// Regions that the classes of the test are in, with the first two numbers of their network: of one cluster, so they must not overlap.
pub const REGIONS: [(&str, &str); 2] = [("us-east-1", "10.1"), ("us-east-2", "10.2")];
/// The interruption queue of each.
pub const QUEUE: &str = "lowtide-interruptions";

/// The account; gone when dropped.
pub struct Account {
    server: Child,
    sdk: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
    pub url: String,
    /// Zone ids by region and zone name: moto's instances say names.
    zones: BTreeMap<(String, String), String>,
}

impl Account {
    /// None where `tests/s3/install.sh` has not installed moto.
    pub async fn open() -> Option<Account> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cache = std::env::var_os("LOWTIDE_CACHE").map_or_else(|| home.join(".cache/lowtide"), PathBuf::from);
        let python = cache.join("venv-s3/bin/python");
        if !python.with_file_name("moto_server").is_file() {
            eprintln!("left out: no moto in {}; tests/s3/install.sh installs it", cache.display());
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(python.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        let mut command = Command::new(python);
        command.args(["tests/moto/calls.py", &url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut sdk = command.spawn().unwrap();
        let (asked, said) = (sdk.stdin.take().unwrap(), BufReader::new(sdk.stdout.take().unwrap()));
        let mut account = Account { server, sdk, asked, said, url, zones: BTreeMap::new() };
        for _ in 0..300 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                account.read_zones();
                return Some(account);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not answer");
    }

    /// One call of the SDK, its answer as it is; `{"error": code}` if it was refused.
    pub fn ask(&mut self, region: &str, service: &str, call: &str, with: &Value) -> Value {
        writeln!(self.asked, "{}", json!({"region": region, "service": service, "call": call, "with": with})).unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// A call that must be answered.
    pub fn call(&mut self, region: &str, service: &str, call: &str, with: &Value) -> Value {
        let answer = self.ask(region, service, call, with);
        assert!(answer["error"].is_null(), "{service} {call} {with}: {answer}");
        answer
    }

    fn read_zones(&mut self) {
        for (region, _) in REGIONS {
            for zone in listed(&self.call(region, "ec2", "describe_availability_zones", &json!({})), "AvailabilityZones") {
                self.zones.insert((region.to_owned(), text(&zone["ZoneName"])), text(&zone["ZoneId"]));
            }
        }
    }

    /// What Terraform's module `region-target` makes: a network with a subnet in each zone, a security group, a queue. The class that says so.
    pub fn prepare(&mut self, region: &str, network: &str) -> String {
        let vpc = text(&self.call(region, "ec2", "create_vpc", &json!({"CidrBlock": format!("{network}.0.0/16")}))["Vpc"]["VpcId"]);
        let zones: Vec<String> = self.zones.keys().filter(|(of, _)| of == region).map(|(_, name)| name.clone()).collect();
        let mut subnets = Vec::new();
        for (at, zone) in zones.iter().enumerate() {
            let with = json!({"VpcId": vpc, "CidrBlock": format!("{network}.{at}.0/24"), "AvailabilityZone": zone});
            subnets.push(text(&self.call(region, "ec2", "create_subnet", &with)["Subnet"]["SubnetId"]));
        }
        let group = json!({"GroupName": "nodes", "Description": "nodes", "VpcId": vpc});
        let group = text(&self.call(region, "ec2", "create_security_group", &group)["GroupId"]);
        self.call(region, "sqs", "create_queue", &json!({"QueueName": QUEUE}));
        let mut class = json!({
            "apiVersion": "lowtide.dev/v1", "kind": "GpuNodeClass", "metadata": {"name": region},
            "spec": {
                "region": region, "subnets": subnets, "securityGroups": [group], "tags": {"owner": "ml-platform"},
                "bootstrap": {"kind": "k3s", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/lowtide/k3s-agent-token"},
                "interruptionQueue": QUEUE,
            }
        });
        // The home region's image is in a parameter, the other's is named.
        let image = self.image(region);
        if region == REGIONS[0].0 {
            self.call(region, "ssm", "put_parameter", &json!({"Name": "/images/gpu-node", "Type": "String", "Value": image}));
            class["spec"]["images"] = json!([{"architecture": "amd64", "parameter": "/images/gpu-node"}]);
        } else {
            class["spec"]["image"] = image;
        }
        class.to_string()
    }

    /// The image that the nodes of a region boot.
    pub fn image(&mut self, region: &str) -> Value {
        let of_amazon = json!({"Owners": ["amazon"], "Filters": [{"Name": "architecture", "Values": ["x86_64"]}]});
        listed(&self.call(region, "ec2", "describe_images", &of_amazon), "Images")[0]["ImageId"].clone()
    }

    fn queue_url(&mut self, region: &str) -> String {
        text(&self.call(region, "sqs", "get_queue_url", &json!({"QueueName": QUEUE}))["QueueUrl"])
    }

    /// Puts EC2's warning on the queue of its region, in EventBridge's envelope.
    pub fn warn(&mut self, region: &str, instance: &str) {
        let event = json!({
            "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "EC2 Spot Instance Interruption Warning",
            "source": "aws.ec2", "account": "123456789012", "time": jiff::Timestamp::now().to_string(), "region": region,
            "resources": [format!("arn:aws:ec2:{region}:123456789012:instance/{instance}")],
            "detail": {"instance-id": instance, "instance-action": "terminate"},
        });
        let queue = self.queue_url(region);
        self.call(region, "sqs", "send_message", &json!({"QueueUrl": queue, "MessageBody": event.to_string()}));
    }

    /// Messages on the queue of a region, received or not.
    pub fn waiting_messages(&mut self, region: &str) -> u64 {
        let queue = self.queue_url(region);
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let answer = self.call(region, "sqs", "get_queue_attributes", &json!({"QueueUrl": queue, "AttributeNames": names}));
        names.iter().map(|name| text(&answer["Attributes"][name]).parse::<u64>().unwrap()).sum()
    }

    /// All instances of both regions, ended ones too, in their SDK's words.
    pub fn instances(&mut self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for (region, _) in REGIONS {
            let answer = self.call(region, "ec2", "describe_instances", &json!({}));
            let reservations = listed(&answer, "Reservations");
            all.extend(reservations.iter().flat_map(|one| listed(one, "Instances")).map(|one| (region.to_owned(), one)));
        }
        all
    }

    /// Ids of those that run.
    pub fn running(&mut self) -> Vec<(String, String)> {
        let all = self.instances();
        let runs = all.into_iter().filter(|(_, one)| one["State"]["Name"] == "running");
        runs.map(|(region, one)| (region, text(&one["InstanceId"]))).collect()
    }

    /// The machine as its kubelet would know it.
    pub fn machine(&mut self, region: &str, instance: &Value) -> SimulatedInstance {
        let id = text(&instance["InstanceId"]);
        let data = self.call(region, "ec2", "describe_instance_attribute", &json!({"InstanceId": id, "Attribute": "userData"}));
        let zone = self.zones[&(region.to_owned(), text(&instance["Placement"]["AvailabilityZone"]))].clone();
        serde_json::from_value(json!({
            "instance_id": id, "region": region, "zone": zone, "instance_type": instance["InstanceType"], "capacity_type": "spot",
            "state": instance["State"]["Name"], "private_ip": instance["PrivateIpAddress"], "user_data_base64": data["UserData"]["Value"],
            "tags": tags(instance),
        }))
        .unwrap()
    }

    /// The launch templates of a region.
    pub fn templates(&mut self, region: &str) -> Vec<Value> {
        listed(&self.call(region, "ec2", "describe_launch_templates", &json!({})), "LaunchTemplates")
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for child in [&mut self.sdk, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Tags of a resource as a map.
pub fn tags(resource: &Value) -> BTreeMap<String, String> {
    listed(resource, "Tags").iter().map(|tag| (text(&tag["Key"]), text(&tag["Value"]))).collect()
}

pub fn listed(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().cloned().unwrap_or_default()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text")).to_owned()
}
