//! The SQS face (AWS JSON 1.0): one queue per region, long polling included. The rules of a queue are the account's.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::units::time::Millis;

use super::account::queues::Message;
use super::account::{ACCOUNT, INTERRUPTION_QUEUE};
use super::fault::Fault;
use super::server::{SignedRequest, Simulator, json_fault, json_response};

/// How often a waiting receiver looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// SQS' default.
const VISIBILITY: i64 = 30;

pub(super) async fn answer(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let result = match serde_json::from_slice::<Value>(&signed.body) {
        Err(_) => Err(Fault::bad("SerializationException", "The body is not JSON.")),
        Ok(body) => match signed.action.as_str() {
            "GetQueueUrl" => queue_url(signed, &body),
            "SendMessage" => send(simulator, signed, &body),
            "ReceiveMessage" => receive(simulator, signed, &body).await,
            "DeleteMessage" => delete(simulator, signed, &body),
            "DeleteMessageBatch" => delete_batch(simulator, signed, &body),
            "GetQueueAttributes" => attributes(simulator, signed, &body),
            other => Err(Fault::bad("InvalidAction", format!("The action {other} is not known to this simulator."))),
        },
    };
    match result {
        Ok(body) => json_response(StatusCode::OK, &body, &signed.request_id),
        Err(fault) => {
            let query_code = if fault.code == "QueueDoesNotExist" { "AWS.SimpleQueueService.NonExistentQueue" } else { &fault.code };
            let header = format!("{query_code};Sender");
            let mut response = json_fault(&fault, "com.amazonaws.sqs#", &signed.request_id);
            if let Ok(value) = header.parse() {
                response.headers_mut().insert("x-amzn-query-error", value);
            }
            response
        }
    }
}

fn need<'a>(body: &'a Value, key: &str) -> Result<&'a str, Fault> {
    body[key].as_str().ok_or_else(|| Fault::bad("MissingParameter", format!("The request must contain the parameter {key}.")))
}

fn check_name(name: &str) -> Result<(), Fault> {
    if name == INTERRUPTION_QUEUE { Ok(()) } else { Err(Fault::bad("QueueDoesNotExist", "The specified queue does not exist.")) }
}

fn check_url(body: &Value) -> Result<(), Fault> {
    check_name(need(body, "QueueUrl")?.rsplit('/').next().unwrap_or_default())
}

fn queue_url(signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_name(need(body, "QueueName")?)?;
    Ok(json!({"QueueUrl": format!("http://{}/{ACCOUNT}/{INTERRUPTION_QUEUE}", signed.host)}))
}

fn send(simulator: &Simulator, signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_url(body)?;
    let text = need(body, "MessageBody")?.to_owned();
    let (mut account, now) = simulator.account();
    let digest = md5_hex(text.as_bytes());
    let id = account.send_message(&signed.region, text, now);
    Ok(json!({"MessageId": id, "MD5OfMessageBody": digest}))
}

fn number(body: &Value, key: &str, default: i64, allowed: std::ops::RangeInclusive<i64>) -> Result<i64, Fault> {
    let value = body[key].as_i64().unwrap_or(default);
    if allowed.contains(&value) {
        return Ok(value);
    }
    let message =
        format!("Value {value} for parameter {key} is invalid. Reason: Must be between {} and {}.", allowed.start(), allowed.end());
    Err(Fault::bad("InvalidParameterValue", message))
}

async fn receive(simulator: &Simulator, signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_url(body)?;
    let most = usize::try_from(number(body, "MaxNumberOfMessages", 1, 1..=10)?).unwrap_or(1);
    let visibility = Millis::from_secs(number(body, "VisibilityTimeout", VISIBILITY, 0..=43_200)?);
    let wait = Duration::from_secs(u64::try_from(number(body, "WaitTimeSeconds", 0, 0..=20)?).unwrap_or(0));
    let waiting = async {
        loop {
            let received = {
                let (mut account, now) = simulator.account();
                account.queue(&signed.region).receive(most, visibility, now)
            };
            if !received.is_empty() {
                break received;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let received = tokio::time::timeout(wait, waiting).await.unwrap_or_default();
    // SQS leaves the list out when there is none.
    if received.is_empty() {
        return Ok(json!({}));
    }
    let asked =
        ["MessageSystemAttributeNames", "AttributeNames"].iter().any(|key| body[*key].as_array().is_some_and(|names| !names.is_empty()));
    let messages: Vec<Value> = received.iter().map(|(message, handle)| message_json(message, handle, asked)).collect();
    Ok(json!({"Messages": messages}))
}

fn message_json(message: &Message, handle: &str, with_attributes: bool) -> Value {
    let digest = md5_hex(message.body.as_bytes());
    let mut value = json!({"MessageId": message.id, "ReceiptHandle": handle, "Body": message.body, "MD5OfBody": digest});
    if with_attributes {
        value["Attributes"] = json!({
            "SentTimestamp": message.sent_at.0.to_string(),
            "ApproximateReceiveCount": message.receive_count.to_string(),
            "ApproximateFirstReceiveTimestamp": message.first_received_at.unwrap_or(message.sent_at).0.to_string(),
        });
    }
    value
}

fn delete(simulator: &Simulator, signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_url(body)?;
    let handle = need(body, "ReceiptHandle")?;
    if !handle.contains('#') {
        return Err(Fault::bad("ReceiptHandleIsInvalid", format!("The input receipt handle \"{handle}\" is not a valid receipt handle.")));
    }
    let (mut account, _) = simulator.account();
    account.queue(&signed.region).delete(handle);
    Ok(json!({}))
}

fn delete_batch(simulator: &Simulator, signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_url(body)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for entry in body["Entries"].as_array().into_iter().flatten() {
        let one = json!({"QueueUrl": body["QueueUrl"], "ReceiptHandle": entry["ReceiptHandle"]});
        match delete(simulator, signed, &one) {
            Ok(_) => done.push(json!({"Id": entry["Id"]})),
            Err(fault) => failed.push(json!({"Id": entry["Id"], "SenderFault": true, "Code": fault.code, "Message": fault.message})),
        }
    }
    Ok(json!({"Successful": done, "Failed": failed}))
}

fn attributes(simulator: &Simulator, signed: &SignedRequest, body: &Value) -> Result<Value, Fault> {
    check_url(body)?;
    let (mut account, _) = simulator.account();
    let depth = account.queue(&signed.region).depth().to_string();
    let arn = format!("arn:aws:sqs:{}:{ACCOUNT}:{INTERRUPTION_QUEUE}", signed.region);
    Ok(json!({"Attributes": {"ApproximateNumberOfMessages": depth, "QueueArn": arn, "VisibilityTimeout": VISIBILITY.to_string()}}))
}

/// RFC 1321. SQS sends this digest, and some of its clients check it.
fn md5_hex(input: &[u8]) -> String {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut data = input.to_vec();
    data.push(0x80);
    while data.len() % 64 != 56 {
        data.push(0);
    }
    data.extend((input.len() as u64 * 8).to_le_bytes());
    for block in data.chunks_exact(64) {
        let words: Vec<u32> = block.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64_usize {
            let (mixed, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), 7 * step % 16),
            };
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(words[word]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4])));
        }
        for (total, part) in state.iter_mut().zip([a, b, c, d]) {
            *total = total.wrapping_add(part);
        }
    }
    state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_rfc_at_every_padding() {
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5_hex(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        let digits = b"12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(md5_hex(digits), "57edf4a22be3c955ac49da2e2107b67a");
        // Lengths around the block's end, checked against another implementation.
        for (length, digest) in
            [(55, "ef1772b6dff9a122358552954ad0df65"), (56, "3b0c8ac703f828b04c6c197006d17218"), (64, "014842d480b571495a4a0363793f7367")]
        {
            assert_eq!(md5_hex(&vec![b'a'; length]), digest, "{length}");
        }
    }
}
