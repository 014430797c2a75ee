//! The chart's roles against what the API server saw: every right is used by some call of the tests.
//!
//! Included by the tests that play the operator, its uninstall hook and the console, each with the rights of its own ServiceAccount.

use std::collections::BTreeSet;
use std::path::Path;

use lowtide::lab::control_plane::{AUDIT_LOG, ControlPlane};
use serde_json::Value;

/// Verb, group, resource with its subresource, and the object's name.
type Call = (String, String, String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the ServiceAccount `account` of `lowtide-system` asked for and was not refused, for want of rights or for what it asked; `workdir` is the control plane's.
fn calls(workdir: &Path, account: &str) -> BTreeSet<Call> {
    let log = std::fs::read_to_string(workdir.join("logs").join(AUDIT_LOG)).unwrap();
    let user = format!("system:serviceaccount:lowtide-system:{account}");
    let call = |line: &str| -> Option<Call> {
        let event: Value = serde_json::from_str(line).ok()?;
        // What is not there, or was there already, was asked with that right; what is refused was not.
        let code = event["responseStatus"]["code"].as_u64()?;
        let (at, allowed) = (&event["objectRef"], (200..300).contains(&code) || [404, 409, 429].contains(&code));
        let kind =
            [text(&at["resource"]), text(&at["subresource"])].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        (allowed && event["user"]["username"] == user.as_str())
            .then(|| (text(&event["verb"]), text(&at["apiGroup"]), kind, text(&at["name"])))
    };
    log.lines().filter_map(call).collect()
}

/// The roles that bindings give to the ServiceAccount `account` of `lowtide-system`.
fn roles_of(plane: &ControlPlane, account: &str) -> Vec<Value> {
    let of = |args: &[&str]| -> Vec<Value> {
        let list: Value = serde_json::from_str(&plane.kubectl(args).unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let bindings = [of(&["get", "clusterrolebindings", "-o", "json"]), of(&["get", "rolebindings", "-A", "-o", "json"])].concat();
    let bound = |binding: &Value| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|of| of["kind"] == "ServiceAccount" && of["name"] == account && of["namespace"] == "lowtide-system")
    };
    let names: BTreeSet<String> =
        bindings.iter().filter(|binding| bound(binding)).map(|binding| text(&binding["roleRef"]["name"])).collect();
    let roles = [of(&["get", "clusterroles", "-o", "json"]), of(&["get", "roles", "-A", "-o", "json"])].concat();
    roles.into_iter().filter(|role| names.contains(&text(&role["metadata"]["name"]))).collect()
}

/// Every right that these roles hold, one by one; without a name it holds for all objects.
fn rights(roles: &[Value]) -> Vec<(String, Call)> {
    let mut rights = Vec::new();
    for role in roles {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let all = |field: &str| rule[field].as_array().into_iter().flatten().map(text).collect::<Vec<String>>();
            let names = if all("resourceNames").is_empty() { vec![String::new()] } else { all("resourceNames") };
            for (group, resource) in
                all("apiGroups").iter().flat_map(|group| all("resources").into_iter().map(move |resource| (group.clone(), resource)))
            {
                for (verb, name) in all("verbs").iter().flat_map(|verb| names.iter().map(move |name| (verb.clone(), name.clone()))) {
                    rights.push((text(&role["metadata"]["name"]), (verb, group.clone(), resource.clone(), name)));
                }
            }
        }
    }
    rights
}

/// Fails if the ServiceAccount holds a right that it never used, or fewer than `least` rights: then nothing was compared.
pub fn assert_every_right_was_used(plane: &ControlPlane, workdir: &Path, account: &str, least: usize) {
    let (calls, rights) = (calls(workdir, account), rights(&roles_of(plane, account)));
    assert!(rights.len() >= least && calls.len() >= least, "{account}: {} rights, {} calls", rights.len(), calls.len());
    let used = |(verb, group, resource, name): &Call| {
        calls.iter().any(|call| (&call.0, &call.1, &call.2) == (verb, group, resource) && (name.is_empty() || call.3 == *name))
    };
    let unused: Vec<String> = rights.iter().filter(|(_, right)| !used(right)).map(|(role, right)| format!("{role}: {right:?}")).collect();
    assert!(unused.is_empty(), "no call of {account} uses these rights: {unused:#?}");
}
