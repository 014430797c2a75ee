//! Upgrade and rollback with work running: objects as another version left them, and a ledger of another version.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::released;
use crate::stage::Stage;

fn write_status(stage: &Stage, claim: &str, status: &Value) {
    let patch = json!({ "status": status }).to_string();
    stage.lab.kubectl(&["patch", "gpunodeclaim", claim, "--subresource", "status", "--type", "merge", "-p", &patch]).unwrap();
}

/// The claims as a cluster of 0.1.0 has them: under its definitions, and written under them, so that the API server has dropped every field that
/// 0.1.0 did not know.
async fn as_0_1_0_left_them(stage: &mut Stage, names: &[String]) {
    stage.lab.kubectl(&["replace", "-f", &released::definitions("0.1.0").display().to_string()]).unwrap();
    let unknown = |s: &Stage| s.claims().iter().filter(|claim| !claim["spec"]["bindings"].is_null()).count();
    assert!(!names.is_empty());
    stage.until("the definitions of 0.1.0 are served", async |s| (unknown(s) == 0).then_some(())).await;
    for name in names {
        stage.lab.kubectl(&["annotate", "gpunodeclaim", name, "written-by=0.1.0"]).unwrap();
    }
}

/// Upgrade: the operator of this version starts on what 0.1.0 left, first under the definitions of 0.1.0, then under its own. Rollback: it finds
/// words that it does not know. Nothing ends either way, and new work is placed.
pub async fn objects_of_0_1_0_and_words_of_tomorrow_end_nothing(stage: &mut Stage) {
    let names: Vec<String> = stage.claims().iter().map(|claim| claim["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert!(stage.claims().iter().all(|claim| claim["spec"]["bindings"].is_array()), "this version keeps what it decided");
    stage.stop_operator();
    as_0_1_0_left_them(stage, &names).await;
    stage.spawn_operator(&[]);
    let waits = "the custom resource definitions in the cluster are older than this lowtide";
    stage.until("it says that the definitions are too old", async |s| s.log().contains(waits).then_some(())).await;
    stage.steady(5).await;
    stage.lab.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "crds"]).unwrap();
    stage.lab.operator_ready(std::time::Duration::from_secs(120)).await.unwrap();
    stage.steady(10).await;
    let claims = stage.claims();
    assert!(claims.iter().all(|claim| claim["status"]["phase"] == "Ready" && claim["spec"]["bindings"].is_null()), "{claims:?}");

    // Rollback: a later version found the nodes unwell in a way of its own, and named a phase that is none here.
    stage.stop_operator();
    let odd = json!({ "unhealthy": { "reason": "melting", "since": "2026-11-20T11:00:00.000Z" }, "misfits": ["of-tomorrow"] });
    names.iter().for_each(|name| write_status(stage, name, &odd));
    stage.start_operator(&[]).await;
    stage.steady(10).await;
    let well = async |s: &mut Stage| s.claims().iter().all(|claim| claim["status"]["unhealthy"].is_null()).then_some(());
    stage.until("what this version sees itself is what holds", well).await;

    // And it works on: a third replica gets a machine, the first two keep theirs.
    scaled(stage, 3).await;
}

/// What `scripts/earlier.sh` built of 0.1.0: its program, and its source with its chart.
fn earlier() -> Option<(PathBuf, PathBuf)> {
    let cache = std::env::var_os("LOWTIDE_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache/lowtide")))?;
    let folder = cache.join("earlier/0.1.0");
    let (program, source) = (folder.join("lowtide"), folder.join("source"));
    (program.is_file() && source.is_dir()).then_some((program, source))
}

/// Helm takes over the definitions that were put in by hand before: it changes nothing that another manager has.
fn definitions(stage: &Stage, folder: &Path) {
    let folder = folder.display().to_string();
    stage.lab.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", &folder]).unwrap();
}

/// With more replicas another gets a machine, and those that run keep theirs.
async fn scaled(stage: &mut Stage, replicas: usize) {
    let (before, machines) = (stage.ready_pods("chat"), stage.machines().await);
    stage.lab.kubectl(&["scale", "deployment", "chat", "-n", "work", &format!("--replicas={replicas}")]).unwrap();
    stage.until("one more pod runs", async |s| (s.ready_pods("chat").len() == replicas).then_some(())).await;
    assert!(stage.ready_pods("chat").is_superset(&before) && stage.machines().await.is_superset(&machines));
}

/// A rollback to the program of 0.1.0 with its chart, and the upgrade from it, with work running: nothing ends, and both place new work. Gives how many
/// pods run then.
pub async fn the_program_of_0_1_0_and_back_end_nothing(stage: &mut Stage, pods: usize) -> usize {
    let Some((program, source)) = earlier() else {
        eprintln!("left out: there is no program of 0.1.0; scripts/earlier.sh builds it from the history of this repository");
        return pods;
    };
    stage.stop_operator();
    definitions(stage, &source.join("crds"));
    stage.lab.install_chart_of(&source, &[]).unwrap();
    stage.start_program(program).await;
    stage.steady(15).await;
    scaled(stage, pods + 1).await;
    stage.steady(5).await;
    stage.stop_operator();
    definitions(stage, "crds".as_ref());
    stage.lab.install_chart(&[]).unwrap();
    stage.start_operator(&[]).await;
    stage.steady(15).await;
    scaled(stage, pods + 2).await;
    stage.steady(5).await;
    pods + 2
}

/// A newer ledger takes what this version writes; an older one is named, and what is decided waits.
pub async fn a_ledger_of_another_version_holds_nothing_up(stage: &mut Stage, pods: usize) {
    let sql = |stage: &Stage, text: &str| stage.lab.postgres.psql("postgres", text).unwrap().trim().to_owned();
    let decisions = |stage: &Stage| sql(stage, "SELECT count(*) FROM ledger.decision").parse::<i64>().unwrap();
    sql(stage, "ALTER TABLE ledger.decision ADD COLUMN of_tomorrow text; CREATE TABLE ledger.of_tomorrow (id uuid)");
    sql(
        stage,
        "INSERT INTO ledger.applied_migration (version, description, success, checksum, execution_time) VALUES (9999, 'of tomorrow', true, '', 0)",
    );
    let before = decisions(stage);
    stage.lab.kubectl(&["scale", "deployment", "chat", "-n", "work", &format!("--replicas={}", pods + 1)]).unwrap();
    stage.until("its decision is in the newer ledger", async |s| (decisions(s) > before).then_some(())).await;
    stage.until("another pod runs", async |s| (s.ready_pods("chat").len() == pods + 1).then_some(())).await;
    let refused = stage.lab.lowtide(&["ledger", "migrate"]).expect_err("an older version migrates a newer ledger").to_string();
    assert!(refused.contains("newer") && refused.contains("9999"), "{refused}");
    sql(stage, "DELETE FROM ledger.applied_migration WHERE version = 9999; DROP TABLE ledger.of_tomorrow");

    sql(stage, "ALTER TABLE ledger.decision RENAME COLUMN outcome TO outcome_of_yesterday");
    let before = decisions(stage);
    stage.lab.kubectl(&["scale", "deployment", "chat", "-n", "work", &format!("--replicas={}", pods + 2)]).unwrap();
    stage.until("it says so", async |s| s.log().contains("the ledger's schema is older than this lowtide").then_some(())).await;
    stage.until("another pod runs all the same", async |s| (s.ready_pods("chat").len() == pods + 2).then_some(())).await;
    assert_eq!(decisions(stage), before, "its decision waits");
    sql(stage, "ALTER TABLE ledger.decision RENAME COLUMN outcome_of_yesterday TO outcome");
    stage.until("what waited is delivered", async |s| (decisions(s) > before && s.items(&["gpudecisions"]).len() < 5).then_some(())).await;
    stage.steady(3).await;
}
