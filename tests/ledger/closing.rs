//! A month is closed by the manual alone: its numbered steps, command by command, by a person in finance, on a bill that is not final and on one that is.

use std::collections::BTreeMap;

use lowtide::lab::postgres::PrivatePostgres;

use crate::facts::{Bench, bench};
use crate::imports::Folder;
use crate::roles::{MANUAL, facts, files, run};
use crate::statements::{HEADER, line};

const COST: &str = "SELECT coalesce(sum(cost_usd), 0)::numeric(10,2) FROM ledger.cost_daily";

fn section() -> &'static str {
    MANUAL.split("### Closing a month").nth(1).unwrap().split("### ").next().unwrap()
}

/// The commands of the section in its order.
fn commands() -> Vec<String> {
    let flat = section().replace("\n   ", " ");
    let commands = flat.split('`').skip(1).step_by(2).filter(|code| code.starts_with("lowtide ledger ")).map(str::to_owned);
    commands.collect()
}

/// Runs them all, as a login that may what the section says; gives what each said.
fn closed(server: &PrivatePostgres, folder: &Folder) -> BTreeMap<String, String> {
    let url = server.url_for("closer", "postgres");
    let before = server.psql("postgres", COST).unwrap();
    let mut said = BTreeMap::new();
    for command in commands() {
        let costs = "SELECT id FROM ledger.statements WHERE kind = 'costs' AND state = 'holds' AND source = 'costs'";
        let id = server.psql("postgres", costs).unwrap();
        let with_names = command.replace("retract ID", &format!("retract {}", id.trim())).replace("ml/chat", "ml/of-search");
        let answer = run(&folder.0, &url, &with_names).unwrap_or_else(|fault| panic!("{command}: {fault}"));
        if command == "lowtide ledger import cur FOLDER --dry-run" {
            assert_eq!(server.psql("postgres", COST).unwrap(), before, "a dry run writes nothing");
        }
        said.insert(command, answer);
    }
    said
}

/// The queries of the section, as the person who closes.
fn ask(server: &PrivatePostgres, n: usize) -> String {
    let queries: Vec<&str> = section().split("```sql").nth(1).unwrap().split("```").next().unwrap().split(";\n").collect();
    assert_eq!(queries.len(), 5);
    server.psql("postgres", &format!("SET ROLE closer; {}", queries[n])).unwrap_or_else(|fault| panic!("{}: {fault}", queries[n]))
}

fn login(server: &PrivatePostgres) {
    let login = "CREATE ROLE closer LOGIN PASSWORD 'pw-of-closer-1ab5'; GRANT lowtide_reader, lowtide_writer, lowtide_sealer TO closer";
    server.psql("postgres", login).unwrap();
}

/// Bill, then what comes from elsewhere, comparison, explanation, corrections, export, seal: one after the other, as the steps are numbered.
#[test]
fn the_manual_closes_a_month_in_an_order_in_which_each_step_rests_on_the_one_before() {
    let commands = commands();
    let at = |what: &str| {
        commands.iter().position(|command| command.starts_with(&format!("lowtide ledger {what}"))).unwrap_or_else(|| panic!("{what}"))
    };
    let steps = [
        "import cur",
        "statements",
        "import focus",
        "reconcile",
        "trust",
        "variance",
        "retract",
        "retag",
        "export",
        "validate-focus",
        "seal",
        "verify",
    ];
    assert!(steps.map(at).is_sorted(), "{commands:?}");
}

#[tokio::test]
async fn a_month_is_closed_from_the_manual_alone() {
    let Bench { ledger, server, .. } = bench().await;
    facts(&ledger).await;
    let folder = Folder::new("roles-closing");
    files(&folder);
    login(&server);
    assert!(commands().len() >= 21, "{:?}", commands());
    let said = closed(&server, &folder);
    let of = |command: &str| said[command].as_str();
    assert!(of("lowtide ledger import cur FOLDER --dry-run").starts_with("Nothing was written. This would happen:"));
    assert!(of("lowtide ledger import cur FOLDER").contains("bill of 111122223333 for 2026-07-01: version 1"));
    assert!(
        of("lowtide ledger reconcile --month 2026-07").starts_with("2026-07: AWS confirmed 0 instance-hours and 10 were trued up by $1.00")
    );
    assert!(of("lowtide ledger trust --month 2026-07").contains("of spend rests on AWS's bill"));
    assert!(of("lowtide ledger variance --to 2026-07").contains("more than 2026-06"));
    assert!(of("lowtide ledger variance --to 2026-07 --by team").contains("search"));
    assert!(of("lowtide ledger validate-focus focus.parquet").contains("all valid FOCUS 1.2"));
    assert!(of("lowtide ledger seal").starts_with("Sealed "), "{}", of("lowtide ledger seal"));
    let (sealed, verified) = (of("lowtide ledger seal"), of("lowtide ledger verify"));
    let root = sealed.trim().rsplit(' ').next().unwrap();
    assert!(verified.starts_with("Nothing was altered") && verified.trim().ends_with(root), "{verified}");
    assert!(of("lowtide ledger statements --month 2026-07 --kind bill --held").contains(" no "), "a bill that is not final says so");
    assert!(of("lowtide ledger retract ID --reason 'entered twice' --dry-run").starts_with("Nothing was written. This would happen:"));
    // Nothing is missing in the books, and the export is what it says.
    let ask = |n: usize| ask(&server, n);
    assert_eq!(ask(0).trim(), "", "the books have another amount than the bill");
    assert!(ask(1).starts_with("111122223333|1||USD|11|11.00"), "{}", ask(1));
    assert_eq!(
        ask(2).lines().filter(|row| row.contains("i-next|") && row.contains("not on the bill or feed yet")).count(),
        2,
        "{}",
        ask(2)
    );
    let exported = ask(3);
    let (file, books) = exported.trim().split_once('|').unwrap();
    assert_eq!(file.parse::<f64>().unwrap(), books.parse::<f64>().unwrap());
    // Retracted, and ten hours of work moved to the team that it ran for.
    let teams = "SELECT string_agg(team || ' ' || usd, ', ' ORDER BY team) FROM (SELECT team, sum(cost_usd)::numeric(10,2) AS usd FROM ledger.cost_daily
                 WHERE team IS NOT NULL GROUP BY team HAVING sum(cost_usd) <> 0) x";
    assert_eq!(server.psql("postgres", teams).unwrap().trim(), "search 12.00, vision 11.00");
}

/// The same on the final bill: a machine that it lacks holds it back; then nothing of the month is open, and what is sealed is what AWS charged.
#[tokio::test]
async fn a_month_is_closed_on_a_bill_that_is_final() {
    let Bench { ledger, server, .. } = bench().await;
    facts(&ledger).await;
    let folder = Folder::new("closing-final");
    files(&folder);
    login(&server);
    let url = server.url_for("closer", "postgres");
    let invoiced = |machines: &[(&str, std::ops::Range<i64>)]| {
        let of_machine = |(name, hours): &(&str, std::ops::Range<i64>)| {
            let hour = |n: i64| line(&format!("{name}-{n}"), "Usage", &format!("i-{name}"), "SpotUsage:g6.xlarge", n, "1", "1.10", "");
            hours.clone().map(|n| hour(n).replacen(",,", ",INV-7,", 1)).collect::<String>()
        };
        folder.file("FOLDER/r-00001.csv", &format!("{HEADER}{}", machines.iter().map(of_machine).collect::<String>()));
    };
    // The export left a machine out.
    invoiced(&[("a", 0..10)]);
    run(&folder.0, &url, "lowtide ledger post").unwrap();
    let fault = run(&folder.0, &url, "lowtide ledger import cur FOLDER").unwrap_err();
    assert!(
        fault.contains("the bill of 2026-07 is final and has no line for the use of i-next") && fault.contains("--accept missing-machines"),
        "{fault}"
    );
    invoiced(&[("a", 0..10), ("next", 10..12)]);
    let said = closed(&server, &folder);
    let of = |command: &str| said[command].as_str();
    assert!(of("lowtide ledger import cur FOLDER").contains("bill of 111122223333 for 2026-07-01: version 1, 12 new"));
    let held = of("lowtide ledger statements --month 2026-07 --kind bill --held");
    assert!(held.contains(" yes ") && !held.contains(" no "), "{held}");
    let reconciled = of("lowtide ledger reconcile --month 2026-07");
    assert!(
        reconciled.starts_with(
            "2026-07: AWS confirmed 0 instance-hours and 12 were trued up by $1.20, $13.20 in all; $0.00 in 0 instance-hours is not on a bill or feed yet."
        ),
        "{reconciled}"
    );
    assert!(of("lowtide ledger variance --to 2026-07").contains("more than 2026-06"));
    assert!(of("lowtide ledger validate-focus focus.parquet").contains("all valid FOCUS 1.2"));
    let (sealed, verified) = (of("lowtide ledger seal"), of("lowtide ledger verify"));
    let root = sealed.trim().rsplit(' ').next().unwrap();
    assert!(verified.starts_with("Nothing was altered") && verified.trim().ends_with(root), "{verified}");
    // Tied out: each dollar of the bill is in the books, the bill is the invoice, AWS charged every hour, and the export has what the machines cost.
    assert_eq!(ask(&server, 0).trim(), "");
    assert!(ask(&server, 1).starts_with("111122223333|1|INV-7|USD|13.2|13.20"), "{}", ask(&server, 1));
    assert_eq!(ask(&server, 2).trim(), "");
    let exported = ask(&server, 3);
    let (file, books) = exported.trim().split_once('|').unwrap();
    assert_eq!((file.parse::<f64>().unwrap(), books.parse::<f64>().unwrap()), (13.2, 13.2));
    // Imported once more after the seal, it is the version that is there already, and nothing is added to what was closed.
    let again = run(&folder.0, &url, "lowtide ledger import cur FOLDER").unwrap();
    assert!(again.contains("already there as version 1"), "{again}");
}
