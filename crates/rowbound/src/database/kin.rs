//! Which server answers: the ones that we know, or one that only looks like them.
//!
//! In: what a server says of itself. Out: nothing, or an error with the server's name. Promise: a server whose protocol and SQL are PostgreSQL's or
//! MySQL's but whose transactions, locks and triggers are its own is refused by name, before anything is asked of it. So is a cluster of which every node
//! takes writes: a node's list of open transactions is that node's alone.

use crate::error::{Error, Kind, Result};

/// What a version holds, in small letters, and whose it is then.
type Kin = (&'static str, &'static str);

/// By what `version()` says. Sources: each server's documentation, and the strings in `tests` below.
const LIKE_POSTGRES: &[Kin] = &[
    ("cockroachdb", "CockroachDB"),
    ("-yb-", "YugabyteDB"),
    ("redshift", "Amazon Redshift"),
    ("greenplum", "Greenplum"),
    ("cloudberry", "Apache Cloudberry"),
    ("hawq", "Apache HAWQ"),
    ("postgres-xl", "Postgres-XL"),
    ("opentenbase", "OpenTenBase"),
    ("antdb", "AntDB"),
    // Its Distributed Edition shares writes among nodes, and a version does not tell the editions apart
    // (<https://help.aliyun.com/en/polardb/polardb-for-postgresql/what-is-polardb-postgresql-distributed-edition>).
    ("polardb", "PolarDB"),
    ("opengauss", "openGauss"),
    ("gaussdb", "GaussDB"),
    ("kingbase", "KingbaseES"),
    ("materialize", "Materialize"),
    ("risingwave", "RisingWave"),
    ("questdb", "QuestDB"),
    ("cratedb", "CrateDB"),
    ("hologres", "Hologres"),
    ("vertica", "Vertica"),
    ("spanner", "Google Spanner"),
];

/// By what `version()` and `@@version_comment` say.
const LIKE_MYSQL: &[Kin] = &[
    ("tidb", "TiDB"),
    ("vitess", "Vitess"),
    ("planetscale", "PlanetScale"),
    ("oceanbase", "OceanBase"),
    ("obproxy", "OceanBase"),
    ("singlestore", "SingleStore"),
    ("memsql", "SingleStore"),
    ("tddl", "PolarDB-X"),
    ("polardb-x", "PolarDB-X"),
    ("x-cluster", "PolarDB-X"),
    ("gaussdb", "GaussDB"),
    ("tdsql", "TDSQL"),
    ("matrixone", "MatrixOne"),
    ("starrocks", "StarRocks"),
    ("doris", "Apache Doris"),
    ("dolt", "Dolt"),
    ("databend", "Databend"),
    ("clickhouse", "ClickHouse"),
    ("greptime", "GreptimeDB"),
    ("manticore", "Manticore"),
    ("clustrix", "Xpand"),
    ("xpand", "Xpand"),
];

/// MySQL's and MariaDB's clusters of which every node takes writes.
const CLUSTERS: &[Kin] = &[
    ("xtradb cluster", "Percona XtraDB Cluster"),
    ("galera", "a Galera cluster"),
    ("wsrep", "a Galera cluster"),
    ("mysql cluster", "MySQL NDB Cluster"),
    ("-cluster", "MySQL NDB Cluster"),
];

/// What stands between us and a MySQL server, and sends each statement where it thinks best: a read to a replica, for example.
const PROXIES: &[Kin] = &[("proxysql", "ProxySQL"), ("maxscale", "MaxScale")];

/// Extensions with which a PostgreSQL server is one of several that take writes for the same tables.
const SEVERAL_PRIMARIES: &[Kin] =
    &[("citus", "Citus"), ("bdr", "EDB Postgres Distributed"), ("pgactive", "pgactive"), ("spock", "pgEdge Spock")];

fn find(kin: &'static [Kin], text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    kin.iter().find(|(part, _)| text.contains(part)).map(|(_, name)| *name)
}

fn only_looks_like(name: &str, like: &str, version: &str) -> Error {
    Error::new(Kind::Config, format!("this server is {name}, which only looks like {like}"))
        .with("version", version)
        .hint("Rowbound must see every transaction that is open and every row that is deleted, and knows how on SQLite, PostgreSQL, MariaDB and MySQL alone")
}

/// Refuses a cluster, by what it is called.
pub(super) fn several_primaries(name: &str) -> Error {
    Error::new(Kind::Config, format!("this server is a node of {name}: other nodes take writes too, and it does not show their open transactions"))
        .hint("a file would be deleted although a row that another node is about to commit references it; Rowbound needs a server that alone takes the writes")
}

/// Refuses what only looks like PostgreSQL, by what `version()` says.
///
/// # Errors
/// [`Kind::Config`] with the server's name.
pub(super) fn is_postgres(version: &str) -> Result<()> {
    if let Some(name) = find(LIKE_POSTGRES, version) {
        return Err(only_looks_like(name, "PostgreSQL", version));
    }
    if !version.starts_with("PostgreSQL ") && !version.starts_with("EnterpriseDB ") {
        return Err(only_looks_like("one that Rowbound does not know", "PostgreSQL", version));
    }
    Ok(())
}

/// Refuses a PostgreSQL server that is one of several primaries, by the extensions of the database.
///
/// # Errors
/// [`Kind::Config`] with the extension's name.
pub(super) fn is_alone<'e>(extensions: impl IntoIterator<Item = &'e str>) -> Result<()> {
    let found = extensions.into_iter().find_map(|name| SEVERAL_PRIMARIES.iter().find(|(part, _)| *part == name));
    found.map_or(Ok(()), |(_, name)| Err(several_primaries(name)))
}

/// Whether a version is MariaDB's; refuses what only looks like MariaDB or MySQL, a cluster's node and a proxy. `comment` is `@@version_comment`.
///
/// # Errors
/// [`Kind::Config`] with the server's name.
pub(super) fn is_mariadb(version: &str, comment: &str) -> Result<bool> {
    let said = format!("{version} {comment}");
    if let Some(name) = find(PROXIES, &said) {
        return Err(Error::new(Kind::Config, format!("{name} answers, not the server itself")).with("version", &said).hint(
            "it may send a read to a replica that is behind, and settings of Rowbound's session to another: connect to the server itself",
        ));
    }
    if let Some(name) = find(LIKE_MYSQL, &said) {
        return Err(only_looks_like(name, "MySQL", &said));
    }
    if let Some(name) = find(CLUSTERS, &said) {
        return Err(several_primaries(name));
    }
    Ok(version.to_ascii_lowercase().contains("mariadb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers print for `select version()`, as their documentation, bug reports and our own machines show it.
    #[test]
    fn what_only_looks_like_postgresql_is_refused_by_name() {
        for (version, name) in [
            ("CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27 01:53:43, go1.19.10)", "CockroachDB"),
            ("CockroachDB OSS v20.2.7 (x86_64-apple-darwin14, built 2021/03/29 17:56:00, go1.13.14)", "CockroachDB"),
            (
                "PostgreSQL 11.2-YB-2.18.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 15.0.3 (https://github.com/yugabyte/llvm-project.git), 64-bit",
                "YugabyteDB",
            ),
            (
                "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.12103",
                "Amazon Redshift",
            ),
            (
                "PostgreSQL 9.4.26 (Greenplum Database 6.25.3 build commit:367edc6b4dfd909fe38fc288ade9e294d74e3f9a) on x86_64-unknown-linux-gnu, compiled by gcc (GCC) 6.4.0, 64-bit",
                "Greenplum",
            ),
            ("PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize v0.27.0)", "Materialize"),
            ("PostgreSQL 9.5.0-RisingWave-1.3.0 (d24b4d6fd0be7f8ddbc4e5a9ed2a3e9dbb3d0ec7)", "RisingWave"),
            ("PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB", "QuestDB"),
            ("CrateDB 5.4.3 (built 713be1d/NA, Linux 5.15.0-1041-aws amd64, OpenJDK 64-Bit Server VM 20.0.2+9)", "CrateDB"),
            (
                "(openGauss 5.0.0 build a07d57c3) compiled at 2023-03-29 03:07:56 commit 0 last mr  on x86_64-unknown-linux-gnu, compiled by g++ (GCC) 7.3.0, 64-bit",
                "openGauss",
            ),
            ("KingbaseES V008R006C007B0012 on x86_64-pc-linux-gnu, compiled by gcc (GCC) 4.1.2, 64-bit", "KingbaseES"),
            ("Something else that speaks its protocol", "one that Rowbound does not know"),
        ] {
            let e = is_postgres(version).expect_err(version);
            assert_eq!(e.kind(), Kind::Config);
            assert!(e.full().contains(&format!("this server is {name}")), "{}", e.full());
        }
    }

    #[test]
    fn postgresql_is_taken_wherever_it_comes_from() {
        for version in [
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) 12.2.0, 64-bit",
            "PostgreSQL 16.4 on x86_64-pc-linux-musl, compiled by gcc (Alpine 13.2.1_git20240309) 13.2.1 20240309, 64-bit",
            "PostgreSQL 14.9 (Homebrew) on aarch64-apple-darwin22.4.0, compiled by Apple clang version 14.0.3 (clang-1403.0.22.14.1), 64-bit",
            "PostgreSQL 15.2 - Percona Distribution on x86_64-pc-linux-gnu, compiled by gcc (GCC) 8.5.0, 64-bit",
            "PostgreSQL 15.4 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit",
            "PostgreSQL 17beta1 on x86_64-windows, compiled by msvc-19.38.33135, 64-bit",
        ] {
            is_postgres(version).unwrap_or_else(|e| panic!("{}", e.full()));
        }
    }

    #[test]
    fn one_of_several_postgresql_primaries_is_refused_by_name() {
        is_alone(["plpgsql", "postgis", "timescaledb", "pg_stat_statements", "citext"]).unwrap();
        for (extension, name) in SEVERAL_PRIMARIES {
            let e = is_alone(["plpgsql", extension]).unwrap_err();
            assert!(e.full().contains(name), "{}", e.full());
        }
    }

    /// `select version()`, and `select @@version_comment`.
    #[test]
    fn what_only_looks_like_mysql_is_refused_by_name() {
        for (version, comment, name) in [
            ("5.7.25-TiDB-v6.5.0", "TiDB Server (Apache License 2.0) Community Edition, MySQL 5.7 compatible", "TiDB"),
            ("8.0.11-TiDB-v7.5.1", "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible", "TiDB"),
            ("8.0.30-Vitess", "Version: 18.0.0-SNAPSHOT (Git revision 122ee758cf4f branch 'main') built on Fri Jun 30", "Vitess"),
            ("8.0.34", "PlanetScale (Vitess)", "Vitess"),
            ("8.0.23-PlanetScale", "", "PlanetScale"),
            ("5.7.9-vitess-12.0.0", "", "Vitess"),
            ("5.7.25-OceanBase_CE-v4.2.1.2", "OceanBase_CE 4.2.1.2", "OceanBase"),
            ("5.6.25-OBProxy-3.2.0", "", "OceanBase"),
            ("5.7.25-OceanBase-v4.2.1.0", "OceanBase_CE 4.2.1.0 (r100000102023092807)", "OceanBase"),
            ("5.7.32", "SingleStoreDB source distribution (compatible; MySQL Enterprise & MySQL Commercial)", "SingleStore"),
            ("5.5.58", "MemSQL source distribution (compatible; MySQL Enterprise & MySQL Commercial)", "SingleStore"),
            ("5.7.25-TDDL-5.4.13-16504348", "", "PolarDB-X"),
            ("8.0.30-MatrixOne-v1.0.0", "MatrixOne", "MatrixOne"),
            ("8.0.33", "StarRocks version 3.1.4-0c4b2a3", "StarRocks"),
            ("5.7.99", "Doris version doris-2.0.3-rc06-37d31a5", "Apache Doris"),
            ("8.0.33", "Dolt", "Dolt"),
            ("8.0.26-v1.2.207-nightly-Databend", "", "Databend"),
            ("5.0.45-Xpand-6.1.1", "", "Xpand"),
        ] {
            let e = is_mariadb(version, comment).expect_err(version);
            assert!(e.full().contains(&format!("this server is {name}, which only looks like MySQL")), "{}", e.full());
        }
        for (version, comment, name) in [
            (
                "8.0.36-28.1",
                "Percona XtraDB Cluster (GPL), Release rel28, Revision bfb687f, WSREP version 26.1.4.3",
                "Percona XtraDB Cluster",
            ),
            ("8.0.36-cluster", "MySQL Cluster Community Server - GPL", "MySQL NDB Cluster"),
            ("5.5.5-10.1.48-MariaDB", "MariaDB Galera Cluster", "a Galera cluster"),
        ] {
            let e = is_mariadb(version, comment).expect_err(version);
            assert!(e.full().contains(&format!("a node of {name}")), "{}", e.full());
        }
        for (version, comment, name) in
            [("8.0.27", "(ProxySQL)", "ProxySQL"), ("10.11.6-MariaDB-maxscale", "managed by MaxScale", "MaxScale")]
        {
            let e = is_mariadb(version, comment).expect_err(version);
            assert!(e.full().contains(&format!("{name} answers")), "{}", e.full());
        }
    }

    #[test]
    fn mysql_and_mariadb_are_taken_wherever_they_come_from() {
        for (version, comment, mariadb) in [
            ("10.11.19-MariaDB-0+deb12u1", "Debian 12", true),
            ("11.4.2-MariaDB-ubu2404-log", "mariadb.org binary distribution", true),
            ("10.6.14-MariaDB-log", "managed by https://aws.amazon.com/rds/", true),
            ("8.0.36", "MySQL Community Server - GPL", false),
            ("8.4.0", "Homebrew", false),
            ("8.0.36-0ubuntu0.22.04.1", "(Ubuntu)", false),
            ("8.0.35-27", "Percona Server (GPL), Release 27, Revision 2f8eeab2", false),
            ("9.0.1-cloud", "MySQL Enterprise - Cloud", false),
            ("8.0.28", "Source distribution", false),
        ] {
            assert_eq!(is_mariadb(version, comment).unwrap_or_else(|e| panic!("{}", e.full())), mariadb, "{version}");
        }
    }
}
