//! `lowtide-ec2`: the EC2 simulator by itself, reached by any AWS client through its endpoint setting.

use clap::Parser;
use lowtide::core::units::time::Millis;
use lowtide::lab::ec2::account::AccountSettings;
use lowtide::lab::ec2::{SimulatorConfig, SimulatorError, standalone};

/// A local AWS account of GPU capacity: EC2, SQS, STS, Service Quotas, Price List and instance metadata on one port.
#[derive(Debug, Parser)]
#[command(name = "lowtide-ec2", version)]
struct Arguments {
    /// Port on the loopback address.
    #[arg(long, default_value_t = 4566)]
    port: u16,
    /// Milliseconds from launch to running.
    #[arg(long, default_value_t = 1_000)]
    boot_ms: i64,
    /// Seconds from an interruption notice to the end of the instance.
    #[arg(long, default_value_t = 120)]
    notice_seconds: i64,
    /// Milliseconds during which a new instance may not be described.
    #[arg(long, default_value_t = 300)]
    visibility_lag_ms: i64,
    /// Where machines read their metadata, known by their private address, e.g. 169.254.169.254:80 (which must be an address of this host).
    #[arg(long)]
    metadata_address: Option<std::net::SocketAddr>,
    /// Let calls cost no tokens.
    #[arg(long)]
    no_throttling: bool,
}

#[tokio::main]
async fn main() -> Result<(), SimulatorError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let settings = AccountSettings {
        boot: Millis(arguments.boot_ms),
        notice: Millis::from_secs(arguments.notice_seconds),
        visibility_lag: Millis(arguments.visibility_lag_ms),
        throttling: !arguments.no_throttling,
        ..AccountSettings::default()
    };
    standalone::run(arguments.port, SimulatorConfig { settings, metadata_address: arguments.metadata_address }).await
}
