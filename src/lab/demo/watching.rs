//! Steps j and k: what people see of the story: the console's pages, and the panels of the dashboards.
//!
//! Decides: which pages may be empty after a story of minutes, and why. Panels say that themselves.

use std::collections::BTreeSet;
use std::time::Instant;

use super::panels;
use super::report::StepReport;
use super::stage::Stage;
use super::workloads::NAMESPACE;
use crate::lab::console::{LabConsole, sql_of, statements_of, token};
use crate::lab::error::LabError;
use crate::lab::wall_clock;
use crate::ledger::connect;

/// Pages, and why one may have no figure.
const PAGES: [(&str, Option<&str>); 8] = [
    ("/market", None),
    ("/machines", None),
    ("/moves", None),
    ("/pods", None),
    ("/savings", None),
    ("/plans", Some("no budget is entered, and a forecast needs 14 days of cost")),
    ("/anomalies", Some("a cost is unusual only against the weeks before")),
    ("/trust", None),
];

/// j. Every page of the console with the SQL of its figures, while machines run and work is placed.
pub async fn pages(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin('j', "what people see of it: every page of the console, with the SQL of its figures");
    let console = LabConsole::start(&stage.lab).await?;
    let pod = stage.pods.of("chat").into_iter().find(|(_, pod)| pod.ready && pod.gone_at.is_none()).map(|(name, _)| name);
    look_at(stage, &mut step, &console, &pod.unwrap_or_default()).await?;
    stage.console = Some(console);
    stage.end(step, began);
    Ok(())
}

/// k. Every panel of the dashboards, about the whole story.
pub async fn panels(stage: &mut Stage) -> Result<(), LabError> {
    let began = Instant::now();
    let mut step = StepReport::begin('k', "what people see of it: every panel of the dashboards, asked of Prometheus and of the ledger");
    ask_panels(stage, &mut step).await?;
    stage.end(step, began);
    Ok(())
}

/// Every page answers and has figures, and every figure's statement is answered as psql asks it, with finance's rights.
async fn look_at(stage: &Stage, step: &mut StepReport, console: &LabConsole, pod: &str) -> Result<(), LabError> {
    let token = token(&stage.lab)?;
    let pod = format!("/pods/{NAMESPACE}/{pod}");
    let (mut with_figures, mut empty, mut faults, mut asked) = (0, Vec::new(), Vec::new(), BTreeSet::new());
    for (path, may_be_empty) in PAGES.into_iter().chain([(pod.as_str(), None)]) {
        let page = match console.page(&token, path).await {
            Ok(page) => page,
            Err(fault) => {
                faults.push(fault.to_string());
                continue;
            }
        };
        asked.extend(statements_of(&page));
        match (has_figures(&page), may_be_empty) {
            (true, _) => with_figures += 1,
            (false, Some(reason)) => empty.push(format!("{path}: {reason}")),
            (false, None) => faults.push(format!("{path} has no figure")),
        }
    }
    empty.iter().for_each(|reason| step.happened(format!("empty: {reason}")));
    faults.iter().for_each(|fault| step.happened(fault.as_str()));
    step.check(
        format!("{} pages of the console: {with_figures} with figures, {} empty for a declared reason", PAGES.len() + 1, empty.len()),
        faults.is_empty(),
    );
    let mut refused = Vec::new();
    for link in &asked {
        let sql = sql_of(&console.page(&token, link).await?).unwrap_or_default();
        if let Err(fault) = stage.lab.psql_as_finance(&sql) {
            refused.push(format!("{link}: {fault}"));
        }
    }
    refused.iter().for_each(|fault| step.happened(fault.as_str()));
    step.check(
        format!("the ledger answers finance the SQL of each figure, {} statements", asked.len()),
        refused.is_empty() && !asked.is_empty(),
    );
    Ok(())
}

/// Whether a page has a table with a row, or a chart.
fn has_figures(page: &str) -> bool {
    page.contains("<tbody><tr") || page.contains("<svg class=\"chart\"")
}

async fn ask_panels(stage: &mut Stage, step: &mut StepReport) -> Result<(), LabError> {
    let mut ledger = connect(&stage.lab.finance_url()).await.map_err(|fault| LabError::Unreadable {
        what: "the ledger".to_owned(),
        expected: "a connection for finance".to_owned(),
        found: fault.to_string(),
    })?;
    if let Some(prometheus) = &mut stage.prometheus {
        prometheus.check()?;
    } else {
        step.happened("panels on Prometheus are left out: there is none in the folder of the tools (`make tools` fetches Debian's)");
    }
    let answered = panels::ask(stage.prometheus.as_ref(), &mut ledger, (stage.began_at, wall_clock())).await?;
    answered.empty.iter().for_each(|reason| step.happened(format!("empty: {reason}")));
    answered.faults.iter().for_each(|fault| step.happened(fault.as_str()));
    let (with_data, empty) = (answered.with_data, answered.empty.len());
    step.check(
        format!("{} panels: {with_data} with data, {empty} empty for a declared reason", with_data + empty),
        answered.faults.is_empty() && with_data > 0,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_rows_is_no_figure() {
        assert!(!has_figures("<table><thead><tr></tr></thead><tbody></tbody></table><svg class=\"share\">"));
        assert!(has_figures("<tbody><tr>") && has_figures("<svg class=\"chart\">"));
    }
}
