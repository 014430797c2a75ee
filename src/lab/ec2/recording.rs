//! What was asked of the simulator, one line of JSON per request, for a check against AWS's own service models.
//!
//! Decides: nothing. Records only what AWS's Rust SDK sends, which is what the operator sends: tests also send what is wrong on purpose.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use serde_json::json;

use super::server::SignedRequest;

/// The environment variable with the folder to record in; without it nothing is recorded.
pub const FOLDER: &str = "LOWTIDE_RECORD_REQUESTS";

/// An open record.
#[derive(Debug)]
pub(super) struct Recording(Mutex<File>);

impl Recording {
    /// A record of the simulator on `port`, if a folder is named.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn open(port: u16) -> std::io::Result<Option<Recording>> {
        let Some(folder) = std::env::var_os(FOLDER) else { return Ok(None) };
        let folder = Path::new(&folder);
        std::fs::create_dir_all(folder)?;
        let file = File::create(folder.join(format!("{}-{port}.jsonl", std::process::id())))?;
        Ok(Some(Recording(Mutex::new(file))))
    }

    /// Writes down one request. A full disk must not change what the simulator answers.
    pub fn keep(&self, headers: &HeaderMap, request: &SignedRequest) {
        let agent = headers.get("user-agent").and_then(|text| text.to_str().ok()).unwrap_or_default();
        if !agent.contains("aws-sdk-rust") {
            return;
        }
        let (service, action, region) = (&request.service, &request.action, request.region.as_str());
        let body = String::from_utf8_lossy(&request.body);
        let line = json!({ "service": service, "action": action, "region": region, "body": body });
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _: std::io::Result<()> = writeln!(file, "{line}");
    }
}
