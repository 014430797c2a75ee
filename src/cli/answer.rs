//! How a report is printed.
//!
//! Decides: text to standard output and success, or the fault to standard error and failure.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints an answer, or why there is none.
pub fn tell(answer: Result<String, Box<dyn Error>>) -> ExitCode {
    match answer {
        Ok(text) => {
            // A reader that stopped early (`| head`) is not an error.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("lowtide: {fault}");
            ExitCode::FAILURE
        }
    }
}
