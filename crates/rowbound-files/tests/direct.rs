//! Uploads that go straight to S3, on real servers: what a signed URL allows, and what comes of a file that is never confirmed.
//!
//! Credentials come out of the environment, so the story is told by a process of its own, which this test starts with those of its server.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rowbound::{Collector, StoragePlan, Trash, collect::Settings, database::Dialect};
use rowbound_files::{Error, Field, File, Files, ImageFile, Kind, Media, Processed, Signed, Ticket, Upload, Value};
use rowbound_testkit::{Backend, S3Kind, S3Server, World, request, wait_until};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(60);

/// What every key of the storage begins with: a blank, so that a URL that is not encoded is found.
const PREFIX: &str = "media files/";

/// How long URLs hold here: nobody waits for it, time is moved.
const HOUR: Duration = Duration::from_secs(3600);

/// How long an upload waits for its row beyond that.
const TTL: Duration = Duration::from_secs(1);

/// A GIF of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

fn doc() -> Field<File> {
    Field::file("doc.file").upload_to("d").max_size(1_000)
}

fn picture() -> Field<ImageFile> {
    Field::image("doc.title").upload_to("p")
}

/// An application with two columns of files in a bucket.
struct Site {
    world: World,
    media: Media,
    docs: Files<File>,
    pictures: Files<ImageFile>,
    checks_signatures: bool,
}

impl Site {
    async fn open(backend: Backend, storage: &str, checks_signatures: bool) -> Site {
        let world = World::new(backend).await.with_docs().await;
        let plan = StoragePlan::url_at("default", storage).expect("a storage");
        let plan = plan.grace(Duration::ZERO).min_age(TTL).stage_ttl(TTL).trash(Trash::Off);
        let opened = Media::builder(world.db.url()).storage(plan).field(&doc()).field(&picture()).attach().await;
        let media = opened.unwrap_or_else(|e| panic!("{}", e.full()));
        let (docs, pictures) = (media.files(&doc()).expect("its field"), media.files(&picture()).expect("its field"));
        Site { world, media, docs, pictures, checks_signatures }
    }

    /// The names of all files.
    async fn files(&self) -> BTreeSet<String> {
        let mut listing = self.docs.store().list("").await.unwrap_or_else(|e| panic!("{}", e.full()));
        let mut names = BTreeSet::new();
        loop {
            let page = listing.recv().await.expect("a last page").unwrap_or_else(|e| panic!("{}", e.full()));
            for entry in page.entries {
                let rowbound::storage::Listed::File(name) = entry else { panic!("{entry:?}") };
                names.insert(name.as_str().to_owned());
            }
            if page.last {
                return names;
            }
        }
    }

    async fn names(&self, value: &str) {
        self.world.db.exec(&format!("insert into doc (file) values ('{value}')")).await;
    }

    /// Lets the time of everything that was announced go by.
    async fn time_is_over(&self) {
        let sql = match self.world.db.dialect() {
            Dialect::Sqlite => "update rowbound_candidate set due_at = due_at - 7200000, released_at = released_at - 7200000",
            Dialect::Postgres => {
                "update rowbound.candidate set due_at = due_at - interval '2 h', released_at = released_at - interval '2 h'"
            }
            Dialect::Mysql => {
                "update rowbound_candidate set due_at = due_at - interval 2 hour, released_at = released_at - interval 2 hour"
            }
        };
        self.world.db.exec(sql).await;
    }

    /// Collects until nothing waits.
    async fn collected(&self) {
        let settings = Settings { patience: Duration::from_millis(100), ..Settings::default() };
        let collector: Collector = self.media.collector(settings).await.expect("a collector");
        let (_stop, stopped) = watch::channel(false);
        wait_until(DEADLINE, "nothing waits", async || {
            collector.drain(&stopped).await.unwrap_or_else(|e| panic!("{}", e.full()));
            collector.metrics().await.expect("figures").storages.values().all(|s| s.backlog == 0)
        })
        .await;
    }
}

async fn ticket<T: Value>(files: &Files<T>, name: &str, size: usize, media_type: &str) -> Ticket {
    let ticket = files.presign_upload(name, size as u64, media_type, HOUR).await;
    ticket.unwrap_or_else(|e| panic!("{name}: {}", e.full()))
}

/// Sends `bytes` as a client does that copies every header but the length, which its HTTP library knows better.
async fn send(signed: &Signed, bytes: &[u8]) -> u16 {
    let mut headers = signed.headers.clone();
    headers.retain(|key, _| !key.eq_ignore_ascii_case("content-length"));
    request(&signed.method, &signed.url, &headers, bytes).await.0
}

async fn confirmed<T: Value>(files: &Files<T>, ticket: &Ticket) -> T {
    files.confirm(&ticket.name).await.unwrap_or_else(|e| panic!("{}: {}", ticket.name, e.full()))
}

async fn refused<T: Value>(files: &Files<T>, name: &str) -> Error {
    match files.confirm(name).await {
        Ok(value) => panic!("{name:?} was taken: {value:?}"),
        Err(e) => e,
    }
}

async fn read(files: &Files<File>, value: &File) -> (Option<String>, Vec<u8>) {
    let mut file = files.open(value).await.unwrap_or_else(|e| panic!("{value}: {}", e.full()));
    let mut bytes = Vec::new();
    while let Some(piece) = file.body.next().await {
        bytes.extend_from_slice(&piece.unwrap_or_else(|e| panic!("{value}: {}", e.full())));
    }
    (file.content_type, bytes)
}

/// A file that is sent, confirmed and named by a row stays; its URL writes nothing more.
async fn confirmed_files_stay(site: &Site) {
    let ticket = ticket(&site.docs, "My Paper (1).txt", 5, "text/plain").await;
    assert!(ticket.name.starts_with("d/") && ticket.name.ends_with("_My_Paper_1.txt") && ticket.name.len() > 35, "{}", ticket.name);
    assert_eq!(ticket.request.method, "PUT");
    let early = refused(&site.docs, &ticket.name).await;
    assert_eq!((early.kind(), early.status()), (Kind::Unconfirmed, 409));
    assert!(early.full().contains("has not come"), "{}", early.full());

    // Every header as it was signed, the length among them.
    let length = ticket.request.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case("content-length"));
    assert_eq!(length.map(|(_, value)| value.as_str()), Some("5"), "{:?}", ticket.request.headers);
    assert_eq!(request("PUT", &ticket.request.url, &ticket.request.headers, b"paper").await.0, 200);
    let value = confirmed(&site.docs, &ticket).await;
    assert_eq!(value.as_str(), ticket.name);
    site.names(value.as_str()).await;
    assert_eq!(send(&ticket.request, b"other").await, 412, "the URL writes once");
    assert_eq!(read(&site.docs, &value).await, (Some("text/plain".to_owned()), b"paper".to_vec()));

    let url = value.presigned_url(&site.docs, HOUR).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let (status, bytes) = request("GET", &url, &Default::default(), b"").await;
    assert_eq!((status, &*bytes), (200, &b"paper"[..]));
    // What reads does not write.
    if site.checks_signatures {
        assert_eq!(request("PUT", &url, &Default::default(), b"other").await.0, 403);
        let forged = url.replace("My_Paper", "My_Papyr");
        assert_eq!(request("GET", &forged, &Default::default(), b"").await.0, 403);
    }

    site.time_is_over().await;
    site.collected().await;
    assert_eq!(site.files().await, BTreeSet::from([ticket.name.clone()]), "its row names it");
    // The row goes, and the file with it; then the name is nobody's.
    site.world.db.exec("delete from doc").await;
    site.collected().await;
    assert_eq!(site.files().await, BTreeSet::new());
    assert_eq!(refused(&site.docs, &ticket.name).await.kind(), Kind::Unconfirmed);
}

/// What is not what was announced is refused: by the server, or when it is confirmed.
async fn others_are_refused(site: &Site) {
    let docs = &site.docs;
    if site.checks_signatures {
        let ticket = ticket(docs, "a.txt", 5, "text/plain").await;
        for bytes in [&b"longer"[..], b"less", b""] {
            assert_eq!(send(&ticket.request, bytes).await, 403, "{} bytes instead of 5", bytes.len());
        }
        for header in ["content-type", "if-none-match"] {
            let mut other = ticket.request.clone();
            assert!(other.headers.remove(header).is_some(), "{header} is signed: {:?}", other.headers);
            assert!((400..500).contains(&send(&other, b"paper").await), "without {header}");
        }
        let mut html = ticket.request.clone();
        html.headers.insert("content-type".to_owned(), "text/html".to_owned());
        assert_eq!(send(&html, b"paper").await, 403, "text/html");
        let mut elsewhere = ticket.request.clone();
        elsewhere.url = elsewhere.url.replace("/d/", "/e/");
        assert_eq!(send(&elsewhere, b"paper").await, 403, "under another name");
        assert_eq!(site.files().await, BTreeSet::new(), "nothing of that was written");
    } else {
        // A service that checks no signature: what is larger than the field takes is found when it is confirmed.
        let ticket = ticket(docs, "a.txt", 5, "text/plain").await;
        assert_eq!(send(&ticket.request, &[b'x'; 1_001]).await, 200);
        assert_eq!(refused(docs, &ticket.name).await.kind(), Kind::TooLarge);
    }
    // A picture by its bytes.
    let good = ticket(&site.pictures, "evil.html", GIF.len(), "image/gif").await;
    assert!(good.name.ends_with("_evil.gif"), "{}", good.name);
    assert_eq!(send(&good.request, GIF).await, 200);
    assert_eq!(confirmed(&site.pictures, &good).await.as_str(), good.name);
    for (media_type, bytes) in [("image/png", GIF), ("image/png", b"<script>alert(1)</script>")] {
        let ticket = ticket(&site.pictures, "a.png", bytes.len(), media_type).await;
        assert_eq!(send(&ticket.request, bytes).await, 200, "the server does not look into it");
        assert_eq!(refused(&site.pictures, &ticket.name).await.kind(), Kind::Type);
    }
    // What was refused is released at once; what was confirmed and got no row, in its time.
    site.time_is_over().await;
    site.collected().await;
    assert_eq!(site.files().await, BTreeSet::new());
}

/// Only names that were given out, and only in their time.
async fn other_names_are_refused(site: &Site) {
    let docs = &site.docs;
    let staged = docs.save(Upload::bytes("staged.txt", "staged")).await.unwrap_or_else(|e| panic!("{}", e.full()));
    for name in ["d/guess.txt", staged.as_str(), "../x", "", "d//x", ".rowbound/storage.json"] {
        assert_eq!(refused(docs, name).await.kind(), Kind::Unconfirmed, "{name:?}");
    }
    let (unused, unconfirmed) = (ticket(docs, "unused.txt", 5, "text/plain").await, ticket(docs, "b.txt", 5, "text/plain").await);
    assert_eq!(send(&unconfirmed.request, b"paper").await, 200);
    confirmed(docs, &unconfirmed).await;
    assert_eq!(site.files().await, BTreeSet::from([staged.as_str().to_owned(), unconfirmed.name.clone()]));
    site.time_is_over().await;
    for late in [&unused, &unconfirmed] {
        let error = refused(docs, &late.name).await;
        assert!(error.kind() == Kind::Unconfirmed && error.full().contains("its time is over"), "{}", error.full());
    }
    site.collected().await;
    assert_eq!(
        site.files().await,
        BTreeSet::new(),
        "neither an upload that was never confirmed nor a URL that was never used leaves anything"
    );
    assert_eq!(refused(docs, &unconfirmed.name).await.kind(), Kind::Unconfirmed);
    // The URL itself has its time, too.
    if site.checks_signatures {
        let brief =
            docs.presign_upload("brief.txt", 5, "text/plain", Duration::from_secs(1)).await.unwrap_or_else(|e| panic!("{}", e.full()));
        let over = Instant::now() + Duration::from_secs(2);
        wait_until(DEADLINE, "the URL's time is over", async || Instant::now() > over).await;
        assert_eq!(send(&brief.request, b"paper").await, 403);
        site.time_is_over().await;
        site.collected().await;
        assert_eq!(site.files().await, BTreeSet::new());
    }
}

/// What a field would not take gets no URL.
async fn some_get_no_url(site: &Site) {
    let kind = async |size, media_type: &str, ttl| site.docs.presign_upload("a.txt", size, media_type, ttl).await.unwrap_err().kind();
    assert_eq!(kind(1_001, "text/plain", HOUR).await, Kind::TooLarge);
    assert_eq!(kind(0, "text/plain", HOUR).await, Kind::Empty);
    assert_eq!(kind(5, "text/plain", HOUR * 24 * 8).await, Kind::Config);
    let pictures = &site.pictures;
    assert_eq!(pictures.presign_upload("a.txt", 5, "text/plain", HOUR).await.unwrap_err().kind(), Kind::Type);
    let processed = picture().process(|bytes: &[u8]| Ok(Processed { bytes: bytes.to_vec(), media_type: "image/gif".to_owned() }));
    let processed = site.media.files(&processed).expect("its field");
    assert_eq!(processed.presign_upload("a.gif", 5, "image/gif", HOUR).await.unwrap_err().kind(), Kind::Config);
    let waits = site.world.db.query_strings(match site.world.db.dialect() {
        Dialect::Postgres => "select value from rowbound.candidate",
        _ => "select value from rowbound_candidate",
    });
    assert_eq!(waits.await.len(), 0, "what got no URL is announced by nobody");
    // Nor does a field whose column is not bound any more.
    let storage = site.media.plan().storages["default"].clone();
    let other = Media::builder(site.world.db.url()).storage(storage).field(&picture()).drop_binding("doc.file").attach().await;
    other.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(kind(5, "text/plain", HOUR).await, Kind::Engine(rowbound::Kind::NotAttached));
}

/// What the process does that [`on`] starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is run by the tests that have a server"]
async fn child() {
    let Ok(storage) = std::env::var("DIRECT_STORAGE") else { return };
    let backend = std::env::var("DIRECT_BACKEND").expect("a database");
    let backend = Backend::all().into_iter().find(|b| b.to_string() == backend).expect("a database that is here");
    let site = Site::open(backend, &storage, std::env::var_os("DIRECT_CHECKS").is_some()).await;
    confirmed_files_stay(&site).await;
    others_are_refused(&site).await;
    other_names_are_refused(&site).await;
    some_get_no_url(&site).await;
    println!("the whole story");
}

async fn on(kind: S3Kind, backend: Backend) {
    let server = S3Server::start(kind);
    let bucket = server.bucket().await;
    let mut command = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "child", "--ignored", "--nocapture"]).envs(server.env());
    command.env("DIRECT_STORAGE", bucket.url(PREFIX)).env("DIRECT_BACKEND", backend.to_string());
    if kind != S3Kind::Moto {
        command.env("DIRECT_CHECKS", "");
    }
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("this test runs again");
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("the whole story"), "{said}\n{complained}");
    // Past the storage: nothing but what is Rowbound's own.
    let keys = bucket.keys("").await;
    assert!(keys.iter().all(|key| key.starts_with(&format!("{PREFIX}.rowbound/"))), "{keys:?}");
}

/// Active Storage: a PUT larger than its signature allows; a file of no bytes.
/// Active Storage: a direct upload that is never attached is purged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_straight_to_s3s_fs_are_confirmed_or_leave_nothing() {
    on(S3Kind::S3sFs, Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_straight_to_s3s_fs_with_postgres_are_confirmed_or_leave_nothing() {
    on(S3Kind::S3sFs, Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_straight_to_s3s_fs_with_mariadb_are_confirmed_or_leave_nothing() {
    on(S3Kind::S3sFs, Backend::Mariadb).await;
}

/// Active Storage: a direct upload that is never attached is purged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_straight_to_moto_are_confirmed_or_leave_nothing() {
    on(S3Kind::Moto, Backend::Sqlite).await;
}

#[tokio::test]
async fn a_folder_has_no_urls_to_write_to() {
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.min_age(TTL));
    let opened = Media::builder(world.db.url()).storage(world.storage.clone()).field(&doc()).attach().await;
    let media = opened.unwrap_or_else(|e| panic!("{}", e.full()));
    let files = media.files(&doc()).expect("its field");
    let error = files.presign_upload("a.txt", 5, "text/plain", HOUR).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{}", error.full());
    assert!(error.hint_text().is_some());
}
