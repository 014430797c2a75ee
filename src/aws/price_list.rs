//! Reading one product of the AWS price list: JSON inside a string of GetProducts.
//!
//! Decides: which products are the plain on-demand Linux price of a type. Does not: fetch any (see `prices`).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::core::market::{CapacityType, HIGHEST_PRICE, PriceSource, Quote};
use crate::core::units::ids::Region;
use crate::core::units::money::MicroUsdPerHour;

use super::conversion::parse_rfc3339;

/// A product that does not match the price list's documentation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a product in the AWS price list does not match its documentation: {fault}; the price of its type stays unknown")]
pub struct BadProduct {
    /// What was expected and what came.
    pub fault: String,
}

#[derive(Deserialize)]
struct Listing {
    product: Product,
    #[serde(default)]
    terms: Terms,
}

#[derive(Deserialize)]
struct Product {
    attributes: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Terms {
    #[serde(rename = "OnDemand", default)]
    on_demand: BTreeMap<String, Term>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    effective_date: String,
    price_dimensions: BTreeMap<String, Dimension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dimension {
    unit: String,
    price_per_unit: BTreeMap<String, String>,
}

/// Attributes that a plain on-demand Linux product has. A missing one does not disqualify a product: not all have all of them.
const PLAIN: [(&str, &[&str]); 7] = [
    ("operatingSystem", &["Linux"]),
    ("tenancy", &["Shared"]),
    ("preInstalledSw", &["NA"]),
    ("capacitystatus", &["Used"]),
    ("marketoption", &["OnDemand"]),
    ("locationType", &["AWS Region"]),
    ("licenseModel", &["No License required"]),
];

/// The on-demand quote of a product; `None` if it is some other product (a dedicated host, Windows, a free placeholder).
///
/// # Errors
/// When the text is not a product as documented, or its price is not an amount of dollars.
pub fn quote(text: &str, region: &Region) -> Result<Option<Quote>, BadProduct> {
    let bad = |fault: String| BadProduct { fault };
    let listing: Listing = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let attributes = &listing.product.attributes;
    let is_plain = PLAIN.iter().all(|(name, wanted)| attributes.get(*name).is_none_or(|found| wanted.contains(&found.as_str())));
    let in_region = attributes.get("regionCode").is_none_or(|code| code == region.as_str());
    let (true, true, Some(instance_type)) = (is_plain, in_region, attributes.get("instanceType")) else { return Ok(None) };
    let Some(term) = listing.terms.on_demand.values().max_by(|a, b| a.effective_date.cmp(&b.effective_date)) else { return Ok(None) };
    let Some(dollars) = term.price_dimensions.values().find(|it| it.unit == "Hrs").and_then(|it| it.price_per_unit.get("USD")) else {
        return Ok(None);
    };
    let price: MicroUsdPerHour = dollars.parse().map_err(|error| bad(format!("{instance_type}: {error}")))?;
    // Zero means "billed elsewhere" (reservations, hosts), never a free machine.
    if price.0 <= 0 || price > HIGHEST_PRICE {
        return Ok(None);
    }
    let effective_from = parse_rfc3339(&term.effective_date)
        .ok_or_else(|| bad(format!("{instance_type}: expected an RFC 3339 effectiveDate, found {:?}", term.effective_date)))?;
    Ok(Some(Quote {
        region: region.clone(),
        zone: None,
        instance_type: instance_type.as_str().into(),
        capacity_type: CapacityType::OnDemand,
        price_per_hour: price,
        effective_from,
        source: PriceSource::PriceList,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn product() -> Value {
        json!({
            "product": {"productFamily": "Compute Instance", "sku": "S", "attributes": {
                "instanceType": "g6.xlarge", "regionCode": "us-east-1", "operatingSystem": "Linux", "tenancy": "Shared",
                "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand", "locationType": "AWS Region",
                "licenseModel": "No License required"}},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"S.J": {"offerTermCode": "J", "sku": "S", "effectiveDate": "2026-07-01T00:00:00Z", "termAttributes": {},
                "priceDimensions": {"S.J.6": {"unit": "Hrs", "endRange": "Inf", "beginRange": "0", "appliesTo": [], "rateCode": "S.J.6",
                    "description": "$0.8048 per On Demand Linux g6.xlarge Instance Hour", "pricePerUnit": {"USD": "0.8048000000"}}}}},
                "Reserved": {"S.R": {"effectiveDate": "2026-01-01T00:00:00Z", "priceDimensions": {}}}},
            "version": "20260701000000", "publicationDate": "2026-07-01T00:00:00Z"
        })
    }

    fn read(product: &Value) -> Result<Option<Quote>, BadProduct> {
        quote(&product.to_string(), &"us-east-1".into())
    }

    #[test]
    fn a_plain_linux_product_gives_its_price_and_since_when() {
        let quote = read(&product()).unwrap().unwrap();
        assert_eq!((quote.instance_type.as_str(), quote.price_per_hour), ("g6.xlarge", MicroUsdPerHour(804_800)));
        assert_eq!(quote.effective_from.to_rfc3339(), "2026-07-01T00:00:00.000Z");
        assert_eq!((quote.zone, quote.source), (None, PriceSource::PriceList));
    }

    #[test]
    fn other_products_of_the_same_type_are_passed_over() {
        for (attribute, value) in [
            ("operatingSystem", "Windows"),
            ("tenancy", "Dedicated"),
            ("preInstalledSw", "SQL Std"),
            ("capacitystatus", "UnusedCapacityReservation"),
            ("marketoption", "CapacityBlock"),
            ("locationType", "AWS Local Zone"),
            ("regionCode", "us-west-2"),
        ] {
            let mut other = product();
            other["product"]["attributes"][attribute] = json!(value);
            assert_eq!(read(&other), Ok(None), "{attribute}={value}");
        }
    }

    #[test]
    fn a_zero_is_not_a_price_and_nonsense_is_an_error() {
        let price = "/terms/OnDemand/S.J/priceDimensions/S.J.6/pricePerUnit/USD";
        let mut other = product();
        *other.pointer_mut(price).unwrap() = json!("0.0000000000");
        assert_eq!(read(&other), Ok(None));
        *other.pointer_mut(price).unwrap() = json!("cheap");
        assert!(read(&other).unwrap_err().fault.contains("g6.xlarge"));
        assert!(quote("{}", &"us-east-1".into()).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_comes_is_a_price_above_zero_and_below_the_highest_or_none(
            text in crate::mutation::text(&[&product().to_string()]),
            changed in crate::mutation::json(vec![product()]),
        ) {
            for text in [text, changed.to_string()] {
                if let Ok(Some(quote)) = quote(&text, &"us-east-1".into()) {
                    assert!(quote.price_per_hour.0 > 0 && quote.price_per_hour <= HIGHEST_PRICE, "{quote:?}");
                }
            }
        }
    }
}
