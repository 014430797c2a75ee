//! Endpoints other than AWS's own.
//!
//! Decides: which endpoint overrides are refused. An override sends signed requests, and with them fifteen minutes of permission to buy and
//! terminate machines, wherever it points: over plain http, to anyone on the network path.

use std::net::IpAddr;

/// Variables that override the SDK's endpoint, for all services and for each that lowtide calls.
pub const VARIABLES: [&str; 8] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_PRICING",
    "AWS_ENDPOINT_URL_SERVICE_QUOTAS",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_STS",
];

/// An endpoint that would carry signed requests in the clear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} is {found:?}: signed requests would leave this machine in the clear. Use https, an address of this machine, or say \
     --allow-insecure-endpoint (LOWTIDE_ALLOW_INSECURE_ENDPOINT=true)"
)]
pub struct InsecureEndpoint {
    /// Which variable or argument sets it.
    pub variable: String,
    /// Scheme and host only; the rest is not repeated.
    pub found: String,
}

/// Refuses plain http to anywhere except this machine.
///
/// # Errors
/// When `url` is not https and its host is not a loopback address.
pub fn check(variable: &str, url: &str) -> Result<(), InsecureEndpoint> {
    if url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        return Ok(());
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority_of(url);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = name_of(host);
    if name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Ok(());
    }
    let scheme = url.split_once("://").map_or("no scheme", |(scheme, _)| scheme);
    // A password may have a slash in it: what is before the last @ is shown to nobody.
    let shown = rest.rsplit_once('@').map_or(host, |(_, after)| after.split(['/', '?', '#']).next().unwrap_or_default());
    Err(InsecureEndpoint { variable: variable.to_owned(), found: format!("{scheme}://{shown}") })
}

/// Who is asked, with a user and a port where the URL has them.
pub fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A host without its port; an IPv6 address without its brackets.
pub fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in
            ["https://ec2.example", "HTTPS://x", "http://127.0.0.1:8080", "http://[::1]:1/x", "http://localhost:4566", "http://127.9.9.9"]
        {
            assert_eq!(check("AWS_ENDPOINT_URL", good), Ok(()), "{good}");
        }
        for bad in
            ["http://10.0.0.1:8080", "http://ec2.example", "http://localhost.example", "http://127.0.0.1@evil.example", "ec2.example", ""]
        {
            assert!(check("AWS_ENDPOINT_URL", bad).is_err(), "{bad}");
        }
        let said = check("AWS_ENDPOINT_URL", "http://user:pw-of-an-endpoint-e17c@ec2.example/path").unwrap_err().to_string();
        assert!(said.contains("http://ec2.example") && !said.contains("pw-of"), "{said}");
        let said = check("AWS_ENDPOINT_URL", "http://user:tiger/lily@ec2.example/path").unwrap_err().to_string();
        assert!(said.contains("http://ec2.example\"") && !said.contains("tiger"), "{said}");
    }
}
