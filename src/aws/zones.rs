//! Locations: zone ids of zone names and of subnets.
//!
//! Zone names differ per account, ids do not; all of lowtide uses ids. Newer answers carry the id, older ones only the name.

use std::collections::BTreeMap;

use crate::core::units::ids::{Region, ZoneId};
use crate::ports::CloudError;

use super::AwsCloud;
use super::conversion::named;
use super::errors::from_sdk;

impl AwsCloud {
    /// Zone ids of `region` by zone name in this account, local zones included; read once.
    pub(super) async fn zone_ids(&self, region: &Region) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        let clients = self.clients(region);
        let zones = clients.zones.get_or_try_init(|| async {
            let answer = clients.ec2.describe_availability_zones().all_availability_zones(true).send().await;
            let answer = answer.map_err(|error| from_sdk("DescribeAvailabilityZones", region, error))?;
            let pair = |zone: &aws_sdk_ec2::types::AvailabilityZone| {
                Some((named(zone.zone_name())?.to_owned(), ZoneId::from(named(zone.zone_id())?)))
            };
            Ok(answer.availability_zones().iter().filter_map(pair).collect())
        });
        zones.await.cloned()
    }

    /// The zone id of a row that carries an id, a name, or both.
    ///
    /// # Errors
    /// [`CloudError::Unknown`] when it carries neither, or a name this account does not know.
    pub(super) async fn zone_id(&self, region: &Region, id: Option<&str>, name: Option<&str>) -> Result<ZoneId, CloudError> {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            return Ok(id.into());
        }
        let unknown = || CloudError::Unknown {
            message: format!("EC2 in {region} returned a zone {name:?} that DescribeAvailabilityZones does not list"),
        };
        self.zone_ids(region).await?.get(name.unwrap_or_default()).cloned().ok_or_else(unknown)
    }

    /// The zone of each subnet.
    pub(super) async fn zones_of_subnets(&self, region: &Region, subnets: &[String]) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        if subnets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answer = self.clients(region).ec2.describe_subnets().set_subnet_ids(Some(subnets.to_vec())).send().await;
        let answer = answer.map_err(|error| from_sdk("DescribeSubnets", region, error))?;
        let mut zones = BTreeMap::new();
        for subnet in answer.subnets() {
            let zone = self.zone_id(region, subnet.availability_zone_id(), subnet.availability_zone()).await?;
            zones.insert(subnet.subnet_id().unwrap_or_default().to_owned(), zone);
        }
        match subnets.iter().find(|wanted| !zones.contains_key(*wanted)) {
            None => Ok(zones),
            Some(lost) => Err(CloudError::Refused {
                code: "InvalidSubnetID.NotFound".to_owned(),
                message: format!("subnet {lost} does not exist in {region}"),
            }),
        }
    }
}
