//! WebDAV, SFTP and Azure Blob Storage servers for tests, and storages on them.
//!
//! | [`ServiceServer`] | what it is |
//! | --- | --- |
//! | `webdav` | [WsgiDAV](https://wsgidav.readthedocs.io), a process out of `.venv-wsgidav`, with a password |
//! | `sftp` | OpenSSH's `sshd` on a loopback port, as the user that runs the test, with keys made for it |
//! | `azblob` | [Azurite](https://github.com/Azure/Azurite), a process out of `.azurite`, which keeps everything in memory |
//!
//! The first two serve a temporary folder, which the application of a test reaches as a folder. Azurite it reaches by requests of its own, past
//! OpenDAL.

use std::{
    collections::BTreeMap,
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

/// [`PASSWORD`] in base64, as Azure's keys are written.
const KEY: &str = "cm93Ym91bmQtdGVzdC1wYXNzd29yZA==";

/// The account on Azurite.
const ACCOUNT: &str = "rowbound";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceServerKind {
    /// WsgiDAV.
    Webdav,
    /// OpenSSH.
    Sftp,
    /// Azurite.
    Azblob,
}

/// A server over a temporary folder. It is killed, and its files removed, when this value is dropped.
#[derive(Debug)]
pub struct ServiceServer {
    kind: ServiceServerKind,
    dir: tempfile::TempDir,
    port: u16,
    /// What lets requests into Azurite that are not signed.
    token: String,
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
        let server = ServiceServer { kind, dir, port: 0, token: String::new(), process: Mutex::default(), places: AtomicU64::new(0) };
        fs::create_dir(server.data()).expect("cannot make the served folder");
        match kind {
            ServiceServerKind::Webdav => server.webdav(),
            ServiceServerKind::Sftp => server.sftp(),
            ServiceServerKind::Azblob => server.azblob(),
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

    fn azblob(mut self) -> Self {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.azurite/node_modules");
        assert!(modules.join("azurite").exists(), "there is no Azurite in .azurite: run `make test`, or scripts/azurite");
        let script = self.dir.path().join("azurite.js");
        fs::write(&script, include_str!("services/azurite.js")).expect("cannot write the server's script");
        let mut command = Command::new("node");
        command.arg(script).arg(modules.canonicalize().expect("the folder is there")).args([ACCOUNT, KEY]).current_dir(self.data());
        self.port = self.run(command, |said| {
            let (_, rest) = said.split_once("successfully listens on http://127.0.0.1:")?;
            rest.split_once('\n')?.0.parse().ok()
        });
        let said = fs::read_to_string(self.log()).expect("the server's log");
        self.token = said.lines().find_map(|line| line.strip_prefix("token ")).expect("Azurite's token").to_owned();
        self
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the process and waits until it says what makes `ready` know its port.
    fn run(&self, mut command: Command, ready: impl Fn(&str) -> Option<u16>) -> u16 {
        let log = self.log();
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

    /// A fresh folder on WsgiDAV or OpenSSH: where it lies here, and the `url` of a storage in it. Its name holds a blank, which shows whether it is
    /// encoded.
    ///
    /// # Panics
    /// On Azurite, which has containers.
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
            ServiceServerKind::Azblob => panic!("Azurite has no folders"),
        };
        (root, url)
    }

    /// A fresh container on Azurite, and the `url` of a storage beneath [`ROOT`] in it.
    fn container(&self) -> (Container, String) {
        let name = format!("media-{}", self.places.fetch_add(1, Relaxed));
        let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", self.port);
        let container = Container { url: format!("{endpoint}/{name}"), token: self.token.clone() };
        let made = container.clone();
        // Callers are not asynchronous, and may be within a runtime.
        let status = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(made.request("PUT", "?restype=container", &[], b"")).0
        });
        assert_eq!(status.join().expect("a thread"), 201, "cannot make a container");
        let (root, key) = (encoded(ROOT), encoded(KEY));
        (container, format!("azblob://{name}/{root}?endpoint={endpoint}&account_name={ACCOUNT}&account_key={key}"))
    }
}

/// Where a storage lies in its container. The blank shows whether it is encoded.
const ROOT: &str = "media files";

/// A container on Azurite, past OpenDAL.
#[derive(Debug, Clone)]
struct Container {
    url: String,
    token: String,
}

impl Container {
    /// A request, and its answer. `rest`: what follows the container's URL, with a `?` in it or not.
    async fn request(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, bytes::Bytes) {
        let url = format!("{}{rest}{}{}", self.url, if rest.contains('?') { '&' } else { '?' }, self.token);
        let headers: BTreeMap<String, String> = headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        crate::loopback::request(method, &url, &headers, body).await
    }

    /// The paths of everything beneath a path of the storage: blobs, their snapshots, and blocks that belong to none yet.
    async fn beneath(&self, path: &str) -> Vec<String> {
        let prefix = format!("{ROOT}/{path}");
        let query = format!("?restype=container&comp=list&include=snapshots,uncommittedblobs&prefix={}", encoded(&prefix));
        let (status, body) = self.request("GET", &query, &[], b"").await;
        let text = String::from_utf8(body.to_vec()).expect("a listing is UTF-8");
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("<NextMarker/>"), "the listing has several pages: {text}");
        let names = text.split("<Name>").skip(1).filter_map(|rest| Some(rest.split_once("</Name>")?.0));
        let unescape = |name: &str| {
            name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
        };
        let mut all: Vec<String> = names.map(|name| unescape(name)[prefix.len()..].to_owned()).collect();
        all.sort_unstable();
        all
    }
}

/// Percent-encoded but for letters, digits, `-._~` and `/`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
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
    files: Files,
    url: String,
    server: Arc<ServiceServer>,
}

/// The application's way to the files.
#[derive(Debug)]
enum Files {
    Folder(PathBuf),
    Container(Container),
}

impl ServicePlace {
    /// A fresh one.
    pub fn new(server: &Arc<ServiceServer>) -> Self {
        let (files, url) = match server.kind() {
            ServiceServerKind::Webdav | ServiceServerKind::Sftp => {
                let (root, url) = server.folder();
                (Files::Folder(root), url)
            }
            ServiceServerKind::Azblob => {
                let (container, url) = server.container();
                (Files::Container(container), url)
            }
        };
        ServicePlace { kind: server.kind(), files, url, server: Arc::clone(server) }
    }

    /// The same one, reached at `endpoint`: through a [`FaultProxy`](crate::FaultProxy) before a WebDAV server or Azurite.
    pub fn through(mut self, endpoint: &str) -> Self {
        self.url = self.url.replace(&format!("http://127.0.0.1:{}", self.server.port()), endpoint);
        self
    }

    /// The same one on Azurite, with a shared access signature for the whole account in place of its key.
    ///
    /// # Panics
    /// On another server.
    pub fn with_token(mut self) -> Self {
        let (before, _) = self.url.split_once("&account_key=").expect("an account's key in the URL");
        self.url = format!("{before}&sas_token={}", encoded(&self.server.token));
        self
    }

    /// What a service can do.
    pub fn can(kind: ServiceServerKind) -> Abilities {
        // Each is a folder in the end.
        let folder = Abilities {
            nests: false,
            refuses_longer: false,
            clock: Duration::from_secs(1),
            tells_same_bytes: false,
            raced: Raced::Stays,
            creates: false,
            ..Abilities::ALL
        };
        match kind {
            ServiceServerKind::Sftp => Abilities { refuses: &["photo.jpg ", " photo.jpg", "photo.jpg\u{a0}", " d/photo.jpg"], ..folder },
            ServiceServerKind::Webdav => Abilities {
                refuses: &["photo.jpg ", " photo.jpg", "photo.jpg\u{a0}", " d/photo.jpg", "a\nb", "a\tb", "?", "name#123"],
                ..folder
            },
            ServiceServerKind::Azblob => Abilities {
                refuses: &[
                    "photo.jpg ",
                    " photo.jpg",
                    "photo.jpg.",
                    "photo.jpg\u{a0}",
                    " d/photo.jpg",
                    "a\\b",
                    "a\nb",
                    "a\tb",
                    "...",
                    "..a/a..",
                ],
                // Azure's 1,024 characters, with the root and the way into the trash. Azurite does not count.
                longest: 1024 - "media files/.rowbound/trash/0000000000000-00000000/".len(),
                refuses_longer: false,
                clock: Duration::from_secs(1),
                ..Abilities::ALL
            },
        }
    }

    /// The folder, past the service.
    ///
    /// # Panics
    /// On Azurite, which has none.
    pub fn root(&self) -> &Path {
        match &self.files {
            Files::Folder(root) => root,
            Files::Container(_) => panic!("Azurite has no folders"),
        }
    }

    /// Writes a blob that stands for a folder, as accounts with a hierarchical namespace have them.
    ///
    /// # Panics
    /// On a server other than Azurite, and if it cannot be written.
    pub async fn put_folder_mark(&self, name: &FileName) {
        self.put_blob(name, &[("x-ms-meta-hdi_isfolder", "true")], b"").await;
    }

    async fn put_blob(&self, name: &FileName, headers: &[(&str, &str)], bytes: &[u8]) {
        let Files::Container(container) = &self.files else { panic!("{:?} has no blobs", self.kind) };
        // Azurite insists on a length, and hyper sends none of nothing.
        let length = bytes.len().to_string();
        let headers = [&[("x-ms-blob-type", "BlockBlob"), ("content-length", length.as_str())], headers].concat();
        let (status, answer) = container.request("PUT", &blob(name), &headers, bytes).await;
        assert_eq!(status, 201, "{name:?}: {answer:?}");
    }

    /// A plan for it.
    pub fn plan(&self, trash: Trash) -> StoragePlan {
        let location = Location::parse(&self.url, Path::new("/")).unwrap_or_else(|e| panic!("{}", e.full()));
        StoragePlan::at("default", location).trash(trash)
    }
}

/// Where a name lies in its container.
fn blob(name: &FileName) -> String {
    format!("/{}/{}", encoded(ROOT), encoded(name.as_str()))
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
        let Files::Folder(root) = &self.files else { return self.put_blob(name, &[], bytes).await };
        let path = root.join(name.as_str());
        fs::create_dir_all(path.parent().expect("a file has a folder")).unwrap_or_else(|e| panic!("{name:?}: {e}"));
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        match &self.files {
            Files::Folder(root) => match fs::read(root.join(name.as_str())) {
                Ok(bytes) => Some(bytes),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => panic!("{name:?}: {e}"),
            },
            Files::Container(container) => match container.request("GET", &blob(name), &[], b"").await {
                (200, bytes) => Some(bytes.to_vec()),
                (404, _) => None,
                (status, bytes) => panic!("{name:?}: {status} {bytes:?}"),
            },
        }
    }

    async fn own(&self) -> Vec<String> {
        match &self.files {
            Files::Folder(root) => crate::world::files_below(&root.join(RESERVED)),
            Files::Container(container) => container.beneath(&format!("{RESERVED}/")).await,
        }
    }
}
