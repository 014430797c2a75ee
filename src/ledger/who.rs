//! Who takes a statement, corrects labels or fetches: what is put on record as `taken_by`.
//!
//! Decides: that the server's word about who is connected and the system's about whose process asks are both on record, and which is which.
//! Does not: prove the second: a client says it of itself (docs/ledger.md, "Who did it").

use sqlx::PgConnection;

use super::store::LedgerFault;

/// Who is asking: `person@host as login`. The login is the one that Postgres let in, whatever role was taken on since.
pub(in crate::ledger) async fn taken_by(connection: &mut PgConnection) -> Result<String, LedgerFault> {
    let role = sqlx::query_scalar!(r#"SELECT session_user::text AS "role!""#);
    let role = role.fetch_one(connection).await.map_err(LedgerFault::during("ask who is connected"))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let person = person(user_id(), &read("/etc/passwd"), std::env::var("USER").ok().as_deref());
    Ok(said(&person, read("/proc/sys/kernel/hostname").trim(), &role))
}

/// The user that this process runs as, where the system says it.
fn user_id() -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/self").ok().map(|of| of.uid())
    }
    #[cfg(not(unix))]
    None
}

/// The system's name for the user of the process, or its number; what the environment calls it only beside that, since anyone may set it.
fn person(uid: Option<u32>, passwd: &str, user: Option<&str>) -> String {
    let user = user.map(str::trim).filter(|user| !user.is_empty());
    let named = |uid: u32| {
        let line = |line: &'_ str| -> Option<String> {
            let mut fields = line.split(':');
            let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
            (number.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
        };
        passwd.lines().find_map(line).unwrap_or_else(|| format!("uid {uid}"))
    };
    match (uid.map(named), user) {
        (Some(name), Some(user)) if name != user => format!("{name} (USER={user})"),
        (Some(name), _) => name,
        (None, Some(user)) => format!("USER={user}"),
        (None, None) => String::new(),
    }
}

fn said(person: &str, host: &str, role: &str) -> String {
    match (person, host) {
        ("", "") => role.to_owned(),
        ("", host) => format!("somebody@{host} as {role}"),
        (person, "") => format!("{person} as {role}"),
        (person, host) => format!("{person}@{host} as {role}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_who_and_the_environment_is_named_as_what_it_is() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n:x:7::\n";
        for (uid, user, expected) in [
            (Some(1000), Some("alice"), "alice"),
            (Some(1000), None, "alice"),
            (Some(1000), Some("the-cfo"), "alice (USER=the-cfo)"),
            (Some(0), Some("alice"), "root (USER=alice)"),
            (Some(65_532), None, "uid 65532"),
            (Some(7), None, "uid 7"),
            (None, Some("alice"), "USER=alice"),
            (None, Some(" "), ""),
        ] {
            assert_eq!(person(uid, passwd, user), expected);
        }
        assert_eq!(said("alice", "laptop", "finance"), "alice@laptop as finance");
        assert_eq!([said("", "pod-1", "op"), said("", "", "op"), said("alice", "", "op")], ["somebody@pod-1 as op", "op", "alice as op"]);
    }
}
