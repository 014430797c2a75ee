//! The rules of Grafana's dashboard linter, and what lowtide asks beyond them.
//!
//! Source: grafana/dashboard-linter, "Rules". Two are not kept: `template-instance-rule` and `target-instance-rule` (each replica exports its own part, and panels are of the
//! cluster), and `template-datasource-rule` for the ledger, whose datasource type has hyphens, which a variable's name cannot have.

use std::collections::BTreeSet;

use super::*;
use crate::metrics::register::{ALL, Kind};

/// Of Grafana's units those that are used.
const UNITS: [&str; 7] = ["currencyUSD", "dateTimeFromNow", "h", "ops", "percentunit", "s", "short"];

#[test]
fn dashboards_keep_the_linters_rules() {
    for dashboard in all() {
        let json: Value = serde_json::from_str(&dashboard.to_json()).unwrap();
        let variables: Vec<&str> = json["templating"]["list"].as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
        let title = dashboard.title;
        // template-datasource-rule and its label, template-job-rule.
        assert_eq!(variables[..3], ["prometheus_datasource", "cluster", "job"], "{title}");
        assert_eq!(json["templating"]["list"][0]["label"], "Prometheus data source", "{title}");
        for variable in json["templating"]["list"].as_array().unwrap() {
            // template-label-promql-rule, template-on-time-change-reload-rule, title-case labels.
            assert!(variable["label"].as_str().unwrap().starts_with(char::is_uppercase), "{title}");
            if variable["type"] == "query" {
                assert_eq!(
                    (&variable["refresh"], &variable["multi"], &variable["allValue"]),
                    (&json!(2), &json!(true), &json!(".+")),
                    "{title}"
                );
                assert_eq!(variable["datasource"]["uid"], "${prometheus_datasource}", "{title}");
            }
        }
        // uneditable-dashboard.
        assert_eq!(json["editable"], false, "{title}");
        let mut ids = BTreeSet::new();
        for panel in json["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{title}: an id twice");
            if panel["type"] == "row" {
                continue;
            }
            let what = format!("{title}: {}", panel["title"]);
            // panel-title-description-rule, panel-units-rule, panel-datasource-rule, target-datasource.
            assert!(!panel["title"].as_str().unwrap().is_empty() && panel["description"].as_str().unwrap().ends_with('.'), "{what}");
            assert!(UNITS.contains(&panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap()), "{what}");
            assert!(["${prometheus_datasource}", "${ledger}"].contains(&panel["datasource"]["uid"].as_str().unwrap()), "{what}");
            // panel-no-targets-rule.
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{what}");
            let place = &panel["gridPos"];
            assert!(place["x"].as_i64().unwrap() + place["w"].as_i64().unwrap() <= WIDTH && place["w"].as_i64().unwrap() >= 4, "{what}");
            let references: Vec<&str> = panel["targets"].as_array().unwrap().iter().filter_map(|t| t["refId"].as_str()).collect();
            assert!(references.iter().collect::<BTreeSet<_>>().len() == references.len(), "{what}");
        }
    }
}

#[test]
fn queries_keep_the_linters_rules() {
    for dashboard in all() {
        for panel in dashboard.panels().filter(|panel| panel.source == Source::Prometheus) {
            for query in &panel.queries {
                let what = format!("{}: {}: {}", dashboard.title, panel.title, query.text);
                for metric in ALL.iter().filter(|metric| names(query.text, metric.name)) {
                    assert!(metric.replaced_by.is_none(), "{what}: an old name");
                    // target-counter-agg-rule and target-rate-interval-rule: counters under a rate, with the interval's variable.
                    if matches!(metric.kind, Kind::Counter | Kind::Histogram(_)) {
                        assert!(query.text.contains("rate(") || query.text.contains("increase("), "{what}");
                        assert!(query.text.contains("[$__rate_interval]") || query.text.contains("[$__range]"), "{what}");
                    }
                }
                // target-job-rule, target-cluster-rule: every selector. NVIDIA's exporter is scraped by a job of its own.
                let of_others = query.text.split("DCGM_").skip(1).filter(|rest| rest.contains("{cluster=~\"$cluster\"}")).count();
                let chosen = query.text.matches("{@").count() + of_others;
                assert_eq!(query.text.matches('{').count(), chosen, "{what}: a selector without cluster and job");
                // target-required-matchers-rule; target-legend-rule.
                assert!(matches!(panel.draw, Draw::Table) || !query.legend.is_empty(), "{what}: a legend");
            }
        }
    }
}

/// Whether `text` names `metric` or one of a histogram's series.
fn names(text: &str, metric: &str) -> bool {
    text.match_indices(metric).any(|(at, _)| {
        let rest = &text[at + metric.len()..];
        ["_bucket", "_sum", "_count"].iter().any(|end| rest.starts_with(end))
            || !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn every_metric_is_on_a_dashboard_and_no_other_name_is() {
    let dashboards = all();
    let texts: Vec<&str> = dashboards.iter().flat_map(Dashboard::panels).flat_map(|panel| &panel.queries).map(|query| query.text).collect();
    for metric in ALL.iter().filter(|metric| metric.replaced_by.is_none()) {
        assert!(texts.iter().any(|text| names(text, metric.name)), "{} is on no dashboard", metric.name);
    }
    for text in texts {
        for (at, _) in text.match_indices("lowtide_") {
            let name: String = text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(ALL.iter().any(|metric| names(&name, metric.name)), "{name} is no metric");
        }
    }
}
