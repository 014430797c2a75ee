//! Whether the endpoints that replace AWS's own may be used by a command.
//!
//! Decides: which settings are looked at: the command's own and every variable that the SDK reads ([`endpoint::VARIABLES`]).

use crate::ports::endpoint::{self, InsecureEndpoint};

/// Refuses an override that would send signed requests over plain http to another machine, unless that is `allowed`.
///
/// # Errors
/// The first such override.
pub fn check(named: Option<&str>, allowed: bool) -> Result<(), InsecureEndpoint> {
    if allowed {
        return Ok(());
    }
    let overrides = endpoint::VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let named = named.map(|url| ("--aws-endpoint-url".to_owned(), url.to_owned()));
    named.into_iter().chain(overrides).try_for_each(|(name, url)| endpoint::check(&name, &url))
}
