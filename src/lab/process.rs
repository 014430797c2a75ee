//! Child processes of the lab: started with a log file, ended by their own pid, never outliving the lab.
//!
//! Decides: how a child is started, watched and ended. Does not: know what the child is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::error::LabError;
use super::tied;

/// A signal the lab sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask to end.
    Term,
    /// End without asking.
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Term => "TERM",
            Signal::Kill => "KILL",
        }
    }
}

/// What to start and how.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// For messages and the log's name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to our own environment.
    pub environment: Vec<(String, String)>,
    /// Taken out of our own environment.
    pub without: Vec<String>,
    /// Folder for the log.
    pub log_folder: PathBuf,
}

impl ProcessSpec {
    /// A program with its log in `log_folder`.
    pub fn new(name: &str, program: impl Into<PathBuf>, log_folder: &Path) -> Self {
        ProcessSpec {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            without: Vec::new(),
            log_folder: log_folder.to_owned(),
        }
    }
    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// A running child. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it.
    pub fn spawn(spec: &ProcessSpec) -> Result<Process, LabError> {
        let log = spec.log_folder.join(format!("{}.log", spec.name));
        let open = || File::options().create(true).append(true).open(&log).map_err(LabError::io(format!("opening {}", log.display())));
        let mut command = tied::command(&spec.program);
        command.args(&spec.args);
        for name in &spec.without {
            command.env_remove(name);
        }
        command.envs(spec.environment.iter().cloned());
        // A group of its own: Ctrl-C reaches us alone, and we end our children in order.
        command.process_group(0).stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = tied::spawn(command).map_err(LabError::io(format!("starting {} (through setpriv, of util-linux)", spec.name)))?;
        Ok(Process { name: spec.name.clone(), child, log })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }
    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
    /// Fails when it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<(), LabError> {
        match self.exited() {
            None => Ok(()),
            Some(_) => Err(LabError::Ended { name: self.name.clone(), log: self.log.clone(), tail: self.log_tail(2_000) }),
        }
    }
    /// The last bytes of its log.
    pub fn log_tail(&self, bytes: u64) -> String {
        tail(&self.log, bytes).unwrap_or_default()
    }
    /// Sends a signal to it and to nobody else.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        if self.exited().is_some() {
            return Ok(());
        }
        let what = format!("sending {} to {}", signal.name(), self.name);
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{} {}", signal.name(), self.pid())])
            .status()
            .map_err(LabError::io(what.clone()))?;
        if status.success() || self.exited().is_some() {
            return Ok(());
        }
        Err(LabError::Command { command: what, status: status.to_string(), output: String::new() })
    }
    /// Ends it without asking, and waits.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // Both can only fail because it has ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
    /// Asks it to end, waits for at most `grace`, then kills it. True when it ended by itself.
    pub fn stop(&mut self, grace: Duration) -> bool {
        if self.signal(Signal::Term).is_ok() {
            let until = Instant::now() + grace;
            while Instant::now() < until {
                if self.exited().is_some() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Runs a command to its end; returns what it printed on standard output.
pub fn run(command: &mut Command) -> Result<String, LabError> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(LabError::io(format!("running `{shown}`")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(LabError::Command { command: shown, status: output.status.to_string(), output: format!("{stdout}{stderr}").trim().to_owned() })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| without_password(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A word of a command as faults say it: an address without who asks and the password.
fn without_password(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(host)) if host > scheme => format!("{}://{}", &word[..scheme], &word[host + 1..]),
        _ => word.to_owned(),
    }
}

/// A binary of this build: beside the running one, or one folder up from it when that is a test.
pub fn sibling_binary(name: &str) -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().map_err(LabError::io("finding the running program"))?;
    let folders = own.ancestors().skip(1).take(2).map(Path::to_owned);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| LabError::Unreadable {
        what: format!("the folder of {}", own.display()),
        expected: format!("a binary {name} (`cargo build --features lab`)"),
        found: "none".to_owned(),
    })
}

/// A TCP port on loopback that was free a moment ago. Somebody may take it meanwhile: starters try again with another.
pub fn free_port() -> Result<u16, LabError> {
    let what = "asking for a free port on loopback";
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(LabError::io(what))?;
    Ok(listener.local_addr().map_err(LabError::io(what))?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, script: &str) -> (PathBuf, ProcessSpec) {
        let folder = std::env::temp_dir().join(format!("lowtide-process-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let spec = ProcessSpec::new(name, "sh", &folder).args(["-c", script]);
        (folder, spec)
    }

    #[test]
    fn a_command_that_fails_is_named_without_the_password_in_its_address() {
        let mut command = Command::new("sh");
        let fault = run(command.args(["-c", "exit 3", "postgres://finance:pw-of-finance-1ab5@127.0.0.1:5/postgres", "a@b"])).unwrap_err();
        let said = format!("{fault} {fault:?}");
        assert!(said.contains("sh -c exit 3 postgres://127.0.0.1:5/postgres a@b") && !said.contains("pw-of"), "{said}");
    }

    #[test]
    fn an_early_end_is_told_with_the_end_of_the_log() {
        let (folder, spec) = spec("early", "echo no such flag >&2; exit 3");
        let mut process = Process::spawn(&spec).unwrap();
        while process.exited().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let fault = process.check().unwrap_err().to_string();
        assert!(fault.contains("early ended early") && fault.contains("no such flag"), "{fault}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_child_that_ignores_term_is_killed_after_its_grace() {
        let (folder, spec) = spec("stubborn", "trap '' TERM; echo on; while :; do sleep 0.05; done");
        let mut process = Process::spawn(&spec).unwrap();
        while !process.log_tail(10).contains("on") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!process.stop(Duration::from_millis(150)));
        assert!(process.exited().is_some());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
