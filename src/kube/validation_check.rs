//! Whether owners are kept from what lowtide writes on their pods: the chart's policy is there, and it denies.
//!
//! Decides: what counts as kept. Does not: make policies (the chart does), or wait (see `cli::operator`).

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};

use super::errors::call;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// A change of our marks is refused.
    InForce,
    /// It is not, and this is why.
    Absent(String),
    /// It cannot be read.
    Unknown(String),
}

/// Looks for the policy `name` and its binding of the same name.
pub async fn validation(client: &Client, name: &str) -> Validation {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    match call("read the admission policy of lowtide's marks", policies.get_opt(name)).await {
        Ok(Some(_)) => {}
        Ok(None) => return Validation::Absent(format!("there is no ValidatingAdmissionPolicy {name}")),
        Err(fault) => return Validation::Unknown(fault.to_string()),
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let binding = match call("read the binding of the admission policy", bindings.get_opt(name)).await {
        Ok(Some(binding)) => binding.spec.unwrap_or_default(),
        Ok(None) => return Validation::Absent(format!("ValidatingAdmissionPolicy {name} is bound by nothing of its name")),
        Err(fault) => return Validation::Unknown(fault.to_string()),
    };
    let denies = binding.validation_actions.iter().flatten().any(|action| action == "Deny");
    if !denies || binding.policy_name.as_deref() != Some(name) {
        return Validation::Absent(format!("ValidatingAdmissionPolicyBinding {name} does not deny what the policy forbids"));
    }
    if binding.match_resources.is_some() || binding.param_ref.is_some() {
        return Validation::Absent(format!(
            "ValidatingAdmissionPolicyBinding {name} does not apply everywhere: it has matchResources or a paramRef"
        ));
    }
    Validation::InForce
}
