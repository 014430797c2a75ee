//! `kubectl lowtide savings`: what the machines cost now, pool by pool, and what on-demand machines of the same types would.
//!
//! Decides: nothing. What was really paid, by team and month, is in the ledger: `lowtide ledger savings`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{OutputArgs, PluginError, claims};
use crate::core::units::money::MicroUsdPerHour;
use crate::kube::connect;
use crate::kube::shown::rates::{Rate, rates};

/// The requested table.
pub async fn answer(output: OutputArgs) -> Result<String, PluginError> {
    let client = connect().await?;
    let (claims, unreadable) = claims(&client).await?;
    let rates = rates(&claims);
    if output.json {
        return Ok(serde_json::to_string_pretty(&rates)?);
    }
    let mut text = table(&rates);
    if unreadable > 0 {
        let _ = write!(text, "\n{unreadable} claims of another version cannot be read and are left out");
    }
    Ok(text)
}

fn table(rates: &BTreeMap<String, Rate>) -> String {
    if rates.is_empty() {
        return "no machine runs".to_owned();
    }
    let all = rates.values().fold(Rate::default(), Rate::and);
    let width = rates.keys().map(String::len).chain(["POOL".len(), "all".len()]).max().unwrap_or_default();
    let mut out = format!(
        "{:<width$} {:>8} {:>5} {:>5} {:>10} {:>13} {:>10} {:>6}",
        "POOL", "MACHINES", "SPOT", "GPUS", "$/H", "ON-DEMAND $/H", "SAVED $/H", "SAVED"
    );
    for (pool, rate) in rates.iter().map(|(pool, rate)| (pool.as_str(), rate)).chain((rates.len() > 1).then_some(("all", &all))) {
        let saved = MicroUsdPerHour(rate.on_demand_per_hour.0 - rate.price_per_hour.0);
        let share = saved.0 * 100 / rate.on_demand_per_hour.0.max(1);
        let _ = write!(
            out,
            "\n{pool:<width$} {:>8} {:>5} {:>5} {:>10} {:>13} {:>10} {:>6}",
            rate.machines,
            rate.spot_machines,
            rate.gpus,
            rate.price_per_hour.to_string(),
            rate.on_demand_per_hour.to_string(),
            saved.to_string(),
            format!("{share} %"),
        );
    }
    let _ = write!(out, "\nprices are those at which the machines were bought; what was paid, by team and month: lowtide ledger savings");
    if all.without_on_demand_price > 0 {
        let _ = write!(out, "\nof {} machines no on-demand price is known: they count as saving nothing", all.without_on_demand_price);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::api::GpuNodeClaim;

    fn claim(pool: &str, capacity_type: &str, price: &str, on_demand: Option<&str>, launched: bool) -> GpuNodeClaim {
        let status =
            if launched { json!({"phase": "Ready", "launchedAt": "2026-11-01T00:00:00.000Z"}) } else { json!({"phase": "Pending"}) };
        serde_json::from_value(json!({
            "apiVersion": "lowtide.dev/v1", "kind": "GpuNodeClaim", "metadata": {"name": "x"},
            "spec": {
                "nodePool": pool, "nodeClass": "c", "region": "us-east-1", "zone": "use1-az1", "instanceType": "g6.xlarge",
                "capacityType": capacity_type, "pricePerHour": price, "onDemandPerHour": on_demand, "gpus": 1,
                "decisionId": "d", "reason": "pending-pod", "attempt": 1,
                "launch": {"launchTemplate": "t", "launchTemplateVersion": "1", "subnet": "s"}
            },
            "status": status
        }))
        .unwrap()
    }

    #[test]
    fn machines_that_cost_money_are_summed_by_pool_and_an_unknown_price_saves_nothing() {
        let claims = [
            claim("a", "spot", "0.2", Some("0.8"), true),
            claim("a", "on-demand", "0.8", Some("0.8"), true),
            claim("b", "spot", "0.5", None, true),
            claim("b", "spot", "0.5", Some("1"), false),
        ];
        let rates = rates(&claims);
        let text = table(&rates);
        let rows: Vec<Vec<&str>> = text.lines().take(4).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["a", "2", "1", "2", "1.0000", "1.6000", "0.6000", "37", "%"]);
        assert_eq!(rows[2], ["b", "1", "1", "1", "0.5000", "0.5000", "0.0000", "0", "%"]);
        assert_eq!(rows[3], ["all", "3", "2", "3", "1.5000", "2.1000", "0.6000", "28", "%"]);
        assert!(text.ends_with("of 1 machines no on-demand price is known: they count as saving nothing"), "{text}");
        assert_eq!(table(&BTreeMap::new()), "no machine runs");
    }
}
