//! Running the simulator by itself, for people and for clients in other languages.

use super::server::{SimulatorConfig, SimulatorError, serve};

/// Serves an account on the loopback address until the process is asked to end.
///
/// # Errors
/// When the port is taken or the catalog does not read.
pub async fn run(port: u16, config: SimulatorConfig) -> Result<(), SimulatorError> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    tracing::info!(address = %listener.local_addr()?, "EC2 simulator listens");
    let ended = async {
        // Without a signal handler the process would end all the same.
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(listener, config, ended).await
}
