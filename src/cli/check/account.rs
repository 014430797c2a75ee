//! What is looked at in AWS, in the region of each node class: every right that the operator uses there, and what the region has for GPUs.
//!
//! Decides: what of the answers is good. Messages are left on the queue: the operator would miss what is received here.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};

use super::findings::{Area, Finding};
use crate::aws::AwsCloud;
use crate::core::fleet::NodeClass;
use crate::core::market::CapacityType;
use crate::core::units::ids::{InstanceType, ZoneId};
use crate::core::units::time::Timestamp;
use crate::engine::wall_clock::WallClock;
use crate::ports::{Clock, Cloud};

/// Regions that are looked at side by side.
const AT_ONCE: usize = 8;
/// A clock further off than this is said: prices and notices are good for seconds.
const FAR_SECONDS: i64 = 5;

/// Looks at the regions of `classes`, in their order.
pub async fn check(cloud: &AwsCloud, cluster: &str, classes: &[NodeClass]) -> Vec<Finding> {
    let mut looks = stream::iter(classes).map(|class| of_class(cloud, cluster, class)).buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(mut findings) = looks.next().await {
        all.append(&mut findings);
    }
    all
}

async fn of_class(cloud: &AwsCloud, cluster: &str, class: &NodeClass) -> Vec<Finding> {
    eprintln!("looking at {} (class {}) ...", class.region, class.name);
    let region = &class.region;
    let area = || Area::Region { region: region.to_string(), class: class.name.to_string() };
    let names = cloud.zone_names(region).await;
    let closed = names.is_err();
    let mut all =
        vec![Finding::of_call(area(), ("region", "ec2:DescribeAvailabilityZones"), names, |zones| Ok(format!("{} zones", zones.len())))];
    if closed {
        // Nothing else can be asked there.
        return all;
    }
    let subnets = cloud.subnet_zones(region, &class.subnets).await;
    let zones: Vec<ZoneId> = subnets.iter().flat_map(|found| found.values().cloned()).collect();
    all.push(Finding::of_call(area(), ("subnets", "ec2:DescribeSubnets"), subnets, |found| {
        Ok(format!("{} in {}", found.len(), list(found.values())))
    }));
    all.extend(images(area(), cloud, class).await);
    let types = cloud.machine_types(region).await;
    let known: Vec<InstanceType> = types.iter().flatten().map(|machine| machine.instance_type.clone()).collect();
    all.push(Finding::of_call(area(), ("GPU types", "ec2:DescribeInstanceTypes"), types, |types| Ok(format!("{} types", types.len()))));
    all.push(offered(area(), cloud, class, &zones).await);
    all.extend(prices(area, cloud, class, &known).await);
    all.push(quotas(area(), cloud, class).await);
    let instances = cloud.instances(region, cluster).await;
    all.push(Finding::of_call(area(), ("machines", "ec2:DescribeInstances and ec2:DescribeSpotInstanceRequests"), instances, |machines| {
        Ok(format!("{} of this cluster's name", machines.iter().filter(|machine| machine.is_alive()).count()))
    }));
    let scheduled = cloud.scheduled_events(region).await;
    all.push(Finding::of_call(area(), ("scheduled events", "ec2:DescribeInstanceStatus"), scheduled, |events| {
        Ok(format!("{} instances of the account have one", events.len()))
    }));
    let subnet = class.subnets.first().map(String::as_str).unwrap_or_default();
    all.push(Finding::of_call(
        area(),
        ("launch templates", "ec2:CreateLaunchTemplate and ec2:CreateTags"),
        cloud.may_create_template(region).await,
        |()| Ok("may be created (dry run)".to_owned()),
    ));
    all.push(Finding::of_call(
        area(),
        ("launches", "ec2:CreateFleet, ec2:RunInstances and iam:PassRole"),
        cloud.may_launch(region, subnet).await,
        |()| Ok("may be asked for (dry run; the machine's role and image are tried by the first launch)".to_owned()),
    ));
    all.push(queue(area(), cloud, class).await);
    all.push(clock(area(), cloud));
    all
}

/// The images of a class that has one for each architecture; one that is named for whatever is bought is tried by the first launch.
async fn images(area: Area, cloud: &AwsCloud, class: &NodeClass) -> Option<Finding> {
    if class.images.sources.is_empty() {
        return None;
    }
    let found = cloud.images(&class.region, &class.images.sources).await;
    Some(Finding::of_call(area, ("images", "ec2:DescribeImages and ssm:GetParameter"), found, |images| {
        Ok(list(images.iter().map(|(of, image)| format!("{of:?} {} ({})", image.id, image.name).to_lowercase())))
    }))
}

async fn offered(area: Area, cloud: &AwsCloud, class: &NodeClass, zones: &[ZoneId]) -> Finding {
    let answer = cloud.offerings(&class.region).await;
    Finding::of_call(area, ("offered", "ec2:DescribeInstanceTypeOfferings"), answer, |offered| {
        let here: BTreeSet<&InstanceType> = offered.iter().filter(|(_, zone)| zones.contains(zone)).map(|(kind, _)| kind).collect();
        if here.is_empty() && !zones.is_empty() {
            let with: BTreeSet<&ZoneId> = offered.iter().map(|(_, zone)| zone).collect();
            let found = format!("no GPU type is sold in the class's zones; the region sells some in {}", list(with));
            return Err((found, "add a subnet in one of those zones to the class".to_owned()));
        }
        Ok(format!("{} GPU types in the class's zones", here.len()))
    })
}

async fn prices(area: impl Fn() -> Area, cloud: &AwsCloud, class: &NodeClass, types: &[InstanceType]) -> [Finding; 2] {
    let now: Timestamp = WallClock.now();
    let spot = cloud.spot_quotes(&class.region, types, now).await;
    let listed = cloud.on_demand_quotes(&class.region, types).await;
    let none = |what: &str| (format!("no {what} price was answered"), "nothing can be bought by it: see the region's GPU types".to_owned());
    let count = |n: usize, what: &str| if n == 0 { Err(none(what)) } else { Ok(format!("{n} prices")) };
    [
        Finding::of_call(area(), ("spot prices", "ec2:DescribeSpotPriceHistory"), spot, |quotes| count(quotes.len(), "spot")),
        Finding::of_call(area(), ("list prices", "pricing:GetProducts"), listed, |quotes| count(quotes.len(), "list")),
    ]
}

async fn quotas(area: Area, cloud: &AwsCloud, class: &NodeClass) -> Finding {
    let answer = cloud.vcpu_quotas(&class.region).await;
    Finding::of_call(area, ("vCPU quotas", "servicequotas:GetServiceQuota and servicequotas:GetAWSDefaultServiceQuota"), answer, |quotas| {
        let word = |kind: CapacityType| if kind == CapacityType::Spot { "spot" } else { "on-demand" };
        let said: Vec<String> = quotas.iter().map(|q| format!("{:?} {} {}", q.family, word(q.capacity_type), q.vcpus)).collect();
        if quotas.iter().all(|quota| quota.vcpus == 0) && !quotas.is_empty() {
            let todo =
                "ask AWS for more of `All G and VT Spot Instance Requests` (L-3819A6DF) or `All P Spot Instance Requests` (L-7212CCBC)";
            return Err((format!("all are zero: {}", said.join(", ")), todo.to_owned()));
        }
        Ok(said.join(", "))
    })
}

async fn queue(area: Area, cloud: &AwsCloud, class: &NodeClass) -> Finding {
    let Some(queue) = &class.interruption_queue else {
        let todo = "set spec.interruptionQueue: without it a notice is seen in EC2's own state, up to ten seconds later";
        return Finding::note(area, "interruption queue", "the class names none", todo);
    };
    Finding::of_call(area, ("interruption queue", "sqs:GetQueueUrl"), cloud.queue_is_there(&class.region, queue).await, Ok)
}

fn clock(area: Area, cloud: &AwsCloud) -> Finding {
    match cloud.ahead() {
        None => Finding::note(area, "EC2's clock", "not known", "see the calls above"),
        Some(ahead) if ahead.0.abs() > FAR_SECONDS * 1_000 => {
            Finding::note(area, "EC2's clock", format!("{ahead} ahead of this machine's"), "synchronise this machine's clock with NTP")
        }
        Some(ahead) => Finding::good(area, "EC2's clock", format!("{:.1} s ahead of this machine's", ahead.0 as f64 / 1_000.0)),
    }
}

fn list<T: std::fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(", ")
}
