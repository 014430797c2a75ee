//! `lowtide catalog`: the types with what they have and how much of it pods can use, as the planner sees them.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::core::market::catalog::{Architecture, Catalog, MachineType};
use crate::core::units::Resources;

/// Arguments of `lowtide catalog`.
#[derive(Debug, clap::Args)]
pub struct CatalogArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    instance_type: &'a str,
    gpu_model: &'a str,
    gpus: i64,
    gpu_memory_mib: i64,
    architecture: Architecture,
    capacity: Amounts,
    allocatable: Amounts,
}

#[derive(serde::Serialize)]
struct Amounts {
    cpu_millicores: i64,
    memory_mib: i64,
    gpus: i64,
}

impl From<Resources> for Amounts {
    fn from(r: Resources) -> Self {
        Amounts { cpu_millicores: r.cpu.0, memory_mib: r.memory.0, gpus: r.gpus }
    }
}

fn row(machine: &MachineType) -> Row<'_> {
    Row {
        instance_type: machine.instance_type.as_str(),
        gpu_model: machine.gpu_model.as_str(),
        gpus: machine.gpus,
        gpu_memory_mib: machine.gpu_memory.0,
        architecture: machine.architecture,
        capacity: machine.capacity().into(),
        allocatable: machine.allocatable().into(),
    }
}

/// Prints the catalog.
pub fn run(args: CatalogArgs) -> ExitCode {
    let catalog = Catalog::snapshot();
    let rows: Vec<Row> = catalog.types.values().map(row).collect();
    if args.json {
        return super::files::print_json(&rows);
    }
    let mut out = format!(
        "{:<18} {:<20} {:>4} {:>12} {:<6} {:>9} {:>10} {:>11} {:>12}\n",
        "TYPE", "GPU", "GPUS", "GPU MIB EACH", "ARCH", "CPU", "MEMORY MIB", "CPU FOR PODS", "MIB FOR PODS"
    );
    for r in &rows {
        let arch = if r.architecture == Architecture::Amd64 { "amd64" } else { "arm64" };
        let _ = writeln!(
            out,
            "{:<18} {:<20} {:>4} {:>12} {:<6} {:>8}m {:>10} {:>11}m {:>12}",
            r.instance_type,
            r.gpu_model,
            r.gpus,
            r.gpu_memory_mib,
            arch,
            r.capacity.cpu_millicores,
            r.capacity.memory_mib,
            r.allocatable.cpu_millicores,
            r.allocatable.memory_mib
        );
    }
    super::files::print(&out)
}
