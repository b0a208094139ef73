//! A folder as a storage: the suite, hostile names and links, what other people do to the folder meanwhile, and what the kernel refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rowbound::{
    FileName, Kind, Refused, Result, Retry,
    storage::{FileVersion, Listed, Removed, Restored, SkipReason, Stat, Storage, Trashed, folder::Folder},
};
use rowbound_testkit::storage_suite::{attach, drain, files, in_trash, look, marker_of, name, restore, seen, take};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);

/// The system calls used: the newest, or those that every kernel and file system has.
type Open = fn(&str, &Path, Option<Duration>, bool) -> Folder;
const CALLS: [(&str, Open); 2] = [("new calls", Folder::new), ("old calls", Folder::with_old_calls)];

struct Media {
    dir: TempDir,
    open: Open,
}

impl Media {
    fn new(open: Open) -> Self {
        let media = Media { dir: tempfile::tempdir().unwrap(), open };
        fs::create_dir(media.root()).unwrap();
        media
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("media")
    }

    async fn storage(&self, retention: Option<Duration>, prune: bool) -> Folder {
        let storage = (self.open)("default", &self.root(), retention, prune);
        attach(&storage).await;
        storage
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Everything beneath `root` but what is Rowbound's: kind, bytes or target, mode, owner, inode.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(at: &Path, root: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let short = path.strip_prefix(root).unwrap().to_owned();
            if short == Path::new(".rowbound") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else if meta.is_file() {
                format!("{:?}", fs::read(&path).unwrap())
            } else {
                format!("{:?}", meta.file_type())
            };
            out.insert(short, format!("{content} {:o} {} {}", meta.mode(), meta.uid(), meta.ino()));
            if meta.is_dir() {
                walk(&path, root, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// Makes a folder look as if nobody had changed it for an hour.
fn age(folder: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(folder).unwrap().set_modified(hour_ago).unwrap();
}

fn age_all(root: &Path) {
    for (path, what) in snapshot(root) {
        if what.contains("is_dir: true") {
            age(&root.join(path));
        }
    }
    age(root);
}

async fn remove_one(storage: &Folder, item: (FileName, FileVersion)) -> Result<Removed> {
    storage.remove(&[item]).await.unwrap().remove(0)
}

/// What a listing of the whole holds.
async fn everything(storage: &Folder) -> Vec<Listed> {
    let (entries, last) = drain(storage.list("", None).await.unwrap()).await.unwrap();
    assert!(last);
    entries
}

// ---- names and links ----------------------------------------------------------------------------------------------------------------

/// What must become of a hostile name.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It never gets past the check of names.
    NoName(Refused),
    /// The storage refuses it, and says these words.
    Refused(&'static str),
    /// There is no such file.
    Missing,
    /// It is an ordinary file, if oddly named: exactly it goes.
    Goes,
}

fn long(byte: &str, count: usize) -> String {
    byte.repeat(count)
}

fn hostile() -> Vec<(Vec<u8>, Fate)> {
    use Fate::{Goes, Missing, NoName};
    let table: Vec<(&str, Fate)> = vec![
        ("", NoName(Refused::Empty)),
        ("/", NoName(Refused::Absolute)),
        ("/etc/passwd", NoName(Refused::Absolute)),
        ("//inside/a.jpg", NoName(Refused::Absolute)),
        ("..", NoName(Refused::DotSegment)),
        (".", NoName(Refused::DotSegment)),
        ("../outside/secret", NoName(Refused::DotSegment)),
        ("inside/../../outside/secret", NoName(Refused::DotSegment)),
        ("inside/..", NoName(Refused::DotSegment)),
        ("./inside/a.jpg", NoName(Refused::DotSegment)),
        ("inside/./a.jpg", NoName(Refused::DotSegment)),
        ("inside//a.jpg", NoName(Refused::EmptySegment)),
        ("inside/a.jpg/", NoName(Refused::EmptySegment)),
        ("inside/", NoName(Refused::EmptySegment)),
        ("inside/a.jpg\0.png", NoName(Refused::Nul)),
        (".rowbound", NoName(Refused::Reserved)),
        (".rowbound/storage.json", NoName(Refused::Reserved)),
        (".rowbound/../inside/a.jpg", NoName(Refused::Reserved)),
        ("link-to-file", Fate::Refused("symbolic link")),
        ("link-to-outside-file", Fate::Refused("symbolic link")),
        ("link-to-folder", Fate::Refused("symbolic link")),
        ("link-to-outside", Fate::Refused("symbolic link")),
        ("link-dangling", Fate::Refused("symbolic link")),
        ("link-loop", Fate::Refused("symbolic link")),
        ("link-to-root", Fate::Refused("symbolic link")),
        ("link-to-marker", Fate::Refused("symbolic link")),
        ("link-to-folder/a.jpg", Fate::Refused("symbolic link")),
        ("link-to-outside/secret", Fate::Refused("symbolic link")),
        ("link-to-outside/sub/deep", Fate::Refused("symbolic link")),
        ("link-to-outside/none", Fate::Refused("symbolic link")),
        ("inside/link-up/outside/secret", Fate::Refused("symbolic link")),
        ("link-loop/x", Fate::Refused("symbolic link")),
        ("link-dangling/x", Fate::Refused("symbolic link")),
        ("link-to-root/inside/a.jpg", Fate::Refused("symbolic link")),
        ("link-to-rowbound/storage.json", Fate::Refused("symbolic link")),
        ("inside", Fate::Refused("folder")),
        ("empty-folder", Fate::Refused("folder")),
        ("fifo", Fate::Refused("fifo")),
        ("socket", Fate::Refused("socket")),
        ("inside/a.jpg/x", Fate::Refused("file")),
        ("inside/a.jpg/x/y", Fate::Refused("file")),
        ("inside/none", Missing),
        ("none/none", Missing),
        ("inside/A.JPG", Missing),
        ("inside/a.jpg ", Goes),
        (" inside/a.jpg", Missing),
        ("inside\\a.jpg", Goes),
        ("..\\outside\\secret", Goes),
        ("inside/a.jpg", Goes),
        ("inside/hard-link", Goes),
        ("inside/.rowbound/x", Goes),
        ("...", Goes),
        ("..x/x..", Goes),
        ("e\u{301}.jpg", Goes),
        ("\u{e9}.jpg", Goes),
        ("Case", Goes),
        ("case", Goes),
        ("new\nline", Goes),
        ("*", Goes),
        ("?", Goes),
        ("[a-z]*", Goes),
        ("-rf", Goes),
        ("%2e%2e%2foutside%2fsecret", Goes),
        ("{inside}", Goes),
        ("~root", Goes),
        (" ", Goes),
    ];
    let mut table: Vec<(Vec<u8>, Fate)> = table.into_iter().map(|(name, fate)| (name.as_bytes().to_vec(), fate)).collect();
    table.push((long("n", 255).into_bytes(), Goes));
    table.push((long("n", 256).into_bytes(), Fate::Refused("longer")));
    table.push((format!("{}/x", long("n", 256)).into_bytes(), Fate::Refused("longer")));
    table.push((format!("inside/{}", long("\u{e9}", 127)).into_bytes(), Goes));
    // Longer than one system call takes; deeper than a process has handles; and what is not there.
    table.push((format!("{}x", long(&format!("{}/", long("d", 250)), 24)).into_bytes(), Goes));
    table.push((format!("{}y", long("d/", 3000)).into_bytes(), Missing));
    table.push((format!("{}x", long("s/", 1100)).into_bytes(), Goes));
    table.push((long("y", 6000).into_bytes(), Fate::Refused("longer")));
    table.push((b"inside/\xff.jpg".to_vec(), NoName(Refused::NotUtf8)));
    table.push((b"\xe9.jpg".to_vec(), NoName(Refused::NotUtf8)));
    table
}

/// Writes a file at a path of any length.
fn put_deep(root: &Path, path: &[u8], bytes: &[u8]) {
    use rustix::fs::{self as sys, Mode, OFlags};
    let mut at = sys::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let base = parts.pop().unwrap();
    for part in parts {
        let _ = sys::mkdirat(&at, part, Mode::from_raw_mode(0o755));
        at = sys::openat(&at, part, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = sys::openat(&at, base, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, bytes).unwrap();
}

/// The media folder, its neighbours outside, and everything that the table speaks of.
fn hostile_world(media: &Media) {
    let (root, outside) = (media.root(), media.dir.path().join("outside"));
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::create_dir_all(outside.join("empty")).unwrap();
    for path in ["outside/secret", "outside/sub/deep", "outside/a.jpg", "media-not"] {
        fs::write(media.dir.path().join(path), path).unwrap();
    }
    for text in ["inside/a.jpg", "inside/b.jpg", "inside/a.jp", "inside/a.jpgx"] {
        media.put(text, text.as_bytes());
    }
    for (bytes, fate) in hostile() {
        if matches!(fate, Fate::Goes) && bytes != b"inside/hard-link" && bytes != b"inside/a.jpg" {
            put_deep(&root, &bytes, &bytes[..bytes.len().min(20)]);
        }
    }
    fs::write(root.join(OsStr::from_bytes(b"inside/\xff.jpg")), "not UTF-8").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xe9.jpg")), "not UTF-8").unwrap();
    fs::hard_link(outside.join("secret"), root.join("inside/hard-link")).unwrap();
    fs::create_dir(root.join("empty-folder")).unwrap();
    for (link, target) in [
        ("link-to-file", "inside/a.jpg"),
        ("link-to-outside-file", "../outside/secret"),
        ("link-to-folder", "inside"),
        ("link-to-outside", "../outside"),
        ("link-dangling", "nowhere"),
        ("link-loop", "link-loop"),
        ("link-to-root", "."),
        ("link-to-rowbound", ".rowbound"),
        ("link-to-marker", ".rowbound/storage.json"),
        ("inside/link-up", "../.."),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
}

/// Paths deeper than the snapshot can reach by name are looked at through the storage itself.
fn shallow(root: &Path) -> BTreeMap<PathBuf, String> {
    let deep = |path: &PathBuf| path.starts_with("s") || path.starts_with(long("d", 250));
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let short = PathBuf::from(entry.unwrap().file_name());
        if short == Path::new(".rowbound") || deep(&short) {
            continue;
        }
        let path = root.join(&short);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            all.extend(snapshot(&path).into_iter().map(|(below, what)| (short.join(below), what)));
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { format!("{:?}", fs::read(&path).unwrap()) } else { format!("{:?}", fs::read_link(&path).ok()) };
        all.insert(short, format!("{content} {:o} {}", meta.mode(), meta.ino()));
    }
    all
}

/// Active Storage: traversal, sibling folder, NUL, empty, dot segments, odd encodings, glob characters, trailing slash.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: no extension; neighbours and similar names in one folder survive.
#[tokio::test]
async fn hostile_names_reach_exactly_their_file_or_nothing() {
    assert!(hostile().len() >= 40);
    for (calls, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let media = Media::new(open);
            hostile_world(&media);
            let storage = media.storage(retention, false).await;
            let outside = snapshot(&media.dir.path().join("outside"));
            // What a link leads to, so that only the way there can be what stops us.
            let target = seen(&storage, &name("inside/a.jpg")).await;
            for (bytes, fate) in hostile() {
                let shown = format!("{calls}, {retention:?}, {:?} -> {fate:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
                let before = shallow(&media.root());
                let name = match (FileName::from_bytes(&bytes), fate) {
                    (Err(why), Fate::NoName(want)) => {
                        assert_eq!(why, want, "{shown}");
                        continue;
                    }
                    (Ok(name), Fate::Refused(_) | Fate::Missing | Fate::Goes) => name,
                    (other, _) => panic!("{shown}: {other:?}"),
                };
                let found = look(&storage, &name).await;
                match (fate, found) {
                    (Fate::Refused(words), Stat::Refused(why)) => {
                        assert!(why.contains(words), "{shown}: {why}");
                        assert_eq!(remove_one(&storage, (name.clone(), target.clone())).await.unwrap(), Removed::Changed, "{shown}");
                        assert_eq!(shallow(&media.root()), before, "{shown}");
                    }
                    (Fate::Missing, Stat::Missing) => {
                        assert_eq!(remove_one(&storage, (name.clone(), target.clone())).await.unwrap(), Removed::Missing, "{shown}");
                        assert_eq!(shallow(&media.root()), before, "{shown}");
                    }
                    (Fate::Goes, Stat::File(seen)) => {
                        let removed = remove_one(&storage, (name.clone(), seen)).await.unwrap();
                        assert_eq!(look(&storage, &name).await, Stat::Missing, "{shown}");
                        let after = shallow(&media.root());
                        let mut want = before.clone();
                        want.remove(Path::new(name.as_str()));
                        assert_eq!(after, want, "{shown}");
                        if retention.is_some() {
                            assert!(matches!(removed, Removed::Trashed(_)), "{shown}: {removed:?}");
                            let item = in_trash(&storage, &name).await.unwrap_or_else(|| panic!("{shown}: not in the trash"));
                            assert_eq!(restore(&storage, &item).await, Restored::Back, "{shown}");
                            assert_eq!(shallow(&media.root()), before, "{shown}");
                        } else {
                            assert_eq!(removed, Removed::Erased, "{shown}");
                        }
                    }
                    (_, found) => panic!("{shown}: {found:?}"),
                }
            }
            assert_eq!(snapshot(&media.dir.path().join("outside")), outside);
            assert_eq!(fs::read(media.dir.path().join("media-not")).unwrap(), b"media-not");
        }
    }
}

/// Shrine, CarrierWave, Laravel Media Library or unused-media: links in the folder, traversal.
#[tokio::test]
async fn a_listing_shows_odd_entries_and_follows_no_link() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        hostile_world(&media);
        fs::create_dir(media.root().join(OsStr::from_bytes(b"bad\xff"))).unwrap();
        fs::write(media.root().join(OsStr::from_bytes(b"bad\xff/in")), "").unwrap();
        let storage = media.storage(None, false).await;
        let entries = everything(&storage).await;
        let mut listed = BTreeSet::new();
        let (mut links, mut unnameable) = (0, 0);
        for entry in &entries {
            match entry {
                Listed::File(name) => assert!(listed.insert(name.as_str().as_bytes().to_vec()), "{name} twice"),
                Listed::Skipped(_, SkipReason::NotAFile) => links += 1,
                Listed::Skipped(shown, SkipReason::Name(Refused::NotUtf8)) => {
                    assert!(shown.contains('\u{fffd}'), "{shown}");
                    unnameable += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        let goes = hostile().into_iter().filter(|(_, fate)| matches!(fate, Fate::Goes)).map(|(bytes, _)| bytes);
        let mut want: BTreeSet<Vec<u8>> = goes.collect();
        want.extend(["inside/b.jpg", "inside/a.jp", "inside/a.jpgx"].map(|n| n.as_bytes().to_vec()));
        assert_eq!(listed, want);
        assert_eq!((links, unnameable), (12, 3)); // ten links, a fifo, a socket; two files and a folder
        let order: Vec<_> = entries.iter().filter_map(|e| if let Listed::File(n) = e { Some(n.clone()) } else { None }).collect();
        assert!(order.is_sorted());
    }
}

#[tokio::test]
async fn a_root_that_is_a_link_is_the_folder_it_leads_to() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        media.put("a", b"a");
        let link = media.dir.path().join("link");
        symlink("media", &link).unwrap();
        let storage = (open)("default", &link, Some(DAY), true);
        attach(&storage).await;
        assert!(matches!(take(&storage, &name("a")).await, Removed::Trashed(_)));
        assert!(media.root().join(".rowbound/storage.json").is_file());
        assert!(link.is_symlink());
    }
}

#[tokio::test]
async fn a_marker_or_trash_behind_a_link_is_refused() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        let elsewhere = Media::new(open);
        elsewhere.storage(Some(DAY), true).await;
        media.put("a", b"a");
        // Our folder is somebody else's, marker and all.
        symlink(elsewhere.root().join(".rowbound"), media.root().join(".rowbound")).unwrap();
        let storage = (open)("default", &media.root(), Some(DAY), true);
        storage.expect("suite");
        assert_eq!(storage.verify_marker().await.unwrap_err().kind(), Kind::Storage);
        assert!(storage.set_marker(&marker_of("suite")).await.is_err());
        fs::remove_file(media.root().join(".rowbound")).unwrap();
        // Only the trash is.
        let storage = media.storage(Some(DAY), true).await;
        symlink(media.dir.path(), media.root().join(".rowbound/trash")).unwrap();
        let item = (name("a"), seen(&storage, &name("a")).await);
        assert!(storage.remove(std::slice::from_ref(&item)).await.is_err());
        assert!(storage.trashed(&[name("a")]).await.is_err());
        assert_eq!(fs::read(media.root().join("a")).unwrap(), b"a");
        // A marker that is no file, or no marker.
        let marker = media.root().join(".rowbound/storage.json");
        for text in ["", "{}", "null", "{\"storage\": 1}", "{\"storage\":\"suite\""] {
            fs::write(&marker, text).unwrap();
            let e = storage.stat(&[name("a")]).await.unwrap_err();
            assert_eq!(e.kind(), Kind::StorageUnreachable, "{text:?}: {}", e.full());
            assert!(storage.marker().await.is_err(), "{text:?} must not read as no marker");
        }
        fs::remove_file(&marker).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &marker, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        assert!(storage.verify_marker().await.is_err());
    }
}

// ---- the root comes and goes --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_root_that_is_gone_replaced_or_emptied_proves_nothing() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        let (root, away) = (media.root(), media.dir.path().join("away"));
        let storage = media.storage(Some(DAY), true).await;
        media.put("a", b"a");
        let item = (name("a"), seen(&storage, &name("a")).await);
        let unreachable = async |hint: &str| {
            for error in [
                storage.stat(&[name("a")]).await.unwrap_err(),
                storage.remove(std::slice::from_ref(&item)).await.unwrap_err(),
                storage.list("", None).await.unwrap_err(),
                storage.trashed(&[name("a")]).await.unwrap_err(),
                storage.verify_marker().await.unwrap_err(),
            ] {
                assert_eq!((error.kind(), error.retry_status()), (Kind::StorageUnreachable, Retry::Later), "{}", error.full());
                assert!(error.hint_text().unwrap().contains(hint), "{:?}", error.hint_text());
            }
        };
        fs::rename(&root, &away).unwrap();
        unreachable("mount it").await;
        assert_eq!(storage.marker().await.unwrap_err().kind(), Kind::StorageUnreachable);
        // The empty mount point of a file system that is not mounted.
        fs::create_dir(&root).unwrap();
        unreachable("rowbound attach --adopt-storage default").await;
        assert_eq!(storage.marker().await.unwrap(), None);
        fs::remove_dir(&root).unwrap();
        fs::write(&root, "a file").unwrap();
        unreachable("mount it").await;
        fs::remove_file(&root).unwrap();
        symlink("nowhere", &root).unwrap();
        unreachable("mount it").await;
        fs::remove_file(&root).unwrap();
        // And back: no restart needed.
        fs::rename(&away, &root).unwrap();
        assert!(matches!(remove_one(&storage, item.clone()).await.unwrap(), Removed::Trashed(_)));
    }
}

#[tokio::test]
async fn a_marker_that_goes_between_look_and_remove_stops_the_removal() {
    let media = Media::new(Folder::new);
    let storage = media.storage(None, true).await;
    media.put("a", b"a");
    let item = (name("a"), seen(&storage, &name("a")).await);
    fs::remove_file(media.root().join(".rowbound/storage.json")).unwrap();
    assert_eq!(storage.remove(&[item]).await.unwrap_err().kind(), Kind::StorageUnreachable);
    assert!(media.root().join("a").exists());
}

#[tokio::test]
async fn a_marker_that_goes_during_a_listing_leaves_it_incomplete() {
    let media = Media::new(Folder::new);
    let storage = media.storage(None, true).await;
    for i in 0..8000 {
        media.put(&format!("{}/{i}", i % 8), b"");
    }
    let mut listing = storage.list("", None).await.unwrap();
    assert!(listing.recv().await.unwrap().is_ok());
    fs::remove_dir_all(media.root()).unwrap();
    let error = drain(listing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::StorageUnreachable, "{}", error.full());
}

#[tokio::test]
async fn absence_while_the_marker_comes_and_goes_is_only_answered_when_proved() {
    let media = Media::new(Folder::new);
    let storage = media.storage(None, true).await;
    media.put("a", b"a");
    let (stop, root, away) = (Arc::new(AtomicBool::new(false)), media.root(), media.dir.path().join("away"));
    let empty = media.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let flips = {
        let (stop, away) = (stop.clone(), away.clone());
        std::thread::spawn(move || {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            fs::rename(&empty, &away).unwrap();
            let mut flips = 0;
            // The mounted file system and the empty mount point change places.
            while !stop.load(Relaxed) || flips % 2 == 1 {
                renameat_with(CWD, &root, CWD, &away, RenameFlags::EXCHANGE).unwrap();
                flips += 1;
            }
            flips
        })
    };
    let (mut seen, mut errors) = (0, 0);
    for _ in 0..3000 {
        match storage.stat(&[name("a")]).await {
            Ok(found) => {
                assert!(matches!(found[0], Ok(Stat::File(_)) | Err(_)), "{found:?}");
                seen += 1;
            }
            Err(e) => {
                assert_eq!(e.kind(), Kind::StorageUnreachable);
                errors += 1;
            }
        }
    }
    stop.store(true, Relaxed);
    assert!(flips.join().unwrap() > 0);
    assert_eq!(seen + errors, 3000);
}

// ---- files change between look and remove -------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_file_that_was_replaced_stays_whatever_its_times_say() {
    for (_, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let media = Media::new(open);
            let storage = media.storage(retention, true).await;
            let path = media.put("d/a", b"old");
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let file = name("d/a");
            // Renamed over, with size and times of the old one, as `rsync -t` does.
            let before = seen(&storage, &file).await;
            let other = media.put("d/b", b"new");
            fs::File::open(&other).unwrap().set_modified(modified).unwrap();
            fs::rename(&other, &path).unwrap();
            assert_eq!(remove_one(&storage, (file.clone(), before)).await.unwrap(), Removed::Changed);
            assert_eq!(fs::read(&path).unwrap(), b"new");
            // Written in place, times set back.
            let before = seen(&storage, &file).await;
            loop {
                fs::write(&path, b"two").unwrap();
                fs::File::open(&path).unwrap().set_modified(modified).unwrap();
                if seen(&storage, &file).await != before {
                    break;
                }
            }
            assert_eq!(remove_one(&storage, (file.clone(), before)).await.unwrap(), Removed::Changed);
            // A folder, a link in its place, or in its folder's.
            let before = seen(&storage, &file).await;
            fs::rename(&path, media.root().join("kept")).unwrap();
            fs::create_dir(&path).unwrap();
            assert_eq!(remove_one(&storage, (file.clone(), before.clone())).await.unwrap(), Removed::Changed);
            fs::remove_dir(&path).unwrap();
            symlink("../kept", &path).unwrap();
            assert_eq!(remove_one(&storage, (file.clone(), before.clone())).await.unwrap(), Removed::Changed);
            fs::remove_file(&path).unwrap();
            fs::remove_dir(media.root().join("d")).unwrap();
            fs::create_dir(media.root().join("e")).unwrap();
            fs::rename(media.root().join("kept"), media.root().join("e/a")).unwrap();
            symlink("e", media.root().join("d")).unwrap();
            assert_eq!(remove_one(&storage, (file.clone(), before)).await.unwrap(), Removed::Changed);
            assert_eq!(fs::read(media.root().join("e/a")).unwrap(), b"two");
            assert_eq!(in_trash_count(&media), 0);
        }
    }
}

/// Files in the trash.
fn in_trash_count(media: &Media) -> usize {
    fn count(at: &Path) -> usize {
        let Ok(entries) = fs::read_dir(at) else { return 0 };
        entries.map(|e| e.unwrap().path()).map(|p| if p.is_dir() { count(&p) } else { 1 }).sum()
    }
    count(&media.root().join(".rowbound/trash"))
}

#[tokio::test]
async fn a_new_upload_under_the_name_is_never_lost_to_a_removal_that_races_it() {
    for (calls, open) in CALLS {
        let media = Media::new(open);
        let storage = media.storage(Some(DAY), true).await;
        let (stop, path) = (Arc::new(AtomicBool::new(false)), media.put("d/a", b"0"));
        // The application replaces the file again and again, by rename, as careful ones do. Every content is written once.
        let written = Arc::new(AtomicU64::new(0));
        let uploader = {
            let (stop, written, path, temporary) = (stop.clone(), written.clone(), path.clone(), media.dir.path().join("upload"));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let next = written.load(Relaxed) + 1;
                    fs::write(&temporary, next.to_string()).unwrap();
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    if fs::rename(&temporary, &path).is_ok() {
                        written.store(next, Relaxed);
                    }
                }
            })
        };
        let file = name("d/a");
        let (mut trashed, mut changed, mut rescued) = (0, 0, 0);
        for _ in 0..600 {
            let Stat::File(before) = look(&storage, &file).await else { continue };
            match remove_one(&storage, (file.clone(), before.clone())).await {
                Ok(Removed::Trashed(at)) => {
                    // What is in the trash is what was seen, not a later upload.
                    let path = media.root().join(".rowbound/trash").join(at);
                    let meta = fs::metadata(path).unwrap();
                    assert_eq!(before.version.split(':').nth(1).unwrap(), format!("{:x}", meta.ino()), "{calls}");
                    assert_eq!(Timestamp::try_from(meta.modified().unwrap()).unwrap(), before.modified, "{calls}");
                    trashed += 1;
                }
                Ok(Removed::Changed) => changed += 1,
                Ok(Removed::Missing) => {}
                // Replaced in between and replaced again before it could go back: it is safe, and somebody is told where.
                Err(e) => {
                    assert!(e.full().contains("now at"), "{}", e.full());
                    rescued += 1;
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
        stop.store(true, Relaxed);
        uploader.join().unwrap();
        println!("{calls}: {trashed} trashed, {changed} changed, {rescued} rescued, {} written", written.load(Relaxed));
        assert_eq!(in_trash_count(&media), trashed + rescued);
        // The last upload is there, unless it is what was seen and removed.
        let last = written.load(Relaxed).to_string();
        let there = fs::read_to_string(&path).ok();
        let in_trash = find_in_trash(&media.root().join(".rowbound/trash"), &last);
        assert!(there.as_ref() == Some(&last) || in_trash, "{there:?}, {last}");
    }
}

fn find_in_trash(at: &Path, content: &str) -> bool {
    let Ok(entries) = fs::read_dir(at) else { return false };
    entries
        .map(|e| e.unwrap().path())
        .any(|p| if p.is_dir() { find_in_trash(&p, content) } else { fs::read_to_string(&p).unwrap() == content })
}

// ---- the trash ----------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn files_and_folders_of_one_name_share_the_trash() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        let storage = media.storage(Some(DAY), false).await;
        // First a file `x`, then a folder `x`, then a file again: none is in the way of another.
        let mut items = Vec::new();
        for (text, content) in [("x", "1"), ("x/y", "2"), ("x/y/z", "3"), ("x", "4"), ("x/y", "5")] {
            let _ = fs::remove_dir_all(media.root().join("x"));
            media.put(text, content.as_bytes());
            assert!(matches!(take(&storage, &name(text)).await, Removed::Trashed(_)), "{text}");
            items.push((in_trash(&storage, &name(text)).await.unwrap(), content));
        }
        let places: BTreeSet<_> = items.iter().map(|(item, _)| item.place.clone()).collect();
        assert_eq!(places.len(), items.len());
        for (item, content) in items {
            let _ = fs::remove_dir_all(media.root().join("x"));
            assert_eq!(restore(&storage, &item).await, Restored::Back);
            assert_eq!(fs::read_to_string(media.root().join(item.name.as_str())).unwrap(), content);
            fs::remove_file(media.root().join(item.name.as_str())).unwrap();
        }
        assert_eq!(fs::read_dir(media.root().join(".rowbound/trash")).unwrap().count(), 0, "emptied buckets are gone");
    }
}

#[tokio::test]
async fn the_trash_may_not_be_entered_by_others_and_restored_folders_are_like_their_parents() {
    let media = Media::new(Folder::new);
    fs::set_permissions(media.root(), fs::Permissions::from_mode(0o2775)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(media.root(), Some(4242), Some(4343)).unwrap();
    }
    let owner = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    let root = owner(&media.root());
    let storage = media.storage(Some(DAY), true).await;
    assert_eq!(owner(&media.root().join(".rowbound")), (root.0, root.1, 0o700), "the application's own user may work in it");
    assert_eq!(owner(&media.root().join(".rowbound/storage.json")).0, root.0);
    media.put("a/b/c", b"c");
    take(&storage, &name("a/b/c")).await;
    let item = in_trash(&storage, &name("a/b/c")).await.unwrap();
    fs::remove_dir_all(media.root().join("a")).unwrap();
    assert_eq!(restore(&storage, &item).await, Restored::Back);
    assert_eq!(owner(&media.root().join("a")), root);
    assert_eq!(owner(&media.root().join("a/b")), root);
}

#[tokio::test]
async fn a_file_is_not_restored_through_a_link_or_a_file_in_its_way() {
    for (_, open) in CALLS {
        let media = Media::new(open);
        let storage = media.storage(Some(DAY), true).await;
        media.put("a/b/c", b"c");
        take(&storage, &name("a/b/c")).await;
        let item = in_trash(&storage, &name("a/b/c")).await.unwrap();
        fs::remove_dir_all(media.root().join("a")).unwrap();
        let outside = media.dir.path().join("outside");
        fs::create_dir_all(outside.join("b")).unwrap();
        symlink("../outside", media.root().join("a")).unwrap();
        let error = storage.restore(std::slice::from_ref(&item)).await.unwrap().remove(0).unwrap_err();
        assert!(error.hint_text().unwrap().contains("symbolic link"), "{:?}", error.hint_text());
        fs::remove_file(media.root().join("a")).unwrap();
        media.put("a", b"a file");
        let error = storage.restore(std::slice::from_ref(&item)).await.unwrap().remove(0).unwrap_err();
        assert!(error.hint_text().unwrap().contains("is a file"), "{:?}", error.hint_text());
        fs::remove_file(media.root().join("a")).unwrap();
        for there in ["folder", "link"] {
            fs::create_dir_all(media.root().join("a/b")).unwrap();
            match there {
                "folder" => fs::create_dir(media.root().join("a/b/c")).unwrap(),
                _ => symlink("nowhere", media.root().join("a/b/c")).unwrap(),
            }
            assert_eq!(restore(&storage, &item).await, Restored::Occupied, "{there}");
            fs::remove_dir_all(media.root().join("a")).unwrap();
        }
        assert_eq!(restore(&storage, &item).await, Restored::Back);
        assert_eq!(fs::read_dir(outside.join("b")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_place_out_of_a_ledger_is_not_believed() {
    let media = Media::new(Folder::new);
    let storage = media.storage(Some(DAY), false).await;
    media.put("d/a", b"a");
    media.put("d/b", b"b");
    take(&storage, &name("d/a")).await;
    let good = in_trash(&storage, &name("d/a")).await.unwrap();
    let bucket = good.place.split_once('/').unwrap().0.to_owned();
    let before = snapshot(&media.root());
    for place in [
        "",
        "/",
        "d/a",
        "../../d/a",
        "../../../d/a",
        "/etc/passwd",
        &format!("{bucket}/d/b"),
        &format!("{bucket}/../d/a"),
        &format!("{bucket}/./d/a"),
        &format!("{bucket}//d/a"),
        &format!("{bucket}.0/d/a"),
        &format!("../trash/{bucket}/d/a"),
        &bucket,
    ] {
        let item = Trashed { place: place.to_owned(), ..good.clone() };
        let items = std::slice::from_ref(&item);
        assert!(storage.restore(items).await.unwrap().remove(0).is_err(), "{place:?}");
        assert!(storage.purge(items).await.unwrap().remove(0).is_err(), "{place:?}");
    }
    assert_eq!(snapshot(&media.root()), before);
    assert_eq!(restore(&storage, &good).await, Restored::Back);
}

#[tokio::test]
async fn what_others_put_into_the_trash_is_left_alone() {
    let media = Media::new(Folder::new);
    let storage = media.storage(Some(DAY), true).await;
    let trash = media.root().join(".rowbound/trash");
    let old = trash.join("20200101T000000Z");
    fs::create_dir_all(old.join("d/empty")).unwrap();
    fs::create_dir_all(trash.join("notes")).unwrap();
    fs::write(trash.join("notes/x"), "").unwrap();
    fs::write(trash.join("README"), "").unwrap();
    symlink("/etc", old.join("link")).unwrap();
    fs::write(old.join("d/mine"), "12").unwrap();
    fs::create_dir_all(trash.join("20200101T000000Z.1/only/empty/folders")).unwrap();
    let expired = storage.expired(Timestamp::now(), None, 10).await.unwrap().files;
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].place.as_str(), expired[0].size), ("20200101T000000Z/d/mine", 2));
    assert_eq!(expired[0].at, "2020-01-01T00:00:00Z".parse().unwrap());
    assert!(!trash.join("20200101T000000Z.1").exists(), "an expired bucket without files is tidied away");
    assert!(storage.purge(&expired).await.unwrap().remove(0).unwrap());
    assert!(old.join("link").is_symlink() && trash.join("README").exists() && trash.join("notes/x").exists());
    // Neither a link nor a folder is erased as if it were a file of ours.
    let item = Trashed { name: name("link"), place: "20200101T000000Z/link".into(), ..expired[0].clone() };
    assert!(storage.purge(&[item]).await.unwrap().remove(0).is_err());
}

#[tokio::test]
async fn a_bucket_expires_only_after_it_closed() {
    let media = Media::new(Folder::new);
    let storage = media.storage(Some(Duration::from_secs(8)), true).await;
    media.put("a", b"a");
    take(&storage, &name("a")).await;
    let item = in_trash(&storage, &name("a")).await.unwrap();
    let now = Timestamp::now();
    assert!(item.at > now - SignedDuration::from_secs(1) && item.at <= now + SignedDuration::from_secs(2), "{} {now}", item.at);
    assert_eq!(storage.expired(item.at, None, 10).await.unwrap().files, [], "not at that moment");
    assert_eq!(storage.expired(item.at + SignedDuration::from_nanos(1), None, 10).await.unwrap().files, [item]);
}

// ---- empty folders ------------------------------------------------------------------------------------------------------------------

/// Shrine, CarrierWave, Laravel Media Library or unused-media: empty parent folders go, the root stays.
#[tokio::test]
async fn empty_folders_go_upward_but_never_the_root_nor_one_in_use() {
    for (_, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let media = Media::new(open);
            let storage = media.storage(retention, true).await;
            for text in ["2026/11/21/a", "2026/11/21/b", "2026/11/20/c", "2026/11/20/d/e", "top", "other/f"] {
                media.put(text, b"");
            }
            fs::create_dir(media.root().join("empty")).unwrap();
            age_all(&media.root());
            let left = |paths: &[&str]| {
                let there: Vec<_> = snapshot(&media.root()).into_keys().map(|p| p.to_str().unwrap().to_owned()).collect();
                assert_eq!(there, paths);
            };
            take(&storage, &name("2026/11/21/a")).await;
            assert!(media.root().join("2026/11/21").exists(), "not empty");
            // The second batch from the folder: its last change is our own, nobody uses it.
            take(&storage, &name("2026/11/21/b")).await;
            assert!(!media.root().join("2026/11/21").exists());
            take(&storage, &name("2026/11/20/c")).await;
            take(&storage, &name("top")).await;
            left(&["2026", "2026/11", "2026/11/20", "2026/11/20/d", "2026/11/20/d/e", "empty", "other", "other/f"]);
            take(&storage, &name("2026/11/20/d/e")).await;
            take(&storage, &name("other/f")).await;
            // A folder from which nothing was taken is the application's.
            left(&["empty"]);
            fs::remove_dir(media.root().join("empty")).unwrap();
            media.put("last/one", b"");
            age_all(&media.root());
            take(&storage, &name("last/one")).await;
            left(&[]);
            assert!(media.root().join(".rowbound/storage.json").exists());
        }
    }
}

#[tokio::test]
async fn a_folder_that_somebody_just_used_goes_later() {
    let media = Media::new(Folder::new);
    let storage = media.storage(None, true).await;
    media.put("2026/11/21/a", b"");
    take(&storage, &name("2026/11/21/a")).await;
    assert!(media.root().join("2026/11/21").is_dir(), "an upload may be on its way into it");
    let begun = Instant::now();
    while media.root().join("2026").exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never went");
        storage.remove(&[]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() > Duration::from_millis(500), "it went while it was fresh");
}

#[tokio::test]
async fn without_pruning_folders_stay() {
    let media = Media::new(Folder::new);
    let storage = media.storage(None, false).await;
    media.put("a/b", b"");
    age_all(&media.root());
    take(&storage, &name("a/b")).await;
    assert!(media.root().join("a").is_dir());
}

// ---- attach and detach --------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn detaching_leaves_nothing_of_ours_but_trashed_files() {
    let media = Media::new(Folder::new);
    let before = (snapshot(media.dir.path()), fs::read_dir(media.root()).unwrap().count());
    let storage = media.storage(Some(DAY), true).await;
    storage.set_marker(&marker_of("suite")).await.unwrap();
    let names: Vec<_> = fs::read_dir(media.root().join(".rowbound")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["storage.json"], "no temporary file stays");
    // A killed attach leaves one; empty buckets are nobody's.
    fs::write(media.root().join(".rowbound/attach-0123"), "").unwrap();
    fs::create_dir_all(media.root().join(".rowbound/trash/20260101T000000Z/a/b")).unwrap();
    assert_eq!(storage.remove_marker().await.unwrap(), 0);
    assert_eq!((snapshot(media.dir.path()), fs::read_dir(media.root()).unwrap().count()), before);
    let storage = media.storage(Some(DAY), true).await;
    media.put("a", b"a");
    media.put("b/c", b"c");
    take(&storage, &name("a")).await;
    take(&storage, &name("b/c")).await;
    assert_eq!(storage.remove_marker().await.unwrap(), 2);
    assert_eq!(in_trash_count(&media), 2);
    assert!(!media.root().join(".rowbound/storage.json").exists());
}

// ---- processes of their own ---------------------------------------------------------------------------------------------------------

const ROLE: &str = "ROWBOUND_TEST_CHILD";

/// The folder that this process works on if a test started it for a part of its own.
fn child() -> Option<PathBuf> {
    std::env::var_os(ROLE).map(PathBuf::from)
}

/// This test again, in a process of its own, beginning with `before` (for example `unshare`).
fn again(test: &str, exe: &Path, dir: &Path, before: &[&str]) -> Command {
    let mut words = before.iter().map(OsStr::new).chain([exe.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, dir);
    command
}

fn succeeded(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{:?}\n{out}\n{err}", output.status);
}

#[tokio::test]
async fn a_worker_that_was_killed_after_one_file_is_repeated_without_loss() {
    const TEST: &str = "a_worker_that_was_killed_after_one_file_is_repeated_without_loss";
    let names = ["d/1", "d/2", "e/3"].map(name);
    let retention = |dir: &Path| dir.ends_with("trash").then_some(DAY);
    if let Some(dir) = child() {
        let storage = Folder::new("default", &dir, retention(&dir), true);
        storage.expect("suite");
        let mut items = Vec::new();
        for name in &names {
            items.push((name.clone(), seen(&storage, name).await));
        }
        let _ = storage.remove(&items).await;
        unreachable!("the process was to be killed");
    }
    for mode in ["erase", "trash"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(mode);
        fs::create_dir_all(root.join("d")).unwrap();
        fs::create_dir_all(root.join("e")).unwrap();
        let storage = Folder::new("default", &root, retention(&root), true);
        attach(&storage).await;
        for name in &names {
            fs::write(root.join(name.as_str()), name.as_str()).unwrap();
        }
        let exe = std::env::current_exe().unwrap();
        let output = again(TEST, &exe, &root, &[]).env("ROWBOUND_CRASH_AT", "remove-one").output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Vec<_> = storage.stat(&names).await.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(found.iter().filter(|l| **l == Stat::Missing).count(), 1, "{found:?}");
        for (name, found) in names.iter().zip(found) {
            // Nobody wrote down that it went: the trash itself knows.
            let item = in_trash(&storage, name).await;
            assert_eq!(item.is_some(), mode == "trash" && found == Stat::Missing);
            match (found, item) {
                (Stat::Missing, Some(item)) => assert_eq!(restore(&storage, &item).await, Restored::Back),
                (Stat::Missing, None) => {}
                (found, _) => assert!(matches!(found, Stat::File(_))),
            }
        }
        assert_eq!(files(&storage, None).await.len(), if mode == "trash" { 3 } else { 2 });
    }
}

/// As root nothing is forbidden, so a copy of this test runs as nobody.
/// django-cleanup: a storage that fails: the transaction stands, the failure is said once.
#[tokio::test]
async fn what_may_not_be_read_or_written_is_an_error_with_a_hint_and_stays() {
    const TEST: &str = "what_may_not_be_read_or_written_is_an_error_with_a_hint_and_stays";
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let Some(dir) = child() else {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o777);
        let exe = dir.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        mode(&exe, 0o755);
        let mut command = again(TEST, &exe, dir.path(), &[]);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        succeeded(&command.current_dir(dir.path()).output().unwrap());
        return;
    };
    assert!(!rustix::process::geteuid().is_root());
    for (calls, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let root = dir.join(format!("{calls} {retention:?}"));
            for text in ["shut/a", "dark/b", "blind/c", "open/d"] {
                fs::create_dir_all(root.join(text).parent().unwrap()).unwrap();
                fs::write(root.join(text), text).unwrap();
            }
            let storage = (open)("default", &root, retention, true);
            attach(&storage).await;
            let names = ["shut/a", "dark/b", "open/d"].map(name);
            let mut items = Vec::new();
            for name in &names {
                items.push((name.clone(), seen(&storage, name).await));
            }
            mode(&root.join("shut"), 0o555); // may be read, not written
            mode(&root.join("dark"), 0o000); // may not even be entered
            mode(&root.join("blind"), 0o300); // may be entered, not listed
            let done = storage.remove(&items).await.unwrap();
            for (error, name) in done[..2].iter().zip(&names) {
                let error = error.as_ref().unwrap_err();
                assert_eq!((error.kind(), error.retry_status()), (Kind::Permission, Retry::Never), "{}", error.full());
                assert!(error.full().contains(name.as_str()) && error.hint_text().is_some(), "{}", error.full());
            }
            assert!(matches!(done[2], Ok(Removed::Erased | Removed::Trashed(_))), "the others go on: {done:?}");
            let looked = storage.stat(&names).await.unwrap();
            assert!(matches!(looked[0], Ok(Stat::File(_))), "{looked:?}");
            assert_eq!(looked[1].as_ref().unwrap_err().kind(), Kind::Permission, "what cannot be seen is not missing");
            // A listing that cannot see everything is none.
            for blind in ["dark", "blind"] {
                let error = drain(storage.list("", None).await.unwrap()).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Permission);
                assert!(error.full().contains("blind") || error.full().contains("dark"), "{}", error.full());
                mode(&root.join(blind), 0o755);
            }
            if retention.is_some() {
                // A trash that cannot be used stops the batch before it begins.
                let trash = root.join(".rowbound/trash");
                mode(&trash, 0o000);
                let items = [(name("dark/b"), seen(&storage, &name("dark/b")).await)];
                let error = remove_one(&storage, items[0].clone()).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Permission, "{}", error.full());
                assert!(storage.trashed(&names).await.is_err());
                assert!(storage.expired(Timestamp::now(), None, 1).await.is_err());
                mode(&trash, 0o700);
                // A part of it that cannot be read, or not be entered, is named and hides nothing.
                for text in ["20200101T000000Z/x/1", "20200102T000000Z/y/2", "20200103T000000Z/z/3", "20200103T000000Z/z/4"] {
                    fs::create_dir_all(trash.join(text).parent().unwrap()).unwrap();
                    fs::write(trash.join(text), "").unwrap();
                }
                let shut = [(trash.join("20200101T000000Z"), 0o000), (trash.join("20200102T000000Z/y"), 0o400)];
                for (path, rights) in &shut {
                    mode(path, *rights);
                }
                for limit in [1, 10] {
                    let (mut found, mut errors, mut after) = (Vec::new(), Vec::new(), None::<String>);
                    loop {
                        let page = storage.expired(Timestamp::now(), after.as_deref(), limit).await.unwrap();
                        found.extend(page.files.into_iter().map(|item| item.place));
                        errors.extend(page.errors.iter().map(|e| format!("{} {}", e.full(), e.hint_text().unwrap_or_default())));
                        after = page.next;
                        if after.is_none() {
                            break;
                        }
                    }
                    assert_eq!(found, ["20200103T000000Z/z/3", "20200103T000000Z/z/4"]);
                    assert_eq!(errors.len(), 2, "each once: {errors:?}");
                    for (error, (path, _)) in errors.iter().zip(&shut) {
                        assert!(error.contains(path.to_str().unwrap()) && error.contains("chmod "), "{error}");
                    }
                }
                // What lies there may be the file that is missed: nobody can say.
                let error = storage.trashed(&[name("x/1")]).await.unwrap().remove(0).unwrap_err();
                assert!(error.full().contains("20200101T000000Z"), "{}", error.full());
                for (path, _) in shut.iter().rev() {
                    mode(path, 0o700);
                }
                fs::remove_dir_all(trash.join("20200101T000000Z")).unwrap();
                assert!(root.join("dark/b").exists());
                mode(&trash, 0o700);
            }
            mode(&root.join(".rowbound"), 0o500);
            let error = storage.set_marker(&marker_of("suite")).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Permission);
            assert!(error.to_string().contains(".rowbound") && error.to_string().contains("uid "), "{error}");
            mode(&root.join(".rowbound"), 0o000);
            assert_eq!(storage.verify_marker().await.unwrap_err().kind(), Kind::Permission);
            assert_eq!(storage.marker().await.unwrap_err().kind(), Kind::Permission, "unreadable is not absent");
            mode(&root.join(".rowbound"), 0o700);
            mode(&root, 0o000);
            assert_eq!(storage.stat(&names).await.unwrap_err().kind(), Kind::Permission);
            mode(&root, 0o755);
            storage.verify_marker().await.unwrap();
        }
    }
}

/// Mounts need a mount namespace: as root one of our own, else one within a user namespace. The child has it and dies with it.
#[tokio::test]
async fn mounts_that_are_full_read_only_gone_or_in_between_lose_nothing() {
    const TEST: &str = "mounts_that_are_full_read_only_gone_or_in_between_lose_nothing";
    let Some(dir) = child() else {
        let dir = tempfile::tempdir().unwrap();
        let unshare = if rustix::process::geteuid().is_root() { &["unshare", "-m"][..] } else { &["unshare", "-Urm"][..] };
        let exe = std::env::current_exe().unwrap();
        let output = again(TEST, &exe, dir.path(), unshare).output().expect("`unshare` of util-linux is there");
        succeeded(&output);
        return;
    };
    let run = |words: &[&OsStr]| {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mount = |options: &str, at: &Path| {
        let words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs"].map(OsStr::new);
        run(&[&words[..], &[at.as_os_str()]].concat());
    };
    let remount = |options: &str, at: &Path| run(&["mount".as_ref(), "-o".as_ref(), options.as_ref(), at.as_os_str()]);
    let unmount = |at: &Path| run(&["umount".as_ref(), at.as_os_str()]);
    for (calls, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let root = dir.join(format!("{calls} {retention:?}"));
            fs::create_dir(&root).unwrap();
            mount("size=1m", &root);
            let storage = (open)("default", &root, retention, true);
            attach(&storage).await;
            fs::create_dir_all(root.join("d")).unwrap();
            fs::write(root.join("d/a"), "a").unwrap();
            let item = (name("d/a"), seen(&storage, &name("d/a")).await);

            remount("remount,ro", &root);
            let error = match storage.remove(std::slice::from_ref(&item)).await {
                Ok(done) => done.into_iter().next().unwrap().unwrap_err(),
                Err(whole) => whole, // the trash's folder could not be made
            };
            assert_eq!((error.kind(), error.retry_status()), (Kind::Storage, Retry::Later), "{}", error.full());
            assert!(error.hint_text().unwrap().contains("read-only"));
            assert!(matches!(look(&storage, &name("d/a")).await, Stat::File(_)));
            assert_eq!(storage.set_marker(&marker_of("suite")).await.unwrap_err().retry_status(), Retry::Later);
            remount("remount,rw", &root);

            // Unmounted: the mount point is an empty folder, which proves nothing.
            unmount(&root);
            assert_eq!(storage.stat(&[name("d/a")]).await.unwrap_err().kind(), Kind::StorageUnreachable);
            assert_eq!(storage.remove(std::slice::from_ref(&item)).await.unwrap_err().kind(), Kind::StorageUnreachable);
            assert_eq!(storage.list("", None).await.unwrap_err().kind(), Kind::StorageUnreachable);

            // Mounted again, another file system in between, and no inode left for the trash's folders.
            mount("size=1m,nr_inodes=12", &root);
            attach(&storage).await;
            fs::create_dir_all(root.join("videos/d")).unwrap();
            mount("size=1m", &root.join("videos"));
            fs::write(root.join("videos/v"), "v").unwrap();
            let removed = remove_one(&storage, (name("videos/v"), seen(&storage, &name("videos/v")).await)).await;
            match (retention, removed) {
                (None, Ok(Removed::Erased)) => {}
                (Some(_), Err(error)) => {
                    assert_eq!((error.kind(), error.retry_status()), (Kind::Storage, Retry::Never), "{}", error.full());
                    assert!(error.hint_text().unwrap().contains("trash = \"off\""), "{:?}", error.hint_text());
                    assert!(root.join("videos/v").exists());
                }
                (_, other) => panic!("{other:?}"),
            }
            // A mount point is never pruned, empty or not.
            let _ = fs::remove_file(root.join("videos/v"));
            assert!(root.join("videos").is_dir());

            fs::create_dir_all(root.join("e")).unwrap();
            fs::write(root.join("e/f"), "f").unwrap();
            let mut filled = 0;
            while fs::write(root.join(format!("fill{filled}")), "").is_ok() {
                filled += 1;
            }
            let removed = remove_one(&storage, (name("e/f"), seen(&storage, &name("e/f")).await)).await;
            match (retention, removed) {
                (None, Ok(Removed::Erased)) => {}
                (Some(_), Err(error)) => {
                    assert_eq!((error.kind(), error.retry_status()), (Kind::Storage, Retry::Later), "{}", error.full());
                    assert!(error.hint_text().unwrap().contains("full"));
                    assert_eq!(fs::read(root.join("e/f")).unwrap(), b"f");
                    for i in 0..filled {
                        fs::remove_file(root.join(format!("fill{i}"))).unwrap();
                    }
                    assert!(matches!(take(&storage, &name("e/f")).await, Removed::Trashed(_)), "room again: it works again");
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }
}

// ---- at random, and in a race -------------------------------------------------------------------------------------------------------

/// Shrine, CarrierWave, Laravel Media Library or unused-media: no extension; neighbours and similar names in one folder survive.
#[tokio::test]
async fn at_random_exactly_what_was_asked_for_is_gone_and_listings_are_sorted() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let parts = ["a", "b", "a.b", "a-b", "a0", "A", " ", "\u{e9}", "e\u{301}", "\u{10ffff}", "\u{e000}", "!", "~", "\n", ".x", "a b"];
    for round in 0..24 {
        let (_, open) = CALLS[round % 2];
        let retention = (round % 4 < 2).then_some(DAY);
        let media = Media::new(open);
        let storage = media.storage(retention, round % 3 > 0).await;
        let mut there = BTreeSet::new();
        for _ in 0..rng.random_range(0..300) {
            let depth = rng.random_range(1..5);
            let text = (0..depth).map(|_| *parts.choose(&mut rng).unwrap()).collect::<Vec<_>>().join("/");
            let path = media.root().join(&text);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(&path, &text).is_ok() {
                there.insert(text);
            }
        }
        age_all(&media.root());
        let sorted: Vec<_> = there.iter().cloned().collect();
        assert_eq!(files(&storage, None).await, sorted, "seed {seed}");
        let after = sorted.choose(&mut rng).cloned().unwrap_or_else(|| "a".into());
        let rest: Vec<_> = sorted.iter().filter(|n| **n > after).cloned().collect();
        assert_eq!(files(&storage, Some(&after)).await, rest, "seed {seed}, after {after:?}");

        let mut asked: Vec<FileName> = sorted.iter().filter(|_| rng.random_bool(0.5)).map(|n| name(n)).collect();
        rand::seq::SliceRandom::shuffle(&mut asked[..], &mut rng);
        let mut items = Vec::new();
        for (name, found) in asked.iter().zip(storage.stat(&asked).await.unwrap()) {
            let Ok(Stat::File(seen)) = found else { panic!("seed {seed}: {name:?}: {found:?}") };
            items.push((name.clone(), seen));
        }
        for (done, name) in storage.remove(&items).await.unwrap().into_iter().zip(&asked) {
            assert!(matches!(done, Ok(Removed::Erased | Removed::Trashed(_))), "seed {seed}: {name:?}: {done:?}");
        }
        let gone: BTreeSet<_> = asked.iter().map(|n| n.as_str().to_owned()).collect();
        let left: Vec<_> = there.difference(&gone).cloned().collect();
        assert_eq!(files(&storage, None).await, left, "seed {seed}");
        for text in &left {
            assert_eq!(&fs::read_to_string(media.root().join(text)).unwrap(), text, "seed {seed}");
        }
        if retention.is_some() {
            let found: Vec<_> = storage.trashed(&asked).await.unwrap().into_iter().map(|t| t.unwrap().unwrap()).collect();
            assert!(storage.restore(&found).await.unwrap().into_iter().all(|r| matches!(r, Ok(Restored::Back))), "seed {seed}");
            assert_eq!(files(&storage, None).await, sorted, "seed {seed}");
            for text in &sorted {
                assert_eq!(&fs::read_to_string(media.root().join(text)).unwrap(), text, "seed {seed}");
            }
        }
    }
}

/// A folder and a link to the outside change places all the time. The files outside are offered as "seen", so that nothing but the way to them
/// stands between them and their removal.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: links in the folder, traversal.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_keeps_turning_into_a_link_never_leads_outside() {
    for (calls, open) in CALLS {
        for retention in [None, Some(DAY)] {
            let media = Media::new(open);
            let (root, outside) = (media.root(), Media::new(open));
            for i in 0..20 {
                outside.put(&format!("sub/f{i}"), b"outside");
            }
            fs::create_dir(outside.root().join("sub/empty")).unwrap();
            let spy = outside.storage(None, false).await;
            age_all(&outside.root());
            let sentinel = snapshot(&outside.root());
            let names: Vec<_> = (0..20).map(|i| name(&format!("d/sub/f{i}"))).collect();
            let mut forged = Vec::new();
            for (i, inside) in names.iter().enumerate() {
                forged.push((inside.clone(), seen(&spy, &name(&format!("sub/f{i}"))).await));
            }
            let storage = media.storage(retention, true).await;
            fs::create_dir_all(root.join("d/sub/empty")).unwrap();
            symlink(outside.root(), root.join("l")).unwrap();
            let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let swapper = {
                let (stop, swaps, root) = (stop.clone(), swaps.clone(), root.clone());
                std::thread::spawn(move || {
                    use rustix::fs::{CWD, RenameFlags, renameat_with};
                    while !stop.load(Relaxed) {
                        // `d` may just have been pruned; then there is nothing to swap.
                        if renameat_with(CWD, root.join("d"), CWD, root.join("l"), RenameFlags::EXCHANGE).is_ok() {
                            swaps.fetch_add(1, Relaxed);
                        }
                    }
                })
            };
            let (mut taken, mut untouched) = (0, 0);
            for round in 0..300 {
                // Put real files there, by whichever name the real folder has now.
                for real in ["d", "l"] {
                    let real = root.join(real);
                    let Ok(dir) = rustix::fs::open(&real, rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY, 0.into()) else {
                        continue;
                    };
                    let _ = rustix::fs::mkdirat(&dir, "sub", 0o755.into());
                    for i in 0..3 {
                        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                        if let Ok(sub) = rustix::fs::openat(&dir, "sub", rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW, 0.into())
                        {
                            let _ = rustix::fs::openat(&sub, format!("f{i}"), flags, 0o644.into());
                        }
                    }
                }
                let batch: Vec<_> = if round % 2 == 0 {
                    forged.clone()
                } else {
                    let found = storage.stat(&names).await.unwrap();
                    let real = names.iter().zip(found).filter_map(|(name, found)| match found {
                        Ok(Stat::File(seen)) => Some((name.clone(), seen)),
                        _ => None,
                    });
                    real.collect()
                };
                for done in storage.remove(&batch).await.unwrap() {
                    match done {
                        Ok(Removed::Erased | Removed::Trashed(_)) => {
                            assert!(round % 2 == 1, "{calls}: a file outside was taken");
                            taken += 1;
                        }
                        _ => untouched += 1,
                    }
                }
                let _ = drain(storage.list("", None).await.unwrap()).await.map(|(entries, _)| {
                    for entry in entries {
                        assert!(
                            !matches!(&entry, Listed::File(name) if name.as_str().ends_with("f19")),
                            "a listing led outside: {entry:?}"
                        );
                    }
                });
            }
            stop.store(true, Relaxed);
            swapper.join().unwrap();
            println!("{calls}, {retention:?}: {} swaps, {taken} taken, {untouched} untouched", swaps.load(Relaxed));
            assert!(swaps.load(Relaxed) > 300 && untouched > 0);
            assert_eq!(snapshot(&outside.root()), sentinel, "{calls}");
        }
    }
}

// ---- speed --------------------------------------------------------------------------------------------------------------------------

/// CPU time of this process so far: user and system, in seconds.
fn cpu() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
    (fields[0] / 100.0, fields[1] / 100.0)
}

/// `cargo test -p rowbound --release --test folder -- --ignored --nocapture bench`: 100,000 files in 1,000 date folders.
#[tokio::test]
#[ignore = "a measurement"]
async fn bench_look_and_remove_against_bare_unlinks() {
    let names: Vec<_> = (0..100_000).map(|i| name(&format!("2026/{:02}/{:03}/{i}.jpg", i % 10, i % 1000 / 10))).collect();
    let media = Media::new(Folder::new);
    let storage = media.storage(None, false).await;
    let trash = media.storage(Some(DAY), false).await;
    for round in 0..2 {
        for how in ["bare", "erase", "trash", "list"] {
            for name in &names {
                let path = media.root().join(name.as_str());
                if fs::write(&path, b"x").is_err() {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, b"x").unwrap();
                }
            }
            let mut ordered = names.clone();
            ordered.sort();
            let (begun, before) = (Instant::now(), cpu());
            match how {
                "bare" => std::thread::scope(|scope| {
                    let cores = std::thread::available_parallelism().unwrap().get().min(4);
                    for part in ordered.chunks(ordered.len().div_ceil(cores)) {
                        let root = media.root();
                        scope.spawn(move || part.iter().for_each(|name| fs::remove_file(root.join(name.as_str())).unwrap()));
                    }
                }),
                "list" => assert_eq!(files(&storage, None).await.len(), names.len()),
                how => {
                    let storage = if how == "trash" { &trash } else { &storage };
                    for batch in names.chunks(10_000) {
                        let found = storage.stat(batch).await.unwrap();
                        let items = batch.iter().cloned().zip(found).map(|(name, found)| match found {
                            Ok(Stat::File(seen)) => (name, seen),
                            other => panic!("{other:?}"),
                        });
                        let items: Vec<_> = items.collect();
                        assert!(
                            storage
                                .remove(&items)
                                .await
                                .unwrap()
                                .into_iter()
                                .all(|r| matches!(r, Ok(Removed::Erased | Removed::Trashed(_))))
                        );
                    }
                }
            }
            let after = cpu();
            println!(
                "round {round}: {how:5} wall {:.2} s, user {:.2} s, system {:.2} s",
                begun.elapsed().as_secs_f64(),
                after.0 - before.0,
                after.1 - before.1
            );
        }
    }
}
