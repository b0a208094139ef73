//! PgBouncer, a pooler that stands between applications and a PostgreSQL server.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{db::Backend, server::Server};

/// How long it may take to come up.
const DEADLINE: Duration = Duration::from_secs(60);

/// For how long a client has a session of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// Until it leaves.
    Session,
    /// Until its transaction ends.
    Transaction,
    /// Until its statement ends.
    Statement,
}

impl PoolMode {
    fn word(self) -> &'static str {
        match self {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        }
    }
}

/// A pooler. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Pooler {
    process: Child,
    port: u16,
    server: String,
    _dir: tempfile::TempDir,
}

impl Pooler {
    /// Starts one in front of a PostgreSQL server, and waits until it listens. `options` are further lines of its configuration.
    ///
    /// # Panics
    /// When it is not there, or does not come up: with the command that helps.
    pub fn start(server: &Server, mode: PoolMode, options: &[&str]) -> Pooler {
        const PROGRAM: &str = "/usr/sbin/pgbouncer";
        assert_eq!(server.backend, Backend::Postgres);
        assert!(Path::new(PROGRAM).exists(), "there is no {PROGRAM}: run `make test`, or scripts/pgbouncer");
        let dir =
            tempfile::Builder::new().prefix("rowbound-pooler.").tempdir_in(crate::server::room()).expect("cannot make a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("no free port").port();
        let host = host_of(&server.url);
        let (host, server_port) = host.rsplit_once(':').expect("a test server's URL has a port");
        let users: Vec<_> = ["postgres"].iter().map(|user| format!("\"{user}\" \"\"\n")).collect();
        fs::write(path("users"), users.concat()).expect("cannot write the users");
        let config = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {}\nignore_startup_parameters = extra_float_digits\ndefault_pool_size = 8\n{}\n",
            path("users").display(),
            mode.word(),
            options.join("\n"),
        );
        fs::write(path("pgbouncer.ini"), config).expect("cannot write the configuration");
        let log = File::create(path("log")).expect("cannot write the log");
        // It refuses to run as root.
        let mut command = Command::new("runuser");
        if rustix::process::geteuid().is_root() {
            for name in ["", "users", "pgbouncer.ini", "log"] {
                chown(path(name), Some(1), Some(1)).expect("cannot give it its files");
                fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).expect("cannot let it read its files");
            }
            command.args(["-u", "daemon", "--", PROGRAM]);
        } else {
            command = Command::new(PROGRAM);
        }
        let output = log.try_clone().expect("a second handle");
        let child = command.current_dir("/").arg(path("pgbouncer.ini")).stdin(Stdio::null()).stdout(output).stderr(log).spawn();
        let pooler = Pooler { process: child.expect("cannot start pgbouncer"), port, server: host_of(&server.url).to_owned(), _dir: dir };
        let until = Instant::now() + DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(pooler._dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "PgBouncer does not listen:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// A URL of the server, by way of the pooler.
    pub fn url(&self, url: &str) -> String {
        url.replacen(&self.server, &format!("127.0.0.1:{}", self.port), 1)
    }
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").expect("a URL").1;
    let rest = rest.split('/').next().unwrap_or(rest);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // `runuser` passes this on; it does not pass on a kill.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}
