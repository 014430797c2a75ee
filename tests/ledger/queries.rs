//! What `.sqlx` says of every checked query is what a freshly migrated database says.

use std::path::Path;

use lowtide::ledger::connect;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use crate::facts::{Bench, bench};

#[tokio::test]
async fn every_checked_query_has_the_parameters_and_columns_that_the_code_was_compiled_against() {
    let Bench { url, server: _server, .. } = bench().await;
    let mut connection = connect(&url).await.unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx")).unwrap() {
        let file = entry.unwrap().path();
        let known: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let query = known["query"].as_str().unwrap().to_owned();
        let described = (&mut connection).describe(AssertSqlSafe(query.clone()).into_sql_str()).await;
        let described = serde_json::to_value(described.unwrap_or_else(|fault| panic!("{fault}:\n{query}"))).unwrap();
        for what in ["parameters", "columns", "nullable"] {
            assert_eq!(described[what], known["describe"][what], "{what} of {query}\nmake sqlx renews .sqlx");
        }
        checked += 1;
    }
    assert!(checked >= 30, "only {checked} queries are checked");
}
