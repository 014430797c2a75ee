//! vCPU quotas: how much of a family a region lets this account run, per market.
//!
//! New accounts have zero, and spot and on-demand differ, so quotas are read, never assumed.

use aws_sdk_servicequotas::types::ServiceQuota;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::core::market::CapacityType;
use crate::core::market::quota::{QuotaFamily, VcpuQuota};
use crate::core::units::ids::Region;
use crate::ports::CloudError;

use super::AwsCloud;
use super::conversion::needed;
use super::errors::from_sdk;

/// Quota codes of service `ec2`.
///
/// Source: EC2 user guide, "Spot Instance quotas"; codes as Service Quotas lists them.
const CODES: [(QuotaFamily, CapacityType, &str); 4] = [
    (QuotaFamily::GAndVt, CapacityType::Spot, "L-3819A6DF"),
    (QuotaFamily::P, CapacityType::Spot, "L-7212CCBC"),
    (QuotaFamily::GAndVt, CapacityType::OnDemand, "L-DB2E81BA"),
    (QuotaFamily::P, CapacityType::OnDemand, "L-417A185B"),
];

/// More than a region has: a number beyond it is none, and would be the limit of nothing.
const MOST_VCPUS: f64 = 1e9;

impl AwsCloud {
    /// The vCPU quotas of a region for GPU families, spot and on-demand. A quota that was never changed is at AWS's default.
    ///
    /// As every call: [`CloudError::Refused`] without `servicequotas:GetServiceQuota`.
    pub(super) async fn service_quotas(&self, region: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        let mut quotas = Vec::with_capacity(CODES.len());
        for (family, capacity_type, code) in CODES {
            let quota = self.service_quota(region, code).await?;
            let value = quota.and_then(|quota| quota.value()).filter(|value| (0.0..=MOST_VCPUS).contains(value));
            let value = needed(value, "GetServiceQuota", &format!("a number of vCPUs for {code}"))?;
            quotas.push(VcpuQuota { family, capacity_type, vcpus: value as i64 });
        }
        Ok(quotas)
    }

    async fn service_quota(&self, region: &Region, code: &str) -> Result<Option<ServiceQuota>, CloudError> {
        let client = &self.clients(region).quotas;
        match client.get_service_quota().service_code("ec2").quota_code(code).send().await {
            Ok(answer) => Ok(answer.quota),
            Err(error) if error.as_service_error().and_then(|fault| fault.code()) == Some("NoSuchResourceException") => {
                let default = client.get_aws_default_service_quota().service_code("ec2").quota_code(code).send().await;
                default.map(|answer| answer.quota).map_err(|error| from_sdk("GetAWSDefaultServiceQuota", region, error))
            }
            Err(error) => Err(from_sdk("GetServiceQuota", region, error)),
        }
    }
}
