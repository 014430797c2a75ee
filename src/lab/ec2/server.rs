//! The HTTP edge: one port for all regions and services. Region and service come from the signature's scope; signatures
//! are not verified. The only clock of the simulator is read here.

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::core::units::ids::{Region, derive_uuid};
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::wall_clock::WallClock;
use crate::ports::Clock as _;

use super::account::{Account, AccountSettings};
use super::actions::{self, Call};
use super::control::HttpOrders;
use super::facts::{BadFact, Facts};
use super::fault::Fault;
use super::query::Params;
use super::recording::Recording;
use super::{control, identity, imds, pricing, sqs, xml};

/// Requests are small; more than this is a mistake.
const LARGEST_BODY: usize = 1 << 20;
/// `HttpPutResponseHopLimit` of machines that say nothing else.
const METADATA_HOPS: u32 = 1;
/// How long open calls have after the order to end.
const LAST_CALLS: Duration = Duration::from_millis(500);
/// Access key ids that begin like this are refused, so that wrong credentials can be tried.
const INVALID_KEY_PREFIX: &str = "INVALID";

/// How a simulator is set up.
#[derive(Debug, Clone, Default)]
pub struct SimulatorConfig {
    /// The account's behaviour.
    pub settings: AccountSettings,
    /// Where instance metadata is served to machines, which are known by their private address: 169.254.169.254:80 on the router of real
    /// ones. Without it, it is only under `/_imds/`.
    pub metadata_address: Option<SocketAddr>,
}

/// Why a simulator could not run.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The catalog does not read.
    #[error(transparent)]
    Facts(#[from] BadFact),
    /// The socket failed.
    #[error("the EC2 simulator cannot serve on its socket: {0}; is the port taken?")]
    Socket(#[from] std::io::Error),
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Simulator {
    account: Mutex<Account>,
    pub(super) orders: Mutex<HttpOrders>,
    /// How far `/_sim/tick` has moved the clock ahead, in milliseconds.
    ahead: AtomicI64,
    requests: AtomicU64,
    recording: Option<Recording>,
}

impl Simulator {
    /// What time it is in the account.
    pub(super) fn now(&self) -> Timestamp {
        WallClock.now() + Millis(self.ahead.load(Ordering::SeqCst))
    }

    /// Moves the clock ahead.
    pub(super) fn move_clock(&self, milliseconds: i64) {
        self.ahead.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// The account, with everything done that is due now.
    pub(super) fn account(&self) -> (MutexGuard<'_, Account>, Timestamp) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        account.advance(now);
        (account, now)
    }

    pub(super) fn orders(&self) -> MutexGuard<'_, HttpOrders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One signed request to an AWS service.
#[derive(Debug)]
pub(super) struct SignedRequest {
    /// From the scope.
    pub region: Region,
    /// From the scope: `ec2`, `sqs`, `sts`, `pricing`, `servicequotas`.
    pub service: String,
    /// The action asked for.
    pub action: String,
    /// The body as it came.
    pub body: Bytes,
    /// Where the caller reached us, for queue URLs.
    pub host: String,
    /// A fresh id for the answer.
    pub request_id: String,
}

/// Serves an account on `listener` until `shutdown` completes.
///
/// # Errors
/// When the shipped catalog does not read or the socket fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    config: SimulatorConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), SimulatorError> {
    let opened = WallClock.now();
    let simulator = Simulator {
        account: Mutex::new(Account::new(Facts::shipped()?, config.settings, opened)),
        orders: Mutex::default(),
        ahead: AtomicI64::new(0),
        requests: AtomicU64::new(0),
        recording: Recording::open(listener.local_addr()?.port())?,
    };
    let simulator = Arc::new(simulator);
    if let Some(address) = config.metadata_address {
        let listener = tokio::net::TcpListener::bind(address).await?;
        // The hop limit that lowtide's launch templates ask for: the answer ends at the machine and reaches no pod behind it.
        listener.set_ttl(METADATA_HOPS)?;
        let router = Router::new().fallback(metadata).with_state(simulator.clone());
        let served = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).into_future();
        tokio::spawn(served);
    }
    let router = Router::new().fallback(answer).with_state(simulator);
    let shutdown = shutdown.shared();
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone()).into_future();
    // Open calls may finish, but a queue reader that waits its 20 s does not hold the end up.
    let overdue = async {
        shutdown.await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        result = served => result?,
        () = overdue => {}
    }
    Ok(())
}

/// A request to the metadata address, answered for the machine that it came from.
async fn metadata(State(simulator): State<Arc<Simulator>>, ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let machine = simulator.account().0.running_at(&from.ip().to_string());
    let Some(id) = machine else {
        return (StatusCode::NOT_FOUND, "no running instance has this address").into_response();
    };
    let path = format!("{id}{}", request.uri().path());
    imds::answer(&simulator, request.method(), &path, request.headers())
}

async fn answer(State(simulator): State<Arc<Simulator>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large").into_response();
    };
    let path = parts.uri.path();
    if let Some(rest) = path.strip_prefix("/_sim/") {
        return control::answer(&simulator, &parts.method, rest, &body);
    }
    if let Some(rest) = path.strip_prefix("/_imds/") {
        return imds::answer(&simulator, &parts.method, rest, &parts.headers);
    }
    if parts.method != Method::POST {
        return (StatusCode::NOT_FOUND, "AWS services are called with POST; controls are under /_sim/, metadata under /_imds/")
            .into_response();
    }
    let number = simulator.requests.fetch_add(1, Ordering::SeqCst).to_string();
    let request_id = derive_uuid(&["request", &number]).to_string();
    let signed = match read_signed(&parts.headers, body, request_id.clone()) {
        Ok(signed) => signed,
        Err(fault) => return xml_fault(&fault, &request_id),
    };
    if let Some(recording) = &simulator.recording {
        recording.keep(&parts.headers, &signed);
    }
    perform(&simulator, &signed).await
}

/// Reads scope and action of a request.
fn read_signed(headers: &HeaderMap, body: Bytes, request_id: String) -> Result<SignedRequest, Fault> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credential = header("authorization").split_once("Credential=").map(|(_, rest)| rest.split(',').next().unwrap_or_default());
    let scope: Vec<&str> = credential.unwrap_or_default().split('/').collect();
    let [key, _date, region, service, "aws4_request"] = scope[..] else {
        return Err(Fault::new(
            401,
            "AuthFailure",
            "The request must be signed with SigV4; its credential scope names region and service.",
        ));
    };
    if key.starts_with(INVALID_KEY_PREFIX) {
        return Err(Fault::new(401, "AuthFailure", "AWS was not able to validate the provided access credentials"));
    }
    let target = header("x-amz-target").rsplit_once('.').map(|(_, action)| action.to_owned());
    let action = target.unwrap_or_else(|| Params::parse(&String::from_utf8_lossy(&body)).get("Action").unwrap_or_default().to_owned());
    Ok(SignedRequest { region: region.into(), service: service.to_owned(), action, body, host: header("host").to_owned(), request_id })
}

async fn perform(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let (before, after) = {
        let (mut account, _) = simulator.account();
        *account.calls.entry(signed.action.clone()).or_default() += 1;
        simulator.orders().stall(&signed.action)
    };
    tokio::time::sleep(before).await;
    let denied = simulator.orders().denies(&signed.service, &signed.action, &signed.region);
    let response = if denied { denial(signed) } else { dispatch(simulator, signed).await };
    // What was done is done; only the answer waits.
    tokio::time::sleep(after).await;
    response
}

fn denial(signed: &SignedRequest) -> Response {
    let what = format!("{}:{}", signed.service, signed.action);
    let message = format!("User: arn:aws:iam::123456789012:user/lowtide is not authorized to perform: {what}");
    match signed.service.as_str() {
        "ec2" => xml_fault(
            &Fault::new(403, "UnauthorizedOperation", format!("You are not authorized to perform this operation. {message}")),
            &signed.request_id,
        ),
        "sts" => identity::sts_fault(&Fault::new(403, "AccessDenied", message), &signed.request_id),
        "sqs" => json_fault(&Fault::new(403, "AccessDeniedException", message), "com.amazon.coral.service#", &signed.request_id),
        _ => json_fault(&Fault::bad("AccessDeniedException", message), "", &signed.request_id),
    }
}

async fn dispatch(simulator: &Simulator, signed: &SignedRequest) -> Response {
    match signed.service.as_str() {
        "ec2" => ec2(simulator, signed),
        "sqs" => sqs::answer(simulator, signed).await,
        "sts" => identity::sts(signed),
        "servicequotas" => identity::service_quotas(simulator, signed),
        "pricing" => pricing::answer(simulator, signed),
        "ssm" => identity::ssm(simulator, signed),
        other => xml_fault(&Fault::bad("InvalidAction", format!("This simulator has no service {other:?}.")), &signed.request_id),
    }
}

fn ec2(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let params = Params::parse(&String::from_utf8_lossy(&signed.body)).without(&["Action", "Version"]);
    let (mut account, now) = simulator.account();
    let call = Call { region: &signed.region, action: &signed.action, params: &params, now };
    let result = actions::perform(&mut account, call);
    // A metadata or queue reader must see what this call caused without waiting for the next one.
    account.advance(now);
    match result {
        Ok(inner) => xml_response(StatusCode::OK, xml::answer(&signed.action, &signed.request_id, &inner)),
        Err(fault) => xml_fault(&fault, &signed.request_id),
    }
}

pub(super) fn xml_response(status: StatusCode, body: String) -> Response {
    (status, [("content-type", "text/xml;charset=UTF-8")], body).into_response()
}

fn xml_fault(fault: &Fault, request_id: &str) -> Response {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST);
    xml_response(status, xml::error(&fault.code, &fault.message, request_id))
}

pub(super) fn json_response(status: StatusCode, body: &serde_json::Value, request_id: &str) -> Response {
    let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amzn-requestid", request_id)];
    (status, headers, body.to_string()).into_response()
}

/// An error of a JSON service; `namespace` precedes the code in `__type`.
pub(super) fn json_fault(fault: &Fault, namespace: &str, request_id: &str) -> Response {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = serde_json::json!({"__type": format!("{namespace}{}", fault.code), "message": fault.message});
    json_response(status, &body, request_id)
}

/// A stall in whole milliseconds.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
