//! What the manual promises is denied to nobody whom it is promised to: every documented question, view and command, as each role, on an empty ledger, on a full
//! one, and on one that an earlier release made.

use std::path::Path;
use std::process::Command;

use lowtide::core::fleet::EndedBy;
use lowtide::core::market::CapacityType;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::time::Millis;
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::poster::post;
use lowtide::ledger::{PgLedger, connect, migrate};
use lowtide::ports::Ledger;
use sqlx::Connection;

use crate::facts::{Bench, DAY, Machine, bench, decision, interruption, moved, stay};
use crate::imports::{FEED_HEADER, Folder, LATER};
use crate::outside::as_before_statements;
use crate::statements::{HEADER, line};

pub const MANUAL: &str = include_str!("../../docs/ledger.md");
/// Whatever else names commands of the ledger.
const OTHERS: [&str; 4] = [
    include_str!("../../README.md"),
    include_str!("../../docs/operations.md"),
    include_str!("../../docs/runbooks.md"),
    include_str!("../../docs/install-aws.md"),
];
pub const LOGINS: &str = "CREATE ROLE finance LOGIN PASSWORD 'pw-of-finance-1ab5'; GRANT lowtide_reader TO finance;
    CREATE ROLE auditor LOGIN PASSWORD 'pw-of-auditor-1ab5'; GRANT lowtide_sealer TO auditor;
    CREATE ROLE operator LOGIN PASSWORD 'pw-of-operator-1ab5'; GRANT lowtide_writer TO operator;
    CREATE ROLE planner LOGIN PASSWORD 'pw-of-planner-1ab5'; GRANT lowtide_writer, lowtide_reader TO planner";

/// A documented question: its words, its command and its SQL.
pub struct Question {
    pub words: String,
    pub command: Option<String>,
    pub sql: String,
}

pub fn questions() -> Vec<Question> {
    let questions = MANUAL.split("\n## Questions").nth(1).unwrap();
    let block = questions.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    let mut found: Vec<Question> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("-- ") {
            Some(words) => {
                let command = words.split_once("(lowtide ").map(|(_, rest)| {
                    // What a colon names is a column of the answer; brackets inside quotes belong to the command.
                    let inside = rest.strip_suffix(')').unwrap();
                    format!("lowtide {}", inside.split(": column").next().unwrap().split(": coverage").next().unwrap())
                });
                found.push(Question { words: words.to_owned(), command, sql: String::new() });
            }
            None => {
                if let Some(question) = found.last_mut() {
                    question.sql.push_str(line);
                    question.sql.push('\n');
                }
            }
        }
    }
    found
}

/// Commands as the manual and the other pages have them: in indented blocks, and in the text between backticks.
fn documented() -> Vec<String> {
    let mut found = Vec::new();
    for line in OTHERS.into_iter().chain([MANUAL]).flat_map(str::lines) {
        if let Some(code) = line.strip_prefix("    lowtide ledger") {
            let code = format!("lowtide ledger{}", code.split("  #").next().unwrap());
            found.extend(code.split(" ; ").map(|command| command.trim().to_owned()));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("lowtide ledger ")).map(str::to_owned));
        }
    }
    found.retain(|command| !command.ends_with("...") && command.split_whitespace().count() > 2);
    found.sort();
    found.dedup();
    found
}

/// Words of a command, quotes taken away.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Runs a command of the manual in `folder`, as a person with this database address; gives what it printed, or its fault.
pub fn run(folder: &Path, url: &str, command: &str) -> Result<String, String> {
    let mut words = words(command);
    assert_eq!(words.remove(0), "lowtide", "{command}");
    let mut program = Command::new(env!("CARGO_BIN_EXE_lowtide"));
    program.current_dir(folder).args(&words).env("DATABASE_URL", url).env("USER", "a-person");
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        program.env_remove(name);
    }
    program.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")]);
    let done = program.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// Who runs it: only readers and sealers read, writers bring things in, plans are entered and shown by whoever may do both, the owner migrates and archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Reader,
    Writer,
    Planner,
    Sealer,
    Owner,
}

fn who(command: &str) -> Who {
    let words = words(command);
    match words.get(2).map(String::as_str) {
        Some("import" | "fetch" | "retract" | "post" | "collect-usage") => Who::Writer,
        Some("retag") if !command.contains("--list") => Who::Writer,
        Some("anomalies") if command.contains("--mark") => Who::Writer,
        Some("budget") if command.contains("--enter") => Who::Planner,
        Some("forecast" | "recommendations") if command.contains("--keep") => Who::Planner,
        Some("seal") => Who::Sealer,
        Some("migrate" | "archive") => Who::Owner,
        _ => Who::Reader,
    }
}

/// The files that the manual's commands name, under these names.
pub fn files(folder: &Folder) {
    let (from, to) = (DAY, DAY + Millis::from_hours(10));
    let hours: String =
        (0..10).map(|hour| line(&format!("a-{hour}"), "Usage", "i-a", "SpotUsage:g6.xlarge", hour, "1", "1.10", "")).collect();
    folder.file("FOLDER/r-00001.csv", &format!("{HEADER}{hours}"));
    folder.file("FOLDER/r-Manifest.json", r#"{"assemblyId": "a1", "reportKeys": ["r/a1/r-00001.csv"]}"#);
    let feed = "2026-07-20 00:00:00 UTC\tSpotUsage:g6.xlarge\tRunInstances\ti-a\tsir\t9 USD\t1.0 USD\t1.0 USD\t1\n";
    folder.file("xxx.2026-07-20-14.001.gz", &format!("{FEED_HEADER}{feed}"));
    folder.file(
        "usage.csv",
        &format!(
            "hour,workload,requests,tokens_in,tokens_out\n{from},ml/of-search,100,1000,100\n{},ml/of-search,50,500,50\n",
            from + Millis::from_hours(1)
        ),
    );
    folder.file("FILES", r#"{"object": "page", "data": [{"object": "bucket", "start_time": 1784592000, "end_time": 1784678400, "results": [
        {"object": "organization.usage.completions.result", "input_tokens": 2400, "output_tokens": 240, "num_model_requests": 24, "project_id": "proj_a", "model": "m-1"}]}],
        "has_more": false, "next_page": null}"#);
    folder.file("p.csv", "field,value,workload\nproject,proj_a,ml/of-search\n");
    folder.file("revenue.csv", "period,workload,revenue_usd\n2026-07,ml/of-search,310\n");
    folder.file("costs.csv", "period,item,cost_usd,team\n2026-07-20,postgres,30,search\n");
    folder.file("focus.csv", &format!("BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ProviderName,ResourceId,ServiceName,Tags\n\
        acct,USD,2026-07-01T00:00:00Z,Usage,{from},{to},12.00,AI Vendor,,Chat model,\"{{\"\"Squad\"\": \"\"search\"\"}}\"\n"));
    folder.file("offers.csv", "region,zone,instance_type,capacity_type,price_per_hour\nus-east-1,use1-az4,g6.xlarge,spot,0.35\n");
    folder.file("tags.csv", "label,tag\nteam,Squad\n");
    let yaml = |heading: &str| {
        let block = MANUAL.split("```yaml\n").find(|block| block.starts_with(heading)).unwrap();
        block.split("```").next().unwrap().to_owned()
    };
    folder.file("budgets.yaml", &yaml("budgets:"));
    folder.file("scenarios.yaml", &yaml("scenarios:"));
}

/// A machine with all that happens to one, and its decisions.
pub async fn facts(ledger: &PgLedger) -> uuid::Uuid {
    let mut machine = Machine::new("a", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(10), EndedBy::Ec2Interruption);
    machine.stays.push(stay("web-0", "search", &machine, Millis::from_mins(6), Some(3_000_000)));
    let mut next = Machine::new("next", CapacityType::Spot, 1_000_000, Some(3_000_000), Millis::from_hours(2), EndedBy::Lowtide);
    (next.interval.from, next.interval.to) = (machine.interval.to, machine.interval.to + Millis::from_hours(2));
    let mut records = machine.records();
    records.extend(next.records());
    records.push(LedgerRecord::Decision(Box::new(decision(&machine))));
    records.push(moved(&machine.stays[0], &machine, &next, machine.interval.to - Millis::from_secs(120)));
    records.push(LedgerRecord::Interruption(Box::new(interruption(&machine, machine.interval.to - Millis::from_secs(120)))));
    ledger.write(&records).await.unwrap();
    machine.decision().0
}

/// Runs all that readers may as each of them; `decision` is one that the ledger has, `fresh` says that it has nothing.
fn as_readers(server: &PrivatePostgres, folder: &Folder, decision: Option<uuid::Uuid>) {
    let views = "SELECT relname FROM pg_class WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'v'";
    let views: Vec<String> = server.psql("postgres", views).unwrap().lines().map(str::to_owned).collect();
    assert!(views.len() > 15);
    for role in ["finance", "auditor"] {
        let url = server.url_for(role, "postgres");
        for view in &views {
            let asked = server.psql("postgres", &format!("SET ROLE {role}; SELECT count(*) FROM ledger.{view}"));
            asked.unwrap_or_else(|fault| panic!("{role}: {view}: {fault}"));
            let as_of =
                server.psql("postgres", &format!("SET ROLE {role}; SET lowtide.as_of = '2026-08-11'; SELECT count(*) FROM ledger.{view}"));
            as_of.unwrap_or_else(|fault| panic!("{role}, as of a day: {view}: {fault}"));
        }
        for Question { words, sql, .. } in questions() {
            server.psql("postgres", &format!("SET ROLE {role}; {sql}")).unwrap_or_else(|fault| panic!("{role}: {words}: {fault}"));
        }
        let asked = questions().into_iter().map(|question| question.command.unwrap_or_else(|| panic!("{} has no command", question.words)));
        for command in asked.chain(documented()).filter(|command| who(command) == Who::Reader) {
            let _ = std::fs::remove_file(folder.0.join("focus.parquet"));
            if command.contains("validate-focus") {
                run(&folder.0, &url, "lowtide ledger export --month 2026-07 --output focus.parquet --format parquet").unwrap();
            }
            let id = decision.map_or_else(|| uuid::Uuid::nil().to_string(), |id| id.to_string());
            let command = command.replace("decision ID", &format!("decision {id}")).replace("pod NAME -n NAMESPACE", "pod web-0 -n ml");
            match run(&folder.0, &url, &command) {
                Ok(text) => assert!(!text.trim().is_empty(), "{role}: {command} says nothing"),
                // What is not there cannot be explained.
                Err(fault) if command.contains("explain") && decision.is_none() => {
                    assert!(fault.contains("the ledger has no decision"), "{fault}")
                }
                Err(fault) if command.contains("forecast") && decision.is_none() => {
                    assert!(fault.contains("a forecast needs 14"), "{fault}")
                }
                Err(fault) => panic!("{role}: {command}: {fault}"),
            }
        }
        if role == "auditor" {
            continue;
        }
        // The same as tables for other programs: CSV has its header whatever it holds, and JSON is JSON.
        for report in [
            "cost",
            "savings",
            "unit-cost",
            "unit-economics",
            "gpu-use",
            "gpu-use --compare 2026-06 2026-07",
            "recommendations",
            "recommendations --score",
            "reliability",
            "refusals",
            "trust",
            "statements",
            "variance --to 2026-07",
            "reconcile --month 2026-07",
            "budget",
            "anomalies",
            "forecast",
            "retag --list",
        ] {
            let csv = match run(&folder.0, &url, &format!("lowtide ledger {report} --csv")) {
                Err(fault) if report == "forecast" && decision.is_none() => {
                    assert!(fault.contains("a forecast needs 14"), "{fault}");
                    continue;
                }
                answer => answer.unwrap(),
            };
            let header = csv.lines().next().unwrap_or_default();
            assert!(header.contains(',') && !header.contains(' '), "{role}: {report} --csv begins with {header:?}");
            let json = run(&folder.0, &url, &format!("lowtide ledger {report} --json")).unwrap();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert!(json["sentence"].as_str().is_some_and(|sentence| sentence.ends_with('.')), "{role}: {report}: {json}");
        }
    }
}

/// Runs all that writers, planners, sealers and the owner may, each by its own login; gives the command that retracts. `holds_others`: the ledger has what other
/// files said.
pub fn as_others(server: &PrivatePostgres, folder: &Folder, owner: &str, holds_others: bool) -> String {
    let operator = server.url_for("operator", "postgres");
    let auditor = server.url_for("auditor", "postgres");
    let planner = server.url_for("planner", "postgres");
    run(&folder.0, &operator, "lowtide ledger post").unwrap();
    let owner = owner.to_owned();
    let mut taken = None;
    for command in documented() {
        let command =
            command.replace("FOLDER-OR-FILES", "FOLDER").replace("ml/chat", "ml/of-search").replace("--to 2026-07-15", "--to 2026-07-22");
        let (login, command) = match who(&command) {
            Who::Reader => continue,
            Who::Sealer => (&auditor, command),
            Who::Planner => (&planner, command),
            Who::Owner if command.contains("migrate") => (&owner, "lowtide ledger migrate".to_owned()),
            Who::Owner => (&owner, command.replace("DIR", "archived")),
            // S3 is another test's.
            Who::Writer if command.contains("fetch") => continue,
            Who::Writer if command.contains("--withdraw") => {
                let keep =
                    "lowtide ledger retag --workload ml/of-search --from 2026-07-20 --to 2026-07-21 --set team=vision --reason 'a test'";
                run(&folder.0, &operator, keep).unwrap();
                let id = server.psql("postgres", "SELECT id FROM ledger.retags WHERE state = 'holds' LIMIT 1").unwrap();
                (&operator, command.replace("ID", id.trim()))
            }
            Who::Writer if command.contains("retract") => {
                taken = Some(command);
                continue;
            }
            Who::Writer => (&operator, command),
        };
        let mut done = run(&folder.0, login, &command);
        // What an earlier release took differs from these files, and a person says that it may.
        let mut accepting = command.clone();
        for _ in 0..3 {
            let Err(fault) = &done else { break };
            let Some(check) = fault.split("--accept ").nth(1).filter(|_| holds_others) else { break };
            accepting = format!("{accepting} --accept {}", check.split([')', ' ', '\n']).next().unwrap_or_default());
            done = run(&folder.0, login, &accepting);
        }
        done.unwrap_or_else(|fault| panic!("{accepting}: {fault}"));
    }
    taken.unwrap()
}

#[test]
fn every_question_has_its_sql_and_its_command() {
    let questions = questions();
    assert_eq!(questions.len(), 22);
    for (n, Question { words, command, sql }) in questions.iter().enumerate() {
        assert!(words.starts_with(&format!("{}. ", n + 1)) && words.contains('?'), "{words}");
        assert!(command.is_some() && sql.trim_end().ends_with(';') && sql.starts_with("SELECT"), "{words}: {sql}");
    }
    let commands = documented();
    assert!(commands.len() > 35, "{commands:?}");
}

#[tokio::test]
async fn nothing_is_denied_that_the_manual_promises() {
    let Bench { url, ledger, server } = bench().await;
    let folder = Folder::new("roles");
    files(&folder);
    server.psql("postgres", LOGINS).unwrap();
    as_readers(&server, &folder, None);
    let decision = facts(&ledger).await;
    let operator = server.url_for("operator", "postgres");
    let retract = as_others(&server, &folder, &url, false);
    as_readers(&server, &folder, Some(decision));
    let id = server.psql("postgres", "SELECT id FROM ledger.statements WHERE kind = 'bill' AND state = 'holds'").unwrap();
    run(&folder.0, &operator, &retract.replace("ID", id.trim())).unwrap();
    // And what is not promised is denied.
    let finance = server.url_for("finance", "postgres");
    for command in [
        "lowtide ledger import costs costs.csv",
        "lowtide ledger post",
        "lowtide ledger seal",
        "lowtide ledger retract 00000000-0000-0000-0000-000000000000 --reason none",
    ] {
        let fault = run(&folder.0, &finance, command).unwrap_err();
        assert!(fault.contains("permission denied"), "{command}: {fault}");
    }
}

/// On an empty ledger nothing is denied to writers either: what they bring is taken, or a sentence says what it needs.
#[tokio::test]
async fn an_empty_ledger_takes_what_writers_bring_or_says_what_it_needs() {
    let Bench { url, ledger: _ledger, server } = bench().await;
    let folder = Folder::new("roles-empty");
    files(&folder);
    server.psql("postgres", LOGINS).unwrap();
    let (mut taken, mut refused) = (0, Vec::new());
    for command in documented() {
        let command =
            command.replace("FOLDER-OR-FILES", "FOLDER").replace("ml/chat", "ml/of-search").replace("--to 2026-07-15", "--to 2026-07-22");
        let login = match who(&command) {
            Who::Reader => continue,
            Who::Writer if command.contains("fetch") => continue,
            Who::Writer => "operator",
            Who::Planner => "planner",
            Who::Sealer => "auditor",
            Who::Owner => continue,
        };
        let command = command.replace("ID", &uuid::Uuid::nil().to_string());
        let mut done = run(&folder.0, &server.url_for(login, "postgres"), &command);
        let mut accepting = command.clone();
        for _ in 0..3 {
            let Err(fault) = &done else { break };
            let Some(check) = fault.split("--accept ").nth(1) else { break };
            accepting = format!("{accepting} --accept {}", check.split([')', ' ', '\n']).next().unwrap_or_default());
            done = run(&folder.0, &server.url_for(login, "postgres"), &accepting);
        }
        match done {
            Ok(_) => taken += 1,
            Err(fault) => refused.push(format!("{accepting}: {fault}")),
        }
    }
    // What needs something to be there says so.
    for fault in &refused {
        let needs = ["a forecast needs 14", "there is no correction", "nothing is posted for machines of", "there is no statement"];
        assert!(needs.iter().any(|said| fault.contains(said)), "{fault}");
    }
    assert!(taken > 10, "{refused:?}");
    run(&folder.0, &url, "lowtide ledger verify").unwrap();
}

/// The schema of an earlier release with what it held, then this release's migrations.
#[tokio::test]
async fn a_ledger_of_an_earlier_release_answers_as_well() {
    let server = PrivatePostgres::start_temporary().unwrap();
    let url = server.url();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    as_before_statements(&mut connection).await;
    // Other costs were posted as estimates, without a statement; a correction of them was one more revision, and its difference.
    let rows = "SELECT ledger.ensure_month('2026-07-01');
        INSERT INTO ledger.workload_version (id, at, workload_kind, workload_namespace, workload_name, team)
            VALUES ('11111111-1111-1111-1111-111111111111', 'epoch', 'External', '', 'postgres', 'search');
        INSERT INTO ledger.external_cost (id, at, item, workload, revision, cost_usd) VALUES
            (gen_random_uuid(), '2026-07-20', 'postgres', '11111111-1111-1111-1111-111111111111', 0, 10),
            (gen_random_uuid(), '2026-07-20', 'postgres', '11111111-1111-1111-1111-111111111111', 1, 12);
        INSERT INTO ledger.posting (id, at, workload, gpu_ms, span_ms, line, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, bill_usd) VALUES
            (gen_random_uuid(), '2026-07-20', '11111111-1111-1111-1111-111111111111', 0, 86400000, 'overhead', 'estimate', 'entered', 10, 0, 0, 0, 0, 0),
            (gen_random_uuid(), '2026-07-20', '11111111-1111-1111-1111-111111111111', 0, 86400000, 'overhead', 'correction', 'entered', 2, 0, 0, 0, 0, 0);
        INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms, invoice) VALUES
            (gen_random_uuid(), '2026-07-20', 'bill', 'usage', '444455556666', 'i-a', 'SpotUsage:g6.xlarge', '', '2026-07-20 01:00+00', 0, 1.10, 3600000, NULL),
            (gen_random_uuid(), '2026-07-20 01:00+00', 'feed', 'usage', '', 'i-a', 'SpotUsage:g6.xlarge', '', '2026-07-20 02:00+00', 0, 1.20, 3600000, NULL);
        INSERT INTO ledger.usage_hour (id, at, workload_namespace, workload_name, unit, revision, quantity, source) VALUES
            (gen_random_uuid(), '2026-07-20 07:00+00', 'ml', 'of-search', 'requests', 0, 10, 'file');
        INSERT INTO ledger.revenue_day (id, at, workload_namespace, workload_name, revision, revenue_usd) VALUES (gen_random_uuid(), '2026-07-20', 'ml', 'of-search', 0, 40)";
    server.psql("postgres", &format!("SET timezone = 'UTC'; {rows}")).unwrap();
    let ledger = PgLedger::with_patience(&url, std::time::Duration::from_secs(60)).unwrap();
    let decision = facts(&ledger).await;
    migrate(&url).await.unwrap();
    server.psql("postgres", LOGINS).unwrap();
    let mut connection = connect(&url).await.unwrap();
    post(&mut connection, LATER).await.unwrap();
    let folder = Folder::new("roles-earlier");
    files(&folder);
    as_readers(&server, &folder, Some(decision));
    let cost = "SELECT coalesce(sum(cost_usd), 0)::numeric(10,2) FROM ledger.cost_daily WHERE line = 'overhead'";
    assert_eq!(server.psql("postgres", cost).unwrap().trim(), "12.00");
    // What it took can be taken back, and replaced, like anything else.
    let operator = server.url_for("operator", "postgres");
    let id = server.psql("postgres", "SELECT id FROM ledger.statements WHERE kind = 'costs'").unwrap();
    run(&folder.0, &operator, &format!("lowtide ledger retract {} --reason 'entered twice'", id.trim())).unwrap();
    assert_eq!(server.psql("postgres", cost).unwrap().trim(), "0.00");
    run(&folder.0, &operator, "lowtide ledger import costs costs.csv").unwrap();
    assert_eq!(server.psql("postgres", cost).unwrap().trim(), "30.00");
    run(&folder.0, &operator, "lowtide ledger import cur FOLDER --accept amount-changed --accept older-version").unwrap();
    // And whoever writes, plans, seals or owns does there what the manual says.
    as_others(&server, &folder, &url, true);
    as_readers(&server, &folder, Some(decision));
    run(&folder.0, &url, "lowtide ledger seal").unwrap();
    let verified = run(&folder.0, &url, "lowtide ledger verify").unwrap();
    assert!(verified.starts_with("Nothing was altered"), "{verified}");
}
