//! S3 servers for tests, in the process or beside it, and a client of one's own to look past the storage under test.
//!
//! | [`S3Kind`] | what it is | good for | what it does not do |
//! | --- | --- | --- | --- |
//! | `S3sFs` | [s3s-fs](https://docs.rs/s3s-fs), in this process; buckets are folders | real signature checks, `If-None-Match` on PUT; keeps its data when it restarts | versions, `If-Match` on DELETE (ignored), `a` beside `a/b`, names that no folder can hold |
//! | `Moto` | [moto](https://docs.getmoto.org), a process out of `.venv-moto` | versions, delete markers, `If-Match` on DELETE, any name | check signatures, keep its data when it restarts |
//! | `Garage` | [Garage](https://garagehq.deuxfleurs.fr), if the variable `GARAGE` names its binary | a real store | any condition on PUT or DELETE (ignored), versions |
//!
//! No single server has all three of signatures, conditions and versions, so a suite runs on several.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    primitives::ByteStream,
    types::{BucketVersioningStatus, VersioningConfiguration},
};
use rowbound::plan::{Bucket, Location};

use crate::loopback::{Serving, listen, port};

/// How long a server may take to come up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum S3Kind {
    /// s3s-fs 0.14, in this process.
    S3sFs,
    /// moto 5, a Python process.
    Moto,
    /// Garage 2, if the environment variable `GARAGE` names its binary.
    Garage,
}

impl S3Kind {
    /// Those that can be started here: Garage only where there is one.
    pub fn here() -> Vec<S3Kind> {
        let garage = std::env::var_os("GARAGE").is_some().then_some(S3Kind::Garage);
        [S3Kind::S3sFs, S3Kind::Moto].into_iter().chain(garage).collect()
    }

    /// Whether a bucket can keep versions.
    pub fn has_versions(self) -> bool {
        self == S3Kind::Moto
    }

    /// Whether a server that was stopped and started again still has its buckets and objects.
    pub fn keeps_data(self) -> bool {
        self != S3Kind::Moto
    }
}

impl std::fmt::Display for S3Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            S3Kind::S3sFs => "s3s-fs",
            S3Kind::Moto => "moto",
            S3Kind::Garage => "garage",
        })
    }
}

/// An S3 server on a loopback port of its own. It is killed, and its data removed, when this value is dropped.
#[derive(Debug)]
pub struct S3Server {
    kind: S3Kind,
    port: u16,
    access_key: String,
    secret_key: String,
    dir: tempfile::TempDir,
    running: Mutex<Option<Running>>,
    /// Variables of its environment.
    env: Vec<(String, String)>,
}

#[derive(Debug)]
enum Running {
    Process(Process),
    Here(Serving),
}

/// A child that never outlives this value.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended by itself
        let _ = self.0.wait();
    }
}

impl S3Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up, or is not there: with the command that helps.
    pub fn start(kind: S3Kind) -> S3Server {
        Self::start_with(kind, &[])
    }

    /// The same for moto, with variables of its environment.
    ///
    /// # Panics
    /// As [`S3Server::start`].
    pub fn moto_with(env: &[(&str, &str)]) -> S3Server {
        Self::start_with(S3Kind::Moto, env)
    }

    fn start_with(kind: S3Kind, env: &[(&str, &str)]) -> S3Server {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let dir = tempfile::Builder::new().prefix("rowbound-s3.").tempdir().expect("cannot make a temporary folder");
        let (access_key, secret_key) = ("rowboundtestkey".to_owned(), "rowbound-test-secret".to_owned());
        let mut server = S3Server { kind, port: 0, access_key, secret_key, dir, running: Mutex::new(None), env };
        match kind {
            S3Kind::S3sFs => {
                std::fs::create_dir(server.data()).expect("cannot make the folder of buckets");
                let listener = listen(0);
                server.port = port(&listener);
                *server.running() = Some(server.serve(listener));
            }
            S3Kind::Moto => {
                let (process, port) = server.moto(0);
                server.port = port;
                *server.running() = Some(Running::Process(process));
            }
            S3Kind::Garage => server.make_garage(),
        }
        server
    }

    /// Which server it is.
    pub fn kind(&self) -> S3Kind {
        self.kind
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same as a socket's address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The id of its one key.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret of its one key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The region that signatures must name.
    pub fn region(&self) -> &'static str {
        if self.kind == S3Kind::Garage { "garage" } else { "us-east-1" }
    }

    /// What a process needs in its environment to get in, and that keeps it from looking for credentials anywhere else.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", self.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.as_str()),
            ("AWS_REGION", self.region()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A fresh, empty bucket.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn bucket(&self) -> S3Bucket {
        let name = format!("rb-{:016x}", rand::random::<u64>());
        let client = self.client();
        client.create_bucket().bucket(&name).send().await.unwrap_or_else(|e| panic!("{}: cannot make a bucket: {e:?}", self.kind));
        S3Bucket { name, client, endpoint: self.endpoint(), region: self.region() }
    }

    /// A fresh, empty bucket that keeps versions.
    ///
    /// # Panics
    /// When the server has none ([`S3Kind::has_versions`]).
    pub async fn versioned_bucket(&self) -> S3Bucket {
        let bucket = self.bucket().await;
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.client().put_bucket_versioning().bucket(&bucket.name).versioning_configuration(on);
        request.send().await.unwrap_or_else(|e| panic!("{}: cannot turn versions on: {e:?}", self.kind));
        bucket
    }

    /// A client that goes straight to the server and never tries twice.
    pub fn client(&self) -> Client {
        client(&self.endpoint(), self.region(), &self.access_key, &self.secret_key)
    }

    /// Stops it: s3s-fs answers the requests under way; then nobody listens. The others are killed.
    pub fn stop(&self) {
        match self.running().take() {
            Some(Running::Here(serving)) => serving.finish(),
            // The others promise nothing on SIGTERM that a test could rely on.
            Some(Running::Process(process)) => drop(process),
            None => {}
        }
    }

    /// Kills it: connections break, whatever they were doing.
    pub fn kill(&self) {
        self.running().take();
    }

    /// Starts it again on the same port, with the same data if it [keeps any](S3Kind::keeps_data).
    ///
    /// # Panics
    /// When it runs, or does not come up.
    pub fn start_again(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "the server runs");
        *running = Some(match self.kind {
            S3Kind::S3sFs => self.serve(listen(self.port)),
            S3Kind::Moto => Running::Process(self.moto(self.port).0),
            S3Kind::Garage => Running::Process(self.garage_up()),
        });
    }

    /// [`S3Server::stop`] and [`S3Server::start_again`].
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn serve(&self, listener: TcpListener) -> Running {
        let files = s3s_fs::FileSystem::new(self.data()).expect("the folder of buckets is not there");
        let mut service = s3s::service::S3ServiceBuilder::new(files);
        service.set_auth(s3s::auth::SimpleAuth::from_single(self.access_key.as_str(), self.secret_key.as_str()));
        Running::Here(Serving::start(listener, service.build()))
    }

    fn moto(&self, port: u16) -> (Process, u16) {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv-moto/bin/python");
        assert!(python.exists(), "there is no Python with moto in .venv-moto: run `make test`, or scripts/moto-venv");
        let mut command = Command::new(python);
        command.arg("-c").arg(include_str!("s3/moto.py")).arg(port.to_string());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let (process, log) = self.spawn(&mut command);
        wait_for(process, &log, |_| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let (_, rest) = said.split_once("Running on http://127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        })
    }

    fn make_garage(&mut self) {
        let (api, rpc) = (listen(0), listen(0));
        self.port = port(&api);
        let dir = self.dir.path().display();
        let secret: String = (0..8).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
        let config = format!(
            "metadata_dir = \"{dir}/meta\"\ndata_dir = \"{dir}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{secret}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{}\"\n",
            self.port,
            rpc = port(&rpc),
        );
        std::fs::write(self.dir.path().join("garage.toml"), config).expect("cannot write garage.toml");
        drop((api, rpc));
        *self.running() = Some(Running::Process(self.garage_up()));
        let node = self.garage(&["node", "id", "-q"]);
        let node = node.split('@').next().unwrap_or_default().trim();
        self.garage(&["layout", "assign", "-z", "dc1", "-c", "10G", node]);
        self.garage(&["layout", "apply", "--version", "1"]);
        let said = self.garage(&["key", "create", "rowbound"]);
        let value = |label: &str| {
            let line = said.lines().find_map(|l| l.trim().strip_prefix(label));
            line.unwrap_or_else(|| panic!("garage names no {label:?}:\n{said}")).trim().to_owned()
        };
        (self.access_key, self.secret_key) = (value("Key ID:"), value("Secret key:"));
        self.garage(&["key", "allow", "--create-bucket", "rowbound"]);
    }

    fn garage_command(&self) -> Command {
        let binary = std::env::var_os("GARAGE").expect(
            "GARAGE does not name Garage's binary: cargo install garage@2.5.0 --locked --no-default-features --features lmdb,bundled-libs",
        );
        let mut command = Command::new(binary);
        command.arg("-c").arg(self.dir.path().join("garage.toml"));
        command
    }

    fn garage(&self, args: &[&str]) -> String {
        let out = self.garage_command().args(args).output().expect("cannot run garage");
        assert!(out.status.success(), "garage {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn garage_up(&self) -> Process {
        let (process, log) = self.spawn(self.garage_command().arg("server"));
        let answers = |_: &mut Child| {
            let status = self.garage_command().arg("status").stdout(Stdio::null()).stderr(Stdio::null()).status();
            let api = std::net::TcpStream::connect(self.address());
            (status.is_ok_and(|s| s.success()) && api.is_ok()).then_some(0)
        };
        wait_for(process, &log, answers).0
    }

    /// Starts a server; what it says goes into a file, because nobody reads a pipe while a test runs.
    fn spawn(&self, command: &mut Command) -> (Process, PathBuf) {
        let log = self.dir.path().join(format!("log-{:08x}", rand::random::<u32>()));
        let file = File::create(&log).and_then(|f| Ok((f.try_clone()?, f))).expect("cannot write the server's log");
        let child = command.stdin(Stdio::piped()).stdout(file.0).stderr(file.1).spawn();
        (Process(child.unwrap_or_else(|e| panic!("cannot start {}: {e}", self.kind))), log)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill(); // before its folder goes
    }
}

fn wait_for(mut process: Process, log: &Path, mut ready: impl FnMut(&mut Child) -> Option<u16>) -> (Process, u16) {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(port) = ready(&mut process.0) {
            return (process, port);
        }
        let ended = process.0.try_wait().expect("cannot look after our own child");
        if ended.is_some() || Instant::now() > end {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            panic!("the server did not come up within {DEADLINE:?} ({ended:?}). It said:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn client(endpoint: &str, region: &'static str, access_key: &str, secret_key: &str) -> Client {
    let times = TimeoutConfig::builder().operation_timeout(Duration::from_secs(60)).build();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .region(Region::new(region))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "rowbound-testkit"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(times)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}

/// A bucket, and the application's way to it. It goes with its server.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    name: String,
    client: Client,
    endpoint: String,
    region: &'static str,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The object's key.
    pub key: String,
    /// The version's id.
    pub id: String,
    /// Whether it is what the key shows now.
    pub latest: bool,
    /// Whether it only says that the object was deleted.
    pub marker: bool,
}

impl S3Bucket {
    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that the application uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The storage beneath `prefix`, which is empty or ends with `/`.
    pub fn location(&self, prefix: &str) -> Location {
        self.location_at(&self.endpoint, prefix)
    }

    /// The same as reached through another address, such as a [fault proxy](crate::faults)'s.
    pub fn location_at(&self, endpoint: &str, prefix: &str) -> Location {
        Location::S3(Bucket {
            bucket: self.name.clone(),
            prefix: prefix.to_owned(),
            region: Some(self.region.to_owned()),
            endpoint: Some(endpoint.to_owned()),
            path_style: Some(true),
            profile: None,
        })
    }

    /// The `url` of the storage beneath `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        self.location(prefix).to_url()
    }

    /// Puts an object.
    ///
    /// # Panics
    /// On any error.
    pub async fn put(&self, key: &str, bytes: &[u8]) {
        let body = ByteStream::from(bytes.to_vec());
        let done = self.client.put_object().bucket(&self.name).key(key).body(body).send().await;
        done.unwrap_or_else(|e| panic!("cannot put {key:?}: {e:?}"));
    }

    /// Reads an object; `None` if there is none.
    ///
    /// # Panics
    /// On any other error.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(found) => {
                let bytes = found.body.collect().await.unwrap_or_else(|e| panic!("cannot read {key:?}: {e}"));
                Some(bytes.to_vec())
            }
            Err(e) if e.raw_response().is_some_and(|r| r.status().as_u16() == 404) => None,
            Err(e) => panic!("cannot get {key:?}: {e:?}"),
        }
    }

    /// Deletes an object, whether there is one or not.
    ///
    /// # Panics
    /// On any error.
    pub async fn delete(&self, key: &str) {
        let done = self.client.delete_object().bucket(&self.name).key(key).send().await;
        done.unwrap_or_else(|e| panic!("cannot delete {key:?}: {e:?}"));
    }

    /// Every key that begins with `prefix`, sorted. Asked again when the server fails: s3s-fs does so when a file goes while it lists.
    ///
    /// # Panics
    /// On any other error, and when it goes on failing.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let end = Instant::now() + DEADLINE;
        'again: loop {
            let mut keys = Vec::new();
            let mut pages = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
            while let Some(page) = pages.next().await {
                match page {
                    Ok(page) => keys.extend(page.contents().iter().map(|o| o.key().expect("an object has a key").to_owned())),
                    Err(e) if e.raw_response().is_some_and(|r| r.status().is_server_error()) && Instant::now() < end => continue 'again,
                    Err(e) => panic!("cannot list {prefix:?}: {e:?}"),
                }
            }
            keys.sort_unstable();
            return keys;
        }
    }

    /// Every version of every key that begins with `prefix`, by key, the latest first.
    ///
    /// # Panics
    /// On any error, so on a server without versions.
    pub async fn versions(&self, prefix: &str) -> Vec<Version> {
        let mut all = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.name).prefix(prefix);
            let page = request.set_key_marker(key.take()).set_version_id_marker(id.take()).send().await;
            let page = page.unwrap_or_else(|e| panic!("cannot list the versions of {prefix:?}: {e:?}"));
            let entry = |key: Option<&str>, id: Option<&str>, latest: Option<bool>, marker| Version {
                key: key.expect("a version has a key").to_owned(),
                id: id.unwrap_or("null").to_owned(),
                latest: latest.unwrap_or(false),
                marker,
            };
            all.extend(page.versions().iter().map(|v| (v.last_modified().copied(), entry(v.key(), v.version_id(), v.is_latest(), false))));
            all.extend(
                page.delete_markers().iter().map(|m| (m.last_modified().copied(), entry(m.key(), m.version_id(), m.is_latest(), true))),
            );
            if page.is_truncated() != Some(true) {
                break;
            }
            (key, id) = (page.next_key_marker, page.next_version_id_marker);
        }
        all.sort_by(|(t, a), (u, b)| a.key.cmp(&b.key).then(b.latest.cmp(&a.latest)).then(u.cmp(t)));
        all.into_iter().map(|(_, version)| version).collect()
    }
}
