//! The conformance suite of [`rowbound::storage::Storage`].
//!
//! In: a [`Place`], which makes a storage under test and reaches its files as the application does, past the storage. Out: a panic that
//! names the check and what it saw, or nothing. Every promise that the collector relies on is a check of [`CHECKS`].
//!
//! ```no_run
//! # use rowbound_testkit::storage_suite::{self, Place};
//! # async fn prove(make: impl AsyncFn() -> Box<dyn Place>) {
//! storage_suite::run(make).await; // each check on a place of its own
//! # }
//! ```

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rowbound::{
    FileName, Kind,
    storage::{Listed, Listing, Look, Marker, Removed, Restored, Seen, Storage, Trashed},
};

/// An empty place for one storage.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the storage, with a trash (any retention of a day or more) or without. It may be called several times: all see the same files.
    fn open(&self, trash: bool) -> Arc<dyn Storage>;

    /// Whether this kind of storage can have a trash.
    fn has_trash(&self) -> bool;

    /// Writes a file as the application does, replacing one of that name.
    async fn put(&self, name: &FileName, bytes: &[u8]);

    /// Reads a file as the application does.
    async fn get(&self, name: &FileName) -> Option<Vec<u8>>;
}

/// A check: what it promises, and how it is proved.
pub type Check = (&'static str, for<'a> fn(&'a dyn Place) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>);

/// Every check.
pub const CHECKS: [Check; 18] = [
    ("refuses everything until it knows which storage it must be", |p| Box::pin(unexpected(p))),
    ("keeps its marker", |p| Box::pin(marker(p))),
    ("touches nothing under the marker of another storage", |p| Box::pin(another_marker(p))),
    ("touches nothing without a marker", |p| Box::pin(no_marker(p))),
    ("looks in order", |p| Box::pin(looks(p))),
    ("answers an empty batch", |p| Box::pin(empty_batch(p))),
    ("removes exactly what was asked for", |p| Box::pin(removes_exactly(p))),
    ("keeps names apart that differ in any byte", |p| Box::pin(odd_names(p))),
    ("removes again without harm", |p| Box::pin(removes_again(p))),
    ("leaves a file that was replaced", |p| Box::pin(replaced(p))),
    ("settles each item of a mixed batch for itself", |p| Box::pin(mixed(p))),
    ("brings back what it took, byte for byte", |p| Box::pin(brings_back(p))),
    ("keeps every version, and finds the latest", |p| Box::pin(versions(p))),
    ("never restores over another file", |p| Box::pin(occupied(p))),
    ("purges exactly what was asked for, again without harm", |p| Box::pin(purges(p))),
    ("tells what has expired", |p| Box::pin(expires(p))),
    ("lists everything in order, from anywhere", |p| Box::pin(lists(p))),
    ("leaves nothing but the trash when the marker goes", |p| Box::pin(removes_marker(p))),
];

/// Runs every check, each on a place that `make` made for it.
///
/// # Panics
/// With the check's promise and what was seen instead.
pub async fn run(make: impl AsyncFn() -> Box<dyn Place>) {
    for (promise, check) in CHECKS {
        eprintln!("storage suite: {promise}");
        check(&*make().await).await;
    }
}

/// A checked name.
///
/// # Panics
/// If it is refused.
pub fn name(text: &str) -> FileName {
    FileName::parse(text).unwrap_or_else(|why| panic!("{text:?} {why}"))
}

/// A marker with this storage id.
pub fn marker_of(storage: &str) -> Marker {
    Marker { storage: storage.to_owned(), installations: vec!["an installation".to_owned()], proved: None }
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
    storage.prove().await.expect("the storage proves itself");
}

/// What lies under one name.
///
/// # Panics
/// On an error.
pub async fn look(storage: &dyn Storage, name: &FileName) -> Look {
    storage.look(std::slice::from_ref(name)).await.expect("look").remove(0).expect("look at one name")
}

/// The same for a file that must be there.
///
/// # Panics
/// If it is not.
pub async fn seen(storage: &dyn Storage, name: &FileName) -> Seen {
    match look(storage, name).await {
        Look::Seen(seen) => seen,
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
    if place.has_trash() { &[false, true] } else { &[false] }
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
    let seen = Seen { size: 1, modified: stamp, version: String::new() };
    let item = Trashed { name: file.clone(), place: String::new(), at: stamp, size: 1 };
    let files = std::slice::from_ref(&file);
    let items = std::slice::from_ref(&item);
    let errors = [
        ("prove", storage.prove().await.err()),
        ("look", storage.look(files).await.err()),
        ("remove", storage.remove(&[(file.clone(), seen)]).await.err()),
        ("trashed", storage.trashed(files).await.err()),
        ("expired", storage.expired(Timestamp::MAX, 10).await.err()),
        ("restore", storage.restore(items).await.err()),
        ("purge", storage.purge(items).await.err()),
        ("list", storage.list("", None).await.err()),
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
    storage.prove().await.unwrap();
    assert_eq!(files(&*storage, None).await, [""; 0], "attaching leaves no file among the application's");
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
    assert!(matches!(look(&*storage, &name("a/b.jpg")).await, Look::Seen(_)));
}

async fn looks(place: &dyn Place) {
    let storage = open(place, false).await;
    let names = ["z", "a/1", "a/2", "b/c/d/e", "a/3", "empty"];
    put_all(place, &names[..5]).await;
    place.put(&name("empty"), b"").await;
    let asked = ["a/3", "none", "z", "a/none", "b/c/d/e", "no/such/folder", "a/1", "empty", "z"];
    let found = storage.look(&asked.map(name)).await.unwrap();
    assert_eq!(found.len(), asked.len());
    let now = Timestamp::now();
    for (text, found) in asked.into_iter().zip(found) {
        match found.unwrap() {
            Look::Missing => assert!(text.starts_with("no") || text.ends_with("none"), "{text}"),
            Look::Seen(seen) => {
                assert_eq!(seen.size, if text == "empty" { 0 } else { text.len() as u64 }, "{text}");
                assert!(seen.modified.duration_until(now).abs() < SignedDuration::from_hours(1), "{text}: {}", seen.modified);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let again = seen(&*storage, &name("z")).await;
    assert_eq!(again, seen(&*storage, &name("z")).await, "what does not change looks the same");
}

async fn empty_batch(place: &dyn Place) {
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        assert!(storage.look(&[]).await.unwrap().is_empty());
        assert!(storage.remove(&[]).await.unwrap().is_empty());
        assert!(storage.trashed(&[]).await.unwrap().is_empty());
        assert!(storage.restore(&[]).await.unwrap().is_empty());
        assert!(storage.purge(&[]).await.unwrap().is_empty());
        assert!(storage.expired(Timestamp::MAX, 10).await.unwrap().is_empty());
        assert_eq!(files(&*storage, None).await, [""; 0]);
    }
}

async fn removes_exactly(place: &dyn Place) {
    let neighbours = ["f", "foo", "foo.jp", "foo.jpg2", "foo.jpgx/y", "foobar/x", "g/foo.jpg", "g/g/foo.jpg"];
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
        assert_eq!(look(&*storage, &name("foo.jpg")).await, Look::Missing);
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
    for trash in modes(place) {
        let storage = open(place, *trash).await;
        put_all(place, &ODD_NAMES).await;
        let mut left: Vec<&str> = ODD_NAMES.to_vec();
        while let Some(text) = left.pop() {
            let removed = take(&*storage, &name(text)).await;
            assert!(matches!(removed, Removed::Erased | Removed::Trashed(_)), "{text:?}: {removed:?}");
            assert_eq!(place.get(&name(text)).await, None, "{text:?}");
            for (other, bytes) in state(place, &left).await {
                assert_eq!(bytes.as_deref(), Some(other.as_bytes()), "{text:?} was asked for, {other:?} is gone or changed");
            }
        }
        if *trash {
            for text in ODD_NAMES {
                let item = in_trash(&*storage, &name(text)).await.unwrap_or_else(|| panic!("{text:?} is not in the trash"));
                assert_eq!(restore(&*storage, &item).await, Restored::Back, "{text:?}");
            }
            for (text, bytes) in state(place, &ODD_NAMES).await {
                assert_eq!(bytes.as_deref(), Some(text.as_bytes()), "{text:?}");
            }
        }
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
            loop {
                place.put(&file, new).await;
                if seen(&*storage, &file).await != before {
                    break; // the clock of the storage has moved
                }
            }
            let removed = storage.remove(&[(file.clone(), before)]).await.unwrap().remove(0).unwrap();
            assert_eq!(removed, Removed::Changed);
            assert_eq!(place.get(&file).await.as_deref(), Some(new));
            assert_eq!(in_trash(&*storage, &file).await, None);
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
        assert_eq!(files(&*storage, None).await, ["x/stays", "y/changes"]);
        // Places differ, so each result belongs to its own item.
        if let (Removed::Trashed(first), Removed::Trashed(last)) = (&done[0], &done[3]) {
            assert_ne!(first, last);
            assert_eq!(&in_trash(&*storage, &name("goes")).await.unwrap().place, last);
        }
    }
}

async fn brings_back(place: &dyn Place) {
    if !place.has_trash() {
        return;
    }
    let storage = open(place, true).await;
    let file = name("a/b/c.jpg");
    place.put(&file, b"bytes \0\xff").await;
    let Removed::Trashed(at) = take(&*storage, &file).await else { panic!("not in the trash") };
    let item = in_trash(&*storage, &file).await.unwrap();
    assert_eq!((&item.name, &item.place, item.size), (&file, &at, 8));
    assert_eq!(files(&*storage, None).await, [""; 0], "the trash is not listed");
    // Whether the storage has a trash now or not, what is there can come back.
    assert_eq!(restore(&*open(place, false).await, &item).await, Restored::Back);
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"bytes \0\xff"[..]));
    assert_eq!(in_trash(&*storage, &file).await, None);
    assert_eq!(restore(&*storage, &item).await, Restored::Missing);
    assert!(place.get(&file).await.is_some());
}

async fn versions(place: &dyn Place) {
    if !place.has_trash() {
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
    }
    assert_eq!(in_trash(&*storage, &file).await, None);
}

async fn occupied(place: &dyn Place) {
    if !place.has_trash() {
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
    if !place.has_trash() {
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
    assert_eq!(files(&*storage, None).await, ["a/1", "b"]);
}

async fn expires(place: &dyn Place) {
    if !place.has_trash() {
        return;
    }
    let storage = open(place, true).await;
    let names = ["a/1", "a/2", "b/3", "b/c/4", "5"];
    put_all(place, &names).await;
    let before = Timestamp::now();
    for text in names {
        take(&*storage, &name(text)).await;
    }
    assert!(storage.expired(before, 10).await.unwrap().is_empty(), "nothing was there so early");
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(storage.expired(later, 3).await.unwrap().len(), 3);
    assert_eq!(storage.expired(later, 0).await.unwrap(), []);
    let all = storage.expired(later, 10).await.unwrap();
    for item in &all {
        assert!(item.at >= before && item.at < later);
        assert_eq!(in_trash(&*storage, &item.name).await.as_ref(), Some(item));
    }
    let mut found: Vec<_> = all.iter().map(|item| item.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["5", "a/1", "a/2", "b/3", "b/c/4"]);
    assert!(storage.purge(&all).await.unwrap().into_iter().all(|r| r.unwrap()));
    assert!(storage.expired(later, 10).await.unwrap().is_empty());
}

async fn lists(place: &dyn Place) {
    let storage = open(place, place.has_trash()).await;
    // The order is that of whole names: `a.txt` before `a/x`, because `.` is less than `/`.
    let mut names: Vec<String> =
        ["a/x", "a.txt", "a-b/y", "a0", "Z", "a/x.d/1", "a/x-d/1", "\u{e9}", "z\u{10ffff}", "z\u{e000}", "a/.rowbound/b", ".rowboundx"]
            .map(String::from)
            .to_vec();
    names.extend((0..2500).map(|i| format!("many/{}/{i}", i % 7)));
    for text in &names {
        place.put(&name(text), b"").await;
    }
    names.sort_unstable();
    assert_eq!(files(&*storage, None).await, names);
    for after in ["a", "a/x", "a.txt", "a0", "many/3", "many/3/10", "many/3/zzz", "!", "zzz", "\u{e9}", "a/x.d/1/2"] {
        let want: Vec<_> = names.iter().filter(|n| n.as_str() > after).cloned().collect();
        assert_eq!(files(&*storage, Some(after)).await, want, "after {after:?}");
    }
    for prefix in
        ["a", "a/", "a/x", "a/x.d/", "many/3/1", "many", "none/", "no/such/", "\u{e9}", ".rowbound", ".rowbound/", "a/x/", "a/.rowbound/"]
    {
        let want: Vec<_> = names.iter().filter(|n| n.starts_with(prefix)).cloned().collect();
        let (found, last) = drain(storage.list(prefix, None).await.unwrap()).await.unwrap();
        let found: Vec<_> = found.iter().map(|e| if let Listed::File(n) = e { n.as_str() } else { panic!("{e:?}") }).collect();
        assert_eq!(found, want, "beginning with {prefix:?}");
        assert!(last);
        let (found, last) = drain(storage.list(prefix, Some(name("a/x.d"))).await.unwrap()).await.unwrap();
        assert_eq!(found.len(), want.iter().filter(|n| n.as_str() > "a/x.d").count(), "beginning with {prefix:?}, after a/x.d");
        assert!(last);
    }
    // Nobody has to read to the end.
    let mut listing = storage.list("", None).await.unwrap();
    let page = listing.recv().await.unwrap().unwrap();
    assert!(!page.entries.is_empty() && !page.last);
    drop(listing);
}

async fn removes_marker(place: &dyn Place) {
    let storage = open(place, place.has_trash()).await;
    put_all(place, &["a/b.jpg", "c"]).await;
    take(&*storage, &name("a/b.jpg")).await;
    assert_eq!(storage.remove_marker().await.unwrap(), u64::from(place.has_trash()));
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
