use std::collections::VecDeque;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;

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
    assert_eq!(encoded("a b/c+d=é"), "a%20b/c%2Bd%3D%C3%A9");
    assert!(is_region("us-gov-west-1") && !is_region("evil.example/") && !is_region(""));
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
    Bucket::new("bucket", access(Some(endpoint), None))
}

fn access(endpoint: Option<String>, token: Option<&str>) -> Access {
    let credentials = aws_credential_types::Credentials::new("AKID", "key-of-a-test-61d0", token.map(str::to_owned), None, "test");
    Access { credentials: SharedCredentialsProvider::new(credentials), endpoint, region: "us-east-1".into() }
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

/// A piece of a body, or what breaks it off.
type Bytes = Result<&'static [u8], &'static str>;

/// Status, headers and body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<Bytes>);

/// What a server that does not exist was asked, and what it answers in turn; the last again and again.
#[derive(Debug, Default)]
struct Script {
    asked: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<Answer>>,
}

#[derive(Debug, Clone, Default)]
struct Scripted(Arc<Script>);

impl Scripted {
    fn answer(self, status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
        self.pieces(status, headers, vec![Ok(body.as_bytes().to_vec().leak())])
    }

    fn pieces(self, status: u16, headers: &[(&'static str, &str)], body: Vec<Bytes>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.answers.lock().unwrap().push_back((status, headers, body));
        self
    }

    fn bucket(&self) -> Bucket {
        Bucket::over(Wire::over(SharedHttpConnector::new(self.clone())), "bucket", access(None, Some("token-of-a-test-61d0")))
    }

    fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }
}

impl HttpConnector for Scripted {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut said = format!("{} {}", request.method(), request.uri());
        for name in ["if-match", "range"] {
            if let Some(value) = request.headers().get(name) {
                said += &format!(" {name}: {value}");
            }
        }
        let signed = request.headers().get("authorization").unwrap();
        let region = signed.split('/').nth(2).unwrap();
        let tied = request.headers().get("if-match").is_none() || signed.contains("if-match;");
        let whole = signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/") && signed.contains(";x-amz-security-token") && tied;
        assert!(whole && request.headers().get("x-amz-security-token") == Some("token-of-a-test-61d0"), "{signed}");
        self.0.asked.lock().unwrap().push(format!("{said} [{region}]"));
        let mut answers = self.0.answers.lock().unwrap();
        let (status, headers, pieces) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
        let body = SdkBody::from_body_1_x(Broken(pieces.into_iter().collect()));
        let mut response = HttpResponse::new(status.try_into().unwrap(), body);
        for (name, value) in headers {
            response.headers_mut().try_insert(name, value).unwrap();
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// A body that may break off.
struct Broken(VecDeque<Bytes>);

impl http_body::Body for Broken {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>> {
        let piece = self.0.pop_front();
        let frame = |bytes| http_body::Frame::data(bytes::Bytes::from_static(bytes));
        std::task::Poll::Ready(piece.map(|piece| piece.map(frame).map_err(std::io::Error::other)))
    }
}

/// What a bucket with this answer to every question lists.
pub(in crate::ledger::fetch) fn listed(answer: &str) -> Result<Vec<Object>, BucketFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(Scripted::default().answer(200, &[], answer).bucket().list("p"))
}

fn object(key: &str, size: u64) -> Object {
    Object { key: key.into(), etag: "\"e-1\"".into(), size, modified: Timestamp(0) }
}

const LIST: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
const HERE: &str = "https://bucket.s3.us-east-1.amazonaws.com/";

/// Keys are no paths: what is asked for is the key that was listed, to the letter, and as it was listed.
#[tokio::test]
async fn an_object_is_asked_for_by_its_key_and_its_version() {
    for (key, path) in [
        ("plain.csv", "plain.csv"),
        ("a b/c+d=é/x&y.csv", "a%20b/c%2Bd%3D%C3%A9/x%26y.csv"),
        ("cur//report/a%2Fb.csv", "cur//report/a%252Fb.csv"),
        ("/report/a.csv", "/report/a.csv"),
    ] {
        let script = Scripted::default().answer(200, &[("content-length", "4"), ("etag", "\"e-1\"")], "text");
        assert_eq!(script.bucket().small(&object(key, 4)).await.unwrap(), b"text", "{key}");
        assert_eq!(script.asked(), [format!("GET {HERE}{path} if-match: \"e-1\" [us-east-1]")]);
    }
    for key in ["folder/", "", "..", "a/../b", "./a"] {
        let script = Scripted::default().answer(200, &[], "");
        let fault = script.bucket().small(&object(key, 0)).await.unwrap_err().to_string();
        assert!(fault.contains("a key that is no file's") && script.asked().is_empty(), "{key}: {fault}");
    }
    let script = Scripted::default().answer(200, &[], LIST);
    assert_eq!(script.bucket().list("exports/cur x").await.unwrap(), []);
    assert_eq!(script.asked(), [format!("GET {HERE}?list-type=2&prefix=exports%2Fcur+x [us-east-1]")]);
}

#[tokio::test]
async fn a_bucket_that_is_elsewhere_is_asked_there() {
    let moved = "<Error><Code>PermanentRedirect</Code><Message>Elsewhere</Message></Error>";
    let script = Scripted::default().answer(301, &[("x-amz-bucket-region", "eu-west-1")], moved).answer(200, &[], LIST);
    let bucket = script.bucket();
    assert_eq!((bucket.list("p").await.unwrap(), bucket.list("q").await.unwrap()), (vec![], vec![]));
    let there = |prefix: &str| format!("GET https://bucket.s3.eu-west-1.amazonaws.com/?list-type=2&prefix={prefix} [eu-west-1]");
    assert_eq!(script.asked(), [format!("GET {HERE}?list-type=2&prefix=p [us-east-1]"), there("p"), there("q")]);
    // Not where no region is, and not again and again.
    for (region, questions) in [("evil.example/", 1), ("us-east-1", 1), ("eu-west-1", 2)] {
        let script = Scripted::default().answer(301, &[("x-amz-bucket-region", region)], moved);
        let fault = script.bucket().list("p").await.unwrap_err().to_string();
        assert!(fault.contains("s3://bucket/p: S3 answered 301 PermanentRedirect (Elsewhere); the role needs"), "{fault}");
        assert_eq!(script.asked().len(), questions, "{region}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_four_times() {
    let slow = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    for (status, questions) in [(503, 4), (500, 4), (429, 4), (403, 1), (404, 1), (412, 1)] {
        let script = Scripted::default().answer(status, &[], slow);
        let faults = [script.bucket().list("p").await.map(|_| ()), script.bucket().small(&object("k", 1)).await.map(|_| ())];
        for fault in faults {
            match fault.unwrap_err() {
                BucketFault::Replaced { .. } => assert_eq!(status, 412),
                fault => assert!(fault.to_string().contains(&format!("S3 answered {status} SlowDown (Please reduce")), "{fault}"),
            }
        }
        assert_eq!(script.asked().len(), 2 * questions, "{status}");
    }
    let script =
        Scripted::default().answer(503, &[], slow).pieces(200, &[], vec![Ok(b"<ListBucketRes"), Err("reset")]).answer(200, &[], LIST);
    assert_eq!(script.bucket().list("p").await.unwrap(), []);
    assert_eq!(script.asked().len(), 3, "a list that breaks off is asked for again");
    let script = Scripted::default().pieces(200, &[], vec![Err("reset")]);
    let fault = script.bucket().list("p").await.unwrap_err().to_string();
    assert!(fault.contains("s3://bucket/p does not answer: reset") && script.asked().len() == 4, "{fault}");
}

/// What breaks off goes on where it was, if it is still the same.
#[tokio::test(start_paused = true)]
async fn an_object_that_breaks_off_is_taken_up_again() {
    let whole = [("content-length", "8"), ("etag", "\"e-1\"")];
    let rest = [("content-length", "4"), ("etag", "\"e-1\""), ("content-range", "bytes 4-7/8")];
    let broken = || Scripted::default().pieces(200, &whole, vec![Ok(b"half"), Err("reset")]);
    let script = broken().answer(206, &rest, "rest");
    assert_eq!(script.bucket().small(&object("k", 8)).await.unwrap(), b"halfrest");
    assert_eq!(script.asked()[1], format!("GET {HERE}k if-match: \"e-1\" range: bytes=4-7 [us-east-1]"));
    let fault = broken().answer(412, &[], "").bucket().small(&object("k", 8)).await.unwrap_err();
    assert!(matches!(fault, BucketFault::Replaced { .. }), "{fault}");
    let script = broken().pieces(206, &rest, vec![Err("reset")]);
    let fault = script.bucket().small(&object("k", 8)).await.unwrap_err();
    assert!(matches!(fault, BucketFault::Cut { expected: 8, received: 4, .. }) && script.asked().len() == 4, "{fault}");
    // A whole answer that is another length than the list said.
    let fault = Scripted::default().answer(200, &whole, "halfrest").bucket().small(&object("k", 9)).await.unwrap_err();
    assert!(matches!(fault, BucketFault::Cut { expected: 9, received: 8, .. }), "{fault}");
}

#[tokio::test]
async fn nothing_is_asked_without_what_can_be_signed_with_and_an_address() {
    let bucket = |endpoint: Option<&str>, token| Bucket::over(Wire::new(), "bucket", access(endpoint.map(str::to_owned), token));
    for endpoint in ["/x", "localhost", "localhost:4566", "http://", "http://a b", "http://127.0.0.1:1/\u{7f}", ""] {
        let fault = bucket(Some(endpoint), None).list("p").await.unwrap_err().to_string();
        assert!(fault.contains("is no address: "), "{endpoint}: {fault}");
    }
    let fault = bucket(Some("http://127.0.0.1:1"), Some("two\nlines")).list("p").await.unwrap_err();
    assert!(matches!(&fault, BucketFault::NoCredentials(said) if said.contains("cannot be sent")), "{fault}");
    let nobody = Access { credentials: SharedCredentialsProvider::new(Nobody), ..access(Some("http://127.0.0.1:1".into()), None) };
    let fault = Bucket::new("bucket", nobody).list("p").await.unwrap_err().to_string();
    assert!(fault.starts_with("no credentials for AWS were found (nobody is here)"), "{fault}");
}

#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let fault = aws_credential_types::provider::error::CredentialsError::not_loaded("nobody is here");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(fault))
    }
}
