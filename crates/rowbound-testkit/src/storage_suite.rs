//! The conformance suite of [`rowbound::storage::Storage`].
//!
//! In: a [`Place`], which makes a storage under test and reaches its files as the application does, past the storage. Out: a panic that
//! names the check and what it saw, or nothing. Every promise that the collector relies on is a check of [`CHECKS`].
//!
//! What a storage cannot do, its place says ([`Abilities`]); every check stays strict for the others, and for those it proves that what cannot
//! be done is refused instead of done wrongly. [`table`] says it in a document.
//!
//! `docs/storage-guide.md` says how a storage of one's own is written, and has one that runs it.
//!
//! ```no_run
//! # use rowbound_testkit::storage_suite::{self, Place};
//! # async fn prove(make: impl AsyncFn() -> Box<dyn Place>) {
//! storage_suite::run(make).await; // each check on a place of its own
//! # }
//! ```

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rowbound::{
    FileName, Kind,
    storage::{Conditional, FileVersion, Listed, Listing, Marker, PutOptions, Removed, Restored, Stat, Storage, TrashKind, Trashed},
};

mod uploads; // files that come in and go out

/// How long a check waits for a clock to move on.
const DEADLINE: Duration = Duration::from_secs(30);

/// An empty place for one storage.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the storage, with a trash (any retention of a day or more) or without. It may be called several times: all see the same files.
    fn open(&self, trash: bool) -> Arc<dyn Storage>;

    /// What this kind of storage can do.
    fn abilities(&self) -> Abilities;

    /// Writes a file as the application does, replacing one of that name.
    async fn put(&self, name: &FileName, bytes: &[u8]);

    /// Reads a file as the application does.
    async fn get(&self, name: &FileName) -> Option<Vec<u8>>;

    /// The name of everything beneath `.rowbound/`, hidden versions too, sorted: what the storage keeps for itself.
    async fn own(&self) -> Vec<String>;
}

/// What a kind of storage can do. Start from [`Abilities::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// It can have a trash.
    pub trash: bool,
    /// Opened without a trash, it erases a file and leaves those of that name in the trash. A bucket that erases every version does not.
    pub erasing_spares_trash: bool,
    /// `a` and `a/b` can both be files.
    pub nests: bool,
    /// Of [`ODD_NAMES`], those that it cannot hold: a look must refuse them.
    pub refuses: &'static [&'static str],
    /// Names up to so many bytes can be held, in segments of up to 200 bytes.
    pub longest: usize,
    /// A longer name is refused. Where nobody knows where a name becomes too long, an error must do.
    pub refuses_longer: bool,
    /// It can list its files. One that cannot must say so in an error.
    pub lists: bool,
    /// How exact its modification times are.
    pub clock: Duration,
    /// A file that was replaced by the same bytes looks different at once, however coarse the clock.
    pub tells_same_bytes: bool,
    /// What becomes of a file that is replaced at the very moment of its removal.
    pub raced: Raced,
    /// A name is taken in one step: of several uploads that want it at once, one gets it.
    pub creates: bool,
    /// It has signed URLs.
    pub signs: bool,
}

/// What becomes of a file that is replaced at the very moment of its removal, after the last look at the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raced {
    /// It stays.
    Stays,
    /// It stays, or comes back, if the storage was opened with a trash.
    StaysWithTrash,
    /// It may be lost.
    Lost,
}

impl Abilities {
    /// Everything but signed URLs.
    pub const ALL: Abilities = Abilities {
        trash: true,
        erasing_spares_trash: true,
        nests: true,
        refuses: &[],
        longest: 1024,
        refuses_longer: true,
        lists: true,
        clock: Duration::ZERO,
        tells_same_bytes: true,
        raced: Raced::Stays,
        creates: true,
        signs: false,
    };
}

/// A check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What it promises.
    pub promise: &'static str,
    /// Proves it, or panics.
    pub prove: Proof,
    /// What of it a storage with these abilities does not keep.
    pub except: fn(&Abilities) -> Option<String>,
}

/// Proves a promise at a place.
pub type Proof = for<'a> fn(&'a dyn Place) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

const fn check(promise: &'static str, prove: Proof) -> Check {
    Check { promise, prove, except: |_| None }
}

const fn check_unless(promise: &'static str, prove: Proof, except: fn(&Abilities) -> Option<String>) -> Check {
    Check { promise, prove, except }
}

/// The exception of a storage without a trash.
fn no_trash(can: &Abilities) -> Option<String> {
    (!can.trash).then(|| "has no trash".to_owned())
}

/// Every check.
pub const CHECKS: [Check; 34] = [
    check("refuses everything until it knows which storage it must be", |p| Box::pin(unexpected(p))),
    check("keeps its marker", |p| Box::pin(marker(p))),
    check("touches nothing under the marker of another storage", |p| Box::pin(another_marker(p))),
    check("touches nothing without a marker", |p| Box::pin(no_marker(p))),
    check("can be looked at without a marker, and then changes nothing", |p| Box::pin(surveys(p))),
    check("leaves nothing behind when it tries what it can", |p| Box::pin(probes(p))),
    check("looks in order", |p| Box::pin(looks(p))),
    check("reads the beginning of a file, and only a file", |p| Box::pin(reads(p))),
    check("answers an empty batch", |p| Box::pin(empty_batch(p))),
    check("removes exactly what was asked for", |p| Box::pin(removes_exactly(p))),
    check_unless(
        "keeps names apart that differ in any byte",
        |p| Box::pin(odd_names(p)),
        |can| match can.refuses {
            [] => None,
            some => {
                Some(format!("refuses {}", some.iter().map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ")))
            }
        },
    ),
    check_unless(
        "holds a file beside files beneath its name",
        |p| Box::pin(nests(p)),
        |can| (!can.nests).then(|| "a name is a file or a folder".to_owned()),
    ),
    check_unless(
        "holds names of 1,024 bytes, and refuses longer ones",
        |p| Box::pin(long_names(p)),
        |can| match (can.longest, can.refuses_longer) {
            (1024.., true) => None,
            (1024.., false) => Some("holds longer ones too, up to a limit of its own".to_owned()),
            (less, true) => Some(format!("up to {less} bytes")),
            (less, false) => Some(format!("up to {less} bytes, maybe more")),
        },
    ),
    check("removes again without harm", |p| Box::pin(removes_again(p))),
    check("leaves a file that was replaced", |p| Box::pin(replaced(p))),
    check_unless(
        "leaves a file that was replaced by the same bytes",
        |p| Box::pin(same_bytes(p)),
        |can| (!can.tells_same_bytes).then(|| "once its clock has moved on".to_owned()),
    ),
    check_unless(
        "leaves a file that is replaced at the moment of its removal",
        |p| Box::pin(raced(p)),
        |can| match can.raced {
            Raced::Stays => None,
            Raced::StaysWithTrash => Some("with a trash".to_owned()),
            Raced::Lost => Some("not in the moment after the last look".to_owned()),
        },
    ),
    check("settles each item of a mixed batch for itself", |p| Box::pin(mixed(p))),
    check_unless("brings back what it took, byte for byte", |p| Box::pin(brings_back(p)), no_trash),
    check_unless(
        "keeps every version, and finds the latest",
        |p| Box::pin(versions(p)),
        |can| no_trash(can).or_else(|| (!can.erasing_spares_trash).then(|| "erasing a file erases those in the trash".to_owned())),
    ),
    check_unless("never restores over another file", |p| Box::pin(occupied(p)), no_trash),
    check_unless("purges exactly what was asked for, again without harm", |p| Box::pin(purges(p)), no_trash),
    check_unless("tells what has expired", |p| Box::pin(expires(p)), no_trash),
    check_unless("lists everything in order, from anywhere", |p| Box::pin(lists(p)), |can| (!can.lists).then(|| "cannot list".to_owned())),
    check_unless(
        "lists what begins with a prefix, and nothing else",
        |p| Box::pin(lists_prefix(p)),
        |can| (!can.lists).then(|| "cannot list".to_owned()),
    ),
    check("shows a file that comes in when it is whole, and durable", |p| Box::pin(uploads::placed_whole(p))),
    check("places a file under its name, byte for byte", |p| Box::pin(uploads::placed_exactly(p))),
    // Active Storage: a key collision cannot overwrite.
    check("places no file over another, unless asked to", |p| Box::pin(uploads::never_over(p))),
    check("replaces a file in one step where that is asked for", |p| Box::pin(uploads::over(p))),
    check_unless("gives a name to one of several that want it at once", |p| Box::pin(uploads::one_wins(p)), uploads::creates),
    // Active Storage: a checksum that does not match leaves no object; Shrine: temporary files are removed.
    check("leaves nothing of a file that is given up", |p| Box::pin(uploads::given_up(p))),
    check("reads a whole file as it comes, and only a file", |p| Box::pin(uploads::fetches(p))),
    // Active Storage: a PUT larger than its signature allows; a file of no bytes.
    check_unless("signs URLs to read and to write one file", |p| Box::pin(uploads::signs(p)), uploads::has_signed),
    check("leaves nothing but the trash when the marker goes", |p| Box::pin(removes_marker(p))),
];

/// Runs every check, each on a place that `make` made for it.
///
/// # Panics
/// With the check's promise and what was seen instead.
pub async fn run(make: impl AsyncFn() -> Box<dyn Place>) {
    for check in CHECKS {
        eprintln!("storage suite: {}", check.promise);
        let begun = Instant::now();
        (check.prove)(&*make().await).await;
        eprintln!("  {:?}", begun.elapsed());
    }
}

/// What each kind of storage keeps of each promise, as a table in Markdown. Each column is proved by [`run`] on a place with these abilities.
pub fn table(storages: &[(&str, Abilities)]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut text = format!("| promise | {} |\n", storages.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    text += &format!("| --- |{}\n", " --- |".repeat(storages.len()));
    for check in CHECKS {
        text += &format!("| {} |", check.promise);
        for (_, can) in storages {
            let Some(note) = (check.except)(can) else {
                text += " yes |";
                continue;
            };
            let number = notes.iter().position(|n| *n == note).unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            text += &format!(" ({}) |", number + 1);
        }
        text += "\n";
    }
    text += "\n";
    for (i, note) in notes.iter().enumerate() {
        let mut line = format!("{}.", i + 1);
        for part in note.split_inclusive(", ") {
            // The first stands behind the number, and a line that is full goes on below it.
            let part = part.strip_suffix(' ').unwrap_or(part);
            if line.chars().count() + 1 + part.chars().count() > WIDTH {
                text += &line;
                text += "\n";
                line = "  ".to_owned();
            }
            line += " ";
            line += part;
        }
        text += &line;
        text += "\n";
    }
    text
}

/// The longest line of a document, in characters.
const WIDTH: usize = 120;

/// A checked name.
///
/// # Panics
/// If it is refused.
pub fn name(text: &str) -> FileName {
    FileName::parse(text).unwrap_or_else(|why| panic!("{text:?} {why}"))
}

/// A marker with this storage id.
pub fn marker_of(storage: &str) -> Marker {
    Marker::new(storage, ["an installation".to_owned()])
}

/// Attaches the storage: writes a marker if there is none, and expects it.
///
/// # Panics
/// If the storage does not let it.
pub async fn attach(storage: &dyn Storage) {
    if storage.marker().await.expect("the marker is readable").is_none() {
        storage.set_marker(&marker_of("suite")).await.expect("the marker is writable");
    }
    storage.expect("suite");
    storage.verify_marker().await.expect("the storage proves itself");
}

/// What lies under one name.
///
/// # Panics
/// On an error.
pub async fn look(storage: &dyn Storage, name: &FileName) -> Stat {
    storage.stat(std::slice::from_ref(name)).await.expect("look").remove(0).expect("look at one name")
}

/// The same for a file that must be there.
///
/// # Panics
/// If it is not.
pub async fn seen(storage: &dyn Storage, name: &FileName) -> FileVersion {
    match look(storage, name).await {
        Stat::File(seen) => seen,
        other => panic!("{name:?}: {other:?}"),
    }
}

/// Looks at a file that must be there and takes it away.
///
/// # Panics
/// On an error.
pub async fn take(storage: &dyn Storage, name: &FileName) -> Removed {
    let item = (name.clone(), seen(storage, name).await);
    storage.remove(&[item]).await.expect("remove").remove(0).expect("remove one")
}

/// The latest version of one name in the trash.
///
/// # Panics
/// On an error.
pub async fn in_trash(storage: &dyn Storage, name: &FileName) -> Option<Trashed> {
    storage.trashed(std::slice::from_ref(name)).await.expect("trashed").remove(0).expect("trashed, one name")
}

/// Brings one file back.
///
/// # Panics
/// On an error.
pub async fn restore(storage: &dyn Storage, item: &Trashed) -> Restored {
    storage.restore(std::slice::from_ref(item)).await.expect("restore").remove(0).expect("restore one")
}

/// Reads a listing to its end: its entries, and whether it was complete.
///
/// # Errors
/// What the listing ended with.
pub async fn drain(mut listing: Listing) -> rowbound::Result<(Vec<Listed>, bool)> {
    let (mut entries, mut last) = (Vec::new(), false);
    while let Some(page) = listing.recv().await {
        assert!(!last, "a page came after the last");
        let page = page?;
        last = page.last;
        entries.extend(page.entries);
    }
    Ok((entries, last))
}

/// The names of all files after `after`, from a complete listing.
///
/// # Panics
/// If the listing is not complete or holds anything but files.
pub async fn files(storage: &dyn Storage, after: Option<&str>) -> Vec<String> {
    let listing = storage.list("", after.map(name)).await.expect("list");
    let (entries, last) = drain(listing).await.expect("the listing ends well");
    assert!(last, "the listing has no last page");
    let text = |entry| match entry {
        Listed::File(name) => name.as_str().to_owned(),
        odd => panic!("{odd:?}"),
    };
    entries.into_iter().map(text).collect()
}

async fn open(place: &dyn Place, trash: bool) -> Arc<dyn Storage> {
    let storage = place.open(trash);
    attach(&*storage).await;
    storage
}

/// Both kinds of removal, where the place has both.
fn modes(place: &dyn Place) -> &'static [bool] {
    if place.abilities().trash { &[false, true] } else { &[false] }
}

/// Insists that these are the files, where the storage can list them.
async fn assert_files(place: &dyn Place, storage: &dyn Storage, names: &[&str]) {
    if place.abilities().lists {
        assert_eq!(files(storage, None).await, names);
    }
}

async fn put_all(place: &dyn Place, names: &[&str]) {
    for text in names {
        place.put(&name(text), text.as_bytes()).await;
    }
}

async fn state(place: &dyn Place, names: &[&str]) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut state = BTreeMap::new();
    for text in names {
        state.insert((*text).to_owned(), place.get(&name(text)).await);
    }
    state
}

/// Every operation but those on the marker fails as a whole, with `kind`.
async fn all_refused(storage: &dyn Storage, kind: Kind) {
    let (file, stamp) = (name("a/b.jpg"), Timestamp::UNIX_EPOCH);
    let seen = FileVersion::new(1, stamp, String::new());
    let item = Trashed { name: file.clone(), place: String::new(), at: stamp, size: 1 };
    let files = std::slice::from_ref(&file);
    let items = std::slice::from_ref(&item);
    let errors = [
        ("verify_marker", storage.verify_marker().await.err()),
        ("stat", storage.stat(files).await.err()),
        ("read", storage.read(&file, 10).await.err()),
        ("remove", storage.remove(&[(file.clone(), seen)]).await.err()),
        ("trashed", storage.trashed(files).await.err()),
        ("expired", storage.expired(Timestamp::MAX, None, 10).await.err()),
        ("restore", storage.restore(items).await.err()),
        ("purge", storage.purge(items).await.err()),
        ("list", storage.list("", None).await.err()),
        ("begin", storage.begin(&file, &PutOptions::default()).await.err()),
        ("fetch", storage.fetch(&file).await.err()),
    ];
    for (operation, error) in errors {
        let error = error.unwrap_or_else(|| panic!("{operation} did not fail"));
        assert_eq!(error.kind(), kind, "{operation}: {}", error.full());
        assert!(error.hint_text().is_some_and(|hint| !hint.is_empty()), "{operation} has no hint");
    }
}

async fn unexpected(place: &dyn Place) {
    let storage = place.open(false);
    storage.set_marker(&marker_of("suite")).await.unwrap();
    put_all(place, &["a/b.jpg"]).await;
    all_refused(&*storage, Kind::NotAttached).await;
    assert!(place.get(&name("a/b.jpg")).await.is_some());
}

async fn marker(place: &dyn Place) {
    let storage = place.open(false);
    assert_eq!(storage.marker().await.unwrap(), None);
    for id in ["first", "second"] {
        storage.set_marker(&marker_of(id)).await.unwrap();
        assert_eq!(storage.marker().await.unwrap(), Some(marker_of(id)));
        assert_eq!(place.open(false).marker().await.unwrap(), Some(marker_of(id)));
    }
    storage.expect("second");
    storage.verify_marker().await.unwrap();
    assert_files(place, &*storage, &[]).await; // attaching leaves no file among the application's
}

async fn another_marker(place: &dyn Place) {
    let storage = open(place, false).await;
    put_all(place, &["a/b.jpg"]).await;
    storage.set_marker(&marker_of("another")).await.unwrap();
    all_refused(&*storage, Kind::StorageUnreachable).await;
    assert_eq!(storage.remove_marker().await.unwrap_err().kind(), Kind::StorageUnreachable);
    assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"a/b.jpg"[..]));
}

async fn no_marker(place: &dyn Place) {
    let storage = open(place, false).await;
    put_all(place, &["a/b.jpg"]).await;
    storage.remove_marker().await.unwrap();
    all_refused(&*storage, Kind::StorageUnreachable).await;
    assert!(place.get(&name("a/b.jpg")).await.is_some());
    attach(&*storage).await;
    assert!(matches!(look(&*storage, &name("a/b.jpg")).await, Stat::File(_)));
}

async fn surveys(place: &dyn Place) {
    put_all(place, &["a/b.jpg", "c.jpg"]).await;
    let storage = place.open(place.abilities().trash);
    storage.set_read_only();
    storage.verify_marker().await.expect("the place is there");
    let file = seen(&*storage, &name("a/b.jpg")).await;
    assert_eq!(look(&*storage, &name("none")).await, Stat::Missing);
    assert_eq!(storage.read(&name("a/b.jpg"), 1).await.unwrap().as_deref(), Some(&b"a"[..]));
    if place.abilities().lists {
        assert_eq!(files(&*storage, None).await, ["a/b.jpg", "c.jpg"]);
    }
    let item = Trashed { name: name("a/b.jpg"), place: "none".to_owned(), at: Timestamp::now(), size: file.size };
    for refused in [
        storage.remove(&[(name("a/b.jpg"), file)]).await.map(drop),
        storage.restore(std::slice::from_ref(&item)).await.map(drop),
        storage.purge(&[item]).await.map(drop),
        storage.begin(&name("d.jpg"), &PutOptions::default()).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), Kind::NotAttached);
    }
    assert_eq!(place.own().await, [""; 0]);
    assert!(place.get(&name("a/b.jpg")).await.is_some());
    storage.expect("another");
    assert_eq!(storage.stat(&[name("a/b.jpg")]).await.unwrap_err().kind(), Kind::StorageUnreachable);
}

async fn looks(place: &dyn Place) {
    let storage = open(place, false).await;
    let names = ["z", "a/1", "a/2", "b/c/d/e", "a/3", "empty"];
    // The server's clock may be another, but not by much.
    let slack = SignedDuration::try_from(place.abilities().clock).expect("a clock's precision") + SignedDuration::from_secs(5);
    let earliest = Timestamp::now() - slack;
    put_all(place, &names[..5]).await;
    place.put(&name("empty"), b"").await;
    let latest = Timestamp::now() + slack;
    let asked = ["a/3", "none", "z", "a/none", "b/c/d/e", "no/such/folder", "a/1", "empty", "z"];
    let found = storage.stat(&asked.map(name)).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (text, found) in asked.into_iter().zip(found) {
        match found.unwrap() {
            Stat::Missing => assert!(text.starts_with("no") || text.ends_with("none"), "{text}"),
            Stat::File(seen) => {
                assert_eq!(seen.size, if text == "empty" { 0 } else { text.len() as u64 }, "{text}");
                assert!(earliest <= seen.modified && seen.modified <= latest, "{text}: {}", seen.modified);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let again = seen(&*storage, &name("z")).await;
    assert_eq!(again, seen(&*storage, &name("z")).await, "what does not change looks the same");
}

async fn reads(place: &dyn Place) {
    let storage = open(place, false).await;
    // More than one packet, page or chunk of any layer.
    let long: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    place.put(&name("d/long"), &long).await;
    place.put(&name("empty"), b"").await;
    put_all(place, &["photo.jpg"]).await;
    for (text, limit, bytes) in [
        ("d/long", 299_999, Some(&long[..299_999])),
        ("d/long", 300_000, Some(&long[..])),
        ("d/long", 1_000_000, Some(&long[..])),
        ("d/long", 7, Some(&long[..7])),
        ("empty", 10, Some(&b""[..])),
        ("photo.jpg", 100, Some(&b"photo.jpg"[..])),
        ("photo.jp", 100, None),
        ("none/photo.jpg", 100, None),
    ] {
        let read = storage.read(&name(text), limit).await.unwrap_or_else(|e| panic!("{text}: {}", e.full()));
        assert!(read.as_deref() == bytes, "{text}, {limit}: {:?} bytes", read.map(|b| b.len()));
    }
    for text in place.abilities().refuses {
        assert!(storage.read(&name(text), 10).await.is_err(), "{text:?}");
    }
    if !place.abilities().nests {
        assert!(storage.read(&name("d"), 10).await.is_err(), "a folder is no file");
    }
}

async fn empty_batch(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        assert!(storage.stat(&[]).await.unwrap().is_empty());
        assert!(storage.remove(&[]).await.unwrap().is_empty());
        assert!(storage.trashed(&[]).await.unwrap().is_empty());
        assert!(storage.restore(&[]).await.unwrap().is_empty());
        assert!(storage.purge(&[]).await.unwrap().is_empty());
        assert!(storage.expired(Timestamp::MAX, None, 10).await.unwrap().files.is_empty());
        assert_files(place, &*storage, &[]).await;
    }
}

async fn removes_exactly(place: &dyn Place) {
    let mut neighbours = vec!["f", "foo", "foo.jp", "foo.jpg2", "foo.jpgx/y", "foobar/x", "g/foo.jpg", "g/g/foo.jpg"];
    if place.abilities().nests {
        neighbours.extend(["foo.jpg/x", "foo/x"]);
    }
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &neighbours).await;
        put_all(place, &["foo.jpg"]).await;
        let before = state(place, &neighbours).await;
        let removed = take(&*storage, &name("foo.jpg")).await;
        assert_eq!(matches!(removed, Removed::Trashed(_)), *trash, "{removed:?}");
        assert_eq!(removed == Removed::Erased, !*trash);
        assert_eq!(place.get(&name("foo.jpg")).await, None);
        assert_eq!(state(place, &neighbours).await, before);
        assert_eq!(look(&*storage, &name("foo.jpg")).await, Stat::Missing);
    }
}

/// Names that some layer likes to trim, fold, decode, collapse or expand. All differ in bytes and so are different files.
pub const ODD_NAMES: [&str; 34] = [
    "photo.jpg",
    "photo.jpg ",
    " photo.jpg",
    "photo.jpg.",
    "photo.jpg\u{a0}",
    "Photo.jpg",
    "PHOTO.JPG",
    "d/photo.jpg",
    "d /photo.jpg",
    " d/photo.jpg",
    "D/photo.jpg",
    "\u{e9}.jpg",
    "e\u{301}.jpg",
    "\u{fb01}.jpg",
    "fi.jpg",
    "%C3%A9.jpg",
    "%2e%2e",
    "%2e%2e%2fphoto.jpg",
    "a+b",
    "a b",
    "a%20b",
    "a\\b",
    "a\nb",
    "a\tb",
    "a\u{202e}gpj.exe",
    "*",
    "?",
    "[a-z]*",
    "~",
    "$HOME",
    "-rf",
    "name#123",
    "...",
    "..a/a..",
];

async fn odd_names(place: &dyn Place) {
    let refused = place.abilities().refuses;
    let held: Vec<&str> = ODD_NAMES.into_iter().filter(|text| !refused.contains(text)).collect();
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &held).await;
        // What is refused is some other name to this storage: no removal may reach that one.
        for text in refused {
            let looked = look(&*storage, &name(text)).await;
            assert!(matches!(looked, Stat::Refused(_)), "{text:?}: {looked:?}");
            let forged = seen(&*storage, &name(held[0])).await;
            match storage.remove(&[(name(text), forged)]).await.expect("remove").remove(0) {
                Ok(Removed::Changed | Removed::Missing) | Err(_) => {}
                Ok(removed) => panic!("{text:?} is refused, but {removed:?}"),
            }
        }
        for (text, bytes) in state(place, &held).await {
            assert_eq!(bytes.as_deref(), Some(text.as_bytes()), "a refused name was asked for, {text:?} is gone or changed");
        }
        // One by one, later (with a trash) in two batches, of which each has the neighbours of the other.
        let batches: Vec<Vec<&str>> = if *trash {
            let (odd, even): (Vec<_>, Vec<_>) = held.iter().enumerate().partition(|(i, _)| i % 2 == 1);
            [odd, even].map(|half| half.into_iter().map(|(_, text)| *text).collect()).to_vec()
        } else {
            held.iter().map(|text| vec![*text]).collect()
        };
        let (mut left, mut unchecked) = (held.clone(), Vec::new());
        for batch in batches {
            let names: Vec<FileName> = batch.iter().map(|text| name(text)).collect();
            let mut items = Vec::new();
            for (name, look) in names.iter().zip(storage.stat(&names).await.expect("look")) {
                match look {
                    Ok(Stat::File(seen)) => items.push((name.clone(), seen)),
                    other => panic!("{name:?}: {other:?}"),
                }
            }
            for (text, removed) in batch.iter().zip(storage.remove(&items).await.expect("remove")) {
                assert!(matches!(removed, Ok(Removed::Erased | Removed::Trashed(_))), "{text:?}: {removed:?}");
                assert_eq!(place.get(&name(text)).await, None, "{text:?}");
            }
            left.retain(|text| !batch.contains(text));
            unchecked.extend(batch);
            if unchecked.len() >= 6 || left.is_empty() {
                for (other, bytes) in state(place, &left).await {
                    assert_eq!(
                        bytes.as_deref(),
                        Some(other.as_bytes()),
                        "one of {unchecked:?} was asked for, {other:?} is gone or changed"
                    );
                }
                unchecked.clear();
            }
        }
        if *trash {
            let names: Vec<FileName> = held.iter().map(|text| name(text)).collect();
            let mut items = Vec::new();
            for (name, found) in names.iter().zip(storage.trashed(&names).await.expect("trashed")) {
                items.push(found.expect("trashed, one name").unwrap_or_else(|| panic!("{name:?} is not in the trash")));
            }
            for (name, restored) in names.iter().zip(storage.restore(&items).await.expect("restore")) {
                assert_eq!(restored.expect("restore one"), Restored::Back, "{name:?}");
            }
            for (text, bytes) in state(place, &held).await {
                assert_eq!(bytes.as_deref(), Some(text.as_bytes()), "{text:?}");
            }
        }
    }
}

async fn nests(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        if !place.abilities().nests {
            put_all(place, &["a/b", "c"]).await;
            for text in ["a", "c/d", "a/b/c"] {
                // An error would do: nothing is concluded from it.
                let looked = storage.stat(&[name(text)]).await.expect("look").remove(0);
                assert!(!matches!(looked, Ok(Stat::File(_))), "{text:?}: {looked:?}");
                let forged = seen(&*storage, &name("c")).await;
                let removed = storage.remove(&[(name(text), forged)]).await.expect("remove").remove(0);
                assert!(!matches!(removed, Ok(Removed::Erased | Removed::Trashed(_))), "{text:?}: {removed:?}");
            }
            assert_files(place, &*storage, &["a/b", "c"]).await;
            assert!(place.get(&name("a/b")).await.is_some() && place.get(&name("c")).await.is_some());
            continue;
        }
        let names = ["a", "a.b", "a/b", "a/b/c"];
        put_all(place, &names).await;
        assert_files(place, &*storage, &names).await;
        for text in names {
            assert_eq!(seen(&*storage, &name(text)).await.size, text.len() as u64);
        }
        // The one beneath others, the one above others, the one between.
        for text in ["a/b/c", "a", "a/b"] {
            let rest: Vec<_> = names.into_iter().filter(|n| *n != text).collect();
            let removed = take(&*storage, &name(text)).await;
            assert!(matches!(removed, Removed::Erased | Removed::Trashed(_)), "{text}: {removed:?}");
            assert_eq!(look(&*storage, &name(text)).await, Stat::Missing);
            for (other, bytes) in state(place, &rest).await {
                assert_eq!(bytes.as_deref(), Some(other.as_bytes()), "{text} was asked for, {other} is gone or changed");
            }
            if let Removed::Trashed(_) = removed {
                let item = in_trash(&*storage, &name(text)).await.expect("it is in the trash");
                assert_eq!(restore(&*storage, &item).await, Restored::Back);
            } else {
                put_all(place, &[text]).await;
            }
        }
    }
}

/// A name of so many bytes, in segments of at most 200.
fn long(bytes: usize, fill: char) -> FileName {
    let mut text = String::new();
    while text.len() < bytes {
        text.push(if text.len() % 200 == 199 && text.len() + 1 < bytes { '/' } else { fill });
    }
    name(&text)
}

async fn long_names(place: &dyn Place) {
    let can = place.abilities();
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        let (file, neighbour, longer) = (long(can.longest, 'x'), long(can.longest, 'y'), long(can.longest + 1, 'x'));
        for name in [&file, &neighbour] {
            place.put(name, b"long").await;
            assert_eq!(seen(&*storage, name).await.size, 4);
        }
        if can.refuses_longer {
            let looked = look(&*storage, &longer).await;
            assert!(matches!(looked, Stat::Refused(_)), "{} bytes: {looked:?}", longer.as_str().len());
        } else {
            let looked = storage.stat(std::slice::from_ref(&longer)).await.expect("look").remove(0);
            assert!(!matches!(looked, Ok(Stat::File(_))), "{looked:?}");
        }
        let forged = seen(&*storage, &file).await;
        let removed = storage.remove(&[(longer, forged)]).await.expect("remove").remove(0);
        assert!(!matches!(removed, Ok(Removed::Erased | Removed::Trashed(_))), "{removed:?}");
        let removed = take(&*storage, &file).await;
        assert!(matches!(removed, Removed::Erased | Removed::Trashed(_)), "{removed:?}");
        assert_eq!((place.get(&file).await, place.get(&neighbour).await.as_deref()), (None, Some(&b"long"[..])));
        if *trash {
            let item = in_trash(&*storage, &file).await.expect("it is in the trash");
            assert_eq!(restore(&*storage, &item).await, Restored::Back);
            assert_eq!(place.get(&file).await.as_deref(), Some(&b"long"[..]));
        }
    }
}

async fn probes(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &["a/b.jpg", "c"]).await;
        let (marker, own) = (storage.marker().await.unwrap(), place.own().await);
        let proved = storage.probe().await.expect("probe");
        assert_eq!(place.own().await, own, "what was tried is left behind");
        assert_eq!(storage.marker().await.unwrap(), marker);
        assert_files(place, &*storage, &["a/b.jpg", "c"]).await;
        assert_eq!(state(place, &["a/b.jpg", "c"]).await.into_values().flatten().count(), 2);
        // The claims and the place agree; `replaced` and `raced` prove the place's.
        assert!(!*trash || proved.trash != TrashKind::No, "a storage with a trash says that it has none");
        let lost = place.abilities().raced == Raced::Lost;
        assert!(lost || *trash || proved.delete != Conditional::No || proved.trash == TrashKind::Versions, "{proved:?}");
        // Again, and unattached.
        assert_eq!(place.open(*trash).probe().await.expect("probe again").delete, proved.delete);
        assert_eq!(place.own().await, own);
    }
}

async fn removes_again(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &["a/b.jpg", "a/c.jpg"]).await;
        let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
        let batch = [item.clone(), item.clone()];
        let first: Vec<_> = storage.remove(&batch).await.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(first.iter().filter(|r| **r == Removed::Missing).count(), 1, "{first:?}");
        assert_eq!(
            storage.remove(&batch).await.unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            [Removed::Missing, Removed::Missing]
        );
        assert!(place.get(&name("a/c.jpg")).await.is_some());
    }
}

async fn replaced(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        let file = name("a/b.jpg");
        // Of another size, and of the same.
        for (old, new) in [(&b"old"[..], &b"newer"[..]), (b"one", b"two")] {
            place.put(&file, old).await;
            let before = seen(&*storage, &file).await;
            put_until_it_differs(place, &*storage, &file, new, &before).await;
            let removed = storage.remove(&[(file.clone(), before)]).await.unwrap().remove(0).unwrap();
            assert_eq!(removed, Removed::Changed);
            assert_eq!(place.get(&file).await.as_deref(), Some(new));
            assert_eq!(in_trash(&*storage, &file).await, None);
        }
    }
}

/// Replaces a file again and again until it looks different: until the storage's clock has moved.
async fn put_until_it_differs(place: &dyn Place, storage: &dyn Storage, file: &FileName, bytes: &[u8], before: &FileVersion) {
    let end = Instant::now() + DEADLINE;
    loop {
        place.put(file, bytes).await;
        if seen(storage, file).await != *before {
            return;
        }
        assert!(Instant::now() < end, "a file that was replaced looks the same for {DEADLINE:?}");
    }
}

async fn same_bytes(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        let file = name("a/b.jpg");
        place.put(&file, b"same").await;
        let before = seen(&*storage, &file).await;
        if place.abilities().tells_same_bytes {
            place.put(&file, b"same").await;
            assert_ne!(seen(&*storage, &file).await, before, "a file that was replaced looks the same");
        } else {
            put_until_it_differs(place, &*storage, &file, b"same", &before).await;
        }
        let removed = storage.remove(&[(file.clone(), before)]).await.unwrap().remove(0).unwrap();
        assert_eq!(removed, Removed::Changed);
        assert_eq!(place.get(&file).await.as_deref(), Some(&b"same"[..]));
    }
}

async fn raced(place: &dyn Place) {
    for trash in modes(place) {
        match (place.abilities().raced, trash) {
            (Raced::Stays, _) | (Raced::StaysWithTrash, true) => {}
            (Raced::StaysWithTrash, false) | (Raced::Lost, _) => continue,
        }
        let (storage, other) = (open(place, *trash).await, open(place, *trash).await);
        for round in 0..30 {
            let (file, new) = (name(&format!("a/{round}.jpg")), format!("newer {round}"));
            place.put(&file, b"old").await;
            let before = seen(&*storage, &file).await;
            let items = [(file.clone(), before)];
            let (removed, ()) = tokio::join!(storage.remove(&items), async {
                // Later and later within the removal, measured in looks.
                for _ in 0..round % 6 {
                    look(&*other, &file).await;
                }
                place.put(&file, new.as_bytes()).await;
            });
            // Whatever came first, the upload came after it or was not what had been seen.
            assert_eq!(place.get(&file).await.as_deref(), Some(new.as_bytes()), "round {round}, trash {trash}: {removed:?}");
        }
    }
}

async fn mixed(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &["x/gone", "x/stays", "y/goes", "y/changes", "goes"]).await;
        let mut batch = Vec::new();
        for text in ["y/goes", "x/gone", "y/changes", "goes"] {
            batch.push((name(text), seen(&*storage, &name(text)).await));
        }
        assert_eq!(take(&*open(place, false).await, &name("x/gone")).await, Removed::Erased);
        place.put(&name("y/changes"), b"changed").await;
        let done: Vec<_> = storage.remove(&batch).await.unwrap().into_iter().map(Result::unwrap).collect();
        let taken = |r: &Removed| matches!(r, Removed::Erased | Removed::Trashed(_));
        assert!(taken(&done[0]) && taken(&done[3]), "{done:?}");
        assert_eq!(done[1..3], [Removed::Missing, Removed::Changed]);
        assert_files(place, &*storage, &["x/stays", "y/changes"]).await;
        // Places differ, so each result belongs to its own item.
        if let (Removed::Trashed(first), Removed::Trashed(last)) = (&done[0], &done[3]) {
            assert_ne!(first, last);
            assert_eq!(&in_trash(&*storage, &name("goes")).await.unwrap().place, last);
        }
    }
}

async fn brings_back(place: &dyn Place) {
    if !place.abilities().trash {
        return;
    }
    let storage = open(place, true).await;
    let file = name("a/b/c.jpg");
    place.put(&file, b"bytes \0\xff").await;
    let Removed::Trashed(at) = take(&*storage, &file).await else { panic!("not in the trash") };
    let item = in_trash(&*storage, &file).await.unwrap();
    assert_eq!((&item.name, &item.place, item.size), (&file, &at, 8));
    assert_files(place, &*storage, &[]).await; // the trash is not listed
    // Whether the storage has a trash now or not, what is there can come back.
    assert_eq!(restore(&*open(place, false).await, &item).await, Restored::Back);
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"bytes \0\xff"[..]));
    assert_eq!(in_trash(&*storage, &file).await, None);
    assert_eq!(restore(&*storage, &item).await, Restored::Missing);
    assert!(place.get(&file).await.is_some());
}

async fn versions(place: &dyn Place) {
    if !place.abilities().trash {
        return;
    }
    let storage = open(place, true).await;
    let file = name("a/b.jpg");
    let mut places = Vec::new();
    for bytes in [&b"1"[..], b"22", b"333"] {
        place.put(&file, bytes).await;
        let Removed::Trashed(at) = take(&*storage, &file).await else { panic!("not in the trash") };
        places.push(at);
    }
    for bytes in [&b"333"[..], b"22", b"1"] {
        let item = in_trash(&*storage, &file).await.unwrap();
        assert_eq!((Some(&item.place), item.size), (places.pop().as_ref(), bytes.len() as u64));
        assert_eq!(restore(&*storage, &item).await, Restored::Back);
        assert_eq!(place.get(&file).await.as_deref(), Some(bytes));
        assert_eq!(take(&*open(place, false).await, &file).await, Removed::Erased);
        if !place.abilities().erasing_spares_trash {
            break;
        }
    }
    assert_eq!(in_trash(&*storage, &file).await, None);
}

async fn occupied(place: &dyn Place) {
    if !place.abilities().trash {
        return;
    }
    let storage = open(place, true).await;
    let file = name("a/b.jpg");
    place.put(&file, b"old").await;
    take(&*storage, &file).await;
    place.put(&file, b"new").await;
    let item = in_trash(&*storage, &file).await.unwrap();
    assert_eq!(restore(&*storage, &item).await, Restored::Occupied);
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"new"[..]));
    assert_eq!(in_trash(&*storage, &file).await, Some(item), "it waits on");
}

async fn purges(place: &dyn Place) {
    if !place.abilities().trash {
        return;
    }
    let storage = open(place, true).await;
    put_all(place, &["a/1", "a/2", "b", "c/3"]).await;
    let mut items = Vec::new();
    for text in ["a/1", "a/2", "c/3"] {
        take(&*storage, &name(text)).await;
        items.push(in_trash(&*storage, &name(text)).await.unwrap());
    }
    place.put(&name("a/1"), b"again").await;
    let asked = [items[0].clone(), items[2].clone()];
    let done: Vec<_> = storage.purge(&asked).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(done, [true, true]);
    let done: Vec<_> = storage.purge(&asked).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(done, [false, false]);
    assert_eq!(restore(&*storage, &items[0]).await, Restored::Missing);
    assert_eq!(place.get(&name("a/1")).await.as_deref(), Some(&b"again"[..]), "the file under the name is another");
    assert_eq!(in_trash(&*storage, &name("a/2")).await.as_ref(), Some(&items[1]));
    assert_files(place, &*storage, &["a/1", "b"]).await;
}

async fn expires(place: &dyn Place) {
    if !place.abilities().trash {
        return;
    }
    let storage = open(place, true).await;
    let names = ["a/1", "a/2", "b/3", "b/c/4", "5"];
    put_all(place, &names).await;
    let before = Timestamp::now();
    for text in names {
        take(&*storage, &name(text)).await;
    }
    assert!(storage.expired(before, None, 10).await.unwrap().files.is_empty(), "nothing was there so early");
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(storage.expired(later, None, 3).await.unwrap().files.len(), 3);
    assert_eq!(storage.expired(later, None, 0).await.unwrap().files, []);
    let all = storage.expired(later, None, 10).await.unwrap().files;
    for item in &all {
        assert!(item.at >= before && item.at < later);
        assert_eq!(in_trash(&*storage, &item.name).await.as_ref(), Some(item));
    }
    let mut found: Vec<_> = all.iter().map(|item| item.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["5", "a/1", "a/2", "b/3", "b/c/4"]);
    // Page by page each comes once, whether those of earlier pages are still there or not.
    for purge in [false, true] {
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = storage.expired(later, after.as_deref(), 2).await.unwrap();
            assert!(page.files.len() <= 2 && page.errors.is_empty(), "{page:?}");
            if purge {
                assert!(storage.purge(&page.files).await.unwrap().into_iter().all(|r| r.unwrap()));
            }
            paged.extend(page.files);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "purged meanwhile: {purge}");
    }
    assert!(storage.expired(later, None, 10).await.unwrap().files.is_empty());
}

/// The order is that of whole names: `a.txt` before `a/x`, because `.` is less than `/`.
const IN_ORDER: [&str; 12] =
    [".rowboundx", "Z", "a-b/y", "a.txt", "a/.rowbound/b", "a/x", "a/x-d/1", "a/x.d/1", "a0", "\u{e9}", "z\u{e000}", "z\u{10ffff}"];

/// [`IN_ORDER`] and so many names more.
async fn put_many(place: &dyn Place, many: usize) -> Vec<String> {
    let mut names: Vec<String> = IN_ORDER.map(String::from).to_vec();
    names.extend((0..many).map(|i| format!("many/{}/{i}", i % 7)));
    for text in &names {
        place.put(&name(text), b"").await;
    }
    names.sort_unstable();
    names
}

/// A storage that cannot list says so.
async fn cannot_list(place: &dyn Place) -> bool {
    if place.abilities().lists {
        return false;
    }
    let storage = open(place, false).await;
    put_all(place, &["a/b.jpg"]).await;
    for prefix in ["", "a/"] {
        let listed = match storage.list(prefix, None).await {
            Ok(listing) => drain(listing).await.err(),
            Err(e) => Some(e),
        };
        let error = listed.expect("a storage that cannot list has listed");
        assert!(error.hint_text().is_some_and(|hint| !hint.is_empty()), "{}", error.full());
    }
    true
}

async fn lists(place: &dyn Place) {
    if cannot_list(place).await {
        return;
    }
    let storage = open(place, place.abilities().trash).await;
    let names = put_many(place, 1100).await; // more than a page of most storages
    assert_eq!(files(&*storage, None).await, names);
    for after in ["a", "a/x", "a.txt", "a0", "many/3", "many/3/10", "many/3/zzz", "!", "zzz", "\u{e9}", "a/x.d/1/2"] {
        let want: Vec<_> = names.iter().filter(|n| n.as_str() > after).cloned().collect();
        assert_eq!(files(&*storage, Some(after)).await, want, "after {after:?}");
    }
    // Nobody has to read to the end.
    let mut listing = storage.list("", None).await.unwrap();
    let page = listing.recv().await.unwrap().unwrap();
    assert!(!page.entries.is_empty() && !page.last);
    drop(listing);
}

async fn lists_prefix(place: &dyn Place) {
    if cannot_list(place).await {
        return;
    }
    let storage = open(place, place.abilities().trash).await;
    let names = put_many(place, 100).await;
    for prefix in
        ["a", "a/", "a/x", "a/x.d/", "many/3/1", "many", "none/", "no/such/", "\u{e9}", ".rowbound", ".rowbound/", "a/x/", "a/.rowbound/"]
    {
        let want: Vec<_> = names.iter().filter(|n| n.starts_with(prefix)).cloned().collect();
        for after in [None, Some("a/x.d"), Some("many/3/17"), Some("zzz")] {
            let (found, last) = drain(storage.list(prefix, after.map(name)).await.unwrap()).await.unwrap();
            let found: Vec<_> = found.iter().map(|e| if let Listed::File(n) = e { n.as_str() } else { panic!("{e:?}") }).collect();
            let want: Vec<_> = want.iter().filter(|n| after.is_none_or(|after| n.as_str() > after)).collect();
            assert_eq!(found, want, "beginning with {prefix:?}, after {after:?}");
            assert!(last);
        }
    }
}

async fn removes_marker(place: &dyn Place) {
    let storage = open(place, place.abilities().trash).await;
    put_all(place, &["a/b.jpg", "c"]).await;
    take(&*storage, &name("a/b.jpg")).await;
    assert_eq!(storage.remove_marker().await.unwrap(), u64::from(place.abilities().trash));
    assert_eq!(storage.marker().await.unwrap(), None);
    attach(&*storage).await;
    if let Some(item) = in_trash(&*storage, &name("a/b.jpg")).await {
        assert_eq!(restore(&*storage, &item).await, Restored::Back);
        assert_eq!(storage.remove_marker().await.unwrap(), 0);
    }
    let fresh = place.open(false);
    assert_eq!(fresh.remove_marker().await.unwrap(), 0, "again, without harm");
    assert_eq!(place.get(&name("c")).await.as_deref(), Some(&b"c"[..]));
}
