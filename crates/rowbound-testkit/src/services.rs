//! WebDAV and SFTP servers for tests, and storages on them.
//!
//! | [`ServiceServer`] | what it is |
//! | --- | --- |
//! | `webdav` | [WsgiDAV](https://wsgidav.readthedocs.io), a process out of `.venv-wsgidav`, with a password |
//! | `sftp` | OpenSSH's `sshd` on a loopback port, as the user that runs the test, with keys made for it |
//!
//! Both serve a temporary folder, which the application of a test reaches as a folder.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rowbound::{
    FileName, RESERVED, StoragePlan, Trash,
    plan::Location,
    storage::{self, Storage},
};

use crate::storage_suite::{Abilities, Place, Raced};

/// How long a server may take to come up.
const DEADLINE: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(86_400);

const PASSWORD: &str = "rowbound-test-password";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceServerKind {
    /// WsgiDAV.
    Webdav,
    /// OpenSSH.
    Sftp,
}

/// A server over a temporary folder. It is killed, and its files removed, when this value is dropped.
#[derive(Debug)]
pub struct ServiceServer {
    kind: ServiceServerKind,
    dir: tempfile::TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
    places: AtomicU64,
}

impl ServiceServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up, or is not there: with the command that helps.
    pub fn start(kind: ServiceServerKind) -> ServiceServer {
        let dir = tempfile::Builder::new().prefix("rowbound-service.").tempdir().expect("cannot make a temporary folder");
        let server = ServiceServer { kind, dir, port: 0, process: Mutex::default(), places: AtomicU64::new(0) };
        fs::create_dir(server.data()).expect("cannot make the served folder");
        match kind {
            ServiceServerKind::Webdav => server.webdav(),
            ServiceServerKind::Sftp => server.sftp(),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn webdav(mut self) -> Self {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv-wsgidav/bin/python");
        assert!(python.exists(), "there is no Python with WsgiDAV in .venv-wsgidav: run `make test`, or scripts/wsgidav-venv");
        let mut command = Command::new(python);
        command.arg("-c").arg(include_str!("services/wsgidav.py")).arg(self.data()).args(["me", PASSWORD]);
        self.port = self.run(command, |said| {
            let (_, rest) = said.split_once("Running on port ")?;
            rest.split_once('.')?.0.parse().ok()
        });
        self
    }

    fn sftp(mut self) -> Self {
        assert!(Path::new("/usr/sbin/sshd").exists(), "there is no /usr/sbin/sshd: run `make test`, or scripts/sshd");
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("cannot make /run/sshd, without which sshd does not start as root");
        }
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.dir.path().join(key)).status();
            assert!(made.expect("cannot run ssh-keygen").success(), "ssh-keygen made no key");
        }
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        fs::copy(path("user.pub"), path("authorized")).expect("cannot write the authorized keys");
        fs::set_permissions(path("authorized"), fs::Permissions::from_mode(0o600)).expect("cannot protect the authorized keys");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("no free port").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 200\n\
             MaxSessions 200\nSubsystem sftp internal-sftp\nLogLevel INFO\n",
            path("host"),
            path("authorized"),
        );
        fs::write(path("sshd_config"), config).expect("cannot write the server's configuration");
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        self.port = self.run(command, |said| said.contains("Server listening").then_some(port));
        self
    }

    /// Starts the process and waits until it says what makes `ready` know its port.
    fn run(&self, mut command: Command, ready: impl Fn(&str) -> Option<u16>) -> u16 {
        let log = self.dir.path().join("log");
        let file = File::create(&log).and_then(|f| Ok((f.try_clone()?, f))).expect("cannot write the server's log");
        let child = command.stdin(Stdio::piped()).stdout(file.0).stderr(file.1).spawn();
        *self.process() = Some(child.unwrap_or_else(|e| panic!("cannot start {:?}: {e}", self.kind)));
        let end = Instant::now() + DEADLINE;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(port) = ready(&said) {
                return port;
            }
            let ended = self.process().as_mut().and_then(|p| p.try_wait().expect("cannot look after our own child"));
            assert!(ended.is_none() && Instant::now() < end, "{:?} did not come up ({ended:?}). It said:\n{said}", self.kind);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill(); // it has ended by itself
            let _ = child.wait();
        }
    }

    /// Which server it is.
    pub fn kind(&self) -> ServiceServerKind {
        self.kind
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A fresh folder on it: where it lies here, and the `url` of a storage in it. Its name holds a blank, which shows whether it is encoded.
    pub fn folder(&self) -> (PathBuf, String) {
        let name = format!("media files {}", self.places.fetch_add(1, Relaxed));
        let root = self.data().join(&name);
        fs::create_dir(&root).expect("cannot make a folder on the server");
        let (encoded, port) = (name.replace(' ', "%20"), self.port);
        let url = match self.kind {
            ServiceServerKind::Webdav => {
                format!("webdav:///dav/{encoded}?endpoint=http://127.0.0.1:{port}&username=me&password={PASSWORD}")
            }
            ServiceServerKind::Sftp => format!(
                "sftp://127.0.0.1:{port}{}/{encoded}?key={}&known_hosts_strategy=accept",
                self.data().display(),
                self.dir.path().join("user").display(),
            ),
        };
        (root, url)
    }
}

impl Drop for ServiceServer {
    fn drop(&mut self) {
        self.kill();
        if self.kind == ServiceServerKind::Sftp {
            // The client has written down the key of a host that is no more.
            let host = format!("[127.0.0.1]:{}", self.port);
            let _ = Command::new("ssh-keygen").args(["-q", "-R", &host]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// A storage of its own on a service.
#[derive(Debug)]
pub struct ServicePlace {
    kind: ServiceServerKind,
    root: PathBuf,
    url: String,
    server: Arc<ServiceServer>,
}

impl ServicePlace {
    /// A fresh one.
    pub fn new(server: &Arc<ServiceServer>) -> Self {
        let (root, url) = server.folder();
        ServicePlace { kind: server.kind(), root, url, server: Arc::clone(server) }
    }

    /// The same one, reached at `endpoint`: through a [`FaultProxy`](crate::FaultProxy) before a WebDAV server.
    pub fn through(mut self, endpoint: &str) -> Self {
        self.url = self.url.replace(&format!("http://127.0.0.1:{}", self.server.port()), endpoint);
        self
    }

    /// What a service can do that is a folder in the end.
    pub fn can(kind: ServiceServerKind) -> Abilities {
        Abilities {
            nests: false,
            refuses: match kind {
                ServiceServerKind::Sftp => &["photo.jpg ", " photo.jpg", "photo.jpg\u{a0}", " d/photo.jpg"],
                ServiceServerKind::Webdav => {
                    &["photo.jpg ", " photo.jpg", "photo.jpg\u{a0}", " d/photo.jpg", "a\nb", "a\tb", "?", "name#123"]
                }
            },
            refuses_longer: false,
            clock: Duration::from_secs(1),
            tells_same_bytes: false,
            raced: Raced::Stays,
            creates: false,
            ..Abilities::ALL
        }
    }

    /// The folder, past the service.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A plan for it.
    pub fn plan(&self, trash: Trash) -> StoragePlan {
        let location = Location::parse(&self.url, Path::new("/")).unwrap_or_else(|e| panic!("{}", e.full()));
        StoragePlan::at("default", location).trash(trash)
    }
}

#[async_trait]
impl Place for ServicePlace {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        let trash = if trash { Trash::Keep(DAY) } else { Trash::Off };
        storage::open(&self.plan(trash)).unwrap_or_else(|e| panic!("{}", e.full()))
    }

    fn abilities(&self) -> Abilities {
        Self::can(self.kind)
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        let path = self.root.join(name.as_str());
        fs::create_dir_all(path.parent().expect("a file has a folder")).unwrap_or_else(|e| panic!("{name:?}: {e}"));
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        match fs::read(self.root.join(name.as_str())) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => panic!("{name:?}: {e}"),
        }
    }

    async fn own(&self) -> Vec<String> {
        crate::world::files_below(&self.root.join(RESERVED))
    }
}
