//! Spot placement scores: how likely EC2 holds a spot request of a given size to succeed, 1 to 10.
//!
//! EC2 limits **new** questions per day and lets old ones be repeated: ask few, fixed ones and keep the answers.

use crate::core::ids::{InstanceType, Region, ZoneId};
use crate::engine::ports::CloudError;

use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

/// One question. EC2 scores fewer than three types low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreQuestion {
    /// Any of these types would do.
    pub types: Vec<InstanceType>,
    /// How many instances.
    pub instances: i32,
    /// Where to look; one region's endpoint answers for all of them.
    pub regions: Vec<Region>,
    /// Score single zones rather than regions.
    pub by_zone: bool,
}

/// A score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementScore {
    /// The region.
    pub region: Region,
    /// The zone, when zones were asked for.
    pub zone: Option<ZoneId>,
    /// 1 (unlikely) to 10 (likely).
    pub score: i32,
}

impl AwsCloud {
    /// The ten best places for a spot request, best first, as the endpoint of `asked_in` says.
    ///
    /// # Errors
    /// As every call: [`CloudError::Refused`] when the day's new questions are used up (`MaxConfigLimitExceeded`).
    pub async fn spot_placement_scores(&self, asked_in: &Region, question: &ScoreQuestion) -> Result<Vec<PlacementScore>, CloudError> {
        let clients = self.clients(asked_in);
        let ask = clients
            .ec2
            .get_spot_placement_scores()
            .set_instance_types(Some(question.types.iter().map(ToString::to_string).collect()))
            .target_capacity(question.instances)
            .set_region_names(Some(question.regions.iter().map(ToString::to_string).collect()))
            .single_availability_zone(question.by_zone);
        let rows = all_pages("GetSpotPlacementScores", |token| {
            let ask = ask.clone().set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("GetSpotPlacementScores", asked_in, error))?;
                Ok((page.spot_placement_scores.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let read = |row: &aws_sdk_ec2::types::SpotPlacementScore| {
            Some(PlacementScore { region: row.region()?.into(), zone: row.availability_zone_id().map(ZoneId::from), score: row.score()? })
        };
        let mut scores: Vec<PlacementScore> = rows.iter().filter_map(read).collect();
        scores.sort_by(|a, b| b.score.cmp(&a.score).then(a.region.cmp(&b.region)).then(a.zone.cmp(&b.zone)));
        Ok(scores)
    }
}
