//! The SQL of a documented question and its command give the same figures, of the same period.

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::engine::wall_clock::WallClock;
use lowtide::ports::{Clock, Ledger};
use serde_json::Value;

use crate::facts::{Bench, Machine, bench};
use crate::imports::Folder;
use crate::roles::{LOGINS, Question, as_others, facts, files, questions, run};
use crate::statements::{HEADER, line};

/// How a question's two answers are held against each other.
enum Held {
    /// These columns of the command are those of the SQL, by place; rows that only one of them has must be all zero.
    Rows(&'static [&'static str]),
    /// As `Rows`, of the rows whose first column the SQL lists; the command has others as well.
    Listed(&'static [&'static str]),
    /// As `Rows`, of the rows whose last column is below zero.
    Losses(&'static [&'static str]),
    /// The sum of a column of the command is that of the SQL's last.
    Total(&'static str),
    /// The command says as many rows of which this column contains that text as the SQL has.
    Counted(&'static str, &'static str),
    /// They cannot be compared, for this reason.
    Not(&'static str),
}

const HELD: [Held; 22] = [
    Held::Rows(&["team", "spend_usd", "net_saving_usd"]),
    Held::Listed(&["line", "cost_usd"]),
    Held::Losses(&["day", "net_saving_usd"]),
    Held::Listed(&["step", "difference_usd"]),
    Held::Total("cost_usd"),
    Held::Rows(&["instance_type", "zone", "reason", "offers"]),
    Held::Rows(&["workload", "usd_per_unit"]),
    Held::Not("the command says in its sentence, in seconds, what the SQL gives in milliseconds"),
    Held::Rows(&["zone", "instance_type", "per_1000_hours"]),
    Held::Rows(&["item", "usd", "percent", "count"]),
    Held::Rows(&["kind", "source", "from", "version", "taken_by"]),
    Held::Counted("state", "accepted"),
    Held::Rows(&["source", "from", "version", "state", "changed_usd"]),
    Held::Total("cost_usd"),
    Held::Rows(&["team", "line", "cost_usd"]),
    Held::Rows(&["team", "workload", "cost_usd"]),
    Held::Total("difference_usd"),
    Held::Rows(&["month", "machines_usd", "vendor_api_usd", "transfer_usd", "storage_usd", "cost_percent_of_revenue", "margin_usd"]),
    Held::Listed(&["workload", "from_day", "last_day", "labels", "reason"]),
    Held::Not("the command says which share of each day's cost lies in hours whose usage is known, the SQL names the other hours"),
    Held::Rows(&["team", "workload", "idle_usd", "active_usd", "unmeasured_usd", "use_percent"]),
    Held::Rows(&["workload", "change", "state", "saved_usd", "predicted_usd"]),
];

/// The rows of a command in these columns, without its totals.
fn of_command(json: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = json["rows"].as_array().unwrap().iter().filter(|row| !row.as_object().unwrap().values().any(|value| value == "total"));
    rows.map(|row| columns.iter().map(|column| text(&row[*column])).collect()).collect()
}

/// The rows of SQL in the same columns: a workload is two of its columns.
fn of_sql(printed: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let row = |line: &str| {
        let mut values = line.split('|');
        let mut next = || values.next().unwrap_or_default().to_owned();
        let value = |column: &&str| match *column {
            "workload" => match (next(), next()) {
                (namespace, name) if namespace.is_empty() => name,
                (namespace, name) => format!("{namespace}/{name}"),
            },
            "team" => Some(next()).filter(|team| !team.is_empty()).unwrap_or_else(|| "(untagged)".to_owned()),
            "from" => next().chars().take(10).collect(),
            "month" => next().chars().take(7).collect(),
            _ => next(),
        };
        columns.iter().map(value).collect()
    };
    printed.lines().map(row).collect()
}

/// The same text, or the same figure as far as the command prints it.
fn same(command: &str, sql: &str) -> bool {
    let decimals = command.split_once('.').map_or(0, |(_, after)| after.len());
    match (command.parse::<f64>(), sql.parse::<f64>()) {
        (Ok(shown), Ok(exact)) => (shown - exact).abs() <= 0.5 * 0.1_f64.powi(i32::try_from(decimals).unwrap()) + 1e-12,
        _ => command == sql || (command.is_empty() && sql.parse() == Ok(0.0)) || (sql.is_empty() && command.parse() == Ok(0.0)),
    }
}

fn alike(command: &[String], sql: &[String]) -> bool {
    command.iter().zip(sql).all(|(command, sql)| same(command, sql))
}

/// What one has and the other has not.
fn differences(command: &[Vec<String>], sql: &[Vec<String>]) -> Vec<String> {
    let lacking = |row: &&Vec<String>| !command.iter().any(|of| alike(of, row));
    let more = |row: &&Vec<String>| !sql.iter().any(|of| alike(row, of));
    let missing = sql.iter().filter(lacking).map(|row| format!("the command lacks {row:?}"));
    missing.chain(command.iter().filter(more).map(|row| format!("the SQL lacks {row:?}"))).collect()
}

fn sum(rows: &[Vec<String>]) -> f64 {
    rows.iter().filter_map(|row| row.last()?.parse::<f64>().ok()).sum()
}

fn is_negative(row: &[String]) -> bool {
    row.last().and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value < 0.0)
}

/// How two answers differ.
fn compare(held: &Held, json: &Value, sql: &str) -> Vec<String> {
    match held {
        Held::Rows(columns) => differences(&of_command(json, columns), &of_sql(sql, columns)),
        Held::Listed(columns) => {
            let listed = of_sql(sql, columns);
            let mut of_command = of_command(json, columns);
            of_command.retain(|row| listed.iter().any(|of| of[0] == row[0] && alike(row, of)) || listed.iter().all(|of| alike(row, of)));
            differences(&of_command, &listed)
        }
        Held::Losses(columns) => {
            let mut of_command = of_command(json, columns);
            of_command.retain(|row| is_negative(row));
            differences(&of_command, &of_sql(sql, columns))
        }
        Held::Total(column) => {
            let printed: Vec<Vec<String>> = sql.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect();
            let (command, sql) = (sum(&of_command(json, &[column])), sum(&printed));
            ((command - sql).abs() > 1e-6).then(|| format!("the command says {command} in all, the SQL {sql}")).into_iter().collect()
        }
        Held::Counted(column, text) => {
            let command = of_command(json, &[column]).iter().filter(|row| row[0].contains(text)).count();
            let sql = sql.lines().count();
            (command != sql).then(|| format!("the command has {command} of them, the SQL {sql}")).into_iter().collect()
        }
        Held::Not(_) => Vec::new(),
    }
}

/// Today and tomorrow, as UTC days: what the ledger was told, it was told by now.
fn days() -> (String, String) {
    let day = |at: Timestamp| at.to_rfc3339().chars().take(10).collect();
    let now = WallClock.now();
    (day(now), day(now + Millis::from_hours(24)))
}

#[tokio::test]
async fn sql_and_command_of_a_question_give_the_same_figures() {
    let Bench { url, ledger, server } = bench().await;
    let folder = Folder::new("answers");
    files(&folder);
    // The manual's months are UTC, as its commands are.
    server.psql("postgres", &format!("ALTER DATABASE postgres SET timezone = 'UTC'; {LOGINS}")).unwrap();
    facts(&ledger).await;
    as_others(&server, &folder, &url, false);
    let operator = server.url_for("operator", "postgres");
    // A day that lost money, a credit, and a refusal that was overruled.
    let mut idle = Machine::new("idle", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(2), EndedBy::Lowtide);
    let later = Millis::from_hours(24);
    (idle.interval.from, idle.interval.to) = (idle.interval.from + later, idle.interval.to + later);
    ledger.write(&idle.records()).await.unwrap();
    let hours: String =
        (0..10).map(|hour| line(&format!("a-{hour}"), "Usage", "i-a", "SpotUsage:g6.xlarge", hour, "1", "1.10", "")).collect();
    let credit = line("a-credit", "Credit", "i-a", "SpotUsage:g6.xlarge", 0, "1", "-0.50", "");
    folder.file("CREDIT/r-00001.csv", &format!("{HEADER}{hours}{credit}"));
    folder.file("CREDIT/r-Manifest.json", r#"{"assemblyId": "a2", "reportKeys": ["r/a2/r-00001.csv"]}"#);
    folder.file("unknown.csv", "period,item,cost_usd,workload\n2026-07-20,gateway,7,ml/nobody\n");
    for command in ["cur CREDIT", "costs unknown.csv --source more --accept unknown-workloads"] {
        run(&folder.0, &operator, &format!("lowtide ledger import {command}")).unwrap();
    }
    let finance = server.url_for("finance", "postgres");
    let (mut wrong, mut compared) = (Vec::new(), 0);
    let (today, tomorrow) = days();
    for (n, (Question { words, command, sql }, held)) in questions().iter().zip(&HELD).enumerate() {
        let command = command.as_ref().unwrap().replace("2026-08-10", &today);
        let json = run(&folder.0, &finance, &format!("{command} --json")).unwrap_or_else(|fault| panic!("{command}: {fault}"));
        let printed = server.psql("postgres", &sql.replace("2026-08-11", &tomorrow)).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        if let Held::Not(reason) = held {
            println!("{words} not compared: {reason}");
            continue;
        }
        compared += usize::from(!printed.trim().is_empty() && json["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
        let found = compare(held, &json, &printed);
        wrong.extend(found.into_iter().map(|found| format!("{}. {words}: {found}\n{json:#}\n{printed}", n + 1)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{compared} questions have figures");
    assert!(compared >= 17, "only {compared} questions were compared with figures in them");
}
