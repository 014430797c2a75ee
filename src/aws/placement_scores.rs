//! GetSpotPlacementScores.
//!
//! Does not: choose what to ask (see
//! [`crate::core::market::scores`]).

use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::units::ids::{Region, ZoneId};
use crate::ports::CloudError;

use super::conversion::named;
use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

impl AwsCloud {
    /// The ten best places for a spot request, best first, according to the endpoint in `asked_in`.
    ///
    /// As every call: [`CloudError::Refused`] when the day's new requests are used up (`MaxConfigLimitExceeded`).
    pub(super) async fn spot_placement_scores(
        &self,
        asked_in: &Region,
        question: &ScoreQuestion,
    ) -> Result<Vec<PlacementScore>, CloudError> {
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
            let (region, zone) = (named(row.region())?.into(), named(row.availability_zone_id()).map(ZoneId::from));
            Some(PlacementScore { region, zone, score: u8::try_from(row.score()?).ok().filter(|s| (1..=10).contains(s))? })
        };
        let mut scores: Vec<PlacementScore> = rows.iter().filter_map(read).collect();
        scores.sort_by(|a, b| b.score.cmp(&a.score).then(a.region.cmp(&b.region)).then(a.zone.cmp(&b.zone)));
        Ok(scores)
    }
}
