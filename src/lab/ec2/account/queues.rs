//! A standard SQS queue: at-least-once, unordered to its readers, with visibility timeouts. And EventBridge's envelope.

use serde_json::{Value, json};

use crate::core::units::ids::{Region, derive_uuid};
use crate::core::units::time::{Millis, Timestamp};

use super::places::instance_arn;
use super::{ACCOUNT, Account};

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// SQS' id, one per message however often it is received.
    pub id: String,
    /// The body as sent.
    pub body: String,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// From when on it can be received (again).
    pub visible_at: Timestamp,
    /// How often it was received.
    pub receive_count: u32,
    /// When it was first received.
    pub first_received_at: Option<Timestamp>,
}

/// One queue.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    messages: Vec<Message>,
}

impl Queue {
    /// Adds a message.
    pub fn send(&mut self, id: String, body: String, now: Timestamp) {
        self.messages.push(Message { id, body, sent_at: now, visible_at: now, receive_count: 0, first_received_at: None });
    }

    /// Hands out up to `most` visible messages and hides them for `visibility`.
    pub fn receive(&mut self, most: usize, visibility: Millis, now: Timestamp) -> Vec<(Message, String)> {
        let visible = self.messages.iter_mut().filter(|message| message.visible_at <= now).take(most);
        visible
            .map(|message| {
                message.visible_at = now + visibility;
                message.receive_count += 1;
                message.first_received_at.get_or_insert(now);
                (message.clone(), receipt(message))
            })
            .collect()
    }

    /// Deletes the message a receipt handle stands for. As with SQS, a handle of a message already gone is no error.
    pub fn delete(&mut self, handle: &str) -> bool {
        let before = self.messages.len();
        self.messages.retain(|message| !handle.starts_with(&format!("{}#", message.id)));
        before != self.messages.len()
    }

    /// Messages in the queue, visible or in flight.
    pub fn depth(&self) -> usize {
        self.messages.len()
    }
}

fn receipt(message: &Message) -> String {
    format!("{}#{}", message.id, message.receive_count)
}

impl Account {
    /// The interruption queue of a region.
    pub fn queue(&mut self, region: &Region) -> &mut Queue {
        self.queues.entry(region.clone()).or_default()
    }

    /// Sends `body` to the region's queue and gives the message id.
    pub fn send_message(&mut self, region: &Region, body: String, now: Timestamp) -> String {
        let id = derive_uuid(&["message", &self.next_sequence().to_string()]).to_string();
        self.queue(region).send(id.clone(), body, now);
        id
    }

    /// An EventBridge event about one instance, as its rule puts it into the queue.
    pub(super) fn event(&mut self, region: &Region, instance: &str, detail_type: &str, detail: &Value, now: Timestamp) -> String {
        let id = derive_uuid(&["event", &self.next_sequence().to_string()]).to_string();
        // EventBridge writes whole seconds.
        let time = format!("{}Z", now.to_rfc3339().split('.').next().unwrap_or_default());
        json!({
            "version": "0", "id": id, "detail-type": detail_type, "source": "aws.ec2", "account": ACCOUNT, "time": time,
            "region": region.as_str(), "resources": [instance_arn(region, instance)], "detail": detail,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undeleted_message_comes_back_after_its_visibility_timeout() {
        let mut queue = Queue::default();
        let at = |seconds: i64| Timestamp(seconds * 1_000);
        queue.send("m1".into(), "body".into(), at(0));
        let first = queue.receive(10, Millis::from_secs(20), at(1));
        assert_eq!(first.len(), 1);
        assert!(queue.receive(10, Millis::from_secs(20), at(20)).is_empty());
        let again = queue.receive(10, Millis::from_secs(20), at(21));
        assert_eq!((again[0].0.receive_count, &again[0].0.id), (2, &first[0].0.id));
        assert!(queue.delete(&again[0].1) && !queue.delete(&again[0].1));
        assert_eq!(queue.depth(), 0);
    }
}
