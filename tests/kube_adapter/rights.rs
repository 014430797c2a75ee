//! The chart's roles against what the API server saw: every right is used by some call of the scenarios before.

use std::collections::BTreeSet;

use lowtide::lab::control_plane::AUDIT_LOG;
use serde_json::Value;

use crate::fixture::Fixture;

/// Verb, group, resource with its subresource, and the object's name.
type Call = (String, String, String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the operator's ServiceAccount asked for and was not refused for want of rights.
fn calls(fixture: &Fixture) -> BTreeSet<Call> {
    let path = fixture.workdir.path().join("logs").join(AUDIT_LOG);
    let log = std::fs::read_to_string(&path).unwrap();
    let call = |line: &str| -> Option<Call> {
        let event: Value = serde_json::from_str(line).ok()?;
        let (at, allowed) = (&event["objectRef"], event["responseStatus"]["code"] != 403);
        let kind =
            [text(&at["resource"]), text(&at["subresource"])].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        (allowed && event["user"]["username"] == "system:serviceaccount:lowtide-system:lowtide")
            .then(|| (text(&event["verb"]), text(&at["apiGroup"]), kind, text(&at["name"])))
    };
    log.lines().filter_map(call).collect()
}

/// Every right that the chart's roles hold, one by one; without a name it holds for all objects.
fn rights(fixture: &Fixture) -> Vec<(String, Call)> {
    let of = |args: &[&str]| -> Vec<Value> {
        let list: Value = serde_json::from_str(&fixture.plane.kubectl(args).unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let ours = "app.kubernetes.io/name=lowtide";
    let roles = [of(&["get", "clusterroles", "-l", ours, "-o", "json"]), of(&["get", "roles", "-A", "-l", ours, "-o", "json"])].concat();
    // For people, by aggregation; the operator is not bound to them.
    let of_people = |role: &Value| role["metadata"]["labels"].as_object().unwrap().keys().any(|key| key.contains("aggregate-to"));
    let mut rights = Vec::new();
    for role in roles.iter().filter(|role| !of_people(role)) {
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

pub async fn the_roles_hold_nothing_that_no_call_uses(fixture: &Fixture) {
    let (calls, rights) = (calls(fixture), rights(fixture));
    assert!(rights.len() > 30 && calls.len() > 30, "{} rights, {} calls", rights.len(), calls.len());
    let used = |(verb, group, resource, name): &Call| {
        calls.iter().any(|call| (&call.0, &call.1, &call.2) == (verb, group, resource) && (name.is_empty() || call.3 == *name))
    };
    let unused: Vec<String> = rights.iter().filter(|(_, right)| !used(right)).map(|(role, right)| format!("{role}: {right:?}")).collect();
    assert!(unused.is_empty(), "no call uses these rights: {unused:#?}");
}
