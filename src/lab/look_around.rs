//! `lowtide-lab up` (`make lab`): starts the lab, the operator and the console, says how to look around, and stays until asked to end.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::console::{CHART_VALUES, LabConsole, PERSON};
use super::error::LabError;
use super::progress::say;
use super::start::{Lab, LabOptions, OPERATOR_NAMESPACE, OperatorOptions};

/// Starts and stays. Exit code 1 when something could not start or ended early.
pub async fn run(options: LabOptions, bare: bool) -> ExitCode {
    let outcome = tokio::select! {
        outcome = stay(options, bare) => outcome,
        () = asked_to_end() => Ok(()),
    };
    match outcome {
        Ok(()) => {
            say("\nended; everything is cleaned up");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            say(&format!("\n{fault}"));
            ExitCode::FAILURE
        }
    }
}

async fn stay(options: LabOptions, bare: bool) -> Result<(), LabError> {
    say("starting the lab");
    let mut lab = Lab::start(options).await?;
    let mut console = None;
    if !bare {
        lab.prepare_ledger().await?;
        lab.install_chart(&CHART_VALUES.map(String::from))?;
        lab.spawn_operator(&OperatorOptions::default())?;
        lab.operator_ready(Duration::from_secs(60)).await?;
        console = Some(LabConsole::start(&lab).await?);
    }
    describe(&mut lab, console.as_ref())?;
    loop {
        lab.check()?;
        if let Some(console) = &mut console {
            console.check()?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn describe(lab: &mut Lab, console: Option<&LabConsole>) -> Result<(), LabError> {
    let kubeconfig = lab.control_plane.admin_kubeconfig().display().to_string();
    let kubectl = lab.tools().path("kubectl").display().to_string();
    let (ec2, ledger) = (lab.ec2_url().to_owned(), lab.postgres.url());
    say("\nthe world is up; look around:");
    say(&format!("  export KUBECONFIG={kubeconfig}"));
    say(&format!("  {kubectl} get gpunodeclaims,nodes,pods -A -o wide"));
    say(&format!("  psql '{ledger}'"));
    say(&format!("  curl {ec2}/_sim/state                     machines, as EC2 sees them"));
    if let Some(pid) = lab.operator().map(|operator| operator.pid()) {
        say(&format!("  curl {}/metrics                     the operator, pid {pid}", lab.operator_url()));
    }
    if let Some(console) = console {
        say(&format!("  {}                             the console; sign in with the token of", console.url()));
        say(&format!("      {kubectl} create token {PERSON} -n {OPERATOR_NAMESPACE}"));
    }
    say("  kubectl apply -f examples/nodeclasses.yaml -f examples/nodepool.yaml -f examples/inference.yaml -f examples/batch.yaml");
    say(&format!(
        "  curl -H 'content-type: application/json' {ec2}/_sim/interrupt -d '{{\"instance_id\": \"i-...\"}}'    EC2 takes a machine back"
    ));
    say(&format!("  logs: {}", lab.logs()?.display()));
    say("Ctrl-C ends it.");
    Ok(())
}

/// Ctrl-C or SIGTERM.
pub async fn asked_to_end() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
