//! What an AWS service says when it refuses: one type for every face, worded by each face in its own protocol.

/// A refusal, as AWS words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub struct Fault {
    /// The HTTP status AWS sends with this code.
    pub status: u16,
    /// The error code clients classify by.
    pub code: String,
    /// The sentence for people.
    pub message: String,
}

impl Fault {
    /// A refusal with an HTTP status of its own.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Fault { status, code: code.to_owned(), message: message.into() }
    }

    /// A refusal that the caller has to correct: HTTP 400.
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Fault::new(400, code, message)
    }

    /// A parameter that had to be there.
    pub fn missing(parameter: &str) -> Self {
        Fault::bad("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// A parameter with a value EC2 does not take.
    pub fn value(value: &str, parameter: &str, why: &str) -> Self {
        Fault::bad("InvalidParameterValue", format!("Value ({value}) for parameter {parameter} is invalid. {why}"))
    }
}
