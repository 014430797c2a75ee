//! What carries the requests of the library for object stores: the HTTP client that the program has already, with its TLS, through the proxy of the environment.
//!
//! Decides: how long an answer may take, how much of one is read into memory, which failures the library tries again, and how what happened reaches whoever
//! asked through the library's own errors. Does not: sign, or know what is asked for (see [`super::bucket`]).
//! Source: Amazon S3 API reference, "Error responses".

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest as Outgoing, HttpResponse as Answer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::{Body, Frame};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use object_store::{ClientOptions, HeaderValue};

use super::answers::{error_of, page};

/// How long an answer, or the next piece of one, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that is read into memory: of a list a page, of an object a manifest.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// What the library needs of an answer besides its body.
const HEADERS: [&str; 3] = ["content-length", "content-range", "etag"];

/// What went wrong; it lies within the library's errors as their innermost cause.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum WireFault {
    /// There is nothing to sign with.
    #[error("{0}")]
    NoCredentials(String),
    /// Nobody answered, or not to the end.
    #[error("{0}")]
    Unreachable(String),
    /// S3 said no.
    #[error("S3 answered {status} {code} ({message})")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// S3's code.
        code: String,
        /// Its words.
        message: String,
        /// Where the bucket is, as S3 says.
        region: Option<String>,
    },
    /// It answered what S3 does not answer.
    #[error("{0}")]
    NotS3(String),
}

impl WireFault {
    /// As the library takes it: what may pass is tried again.
    fn into_http(self) -> HttpError {
        let kind = match &self {
            WireFault::Unreachable(_) => HttpErrorKind::Interrupted,
            WireFault::Refused { status, .. } if *status >= 500 || *status == 429 => HttpErrorKind::Interrupted,
            WireFault::NoCredentials(_) | WireFault::Refused { .. } => HttpErrorKind::Unknown,
            WireFault::NotS3(_) => HttpErrorKind::Decode,
        };
        HttpError::new(kind, self)
    }
}

/// What went wrong on the wire or before, where that is the cause of the library's error.
pub(super) fn fault_of(fault: &object_store::Error) -> Option<WireFault> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(fault);
    while let Some(this) = cause {
        if let Some(found) = this.downcast_ref::<WireFault>() {
            return Some(found.clone());
        }
        cause = this.source();
    }
    None
}

/// The innermost cause: what the network or the system said.
pub(super) fn cause_of(fault: &dyn std::error::Error) -> String {
    let mut innermost = fault;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// The HTTP client.
#[derive(Debug, Clone)]
pub(super) struct Wire(SharedHttpConnector);

impl Wire {
    /// One with TLS by ring, through the proxy that the environment names.
    pub(super) fn new() -> Self {
        let connector =
            Connector::builder().proxy_config(ProxyConfig::from_env()).tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build();
        Wire(SharedHttpConnector::new(connector))
    }

    #[cfg(test)]
    pub(super) fn over(connector: SharedHttpConnector) -> Self {
        Wire(connector)
    }

    async fn exchange(&self, request: Outgoing, is_list: bool) -> Result<HttpResponse, WireFault> {
        let sent = tokio::time::timeout(PATIENCE, self.0.call(request)).await.map_err(|_| silent())?;
        let mut answer = sent.map_err(|fault| WireFault::Unreachable(cause_of(&fault)))?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        let body = answer.take_body();
        let body = match is_list {
            // Read here, where its length is bounded, and where it is tried again when it breaks off.
            true => HttpResponseBody::from(list_of(body).await?),
            false => HttpResponseBody::new(Pieces(Mutex::new(pieces(body).boxed()))),
        };
        let mut response = HttpResponse::new(body);
        let odd = |fault: String| WireFault::NotS3(format!("an answer that cannot be read: {fault}"));
        *response.status_mut() = answer.status().as_u16().try_into().map_err(|_| odd("its status".into()))?;
        for name in HEADERS {
            if let Some(value) = answer.headers().get(name) {
                let value = HeaderValue::from_str(value).map_err(|fault| odd(format!("{name}: {fault}")))?;
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_list = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "list-type=2"));
        let outgoing = outgoing(&request).map_err(WireFault::into_http)?;
        self.exchange(outgoing, is_list).await.map_err(WireFault::into_http)
    }
}

/// The request, which has no body: nothing is written to a bucket.
fn outgoing(request: &HttpRequest) -> Result<Outgoing, WireFault> {
    let bad = |fault: String| WireFault::NotS3(format!("the request cannot be sent: {fault}"));
    let mut outgoing = Outgoing::get(request.uri().to_string()).map_err(|fault| bad(fault.to_string()))?;
    outgoing.set_method(request.method().as_str()).map_err(|fault| bad(fault.to_string()))?;
    for (name, value) in request.headers() {
        let value = value.to_str().map_err(|fault| bad(fault.to_string()))?.to_owned();
        outgoing.headers_mut().try_append(name.as_str().to_owned(), value).map_err(|fault| bad(fault.to_string()))?;
    }
    Ok(outgoing)
}

/// The body of an answer, piece by piece. Behind a lock that is never taken, because the library wants what may be shared.
struct Pieces(Mutex<BoxStream<'static, Result<Bytes, HttpError>>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let pieces = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        pieces.poll_next_unpin(context).map_ok(Frame::data)
    }
}

fn pieces(body: SdkBody) -> impl futures::Stream<Item = Result<Bytes, HttpError>> + Send {
    futures::stream::unfold(ByteStream::new(body), |mut body| async {
        let piece = next(&mut body).await.map_err(WireFault::into_http).transpose()?;
        Some((piece, body))
    })
}

async fn next(body: &mut ByteStream) -> Result<Option<Bytes>, WireFault> {
    let piece = tokio::time::timeout(PATIENCE, body.next()).await.map_err(|_| silent())?;
    piece.transpose().map_err(|fault| WireFault::Unreachable(cause_of(&fault)))
}

async fn read_whole(body: SdkBody) -> Result<Vec<u8>, WireFault> {
    let (mut body, mut bytes) = (ByteStream::new(body), Vec::new());
    while let Some(piece) = next(&mut body).await? {
        if bytes.len() + piece.len() > MOST_BYTES {
            return Err(WireFault::NotS3(format!("more than {MOST_BYTES} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn list_of(body: SdkBody) -> Result<String, WireFault> {
    let bytes = read_whole(body).await?;
    let text = std::str::from_utf8(&bytes).map_err(|fault| WireFault::NotS3(fault.to_string()))?;
    page(text).map_err(WireFault::NotS3)
}

async fn refused(answer: Answer) -> WireFault {
    let status = answer.status().as_u16();
    let region = answer.headers().get("x-amz-bucket-region").map(str::to_owned);
    let body = read_whole(answer.into_body()).await.unwrap_or_default();
    let said = std::str::from_utf8(&body).ok().and_then(error_of);
    let (code, message) = said.unwrap_or_else(|| ("without a code".into(), "no reason given".into()));
    WireFault::Refused { status, code, message, region }
}

fn silent() -> WireFault {
    WireFault::Unreachable(format!("nothing for {} s", PATIENCE.as_secs()))
}
