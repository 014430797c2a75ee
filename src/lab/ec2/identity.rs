//! STS (who am I), Service Quotas (how much may I have) and SSM (which image is published).

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::account::capacity::{VCPU_QUOTAS, VcpuQuota};
use super::account::{ACCOUNT, Account};
use super::fault::Fault;
use super::server::{SignedRequest, Simulator, json_fault, json_response, xml_response};
use super::xml::Xml;

/// GetCallerIdentity.
pub(super) fn sts(signed: &SignedRequest) -> Response {
    if signed.action != "GetCallerIdentity" {
        let message = format!("Could not find operation {}", signed.action);
        return sts_fault(&Fault::bad("InvalidAction", message), &signed.request_id);
    }
    let mut xml = Xml::new();
    xml.element("GetCallerIdentityResult", |xml| {
        xml.text("Arn", format!("arn:aws:iam::{ACCOUNT}:user/lowtide")).text("UserId", "AIDALOWTIDESIMULATOR0").text("Account", ACCOUNT);
    });
    xml.element("ResponseMetadata", |xml| {
        xml.text("RequestId", &signed.request_id);
    });
    let inner = xml.into_string();
    let body =
        format!("<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{inner}</GetCallerIdentityResponse>");
    xml_response(StatusCode::OK, body)
}

/// An error as STS words it.
pub(super) fn sts_fault(fault: &Fault, request_id: &str) -> Response {
    let mut xml = Xml::new();
    xml.element("Error", |xml| {
        xml.text("Type", "Sender").text("Code", &fault.code).text("Message", &fault.message);
    });
    xml.text("RequestId", request_id);
    let body = format!("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{}</ErrorResponse>", xml.into_string());
    xml_response(StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST), body)
}

/// GetServiceQuota and ListServiceQuotas for the vCPU quotas GPU types fall under.
pub(super) fn service_quotas(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let (account, _) = simulator.account();
    match quotas(&account, signed) {
        Ok(body) => json_response(StatusCode::OK, &body, &signed.request_id),
        Err(fault) => json_fault(&fault, "", &signed.request_id),
    }
}

fn quotas(account: &Account, signed: &SignedRequest) -> Result<Value, Fault> {
    let body: Value = serde_json::from_slice(&signed.body).map_err(|_| Fault::bad("SerializationException", "The body is not JSON."))?;
    if body["ServiceCode"] != "ec2" {
        return Err(Fault::bad("NoSuchResourceException", "The request failed because the specified service does not exist."));
    }
    let quota = |quota: &VcpuQuota| {
        let region = &signed.region;
        json!({
            "ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaCode": quota.code,
            "QuotaArn": format!("arn:aws:servicequotas:{region}:{ACCOUNT}:ec2/{}", quota.code), "QuotaName": quota.name,
            "Value": account.quota(region, quota.code), "Unit": "None", "Adjustable": true, "GlobalQuota": false,
        })
    };
    match signed.action.as_str() {
        "ListServiceQuotas" => Ok(json!({"Quotas": VCPU_QUOTAS.iter().map(quota).collect::<Vec<_>>()})),
        "GetServiceQuota" => {
            let found = VCPU_QUOTAS.iter().find(|known| body["QuotaCode"] == known.code);
            let missing = || Fault::bad("NoSuchResourceException", "The request failed because the specified quota does not exist.");
            Ok(json!({"Quota": quota(found.ok_or_else(missing)?)}))
        }
        other => Err(Fault::bad("UnknownOperationException", other.to_owned())),
    }
}

/// GetParameter of the public parameters that hold image ids: the account's own image of the architecture that the name says.
pub(super) fn ssm(simulator: &Simulator, signed: &SignedRequest) -> Response {
    let (account, _) = simulator.account();
    match parameter(&account, signed) {
        Ok(body) => json_response(StatusCode::OK, &body, &signed.request_id),
        Err(fault) => json_fault(&fault, "", &signed.request_id),
    }
}

fn parameter(account: &Account, signed: &SignedRequest) -> Result<Value, Fault> {
    let body: Value = serde_json::from_slice(&signed.body).map_err(|_| Fault::bad("SerializationException", "The body is not JSON."))?;
    if signed.action != "GetParameter" {
        return Err(Fault::bad("UnknownOperationException", signed.action.clone()));
    }
    let name = body["Name"].as_str().unwrap_or_default();
    let architecture = ["x86_64", "amd64", "arm64"].into_iter().find(|word| name.split('/').any(|part| part == *word));
    let (true, Some(word)) = (name.starts_with("/aws/service/") && account.facts.zones.contains_key(&signed.region), architecture) else {
        return Err(Fault::bad("ParameterNotFound", ""));
    };
    let image = super::account::places::image_id(&signed.region, if word == "arm64" { "arm64" } else { "x86_64" });
    let arn = format!("arn:aws:ssm:{}::parameter{name}", signed.region);
    Ok(json!({"Parameter": {"ARN": arn, "DataType": "aws:ec2:image", "Name": name, "Type": "String", "Value": image, "Version": 1}}))
}
