//! What an AWS error code means to us: one table, each row with its source.
//!
//! Decides: whether a fault is about capacity, quota, pace, a used token or configuration.
//! Does not: act on it (see the core), or retry (see the SDK's retries, off for launches).

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::core::units::ids::Region;
use crate::ports::CloudError;

/// The kinds of [`CloudError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoCapacity,
    Quota,
    Throttled,
    TokenUsed,
    TokenEnded,
    Refused,
    Unknown,
}

/// EC2 API reference, "Error codes for the Amazon EC2 API".
const EC2_CODES: &str = "EC2 API reference, error codes";
/// Karpenter's provider treats it as missing capacity (`pkg/errors`).
const KARPENTER: &str = "aws/karpenter-provider-aws pkg/errors";
/// "Ensuring idempotency in Amazon EC2 API requests".
const IDEMPOTENCY: &str = "EC2 developer guide, idempotency";
/// Codes that every AWS service shares.
const COMMON: &str = "AWS common errors; throttling codes of the SDK's retry classifier";
/// "Amazon SQS API reference".
const SQS: &str = "SQS API reference";
/// "Service Quotas API reference" and "Pricing API reference".
const OTHERS: &str = "Service Quotas and Pricing API references";

/// Code, what it means to us, and the source. A code that is not listed is judged by its HTTP status.
const TABLE: &[(&str, Kind, &str)] = &[
    ("InsufficientInstanceCapacity", Kind::NoCapacity, EC2_CODES),
    ("InsufficientHostCapacity", Kind::NoCapacity, EC2_CODES),
    ("InsufficientReservedInstanceCapacity", Kind::NoCapacity, EC2_CODES),
    ("InsufficientCapacity", Kind::NoCapacity, EC2_CODES),
    ("InsufficientCapacityOnHost", Kind::NoCapacity, EC2_CODES),
    ("UnfulfillableCapacity", Kind::NoCapacity, KARPENTER),
    ("ReservationCapacityExceeded", Kind::NoCapacity, KARPENTER),
    ("InsufficientFreeAddressesInSubnet", Kind::NoCapacity, KARPENTER),
    // Re-pricing cannot help us: we set no maximum price, so EC2 only says this when there is nothing to sell.
    ("SpotMaxPriceTooLow", Kind::NoCapacity, EC2_CODES),
    ("MaxSpotInstanceCountExceeded", Kind::Quota, EC2_CODES),
    ("VcpuLimitExceeded", Kind::Quota, EC2_CODES),
    ("InstanceLimitExceeded", Kind::Quota, EC2_CODES),
    ("MaxFleetCountExceeded", Kind::Quota, KARPENTER),
    ("RequestLimitExceeded", Kind::Throttled, EC2_CODES),
    ("ResourceCountLimitExceeded", Kind::Throttled, EC2_CODES),
    ("Throttling", Kind::Throttled, COMMON),
    ("ThrottlingException", Kind::Throttled, COMMON),
    ("ThrottledException", Kind::Throttled, COMMON),
    ("RequestThrottled", Kind::Throttled, COMMON),
    ("RequestThrottledException", Kind::Throttled, COMMON),
    ("TooManyRequestsException", Kind::Throttled, COMMON),
    ("SlowDown", Kind::Throttled, COMMON),
    ("EC2ThrottledException", Kind::Throttled, COMMON),
    ("OverLimit", Kind::Throttled, SQS),
    ("AWS.SimpleQueueService.OverLimit", Kind::Throttled, SQS),
    ("IdempotentParameterMismatch", Kind::TokenUsed, IDEMPOTENCY),
    ("IdempotentInstanceTerminated", Kind::TokenEnded, IDEMPOTENCY),
    ("Unsupported", Kind::Refused, EC2_CODES),
    ("UnsupportedOperation", Kind::Refused, EC2_CODES),
    ("UnauthorizedOperation", Kind::Refused, EC2_CODES),
    ("AuthFailure", Kind::Refused, EC2_CODES),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Kind::Refused, EC2_CODES),
    ("OptInRequired", Kind::Refused, EC2_CODES),
    ("Blocked", Kind::Refused, EC2_CODES),
    ("PendingVerification", Kind::Refused, EC2_CODES),
    // CreateFleet's answer for a type that a zone never sold on spot: karpenter-provider-aws issues 2243 and 6483.
    ("InvalidFleetConfiguration", Kind::Refused, KARPENTER),
    ("MaxConfigLimitExceeded", Kind::Refused, EC2_CODES),
    ("InvalidSubnetID.NotFound", Kind::Refused, EC2_CODES),
    ("InvalidAMIID.NotFound", Kind::Refused, EC2_CODES),
    ("InvalidParameterValue", Kind::Refused, EC2_CODES),
    ("AccessDenied", Kind::Refused, COMMON),
    ("AccessDeniedException", Kind::Refused, COMMON),
    ("ExpiredToken", Kind::Refused, COMMON),
    ("ExpiredTokenException", Kind::Refused, COMMON),
    ("InvalidClientTokenId", Kind::Refused, COMMON),
    ("UnrecognizedClientException", Kind::Refused, COMMON),
    ("SignatureDoesNotMatch", Kind::Refused, COMMON),
    ("RequestExpired", Kind::Refused, COMMON),
    ("AWS.SimpleQueueService.NonExistentQueue", Kind::Refused, SQS),
    ("QueueDoesNotExist", Kind::Refused, SQS),
    ("ReceiptHandleIsInvalid", Kind::Refused, SQS),
    ("NoSuchResourceException", Kind::Refused, OTHERS),
    ("InternalError", Kind::Unknown, EC2_CODES),
    ("InternalFailure", Kind::Unknown, COMMON),
    ("ServiceUnavailable", Kind::Unknown, COMMON),
    ("Unavailable", Kind::Unknown, EC2_CODES),
];

/// What a service's error code and message mean. `status` is the HTTP status, if any, and decides for unknown codes: a client error (4xx)
/// stays wrong, anything else may have been executed.
pub fn classify(code: &str, message: &str, status: Option<u16>) -> CloudError {
    let known = TABLE.iter().find(|row| row.0 == code).map(|row| row.1);
    let kind = known.unwrap_or(match status {
        Some(429) => Kind::Throttled,
        Some(400..=499) => Kind::Refused,
        _ => Kind::Unknown,
    });
    let message = if message.is_empty() { "AWS gave no message".to_owned() } else { message.to_owned() };
    let code = code.to_owned();
    match kind {
        Kind::NoCapacity => CloudError::NoCapacity { code, message },
        Kind::Quota => CloudError::Quota { code, message },
        Kind::Throttled => CloudError::Throttled { code, message },
        Kind::TokenUsed => CloudError::TokenUsed { message },
        Kind::TokenEnded => CloudError::TokenEnded { message },
        Kind::Refused => CloudError::Refused { code, message },
        Kind::Unknown => CloudError::Unknown { message: format!("{message} ({code})") },
    }
}

/// What an error inside a CreateFleet answer means. The call itself was executed, so an unknown code is a refusal of this offer.
pub fn classify_in_fleet(code: &str, message: &str) -> CloudError {
    classify(code, message, Some(400))
}

/// What a failed call means. `call` and `region` identify it if the service itself said nothing.
pub fn from_sdk<E>(call: &'static str, region: &Region, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match &error {
        SdkError::ServiceError(context) => match context.err().code() {
            Some(code) => classify(code, context.err().message().unwrap_or_default(), status),
            None => CloudError::Unknown {
                message: format!("{call} in {region} was answered with HTTP {} and no error code", status.unwrap_or(0)),
            },
        },
        SdkError::ConstructionFailure(_) => CloudError::Refused {
            code: "NotSent".to_owned(),
            message: format!("{call} in {region} could not be sent: {}", DisplayErrorContext(&error)),
        },
        SdkError::TimeoutError(_) => CloudError::Unknown { message: format!("{call} in {region} was not answered in time") },
        _ => CloudError::Unknown { message: format!("{call} in {region}: {}", DisplayErrorContext(&error)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(error: &CloudError) -> Kind {
        match error {
            CloudError::NoCapacity { .. } => Kind::NoCapacity,
            CloudError::Quota { .. } => Kind::Quota,
            CloudError::Throttled { .. } => Kind::Throttled,
            CloudError::TokenUsed { .. } => Kind::TokenUsed,
            CloudError::TokenEnded { .. } => Kind::TokenEnded,
            CloudError::Refused { .. } => Kind::Refused,
            CloudError::Unknown { .. } => Kind::Unknown,
        }
    }

    /// Deliberately repeated: a row that is changed or lost must be noticed.
    #[test]
    fn every_code_that_steers_a_purchase_means_what_it_must() {
        for (code, status, kind) in [
            ("InsufficientInstanceCapacity", 500, Kind::NoCapacity),
            ("UnfulfillableCapacity", 400, Kind::NoCapacity),
            ("ReservationCapacityExceeded", 400, Kind::NoCapacity),
            ("InsufficientFreeAddressesInSubnet", 400, Kind::NoCapacity),
            ("SpotMaxPriceTooLow", 400, Kind::NoCapacity),
            ("MaxSpotInstanceCountExceeded", 400, Kind::Quota),
            ("VcpuLimitExceeded", 400, Kind::Quota),
            ("InstanceLimitExceeded", 400, Kind::Quota),
            ("MaxFleetCountExceeded", 400, Kind::Quota),
            ("RequestLimitExceeded", 503, Kind::Throttled),
            ("ThrottlingException", 400, Kind::Throttled),
            ("IdempotentParameterMismatch", 400, Kind::TokenUsed),
            ("IdempotentInstanceTerminated", 400, Kind::TokenEnded),
            ("Unsupported", 400, Kind::Refused),
            ("UnauthorizedOperation", 403, Kind::Refused),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, Kind::Refused),
            ("OptInRequired", 401, Kind::Refused),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Kind::Refused),
            ("InternalError", 500, Kind::Unknown),
        ] {
            assert_eq!(kind_of(&classify(code, "sentence", Some(status))), kind, "{code}");
        }
    }

    #[test]
    fn a_code_stands_in_the_table_once() {
        let mut codes: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn codes_we_do_not_know_are_judged_by_their_status() {
        for (status, kind) in [
            (Some(400), Kind::Refused),
            (Some(404), Kind::Refused),
            (Some(429), Kind::Throttled),
            (Some(500), Kind::Unknown),
            (Some(503), Kind::Unknown),
            (None, Kind::Unknown),
        ] {
            assert_eq!(kind_of(&classify("BrandNewCode", "sentence", status)), kind, "{status:?}");
        }
        assert_eq!(kind_of(&classify_in_fleet("BrandNewCode", "sentence")), Kind::Refused);
    }

    #[test]
    fn code_and_sentence_reach_whoever_reads_the_error() {
        let shown = classify("InsufficientInstanceCapacity", "There is no Spot capacity", Some(500)).to_string();
        assert_eq!(shown, "no capacity: There is no Spot capacity (InsufficientInstanceCapacity)");
    }
}
