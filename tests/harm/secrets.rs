//! Passwords and tokens, looked for in all that was said: logs, metrics, events, objects, answers of commands.

use std::process::Command;
use std::time::Duration;

use lowtide::lab::process::sibling_binary;
use lowtide::lab::sim_client;

use crate::stage::{SECRETS, Stage};

/// The token in a kubeconfig.
fn token(kubeconfig: &str) -> String {
    let found = kubeconfig.split("token:").nth(1).expect("a token").trim_start();
    let token: String = found.trim_start_matches('"').chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    assert!(token.len() > 100, "no token of a ServiceAccount: {token}");
    token
}

/// After all that was done to it, with Postgres and Prometheus away and a password that is refused.
pub async fn no_password_and_no_token_is_in_anything_that_is_said(stage: &mut Stage) {
    stage.lab.postgres.stop();
    stage.until("the operator misses Postgres", async |s| s.log().contains("ledger").then_some(())).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.lab.postgres.start_again().unwrap();
    let token = token(&std::fs::read_to_string(&stage.kubeconfig).unwrap());

    let mut said = vec![("the operator's log".to_owned(), stage.log())];
    said.push(("/metrics".to_owned(), sim_client::get(&stage.lab.operator_url(), "/metrics").await.unwrap()));
    for kinds in ["events.v1.events.k8s.io", "gpunodepools,gpunodeclasses,gpunodeclaims,gpudecisions,pods,nodes,configmaps"] {
        said.push((kinds.to_owned(), stage.lab.kubectl(&["get", kinds, "-A", "-o", "json"]).unwrap()));
    }
    // Commands against addresses that do not work, each with a password in it.
    let wrong = |host: &str| format!("postgres://operator:{}@{host}/postgres?connect_timeout=1", SECRETS[0]);
    for address in [wrong("127.0.0.1:1"), wrong("127.0.0.1:notaport"), format!("postgres//operator:{}@x", SECRETS[0])] {
        for arguments in [["ledger", "savings"], ["ledger", "migrate"], ["ledger", "verify"]] {
            let output = Command::new(sibling_binary("lowtide").unwrap()).args(arguments).env("DATABASE_URL", &address).output().unwrap();
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!output.status.success() && !text.is_empty(), "{arguments:?} against {}", address.replace(SECRETS[0], "..."));
            said.push((format!("lowtide {}", arguments.join(" ")), text));
        }
    }
    // clap says what a variable holds, unless it is kept from it.
    let (database, prometheus) = (wrong("127.0.0.1:1"), format!("http://reader:{}@127.0.0.1:1", SECRETS[0]));
    for arguments in ["operator", "console", "check", "ledger savings", "ledger collect-usage", "ledger fetch", "adopt", "offers"] {
        let mut command = Command::new(sibling_binary("lowtide").unwrap());
        let command = command.args(arguments.split(' ')).arg("--help");
        let command = ["LOWTIDE_DATABASE_URL", "DATABASE_URL"].iter().fold(command, |c, name| c.env(name, &database));
        let command = ["LOWTIDE_PROMETHEUS_URL", "AWS_ENDPOINT_URL"].iter().fold(command, |c, name| c.env(name, &prometheus));
        let output = command.output().unwrap();
        assert!(output.status.success(), "lowtide {arguments} --help: {}", String::from_utf8_lossy(&output.stderr));
        said.push((format!("lowtide {arguments} --help"), String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    assert!(said[0].1.contains("lt-") && said[0].1.len() > 10_000 && said[1].1.contains("lowtide_"), "there is something to look through");
    for (what, text) in &said {
        for secret in SECRETS.iter().copied().chain([token.as_str()]) {
            if let Some(at) = text.find(secret) {
                let from = (0..=at.saturating_sub(200)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                panic!("{what} holds a secret, after: {}", &text[from..at]);
            }
        }
    }
}
