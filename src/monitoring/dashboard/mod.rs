//! Grafana dashboards as data.
//!
//! Decides: the form of a dashboard (schema 41: rows, a grid of 24 columns, datasource and cluster variables) and the ids of panels.
//! Does not: choose panels: one file per dashboard does.
//!
//! Source: Grafana documentation, "Dashboard JSON model". Our tests are the rules of Grafana's dashboard linter.

mod cost;
mod fleet;
mod gpu;
mod interruptions;
mod trust;

use serde_json::{Value, json};

/// Where a panel's query goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Prometheus: PromQL.
    Prometheus,
    /// The ledger's Postgres: SQL with Grafana's macros `$__timeFrom()` and `$__timeTo()`.
    Ledger,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// One figure.
    Stat,
    /// Lines over time.
    Lines,
    /// Stacked areas over time.
    Stacked,
    /// A table.
    Table,
    /// Bars.
    Bars,
    /// A histogram's buckets over time.
    Heatmap,
}

/// A query and what its series are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// PromQL, in which `@` stands for the selectors of cluster and job, or SQL.
    pub text: &'static str,
    /// Legend, e.g. `{{region}}`; empty for SQL.
    pub legend: &'static str,
}

/// A query and its legend.
const fn q(text: &'static str, legend: &'static str) -> Query {
    Query { text, legend }
}

impl Query {
    /// The query as given to Grafana.
    pub fn expression(&self) -> String {
        self.text.replace('@', "cluster=~\"$cluster\",job=~\"$job\"")
    }
}

/// A panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// What it shows and how to read it.
    pub description: &'static str,
    /// Where its queries go.
    pub source: Source,
    /// How it is drawn.
    pub draw: Draw,
    /// Grafana's name for the unit, e.g. `s` or `currencyUSD`.
    pub unit: &'static str,
    /// The queries.
    pub queries: Vec<Query>,
    /// Why it may legitimately be empty, if so.
    pub may_be_empty: Option<&'static str>,
    /// A reference line: its value in the panel's unit.
    pub line: Option<i64>,
}

impl Panel {
    /// A panel on Prometheus with one query.
    pub fn prometheus(title: &'static str, description: &'static str, draw: Draw, unit: &'static str, queries: &[Query]) -> Panel {
        Panel { title, description, source: Source::Prometheus, draw, unit, queries: queries.to_vec(), may_be_empty: None, line: None }
    }
    /// A panel on the ledger.
    pub fn ledger(title: &'static str, description: &'static str, draw: Draw, unit: &'static str, queries: &[Query]) -> Panel {
        Panel { title, description, source: Source::Ledger, draw, unit, queries: queries.to_vec(), may_be_empty: None, line: None }
    }
    /// It may be empty, and why.
    pub fn may_be_empty(mut self, reason: &'static str) -> Panel {
        self.may_be_empty = Some(reason);
        self
    }
    /// With a line at `value`.
    pub fn line(mut self, value: i64) -> Panel {
        self.line = Some(value);
        self
    }
}

/// A row of panels.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its title.
    pub title: &'static str,
    /// Its panels, from left to right; they share the width.
    pub panels: Vec<Panel>,
}

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its uid and the name of its file.
    pub uid: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it answers.
    pub description: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
    /// How far back it looks, e.g. `6h`.
    pub span: &'static str,
}

/// All dashboards.
pub fn all() -> Vec<Dashboard> {
    vec![fleet::dashboard(), interruptions::dashboard(), cost::dashboard(), gpu::dashboard(), trust::dashboard()]
}

const PANEL_HEIGHT: i64 = 8;
const STAT_HEIGHT: i64 = 4;
const WIDTH: i64 = 24;

impl Dashboard {
    /// Panels of all rows.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    fn asks(&self, source: Source) -> bool {
        self.panels().any(|panel| panel.source == source)
    }

    /// As Grafana reads it.
    pub fn to_json(&self) -> String {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({"id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [], "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}));
            y += 1;
            let n = i64::try_from(row.panels.len()).unwrap_or(1).max(1);
            let height = if row.panels.iter().all(|panel| panel.draw == Draw::Stat) { STAT_HEIGHT } else { PANEL_HEIGHT };
            for (at, panel) in (0..).zip(&row.panels) {
                id += 1;
                let (x, next) = (WIDTH * at / n, WIDTH * (at + 1) / n);
                panels.push(panel.to_json(id, &json!({"x": x, "y": y, "w": next - x, "h": height})));
            }
            y += height;
        }
        let dashboard = json!({
            "uid": self.uid, "title": self.title, "description": self.description, "tags": ["lowtide"], "schemaVersion": 41, "version": 1,
            "editable": false, "graphTooltip": 1, "timezone": "utc", "refresh": "1m", "time": {"from": format!("now-{}", self.span), "to": "now"},
            "annotations": {"list": []}, "links": [{"type": "dashboards", "tags": ["lowtide"], "title": "lowtide", "asDropdown": true, "includeVars": true, "keepTime": true}],
            "templating": {"list": self.variables()}, "panels": panels,
        });
        let mut text = serde_json::to_string_pretty(&dashboard).unwrap_or_default();
        text.push('\n');
        text
    }

    fn variables(&self) -> Vec<Value> {
        let mut list = Vec::new();
        if self.asks(Source::Prometheus) {
            list.push(json!({"name": "prometheus_datasource", "label": "Prometheus data source", "type": "datasource", "query": "prometheus", "hide": 0, "multi": false, "includeAll": false}));
            for (name, query) in [
                ("cluster", "label_values(lowtide_build_info, cluster)"),
                ("job", "label_values(lowtide_build_info{cluster=~\"$cluster\"}, job)"),
            ] {
                list.push(json!({
                    "name": name, "label": capitalised(name), "type": "query", "datasource": {"type": "prometheus", "uid": "${prometheus_datasource}"},
                    "query": query, "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+", "hide": 0,
                    "current": {"text": "All", "value": "$__all"},
                }));
            }
        }
        if self.asks(Source::Ledger) {
            list.push(json!({"name": "ledger", "label": "Ledger", "type": "datasource", "query": "grafana-postgresql-datasource", "hide": 0, "multi": false, "includeAll": false}));
        }
        list
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl Panel {
    fn kind(&self) -> &'static str {
        match self.draw {
            Draw::Stat => "stat",
            Draw::Lines | Draw::Stacked => "timeseries",
            Draw::Table => "table",
            Draw::Bars => "barchart",
            Draw::Heatmap => "heatmap",
        }
    }

    fn to_json(&self, id: i64, place: &Value) -> Value {
        let datasource = match self.source {
            Source::Prometheus => json!({"type": "prometheus", "uid": "${prometheus_datasource}"}),
            Source::Ledger => json!({"type": "grafana-postgresql-datasource", "uid": "${ledger}"}),
        };
        let over_time = matches!(self.draw, Draw::Lines | Draw::Stacked | Draw::Heatmap);
        let targets: Vec<Value> = ('A'..='Z')
            .zip(&self.queries)
            .map(|(letter, query)| {
                let letter = letter.to_string();
                match self.source {
                    Source::Prometheus => json!({
                        "refId": letter, "datasource": datasource, "expr": query.expression(), "legendFormat": query.legend, "editorMode": "code",
                        "instant": !over_time, "range": over_time, "format": match self.draw { Draw::Table => "table", Draw::Heatmap => "heatmap", _ => "time_series" },
                    }),
                    Source::Ledger => json!({
                        "refId": letter, "datasource": datasource, "rawSql": query.text, "rawQuery": true, "editorMode": "code",
                        "format": if over_time { "time_series" } else { "table" },
                    }),
                }
            })
            .collect();
        let stacked = if self.draw == Draw::Stacked { "normal" } else { "none" };
        let mut defaults = json!({"unit": self.unit, "custom": {}});
        if matches!(self.draw, Draw::Lines | Draw::Stacked) {
            let fill = if self.draw == Draw::Stacked { 40 } else { 0 };
            defaults["custom"] = json!({"fillOpacity": fill, "showPoints": "never", "stacking": {"mode": stacked, "group": "A"}});
        }
        if let Some(value) = self.line {
            defaults["thresholds"] =
                json!({"mode": "absolute", "steps": [{"color": "green", "value": null}, {"color": "red", "value": value}]});
            defaults["custom"]["thresholdsStyle"] = json!({"mode": "line"});
        }
        let mut description = self.description.to_owned();
        if let Some(reason) = self.may_be_empty {
            description = format!("{description} Empty when {reason}.");
        }
        let options = match self.draw {
            Draw::Stat => json!({"reduceOptions": {"calcs": ["lastNotNull"], "values": false}, "textMode": "auto", "colorMode": "value"}),
            Draw::Lines | Draw::Stacked => {
                json!({"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}})
            }
            Draw::Table => json!({"showHeader": true}),
            Draw::Bars => json!({"orientation": "horizontal", "stacking": "none"}),
            Draw::Heatmap => json!({"calculate": false, "color": {"mode": "scheme", "scheme": "Blues"}}),
        };
        json!({
            "id": id, "type": self.kind(), "title": self.title, "description": description, "gridPos": place, "datasource": datasource,
            "targets": targets, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        })
    }
}

#[cfg(test)]
mod tests;
