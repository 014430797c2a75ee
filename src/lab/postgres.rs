//! A private Postgres server on loopback, made by `initdb` in a temporary folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::LabError;
use super::process::{Process, ProcessSpec, Signal, free_port, run};
use super::progress::Step;
use super::workdir::Workdir;

/// The system user that runs the server when we are root (Postgres refuses to run as root).
const SYSTEM_USER: &str = "postgres";

/// A Postgres server that can be stopped and started again on the same data and port.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    logs: PathBuf,
    port: u16,
    user: Option<String>,
    server: Option<Process>,
}

impl Postgres {
    /// Makes the data folder, starts the server and waits until it answers. Database `postgres`, superuser `postgres`, no password on loopback.
    pub async fn start(workdir: &Workdir) -> Result<Postgres, LabError> {
        let step = Step::begin("postgres");
        let programs = find_programs()?;
        let user = am_root()?.then(|| SYSTEM_USER.to_owned());
        let folder = workdir.folder("postgres")?;
        if let Some(user) = &user {
            // The lab's folder is ours; the server's user must reach and own its part of it.
            let command = format!("chmod a+x {0} && chown {user} {1}", workdir.path().display(), folder.display());
            run(std::process::Command::new("sh").args(["-c", &command]))?;
        }
        let data = folder.join("data");
        let mut initdb = as_user(user.as_deref(), &programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]).arg(&data);
        initdb.current_dir(&folder);
        run(&mut initdb)?;
        let mut postgres = Postgres { programs, data, logs: workdir.folder("logs")?, port: 0, user, server: None };
        for attempt in 1.. {
            postgres.port = free_port()?;
            match postgres.resume().await {
                Ok(()) => break,
                Err(fault) if attempt >= 3 => return Err(fault),
                Err(_) => {}
            }
        }
        step.done(&postgres.url());
        Ok(postgres)
    }

    /// As in `postgres://postgres@127.0.0.1:41235/postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
    /// The path of one of Postgres' own programs, as in `psql`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
    /// Runs SQL; gives what psql printed, unaligned and without headers.
    pub fn psql(&self, sql: &str) -> Result<String, LabError> {
        run(std::process::Command::new(self.program("psql")).args([&self.url(), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }
    /// Stops the server: clients are disconnected, data stay.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop(Duration::from_secs(10));
        }
    }
    /// Starts the server on its data and port, and waits until it answers.
    pub async fn resume(&mut self) -> Result<(), LabError> {
        let mut spec = ProcessSpec::new("postgres", self.program("postgres"), &self.logs).args([
            "-D".to_owned(),
            self.data.display().to_string(),
            "-c".into(),
            "listen_addresses=127.0.0.1".into(),
            "-c".into(),
            "unix_socket_directories=".into(),
            "-c".into(),
            "fsync=off".into(),
            "-p".into(),
            self.port.to_string(),
        ]);
        spec.user = self.user.clone();
        spec.death_signal = Signal::Quit;
        spec.stop_signal = Signal::Int;
        let mut server = Process::spawn(&spec)?;
        let waiting = std::time::Instant::now();
        let limit = Duration::from_secs(30);
        loop {
            server.check()?;
            let last = match self.psql("select 1") {
                Ok(_) => break,
                Err(fault) => fault.to_string(),
            };
            if waiting.elapsed() > limit {
                return Err(LabError::NotReady { what: "postgres".into(), seconds: limit.as_secs(), last, logs: self.logs.clone() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.server = Some(server);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn as_user(user: Option<&str>, program: &Path) -> std::process::Command {
    match user {
        None => std::process::Command::new(program),
        Some(user) => {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
            command
        }
    }
}

fn am_root() -> Result<bool, LabError> {
    Ok(run(std::process::Command::new("id").arg("-u"))?.trim() == "0")
}

/// The newest server under /usr/lib/postgresql (Debian), else the folder of `postgres` in PATH.
fn find_programs() -> Result<PathBuf, LabError> {
    let complete = |folder: &Path| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder): &(u32, PathBuf)| complete(folder))
        .collect();
    folders.sort();
    let in_path = || std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).find(|folder| complete(folder));
    folders.pop().map(|(_, folder)| folder).or_else(in_path).ok_or(LabError::PostgresMissing)
}
