//! Children that the kernel ends when we end, however we end: Ctrl-C, a fault, or SIGKILL.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// A command for `program` that asks the kernel for SIGKILL when its parent ends (`setpriv`, of util-linux, becomes the program).
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts a command made by [`command`].
///
/// "Parent" is the *thread* that started it, by prctl(2), so all are started by one that never ends.
///
/// # Errors
/// When the system cannot start it.
pub fn spawn(command: Command) -> std::io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody waiting for the answer means that we are ending.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, result) = channel();
    let gone = || std::io::Error::other("the thread that starts processes has ended");
    starter.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut child = std::thread::spawn(|| {
            let mut sleeper = command(Path::new("sleep"));
            sleeper.arg("30");
            spawn(sleeper).unwrap()
        })
        .join()
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
