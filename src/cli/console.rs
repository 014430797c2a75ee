//! `lowtide console`: pages for people, served until it is asked to end.

use std::net::SocketAddr;
use std::process::ExitCode;

use axum::http::HeaderName;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::tell;
use crate::console::{ConsoleSettings, serve};
use crate::kube::connect;

/// Serves the console: what lowtide did, why, and what it cost. It reads the cluster and the ledger, and changes nothing.
#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {
    /// The cluster's name, as people know it.
    #[arg(long, env = "LOWTIDE_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// Address on which the console is served: plain HTTP, for a proxy or a port-forward in front of it.
    #[arg(long, env = "LOWTIDE_CONSOLE_LISTEN", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// URL of the ledger's Postgres, with a role that is a member of lowtide_reader; without it, pages about money say so.
    #[arg(long, env = "LOWTIDE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Network of an authentication proxy whose headers are believed, e.g. 127.0.0.1/32 for one in the same pod; may be repeated. Without any, everybody needs a
    /// bearer token.
    #[arg(long = "trusted-proxy", env = "LOWTIDE_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// The proxy's header with the user's name.
    #[arg(long, env = "LOWTIDE_USER_HEADER", default_value = "x-forwarded-user")]
    pub user_header: HeaderName,
    /// The proxy's header with the user's groups, separated by commas.
    #[arg(long, env = "LOWTIDE_GROUPS_HEADER", default_value = "x-forwarded-groups")]
    pub groups_header: HeaderName,
}

/// Runs `lowtide console`.
pub async fn run(args: ConsoleArgs) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOWTIDE_LOG").unwrap_or_else(|_| "info,kube_runtime=warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    tell(answer(args).await)
}

async fn answer(args: ConsoleArgs) -> Result<String, Box<dyn std::error::Error>> {
    if let Some(everybody) = args.trusted_proxies.iter().find(|network| network.prefix_len() == 0) {
        return Err(format!("--trusted-proxy {everybody} would believe the headers of everybody; expected the network of the proxy").into());
    }
    let client = connect().await?;
    let listener =
        tokio::net::TcpListener::bind(args.listen).await.map_err(|fault| format!("cannot listen on {}: {fault}", args.listen))?;
    tracing::info!("the console is served on http://{}", listener.local_addr()?);
    let settings = ConsoleSettings {
        cluster: args.cluster,
        database_url: args.database_url.filter(|url| !url.is_empty()),
        proxies: args.trusted_proxies,
        user_header: args.user_header,
        groups_header: args.groups_header,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    serve(listener, client, settings, stop).await?;
    Ok("the console has ended".to_owned())
}
