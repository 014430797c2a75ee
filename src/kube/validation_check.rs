//! Whether the chart's admission policies hold: the one that keeps owners from what lowtide writes on their pods, and the guard of the operator's own rights.
//!
//! Decides: what counts as holding: the policy is there and says what the chart's says, refuses what it cannot evaluate, and is bound everywhere so that it denies.
//! Does not: make policies (the chart does), or wait (see `cli::operator`).

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
};
use kube::{Api, Client};
use sha2::{Digest, Sha256};

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

/// Looks for the policy `name` and its binding of the same name. With `sum`, the policy must say what the one with this [`sum_of`] says.
pub async fn validation(client: &Client, name: &str, sum: Option<&str>) -> Validation {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let policy = match call("read an admission policy", policies.get_opt(name)).await {
        Ok(Some(policy)) => policy.spec.unwrap_or_default(),
        Ok(None) => return Validation::Absent(format!("there is no ValidatingAdmissionPolicy {name}")),
        Err(fault) => return Validation::Unknown(fault.to_string()),
    };
    if let Some(fault) = fault_of_policy(name, &policy, sum) {
        return Validation::Absent(fault);
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let binding = match call("read the binding of an admission policy", bindings.get_opt(name)).await {
        Ok(Some(binding)) => binding.spec.unwrap_or_default(),
        Ok(None) => return Validation::Absent(format!("ValidatingAdmissionPolicy {name} is bound by nothing of its name")),
        Err(fault) => return Validation::Unknown(fault.to_string()),
    };
    fault_of_binding(name, &binding).map_or(Validation::InForce, Validation::Absent)
}

fn fault_of_policy(name: &str, policy: &ValidatingAdmissionPolicySpec, sum: Option<&str>) -> Option<String> {
    if policy.failure_policy.as_deref().is_some_and(|policy| policy != "Fail") {
        return Some(format!("ValidatingAdmissionPolicy {name} lets pass what it cannot evaluate (failurePolicy)"));
    }
    let matched = policy.match_constraints.clone().unwrap_or_default();
    let excludes = matched.exclude_resource_rules.is_some_and(|rules| !rules.is_empty());
    let objects = matched.object_selector.unwrap_or_default();
    let selects = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector.match_expressions.as_ref().is_some_and(|all| !all.is_empty())
    };
    let scoped = matched.resource_rules.iter().flatten().any(|rule| rule.scope.as_deref().is_some_and(|scope| scope != "*"));
    if excludes || selects(&objects) || policy.param_kind.is_some() || scoped {
        return Some(format!(
            "ValidatingAdmissionPolicy {name} does not look at everything: it has excludeResourceRules, an objectSelector, a paramKind or a rule's scope"
        ));
    }
    let found = sum_of(policy);
    sum.filter(|expected| *expected != found)
        .map(|expected| format!("ValidatingAdmissionPolicy {name} is not the chart's: expected the sum {expected}, found {found}"))
}

fn fault_of_binding(name: &str, binding: &ValidatingAdmissionPolicyBindingSpec) -> Option<String> {
    let denies = binding.validation_actions.iter().flatten().any(|action| action == "Deny");
    if !denies || binding.policy_name.as_deref() != Some(name) {
        return Some(format!("ValidatingAdmissionPolicyBinding {name} does not deny what the policy forbids"));
    }
    (binding.match_resources.is_some() || binding.param_ref.is_some())
        .then(|| format!("ValidatingAdmissionPolicyBinding {name} does not apply everywhere: it has matchResources or a paramRef"))
}

/// SHA-256 of what a policy looks at and what it says, line by line: conditions, variables, validations, rules, and which namespaces it leaves out. The chart
/// computes the same from what it renders (`lowtide.policySum`); defaults that the API server fills in are not part of it.
pub fn sum_of(policy: &ValidatingAdmissionPolicySpec) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(policy.match_conditions.iter().flatten().map(|it| format!("condition {}: {}", it.name, it.expression)));
    lines.extend(policy.variables.iter().flatten().map(|it| format!("variable {}: {}", it.name, it.expression)));
    lines.extend(policy.validations.iter().flatten().map(|it| format!("validation: {}", it.expression)));
    let matched = policy.match_constraints.clone().unwrap_or_default();
    for rule in matched.resource_rules.unwrap_or_default() {
        let all = |words: Option<Vec<String>>| words.unwrap_or_default().join(",");
        let (groups, versions) = (all(rule.api_groups), all(rule.api_versions));
        lines.push(format!("rule: {groups} {versions} {} {} {}", all(rule.operations), all(rule.resources), all(rule.resource_names)));
    }
    let namespaces = matched.namespace_selector.unwrap_or_default();
    lines.extend(namespaces.match_labels.iter().flatten().map(|(key, value)| format!("namespaces: {key} {value}")));
    for it in namespaces.match_expressions.unwrap_or_default() {
        lines.push(format!("namespaces: {} {} {}", it.key, it.operator, it.values.unwrap_or_default().join(",")));
    }
    Sha256::digest(lines.join("\n").as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
