//! `lowtide ledger fetch`: new versions of bills, from the bucket that AWS writes them to.
//!
//! Decides: the wording, and where credentials come from.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aws_credential_types::provider::SharedCredentialsProvider;
use clap::Args;

use super::args::utc_day;
use super::import::summary;
use super::upkeep::{now, working};
use super::{Answer, DatabaseArgs};
use crate::core::units::time::Millis;
use crate::ledger::connect;
use crate::ledger::fetch::{Access, Bucket, Location, Request, What, fetch};
use crate::ledger::import::{Check, Checks, Options, Rates};
use crate::ports::endpoint;

/// Where buckets are looked for first; S3 says where they really are.
pub(in crate::cli) const FIRST_REGION: &str = "us-east-1";

/// What to fetch.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// What: a Cost and Usage Report, or the spot data feed.
    #[arg(value_enum)]
    what: What,
    /// Bucket and prefix, e.g. s3://company-billing/exports/lowtide/.
    location: Location,
    /// First UTC day: older months of the report and older files of the feed are skipped. Default: 92 days ago.
    #[arg(long, value_parser = utc_day)]
    since: Option<String>,
    /// Fetch again what was fetched before.
    #[arg(long)]
    again: bool,
    /// Show what would change, by team, without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Import despite this failed check; may be repeated.
    #[arg(long, value_enum)]
    accept: Vec<Check>,
    /// A file of rates for other currencies: day,currency,usd_per_unit.
    #[arg(long)]
    rates: Option<PathBuf>,
    /// Folder for the files while they are read. Default: the system's for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Another S3-compatible server. Default: AWS, or AWS_ENDPOINT_URL_S3.
    #[arg(long, env = "AWS_ENDPOINT_URL", hide_env_values = true)]
    endpoint_url: Option<String>,
    /// Allow that server to be asked over plain http on another machine.
    #[arg(long, env = "LOWTIDE_ALLOW_INSECURE_ENDPOINT")]
    allow_insecure_endpoint: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// How buckets are reached from here; `endpoint` is a server other than AWS's.
pub(in crate::cli) async fn access(endpoint: Option<String>) -> Access {
    let of_s3 = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
    let endpoint = of_s3.or(endpoint).filter(|url| !url.is_empty());
    Access { credentials: credentials().await, endpoint, region: FIRST_REGION.to_owned() }
}

/// The SDK's own chain: environment, profile, web identity, Pod Identity, instance profile.
#[cfg(feature = "live")]
async fn credentials() -> SharedCredentialsProvider {
    crate::aws::credentials(FIRST_REGION).await
}

/// This build has no AWS SDK: the environment alone.
#[cfg(not(feature = "live"))]
async fn credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(OfEnvironment)
}

#[cfg(not(feature = "live"))]
#[derive(Debug)]
struct OfEnvironment;

#[cfg(not(feature = "live"))]
impl aws_credential_types::provider::ProvideCredentials for OfEnvironment {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::Credentials;
        use aws_credential_types::provider::error::CredentialsError;
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = read("AWS_ACCESS_KEY_ID").zip(read("AWS_SECRET_ACCESS_KEY"));
        let found = found.map(|(id, secret)| Credentials::new(id, secret, read("AWS_SESSION_TOKEN"), None, "environment"));
        aws_credential_types::provider::future::ProvideCredentials::ready(
            found.ok_or_else(|| CredentialsError::not_loaded("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set")),
        )
    }
}

/// Runs one fetch.
pub(super) async fn answer(args: FetchArgs) -> Answer {
    let access = access(args.endpoint_url).await;
    if let (Some(url), false) = (&access.endpoint, args.allow_insecure_endpoint) {
        endpoint::check("the endpoint for S3", url)?;
    }
    let rates = args.rates.as_deref().map(Rates::read).transpose()?.unwrap_or_default();
    // Nobody says of a manifest that it is complete: it names its files.
    let options = Options { checks: Checks::accepting(args.accept.iter().copied()), complete: false, source: None, rates };
    let since = args.since.unwrap_or_else(|| (now() - Millis::from_hours(24 * 92)).to_date());
    let folder = args.folder.unwrap_or_else(std::env::temp_dir);
    let bucket = Bucket::new(&args.location.bucket, access);
    let location = args.location.to_string();
    let request = Request { what: args.what, location: args.location, since: since.clone(), again: args.again, options, folder };
    let mut connection = connect(&args.database.database_url).await?;
    let _progress = working("fetching");
    let done = fetch(&mut connection, &bucket, &request, &BTreeSet::new(), now(), args.dry_run).await?;
    if done.is_empty() {
        return Ok(format!("Nothing new at {location} since {since}."));
    }
    let mut lines = Vec::new();
    let mut refused = 0;
    for one in &done {
        let what = match one.urls.as_slice() {
            [only] => only.clone(),
            some => format!(
                "{} files from {} to {}",
                some.len(),
                some.first().map_or("", String::as_str),
                some.last().map_or("", String::as_str)
            ),
        };
        match &one.outcome {
            Ok(imported) => lines.push(format!("{what}\n{}", summary(imported))),
            Err(fault) => {
                refused += 1;
                lines.push(format!("{what}\n{fault}"));
            }
        }
    }
    let text = format!("{}{}", if args.dry_run { "Nothing was written. This would happen:\n" } else { "" }, lines.join("\n\n"));
    // What was refused is still to be looked at, whatever else was taken.
    if refused > 0 { Err(format!("{text}\n\n{refused} of {} could not be taken", done.len()).into()) } else { Ok(text) }
}
