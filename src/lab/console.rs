//! The console of the lab: `lowtide console` as a process with the rights of the chart's account, and somebody to sign in as.
//!
//! Decides: that it reads the ledger as finance does, and listens on this machine alone.

use std::time::Duration;

use super::error::LabError;
use super::process::{Process, ProcessSpec, free_port, sibling_binary};
use super::progress::Wait;
use super::sim_client;
use super::start::{CLUSTER, Lab, OPERATOR_NAMESPACE, RELEASE};

/// Values of the chart that give it an account and rights; its pods would need nodes that run containers.
pub const CHART_VALUES: [&str; 3] = ["console.enabled=true", "console.replicas=0", "image.repository=localhost/lowtide"];
/// Who may see everything in it.
pub const PERSON: &str = "finance";
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A running console. Dropping it ends it.
#[derive(Debug)]
pub struct LabConsole {
    process: Process,
    url: String,
}

impl LabConsole {
    /// Starts it, after the chart was installed with [`CHART_VALUES`], and waits until it has seen the cluster.
    pub async fn start(lab: &Lab) -> Result<LabConsole, LabError> {
        let mut wait = Wait::begin("console");
        lab.kubectl(&["create", "serviceaccount", PERSON, "-n", OPERATOR_NAMESPACE])?;
        let (role, account) = (format!("--clusterrole={RELEASE}-finance"), format!("--serviceaccount={OPERATOR_NAMESPACE}:{PERSON}"));
        lab.kubectl(&["create", "clusterrolebinding", PERSON, &role, &account])?;
        let kubeconfig = lab.kubeconfig_of(&format!("{RELEASE}-console"))?;
        let port = free_port()?;
        let mut spec = ProcessSpec::new("console", sibling_binary("lowtide")?, &lab.logs()?).args(["console"]);
        spec.environment = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("LOWTIDE_CLUSTER".to_owned(), CLUSTER.to_owned()),
            ("LOWTIDE_CONSOLE_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("LOWTIDE_DATABASE_URL".to_owned(), lab.finance_url()),
        ];
        let mut console = LabConsole { process: Process::spawn(&spec)?, url: format!("http://127.0.0.1:{port}") };
        loop {
            console.check()?;
            let last = match sim_client::get(&console.url, "/readyz").await {
                Ok(_) => break,
                Err(fault) => fault.to_string(),
            };
            if wait.elapsed() > STARTS_WITHIN {
                return Err(LabError::NotReady { what: "console".into(), seconds: STARTS_WITHIN.as_secs(), last, logs: lab.logs()? });
            }
            wait.waiting("/readyz does not answer ok");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        wait.done(&console.url);
        Ok(console)
    }

    /// Where it is, e.g. `http://127.0.0.1:40001`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.process.check()
    }
}
