//! Whether AWS would allow what the operator does, asked without doing it.
//!
//! Decides: that `DryRunOperation` means yes, and that only a denial means no: EC2 looks at rights before it looks at what is named
//! (EC2 API reference, "DryRun"), so a template that does not exist is found missing only by who may launch.

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetType, InstanceType as SdkInstanceType, RequestLaunchTemplateData, ResourceType,
    TargetCapacitySpecificationRequest,
};

use super::AwsCloud;
use super::conversion::tag_specification;
use super::errors::from_sdk;
use crate::core::units::ids::Region;
use crate::ports::CloudError;

/// A name that nobody gives a template.
const NO_TEMPLATE: &str = "lowtide-check-dry-run";
/// Data without anything in it are left out of the request, and then EC2 looks at no rights.
const ANY_TYPE: &str = "g6.xlarge";

impl AwsCloud {
    /// Whether a launch template may be created.
    ///
    /// # Errors
    /// The denial, or that there was no answer.
    pub async fn may_create_template(&self, region: &Region) -> Result<(), CloudError> {
        let data = RequestLaunchTemplateData::builder().instance_type(SdkInstanceType::from(ANY_TYPE)).build();
        let ask = self.clients(region).ec2.create_launch_template().dry_run(true).launch_template_name(NO_TEMPLATE);
        let ask = ask.launch_template_data(data).tag_specifications(tag_specification(ResourceType::LaunchTemplate, &self.own_tags()));
        judged(ask.send().await.map(drop).map_err(|error| (code_of(&error), from_sdk("CreateLaunchTemplate", region, error))))
    }

    /// Whether a machine may be asked for in `subnet`.
    ///
    /// # Errors
    /// The denial, or that there was no answer.
    pub async fn may_launch(&self, region: &Region, subnet: &str) -> Result<(), CloudError> {
        let template = FleetLaunchTemplateSpecificationRequest::builder().launch_template_name(NO_TEMPLATE).version("1").build();
        let override_ = FleetLaunchTemplateOverridesRequest::builder().subnet_id(subnet).build();
        let config = FleetLaunchTemplateConfigRequest::builder().launch_template_specification(template).overrides(override_).build();
        let target = DefaultTargetCapacityType::Spot;
        let capacity = TargetCapacitySpecificationRequest::builder().total_target_capacity(1).default_target_capacity_type(target).build();
        let ask = self.clients(region).ec2.create_fleet().dry_run(true).r#type(FleetType::Instant);
        let mut ask = ask.launch_template_configs(config).target_capacity_specification(capacity);
        for kind in [ResourceType::Instance, ResourceType::Volume, ResourceType::Fleet] {
            ask = ask.tag_specifications(tag_specification(kind, &self.own_tags()));
        }
        judged(ask.send().await.map(drop).map_err(|error| (code_of(&error), from_sdk("CreateFleet", region, error))))
    }
}

fn code_of<E: ProvideErrorMetadata, R>(error: &aws_sdk_ec2::error::SdkError<E, R>) -> Option<String> {
    error.as_service_error().and_then(|fault| fault.code()).map(str::to_owned)
}

/// Only a denial is one; what EC2 says of names it has not found is said to those who may.
fn judged(answer: Result<(), (Option<String>, CloudError)>) -> Result<(), CloudError> {
    match answer {
        Ok(()) => Ok(()),
        Err((Some(code), fault)) => {
            let denied = [
                "UnauthorizedOperation",
                "AuthFailure",
                "OptInRequired",
                "Blocked",
                "InvalidClientTokenId",
                "RequestLimitExceeded",
                "RequestExpired",
                // EC2 looks at the form of a request before it looks at rights: it has said nothing of them.
                "MissingParameter",
                "InvalidParameterCombination",
            ];
            if denied.contains(&code.as_str()) { Err(fault) } else { Ok(()) }
        }
        Err((None, fault)) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_denial_says_no() {
        let refused = |code: &str| {
            let fault = CloudError::Refused { code: code.to_owned(), message: String::new() };
            judged(Err((Some(code.to_owned()), fault))).is_ok()
        };
        assert!(
            refused("DryRunOperation") && refused("InvalidLaunchTemplateName.NotFoundException") && refused("InvalidSubnetID.NotFound")
        );
        assert!(!refused("UnauthorizedOperation") && !refused("AuthFailure"));
        let silent = CloudError::Unknown { message: "no answer".to_owned() };
        assert_eq!(judged(Err((None, silent.clone()))), Err(silent));
    }
}
