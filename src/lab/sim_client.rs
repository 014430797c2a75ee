//! Plain HTTP on loopback, as much as the lab needs to ask the EC2 simulator (and etcd) something.
//!
//! HTTP/1.0 on purpose: one answer per connection, its end is the end of the stream.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::LabError;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// GETs `path` of `base` (as in `http://127.0.0.1:8080`); returns the body of a 2xx answer.
pub async fn get(base: &str, path: &str) -> Result<String, LabError> {
    send(base, "GET", path, &[], "").await
}

/// GETs `path` and reads the body as JSON.
pub async fn get_json<T: DeserializeOwned>(base: &str, path: &str) -> Result<T, LabError> {
    let body = get(base, path).await?;
    serde_json::from_str(&body).map_err(|fault| LabError::Unreadable {
        what: format!("{base}{path}"),
        expected: fault.to_string(),
        found: body.chars().take(200).collect(),
    })
}

/// POSTs a JSON body to `path`; returns the body of a 2xx answer.
pub async fn post(base: &str, path: &str, body: &serde_json::Value) -> Result<String, LabError> {
    send(base, "POST", path, &[("Content-Type", "application/json")], &body.to_string()).await
}

/// Sends any request; returns the body of a 2xx answer.
pub async fn send(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<String, LabError> {
    let what = format!("{method} {base}{path}");
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange(base, method, path, headers, body)).await;
    let text = match answer {
        Ok(answer) => answer.map_err(LabError::io(what.clone()))?,
        Err(_) => return Err(LabError::io(what)(std::io::ErrorKind::TimedOut.into())),
    };
    let unreadable = |expected: &str| LabError::Unreadable {
        what: what.clone(),
        expected: expected.to_owned(),
        found: text.chars().take(400).collect::<String>(),
    };
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| unreadable("an HTTP answer"))?;
    match head.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(body.to_owned()),
        _ => Err(unreadable("status 2xx")),
    }
}

async fn exchange(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<String> {
    let address = base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answering(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        base
    }

    #[tokio::test]
    async fn a_2xx_answer_gives_its_body_and_any_other_is_an_error() {
        let base = answering("HTTP/1.0 200 OK\r\n\r\n[1,2]").await;
        assert_eq!(get_json::<Vec<u32>>(&base, "/").await.unwrap(), [1, 2]);
        let base = answering("HTTP/1.0 404 Not Found\r\n\r\nno such thing").await;
        assert!(get(&base, "/x").await.unwrap_err().to_string().contains("no such thing"));
    }
}
