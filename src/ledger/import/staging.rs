//! Lines of a report on their way into the ledger: read by one thread, copied by another into a temporary table, so that no report is ever in memory.
//!
//! Decides: the form of a staged line.
//! Does not: know what becomes of them (see [`super::bill`], [`super::feed`]).

use std::fmt::Write;

use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::ImportFault;
use super::cur::CurLine;
use crate::core::units::money::BilledUsd;
use crate::ledger::store::LedgerFault;

/// What is sent to Postgres at once.
const CHUNK: usize = 1 << 19;
/// How many chunks may wait.
const WAITING: usize = 4;

const TABLE: &str = "CREATE TEMPORARY TABLE staged_line (
    file integer NOT NULL, part integer NOT NULL, said bigint, line_id text, payer text NOT NULL, period date NOT NULL, kind text NOT NULL, account text NOT NULL, instance text NOT NULL,
    claim_uid text, region text, share numeric, usage_type text NOT NULL, operation text NOT NULL, service text NOT NULL, at timestamptz NOT NULL, until timestamptz NOT NULL,
    cost numeric NOT NULL, used_ms bigint, on_demand numeric, invoice text, currency text NOT NULL, charged numeric) ON COMMIT DROP";

/// Where a line was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The number of its file.
    pub file: usize,
    /// Which of several files that were put together it is from: a header in the middle begins another.
    pub part: usize,
    /// Everything that the line says, hashed, where it has no identity.
    pub said: Option<i64>,
}

/// Where a reader puts its lines.
pub(super) struct Lines {
    to: mpsc::Sender<String>,
    chunk: String,
}

impl Lines {
    /// Adds a line. A discount is a line of its own.
    pub(super) fn add(&mut self, place: Place, line: &CurLine) {
        self.push(place, line, line.kind, line.cost, line.used.map(|used| used.0));
        if line.discount.0 != 0 {
            self.push(Place { said: None, ..place }, line, "discount", line.discount, None);
        }
    }

    fn push(&mut self, place: Place, line: &CurLine, kind: &str, cost: BilledUsd, used: Option<i64>) {
        let _ = write!(self.chunk, "{}\t{}\t", place.file, place.part);
        match place.said {
            Some(said) => _ = write!(self.chunk, "{said}\t"),
            None => self.chunk.push_str("\\N\t"),
        }
        match line.line_id.as_str() {
            "" => self.chunk.push_str("\\N"),
            id => {
                escape(&mut self.chunk, id);
                // A discount has the identity of the line it is on, and is not it.
                let _ = write!(self.chunk, " {kind}");
            }
        }
        for text in [&line.payer, &line.period, kind, &line.account, &line.instance, &line.claim_uid] {
            self.chunk.push('\t');
            escape(&mut self.chunk, text);
        }
        match &line.gateway {
            Some(gateway) => {
                self.chunk.push('\t');
                escape(&mut self.chunk, &gateway.region);
                let _ = write!(self.chunk, "\t{}", gateway.percent);
            }
            None => self.chunk.push_str("\t\\N\t\\N"),
        }
        for text in [&line.usage_type, &line.operation, &line.service] {
            self.chunk.push('\t');
            escape(&mut self.chunk, text);
        }
        let _ = write!(self.chunk, "\t{}\t{}\t{cost}\t", line.from, line.to);
        match used {
            Some(ms) => _ = write!(self.chunk, "{ms}\t"),
            None => self.chunk.push_str("\\N\t"),
        }
        match line.public_on_demand.filter(|_| kind == line.kind) {
            Some(cost) => _ = write!(self.chunk, "{cost}\t"),
            None => self.chunk.push_str("\\N\t"),
        }
        match line.invoice.as_str() {
            "" => self.chunk.push_str("\\N\t"),
            invoice => {
                escape(&mut self.chunk, invoice);
                self.chunk.push('\t');
            }
        }
        escape(&mut self.chunk, &line.charged.currency);
        // A discount that is split off a line is charged with it.
        match kind == line.kind {
            true => _ = writeln!(self.chunk, "\t{}", line.charged.amount),
            false => self.chunk.push_str("\t\\N\n"),
        }
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // When nobody listens any more, Postgres has refused and says so itself.
        let _ = self.to.blocking_send(std::mem::replace(&mut self.chunk, String::with_capacity(CHUNK + 1024)));
    }
}

fn escape(into: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\t' => into.push_str("\\t"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\0' => {}
            c => into.push(c),
        }
    }
}

/// Makes the table and fills it with what `read` gives, in a transaction of the caller's; gives what `read` gave.
pub(super) async fn stage<T: Send + 'static>(
    connection: &mut PgConnection,
    read: impl FnOnce(&mut Lines) -> Result<T, ImportFault> + Send + 'static,
) -> Result<T, ImportFault> {
    let doing = LedgerFault::during;
    sqlx::raw_sql(TABLE).execute(&mut *connection).await.map_err(doing("make room for the lines"))?;
    let (to, mut from) = mpsc::channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = Lines { to, chunk: String::new() };
        let done = read(&mut lines)?;
        lines.flush();
        Ok(done)
    });
    let mut copying = connection.copy_in_raw("COPY staged_line FROM STDIN").await.map_err(doing("copy lines"))?;
    while let Some(chunk) = from.recv().await {
        copying.send(chunk.into_bytes()).await.map_err(doing("copy lines"))?;
    }
    // The reader's word first: what it refused must not look as if Postgres had.
    match reading.await.unwrap_or_else(|fault| Err(ImportFault::Incomplete(format!("reading the files failed: {fault}")))) {
        Ok(done) => {
            copying.finish().await.map_err(doing("copy lines"))?;
            sqlx::raw_sql("ANALYZE staged_line").execute(connection).await.map_err(doing("look over the lines"))?;
            Ok(done)
        }
        Err(fault) => {
            copying.abort("the file was refused").await.map_err(doing("stop copying"))?;
            Err(fault)
        }
    }
}
