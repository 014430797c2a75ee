//! Reading an S3 bucket: its list of objects, and objects.
//!
//! Decides: where a bucket is asked, how often, and that an object is taken whole and as it was listed, or not at all. Does not: know what objects mean, or write
//! to a bucket. Requests are made, signed and tried again by a library for object stores, over [`super::wire`].
//! Sources: Amazon S3 API reference, "ListObjectsV2", "GetObject"; S3 user guide, "Virtual hosting of buckets".

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as StorePath;
use object_store::{BackoffConfig, CredentialProvider, GetOptions, GetResult, HeaderValue, ObjectMeta, ObjectStore, RetryConfig};

use super::answers::{is_header, key_of};
use super::wire::{MOST_BYTES, Wire, WireFault, cause_of, fault_of};
use crate::core::units::time::Timestamp;
use crate::ports::percent_encoding::percent_encoded;

/// How often a request is made again before it is given up: a second later, then after up to two, and up to four.
const AGAIN: usize = 3;
/// How long after its beginning what broke off is still taken up again. The tries are counted; this is for large objects, which may break off at their end.
const AFTER: Duration = Duration::from_secs(6 * 3_600);
/// The most objects of one list: the feed has some ten thousand files a year.
const MOST_OBJECTS: usize = 500_000;

/// A bucket and what the keys begin with, as `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket's name.
    pub bucket: String,
    /// What keys begin with; may be empty.
    pub prefix: String,
}

impl std::str::FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a bucket and a prefix, as in s3://company-billing/exports/, not {text:?}");
        let (bucket, prefix) = text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))).ok_or_else(expected)?;
        let named =
            bucket.len() >= 3 && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        if !named || !bucket.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(expected());
        }
        Ok(Location { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// An object, as the bucket's list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Changes with every version of it.
    pub etag: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// A bucket could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BucketFault {
    /// There is nothing to sign with.
    #[error(
        "no credentials for AWS were found ({0}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where the machine or pod has a role"
    )]
    NoCredentials(String),
    /// Nobody answered.
    #[error("{url} does not answer: {fault}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        fault: String,
    },
    /// S3 said no.
    #[error(
        "{url}: S3 answered {status} {code} ({message}); the role needs s3:ListBucket on the bucket and s3:GetObject on its objects, and kms:Decrypt where a key of yours encrypts them"
    )]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP's status.
        status: u16,
        /// S3's code, as `AccessDenied`.
        code: String,
        /// Its words.
        message: String,
    },
    /// The object was replaced between the list and the fetch.
    #[error("{url} was replaced while it was being fetched; fetch again")]
    Replaced {
        /// Which.
        url: String,
    },
    /// Less came than the object has, or more.
    #[error("{url} has {expected} bytes and {received} came; fetch again")]
    Cut {
        /// Which.
        url: String,
        /// Its length.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// It answered what S3 does not answer.
    #[error("{url} did not answer as S3 does: {fault}")]
    NotS3 {
        /// What was asked for.
        url: String,
        /// What came.
        fault: String,
    },
    /// A file could not be written here.
    #[error("{path} cannot be written: {cause}")]
    Disk {
        /// Which.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// How S3 is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// What requests are signed with.
    pub credentials: SharedCredentialsProvider,
    /// Another server than AWS's, for tests and for stores that speak S3.
    pub endpoint: Option<String>,
    /// Where a bucket is looked for first; S3 says where it really is.
    pub region: String,
}

/// A bucket.
pub struct Bucket {
    name: String,
    access: Access,
    region: Mutex<String>,
    wire: Wire,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    /// The bucket called `name`. Asks nothing yet.
    pub fn new(name: &str, access: Access) -> Self {
        Bucket::over(Wire::new(), name, access)
    }

    fn over(wire: Wire, name: &str, access: Access) -> Self {
        Bucket { name: name.to_owned(), region: Mutex::new(access.region.clone()), access, wire }
    }

    /// An object's address for people.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// All objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`BucketFault`]; a list is whole or none.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, BucketFault> {
        self.list_of_at_most(prefix, MOST_OBJECTS).await
    }

    async fn list_of_at_most(&self, prefix: &str, most: usize) -> Result<Vec<Object>, BucketFault> {
        let (mut objects, mut next): (Vec<Object>, Option<String>) = (Vec::new(), None);
        let url = self.url(prefix);
        let not_s3 = |fault: String| BucketFault::NotS3 { url: url.clone(), fault };
        loop {
            let question = |store: AmazonS3| {
                let (prefix, options) = (prefix.to_owned(), PaginatedListOptions { page_token: next.clone(), ..Default::default() });
                async move { store.list_paginated(Some(&prefix), options).await }.boxed()
            };
            let page = self.ask("", &url, question).await?;
            for listed in page.result.objects {
                objects.push(object_of(listed).map_err(not_s3)?);
            }
            if objects.len() > most {
                return Err(not_s3(format!("more than {most} objects; name what is to be fetched by a longer prefix")));
            }
            match page.page_token {
                Some(token) if next.as_ref() == Some(&token) => return Err(not_s3("the list does not go on".into())),
                Some(token) => next = Some(token),
                None => return Ok(objects),
            }
        }
    }

    /// A small object, into memory.
    ///
    /// # Errors
    /// [`BucketFault`].
    pub async fn small(&self, object: &Object) -> Result<Vec<u8>, BucketFault> {
        let url = self.url(&object.key);
        if object.size > MOST_BYTES as u64 {
            return Err(BucketFault::NotS3 { url, fault: format!("{} bytes, where at most {MOST_BYTES} are expected", object.size) });
        }
        let found = self.get(object).await?;
        let mut bytes = Vec::new();
        let take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.pieces(object, found, take).await?;
        Ok(bytes)
    }

    /// An object, into a new file, with the time at which it was written.
    ///
    /// # Errors
    /// [`BucketFault`]; then the file is not to be used.
    pub async fn download(&self, object: &Object, to: &Path) -> Result<(), BucketFault> {
        self.download_once(object, to).await?;
        let disk = |cause| BucketFault::Disk { path: to.display().to_string(), cause };
        let file = std::fs::File::options().write(true).open(to).map_err(disk)?;
        let written = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(object.modified.0).unwrap_or_default());
        file.set_modified(written).map_err(disk)
    }

    async fn download_once(&self, object: &Object, to: &Path) -> Result<(), BucketFault> {
        let disk = |cause| BucketFault::Disk { path: to.display().to_string(), cause };
        let found = self.get(object).await?;
        let mut file = std::fs::File::create(to).map_err(disk)?;
        self.pieces(object, found, |piece| file.write_all(piece).map_err(disk)).await?;
        file.sync_all().map_err(disk)
    }

    /// The object as it was listed: another version of it is not given.
    async fn get(&self, object: &Object) -> Result<GetResult, BucketFault> {
        let url = self.url(&object.key);
        let (folder, name) = object.key.rsplit_once('/').map_or((None, object.key.as_str()), |(folder, name)| (Some(folder), name));
        let refused = || BucketFault::NotS3 { url: url.clone(), fault: "a key that is no file's".into() };
        // An address would go without such steps, and be another object's.
        if folder.is_some_and(|folder| folder.split('/').any(|step| step == "." || step == "..")) {
            return Err(refused());
        }
        let path = StorePath::parse(name).ok().filter(|path| !name.is_empty() && path.as_ref() == name).ok_or_else(refused)?;
        let folder = folder.map(|folder| format!("/{}", encoded(folder))).unwrap_or_default();
        let question = |store: AmazonS3| {
            let (path, options) = (path.clone(), GetOptions { if_match: Some(object.etag.clone()), ..Default::default() });
            async move { store.get_opts(&path, options).await }.boxed()
        };
        self.ask(&folder, &url, question).await
    }

    /// The pieces of an object, which are as many bytes as it was listed with.
    async fn pieces(
        &self,
        object: &Object,
        found: GetResult,
        mut take: impl FnMut(&[u8]) -> Result<(), BucketFault>,
    ) -> Result<(), BucketFault> {
        let url = self.url(&object.key);
        let cut = |received| BucketFault::Cut { url: url.clone(), expected: object.size, received };
        if found.meta.size != object.size {
            return Err(cut(found.meta.size));
        }
        let (mut pieces, mut received) = (found.into_stream(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|fault| match fault_of(&fault) {
                // It broke off, and could not be taken up again.
                None | Some(WireFault::Unreachable(_) | WireFault::NotS3(_)) => cut(received),
                Some(fault) => about(&url, fault),
            })?;
            received += piece.len() as u64;
            // An answer without end must not fill the disk.
            if received > object.size {
                return Err(cut(received));
            }
            take(&piece)?;
        }
        if received == object.size { Ok(()) } else { Err(cut(received)) }
    }

    /// Asks where the bucket is: in another region, where S3 says that it is there.
    async fn ask<T>(
        &self,
        folder: &str,
        url: &str,
        question: impl Fn(AmazonS3) -> BoxFuture<'static, object_store::Result<T>>,
    ) -> Result<T, BucketFault> {
        // What has no cause on the wire is the library's own reading of an answer.
        let said = |fault: object_store::Error| fault_of(&fault).unwrap_or_else(|| WireFault::NotS3(cause_of(&fault)));
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fault = match question(self.store(&region, folder)?).await {
            Ok(answer) => return Ok(answer),
            Err(fault) => said(fault),
        };
        let there = match &fault {
            WireFault::Refused { region: Some(there), .. } if *there != region && is_region(there) => there,
            _ => return Err(about(url, fault)),
        };
        if self.access.endpoint.is_some() {
            return Err(about(url, fault));
        }
        let answer = question(self.store(there, folder)?).await.map_err(|fault| about(url, said(fault)))?;
        there.clone_into(&mut self.region.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(answer)
    }

    /// The library's view of a folder of the bucket. The folder is part of the address, because the library's paths cannot name every one.
    fn store(&self, region: &str, folder: &str) -> Result<AmazonS3, BucketFault> {
        let base = base(&self.name, region, self.access.endpoint.as_deref());
        let no_address = |fault: String| BucketFault::Unreachable { url: self.url(""), fault: format!("{base} is no address: {fault}") };
        if let Some(fault) = no_address_because(self.access.endpoint.as_deref().unwrap_or(&base), &base) {
            return Err(no_address(fault));
        }
        let backoff = BackoffConfig { init_backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(4), base: 2.0 };
        AmazonS3Builder::new()
            .with_bucket_name(&self.name)
            .with_region(region)
            .with_endpoint(format!("{base}{folder}"))
            // The bucket is in it.
            .with_virtual_hosted_style_request(true)
            .with_credentials(Arc::new(Signing(self.access.credentials.clone())))
            .with_retry(RetryConfig { backoff, max_retries: AGAIN, retry_timeout: AFTER })
            .with_http_connector(self.wire.clone())
            .build()
            .map_err(|fault| no_address(cause_of(&fault)))
    }
}

/// What requests are signed with, as the library takes it.
#[derive(Debug)]
struct Signing(SharedCredentialsProvider);

#[async_trait]
impl CredentialProvider for Signing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let missing = |fault: String| object_store::Error::Generic { store: "S3", source: Box::new(WireFault::NoCredentials(fault)) };
        let found = self.0.provide_credentials().await.map_err(|fault| missing(cause_of(&fault)))?;
        let (key_id, token) = (found.access_key_id().to_owned(), found.session_token().map(str::to_owned));
        // Both are sent in headers, and the library panics on what cannot be.
        if [Some(&key_id), token.as_ref()].into_iter().flatten().any(|text| HeaderValue::from_str(text).is_err()) {
            return Err(missing("the key's id or the session token has characters in it that cannot be sent, as a line's end".into()));
        }
        Ok(Arc::new(AwsCredential { key_id, secret_key: found.secret_access_key().to_owned(), token }))
    }
}

/// Why requests cannot be sent there. The library takes for granted that they can, and panics: with the parsers of addresses that it has, both of them.
fn no_address_because(endpoint: &str, base: &str) -> Option<String> {
    let parsed = url::Url::parse(endpoint).and_then(|_| url::Url::parse(base));
    let unsent = parsed.err().map(|fault| fault.to_string());
    unsent.or_else(|| HttpRequest::get(base).err().map(|fault| cause_of(&fault)))
}

/// What went wrong, said of an address.
fn about(url: &str, fault: WireFault) -> BucketFault {
    let url = url.to_owned();
    match fault {
        WireFault::NoCredentials(fault) => BucketFault::NoCredentials(fault),
        WireFault::Unreachable(fault) => BucketFault::Unreachable { url, fault },
        WireFault::Refused { status: 412, .. } => BucketFault::Replaced { url },
        WireFault::Refused { status, code, message, .. } => BucketFault::Refused { url, status, code, message },
        WireFault::NotS3(fault) => BucketFault::NotS3 { url, fault },
    }
}

fn object_of(listed: ObjectMeta) -> Result<Object, String> {
    let key = key_of(&listed.location);
    match listed.e_tag {
        None => Err(format!("{key} is listed without its ETag")),
        Some(etag) if !is_header(&etag) => Err(format!("{key} is listed with the ETag {etag:?}; expected a hash in quotes")),
        Some(etag) => Ok(Object { key, etag, size: listed.size, modified: Timestamp(listed.last_modified.timestamp_millis()) }),
    }
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.len() < 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Scheme and host of a bucket, and the bucket as the first part of the path where the host cannot name it: with another server, and where a dot in its name
/// would not fit S3's certificate.
fn base(bucket: &str, region: &str, endpoint: Option<&str>) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    match endpoint {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        None if bucket.contains('.') => format!("https://s3.{region}.{domain}/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.{domain}"),
    }
}

/// RFC 3986: everything but unreserved characters and slashes.
fn encoded(folder: &str) -> String {
    folder.split('/').map(percent_encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
pub(super) mod tests;
