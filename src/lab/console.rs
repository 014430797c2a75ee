//! The console of the lab: `lowtide console` as a process with the rights of the chart's account, and somebody to sign in as.
//!
//! Decides: that it reads the ledger as finance does, and listens on this machine alone; and how statements are found in its pages.

use std::collections::BTreeSet;
use std::time::Duration;

use super::control_plane::start_on_free_ports;
use super::error::LabError;
use super::process::{Process, ProcessSpec, free_port, sibling_binary};
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
        lab.kubectl(&["create", "serviceaccount", PERSON, "-n", OPERATOR_NAMESPACE])?;
        let (role, account) = (format!("--clusterrole={RELEASE}-finance"), format!("--serviceaccount={OPERATOR_NAMESPACE}:{PERSON}"));
        lab.kubectl(&["create", "clusterrolebinding", PERSON, &role, &account])?;
        let kubeconfig = lab.kubeconfig_of(&format!("{RELEASE}-console"))?;
        let logs = lab.logs()?;
        let spec = || {
            let port = free_port()?;
            let mut spec = ProcessSpec::new("console", sibling_binary("lowtide")?, &logs).args(["console"]);
            spec.environment = vec![
                ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
                ("LOWTIDE_CLUSTER".to_owned(), CLUSTER.to_owned()),
                ("LOWTIDE_CONSOLE_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
                ("LOWTIDE_DATABASE_URL".to_owned(), lab.finance_url()),
            ];
            Ok((spec, format!("http://127.0.0.1:{port}")))
        };
        let ready = async |url: &String| match sim_client::get(url, "/readyz").await {
            Ok(_) => Ok(url.clone()),
            Err(fault) => Err(fault.to_string()),
        };
        let (process, url) = start_on_free_ports("console", &logs, STARTS_WITHIN, spec, ready).await?;
        Ok(LabConsole { process, url })
    }

    /// Where it is, e.g. `http://127.0.0.1:40001`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A page, as finance's browser gets it.
    pub async fn page(&self, token: &str, path: &str) -> Result<String, LabError> {
        let bearer = format!("Bearer {token}");
        sim_client::send(&self.url, "GET", path, &[("authorization", &bearer), ("accept", "text/html")], "").await
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.process.check()
    }
}

/// A token for [`PERSON`].
pub fn token(lab: &Lab) -> Result<String, LabError> {
    Ok(lab.kubectl(&["create", "token", PERSON, "-n", OPERATOR_NAMESPACE])?.trim().to_owned())
}

/// The addresses of the statements behind the figures of a page.
pub fn statements_of(page: &str) -> BTreeSet<String> {
    let links = page.split("href=\"/sql/").skip(1).filter_map(|rest| rest.split('"').next());
    links.map(|link| format!("/sql/{}", plain(link))).collect()
}

/// The SQL that the page of a statement shows.
pub fn sql_of(page: &str) -> Option<String> {
    page.split("<pre><code>").nth(1)?.split("</code>").next().map(plain)
}

/// The text of an attribute or element.
fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}
