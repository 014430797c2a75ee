//! `lowtide explain`: why a machine was bought or work moved, from the ledger alone.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::answer::tell;
use super::ledger::{AsOfArgs, DatabaseArgs};
use crate::ledger::explain;

/// Arguments of `lowtide explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// What to explain.
    #[command(subcommand)]
    pub subject: Subject,
}

/// What can be explained.
#[derive(Debug, Subcommand)]
pub enum Subject {
    /// One decision.
    Decision {
        /// Its id, from the pod's event, the claim or the logs.
        id: uuid::Uuid,
        /// The ledger's database.
        #[command(flatten)]
        database: DatabaseArgs,
        /// As of which day.
        #[command(flatten)]
        as_of: AsOfArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The decisions about one pod, newest first.
    Pod {
        /// Its name.
        name: String,
        /// Its namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Maximum number of decisions.
        #[arg(long, default_value_t = 3)]
        limit: i64,
        /// The ledger's database.
        #[command(flatten)]
        database: DatabaseArgs,
        /// As of which day.
        #[command(flatten)]
        as_of: AsOfArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs `lowtide explain`; prints to standard output, faults to standard error.
pub async fn run(args: ExplainArgs) -> ExitCode {
    tell(answer(args.subject).await)
}

/// The requested explanation.
///
/// # Errors
/// When the ledger cannot be read, or has no such decision.
pub async fn answer(subject: Subject) -> Result<String, Box<dyn std::error::Error>> {
    let (database, as_of, json) = match &subject {
        Subject::Decision { database, as_of, json, .. } | Subject::Pod { database, as_of, json, .. } => (database, as_of.clone(), *json),
    };
    let mut connection = as_of.connect(database).await?;
    let (ids, missing) = match subject {
        Subject::Decision { id, .. } => {
            (vec![id], format!("the ledger has no decision {id}; a very recent one may still be in the outbox (kubectl get gpudecisions)"))
        }
        Subject::Pod { name, namespace, limit, .. } => (
            explain::decisions_of_pod(&mut connection, &namespace, &name, limit).await?,
            format!("the ledger has no decision about pod {namespace}/{name}; is the namespace correct (-n)?"),
        ),
    };
    let mut found = Vec::new();
    for id in ids {
        found.extend(explain::decision(&mut connection, id).await?);
    }
    if found.is_empty() {
        return Err(as_of.as_of.map_or_else(|| missing.clone(), |day| format!("at the end of {day}, {missing}")).into());
    }
    if json {
        return Ok(serde_json::to_string_pretty(&found)?);
    }
    let texts = found.iter().map(explain::ExplainedDecision::to_text).collect::<Vec<_>>().join("\n\n----\n\n");
    Ok(as_of.as_of.map_or_else(|| texts.clone(), |day| format!("{texts}\n\nThis is what was known at the end of {day}.")))
}
