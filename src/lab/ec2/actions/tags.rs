//! CreateTags, DeleteTags, DescribeTags, for instances and launch templates.

use std::collections::BTreeMap;

use crate::core::units::ids::InstanceId;

use super::super::account::Account;
use super::super::fault::Fault;
use super::super::query::page;
use super::{Call, answered};

/// EC2's limit on user tags of one resource.
const MOST_TAGS: usize = 50;

fn tags_of<'a>(account: &'a mut Account, call: Call<'_>, id: &str) -> Result<&'a mut BTreeMap<String, String>, Fault> {
    let missing = |code: &str| Err(Fault::bad(code, format!("The ID '{id}' does not exist")));
    if id.starts_with("lt-") {
        return match account.templates.get_mut(id).filter(|template| template.region == *call.region) {
            Some(template) => Ok(&mut template.tags),
            None => missing("InvalidLaunchTemplateId.NotFound"),
        };
    }
    match account.instances.get_mut(&InstanceId::from(id)).filter(|instance| instance.region == *call.region) {
        Some(instance) => Ok(&mut instance.tags),
        None => missing(if id.starts_with("i-") { "InvalidInstanceID.NotFound" } else { "InvalidID" }),
    }
}

pub(super) fn create_tags(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let resources = call.params.list("ResourceId");
    let tags: Vec<(String, String)> = call
        .params
        .members("Tag")
        .iter()
        .filter_map(|tag| Some((tag.get("Key")?.to_owned(), tag.get("Value").unwrap_or_default().to_owned())))
        .collect();
    if resources.is_empty() || tags.is_empty() {
        return Err(Fault::missing(if resources.is_empty() { "resourceIdSet" } else { "tagSet" }));
    }
    if let Some((key, _)) = tags.iter().find(|(key, _)| key.starts_with("aws:")) {
        return Err(Fault::value(key, "Tag", "Tag keys starting with 'aws:' are reserved for internal use"));
    }
    for id in &resources {
        let present = tags_of(account, call, id)?;
        let own = present.keys().filter(|key| !key.starts_with("aws:") && !tags.iter().any(|(new, _)| new == *key)).count();
        if own + tags.len() > MOST_TAGS {
            return Err(Fault::bad("TagLimitExceeded", "More than 50 tags"));
        }
    }
    for id in &resources {
        tags_of(account, call, id)?.extend(tags.clone());
    }
    answered(|xml| {
        xml.text("return", true);
    })
}

pub(super) fn delete_tags(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    for id in call.params.list("ResourceId") {
        let present = tags_of(account, call, &id)?;
        for tag in call.params.members("Tag") {
            let key = tag.get("Key").unwrap_or_default();
            if tag.get("Value").is_none_or(|value| present.get(key).is_some_and(|found| found == value)) {
                present.remove(key);
            }
        }
    }
    answered(|xml| {
        xml.text("return", true);
    })
}

pub(super) fn describe_tags(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let filters = call.params.filters();
    let mut rows: Vec<(String, &'static str, String, String)> = Vec::new();
    let instances = account.instances.values().filter(|instance| instance.region == *call.region && account.is_visible(instance, call.now));
    let instances = instances.map(|instance| (instance.id.to_string(), "instance", &instance.tags));
    let templates = account.templates.values().filter(|template| template.region == *call.region);
    let templates = templates.map(|template| (template.id.clone(), "launch-template", &template.tags));
    for (id, kind, tags) in instances.chain(templates) {
        for (key, value) in tags {
            let fits = filters.iter().all(|filter| match filter.name.as_str() {
                "resource-id" => filter.matches(&id),
                "resource-type" => filter.matches(kind),
                "key" => filter.matches(key),
                "value" => filter.matches(value),
                other => other.strip_prefix("tag:").is_some_and(|wanted| wanted == key && filter.matches(value)),
            });
            if fits {
                rows.push((id.clone(), kind, key.clone(), value.clone()));
            }
        }
    }
    let (rows, next) = page(&rows, call.params, 1_000)?;
    answered(|xml| {
        xml.list("tagSet", rows, |xml, (id, kind, key, value)| {
            xml.text("resourceId", id).text("resourceType", kind).text("key", key).text("value", value);
        });
        xml.maybe("nextToken", next);
    })
}
