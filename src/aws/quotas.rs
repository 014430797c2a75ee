//! vCPU quotas: how much of a family a region lets this account run, per market.
//!
//! New accounts have zero, and spot and on-demand differ, so quotas are read, never assumed.

use aws_sdk_servicequotas::types::ServiceQuota;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::core::ids::{InstanceType, Region};
use crate::core::market::CapacityType;
use crate::engine::ports::CloudError;

use super::AwsCloud;
use super::conversion::needed;
use super::errors::from_sdk;

/// Instance families that share a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaFamily {
    /// G and VT: `g4dn` to `g7e`, `gr6`, `vt1`.
    GAndVt,
    /// P: `p3` to `p6`.
    P,
}

/// Quota codes of service `ec2`.
///
/// Source: EC2 user guide, "Spot Instance quotas"; codes as Service Quotas lists them.
const CODES: [(QuotaFamily, CapacityType, &str); 4] = [
    (QuotaFamily::GAndVt, CapacityType::Spot, "L-3819A6DF"),
    (QuotaFamily::P, CapacityType::Spot, "L-7212CCBC"),
    (QuotaFamily::GAndVt, CapacityType::OnDemand, "L-DB2E81BA"),
    (QuotaFamily::P, CapacityType::OnDemand, "L-417A185B"),
];

/// A quota as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcpuQuota {
    /// Which types share it.
    pub family: QuotaFamily,
    /// Which market it limits.
    pub capacity_type: CapacityType,
    /// vCPUs that may run at once.
    pub vcpus: i64,
}

/// The family whose quota a type falls under; `None` for families we know no code of.
pub fn quota_family(instance_type: &InstanceType) -> Option<QuotaFamily> {
    let family = instance_type.as_str().split('.').next().unwrap_or_default();
    let letters: String = family.chars().take_while(char::is_ascii_alphabetic).collect();
    match letters.as_str() {
        "g" | "gr" | "vt" => Some(QuotaFamily::GAndVt),
        "p" => Some(QuotaFamily::P),
        _ => None,
    }
}

impl AwsCloud {
    /// The vCPU quotas of a region for GPU families, spot and on-demand. A quota nobody changed is at AWS' default.
    ///
    /// # Errors
    /// As every call: [`CloudError::Refused`] without `servicequotas:GetServiceQuota`.
    pub async fn vcpu_quotas(&self, region: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        let mut quotas = Vec::with_capacity(CODES.len());
        for (family, capacity_type, code) in CODES {
            let quota = self.service_quota(region, code).await?;
            let value = needed(quota.and_then(|quota| quota.value()), "GetServiceQuota", code)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fall_under_the_quota_of_their_family() {
        for (name, family) in [
            ("g6.xlarge", Some(QuotaFamily::GAndVt)),
            ("gr6f.4xlarge", Some(QuotaFamily::GAndVt)),
            ("g4dn.xlarge", Some(QuotaFamily::GAndVt)),
            ("gr6.4xlarge", Some(QuotaFamily::GAndVt)),
            ("vt1.3xlarge", Some(QuotaFamily::GAndVt)),
            ("p5.48xlarge", Some(QuotaFamily::P)),
            ("p6-b200.48xlarge", Some(QuotaFamily::P)),
            ("m7i.large", None),
        ] {
            assert_eq!(quota_family(&name.into()), family, "{name}");
        }
    }
}
