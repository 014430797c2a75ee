//! Whether the chart's admission policies hold: the one that keeps owners from what lowtide writes on their pods, and the guard of the operator's own rights.
//!
//! Decides: what counts as holding: the policy is there, refuses what it cannot evaluate, and is bound everywhere so that it denies. Does not: make policies (the chart does), or wait (see `cli::operator`).

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};

use super::errors::call;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// What the policy forbids is refused.
    InForce,
    /// It is not, and this is why.
    Absent(String),
    /// It cannot be read.
    Unknown(String),
}

/// Looks for the policy `name` and its binding of the same name.
pub async fn validation(client: &Client, name: &str) -> Validation {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    match call("read an admission policy", policies.get_opt(name)).await {
        Ok(Some(policy)) => {
            let spec = policy.spec.unwrap_or_default();
            if spec.failure_policy.as_deref().is_some_and(|policy| policy != "Fail") {
                return Validation::Absent(format!("ValidatingAdmissionPolicy {name} lets pass what it cannot evaluate (failurePolicy)"));
            }
            if spec.validations.is_none_or(|all| all.is_empty()) {
                return Validation::Absent(format!("ValidatingAdmissionPolicy {name} forbids nothing"));
            }
        }
        Ok(None) => return Validation::Absent(format!("there is no ValidatingAdmissionPolicy {name}")),
        Err(fault) => return Validation::Unknown(fault.to_string()),
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let binding = match call("read the binding of an admission policy", bindings.get_opt(name)).await {
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
