//! Where the Job's program keeps its checkpoint, off its machine: an HTTP server with one value for each path, as a bucket has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

use crate::lab::error::LabError;

/// Every value that a path ever had, oldest first.
type Values = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A store that runs until dropped.
#[derive(Debug)]
pub struct Store {
    values: Values,
    served: JoinHandle<()>,
}

impl Store {
    /// Begins to serve at `address`.
    pub async fn begin(address: SocketAddr) -> Result<Store, LabError> {
        let what = format!("serving the checkpoint store at {address}");
        let listener = tokio::net::TcpListener::bind(address).await.map_err(LabError::io(what))?;
        let values = Values::default();
        let router = Router::new().fallback(answer).with_state(values.clone());
        // It ends with us; a connection that breaks is its client's affair.
        let served = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Store { values, served })
    }

    /// What was saved under a path so far, oldest first.
    pub fn saved(&self, path: &str) -> Vec<String> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned().unwrap_or_default()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn answer(State(values): State<Values>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    match parts.method {
        Method::GET => {
            let last = values.lock().unwrap_or_else(PoisonError::into_inner).get(&path).and_then(|all| all.last().cloned());
            last.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
        }
        Method::PUT => match axum::body::to_bytes(body, 1 << 16).await {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                values.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default().push(text);
                StatusCode::OK.into_response()
            }
            Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}
