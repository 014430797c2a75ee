//! What machines cost, now and recently: DescribeSpotPriceHistory and the Pricing API.
//!
//! A pool without a row has no price here, and nobody makes one up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use aws_sdk_ec2::types::{InstanceType as SdkInstanceType, SpotPrice};
use aws_sdk_pricing::types::{Filter, FilterType};

use crate::core::market::{CapacityType, HIGHEST_PRICE, PriceSource, Quote};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::CloudError;

use super::conversion::{date_time, timestamp};
use super::errors::from_sdk;
use super::{AwsCloud, all_pages, price_list};

/// The Pricing API's region; it has the prices of all commercial regions.
pub const PRICING_REGION: &str = "us-east-1";

/// Linux is sold under two descriptions: the second is what every current account has, the first appears in old rows.
const LINUX: [&str; 2] = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"];

/// Rows per page: EC2 documents no limit, and may return fewer.
const SPOT_PAGE: i32 = 1_000;

/// The price list's name for the family of machines with GPUs.
const GPU_FAMILY: &str = "GPU instance";

/// How often types missing from the GPU family are searched for among all products of a region.
const FULL_LISTING_EVERY: Millis = Millis::from_hours(6);

/// Products per page: `MaxResults` of GetProducts goes to 100.
const PRODUCTS_PAGE: i32 = 100;

impl AwsCloud {
    /// Per pool of `types` that has a spot price the one that held at `since`, and every change after it.
    pub(super) async fn spot_prices(&self, region: &Region, types: &[InstanceType], since: Timestamp) -> Result<Vec<Quote>, CloudError> {
        // An empty list of types would mean all of them.
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let clients = self.clients(region);
        let ask = clients
            .ec2
            .describe_spot_price_history()
            .set_instance_types(Some(types.iter().map(|it| SdkInstanceType::from(it.as_str())).collect()))
            .set_product_descriptions(Some(LINUX.map(str::to_owned).to_vec()))
            // EC2 gives each pool's last change before the start as well: the price that held then.
            .start_time(date_time(since))
            .max_results(SPOT_PAGE);
        let rows = all_pages("DescribeSpotPriceHistory", |token| {
            let ask = ask.clone().set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeSpotPriceHistory", region, error))?;
                Ok((page.spot_price_history.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let mut changes: BTreeMap<(ZoneId, InstanceType, Timestamp), Quote> = BTreeMap::new();
        for row in rows {
            let zone = self.zone_id(region, row.availability_zone_id(), row.availability_zone()).await?;
            let Some(quote) = spot_quote(region, zone.clone(), &row) else {
                tracing::warn!(%region, ?row, "a spot price row could not be read: the pool has no price from it");
                continue;
            };
            let change = changes.entry((zone, quote.instance_type.clone(), quote.effective_from)).or_insert_with(|| quote.clone());
            // Both descriptions of one change carry one price; should they ever differ, the higher one counts.
            if quote.price_per_hour > change.price_per_hour {
                *change = quote;
            }
        }
        Ok(changes.into_values().collect())
    }

    /// List prices of `types`: Linux, shared tenancy, nothing preinstalled.
    ///
    /// The GPU family of the region is one page, so it can be read often. Types that are not in it are searched for among all
    /// products of the region, a dozen pages, rarely; a price found only there is returned only then.
    pub(super) async fn list_prices(&self, region: &Region, types: &[InstanceType]) -> Result<Vec<Quote>, CloudError> {
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.listed(region, types, Some(GPU_FAMILY)).await?;
        let missing: Vec<InstanceType> = types.iter().filter(|it| !found.iter().any(|q| q.instance_type == **it)).cloned().collect();
        let now = self.settings.clock.now();
        let clients = self.clients(region);
        let last = *clients.full_listing_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() && last.is_none_or(|at| now.since(at) >= FULL_LISTING_EVERY) {
            found.extend(self.listed(region, &missing, None).await?);
            *clients.full_listing_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        found.sort_by(|a, b| a.instance_type.cmp(&b.instance_type));
        Ok(found)
    }

    async fn listed(&self, region: &Region, types: &[InstanceType], family: Option<&str>) -> Result<Vec<Quote>, CloudError> {
        let pricing_region = Region::from(PRICING_REGION);
        let clients = self.clients(&pricing_region);
        let ask = clients.pricing.get_products().service_code("AmazonEC2").format_version("aws_v1").max_results(PRODUCTS_PAGE);
        let ask = ask.set_filters(Some(product_filters(region, family)?));
        let products = all_pages("GetProducts", |token| {
            let ask = ask.clone().set_next_token(token);
            let asked_in = &pricing_region;
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("GetProducts", asked_in, error))?;
                Ok((page.price_list.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let wanted: BTreeSet<&InstanceType> = types.iter().collect();
        let mut latest: BTreeMap<InstanceType, Quote> = BTreeMap::new();
        for product in products {
            let quote = match price_list::quote(&product, region) {
                Ok(Some(quote)) if wanted.contains(&quote.instance_type) => quote,
                Ok(_) => continue,
                Err(fault) => {
                    tracing::warn!(%region, %fault, "a product in the price list could not be read");
                    continue;
                }
            };
            let newest = latest.entry(quote.instance_type.clone()).or_insert_with(|| quote.clone());
            if (quote.effective_from, quote.price_per_hour) > (newest.effective_from, newest.price_per_hour) {
                *newest = quote;
            }
        }
        Ok(latest.into_values().collect())
    }
}

fn spot_quote(region: &Region, zone: ZoneId, row: &SpotPrice) -> Option<Quote> {
    Some(Quote {
        region: region.clone(),
        zone: Some(zone),
        instance_type: row.instance_type()?.as_str().into(),
        capacity_type: CapacityType::Spot,
        // An implausible price is a mistake and is ignored.
        price_per_hour: row.spot_price()?.parse().ok().filter(|price| (MicroUsdPerHour(1)..=HIGHEST_PRICE).contains(price))?,
        effective_from: timestamp(row.timestamp()?)?,
        source: PriceSource::SpotPriceHistory,
    })
}

/// The plain on-demand Linux products of a region (the same attributes [`price_list`] checks).
fn product_filters(region: &Region, family: Option<&str>) -> Result<Vec<Filter>, CloudError> {
    let plain = [
        ("regionCode", region.as_str()),
        ("operatingSystem", "Linux"),
        ("tenancy", "Shared"),
        ("preInstalledSw", "NA"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
    ];
    let wanted = plain.into_iter().chain(family.map(|family| ("instanceFamily", family)));
    let filters = wanted.map(|(field, value)| Filter::builder().r#type(FilterType::TermMatch).field(field).value(value).build());
    let not_built = |error| CloudError::Refused { code: "NotSent".to_owned(), message: format!("GetProducts could not be built: {error}") };
    filters.collect::<Result<_, _>>().map_err(not_built)
}
