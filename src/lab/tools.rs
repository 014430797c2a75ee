//! Where the real control plane's programs are: built once by `make tools` into a folder that lasts.

use std::path::{Path, PathBuf};

use super::error::LabError;

/// The programs, all present.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

/// Every program the lab starts.
pub const NAMES: [&str; 7] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "helm"];

impl Tools {
    /// Finds them in [`cache_folder`]`/bin`.
    pub fn find() -> Result<Tools, LabError> {
        Self::find_in(cache_folder().join("bin"))
    }

    fn find_in(folder: PathBuf) -> Result<Tools, LabError> {
        match NAMES.into_iter().find(|name| !folder.join(name).is_file()) {
            None => Ok(Tools { folder }),
            Some(name) => Err(LabError::ToolMissing { name, folder }),
        }
    }

    /// The path of one of [`NAMES`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// `$LOWTIDE_CACHE`, else `$XDG_CACHE_HOME/lowtide`, else `~/.cache/lowtide`: the same rule as the Makefile's.
pub fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("LOWTIDE_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|folder| folder.join("lowtide")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/lowtide")))
        .unwrap_or_else(|| std::env::temp_dir().join("lowtide-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_program_is_named_with_what_to_do() {
        let fault = Tools::find_in("/nonexistent/bin".into()).unwrap_err().to_string();
        assert_eq!(fault, "etcd is not in /nonexistent/bin; build it with `make tools` (Go 1.26 needed, once)");
    }
}
