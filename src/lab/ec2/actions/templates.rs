//! Launch templates: create, add a version, describe, delete.

use super::super::account::Account;
use super::super::account::templates::{LaunchTemplate, TemplateVersion};
use super::super::fault::Fault;
use super::super::query::{Params, page};
use super::super::xml::Xml;
use super::{Call, answered, tags_for, write_tags};

/// Who the account's calls come from.
const CALLER: &str = "arn:aws:iam::123456789012:user/lowtide";

fn write_template(xml: &mut Xml, template: &LaunchTemplate) {
    xml.text("launchTemplateId", &template.id).text("launchTemplateName", &template.name).text("createTime", template.created_at);
    xml.text("createdBy", CALLER).text("defaultVersionNumber", template.default_version).text("latestVersionNumber", template.latest());
    write_tags(xml, &template.tags);
}

fn write_version(xml: &mut Xml, template: &LaunchTemplate, version: &TemplateVersion) {
    xml.text("launchTemplateId", &template.id).text("launchTemplateName", &template.name).text("versionNumber", version.number);
    xml.maybe("versionDescription", version.description.as_ref()).text("createTime", version.created_at).text("createdBy", CALLER);
    xml.text("defaultVersion", version.number == template.default_version);
    xml.element("launchTemplateData", |xml| {
        let data = &version.data;
        xml.maybe("imageId", data.get("ImageId")).maybe("instanceType", data.get("InstanceType")).maybe("userData", data.get("UserData"));
        xml.maybe("keyName", data.get("KeyName"));
        let profile = data.under("IamInstanceProfile");
        if !profile.is_empty() {
            xml.element("iamInstanceProfile", |xml| {
                xml.maybe("arn", profile.get("Arn")).maybe("name", profile.get("Name"));
            });
        }
        xml.texts("securityGroupIdSet", data.list("SecurityGroupId"));
        xml.list("tagSpecificationSet", data.members("TagSpecification"), |xml, spec| {
            xml.maybe("resourceType", spec.get("ResourceType"));
            xml.list("tagSet", spec.members("Tag"), |xml, tag| {
                xml.text("key", tag.get("Key").unwrap_or_default()).text("value", tag.get("Value").unwrap_or_default());
            });
        });
    });
}

fn data_of(params: &Params) -> Result<Params, Fault> {
    let data = params.under("LaunchTemplateData");
    if data.is_empty() {
        return Err(Fault::missing("LaunchTemplateData"));
    }
    if let Some(image) = data.get("ImageId") {
        super::places::check_image_id(image)?;
    }
    Ok(data)
}

pub(super) fn create(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let key = call.params.get("ClientToken").map(|token| (call.region.clone(), call.action.to_owned(), token.to_owned()));
    let frozen = call.params.without(&["ClientToken"]);
    if let Some(key) = &key
        && let Some(answer) = account.recall(key, &frozen)?
    {
        return Ok(answer);
    }
    let name = call.params.need("LaunchTemplateName")?;
    if name.len() < 3 || name.len() > 128 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "()./_-".contains(c)) {
        let message = "Launch template names must be 3 to 128 characters of letters, digits and ()./_-";
        return Err(Fault::bad("InvalidLaunchTemplateName.MalformedException", message));
    }
    if account.templates.values().any(|template| template.region == *call.region && template.name == name) {
        return Err(Fault::bad("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use."));
    }
    let version = TemplateVersion {
        number: 1,
        description: call.params.get("VersionDescription").map(str::to_owned),
        data: data_of(call.params)?,
        created_at: call.now,
    };
    let template = LaunchTemplate {
        id: account.new_id("lt"),
        name: name.to_owned(),
        region: call.region.clone(),
        default_version: 1,
        versions: vec![version],
        tags: tags_for(call.params, "TagSpecification", "launch-template"),
        created_at: call.now,
    };
    let answer = answered(|xml| {
        xml.element("launchTemplate", |xml| write_template(xml, &template));
    })?;
    account.templates.insert(template.id.clone(), template);
    if let Some(key) = key {
        account.tokens.insert(key, super::super::account::Remembered { params: frozen, answer: answer.clone(), instances: Vec::new() });
    }
    Ok(answer)
}

pub(super) fn create_version(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let template = account.template_of(call.region, call.params)?;
    let given = data_of(call.params)?;
    let data = match call.params.get("SourceVersion") {
        Some(source) => template.version(Some(source))?.data.overlaid(&given),
        None => given,
    };
    let (id, number) = (template.id.clone(), template.latest() + 1);
    let version =
        TemplateVersion { number, description: call.params.get("VersionDescription").map(str::to_owned), data, created_at: call.now };
    let Some(template) = account.templates.get_mut(&id) else { return Err(Fault::bad("InvalidLaunchTemplateId.NotFound", id)) };
    template.versions.push(version.clone());
    answered(|xml| {
        xml.element("launchTemplateVersion", |xml| write_version(xml, template, &version));
    })
}

pub(super) fn describe(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let (ids, names) = (call.params.list("LaunchTemplateId"), call.params.list("LaunchTemplateName"));
    for id in &ids {
        account.template_of(call.region, &Params::parse(&format!("LaunchTemplateId={id}")))?;
    }
    for name in &names {
        let known = account.templates.values().any(|template| template.region == *call.region && template.name == *name);
        if !known {
            let message = format!("At least one of the launch templates specified in the request does not exist: {name}");
            return Err(Fault::bad("InvalidLaunchTemplateName.NotFoundException", message));
        }
    }
    let filters = call.params.filters();
    let wanted: Vec<LaunchTemplate> = account
        .templates
        .values()
        .filter(|template| {
            template.region == *call.region
                && (ids.is_empty() || ids.contains(&template.id))
                && (names.is_empty() || names.contains(&template.name))
                && filters.iter().all(|filter| match filter.name.as_str() {
                    "launch-template-name" => filter.matches(&template.name),
                    "tag-key" => template.tags.keys().any(|key| filter.matches(key)),
                    other => other.strip_prefix("tag:").is_none_or(|key| template.tags.get(key).is_some_and(|value| filter.matches(value))),
                })
        })
        .cloned()
        .collect();
    let (templates, next) = page(&wanted, call.params, 200)?;
    answered(|xml| {
        xml.list("launchTemplates", templates, |xml, template| write_template(xml, &template));
        xml.maybe("nextToken", next);
    })
}

pub(super) fn describe_versions(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let template = account.template_of(call.region, call.params)?;
    let named = call.params.list("LaunchTemplateVersion");
    let versions: Vec<TemplateVersion> = if named.is_empty() {
        template.versions.clone()
    } else {
        named.iter().map(|name| template.version(Some(name)).cloned()).collect::<Result<_, _>>()?
    };
    let (versions, next) = page(&versions, call.params, 200)?;
    answered(|xml| {
        xml.list("launchTemplateVersionSet", versions, |xml, version| write_version(xml, template, &version));
        xml.maybe("nextToken", next);
    })
}

pub(super) fn delete(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let template = account.template_of(call.region, call.params)?.clone();
    account.templates.remove(&template.id);
    answered(|xml| {
        xml.element("launchTemplate", |xml| write_template(xml, &template));
    })
}
