//! Where Postgres is, as a URL says it, and how its certificate is judged.
//!
//! Decides: that Postgres' certificate and name are verified unless the URL or `PGSSLMODE` says otherwise. libpq's own default (`prefer`) lets
//! anybody on the way take the connection over. A server on this machine (loopback, socket: a proxy beside the pod) has nobody on the way.
//! Does not: repeat any part of a URL in a message; it may hold a password.

use std::net::IpAddr;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::store::LedgerFault;

/// How to connect to the server at `url`.
///
/// # Errors
/// [`LedgerFault::BadUrl`] when it cannot be read.
pub fn options(url: &str) -> Result<PgConnectOptions, LedgerFault> {
    let options = PgConnectOptions::from_str(url).map_err(LedgerFault::BadUrl)?;
    let said = says_ssl_mode(url) || std::env::var_os("PGSSLMODE").is_some();
    Ok(if said || is_here(&options) { options } else { options.ssl_mode(PgSslMode::VerifyFull) })
}

fn says_ssl_mode(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|pair| pair.split('=').next()).any(|key| key == "sslmode" || key == "ssl-mode")
}

/// The server is on this machine.
fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> String {
        format!("{:?}", options(url).unwrap().get_ssl_mode())
    }

    #[test]
    fn a_certificate_is_verified_unless_the_url_says_otherwise() {
        assert_eq!(mode("postgres://lowtide:tiger-lily@db.example/lowtide"), "VerifyFull");
        assert_eq!(mode("postgres://lowtide:tiger-lily@10.0.0.9:5432/lowtide?application_name=x"), "VerifyFull");
        assert_eq!(mode("postgres://lowtide:tiger-lily@db.example/lowtide?sslmode=require"), "Require");
        assert_eq!(mode("postgres://lowtide:tiger-lily@127.0.0.1:5432/lowtide"), "Prefer", "nobody is on the way");
        assert_eq!(mode("postgres://lowtide:tiger-lily@[::1]/lowtide"), "Prefer");
    }

    #[test]
    fn no_fault_of_a_url_repeats_its_password() {
        for bad in [
            "postgres://lowtide:tiger-lily@db.example:port/x",
            "postgres://lowtide:tiger-lily@[db/x",
            "postgres://lowtide:tiger-lily@db/x?sslmode=tiger-lily",
            "postgres//lowtide:tiger-lily@db/x",
            "postgres://lowtide:tiger-lily%FF@db.example/x",
            "host=db password=tiger-lily",
        ] {
            let Err(fault) = options(bad) else { continue };
            let said = format!("{fault} {fault:?}");
            assert!(!said.contains("tiger-lily") || bad.contains("sslmode=tiger"), "{said}");
        }
    }
}
