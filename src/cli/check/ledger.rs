//! What is looked at in Postgres: that it answers, over TLS, with this version's schema, and that the operator's role may write.

use sqlx::PgConnection;

use super::findings::{Area, Finding};
use crate::ledger::migrate::{LEAST_VERSION, connect, newest};

/// Looks at the ledger at `url`.
pub async fn check(url: &str) -> Vec<Finding> {
    let mut connection = match connect(url).await {
        Ok(connection) => connection,
        Err(fault) => {
            let todo = "see that the URL, the network, the certificate authority and the password are right";
            return vec![Finding::fault(Area::Ledger, "connection", fault.to_string(), todo)];
        }
    };
    let mut findings = vec![server(&mut connection).await, tls(&mut connection).await];
    let schema = schema(&mut connection).await;
    findings.push(schema);
    findings.push(rights(&mut connection).await);
    findings
}

fn unanswered(what: &'static str, fault: &sqlx::Error) -> Finding {
    Finding::fault(Area::Ledger, what, fault.to_string(), "run `lowtide ledger migrate` as the schema's owner, or look at the server's log")
}

async fn server(connection: &mut PgConnection) -> Finding {
    let asked = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
    match sqlx::query_as::<_, (i32, String)>(asked).fetch_one(connection).await {
        Ok((number, version)) if number >= LEAST_VERSION => Finding::good(Area::Ledger, "server", format!("Postgres {version}")),
        Ok((_, version)) => Finding::fault(Area::Ledger, "server", format!("Postgres {version}"), "the ledger needs 15 or newer"),
        Err(fault) => unanswered("server", &fault),
    }
}

async fn tls(connection: &mut PgConnection) -> Finding {
    let asked = "SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), inet_server_addr() IS NULL \
                 OR inet_server_addr() << '127.0.0.0/8' OR inet_server_addr() = '::1'";
    match sqlx::query_as::<_, (bool, bool)>(asked).fetch_one(connection).await {
        Ok((true, _)) => Finding::good(Area::Ledger, "TLS", "encrypted"),
        Ok((false, true)) => Finding::good(Area::Ledger, "TLS", "not encrypted, on this machine"),
        Ok((false, false)) => Finding::fault(
            Area::Ledger,
            "TLS",
            "not encrypted",
            "turn TLS on at the server, and take sslmode out of the URL (it verifies then)",
        ),
        Err(fault) => unanswered("TLS", &fault),
    }
}

async fn schema(connection: &mut PgConnection) -> Finding {
    let there =
        sqlx::query_scalar::<_, bool>("SELECT to_regnamespace('ledger') IS NOT NULL AND to_regclass('ledger.decision') IS NOT NULL");
    match there.fetch_one(&mut *connection).await {
        Ok(true) => {}
        Ok(false) => return Finding::fault(Area::Ledger, "schema", "there is none", "run `lowtide ledger migrate` (the chart's job does)"),
        Err(fault) => return unanswered("schema", &fault),
    }
    let asked = "SELECT max(version) FROM ledger.applied_migration WHERE success";
    match sqlx::query_scalar::<_, Option<i64>>(asked).fetch_one(connection).await {
        Ok(Some(version)) if version == newest() => Finding::good(Area::Ledger, "schema", format!("migration {version}, this version's")),
        Ok(Some(version)) if version > newest() => {
            let found = format!("migration {version}; this lowtide knows {}", newest());
            Finding::note(Area::Ledger, "schema", found, "a newer lowtide was here: this one goes on writing; upgrade it")
        }
        Ok(version) => {
            let found = format!("migration {}; this lowtide needs {}", version.unwrap_or(0), newest());
            Finding::fault(Area::Ledger, "schema", found, "run `lowtide ledger migrate`; records wait in the outbox until then")
        }
        Err(sqlx::Error::Database(fault)) if fault.code().as_deref() == Some("42501") => {
            let todo = "run this check with the owner's or a reader's URL to compare versions";
            Finding::note(Area::Ledger, "schema", "there; this role may not read its version", todo)
        }
        Err(fault) => unanswered("schema", &fault),
    }
}

async fn rights(connection: &mut PgConnection) -> Finding {
    let asked = "SELECT current_user::text, to_regclass('ledger.decision') IS NOT NULL AND has_schema_privilege('ledger', 'USAGE') \
                 AND has_table_privilege('ledger.decision', 'INSERT')";
    match sqlx::query_as::<_, (String, bool)>(asked).fetch_one(connection).await {
        Ok((role, true)) => Finding::good(Area::Ledger, "role", format!("{role} may write")),
        Ok((role, false)) => {
            let todo = format!("GRANT lowtide_writer TO {role}; if this is the operator's login");
            Finding::fault(Area::Ledger, "role", format!("{role} may not write to ledger.decision"), todo)
        }
        Err(fault) => unanswered("role", &fault),
    }
}
