//! The folder of one running lab: everything it writes, removed at its end; folders of dead labs are swept at the next start.

use std::path::{Path, PathBuf};

use super::error::LabError;

const PREFIX: &str = "lowtide-lab-";

/// A temporary folder named after our pid. Removed when dropped, unless kept.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    keep: bool,
}

impl Workdir {
    /// Makes one, and sweeps those whose lab is gone.
    pub fn create() -> Result<Workdir, LabError> {
        Self::create_in(&std::env::temp_dir())
    }

    fn create_in(parent: &Path) -> Result<Workdir, LabError> {
        sweep(parent);
        let mut attempt = 0_u32;
        loop {
            let path = parent.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Workdir { path, keep: false }),
                Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(fault) => return Err(LabError::io(format!("making {}", path.display()))(fault)),
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Leaves the folder on disk when dropped: for looking at logs after a fault.
    pub fn keep(&mut self) {
        self.keep = true;
    }
    /// A folder inside it.
    pub fn folder(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).map_err(LabError::io(format!("making {}", path.display())))?;
        Ok(path)
    }
    /// Writes a file inside it; returns its path.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, LabError> {
        let path = self.path.join(name);
        std::fs::write(&path, content).map_err(LabError::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is swept by the next start.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes folders of labs whose process no longer exists. Best effort: a folder we may not remove belongs to somebody else.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_labs_are_swept_and_those_of_living_ones_are_not() {
        let parent = std::env::temp_dir().join(format!("lowtide-workdir-test-{}", std::process::id()));
        // Pids end at 2^22 on Linux, so this one is never alive.
        let dead = parent.join(format!("{PREFIX}99999999-0"));
        std::fs::create_dir_all(dead.join("logs")).unwrap();
        let first = Workdir::create_in(&parent).unwrap();
        let second = Workdir::create_in(&parent).unwrap();
        assert!(!dead.exists() && first.path().exists() && first.path() != second.path());
        let gone = first.path().to_owned();
        drop(first);
        assert!(!gone.exists());
        drop(second);
        std::fs::remove_dir_all(parent).unwrap();
    }
}
