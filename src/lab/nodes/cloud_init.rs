//! What cloud-init does with the user data of a machine that it runs on: `write_files`, then `runcmd`.
//!
//! Source: cloud-init's documentation of these two modules. Decides: nothing; user data of any other form is refused, as a machine of ours
//! whose user data is not read never joins, and the console says why.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::lab::error::LabError;
use crate::lab::sim_client;

const METADATA: &str = "http://169.254.169.254:80";

#[derive(Debug, Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<WrittenFile>,
    #[serde(default)]
    runcmd: Vec<RunCommand>,
}

#[derive(Debug, Deserialize)]
struct WrittenFile {
    path: String,
    content: String,
    permissions: Option<String>,
    encoding: Option<String>,
}

/// A list is executed, a text is given to a shell.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RunCommand {
    Words(Vec<String>),
    Shell(String),
}

/// Reads user data from instance metadata (IMDSv2), or from a file for a machine that is not EC2's, and executes it.
pub async fn run(file: Option<&Path>) -> Result<(), LabError> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(LabError::io(format!("reading {}", path.display())))?,
        None => from_metadata().await?,
    };
    let config = parse(&text)?;
    config.write_files.iter().try_for_each(write)?;
    config.runcmd.iter().try_for_each(execute)
}

async fn from_metadata() -> Result<String, LabError> {
    let lifetime = [("X-aws-ec2-metadata-token-ttl-seconds", "300")];
    let session = sim_client::send(METADATA, "PUT", "/latest/api/token", &lifetime, "").await?;
    sim_client::send(METADATA, "GET", "/latest/user-data", &[("X-aws-ec2-metadata-token", session.trim())], "").await
}

fn parse(text: &str) -> Result<CloudConfig, LabError> {
    let unreadable = |expected: &str, found: String| LabError::Unreadable { what: "user data".into(), expected: expected.into(), found };
    if !text.starts_with("#cloud-config") {
        return Err(unreadable("#cloud-config in its first line", text.chars().take(60).collect()));
    }
    let config: CloudConfig = serde_saphyr::from_str(text).map_err(|fault| unreadable("YAML of cloud-init", fault.to_string()))?;
    match config.write_files.iter().find_map(|file| file.encoding.as_ref()) {
        Some(encoding) => Err(unreadable("write_files in plain text", format!("encoding {encoding}"))),
        None => Ok(config),
    }
}

fn write(file: &WrittenFile) -> Result<(), LabError> {
    let path = Path::new(&file.path);
    let fault = || LabError::io(format!("writing {}", file.path));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fault())?;
    }
    std::fs::write(path, &file.content).map_err(fault())?;
    let mode = file.permissions.as_deref().unwrap_or("0644");
    let mode = u32::from_str_radix(mode, 8).map_err(|_| LabError::Unreadable {
        what: format!("permissions of {}", file.path),
        expected: "an octal number, as 0644".into(),
        found: mode.to_owned(),
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fault())
}

/// What it prints is cloud-init's own log.
fn execute(command: &RunCommand) -> Result<(), LabError> {
    let shell = ["sh".to_owned(), "-c".to_owned()];
    let words: Vec<String> = match command {
        RunCommand::Words(words) => words.clone(),
        RunCommand::Shell(text) => shell.into_iter().chain([text.clone()]).collect(),
    };
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let status = Command::new(program).args(arguments).status().map_err(LabError::io(format!("running {program}")))?;
    if status.success() {
        return Ok(());
    }
    Err(LabError::Command { command: words.join(" "), status: status.to_string(), output: "see the lines above".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_commands_are_read_and_other_user_data_is_refused() {
        let config =
            parse("#cloud-config\nwrite_files:\n- {path: /a, content: x, permissions: '0600'}\nruncmd:\n- [echo, a]\n- echo b\n").unwrap();
        assert_eq!(config.write_files[0].permissions.as_deref(), Some("0600"));
        assert!(matches!(&config.runcmd[..], [RunCommand::Words(words), RunCommand::Shell(text)] if words.len() == 2 && text == "echo b"));
        let refused = parse("#!/bin/sh\ntrue\n").unwrap_err().to_string();
        assert!(refused.contains("#cloud-config") && refused.contains("#!/bin/sh"), "{refused}");
    }
}
