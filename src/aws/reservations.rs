//! DescribeCapacityReservations: what is left of the reservations listed in node classes.
//!
//! Does not: create, change or cancel any.

use aws_sdk_ec2::types::{CapacityReservation as SdkReservation, CapacityReservationState};

use crate::core::market::reservation::CapacityReservation;
use crate::core::units::ids::{Region, ReservationId};
use crate::ports::CloudError;

use super::conversion::{filter, named, timestamp};
use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

/// A filter takes at most 200 values (EC2 API reference, "Filtering").
const FILTER_VALUES: usize = 200;

impl AwsCloud {
    /// These reservations, ordered by id. Requested by filter: by id, one that does not exist would fail the whole call.
    pub(super) async fn named_reservations(&self, region: &Region, ids: &[ReservationId]) -> Result<Vec<CapacityReservation>, CloudError> {
        let clients = self.clients(region);
        let mut found = Vec::new();
        for some in ids.chunks(FILTER_VALUES) {
            let by_id = filter("capacity-reservation-id", some.iter().map(ToString::to_string));
            let ask = clients.ec2.describe_capacity_reservations().filters(by_id);
            let rows = all_pages("DescribeCapacityReservations", |token| {
                let ask = ask.clone().set_next_token(token);
                async move {
                    let page = ask.send().await.map_err(|error| from_sdk("DescribeCapacityReservations", region, error))?;
                    Ok((page.capacity_reservations.unwrap_or_default(), page.next_token))
                }
            })
            .await?;
            for row in rows {
                match self.read_reservation(region, &row).await? {
                    Some(reservation) => found.push(reservation),
                    None => tracing::warn!(%region, ?row, "a capacity reservation could not be read: it is not offered"),
                }
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn read_reservation(&self, region: &Region, row: &SdkReservation) -> Result<Option<CapacityReservation>, CloudError> {
        let zone = self.zone_id(region, row.availability_zone_id(), row.availability_zone()).await?;
        let read = || {
            Some(CapacityReservation {
                id: named(row.capacity_reservation_id())?.into(),
                instance_type: named(row.instance_type())?.into(),
                zone,
                available: row.available_instance_count().map(i64::from).filter(|count| *count >= 0)?,
                active: row.state()? == &CapacityReservationState::Active,
                ends_at: row.end_date().and_then(timestamp),
            })
        };
        Ok(read())
    }
}
