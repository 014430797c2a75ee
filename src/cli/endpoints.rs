//! The endpoint that replaces AWS's own in a command, and whether it may be used.
//!
//! Decides: which settings are looked at: the command's own and every variable that the SDK reads ([`endpoint::VARIABLES`]).

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
