//! `kubectl lowtide`, by a real kubectl that finds it as its plugin, of the running cluster.

use std::process::{Command, Output};

use lowtide::lab::process::sibling_binary;
use lowtide::lab::tools::Tools;
use serde_json::Value;

use crate::stage::Stage;

fn kubectl_lowtide(stage: &Stage, args: &[&str]) -> Output {
    let folder = stage.kubeconfig.parent().unwrap().join("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("kubectl-lowtide");
    if !link.exists() {
        std::os::unix::fs::symlink(sibling_binary("lowtide").unwrap(), &link).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(Tools::find().unwrap().path("kubectl"));
    command.arg("lowtide").args(args).env("PATH", path).env("KUBECONFIG", stage.lab.control_plane.admin_kubeconfig());
    command.envs(stage.lab.aws_environment()).output().unwrap()
}

fn said(stage: &Stage, args: &[&str]) -> String {
    let output = kubectl_lowtide(stage, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a workload owner and the platform team ask at a terminal, while machines run and nothing moves.
pub fn what_kubectl_lowtide_says_is_what_runs(stage: &Stage) {
    let pods = stage.items(&["pods", "-n", "work"]);
    let pod = pods.iter().find(|pod| pod["status"]["phase"] == "Running").unwrap();
    let (name, claim) = (pod["metadata"]["name"].as_str().unwrap(), pod["metadata"]["annotations"]["lowtide.dev/claim"].as_str().unwrap());
    let claims = stage.claims();
    let spec = &claims.iter().find(|one| one["metadata"]["name"] == claim).unwrap()["spec"];

    let tree = said(stage, &["explain", name, "-n", "work"]);
    for part in [name, claim, spec["instanceType"].as_str().unwrap(), spec["zone"].as_str().unwrap()] {
        assert!(tree.contains(part), "expected {part} in\n{tree}");
    }
    let explained: Value = serde_json::from_str(&said(stage, &["explain", &format!("pod/{name}"), "-n", "work", "--json"])).unwrap();
    assert!(explained.to_string().contains(claim), "{explained}");

    let rates: Value = serde_json::from_str(&said(stage, &["savings", "--json"])).unwrap();
    let launched = claims.iter().filter(|claim| !claim["status"]["launchedAt"].is_null()).count();
    assert_eq!(rates["gpus"]["machines"].as_u64(), u64::try_from(launched).ok(), "{rates}");
    let table = said(stage, &["savings"]);
    assert!(table.starts_with("POOL") && table.contains("gpus"), "{table}");

    assert!(said(stage, &["market", "--gpu-memory", "20Gi"]).contains("g6"), "the market has machines for it");
    assert!(!said(stage, &["moves"]).contains(claim), "nothing is being moved");

    let absent = kubectl_lowtide(stage, &["explain", "nobody", "-n", "work"]);
    let words = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(!absent.status.success() && words.contains("there is no pod work/nobody"), "{absent:?}");
}
