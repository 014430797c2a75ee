//! Reading an S3 bucket: its list of objects, and objects.
//!
//! Decides: how a request is made and signed, which failures are tried again, and that an object is taken whole or not at all.
//! Does not: know what objects mean, or write to a bucket.
//! Sources: Amazon S3 API reference, "ListObjectsV2", "GetObject", "Error responses"; S3 user guide, "Virtual hosting of buckets". The signature is made
//! by AWS's own library.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::byte_stream::ByteStream;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::answers::{error_of, listing};
use crate::core::units::time::Timestamp;
use crate::ports::Clock;
use crate::ports::percent_encoding::percent_encoded;

/// How often a request is made before it is given up.
const ATTEMPTS: u32 = 4;
/// How long an answer, or the next piece of one, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that is read into memory: of a list a page, of an object a manifest.
const MOST_BYTES: usize = 16 << 20;
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

impl BucketFault {
    /// Whether the same request may succeed a moment later.
    fn passes(&self) -> bool {
        match self {
            BucketFault::Unreachable { .. } | BucketFault::Cut { .. } => true,
            BucketFault::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
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
    connector: Connector,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    /// The bucket called `name`. Asks nothing yet.
    pub fn new(name: &str, access: Access, clock: Arc<dyn Clock>) -> Self {
        let connector =
            Connector::builder().proxy_config(ProxyConfig::from_env()).tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build();
        Bucket { name: name.to_owned(), region: Mutex::new(access.region.clone()), access, connector, clock }
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
        loop {
            // Sorted by name, as the signature wants it.
            let token = next.as_deref().map(|token| format!("continuation-token={}&", encoded(token, false))).unwrap_or_default();
            let query = format!("{token}list-type=2&prefix={}", encoded(prefix, false));
            let url = self.url(prefix);
            let body = patiently(|| self.whole("/", &query, &url).boxed()).await?;
            let not_s3 = |fault: String| BucketFault::NotS3 { url: url.clone(), fault };
            let text = std::str::from_utf8(&body).map_err(|fault| not_s3(fault.to_string()))?;
            let (page, more) = listing(text).map_err(not_s3)?;
            objects.extend(page);
            if objects.len() > most {
                return Err(not_s3(format!("more than {most} objects; name what is to be fetched by a longer prefix")));
            }
            match more {
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
        let path = format!("/{}", encoded(&object.key, true));
        let body = patiently(|| self.whole(&path, "", &url).boxed()).await?;
        match u64::try_from(body.len()) {
            Ok(received) if received == object.size => Ok(body),
            received => Err(BucketFault::Cut { url, expected: object.size, received: received.unwrap_or_default() }),
        }
    }

    /// An object, into a new file, with the time at which it was written.
    ///
    /// # Errors
    /// [`BucketFault`]; then the file is not to be used.
    pub async fn download(&self, object: &Object, to: &Path) -> Result<(), BucketFault> {
        patiently(|| self.download_once(object, to).boxed()).await?;
        let disk = |cause| BucketFault::Disk { path: to.display().to_string(), cause };
        let file = std::fs::File::options().write(true).open(to).map_err(disk)?;
        let written = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(object.modified.0).unwrap_or_default());
        file.set_modified(written).map_err(disk)
    }

    async fn download_once(&self, object: &Object, to: &Path) -> Result<(), BucketFault> {
        let url = self.url(&object.key);
        let disk = |cause| BucketFault::Disk { path: to.display().to_string(), cause };
        let response = self.ask(&format!("/{}", encoded(&object.key, true)), "", Some(&object.etag), &url).await?;
        let mut file = std::fs::File::create(to).map_err(disk)?;
        let (mut body, mut received) = (ByteStream::new(response.into_body()), 0);
        loop {
            let piece = tokio::time::timeout(PATIENCE, body.next()).await;
            match piece.map_err(|_| silent(&url))? {
                None => break,
                Some(Ok(bytes)) => {
                    received += bytes.len() as u64;
                    // An answer without end must not fill the disk.
                    if received > object.size {
                        return Err(BucketFault::Cut { url, expected: object.size, received });
                    }
                    file.write_all(&bytes).map_err(disk)?;
                }
                Some(Err(_)) => return Err(BucketFault::Cut { url, expected: object.size, received }),
            }
        }
        if received != object.size {
            return Err(BucketFault::Cut { url, expected: object.size, received });
        }
        file.sync_all().map_err(disk)
    }

    async fn whole(&self, path: &str, query: &str, url: &str) -> Result<Vec<u8>, BucketFault> {
        let response = self.ask(path, query, None, url).await?;
        read_whole(response, url).await
    }

    /// One request, sent to another region where S3 says that the bucket is there.
    async fn ask(&self, path: &str, query: &str, if_match: Option<&str>, url: &str) -> Result<HttpResponse, BucketFault> {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.send(path, query, if_match, url, &region).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let elsewhere = response.headers().get("x-amz-bucket-region").filter(|said| *said != region && is_region(said)).map(str::to_owned);
        if let Some(there) = elsewhere.filter(|_| self.access.endpoint.is_none()) {
            let response = self.send(path, query, if_match, url, &there).await?;
            if response.status().is_success() {
                *self.region.lock().unwrap_or_else(PoisonError::into_inner) = there;
                return Ok(response);
            }
            return Err(refused(response, url).await);
        }
        Err(refused(response, url).await)
    }

    async fn send(&self, path: &str, query: &str, if_match: Option<&str>, url: &str, region: &str) -> Result<HttpResponse, BucketFault> {
        let unreachable = |fault: String| BucketFault::Unreachable { url: url.to_owned(), fault };
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let address = format!("{}{path}{query}", base(&self.name, region, self.access.endpoint.as_deref()));
        let mut request = HttpRequest::get(address.as_str()).map_err(|fault| unreachable(fault.to_string()))?;
        if let Some(etag) = if_match {
            request.headers_mut().try_insert("if-match", etag.to_owned()).map_err(|fault| unreachable(fault.to_string()))?;
        }
        for (name, value) in self.signature(&address, region, if_match).await? {
            request.headers_mut().try_insert(name, value).map_err(|fault| unreachable(fault.to_string()))?;
        }
        let sent = tokio::time::timeout(PATIENCE, self.connector.call(request)).await.map_err(|_| silent(url))?;
        sent.map_err(|fault| unreachable(cause_of(&fault)))
    }

    /// Headers that prove who asks.
    async fn signature(&self, address: &str, region: &str, if_match: Option<&str>) -> Result<Vec<(&'static str, String)>, BucketFault> {
        let credentials = self.access.credentials.provide_credentials().await;
        let identity = credentials.map_err(|fault| BucketFault::NoCredentials(cause_of(&fault)))?.into();
        // Keys of S3 are not paths: nothing in them is normalised, and they are encoded once.
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.now().0).unwrap_or_default());
        let unsigned =
            |fault: String| BucketFault::NotS3 { url: address.to_owned(), fault: format!("the request cannot be signed: {fault}") };
        let params = v4::SigningParams::builder().identity(&identity).region(region).name("s3").time(at).settings(settings).build();
        let params = params.map_err(|fault| unsigned(fault.to_string()))?.into();
        let headers = if_match.map(|etag| ("if-match", etag)).into_iter();
        let signable = SignableRequest::new("GET", address, headers, SignableBody::empty()).map_err(|fault| unsigned(fault.to_string()))?;
        let (instructions, _) = sign(signable, &params).map_err(|fault| unsigned(fault.to_string()))?.into_parts();
        let (headers, _) = instructions.into_parts();
        Ok(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }
}

/// Tries again what may pass: 1, 2 and 4 seconds later.
async fn patiently<'a, T>(attempt: impl Fn() -> BoxFuture<'a, Result<T, BucketFault>>) -> Result<T, BucketFault> {
    let mut tried = 0;
    loop {
        tried += 1;
        match attempt().await {
            Err(fault) if fault.passes() && tried < ATTEMPTS => tokio::time::sleep(Duration::from_secs(1 << (tried - 1))).await,
            outcome => return outcome,
        }
    }
}

fn silent(url: &str) -> BucketFault {
    BucketFault::Unreachable { url: url.to_owned(), fault: format!("nothing for {} s", PATIENCE.as_secs()) }
}

/// The innermost cause: what the network or the system said.
fn cause_of(fault: &dyn std::error::Error) -> String {
    let mut innermost = fault;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

async fn read_whole(response: HttpResponse, url: &str) -> Result<Vec<u8>, BucketFault> {
    let (mut body, mut bytes) = (ByteStream::new(response.into_body()), Vec::new());
    loop {
        match tokio::time::timeout(PATIENCE, body.next()).await.map_err(|_| silent(url))? {
            None => return Ok(bytes),
            Some(Ok(piece)) if bytes.len() + piece.len() > MOST_BYTES => {
                return Err(BucketFault::NotS3 { url: url.to_owned(), fault: format!("more than {MOST_BYTES} bytes") });
            }
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            Some(Err(fault)) => return Err(BucketFault::Unreachable { url: url.to_owned(), fault: cause_of(&fault) }),
        }
    }
}

async fn refused(response: HttpResponse, url: &str) -> BucketFault {
    let status = response.status().as_u16();
    if status == 412 {
        return BucketFault::Replaced { url: url.to_owned() };
    }
    let body = read_whole(response, url).await.unwrap_or_default();
    let (code, message) =
        std::str::from_utf8(&body).ok().and_then(error_of).unwrap_or_else(|| ("without a code".into(), "no reason given".into()));
    BucketFault::Refused { url: url.to_owned(), status, code, message }
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

/// RFC 3986: everything but unreserved characters; in keys slashes stay.
fn encoded(text: &str, is_key: bool) -> String {
    match is_key {
        true => text.split('/').map(percent_encoded).collect::<Vec<_>>().join("/"),
        false => percent_encoded(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_names_a_bucket() {
        let found: Location = "s3://company-billing/exports/lowtide/".parse().unwrap();
        assert_eq!(
            (found.bucket.as_str(), found.prefix.as_str(), found.to_string().as_str()),
            ("company-billing", "exports/lowtide/", "s3://company-billing/exports/lowtide/")
        );
        assert_eq!("s3://bucket".parse::<Location>().unwrap().prefix, "");
        for bad in ["bucket/x", "https://bucket.s3.amazonaws.com/x", "s3://", "s3://UPPER/x", "s3://a@b/x", "s3://../x", ""] {
            assert!(bad.parse::<Location>().unwrap_err().contains("as in s3://company-billing/exports/"), "{bad}");
        }
    }

    #[test]
    fn a_bucket_is_asked_where_it_is() {
        assert_eq!(base("b", "eu-west-1", None), "https://b.s3.eu-west-1.amazonaws.com");
        assert_eq!(base("a.b", "eu-west-1", None), "https://s3.eu-west-1.amazonaws.com/a.b");
        assert_eq!(base("b", "cn-north-1", None), "https://b.s3.cn-north-1.amazonaws.com.cn");
        assert_eq!(base("b", "us-east-1", Some("http://127.0.0.1:5000/")), "http://127.0.0.1:5000/b");
        assert_eq!(encoded("a b/c+d=é", true), "a%20b/c%2Bd%3D%C3%A9");
        assert_eq!(encoded("a/b", false), "a%2Fb");
        assert!(is_region("us-gov-west-1") && !is_region("evil.example/") && !is_region(""));
    }

    struct Now;
    impl Clock for Now {
        fn now(&self) -> Timestamp {
            Timestamp(1_784_555_070_000)
        }
    }

    /// A bucket whose server gives one answer to each request in turn, and ends.
    async fn answering(answers: Vec<String>) -> Bucket {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 8_192]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let credentials = aws_credential_types::Credentials::new("AKID", "key-of-a-test-61d0", None, None, "test");
        let access =
            Access { credentials: SharedCredentialsProvider::new(credentials), endpoint: Some(endpoint), region: "us-east-1".into() };
        Bucket::new("bucket", access, Arc::new(Now))
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn what_is_longer_than_it_is_listed_is_not_taken() {
        let page = |n: usize| {
            ok(&format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{n}</NextContinuationToken><Contents><Key>k{n}</Key>\
                 <LastModified>2026-08-03T10:15:00.000Z</LastModified><ETag>&quot;7&quot;</ETag><Size>3</Size></Contents></ListBucketResult>"
            ))
        };
        let fault = answering((0..9).map(page).collect()).await.list_of_at_most("p", 3).await.unwrap_err().to_string();
        assert!(fault.contains("more than 3 objects; name what is to be fetched by a longer prefix"), "{fault}");

        let object = Object { key: "k".into(), etag: "\"7\"".into(), size: 3, modified: Timestamp(0) };
        let to = std::env::temp_dir().join(format!("lowtide-bucket-{}", std::process::id()));
        let done = answering(vec![ok(&"x".repeat(1 << 20))]).await.download_once(&object, &to).await;
        let written = std::fs::metadata(&to).unwrap().len();
        std::fs::remove_file(&to).unwrap();
        assert!(matches!(&done, Err(BucketFault::Cut { expected: 3, received, .. }) if *received > 3), "{done:?}");
        assert_eq!(written, 0, "no byte of it");
    }
}
