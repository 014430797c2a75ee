//! What keeps the ledger: posting, sealing, verifying.
//!
//! Decides: the words, and that whoever waits for more than two seconds is told what for.

use std::time::Duration;

use super::{Answer, DatabaseArgs};
use crate::core::time::Timestamp;
use crate::ledger::{connect, poster, seal};

/// The wall clock.
pub(super) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Tells the person who waits, every two seconds, until dropped.
pub(super) struct Working(tokio::task::JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to tell what is being done.
pub(super) fn working(what: &'static str) -> Working {
    Working(tokio::spawn(async move {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            eprintln!("lowtide: {what}, {} s so far", begun.elapsed().as_secs());
        }
    }))
}

/// `lowtide ledger post`.
pub(super) async fn post(database: &DatabaseArgs) -> Answer {
    let mut connection = connect(&database.database_url).await?;
    let _progress = working("posting");
    let done = poster::post(&mut connection, now()).await?;
    if done.rows == 0 && done.rollups == 0 {
        return Ok("Nothing has settled since the last posting.".into());
    }
    Ok(format!("Posted {} rows for {} machines; {} daily sums rebuilt.", done.rows, done.machines, done.rollups))
}

/// `lowtide ledger seal`.
pub(super) async fn seal(database: &DatabaseArgs) -> Answer {
    let mut connection = connect(&database.database_url).await?;
    let _progress = working("sealing");
    let sealed = seal::seal(&mut connection).await?;
    Ok(match sealed.root {
        Some(root) => format!("Sealed {} rows. Root of seal {}: {root}", sealed.rows, sealed.number),
        None => "Nothing has settled since the last seal.".into(),
    })
}

/// `lowtide ledger verify`.
pub(super) async fn verify(database: &DatabaseArgs) -> Answer {
    let mut connection = connect(&database.database_url).await?;
    let _progress = working("recomputing every hash");
    verified(&seal::verify(&mut connection).await?)
}

fn verified(outcome: &seal::Verification) -> Answer {
    let seal::Verification { seals, sealed_rows, unsealed_rows, last_root, findings, .. } = outcome;
    if findings.is_empty() {
        return Ok(format!(
            "Nothing was altered, removed or added: {sealed_rows} rows under {seals} seals, {unsealed_rows} not sealed yet.\nLast root: {last_root}"
        ));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(format!("the ledger is not what was written; {} findings:\n{}", lines.len(), lines.join("\n")).into())
}
