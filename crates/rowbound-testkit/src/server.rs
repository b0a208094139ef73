//! Servers: those of the environment, shared by all tests, and throwaway ones that a test may stop and kill.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::db::Backend;

/// A server that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which one.
    pub backend: Backend,
    /// A superuser's URL. The path after the port is replaced by a test's own database.
    pub url: String,
}

impl Server {
    /// The server of the environment: `ROWBOUND_TEST_POSTGRES`, `ROWBOUND_TEST_MARIADB` or `ROWBOUND_TEST_MYSQL`.
    ///
    /// # Panics
    /// When the variable is not set: a test that does not run proves nothing. Also for SQLite, which has no server.
    pub fn from_env(backend: Backend) -> Server {
        let var = backend.variable().expect("SQLite has no server");
        match std::env::var(var) {
            Ok(url) if !url.is_empty() => Server { backend, url },
            _ => panic!("{var} is not set: run `make test`, or scripts/with-test-servers cargo nextest run .."),
        }
    }

    /// The URL of a database on this server.
    pub fn database_url(&self, database: &str) -> String {
        let scheme_end = self.url.find("://").expect("a server's URL has a scheme") + 3;
        let host_end = self.url[scheme_end..].find('/').map_or(self.url.len(), |i| scheme_end + i);
        let query = self.url.find('?').map_or("", |i| &self.url[i..]);
        format!("{}/{database}{query}", &self.url[..host_end])
    }
}

/// A server of one's own, in a temporary folder: a test may stop, kill and restart it. It keeps its port and its data until
/// it is dropped.
#[derive(Debug)]
pub struct OwnServer {
    server: Server,
    dir: PathBuf,
}

impl OwnServer {
    /// Starts a PostgreSQL, MariaDB or MySQL server and waits until it lets us in.
    ///
    /// # Panics
    /// When it does not start, and for SQLite.
    pub fn start(backend: Backend) -> OwnServer {
        Self::start_by(backend, "start", ("", ""))
    }

    /// The same with a clock that is wrong by `by`, in libfaketime's words: `+3d`.
    ///
    /// # Panics
    /// As [`OwnServer::start`].
    pub fn with_clock(backend: Backend, by: &str) -> OwnServer {
        Self::start_by(backend, "start", ("ROWBOUND_SERVER_CLOCK", by))
    }

    /// The same for MySQL with further options of its server, with blanks between them.
    ///
    /// # Panics
    /// As [`OwnServer::start`].
    pub fn mysql_with(options: &str) -> OwnServer {
        Self::start_by(Backend::Mysql, "start", ("ROWBOUND_MYSQLD_OPTIONS", options))
    }

    /// The same for MariaDB.
    ///
    /// # Panics
    /// As [`OwnServer::start`].
    pub fn mariadb_with(options: &str) -> OwnServer {
        Self::start_by(Backend::Mariadb, "start", ("ROWBOUND_MARIADBD_OPTIONS", options))
    }

    /// The same with the server's own defaults, so that a commit waits for the disk: for benchmarks.
    ///
    /// # Panics
    /// As [`OwnServer::start`].
    pub fn durable(backend: Backend) -> OwnServer {
        Self::start_by(backend, "start-durable", ("", ""))
    }

    fn start_by(backend: Backend, how: &str, variable: (&str, &str)) -> OwnServer {
        let name = script_name(backend);
        let dir = tempfile::Builder::new().prefix("rowbound-own.").tempdir_in(room()).expect("cannot make a temporary folder").keep();
        script_with(&[how, path(&dir), name], variable);
        let env = std::fs::read_to_string(dir.join("env")).expect("scripts/test-servers wrote no env file");
        let url = env.lines().find_map(|l| l.split_once('=')).expect("an env file without a variable").1.to_owned();
        OwnServer { server: Server { backend, url }, dir }
    }

    /// The server's address.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stops it politely: connections are closed, transactions rolled back.
    pub fn stop(&self) {
        script(&["down", path(&self.dir), script_name(self.server.backend)]);
    }

    /// Kills its main process with SIGKILL.
    pub fn kill(&self) {
        script(&["kill", path(&self.dir), script_name(self.server.backend)]);
    }

    /// Starts it again on the same port and data, and waits until it lets us in.
    pub fn start_again(&self) {
        script(&["up", path(&self.dir), script_name(self.server.backend)]);
    }

    /// Stops it, and starts it again with further options, with blanks between them: MySQL or MariaDB.
    ///
    /// # Panics
    /// When the folder cannot be written, or the server does not start.
    pub fn restart_with(&self, options: &str) {
        self.stop();
        let file = self.dir.join(script_name(self.server.backend)).join("options");
        let before = std::fs::read_to_string(&file).expect("cannot read the server's options");
        std::fs::write(file, format!("{} {options}\n", before.trim_end())).expect("cannot write the server's options");
        self.start_again();
    }

    /// [`OwnServer::stop`] and [`OwnServer::start_again`].
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let stopped = run_script(&["stop", path(&self.dir)], ("", ""));
        if let Err(e) = stopped {
            // A panic within a panic would hide the test's own message.
            if std::thread::panicking() { eprintln!("{e}") } else { panic!("{e}") }
        }
    }
}

/// Where servers lie. Theirs are Unix sockets, whose path has room for 107 bytes: not below any deep TMPDIR, but below that of scripts/with-test-servers.
pub(crate) fn room() -> PathBuf {
    if std::env::var_os("ROWBOUND_TEST_ROOM").is_some() { std::env::temp_dir() } else { "/tmp".into() }
}

fn script_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => "postgres",
        Backend::Mariadb => "mariadb",
        Backend::Mysql => "mysql",
        other @ Backend::Sqlite => panic!("scripts/test-servers starts no {other}"),
    }
}

fn path(dir: &Path) -> &str {
    dir.to_str().expect("a temporary folder whose name is not UTF-8")
}

fn run_script(args: &[&str], (variable, value): (&str, &str)) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-servers");
    // Its own files for output: a server that inherited a pipe would keep it open, and we would wait for its end for ever.
    let log = tempfile::tempfile().map_err(|e| e.to_string())?;
    let clone = |f: &std::fs::File| f.try_clone().map_err(|e| e.to_string());
    let status = Command::new(&script)
        .args(args)
        .envs((!variable.is_empty()).then_some((variable, value)))
        .stdin(std::process::Stdio::null())
        .stdout(clone(&log)?)
        .stderr(clone(&log)?)
        .status()
        .map_err(|e| format!("cannot run {}: {e}", script.display()))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let mut log = log;
    use std::io::{Read, Seek};
    log.rewind().and_then(|()| log.read_to_string(&mut text)).map_err(|e| e.to_string())?;
    Err(format!("scripts/test-servers {} failed ({status}):\n{text}", args.join(" ")))
}

fn script(args: &[&str]) {
    script_with(args, ("", ""));
}

fn script_with(args: &[&str], variable: (&str, &str)) {
    if let Err(e) = run_script(args, variable) {
        panic!("{e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_keeps_server_and_options() {
        let server = |url: &str| Server { backend: Backend::Postgres, url: url.to_owned() };
        assert_eq!(server("postgres://u@h:1/postgres").database_url("x"), "postgres://u@h:1/x");
        assert_eq!(server("mysql://u:p@h:1/").database_url("x"), "mysql://u:p@h:1/x");
        assert_eq!(server("mysql://u:p@h:1").database_url("x"), "mysql://u:p@h:1/x");
        assert_eq!(server("mysql://u:p@h:1/y?ssl-mode=disabled").database_url("x"), "mysql://u:p@h:1/x?ssl-mode=disabled");
    }
}
