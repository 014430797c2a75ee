//! HTTP requests from outside the cluster, at a steady rate, each on a connection of its own, each remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::core::units::time::Timestamp;
use crate::lab::wall_clock;

/// Requests that are open at the same time.
const CLIENTS: u64 = 4;
/// One client's pause between two requests.
const PAUSE: Duration = Duration::from_millis(80);
/// A request that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// One request.
#[derive(Debug, Clone)]
struct Request {
    sent: Timestamp,
    fault: Option<String>,
}

/// A load that goes on until dropped.
#[derive(Debug)]
pub struct Load {
    requests: Arc<Mutex<Vec<Request>>>,
    clients: Vec<JoinHandle<()>>,
}

/// What became of the requests sent in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests sent.
    pub sent: usize,
    /// Those without a good answer.
    pub failed: usize,
    /// The first fault.
    pub first_fault: Option<String>,
    /// From the first failed request to the last one.
    pub failing_ms: i64,
    /// Failed requests by the ten seconds in which they were sent.
    pub failed_by_ten_seconds: Vec<usize>,
}

impl Load {
    /// Begins to ask `address`, e.g. `172.30.0.10:30080`.
    pub fn begin(address: &str) -> Load {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let client = |_| {
            let (requests, address) = (requests.clone(), address.to_owned());
            tokio::spawn(async move {
                loop {
                    let sent = wall_clock();
                    let fault = match tokio::time::timeout(ANSWER_WITHIN, ask(&address)).await {
                        Ok(answer) => answer.err(),
                        Err(_) => Some(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
                    };
                    requests.lock().unwrap_or_else(PoisonError::into_inner).push(Request { sent, fault });
                    tokio::time::sleep(PAUSE).await;
                }
            })
        };
        Load { clients: (0..CLIENTS).map(client).collect(), requests: requests.clone() }
    }

    /// The requests sent from `from` on.
    pub fn since(&self, from: Timestamp) -> Tally {
        let all = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        tally(from, all.iter().filter(|request| request.sent >= from))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

fn tally<'a>(from: Timestamp, requests: impl Iterator<Item = &'a Request>) -> Tally {
    let (mut tally, mut first, mut last) = (Tally::default(), None::<Timestamp>, None::<Timestamp>);
    for request in requests {
        tally.sent += 1;
        let tens = usize::try_from(request.sent.since(from).0 / 10_000).unwrap_or(0);
        if tally.failed_by_ten_seconds.len() <= tens {
            tally.failed_by_ten_seconds.resize(tens + 1, 0);
        }
        if let Some(fault) = &request.fault {
            tally.failed += 1;
            tally.failed_by_ten_seconds[tens] += 1;
            tally.first_fault.get_or_insert_with(|| fault.clone());
            first = Some(first.map_or(request.sent, |at| at.min(request.sent)));
            last = Some(last.map_or(request.sent, |at| at.max(request.sent)));
        }
    }
    tally.failing_ms = first.zip(last).map_or(0, |(first, last)| last.since(first).0);
    tally
}

/// One request; the fault in words.
pub async fn ask(address: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange.await.map_err(|fault| fault.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| "the connection ended without an answer".to_owned())?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.trim().to_owned()) } else { Err(head.lines().next().unwrap_or_default().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_with_the_time_they_lasted() {
        let request = |at, fault: Option<&str>| Request { sent: Timestamp(at), fault: fault.map(str::to_owned) };
        let all = [request(1, None), request(5, Some("refused")), request(9, None), request(12_000, Some("late"))];
        let by_tens = vec![1, 1];
        let wanted = Tally { sent: 4, failed: 2, first_fault: Some("refused".into()), failing_ms: 11_995, failed_by_ten_seconds: by_tens };
        assert_eq!(tally(Timestamp(0), all.iter()), wanted);
    }
}
