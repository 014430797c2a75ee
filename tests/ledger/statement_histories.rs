//! INV-13 over drawn histories of statements: the books are those of the last versions, however these came.

use std::path::PathBuf;

use lowtide::core::units::time::Millis;
use lowtide::ledger::connect;
use lowtide::ledger::import::{Check, Format, Mapping, Options, Projects, import};
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, Dice, Machine, bench};
use crate::imports::{Folder, LATER, taken};
use crate::statements::{HEADER, line, machine_of};
/// Differs by nothing that a person can see: the books of a ledger, machine by machine and line by line.
async fn books(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', claim_uid, hour, line, (sum(cost_usd) * 1000000)::bigint, (sum(bill_usd) * 1000000)::bigint, (sum(feed_usd) * 1000000)::bigint)
               FROM ledger.posting GROUP BY claim_uid, hour, line HAVING sum(cost_usd) <> 0 OR sum(bill_usd) <> 0 OR sum(feed_usd) <> 0
               UNION ALL SELECT concat_ws(' ', 'earned', day, workload_name, (revenue_usd * 1000000)::bigint) FROM ledger.revenue
               UNION ALL SELECT concat_ws(' ', 'used', hour, workload_name, unit, (quantity * 1000000)::bigint) FROM ledger.usage
               UNION ALL SELECT concat_ws(' ', 'rolled up', day, team, line, (sum(cost_usd) * 1000000)::bigint) FROM ledger.cost_daily GROUP BY day, team, line
                         HAVING sum(cost_usd) <> 0
               ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

/// A version of July's bill: each hour of each machine at a price of its own, some on a plan, some missing, with credits.
fn drawn_bill(dice: &mut Dice, machines: &[Machine], invoice: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for machine in machines {
        let first = machine.interval.from.since(DAY).0 / 3_600_000;
        for hour in first..first + dice.between(1, 6) {
            let (instance, id) = (format!("i-{}", machine.name), format!("{}-{hour}", machine.name));
            let cost = format!("{}.{:04}", dice.between(0, 2), dice.between(0, 9_999));
            lines.push(match dice.between(1, 8) {
                1 => line(&id, "SavingsPlanCoveredUsage", &instance, "BoxUsage:g6.xlarge", hour, "1", "3", &cost),
                2 => line(&id, "Credit", &instance, "SpotUsage:g6.xlarge", hour, "0", &format!("-{cost}"), ""),
                3 => line(&id, "Usage", &instance, "DataTransfer-Out-Bytes", hour, "9", &cost, ""),
                4 => line(&id, "Usage", &format!("i-stranger-{}", machine.name), "BoxUsage:m5.large", hour, "1", &cost, ""),
                _ => line(&id, "Usage", &instance, "SpotUsage:g6.xlarge", hour, "1", &cost, ""),
            });
        }
    }
    lines.iter().map(|line| line.replacen(",,", &format!(",{invoice},"), 1)).collect()
}

const FOCUS: &str = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,ResourceId,\
    ServiceName,Tags\n";

/// A version of a vendor's July: rows of teams, some about machines of ours, which the bill has.
fn drawn_focus(dice: &mut Dice, amount: i64) -> String {
    let mut row = |n: i64| {
        let (from, to) = (DAY + Millis::from_hours(7 * n), DAY + Millis::from_hours(7 * n + dice.between(1, 30)));
        // What changes by more than half is another test's.
        let resource = ["", "i-a", "i-stranger"][usize::try_from(n % 3).unwrap()];
        let team = 1 + n % 2;
        format!(
            "acct,USD,2026-07-01T00:00:00Z,Usage,{from},{to},{amount}.{n:010},AI Vendor,{resource},Chat model,\"{{\"\"Squad\"\": \"\"t{team}\"\"}}\"\n"
        )
    };
    (0..4).map(&mut row).collect()
}

/// A version of a day as OpenAI's API has it.
fn vendor_usage(requests: i64) -> String {
    let start = DAY.0 / 1_000;
    let result = serde_json::json!({ "input_tokens": 7 * requests, "output_tokens": requests, "num_model_requests": requests, "project_id": "proj_a", "model": "m-1" });
    let bucket = serde_json::json!({ "start_time": start, "end_time": start + 86_400, "results": [result] });
    serde_json::json!({ "object": "page", "data": [bucket], "has_more": false, "next_page": null }).to_string()
}

/// INV-13: any split, order, repetition and history of versions gives the books of the last version of each period.
#[tokio::test]
async fn any_split_order_repetition_and_history_gives_the_books_of_the_last_versions() {
    let Bench { server, .. } = bench().await;
    let histories = std::env::var("LOWTIDE_STATEMENT_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    for seed in 0..histories {
        let mut dice = Dice(1_000 + seed);
        let mut connections = Vec::new();
        let mut machines = Vec::new();
        for side in ["any", "last"] {
            let database = format!("{side}_{seed}");
            server.psql("template1", &format!("CREATE DATABASE {database}")).unwrap();
            let url = server.url_of(&database);
            lowtide::ledger::migrate(&url).await.unwrap();
            let ledger = lowtide::ledger::PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
            machines.clear();
            for (n, name) in ["a", "b", "c"].iter().enumerate() {
                let n = i64::try_from(n).unwrap();
                machines.push(machine_of(&ledger, name, DAY + Millis::from_mins(37 * n), 4 + n).await);
            }
            connections.push(connect(&url).await.unwrap());
        }
        let folder = Folder::new(&format!("inv-13-{seed}"));
        // Versions of the bill, each in parts with a manifest, in a folder that says when it was made.
        let versions = dice.between(2, 4);
        let mut commands = Vec::new();
        for version in 0..versions {
            let at = format!("2026-08-{:02}T00:00:00Z-v", 3 + version);
            let invoice = if version + 1 == versions && dice.one_in(2) { "INV-1" } else { "" };
            let lines = drawn_bill(&mut dice, &machines, invoice);
            let parts = usize::try_from(dice.between(1, 3)).unwrap();
            let keys: Vec<String> = (1..=parts).map(|part| format!("\"b/{at}/r-{part:05}.csv\"")).collect();
            folder.file(&format!("{at}/r-Manifest.json"), &format!(r#"{{"assemblyId": "{at}", "reportKeys": [{}]}}"#, keys.join(", ")));
            for part in 1..=parts {
                let text: String = lines.iter().enumerate().filter(|(n, _)| n % parts == part - 1).map(|(_, line)| line.as_str()).collect();
                let file = folder.file(&format!("{at}/r-{part:05}.csv"), &format!("{HEADER}{text}"));
                commands.push(vec![file.clone()]);
                if dice.one_in(3) {
                    commands.push(vec![file.clone(), file]);
                }
            }
            if dice.one_in(2) {
                commands.push(vec![folder.0.join(&at)]);
            }
        }
        let last = folder.0.join(format!("2026-08-{:02}T00:00:00Z-v", 2 + versions));
        commands.push(vec![last.clone()]);
        for n in (1..commands.len()).rev() {
            commands.swap(n, usize::try_from(dice.between(0, i64::try_from(n).unwrap())).unwrap());
        }
        let options = || Options {
            checks: lowtide::ledger::import::Checks::accepting([Check::AmountChanged, Check::ForeignAccount, Check::MissingMachines]),
            ..Options::default()
        };
        for files in &commands {
            match import(&mut connections[0], Format::Cur, files, options(), LATER).await {
                Ok(_) => {}
                Err(fault) => assert!(fault.to_string().contains("accept older-version"), "seed {seed}: {fault}"),
            }
        }
        import(&mut connections[1], Format::Cur, &[last], options(), LATER).await.unwrap();
        // Revenue, other costs, ours and as FOCUS, and usage, ours and a vendor's: the last of several is what holds, however often each is given.
        let mapping = Mapping::read(&folder.file("tags.csv", "label,tag\nteam,Squad\n")).unwrap();
        // Without a mapping usage is the vendor's project's: of ours the usage is given above.
        let projects = Projects::default();
        for (format, header) in [
            (Format::Revenue, "period,workload,revenue_usd\n"),
            (Format::Costs, "period,item,cost_usd,team\n"),
            (Format::Usage, "hour,workload,requests\n"),
            (Format::Focus(&mapping), FOCUS),
            (Format::VendorUsage(&projects), ""),
        ] {
            let versions: Vec<PathBuf> = (0..dice.between(1, 3))
                .map(|n| {
                    // No two versions say the same.
                    let amount = 10 * dice.between(100, 120) + n;
                    let text = match format {
                        Format::Revenue => format!("2026-07,ml/of-search,{amount}\n"),
                        Format::Costs => format!("2026-07-{:02},api,{amount},t{}\n", dice.between(1, 31), dice.between(1, 2)),
                        Format::Focus(_) => drawn_focus(&mut dice, amount),
                        Format::VendorUsage(_) => vendor_usage(amount),
                        _ => format!("2026-07-20T07:00:00Z,ml/of-search,{amount}\n"),
                    };
                    let name: String = header.chars().filter(char::is_ascii_lowercase).take(40).collect();
                    folder.file(&format!("given-{name}/{n}"), &format!("{header}{text}"))
                })
                .collect();
            for (n, file) in versions.iter().enumerate() {
                for _ in 0..dice.between(1, 2) {
                    taken(&mut connections[0], format, std::slice::from_ref(file)).await.unwrap();
                }
                // Costs of two days are two periods.
                if let (Some(old), false) = (n.checked_sub(1), format == Format::Costs) {
                    let again = taken(&mut connections[0], format, std::slice::from_ref(&versions[old])).await.unwrap_err().to_string();
                    assert!(again.contains("has replaced it") && again.contains("--accept older-version"), "seed {seed}: {again}");
                }
            }
            taken(&mut connections[1], format, &versions[versions.len() - 1..]).await.unwrap();
        }
        let mut both = Vec::new();
        for connection in &mut connections {
            both.push(books(connection).await);
        }
        assert!(both[0].len() > 10, "{:?}", both[0]);
        assert_eq!(both[0], both[1], "seed {seed}: {commands:?}");
    }
}
