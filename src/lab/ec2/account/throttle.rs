//! Token buckets per region and API. Source: "Request throttling for the Amazon EC2 API", devguide/ec2-api-throttling.html.

use crate::core::units::ids::Region;
use crate::core::units::time::Timestamp;

use super::super::fault::Fault;
use super::Account;

/// A bucket; tokens are counted in thousandths so that refill per second is refill per millisecond.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    milli_tokens: i64,
    filled_at: Timestamp,
}

/// Bucket size and refill per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    size: i64,
    per_second: i64,
}

fn request_limit(action: &str, unfiltered: bool) -> Limit {
    let (size, per_second) = match action {
        "RunInstances" => (5, 2),
        "TerminateInstances" => (100, 5),
        "CreateTags" => (100, 10),
        "CreateLaunchTemplateVersion" => (100, 5),
        "DescribeInstances" | "DescribeInstanceStatus" | "DescribeSpotInstanceRequests" if unfiltered => (50, 10),
        other if other.starts_with("Describe") || other.starts_with("Get") => (100, 20),
        _ => (50, 5),
    };
    Limit { size, per_second }
}

/// The size of an action's bucket of requests and its refill per second, in each region.
pub fn request_bucket(action: &str) -> (i64, i64) {
    let limit = request_limit(action, false);
    (limit.size, limit.per_second)
}

fn resource_limit(action: &str) -> Option<Limit> {
    match action {
        "RunInstances" => Some(Limit { size: 1_000, per_second: 2 }),
        "TerminateInstances" => Some(Limit { size: 1_000, per_second: 20 }),
        _ => None,
    }
}

impl Account {
    /// Takes the tokens of one call; `unfiltered` is a Describe call with neither filter nor paging.
    ///
    /// # Errors
    /// `RequestLimitExceeded` (503) when the bucket is empty.
    pub fn take_request_token(&mut self, region: &Region, action: &str, unfiltered: bool, now: Timestamp) -> Result<(), Fault> {
        let limit = request_limit(action, unfiltered);
        let name = if unfiltered { format!("{action} unfiltered") } else { action.to_owned() };
        self.take(region, name, limit, 1, now)
    }

    /// Takes the tokens of `count` instances that an action is about.
    ///
    /// # Errors
    /// `RequestLimitExceeded` (503) when the resource bucket has too few.
    pub fn take_resource_tokens(&mut self, region: &Region, action: &str, count: i64, now: Timestamp) -> Result<(), Fault> {
        match resource_limit(action) {
            Some(limit) => self.take(region, format!("{action} resources"), limit, count, now),
            None => Ok(()),
        }
    }

    fn take(&mut self, region: &Region, name: String, limit: Limit, count: i64, now: Timestamp) -> Result<(), Fault> {
        if !self.settings.throttling {
            return Ok(());
        }
        let full = limit.size * 1_000;
        let bucket = self.buckets.entry((region.clone(), name)).or_insert(Bucket { milli_tokens: full, filled_at: now });
        let gained = limit.per_second.saturating_mul(now.since(bucket.filled_at).0.max(0));
        *bucket = Bucket { milli_tokens: bucket.milli_tokens.saturating_add(gained).min(full), filled_at: now };
        if bucket.milli_tokens < count * 1_000 {
            return Err(Fault::new(503, "RequestLimitExceeded", "Request limit exceeded."));
        }
        bucket.milli_tokens -= count * 1_000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPENED, account};
    use crate::core::units::time::Millis;

    #[test]
    fn run_instances_has_five_tokens_and_gains_two_a_second_per_region() {
        let mut account = account();
        account.settings.throttling = true;
        let (here, there) = ("us-east-1".into(), "eu-west-1".into());
        for _ in 0..5 {
            account.take_request_token(&here, "RunInstances", false, OPENED).unwrap();
        }
        let refusal = account.take_request_token(&here, "RunInstances", false, OPENED).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (503, "RequestLimitExceeded"));
        account.take_request_token(&there, "RunInstances", false, OPENED).unwrap();
        let later = OPENED + Millis(1_000);
        let taken = (0..5).filter(|_| account.take_request_token(&here, "RunInstances", false, later).is_ok()).count();
        assert_eq!(taken, 2);
    }
}
