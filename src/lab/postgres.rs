//! A private Postgres server in a folder of its own, on a loopback port of its own.
//!
//! Decides: how the server is made, reached, stopped and started again, and as whom it runs when we are root (Postgres refuses root).
//! Does not: know any table (see `ledger`).

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::tied;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The private server could not be made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum PostgresFault {
    /// No server binaries.
    #[error(
        "no Postgres server found: expected initdb, postgres and pg_ctl in PATH or below /usr/lib/postgresql; install the package `postgresql`"
    )]
    NotInstalled,
    /// We are root, and nobody else can run it.
    #[error("Postgres refuses to run as root and there is no user `postgres` in /etc/passwd; create one or run as another user")]
    NoUser,
    /// The folder cannot be entered by the user that runs the server.
    #[error("user `postgres` cannot enter {0}, which holds the server's folder; choose one below /tmp")]
    Unreachable(PathBuf),
    /// A file or process operation failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// One of Postgres' programs failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// Which.
        program: String,
        /// What it printed.
        output: String,
    },
}

/// A running (or stopped) private server. Dropping it stops the server; the folder stays unless the server made it itself.
#[derive(Debug)]
pub struct PrivatePostgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    dir: PathBuf,
    remove_dir: bool,
    port: u16,
    password: String,
    settings: Vec<String>,
    server: Option<Child>,
}

/// What tests run with: fast, and nothing that has to outlive the machine.
const FOR_TESTS: [&str; 2] = ["fsync=off", "shared_buffers=64MB"];

impl PrivatePostgres {
    /// Makes a cluster in `dir` (created; must not hold one already) and starts its server.
    ///
    /// As root the server runs as user `postgres`, which must be able to enter every folder above `dir`.
    ///
    /// # Errors
    /// Says what is missing and what to do; see [`PostgresFault`].
    pub fn start(dir: impl Into<PathBuf>) -> Result<Self, PostgresFault> {
        let mut server = Self::initialise(dir.into(), false)?;
        server.start_again()?;
        Ok(server)
    }

    /// Like [`PrivatePostgres::start`], in a new folder below the system's temporary folder that is removed when dropped.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`].
    pub fn start_temporary() -> Result<Self, PostgresFault> {
        let dir = std::env::temp_dir().join(format!("lowtide-postgres-{}-{}", std::process::id(), random_hex(6)?));
        let mut server = Self::initialise(dir, true)?;
        server.start_again()?;
        Ok(server)
    }

    /// Like [`PrivatePostgres::start_temporary`], with these settings instead of those for tests: `fsync` stays on.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`].
    pub fn start_temporary_with(settings: &[&str]) -> Result<Self, PostgresFault> {
        let dir = std::env::temp_dir().join(format!("lowtide-postgres-{}-{}", std::process::id(), random_hex(6)?));
        let mut server = Self::initialise(dir, true)?;
        server.settings = settings.iter().map(ToString::to_string).collect();
        server.start_again()?;
        Ok(server)
    }

    fn initialise(dir: PathBuf, remove_dir: bool) -> Result<Self, PostgresFault> {
        let programs = find_programs().ok_or(PostgresFault::NotInstalled)?;
        let user = user_to_run_as()?;
        fs::create_dir_all(&dir).map_err(io(format!("create {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(io(format!("resolve {}", dir.display())))?;
        if let Some((uid, gid)) = user {
            check_reachable(&dir)?;
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).map_err(io(format!("give {} to postgres", dir.display())))?;
        }
        let password = format!("{}{}", password_of("postgres"), random_hex(16)?);
        let settings = FOR_TESTS.map(String::from).to_vec();
        let server = PrivatePostgres { programs, user, dir, remove_dir, port: 0, password, settings, server: None };
        let password_file = server.dir.join("password");
        fs::write(&password_file, &server.password).map_err(io("write the password file".into()))?;
        if let Some((uid, gid)) = server.user {
            std::os::unix::fs::chown(&password_file, Some(uid), Some(gid)).map_err(io("give the password file to postgres".into()))?;
        }
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).map_err(io("protect the password file".into()))?;
        let data = server.data().display().to_string();
        let pwfile = format!("--pwfile={}", password_file.display());
        server.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", &pwfile, "--no-sync", "--no-instructions"],
        )?;
        Ok(server)
    }

    /// Starts the server on the same data; on the same port when it is still free. Does nothing while it runs.
    ///
    /// # Errors
    /// [`PostgresFault::Failed`] with the server's log when it does not answer within 30 s.
    pub fn start_again(&mut self) -> Result<(), PostgresFault> {
        if self.server.is_some() {
            return Ok(());
        }
        if self.port == 0 {
            self.port = free_port()?;
        }
        let log = fs::File::create(self.dir.join("server.log")).map_err(io("create the server's log".into()))?;
        let log_too = log.try_clone().map_err(io("open the server's log twice".into()))?;
        let always = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60", "timezone=UTC"];
        // Tied to us: a lab that is killed leaves no server behind.
        let mut command = self.prepared(tied::command(&self.programs.join("postgres")));
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        for setting in always.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.arg("-c").arg(setting);
        }
        // A group of its own: an interrupt from the terminal must not stop it before its owner does.
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(log_too);
        self.server = Some(tied::spawn(command).map_err(io("start postgres".into()))?);
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<(), PostgresFault> {
        let begun = Instant::now();
        loop {
            let ended = self.server.as_mut().map(Child::try_wait).transpose().map_err(io("look after postgres".into()))?.flatten();
            let ready = self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status();
            if ended.is_none() && ready.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if ended.is_some() || begun.elapsed() > START_LIMIT {
                let output = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
                self.stop();
                return Err(PostgresFault::Failed { program: "postgres".into(), output });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server at once, as a crash would: clients are cut off, committed data stay. Does nothing when it is stopped.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let data = self.data().display().to_string();
        if self.run("pg_ctl", &["stop", "-D", &data, "-m", "immediate", "-w", "-t", "10"]).is_err() {
            // Its own pid, which cannot have been reused while we hold the handle.
            let _ = server.kill();
        }
        let _ = server.wait();
    }

    /// Where superuser `postgres` reaches database `postgres`; the password is in it.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where superuser `postgres` reaches `database`.
    pub fn url_of(&self, database: &str) -> String {
        self.url_as("postgres", &self.password, database)
    }

    /// Where `user`, whose password is [`password_of`] it, reaches `database`.
    pub fn url_for(&self, user: &str, database: &str) -> String {
        self.url_as(user, &password_of(user), database)
    }

    /// Where `user` reaches `database` by this password.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as superuser in `database` and gives what `psql` printed, unaligned and without headers.
    ///
    /// # Errors
    /// [`PostgresFault::Failed`] with the server's message.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, PostgresFault> {
        self.run("psql", &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url_of(database), "-c", sql])
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn command(&self, program: &str) -> Command {
        self.prepared(Command::new(self.programs.join(program)))
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(&self.dir).env_remove("PGDATA").env_remove("PGPORT").env_remove("PGHOST").env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, PostgresFault> {
        let Output { status, stdout, stderr } = self.command(program).args(arguments).output().map_err(io(format!("run {program}")))?;
        let printed = String::from_utf8_lossy(&stdout).into_owned();
        if status.success() {
            return Ok(printed);
        }
        Err(PostgresFault::Failed { program: program.into(), output: format!("{printed}{}", String::from_utf8_lossy(&stderr)) })
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop();
        if self.remove_dir {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn io(what: String) -> impl FnOnce(std::io::Error) -> PostgresFault {
    move |cause| PostgresFault::Io { what, cause }
}

/// The newest version below /usr/lib/postgresql (Debian keeps servers out of PATH), else what PATH has.
fn find_programs() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|program| dir.join(program).is_file());
    let version = |dir: &Path| dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| version(&entry.path()).map(|v| (v, entry.path().join("bin"))))
        .filter(|(_, dir)| complete(dir))
        .collect();
    installed.sort();
    installed.pop().map(|(_, dir)| dir).or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(complete))
}

/// Uid and gid of `postgres` when we are root; `None` when we may run it as we are.
fn user_to_run_as() -> Result<Option<(u32, u32)>, PostgresFault> {
    let own = fs::metadata("/proc/self").map_err(io("read /proc/self".into()))?.uid();
    if own != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(io("read /etc/passwd".into()))?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).ok_or(PostgresFault::NoUser)?;
    let mut ids = line.split(':').skip(2).map(str::parse::<u32>);
    match (ids.next(), ids.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => Err(PostgresFault::NoUser),
    }
}

/// Refuses a folder below one that others may not enter: initdb would fail with a puzzling message.
fn check_reachable(dir: &Path) -> Result<(), PostgresFault> {
    for above in dir.ancestors().skip(1) {
        let mode = fs::metadata(above).map_err(io(format!("look at {}", above.display())))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Err(PostgresFault::Unreachable(above.to_path_buf()));
        }
    }
    Ok(())
}

fn free_port() -> Result<u16, PostgresFault> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(io("find a free port".into()))?;
    Ok(listener.local_addr().map_err(io("read the free port".into()))?.port())
}

/// The password of a user of the lab or of a test: a word by which `make test` would know it in anything that was said.
pub fn password_of(user: &str) -> String {
    format!("pw-of-{user}-1ab5")
}

fn random_hex(bytes: usize) -> Result<String, PostgresFault> {
    let mut buffer = vec![0_u8; bytes];
    fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut buffer)).map_err(io("read /dev/urandom".into()))?;
    Ok(buffer.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_survives_a_stop_and_leaves_nothing_behind() {
        let mut server = PrivatePostgres::start_temporary().unwrap();
        server.psql("postgres", "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").unwrap();
        let url = server.url();
        server.stop();
        assert!(server.psql("postgres", "SELECT 1").is_err(), "it still answers after stop");
        server.start_again().unwrap();
        assert_eq!(server.url(), url);
        assert_eq!(server.psql("postgres", "SELECT n FROM kept").unwrap().trim(), "7");
        let dir = server.dir.clone();
        drop(server);
        assert!(!dir.exists());
    }

    #[test]
    fn a_folder_that_postgres_cannot_enter_is_named() {
        let closed = std::env::temp_dir().join(format!("lowtide-closed-{}", std::process::id()));
        fs::create_dir_all(closed.join("below")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let answer = check_reachable(&closed.join("below"));
        fs::remove_dir_all(&closed).unwrap();
        assert!(matches!(answer, Err(PostgresFault::Unreachable(at)) if at == closed));
    }
}
