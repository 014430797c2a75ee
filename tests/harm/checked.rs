//! `lowtide check`, with the operator's own rights, beside the running operator.

use std::process::{Command, Output};

use lowtide::lab::process::sibling_binary;
use serde_json::{Value, json};

use crate::stage::{SECRETS, Stage};

fn check(stage: &Stage, more: &[&str]) -> Output {
    let ledger = stage.lab.postgres.url_as("operator", SECRETS[0], "postgres");
    let mut command = Command::new(sibling_binary("lowtide").unwrap());
    command.arg("check").args(more).env("KUBECONFIG", &stage.kubeconfig).envs(stage.lab.aws_environment());
    command.env("LOWTIDE_DATABASE_URL", ledger).env("LOWTIDE_CLUSTER", "lab").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything is there; then EC2 denies a right, SQS another, and the policy is asked for under a name that nothing has.
pub async fn a_check_says_what_is_wrong_and_what_to_do(stage: &mut Stage) {
    let (queues, machines) = (stage.lab.ec2("state").await.unwrap()["queue_depths"].clone(), stage.machines().await);
    let good = check(stage, &["--json"]);
    let found: Vec<Value> = serde_json::from_str(&text(&good)).unwrap_or_else(|fault| panic!("{fault}: {good:?}"));
    let wrong: Vec<_> = found.iter().filter(|finding| finding["verdict"] == "fault").collect();
    assert!(good.status.success() && wrong.is_empty(), "{wrong:#?}");
    let of =
        |area: &str, what: &str| found.iter().find(|f| (f["area"] == area || f["area"]["region"] == area) && f["what"] == what).cloned();
    for (area, what, part) in [
        ("kubernetes", "rights", "that the operator uses"),
        ("kubernetes", "leader", "renewed"),
        ("kubernetes", "owners kept out", "lowtide-marks"),
        ("kubernetes", "node classes", "2"),
        ("us-east-1", "subnets", "use1-az"),
        ("us-east-2", "spot prices", "prices"),
        ("us-east-1", "launches", "dry run"),
        ("us-east-1", "interruption queue", "http"),
        ("us-east-1", "machines", "of this cluster's name"),
        ("us-east-1", "scheduled events", "of the account"),
        ("postgres", "role", "operator may write"),
    ] {
        let finding = of(area, what).unwrap_or_else(|| panic!("{area} {what} is not looked at: {found:#?}"));
        assert!(finding["verdict"] == "good" && finding["found"].as_str().unwrap().contains(part), "{finding}");
    }
    assert_eq!(
        (stage.lab.ec2("state").await.unwrap()["queue_depths"].clone(), stage.machines().await),
        (queues, machines),
        "it changed nothing"
    );

    let deny = |service: &str, action: &str, on: bool| json!({"service": service, "action": action, "region": "us-east-2", "on": on});
    stage.lab.order("deny", &deny("ec2", "CreateFleet", true)).await.unwrap();
    stage.lab.order("deny", &deny("sqs", "GetQueueUrl", true)).await.unwrap();
    let bad = check(stage, &["--marks-policy", "nothing-of-this-name"]);
    stage.lab.order("deny", &deny("ec2", "CreateFleet", false)).await.unwrap();
    stage.lab.order("deny", &deny("sqs", "GetQueueUrl", false)).await.unwrap();
    let said = text(&bad);
    assert!(!bad.status.success() && said.contains("2 wrong") && said.contains("! owners kept out"), "{said}");
    let of_ohio = said.split("AWS us-east-2").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    for part in
        ["✗ launches", "-> allow ec2:CreateFleet, ec2:RunInstances and iam:PassRole", "✗ interruption queue", "-> allow sqs:GetQueueUrl"]
    {
        assert!(of_ohio.contains(part), "{part} in {said}");
    }
}
