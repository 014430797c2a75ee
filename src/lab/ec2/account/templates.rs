//! Launch templates: versions of launch parameters kept by name.

use std::collections::BTreeMap;

use crate::core::units::ids::Region;
use crate::core::units::time::Timestamp;

use super::super::fault::Fault;
use super::super::query::Params;
use super::Account;

/// One version of a template.
#[derive(Debug, Clone)]
pub struct TemplateVersion {
    /// Counts from 1.
    pub number: i64,
    /// The caller's words about it.
    pub description: Option<String>,
    /// `LaunchTemplateData`, flattened.
    pub data: Params,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A template with all its versions.
#[derive(Debug, Clone)]
pub struct LaunchTemplate {
    /// As in `lt-0abc`.
    pub id: String,
    /// Unique in its region.
    pub name: String,
    /// Its region.
    pub region: Region,
    /// The version `$Default` stands for.
    pub default_version: i64,
    /// Its versions, oldest first.
    pub versions: Vec<TemplateVersion>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl LaunchTemplate {
    /// The newest version's number.
    pub fn latest(&self) -> i64 {
        self.versions.last().map_or(0, |version| version.number)
    }

    /// A version by number, `$Latest` or `$Default`; no name is the default.
    ///
    /// # Errors
    /// `InvalidLaunchTemplateId.VersionNotFound`.
    pub fn version(&self, name: Option<&str>) -> Result<&TemplateVersion, Fault> {
        let number = match name {
            None | Some("$Default") => Some(self.default_version),
            Some("$Latest") => Some(self.latest()),
            Some(text) => text.parse().ok(),
        };
        let found = self.versions.iter().find(|version| Some(version.number) == number);
        found.ok_or_else(|| {
            let message =
                format!("Could not find the specified version {} for the launch template with ID {}.", name.unwrap_or_default(), self.id);
            Fault::bad("InvalidLaunchTemplateId.VersionNotFound", message)
        })
    }
}

impl Account {
    /// The template that `LaunchTemplateId` or `LaunchTemplateName` in `params` names.
    ///
    /// # Errors
    /// EC2's not-found codes, or `MissingParameter` when neither is given.
    pub fn template_of(&self, region: &Region, params: &Params) -> Result<&LaunchTemplate, Fault> {
        if let Some(id) = params.get("LaunchTemplateId") {
            let found = self.templates.get(id).filter(|template| template.region == *region);
            let message = format!("The specified launch template, with template ID {id}, does not exist.");
            return found.ok_or_else(|| Fault::bad("InvalidLaunchTemplateId.NotFound", message));
        }
        let name = params.need("LaunchTemplateName")?;
        let found = self.templates.values().find(|template| template.region == *region && template.name == name);
        let message = format!("The specified launch template, with template name {name}, does not exist.");
        found.ok_or_else(|| Fault::bad("InvalidLaunchTemplateName.NotFoundException", message))
    }
}
