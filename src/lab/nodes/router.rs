//! The network between the machines: the lab's own network namespace is the router, and each machine hangs on a cable of its own.
//!
//! Decides: addresses and routes. The host's network is not touched: everything vanishes with the namespace.

use std::process::Command;

use super::authority;
use crate::lab::error::LabError;
use crate::lab::process::run;

/// Where machines ask for their metadata.
pub const METADATA: &str = "169.254.169.254:80";
/// The router, as every machine knows it.
const GATEWAY: &str = "169.254.0.1";

fn ip(arguments: &str) -> Result<(), LabError> {
    run(Command::new("ip").args(arguments.split_whitespace())).map(drop)
}

/// Gives this namespace the addresses of the API server, the router and the metadata service.
pub fn set_up() -> Result<(), LabError> {
    ip("link set lo up")?;
    let (metadata, _) = METADATA.split_once(':').unwrap_or((METADATA, ""));
    for address in [authority::ADDRESS, GATEWAY, metadata] {
        ip(&format!("addr add {address}/32 dev lo"))?;
    }
    let path = "/proc/sys/net/ipv4/ip_forward";
    std::fs::write(path, "1").map_err(LabError::io(format!("writing {path}")))
}

/// The pods of machine `number`.
pub fn pod_network(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// Connects the machine whose first process is `pid`.
pub fn plug(number: u8, pid: u32, address: &str) -> Result<(), LabError> {
    ip(&format!("link add cable{number} type veth peer name eth0 netns {pid}"))?;
    ip(&format!("link set cable{number} up"))?;
    ip(&format!("route replace {address}/32 dev cable{number}"))?;
    // The gateway has no address of the machine's network: its cable is enough.
    ip(&format!("route replace {} via {address} dev cable{number} onlink", pod_network(number)))
}

/// Cuts the cable: the machine runs on and hears nothing. What is sent to it or to its pods is lost without a word, as on a real network;
/// without these routes the router would say at once that it knows no way.
pub fn unplug(number: u8, address: &str) -> Result<(), LabError> {
    ip(&format!("link set cable{number} down"))?;
    ip(&format!("route replace blackhole {address}/32"))?;
    ip(&format!("route replace blackhole {}", pod_network(number)))
}

/// Takes the cable away. The kernel would, too, once it has taken the machine's namespace apart, which it does in its own time.
pub fn remove(number: u8) -> Result<(), LabError> {
    ip(&format!("link del cable{number}"))
}
