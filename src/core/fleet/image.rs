//! The images that the nodes of a class boot: where they are looked up, and what was found.
//!
//! Decides: which SSM parameter an alias stands for, which types a class has an image for, and when it is looked again.
//! Does not: look anything up. A claim keeps the image it was bought with ([`super::ClaimSpec::image`]): a newer one never changes a
//! launch that may be under way.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::market::catalog::Architecture;
use crate::core::units::time::{Millis, Timestamp};

/// How often an alias, a parameter or a filter is looked up again: a new release is used by what is bought from then on.
pub const LOOKED_UP_EVERY: Millis = Millis::from_hours(1);

/// Where the image of one architecture is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The architecture.
    pub architecture: Architecture,
    /// How it is found there.
    pub by: ImageBy,
}

/// How an image is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageBy {
    /// By its id.
    Id(String),
    /// By the SSM parameter that holds its id.
    Parameter(String),
    /// The newest that is available of those with this owner, name and tags.
    Newest {
        /// Account, or `amazon`, `self`.
        owner: String,
        /// Name, with `*` and `?`.
        name: Option<String>,
        /// Tags that it must have.
        tags: BTreeMap<String, String>,
    },
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            ImageBy::Id(id) => f.write_str(id),
            ImageBy::Parameter(name) => write!(f, "ssm:{name}"),
            ImageBy::Newest { owner, name, tags } => {
                write!(f, "{owner}/{}", name.as_deref().unwrap_or("*"))?;
                tags.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
        }
    }
}

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundImage {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Where it was looked up, as [`ImageSource::to_string`] says it: another source is looked up at once.
    pub source: String,
}

/// The images of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassImages {
    /// Where they are looked up; empty: the launch template names one, for whatever is bought.
    pub sources: Vec<ImageSource>,
    /// What was found for each architecture.
    pub found: BTreeMap<Architecture, FoundImage>,
    /// When they were looked up; `None` before.
    pub looked_up_at: Option<Timestamp>,
}

impl ClassImages {
    /// The image of a machine of this architecture; `None` if the launch template's is used.
    pub fn of(&self, architecture: Architecture) -> Option<&FoundImage> {
        self.found.get(&architecture)
    }

    /// Whether a machine of this architecture can boot.
    pub fn boots(&self, architecture: Architecture) -> bool {
        self.sources.is_empty() || self.found.contains_key(&architecture)
    }

    /// Since when what was found may be out of date, [`LOOKED_UP_EVERY`] later; `None` if one is missing, or of another source.
    pub fn complete_since(&self) -> Option<Timestamp> {
        // A status is only what was written there: an image that is named by its id is no other.
        let named = |source: &ImageSource, image: &FoundImage| !matches!(&source.by, ImageBy::Id(id) if *id != image.id);
        let found = |source: &ImageSource| {
            self.of(source.architecture).is_some_and(|image| image.source == source.to_string() && named(source, image))
        };
        self.looked_up_at.filter(|_| self.sources.iter().all(found))
    }
}

/// Aliases of published images: name, and the SSM parameter with `{k8s}` for the Kubernetes version, `{arch}` for EC2's word of the
/// architecture and `{deb}` for Debian's.
///
/// Sources: EKS user guide, "Retrieve recommended Amazon Linux AMI IDs" and "Retrieve recommended Bottlerocket AMI IDs"; Canonical,
/// "Find Ubuntu images on AWS", EKS.
const ALIASES: [(&str, &str); 3] = [
    ("al2023-nvidia", "/aws/service/eks/optimized-ami/{k8s}/amazon-linux-2023/{arch}/nvidia/recommended/image_id"),
    ("bottlerocket-nvidia", "/aws/service/bottlerocket/aws-k8s-{k8s}-nvidia/{arch}/latest/image_id"),
    ("ubuntu-eks-24.04", "/aws/service/canonical/ubuntu/eks/24.04/{k8s}/stable/current/{deb}/hvm/ebs-gp3/ami-id"),
];

/// The SSM parameter that an alias such as `al2023-nvidia@1.33` stands for; `None` if there is no such alias.
pub fn alias_parameter(alias: &str, architecture: Architecture) -> Option<String> {
    let (name, version) = alias.split_once('@')?;
    let (_, pattern) = ALIASES.iter().find(|(known, _)| *known == name)?;
    let (arch, deb) = match architecture {
        Architecture::Amd64 => ("x86_64", "amd64"),
        Architecture::Arm64 => ("arm64", "arm64"),
    };
    Some(pattern.replace("{k8s}", version).replace("{arch}", arch).replace("{deb}", deb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_the_parameter_that_its_publisher_documents() {
        let of = |alias| alias_parameter(alias, Architecture::Amd64);
        let al2023 = "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/nvidia/recommended/image_id";
        assert_eq!(of("al2023-nvidia@1.33").as_deref(), Some(al2023));
        let bottlerocket = alias_parameter("bottlerocket-nvidia@1.33", Architecture::Arm64);
        assert_eq!(bottlerocket.as_deref(), Some("/aws/service/bottlerocket/aws-k8s-1.33-nvidia/arm64/latest/image_id"));
        assert_eq!((of("al2023-nvidia"), of("windows@1.33")), (None, None));
    }

    #[test]
    fn images_are_incomplete_while_one_is_missing_or_of_another_source() {
        let source = |architecture| ImageSource { architecture, by: ImageBy::Id("ami-1".into()) };
        let mut images = ClassImages { sources: vec![source(Architecture::Amd64), source(Architecture::Arm64)], ..ClassImages::default() };
        let now = Timestamp(1_000);
        assert!(!images.boots(Architecture::Amd64));
        images.looked_up_at = Some(now);
        images.found.insert(Architecture::Amd64, FoundImage { id: "ami-1".into(), name: "one".into(), source: "ami-1".into() });
        assert_eq!(images.complete_since(), None, "arm64 is missing");
        images.sources.truncate(1);
        assert_eq!(images.complete_since(), Some(now));
        assert!(images.boots(Architecture::Amd64) && !images.boots(Architecture::Arm64));
        images.sources[0].by = ImageBy::Parameter("/image".into());
        assert_eq!(images.complete_since(), None, "the class names another source now");
        assert!(ClassImages::default().boots(Architecture::Arm64));
    }
}
