//! The interruption queue of a region: receiving and deleting messages.
//!
//! A message is deleted only when its effect is durable: SQS delivers it again until then, and occasionally twice anyway.

use std::sync::PoisonError;

use crate::core::units::ids::Region;
use crate::ports::{CloudError, QueueMessage};

use super::conversion::needed;
use super::errors::from_sdk;
use super::{AwsCloud, notice};

/// SQS hands out at most ten messages at once (SQS API reference).
const MOST_MESSAGES: i32 = 10;
/// How long a received message stays hidden from others: long enough for a pass, short enough for a crash.
const HIDDEN_SECONDS: i32 = 20;

impl AwsCloud {
    /// The URL of a queue given by name; a URL is used as it is.
    async fn queue_url(&self, region: &Region, queue: &str) -> Result<String, CloudError> {
        if queue.starts_with("https://") || queue.starts_with("http://") {
            return Ok(queue.to_owned());
        }
        let clients = self.clients(region);
        if let Some(url) = clients.queue_urls.lock().unwrap_or_else(PoisonError::into_inner).get(queue) {
            return Ok(url.clone());
        }
        let answer = clients.sqs.get_queue_url().queue_name(queue).send().await;
        let answer = answer.map_err(|error| from_sdk("GetQueueUrl", region, error))?;
        let url = needed(answer.queue_url, "GetQueueUrl", "QueueUrl")?;
        clients.queue_urls.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned(), url.clone());
        Ok(url)
    }

    /// Whether the queue is there: its URL. Receives nothing, so no message is hidden from the operator.
    ///
    /// # Errors
    /// What SQS answered.
    pub async fn queue_is_there(&self, region: &Region, queue: &str) -> Result<String, CloudError> {
        self.queue_url(region, queue).await
    }

    /// A queue that was deleted and recreated may have another URL: it is looked up again after a refusal.
    fn forget_queue_url(&self, region: &Region, queue: &str) {
        self.clients(region).queue_urls.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    /// Waits for messages.
    pub(super) async fn receive_messages(&self, region: &Region, queue: &str) -> Result<Vec<QueueMessage>, CloudError> {
        let url = self.queue_url(region, queue).await?;
        let wait = i32::try_from(self.settings.timeouts.receive_wait.as_secs()).unwrap_or(20).min(20);
        let ask = self.clients(region).sqs_waiting.receive_message().queue_url(url);
        let ask = ask.max_number_of_messages(MOST_MESSAGES).wait_time_seconds(wait).visibility_timeout(HIDDEN_SECONDS);
        let answer = ask.send().await.map_err(|error| {
            self.forget_queue_url(region, queue);
            from_sdk("ReceiveMessage", region, error)
        })?;
        let read = |message: aws_sdk_sqs::types::Message| {
            let receipt = needed(message.receipt_handle, "ReceiveMessage", "ReceiptHandle")?;
            Ok(QueueMessage { receipt, content: notice::parse(&message.body.unwrap_or_default(), region) })
        };
        answer.messages.unwrap_or_default().into_iter().map(read).collect()
    }

    /// Deletes a message.
    pub(super) async fn delete_message(&self, region: &Region, queue: &str, receipt: &str) -> Result<(), CloudError> {
        let url = self.queue_url(region, queue).await?;
        let answer = self.clients(region).sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await;
        answer.map(|_| ()).map_err(|error| {
            self.forget_queue_url(region, queue);
            from_sdk("DeleteMessage", region, error)
        })
    }
}
