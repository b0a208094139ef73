//! A database's URL, as applications write it.
//!
//! In: a URL in the spelling of dj-database-url, django-environ, Rails, Laravel or SQLAlchemy. Out: the same address as the drivers read it. Promise: what says
//! *which* database is meant (host, socket, schema) is taken over or refused, never dropped; what only tunes a client is dropped. A password is never shown.
//! No IO but in `file`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Kind, Result};

mod file; // which file a SQLite URL means

pub(super) use file::settled;
pub use file::sqlite_file;

/// What an address's part holds as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What an option's value holds as it is.
const VALUE: &AsciiSet = &PART.remove(b'/').remove(b':').remove(b',').remove(b'=');

/// The same of its name: `options[search_path]`.
const KEY: &AsciiSet = &PART.remove(b'[').remove(b']');

/// The options that PostgreSQL's driver knows, besides those for which an address has a place of its own.
const POSTGRES_OPTIONS: [&str; 12] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "application_name",
    "options",
];

/// Which family of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Sqlite,
    Postgres,
    Mysql,
}

/// Schemes, and as what the drivers know them. A `+driver` behind one (SQLAlchemy), `prometheus-` before it (django-environ) and `jdbc:` are taken off first.
const SCHEMES: [(&str, &str, Family); 18] = [
    ("sqlite", "sqlite", Family::Sqlite),
    ("sqlite3", "sqlite", Family::Sqlite),    // Rails, Laravel
    ("spatialite", "sqlite", Family::Sqlite), // Django
    ("postgres", "postgres", Family::Postgres),
    ("postgresql", "postgresql", Family::Postgres),
    ("pgsql", "postgres", Family::Postgres),   // Laravel, Django
    ("psql", "postgres", Family::Postgres),    // Django
    ("postgis", "postgres", Family::Postgres), // Django, Rails
    ("timescale", "postgres", Family::Postgres),
    ("timescaledb", "postgres", Family::Postgres),
    ("timescalegis", "postgres", Family::Postgres),
    ("mysql", "mysql", Family::Mysql),
    ("mysql2", "mysql", Family::Mysql),          // Rails, Laravel, Django
    ("trilogy", "mysql", Family::Mysql),         // Rails
    ("mysqlgis", "mysql", Family::Mysql),        // Django
    ("mysql-connector", "mysql", Family::Mysql), // Django
    ("mysql_connector", "mysql", Family::Mysql),
    ("mariadb", "mariadb", Family::Mysql),
];

/// What to write, for hints.
const EXAMPLES: &str = "write sqlite:path/to/db.sqlite3, postgres://user:password@host/name or mysql://user:password@host/name";

fn bad(why: impl Into<String>, url: &str) -> Error {
    Error::new(Kind::Config, why).with("database", redact(url)).hint(EXAMPLES)
}

/// The scheme as the drivers know it, its family, and what stands behind the colon.
fn scheme(url: &str) -> Result<(&'static str, Family, &str)> {
    let rest = url.strip_prefix("jdbc:").unwrap_or(url);
    let Some((written, rest)) = rest.split_once(':') else { return Err(bad("`database` has no scheme", url)) };
    let lower = written.to_ascii_lowercase();
    let (base, driver) = lower.split_once('+').unwrap_or((&lower, ""));
    if driver.contains("sqlcipher") {
        return Err(bad("`database` is encrypted: SQLCipher cannot be read", url));
    }
    let base = base.strip_prefix("prometheus-").unwrap_or(base);
    match SCHEMES.iter().find(|(name, ..)| *name == base) {
        Some((_, known, family)) => Ok((known, *family, rest)),
        None => Err(bad(format!("`database` has no scheme that is known: {written:?}"), url)),
    }
}

/// Where a server is, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Server {
    user: Option<String>,
    password: Option<String>,
    /// Empty: the client's default. It begins with `/`: a Unix socket, or PostgreSQL's folder of them.
    host: String,
    port: Option<u16>,
    database: String,
    /// Options, decoded, in their order.
    options: Vec<(String, String)>,
}

/// Without its percent-encoding; what is no encoding stays as it is.
fn decoded(text: &str, url: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| bad("`database` holds bytes that are no UTF-8", url))?;
    Ok(text.into_owned())
}

impl Server {
    /// Reads what stands behind the scheme's colon.
    fn parse(rest: &str, url: &str) -> Result<Self> {
        let Some(rest) = rest.strip_prefix("//") else { return Err(bad("`database` has no `//` behind its scheme", url)) };
        let mut server = Server::default();
        let end = rest.find('/').unwrap_or(rest.len());
        let host = match rest[..end].rfind('@') {
            Some(at) => {
                let (user, password) = rest[..at].split_once(':').map_or((&rest[..at], None), |(u, p)| (u, Some(p)));
                server.user = Some(decoded(user, url)?).filter(|user| !user.is_empty());
                server.password = password.map(|p| decoded(p, url)).transpose()?;
                &rest[at + 1..]
            }
            None => rest,
        };
        let (place, query) = host.split_once('?').unwrap_or((host, ""));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            server.options.push((decoded(key, url)?, decoded(&value.replace('+', " "), url)?));
        }
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        server.host(host, url)?;
        match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
            // django-environ: postgres:////var/run/postgresql/name, mysql://user@//cloudsql/project:region:instance/name
            Some((socket, name)) if server.host.is_empty() => {
                server.host = decoded(&format!("/{socket}"), url)?;
                server.database = decoded(name, url)?;
            }
            _ => server.database = decoded(path, url)?,
        }
        Ok(server)
    }

    /// Reads `host`, `host:port`, `[v6]:port`, or a percent-encoded path of a socket.
    fn host(&mut self, text: &str, url: &str) -> Result<()> {
        let whole = decoded(text, url)?;
        if whole.starts_with('/') {
            self.host = whole;
            return Ok(());
        }
        if whole.contains(',') {
            return Err(
                bad("`database` names several hosts", url).hint("name the one that takes writes: what another one shows may be old")
            );
        }
        let end = whole.strip_prefix('[').and_then(|v6| v6.find(']')).map_or(0, |end| end + 2);
        let (host, port) = match whole[end..].rsplit_once(':') {
            Some((before, port)) => (format!("{}{before}", &whole[..end]), port),
            None => (whole.clone(), ""),
        };
        if !port.is_empty() {
            self.port = Some(port.parse().map_err(|_| bad("`database` has a port that is no number", url))?);
        }
        self.host = host;
        Ok(())
    }

    /// The value of an option, which is taken out.
    fn take(&mut self, names: &[&str]) -> Option<String> {
        let at = self.options.iter().position(|(key, _)| names.contains(&key.as_str()))?;
        Some(self.options.remove(at).1).filter(|value| !value.is_empty())
    }

    /// What the spellings of PostgreSQL's clients come to.
    fn postgres(&mut self, url: &str) -> Result<()> {
        if self.options.iter().filter(|(key, _)| key == "host").count() > 1 {
            self.host("several,hosts", url)?;
        }
        if let Some(name) = self.take(&["service", "servicefile"]) {
            return Err(bad(format!("`database` names a service of pg_service.conf, which is not read: {name:?}"), url));
        }
        // SQLAlchemy, Django and libpq: ?host=/var/run/postgresql, ?host=name:port
        if let Some(host) = self.take(&["host", "hostaddr"]) {
            self.host(&utf8_percent_encode(&host, VALUE).to_string(), url)?;
        }
        if let Some(file) = self.take(&["unix_sock"]) {
            // pg8000 names the socket itself, all others its folder.
            self.host = file.rsplit_once('/').map_or(file.as_str(), |(folder, _)| folder).to_owned();
        }
        if let Some(port) = self.take(&["port"]) {
            self.port = Some(port.parse().map_err(|_| bad("`database` has a port that is no number", url))?);
        }
        if let Some(name) = self.take(&["dbname", "database"]) {
            self.database = name;
        }
        self.user = self.take(&["user", "username"]).or_else(|| self.user.take());
        self.password = self.take(&["password"]).or_else(|| self.password.take());
        // asyncpg, node-postgres: ?ssl=require, ?ssl=true
        if let Some(ssl) = self.take(&["ssl"]) {
            let mode = match ssl.as_str() {
                "true" | "1" | "on" => "require",
                "false" | "0" | "off" => "disable",
                other => other,
            };
            self.options.push(("sslmode".to_owned(), mode.to_owned()));
        }
        if let Some((_, mode)) = self.options.iter_mut().find(|(key, mode)| key == "sslmode" && mode == "no-verify") {
            *mode = "require".to_owned(); // node-postgres
        }
        // Where unqualified tables are: JDBC and dj-database-url, Prisma, Laravel, Rails.
        if let Some(path) = self.take(&["currentSchema", "schema", "search_path", "schema_search_path"]) {
            let mut escaped = String::new();
            for c in path.chars() {
                if c.is_whitespace() || c == '\\' {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
            self.options.push(("options".to_owned(), format!("-c search_path={escaped}")));
        }
        if let Some(file) = self.take(&["passfile"]) {
            return Err(bad(format!("`database` names a file of passwords: {file:?}"), url).hint("set PGPASSFILE to that file instead"));
        }
        self.options.retain(|(key, _)| POSTGRES_OPTIONS.contains(&key.as_str()) || key.starts_with("options["));
        Ok(())
    }

    /// What the spellings of MySQL's clients come to. What is not known here goes to the driver as it is.
    fn mysql(&mut self) {
        // PyMySQL, mysqlclient, Laravel: unix_socket; Rails: socket
        if let Some(socket) = self.take(&["socket", "unix_socket", "unix-socket"]) {
            self.host = socket;
        }
        self.user = self.take(&["user", "username"]).or_else(|| self.user.take());
        self.password = self.take(&["password"]).or_else(|| self.password.take());
        for (key, value) in &mut self.options {
            let known = match key.as_str() {
                "ssl_ca" | "sslca" => "ssl-ca",
                "ssl_cert" | "sslcert" => "ssl-cert",
                "ssl_key" | "sslkey" => "ssl-key",
                "ssl_mode" | "sslmode" => "ssl-mode",
                "ssl" | "useSSL" if matches!(value.as_str(), "true" | "True" | "1") => {
                    "required".clone_into(value);
                    "ssl-mode"
                }
                "ssl_disabled" if matches!(value.as_str(), "true" | "True" | "1") => {
                    "disabled".clone_into(value);
                    "ssl-mode"
                }
                _ => continue,
            };
            known.clone_into(key);
        }
    }

    /// As the drivers read it.
    fn url(&self, scheme: &str, family: Family) -> String {
        let part = |text: &str| utf8_percent_encode(text, PART).to_string();
        let socket = self.host.starts_with('/');
        // A URL with a user and without a host does not parse, and another host would mean another server.
        let nowhere = self.host.is_empty() && family == Family::Postgres;
        let mut out = format!("{scheme}://");
        if let Some(user) = self.user.as_ref().filter(|_| !nowhere) {
            out.push_str(&part(user));
            if let Some(password) = &self.password {
                let _ = write!(out, ":{}", part(password));
            }
            out.push('@');
        }
        match self.host.is_empty() || socket {
            true if nowhere => {}
            true => out.push_str("localhost"),
            false => out.push_str(&self.host),
        }
        if let Some(port) = self.port.filter(|_| !nowhere) {
            let _ = write!(out, ":{port}");
        }
        out.push('/');
        out.push_str(&part(&self.database));
        let mut options = Vec::new();
        if nowhere {
            options.extend(self.port.map(|port| ("port", port.to_string())));
            options.extend(self.user.clone().map(|user| ("user", user)));
            options.extend(self.password.clone().map(|password| ("password", password)));
        }
        if socket {
            options.push((if family == Family::Mysql { "socket" } else { "host" }, self.host.clone()));
        }
        options.extend(self.options.iter().map(|(key, value)| (key.as_str(), value.clone())));
        for (i, (key, value)) in options.iter().enumerate() {
            out.push(if i == 0 { '?' } else { '&' });
            let _ = write!(out, "{}={}", utf8_percent_encode(key, KEY), utf8_percent_encode(value, VALUE));
        }
        out
    }
}

/// `url` as the drivers read it: `sqlite:PATH`, `postgres://..` or `mysql://..`. What is so already stays as it is.
///
/// # Errors
/// [`Kind::Config`] says what is wrong, or cannot be honoured.
pub fn canonical(url: &str) -> Result<String> {
    let (scheme, family, rest) = scheme(url)?;
    if family == Family::Sqlite {
        // Four slashes are an absolute path for everybody.
        return Ok(rest
            .strip_prefix("///")
            .filter(|path| path.starts_with('/'))
            .map_or_else(|| format!("sqlite:{rest}"), |path| format!("sqlite:/{}", path.trim_start_matches('/'))));
    }
    let mut server = Server::parse(rest, url)?;
    match family {
        Family::Postgres => server.postgres(url)?,
        _ => server.mysql(),
    }
    Ok(server.url(scheme, family))
}

/// Whether two URLs lead to the same database, whoever logs in and with which options. What cannot be read leads elsewhere.
pub fn same_database(one: &str, other: &str) -> bool {
    #[derive(PartialEq, Eq)]
    enum Place {
        File(PathBuf),
        Server(Family, String, u16, String),
    }
    let place = |url: &str| -> Option<Place> {
        let (_, family, rest) = scheme(url).ok()?;
        if family == Family::Sqlite {
            let path = match sqlite_file(url, Path::new("")).ok()? {
                Ok(path) => std::fs::canonicalize(path).ok()?,
                Err(tried) => std::path::absolute(tried.first()?).ok()?,
            };
            return Some(Place::File(path));
        }
        let mut server = Server::parse(rest, url).ok()?;
        let port = match family {
            Family::Postgres => server.postgres(url).map(|()| 5432).ok()?,
            _ => {
                server.mysql();
                3306
            }
        };
        let host = match server.host.trim_end_matches('/') {
            "" | "127.0.0.1" | "[::1]" => "localhost".to_owned(),
            host => host.to_owned(),
        };
        Some(Place::Server(family, host, server.port.unwrap_or(port), server.database))
    };
    one == other || place(one).is_some_and(|place_of_one| Some(place_of_one) == place(other))
}

/// A database as the marker of a storage tells it, which everybody reads who may read the files: `postgres shop`, `sqlite app.sqlite3`. It has no host, user or
/// path in it.
pub fn label(url: &str) -> String {
    // A password may hold any of the characters at which this is cut.
    let url = redact(url);
    let bare = url.split(['?', '#']).next().unwrap_or(&url);
    let (scheme, path) = match bare.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.split_once('/').map_or("", |(_, path)| path)),
        None => bare.split_once(':').unwrap_or(("", bare)),
    };
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    format!("{scheme} {name}").trim().to_owned()
}

/// `url` without its password, for messages.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let at = rest[..host_end].rfind('@').or_else(|| {
        // A password with a slash in it, which nobody encoded. What stands there otherwise is a port, or an address.
        let (_, behind) = rest[..host_end].split_once(':')?;
        let no_password = rest.starts_with('[') || behind.bytes().all(|b| b.is_ascii_digit());
        rest.rfind('@').filter(|_| !no_password)
    });
    let (user, place) = rest.split_at(at.unwrap_or(0));
    let user = user.split_once(':').map_or_else(|| user.to_owned(), |(user, _)| format!("{user}:***"));
    let (place, query) = place.split_once('?').map_or((place, None), |(place, query)| (place, Some(query)));
    let mut out = format!("{scheme}://{user}{place}");
    for (i, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        let key = pair.split('=').next().unwrap_or("");
        let secret = ["password", "passwd", "sslpassword", "token"].contains(&key.to_ascii_lowercase().as_str());
        let _ = write!(out, "{}{}", if i == 0 { '?' } else { '&' }, if secret { format!("{key}=***") } else { pair.to_owned() });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passwords_never_reach_a_message() {
        for (url, shown) in [
            ("postgres://app:s3cret@localhost/app", "postgres://app:***@localhost/app"),
            ("postgres://app:p@ss@localhost/app", "postgres://app:***@localhost/app"),
            ("postgres://app:p?a/ss@localhost/app", "postgres://app:***@localhost/app"),
            ("postgres://app@localhost/app", "postgres://app@localhost/app"),
            ("postgres://localhost:5432/a@b", "postgres://localhost:5432/a@b"),
            ("postgres:///app?user=u&password=s3cret&sslmode=require", "postgres:///app?user=u&password=***&sslmode=require"),
            ("sqlite:db.sqlite3", "sqlite:db.sqlite3"),
        ] {
            assert_eq!(redact(url), shown);
        }
        for (url, told) in [
            ("postgres://app:secret@db.internal:5432/shop?sslmode=require", "postgres shop"),
            ("mysql://app@db.internal", "mysql"),
            ("mysql://app:se/cret@db.internal", "mysql"),
            ("mariadb://h/shop/", "mariadb shop"),
            ("sqlite:/srv/app/db.sqlite3?mode=rwc", "sqlite db.sqlite3"),
            ("sqlite:///srv/app/db.sqlite3", "sqlite db.sqlite3"),
        ] {
            assert_eq!(label(url), told);
        }
    }

    /// Each spelling stands in a framework's documentation or in its tests.
    #[test]
    fn spellings_of_frameworks_are_understood() {
        for (url, want) in [
            // As they are.
            ("postgres://app:pw@localhost:5433/shop?sslmode=require", "postgres://app:pw@localhost:5433/shop?sslmode=require"),
            ("postgresql://app@[2001:db8::1]:5431/shop", "postgresql://app@[2001:db8::1]:5431/shop"),
            ("mysql://app:pw@db/shop?ssl-ca=/ca.pem", "mysql://app:pw@db/shop?ssl-ca=/ca.pem"),
            ("mariadb://app@db:3307/shop", "mariadb://app@db:3307/shop"),
            ("sqlite:db.sqlite3", "sqlite:db.sqlite3"),
            // dj-database-url and django-environ.
            ("postgis://u:p@db/shop", "postgres://u:p@db/shop"),
            ("psql://u:p@db/shop", "postgres://u:p@db/shop"),
            ("pgsql://u:p@db/shop", "postgres://u:p@db/shop"),
            ("prometheus-postgresql://u:p@db/shop", "postgresql://u:p@db/shop"),
            ("mysqlgis://u:p@db/shop", "mysql://u:p@db/shop"),
            ("mysql-connector://u:p@db/shop", "mysql://u:p@db/shop"),
            ("mysql2://u:p@db/shop?reconnect=true", "mysql://u:p@db/shop?reconnect=true"),
            ("postgres://%23user:%23password@db/%23database", "postgres://%23user:%23password@db/%23database"),
            ("postgres://%2Fvar%2Frun%2Fpostgresql/shop", "postgres://localhost/shop?host=/var/run/postgresql"),
            ("postgres://u:p@%2Fcloudsql%2Fa%3Ab%3Ac/shop", "postgres://u:p@localhost/shop?host=/cloudsql/a:b:c"),
            ("postgres:////var/run/postgresql/shop", "postgres://localhost/shop?host=/var/run/postgresql"),
            ("postgres://u:p@//cloudsql/a:b:c/shop", "postgres://u:p@localhost/shop?host=/cloudsql/a:b:c"),
            ("mysql://u:p@//cloudsql/a:b:c/shop", "mysql://u:p@localhost/shop?socket=/cloudsql/a:b:c"),
            ("postgres://u:p@db/shop?currentSchema=other", "postgres://u:p@db/shop?options=-c%20search_path=other"),
            ("postgres://u:p@db/shop?conn_max_age=600&sslmode=require", "postgres://u:p@db/shop?sslmode=require"),
            ("mysql://enigma:><{~!@#$%^&*}[]@db:1234/shop", "mysql://enigma:%3E%3C%7B~%21%40%23%24%25%5E%26%2A%7D%5B%5D@db:1234/shop"),
            ("sqlite:////full/path/file.sqlite", "sqlite:/full/path/file.sqlite"),
            ("spatialite:////full/path", "sqlite:/full/path"),
            // Rails.
            ("postgresql://u:p@db:9000/shop?pool=5&timeout=3000", "postgresql://u:p@db:9000/shop"),
            ("postgresql:///shop?host=/tmp", "postgresql://localhost/shop?host=/tmp"),
            ("trilogy://u:p@db/shop?socket=/tmp/mysql.sock", "mysql://u:p@localhost/shop?socket=/tmp/mysql.sock"),
            ("mysql2://u:p@db/shop?sslca=/ca.pem&ssl_mode=required", "mysql://u:p@db/shop?ssl-ca=/ca.pem&ssl-mode=required"),
            ("sqlite3:db/development.sqlite3?timeout=5000", "sqlite:db/development.sqlite3?timeout=5000"),
            ("sqlite3:/full/path", "sqlite:/full/path"),
            ("postgres://db/shop?schema_search_path=a, public", "postgres://db/shop?options=-c%20search_path=a,%5C%20public"),
            // Laravel.
            ("mysql://foo%3A:bar%2F@localhost/baz+baz%40", "mysql://foo%3A:bar%2F@localhost/baz%2Bbaz%40"),
            ("mysql://u:p@db/shop?unix_socket=/tmp/s.sock", "mysql://u:p@localhost/shop?socket=/tmp/s.sock"),
            ("pgsql://u:p@db/shop?search_path=tenant&charset=utf8", "postgres://u:p@db/shop?options=-c%20search_path=tenant"),
            // SQLAlchemy.
            ("postgresql+psycopg2://u:p@db/shop", "postgresql://u:p@db/shop"),
            ("postgresql+asyncpg://u:p@db/shop?ssl=require", "postgresql://u:p@db/shop?sslmode=require"),
            ("postgresql+psycopg://u:p@/shop?host=/var/run", "postgresql://u:p@localhost/shop?host=/var/run"),
            ("postgresql+psycopg://u:p@/shop?host=db:5433", "postgresql://u:p@db:5433/shop"),
            ("postgresql+psycopg2://u:p@/shop", "postgresql:///shop?user=u&password=p"),
            ("postgresql+pg8000://u:p@/shop?unix_sock=/run/pg/.s.PGSQL.5432", "postgresql://u:p@localhost/shop?host=/run/pg"),
            ("mysql+pymysql://root:p@/shop?unix_socket=/cloudsql/a:b:c", "mysql://root:p@localhost/shop?socket=/cloudsql/a:b:c"),
            ("mariadb+mariadbconnector://u:p@127.0.0.1/shop?charset=utf8mb4", "mariadb://u:p@127.0.0.1/shop?charset=utf8mb4"),
            ("sqlite+aiosqlite:///db.sqlite3", "sqlite:///db.sqlite3"),
            // Others.
            ("jdbc:postgresql://db/shop?user=u&password=p", "postgresql://u:p@db/shop"),
            ("POSTGRES://u@db/shop", "postgres://u@db/shop"),
        ] {
            let got = canonical(url).unwrap_or_else(|e| panic!("{url}: {}", e.full()));
            assert_eq!(got, want, "{url}");
            assert_eq!(canonical(&got).unwrap(), got, "twice: {url}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (url, why) in [
            ("oracle://u:s3cret@db/shop", "\"oracle\""),
            ("shop", "no scheme"),
            ("postgres:shop", "no `//`"),
            ("postgres://u:s3cret@a:1,b:2/shop", "several hosts"),
            ("postgresql://u:s3cret@/shop?host=a:1&host=b:2", "several hosts"),
            ("postgres:///?service=shop", "pg_service.conf"),
            ("postgres://u:s3cret@db/shop?passfile=.pgpass", "file of passwords"),
            ("postgres://u:s3cret@db:x/shop", "port"),
            ("sqlite+pysqlcipher://:s3cret@/x.db", "SQLCipher"),
        ] {
            let e = canonical(url).unwrap_err();
            assert!(e.to_string().contains(why) && e.hint_text().is_some(), "{url}: {}", e.full());
            assert!(!e.full().contains("s3cret"), "{url}: {}", e.full());
        }
    }

    /// What the drivers make of it: the parts are those that were written.
    #[cfg(all(feature = "postgres", feature = "mysql"))]
    #[test]
    fn drivers_read_what_was_meant() {
        use std::str::FromStr;

        use sqlx::{mysql::MySqlConnectOptions, postgres::PgConnectOptions};
        let postgres = |url: &str| PgConnectOptions::from_str(&canonical(url).unwrap()).unwrap();
        let read = postgres("postgis://us%40er:p%2F%3Fw@db.example:5433/sh%20op?currentSchema=a,b");
        assert_eq!((read.get_host(), read.get_port(), read.get_username()), ("db.example", 5433, "us@er"));
        assert_eq!((read.get_database(), read.get_options()), (Some("sh op"), Some("-c search_path=a,b")));
        let read = postgres("postgresql+psycopg://u:p@/shop?host=/run/postgresql");
        assert_eq!(read.get_socket().map(PathBuf::as_path), Some(Path::new("/run/postgresql")));
        assert_eq!((read.get_username(), read.get_database()), ("u", Some("shop")));
        let read = MySqlConnectOptions::from_str(&canonical("mysql+pymysql://r%40t:p@/shop?unix_socket=/run/m.sock").unwrap()).unwrap();
        assert_eq!((read.get_username(), read.get_database()), ("r@t", Some("shop")));
        assert_eq!(read.get_socket().map(PathBuf::as_path), Some(Path::new("/run/m.sock")));
    }

    #[test]
    fn one_database_is_told_from_another() {
        for (one, other, same) in [
            ("postgres://a:x@localhost/shop", "postgresql+psycopg2://b:y@127.0.0.1:5432/shop?sslmode=require", true),
            ("postgres://a@db/shop", "postgres://a@db/other", false),
            ("postgres://a@db/shop", "postgres://a@db2/shop", false),
            ("postgres://a@db/shop", "mysql://a@db/shop", false),
            ("mysql://a@db/shop?unix_socket=/s", "mysql2://%2Fs/shop", true),
            ("sqlite:x.db", "sqlite:./x.db", true),
            ("sqlite:x.db", "sqlite:y.db", false),
            ("sqlite:x.db", "redis://h", false),
        ] {
            assert_eq!(same_database(one, other), same, "{one} {other}");
        }
    }

    proptest! {
        /// Whatever stands in user, password, name and option arrives, and a second reading changes nothing.
        #[test]
        fn parts_survive(user in "[^\\x00]{1,8}", password in ".{0,8}", name in "[^/\\x00][^\\x00]{0,7}", path in "[a-z, \\\\]{1,6}") {
            let part = |text: &str| utf8_percent_encode(text, PART).to_string();
            let url = format!("postgresql+psycopg://{}:{}@db/{}?search_path={}", part(&user), part(&password), part(&name), part(&path));
            let once = canonical(&url).unwrap();
            prop_assert_eq!(&canonical(&once).unwrap(), &once);
            let (_, _, rest) = scheme(&once).unwrap();
            let read = Server::parse(rest, &once).unwrap();
            prop_assert_eq!((read.user, read.password, read.database), (Some(user.clone()), Some(password.clone()), name.clone()));
            let stands_elsewhere = [&user, &name, &path].iter().any(|text| part(text).contains(&part(&password)));
            prop_assert!(password.len() < 3 || stands_elsewhere || !redact(&once).contains(&part(&password)));
        }
    }
}
