//! The Price List face: GetProducts for EC2, in the shape AWS really sends (a list of JSON texts).
//!
//! Per type and region there are three products that differ in `capacitystatus` only; the one of an allocated capacity
//! reservation costs zero, as in the real list, so that a reader who forgets that filter is found out.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::units::ids::derive_uuid;
use crate::core::units::money::MicroUsdPerHour;

use super::facts::{Facts, TypeFacts};
use super::fault::Fault;
use super::query::{Params, page};
use super::server::{SignedRequest, Simulator, json_fault, json_response};

/// The offer term code of on-demand and the rate code of its one dimension, the same for all products of the real list.
const ON_DEMAND_TERM: &str = "JRTCKXETXF";
const HOURLY_RATE: &str = "6YS6EN2CT7";
/// The service has few endpoints.
const ENDPOINT_REGIONS: [&str; 3] = ["us-east-1", "eu-central-1", "ap-south-1"];

pub(super) fn answer(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let (account, _) = simulator.account();
    match products(&account.facts, signed) {
        Ok(body) => json_response(StatusCode::OK, &body, &signed.request_id),
        Err(fault) => json_fault(&fault, "", &signed.request_id),
    }
}

fn products(facts: &Facts, signed: &SignedRequest) -> Result<Value, Fault> {
    if !ENDPOINT_REGIONS.contains(&signed.region.as_str()) {
        let message = format!("The Price List API has no endpoint in {}; it has them in {}.", signed.region, ENDPOINT_REGIONS.join(", "));
        return Err(Fault::bad("AccessDeniedException", message));
    }
    if signed.action != "GetProducts" {
        return Err(Fault::bad("UnknownOperationException", signed.action.clone()));
    }
    let body: Value = serde_json::from_slice(&signed.body).map_err(|_| Fault::bad("SerializationException", "The body is not JSON."))?;
    if body["ServiceCode"] != "AmazonEC2" {
        return Err(Fault::bad("InvalidParameterException", "The simulator has the price list of AmazonEC2 only."));
    }
    let mut list = Vec::new();
    for ((region, it), price) in &facts.on_demand {
        let Some(type_facts) = facts.types.get(it) else { continue };
        for (capacity_status, prefix, price) in [
            ("Used", "BoxUsage", *price),
            ("UnusedCapacityReservation", "UnusedBox", *price),
            ("AllocatedCapacityReservation", "Reservation", MicroUsdPerHour(0)),
        ] {
            let attributes = attributes(type_facts, region.as_str(), capacity_status, prefix);
            if passes(&attributes, &body)? {
                list.push(product(&attributes, price));
            }
        }
    }
    let size = body["MaxResults"].as_i64().unwrap_or(100);
    if !(1..=100).contains(&size) {
        return Err(Fault::bad("InvalidParameterException", "MaxResults must be between 1 and 100"));
    }
    let token = body["NextToken"].as_str().unwrap_or_default();
    let paging = Params::parse(&format!("MaxResults={size}&NextToken={token}"));
    let (texts, next) = page(&list, &paging, 100).map_err(|fault| Fault::bad("InvalidNextTokenException", fault.message))?;
    let mut answer = json!({"FormatVersion": "aws_v1", "PriceList": texts});
    if let Some(next) = next {
        answer["NextToken"] = Value::String(next);
    }
    Ok(answer)
}

fn attributes(facts: &TypeFacts, region: &str, capacity_status: &str, usage_prefix: &str) -> Value {
    json!({
        "servicecode": "AmazonEC2", "servicename": "Amazon Elastic Compute Cloud", "regionCode": region, "locationType": "AWS Region",
        "instanceType": facts.name.as_str(), "instanceFamily": "GPU instance", "currentGeneration": if facts.current_generation { "Yes" } else { "No" },
        "vcpu": facts.vcpus.to_string(), "memory": format!("{} GiB", facts.memory_mib / 1024), "gpu": facts.logical_gpu_count.to_string(),
        "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "licenseModel": "No License required",
        "capacitystatus": capacity_status, "marketoption": "OnDemand", "operation": "RunInstances",
        "usagetype": format!("{usage_prefix}:{}", facts.name),
    })
}

/// `TERM_MATCH` is equality; a field the product does not have does not match.
fn passes(attributes: &Value, body: &Value) -> Result<bool, Fault> {
    for filter in body["Filters"].as_array().into_iter().flatten() {
        if filter["Type"] != "TERM_MATCH" {
            let message = format!("Filter type {} is not known to this simulator; use TERM_MATCH.", filter["Type"]);
            return Err(Fault::bad("InvalidParameterException", message));
        }
        let field = filter["Field"].as_str().unwrap_or_default();
        let found = if field == "productFamily" { &json!("Compute Instance") } else { &attributes[field] };
        let equal = found.as_str().zip(filter["Value"].as_str()).is_some_and(|(found, wanted)| found.eq_ignore_ascii_case(wanted));
        if !equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn product(attributes: &Value, price: MicroUsdPerHour) -> String {
    let text = |key: &str| attributes[key].as_str().unwrap_or_default().to_owned();
    let sku = derive_uuid(&["sku", &text("regionCode"), &text("usagetype")]).simple().to_string()[..16].to_uppercase();
    let (term, rate) = (format!("{sku}.{ON_DEMAND_TERM}"), format!("{sku}.{ON_DEMAND_TERM}.{HOURLY_RATE}"));
    let dollars = format!("{}.{:06}0000", price.0 / 1_000_000, price.0 % 1_000_000);
    json!({
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {&term: {
            "priceDimensions": {&rate: {
                "unit": "Hrs", "beginRange": "0", "endRange": "Inf", "rateCode": rate, "appliesTo": [],
                "description": format!("${price} per On Demand Linux {} Instance Hour", text("instanceType")),
                "pricePerUnit": {"USD": dollars},
            }},
            "sku": sku, "effectiveDate": "2026-07-01T00:00:00Z", "offerTermCode": ON_DEMAND_TERM, "termAttributes": {},
        }}},
        "version": "20260720000000", "publicationDate": "2026-07-20T00:00:00Z",
    })
    .to_string()
}
