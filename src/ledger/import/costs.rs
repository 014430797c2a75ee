//! Costs that are not lowtide's machines: what lowtide itself runs on, APIs that are bought.
//!
//! Decides: how the file is read, and the posting that a new or changed amount makes. They are posted as billed: nobody estimates them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::table::{Line, each_csv_line};
use super::usage::{Revisions, per_day};
use super::{ImportFault, Taken, text_of};
use crate::core::accounting::owners::OwnerVersion;
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Attribution, Workload};
use crate::ledger::poster::owner_row;
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, insert};
use crate::ledger::turns::{self, Turn};

const EXTERNAL_COST: Table = Table { name: "external_cost", columns: "id, at, item, workload, revision, cost_usd" };
const POSTING: Table = Table {
    name: "posting",
    columns: "id, at, workload, gpu_ms, span_ms, line, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd",
};
const WORKLOAD_VERSION: Table = Table {
    name: "workload_version",
    columns: "id, at, workload_kind, workload_namespace, workload_name, team, service, environment, cost_center, product_area, component",
};

/// Takes files of other costs: columns `period` (a day, or a month that is spread evenly over its days), `item`, `cost_usd`, and any of
/// team, service, environment, cost_center, product_area, component. They are posted on line `overhead`.
///
/// # Errors
/// [`ImportFault`]; then nothing was taken.
pub async fn import_costs(connection: &mut PgConnection, paths: &[PathBuf]) -> Result<Taken, ImportFault> {
    let mut days: BTreeMap<(String, Timestamp, Uuid), i64> = BTreeMap::new();
    let mut owners: BTreeMap<Uuid, OwnerVersion> = BTreeMap::new();
    for path in paths {
        each_csv_line(path, &text_of(path)?, &["period", "item", "cost_usd"], |line| {
            let item = line.need("item", "a name for what was paid")?.to_owned();
            let owner = owner_of(line, &item);
            for (day, amount) in per_day(line, "cost_usd")? {
                *days.entry((item.clone(), day, owner.id)).or_default() += amount;
            }
            owners.insert(owner.id, owner);
            Ok(())
        })?;
    }
    let doing = LedgerFault::during;
    let mut transaction = connection.begin().await.map_err(doing("begin a transaction"))?;
    turns::take(&mut transaction, Turn::Import).await?;
    let items: Vec<String> = days.keys().map(|(item, _, _)| item.clone()).collect();
    let stored = sqlx::query!(
        r#"SELECT DISTINCT ON (item, workload, at) item, workload, ledger.ms(at) AS "at_ms!", revision, (cost_usd * 1000000)::bigint AS "micro!"
           FROM ledger.external_cost WHERE item = ANY($1) ORDER BY item, workload, at, revision DESC"#,
        &items
    )
    .fetch_all(&mut *transaction)
    .await
    .map_err(doing("read the costs that are there"))?;
    let there: BTreeMap<(String, Timestamp, Uuid), (i32, i64)> =
        stored.into_iter().map(|row| ((row.item, Timestamp(row.at_ms), row.workload), (row.revision, row.micro))).collect();
    let (mut plan, mut postings) = (Revisions::default(), Revisions::default());
    for (key, micro) in &days {
        let before = there.get(key);
        let Some(revision) = plan.next(before.map(|(n, amount)| (*n, amount == micro))) else { continue };
        let (item, day, owner) = key;
        let (at, n, of) = (day.0.to_string(), revision.to_string(), owner.to_string());
        plan.rows.push(json!({
            "id": derive_uuid(&["external-cost", item, &at, &of, &n]), "at": day.to_rfc3339(), "item": item, "workload": owner,
            "revision": revision, "cost_usd": MicroUsd(*micro),
        }));
        let difference = MicroUsd(micro - before.map_or(0, |(_, amount)| *amount));
        postings.rows.push(json!({
            "id": derive_uuid(&["posting-external", item, &at, &of, &n]), "at": day.to_rfc3339(), "workload": owner, "gpu_ms": 0, "span_ms": 86_400_000,
            "line": "overhead", "kind": "bill", "cause": "entered", "cost_usd": difference, "b0_usd": "0", "b1_usd": "0", "b2_usd": "0",
            "feed_usd": "0", "bill_usd": difference,
        }));
    }
    let versions: Vec<_> = owners.values().map(owner_row).collect();
    insert(&mut transaction, WORKLOAD_VERSION, &versions).await?;
    plan.write(&mut transaction, EXTERNAL_COST).await?;
    postings.write(&mut transaction, POSTING).await?;
    transaction.commit().await.map_err(doing("commit the costs"))?;
    Ok(plan.taken)
}

/// The item with its labels: one owner for all time, since each line says its labels.
fn owner_of(line: &Line, item: &str) -> OwnerVersion {
    let label = |name: &str| line.get(name).map(String::from);
    let attribution = Attribution {
        team: label("team"),
        service: label("service"),
        environment: label("environment"),
        cost_center: label("cost_center"),
        product_area: label("product_area"),
        component: label("component"),
    };
    let workload = Workload { kind: "External".into(), object: ObjectRef { namespace: String::new(), name: item.to_owned() } };
    OwnerVersion::new(workload, attribution, Timestamp(0))
}
