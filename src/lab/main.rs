//! `lowtide-lab`: the local world. Parses and runs; nothing else.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let tools = lowtide::lab::tools::Tools::find().unwrap();
    let workdir = lowtide::lab::workdir::Workdir::create().unwrap();
    let mut pg = lowtide::lab::postgres::Postgres::start(&workdir).await;
    if let Err(e) = &pg { eprintln!("{e}"); }
    let plane = lowtide::lab::control_plane::ControlPlane::start(&tools, &workdir).await;
    match plane {
        Ok(p) => { eprintln!("export KUBECONFIG={}", p.admin_kubeconfig().display());
            let _ = tokio::signal::ctrl_c().await; }
        Err(e) => eprintln!("{e}"),
    }
    if let Ok(pg) = &mut pg { pg.stop(); }
    ExitCode::SUCCESS
}
