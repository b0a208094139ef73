//! A server's error -> [`Error`]: whether trying again helps, and which GRANT is missing.

use sqlx::mysql::MySqlDatabaseError;

use crate::error::{Error, Kind, Retry};

/// The server's number of an error, if it comes from the server.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(inner) = error else { return None };
    inner.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Whether a lock was not had in time, or a statement was ended for taking too long.
pub(super) fn is_lock_wait(number: u16) -> bool {
    // Lock wait timeout; deadlock; NOWAIT; MariaDB's and MySQL's limits on a statement's time; query interrupted.
    matches!(number, 1205 | 1213 | 3572 | 1969 | 3024 | 1317)
}

/// MySQL's error where a table of information_schema, whose texts are utf8mb3, would have to show a character outside of that.
pub(super) const UNSHOWN: u16 = 3854;

/// What `error` is to us. The numbers are those of the MySQL and MariaDB error references.
pub(super) fn fault(error: sqlx::Error) -> Error {
    let message = match &error {
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        _ => return without_number(error),
    };
    let number = number(&error).unwrap_or(0);
    let plain = |kind, what: &str| Error::new(kind, what.to_owned()).with("error", number);
    match number {
        // Too many connections, shutdown, aborted, killed, gone, not available.
        1040 | 1053 | 1077 | 1079 | 1152 | 1158..=1161 | 1184 | 1203 | 1226 | 1927 | 3032 | 3168 | 3169 | 4031 => {
            plain(Kind::DatabaseUnreachable, "the database does not serve us now")
        }
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1410 | 1419 | 1698 => {
            plain(Kind::Permission, "the database denies a right").hint(hint(number, &message))
        }
        n if is_lock_wait(n) || n == 1412 => plain(Kind::Busy, "a lock was not had in time"),
        UNSHOWN => plain(Kind::Busy, "another session's statement holds a character that the server cannot show")
            .hint("nothing was changed; try again when that statement has ended"),
        1049 | 1054 | 1146 => plain(Kind::Schema, "a table or column does not exist"),
        1290 if message.contains("read-only") || message.contains("read_only") => read_only(),
        1792 | 1836 => read_only(),
        1665 => plain(Kind::Database, "the binary log is written as statements, and InnoDB writes under READ COMMITTED only as rows")
            .hint("SET GLOBAL binlog_format = ROW (MariaDB: or MIXED), then let the application connect anew and restart `rowbound run`"),
        // Disk or memory full, table full.
        1021 | 1037 | 1041 | 1114 => plain(Kind::Database, "the database has no room").retry(Retry::Later),
        _ => plain(Kind::Database, "a statement failed"),
    }
    .because(error)
}

/// A server that takes no writes: a replica, as a rule, and its rows may be older than the files.
pub(super) fn read_only() -> Error {
    Error::new(Kind::DatabaseUnreachable, "this server takes no writes (read_only): it is a replica, or its writes are stopped")
        .hint("name the primary's host in `database`, or SET GLOBAL read_only = OFF; Rowbound goes on by itself then")
}

/// What is said of a connection that TLS does not let come about, and what to look at.
const TLS: (&str, &str) = (
    "the database cannot be reached by TLS",
    "see `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key` in docs/configuration.md; verify_identity needs a certificate with the host's name",
);

/// An error of the driver or of the way to the server.
fn without_number(error: sqlx::Error) -> Error {
    let text = error.to_string();
    let (kind, what, hint) = match &error {
        // sqlx was built without RSA, by which a password could be sent without TLS: to whoever answers, because nothing proves the key that he sends.
        sqlx::Error::Configuration(_) if text.contains("RSA") => (
            Kind::Config,
            "the account's password is not sent without TLS (caching_sha2_password, sha256_password)",
            "take `ssl-mode=disabled` out of `database`, and let the server offer TLS; on the server's own machine connect by `?socket=PATH`, with TLS too",
        ),
        sqlx::Error::Configuration(_) => (
            Kind::Config,
            "the database's URL cannot be used",
            "write mysql://user:password@host:3306/name; docs/configuration.md lists the options",
        ),
        sqlx::Error::Protocol(_) if text.contains("authentication plugin") => (
            Kind::Permission,
            "the account logs in by a plugin that Rowbound does not know",
            "use an account with caching_sha2_password, sha256_password, mysql_native_password, or the one of the Unix socket",
        ),
        sqlx::Error::Tls(_) => (Kind::DatabaseUnreachable, TLS.0, TLS.1),
        // A certificate that is not accepted: what rustls refuses within a handshake comes so.
        sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => (Kind::DatabaseUnreachable, TLS.0, TLS.1),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => (
            Kind::DatabaseUnreachable,
            "the database cannot be reached",
            "check host and port, or the paths of the socket and of certificates, and that the server is running",
        ),
        _ => return Error::new(Kind::Database, "the database's answer was not understood").because(error),
    };
    Error::new(kind, what).because(error).hint(hint)
}

/// Names the GRANT that the message asks for.
fn hint(number: u16, message: &str) -> String {
    let user = message.find("user '").map_or("the account of `database`", |at| {
        let rest = &message[at + 5..];
        // 'name'@'host' has four quotes.
        rest.match_indices('\'').nth(3).map_or("the account of `database`", |(end, _)| &rest[..=end])
    });
    match number {
        1142 | 1143 => {
            let right = message.split_whitespace().next().unwrap_or("ALL");
            let table = message.rfind("for table ").map_or("..", |at| message[at + 10..].trim());
            format!("GRANT {} ON {} TO {user}", right.trim_end_matches(','), table.replace('\'', "`"))
        }
        1044 => format!("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, TRIGGER, INDEX, REFERENCES ON <database>.* TO {user}"),
        1227 => {
            let right = message.split_once("at least one of) the ").and_then(|(_, rest)| rest.split_once(" privilege"));
            format!("GRANT {} ON *.* TO {user}", right.map_or("PROCESS", |(right, _)| right))
        }
        1370 => format!("GRANT EXECUTE ON <database>.* TO {user}"),
        1410 => format!("GRANT CREATE USER ON *.* TO {user}"),
        1419 => "with the binary log on, triggers need SET GLOBAL log_bin_trust_function_creators = 1, or the SUPER privilege".to_owned(),
        _ => "check user, password and host in `database`; the account needs rights on that database".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{fault, hint};

    #[test]
    fn a_certificate_that_is_refused_is_told_from_a_server_that_is_away() {
        let hint = |kind: std::io::ErrorKind| fault(sqlx::Error::Io(kind.into())).hint_text().unwrap_or_default().to_owned();
        assert!(hint(std::io::ErrorKind::InvalidData).contains("`ssl-ca`"));
        assert!(hint(std::io::ErrorKind::ConnectionRefused).contains("host and port"));
    }

    #[test]
    fn the_hint_names_the_grant() {
        for (number, message, want) in [
            (
                1142,
                "DELETE command denied to user 'app'@'localhost' for table `shop`.`t`",
                "GRANT DELETE ON `shop`.`t` TO 'app'@'localhost'",
            ),
            (
                1227,
                "Access denied; you need (at least one of) the PROCESS privilege(s) for this operation",
                "GRANT PROCESS ON *.* TO the account of `database`",
            ),
        ] {
            assert_eq!(hint(number, message), want);
        }
    }
}
