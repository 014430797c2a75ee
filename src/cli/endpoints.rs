//! The endpoint that replaces AWS's own in a command, and whether it may be used.
//!
//! Decides: which settings are looked at before anything is asked: the command's own and every variable that the SDK reads ([`endpoint::VARIABLES`]). What a
//! configuration file says is looked at when a request is sent (`aws::in_the_clear`).

use crate::aws::AwsSettings;
use crate::ports::endpoint::{self, InsecureEndpoint};

/// An endpoint to use instead of AWS.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointArgs {
    /// Endpoint of a simulated AWS to use instead of AWS.
    #[arg(long, env = "AWS_ENDPOINT_URL", hide_env_values = true)]
    pub aws_endpoint_url: Option<String>,
    /// Allow AWS_ENDPOINT_URL and similar variables to send signed requests over plain http to other machines.
    #[arg(long, env = "LOWTIDE_ALLOW_INSECURE_ENDPOINT")]
    pub allow_insecure_endpoint: bool,
}

impl EndpointArgs {
    /// `settings`, with AWS where these say that it is.
    pub fn of(&self, settings: AwsSettings) -> AwsSettings {
        AwsSettings { endpoint_url: self.aws_endpoint_url.clone(), allow_insecure_endpoint: self.allow_insecure_endpoint, ..settings }
    }

    /// Refuses an override that would send signed requests over plain http to another machine, unless that is allowed.
    ///
    /// # Errors
    /// The first such override.
    pub fn check(&self) -> Result<(), InsecureEndpoint> {
        if self.allow_insecure_endpoint {
            return Ok(());
        }
        let overrides = endpoint::VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let named = self.aws_endpoint_url.iter().map(|url| ("--aws-endpoint-url".to_owned(), url.clone()));
        named.chain(overrides).try_for_each(|(name, url)| endpoint::check(&name, &url))
    }
}
