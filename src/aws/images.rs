//! Which image a class's sources mean now: by id, by SSM parameter, or the newest that a filter finds.
//!
//! Decides: which of several is the newest. Does not: keep anything; see [`crate::core::fleet::image`] for when it is asked again.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ArchitectureValues, Image};

use super::AwsCloud;
use super::conversion::{filter, named, needed};
use super::errors::from_sdk;
use crate::core::fleet::{FoundImage, ImageBy, ImageSource};
use crate::core::market::catalog::Architecture;
use crate::core::units::ids::Region;
use crate::ports::CloudError;

/// EC2's word for an architecture.
fn word(architecture: Architecture) -> ArchitectureValues {
    match architecture {
        Architecture::Amd64 => ArchitectureValues::X8664,
        Architecture::Arm64 => ArchitectureValues::Arm64,
    }
}

impl AwsCloud {
    /// The image of each source.
    pub(super) async fn images_of(
        &self,
        region: &Region,
        sources: &[ImageSource],
    ) -> Result<BTreeMap<Architecture, FoundImage>, CloudError> {
        let mut found = BTreeMap::new();
        for source in sources {
            let image = match &source.by {
                ImageBy::Id(id) => self.image_by_id(region, id).await?,
                ImageBy::Parameter(name) => self.image_by_id(region, &self.parameter(region, name).await?).await?,
                ImageBy::Newest { owner, name, tags } => self.newest_image(region, source, (owner, name.as_deref(), tags)).await?,
            };
            let is = image.architecture().map_or("no architecture", ArchitectureValues::as_str);
            let wanted = word(source.architecture);
            if is != wanted.as_str() {
                return Err(not_found(format!("image {source} is of {is}, not of {}", wanted.as_str())));
            }
            let id = needed(named(image.image_id()), "DescribeImages", "ImageId")?.to_owned();
            let name = image.name().unwrap_or_default().to_owned();
            found.insert(source.architecture, FoundImage { id, name, source: source.to_string() });
        }
        Ok(found)
    }

    async fn parameter(&self, region: &Region, name: &str) -> Result<String, CloudError> {
        let answer = self.clients(region).ssm.get_parameter().name(name).send().await;
        let answer = answer.map_err(|error| match from_sdk("GetParameter", region, error) {
            CloudError::Refused { code, message } if code == "ParameterNotFound" => {
                not_found(format!("SSM in {region} has no parameter {name}: {message}"))
            }
            other => other,
        })?;
        needed(answer.parameter().and_then(|it| named(it.value())), "GetParameter", "a value").map(str::to_owned)
    }

    async fn image_by_id(&self, region: &Region, id: &str) -> Result<Image, CloudError> {
        let answer = self.clients(region).ec2.describe_images().image_ids(id).send().await;
        let answer = answer.map_err(|error| from_sdk("DescribeImages", region, error))?;
        let image = answer.images.unwrap_or_default().into_iter().next();
        image.ok_or_else(|| not_found(format!("image {id} does not exist in {region}, or is not shared with this account")))
    }

    async fn newest_image(
        &self,
        region: &Region,
        source: &ImageSource,
        (owner, name, tags): (&str, Option<&str>, &BTreeMap<String, String>),
    ) -> Result<Image, CloudError> {
        let mut ask = self.clients(region).ec2.describe_images().owners(owner).filters(filter("state", ["available".to_owned()]));
        ask = ask.filters(filter("architecture", [word(source.architecture).as_str().to_owned()]));
        if let Some(name) = name {
            ask = ask.filters(filter("name", [name.to_owned()]));
        }
        for (key, value) in tags {
            ask = ask.filters(filter(format!("tag:{key}"), [value.clone()]));
        }
        let answer = ask.send().await.map_err(|error| from_sdk("DescribeImages", region, error))?;
        let all = answer.images.unwrap_or_default().into_iter();
        // Times of one form sort as text; of two made at once, the id decides.
        let newest = all.max_by(|a, b| (a.creation_date(), a.image_id()).cmp(&(b.creation_date(), b.image_id())));
        newest.ok_or_else(|| not_found(format!("no image in {region} is {source}")))
    }
}

fn not_found(message: String) -> CloudError {
    CloudError::Refused { code: "InvalidAMIID.NotFound".to_owned(), message }
}
