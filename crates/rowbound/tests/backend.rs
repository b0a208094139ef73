//! A backend of somebody else's, made with what is public: what the wrapper promises of every storage.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rowbound::{
    Error, FileName, Kind, Result,
    storage::{
        Access, Backend, Capabilities, Conditional, Described, Eraser, Expired, Fetched, FileVersion, LONGEST_SIGNED, Listed, Marker,
        Pages, PerName, Proof, Proving, PutOptions, Removed, Restored, Signer, Stat, Storage, TrashKind, Trashed, Upload, Whereabouts,
    },
};

/// Files in a map. It blocks, or it does not.
#[derive(Debug, Default)]
struct Shelf<const BLOCKS: bool> {
    place: Mutex<Place>,
    /// How often the marker was read.
    proofs: AtomicU64,
    /// The marker goes while an operation is under way, as when a file system is unmounted.
    vanishes: AtomicBool,
    /// It answers for one name too few.
    forgets: AtomicBool,
}

#[derive(Debug, Default)]
struct Place {
    marker: Option<Marker>,
    files: BTreeMap<FileName, Vec<u8>>,
    /// What each operation was asked for.
    asked: Vec<Vec<FileName>>,
}

impl<const BLOCKS: bool> Shelf<BLOCKS> {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap()
    }

    /// The place, at the beginning of an operation on these names.
    fn asked<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> MutexGuard<'_, Place> {
        let mut place = self.lock();
        place.asked.push(names.into_iter().cloned().collect());
        if self.vanishes.load(Relaxed) {
            place.marker = None;
        }
        place
    }

    fn answer<T>(&self, mut done: PerName<T>) -> Result<PerName<T>> {
        if self.forgets.load(Relaxed) {
            done.pop();
        }
        Ok(done)
    }
}

fn seen(bytes: &[u8]) -> FileVersion {
    FileVersion::new(bytes.len() as u64, Timestamp::UNIX_EPOCH, "1".to_owned())
}

#[async_trait]
impl<const BLOCKS: bool> Backend for Shelf<BLOCKS> {
    type Held = ();

    const BLOCKS: bool = BLOCKS;

    const REMOTE: bool = false;

    const PATHS_ONLY: bool = false;

    fn described(&self) -> Described {
        Described { noun: "shelf", at: vec![("room", "4".to_owned())], unmarked: ": is it the right room?", hint: "look around".to_owned() }
    }

    fn requests(&self) -> u64 {
        0
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }

    async fn reach(&self) -> Result<()> {
        Ok(())
    }

    async fn marker(&self, (): &()) -> Result<Option<Marker>> {
        self.proofs.fetch_add(1, Relaxed);
        Ok(self.lock().marker.clone())
    }

    async fn set_marker(&self, (): &(), marker: &Marker) -> Result<()> {
        self.lock().marker = Some(marker.clone());
        Ok(())
    }

    async fn remove_marker(&self, (): &(), _: Option<&Marker>) -> Result<u64> {
        self.lock().marker = None;
        Ok(0)
    }

    async fn probe(&self, (): &(), _: bool) -> Result<Capabilities> {
        Ok(Capabilities {
            at: Timestamp::now(),
            delete: Conditional::InBulk,
            create: true,
            trash: TrashKind::No,
            exact: true,
            access: None,
        })
    }

    async fn whereabouts(&self, (): &()) -> Result<Whereabouts> {
        Ok(Whereabouts::default())
    }

    async fn marker_in(&self, (): &(), _: &FileName) -> Result<Option<Marker>> {
        Ok(None)
    }

    async fn now(&self, _: &Proof<Self>) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    async fn stat(&self, _: &Proof<Self>, names: &[FileName]) -> Result<PerName<Stat>> {
        let place = self.asked(names);
        let one = |name| Ok(place.files.get(name).map_or(Stat::Missing, |bytes| Stat::File(seen(bytes))));
        self.answer(names.iter().map(one).collect())
    }

    async fn read(&self, _: &Proof<Self>, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let place = self.asked([name]);
        Ok(place.files.get(name).map(|bytes| bytes.iter().copied().take(limit).collect()))
    }

    async fn fetch(&self, _: &Proof<Self>, name: &FileName) -> Result<Option<Fetched>> {
        let place = self.asked([name]);
        let file = |bytes: &Vec<u8>| Fetched {
            seen: seen(b"more than there is"),
            content_type: None,
            body: Box::pin(futures_util::stream::iter([Ok(bytes.clone().into())])),
        };
        Ok(place.files.get(name).map(file))
    }

    async fn begin(&self, _: &Proof<Self>, _: &FileName, _: &PutOptions) -> Result<Box<dyn Upload>> {
        Err(Error::new(Kind::Storage, "the shelf is full").with("storage", "shelf").hint("clear it"))
    }

    fn signer(&self) -> Option<&dyn Signer<Self>> {
        None
    }

    async fn remove(&self, _: &Proof<Self>, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let mut place = self.asked(items.iter().map(|(name, _)| name));
        let one = |(name, _): &(FileName, FileVersion)| Ok(place.files.remove(name).map_or(Removed::Missing, |_| Removed::Erased));
        self.answer(items.iter().map(one).collect())
    }

    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        None
    }

    async fn trashed(&self, _: &Proof<Self>, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        drop(self.asked(names));
        self.answer(names.iter().map(|_| Ok(None)).collect())
    }

    async fn expired(&self, _: &Proof<Self>, _: Timestamp, _: Option<&str>, _: usize) -> Result<Expired> {
        Ok(Expired::default())
    }

    async fn restore(&self, _: &Proof<Self>, items: &[Trashed]) -> Result<PerName<Restored>> {
        drop(self.asked(items.iter().map(|item| &item.name)));
        self.answer(items.iter().map(|_| Ok(Restored::Missing)).collect())
    }

    async fn purge(&self, _: &Proof<Self>, items: &[Trashed]) -> Result<PerName<bool>> {
        drop(self.asked(items.iter().map(|item| &item.name)));
        self.answer(items.iter().map(|_| Ok(false)).collect())
    }

    async fn listable(&self, _: &Proof<Self>, _: &str, _: Option<&FileName>) -> Result<bool> {
        Ok(true)
    }

    async fn list(&self, _: &Proof<Self>, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let names: Vec<FileName> = self.asked([]).files.keys().cloned().collect();
        for name in names.into_iter().filter(|name| name.as_str().starts_with(prefix) && after.is_none_or(|after| name > after)) {
            if !pages.add(Listed::File(name)).await {
                break;
            }
        }
        Ok(())
    }
}

fn name(text: &str) -> FileName {
    FileName::parse(text).unwrap()
}

/// A shelf with these files, which is attached.
async fn attached<const BLOCKS: bool>(files: &[&str]) -> Proving<Shelf<BLOCKS>> {
    let storage = Proving::over("shelf", Shelf::default());
    storage.set_marker(&Marker::new("the right one", [])).await.unwrap();
    storage.expect("the right one");
    storage.backend().lock().files = files.iter().map(|text| (name(text), text.as_bytes().to_vec())).collect();
    storage
}

fn items(names: &[&str]) -> Vec<(FileName, FileVersion)> {
    names.iter().map(|text| (name(text), seen(text.as_bytes()))).collect()
}

fn in_trash(names: &[&str]) -> Vec<Trashed> {
    names.iter().map(|text| Trashed { name: name(text), place: (*text).to_owned(), at: Timestamp::UNIX_EPOCH, size: 1 }).collect()
}

/// The errors of every operation that must be proved.
async fn refused<const BLOCKS: bool>(storage: &Proving<Shelf<BLOCKS>>) -> Vec<Error> {
    let a = name("a");
    vec![
        storage.verify_marker().await.unwrap_err(),
        storage.proof().await.unwrap_err(),
        storage.now().await.unwrap_err(),
        storage.stat(std::slice::from_ref(&a)).await.unwrap_err(),
        storage.read(&a, 1).await.unwrap_err(),
        storage.fetch(&a).await.unwrap_err(),
        storage.begin(&a, &PutOptions::default()).await.unwrap_err(),
        storage.remove(&items(&["a"])).await.unwrap_err(),
        storage.trashed(std::slice::from_ref(&a)).await.unwrap_err(),
        storage.expired(Timestamp::MAX, None, 1).await.unwrap_err(),
        storage.restore(&in_trash(&["a"])).await.unwrap_err(),
        storage.purge(&in_trash(&["a"])).await.unwrap_err(),
        storage.list("", None).await.unwrap_err(),
    ]
}

async fn nothing_is_asked_unproved<const BLOCKS: bool>() {
    let storage = Proving::over("shelf", Shelf::<BLOCKS>::default());
    for e in refused(&storage).await {
        assert_eq!(e.kind(), Kind::NotAttached, "{}", e.full());
        assert_eq!(e.to_string(), "it is not known which storage this shelf must be (storage: shelf)");
    }
    storage.expect("the right one");
    for e in refused(&storage).await {
        assert_eq!((e.kind(), e.hint_text()), (Kind::StorageUnreachable, Some("look around")), "{}", e.full());
        assert_eq!(e.to_string(), "the shelf carries no marker: is it the right room? (storage: shelf, room: 4)");
    }
    storage.set_marker(&Marker::new("another", [])).await.unwrap();
    for e in refused(&storage).await {
        assert_eq!(e.to_string(), "the shelf carries the marker of another storage (storage: shelf, room: 4)");
    }
    assert_eq!(storage.remove_marker().await.unwrap_err().kind(), Kind::StorageUnreachable);
    assert!(storage.backend().lock().asked.is_empty(), "{:?}", storage.backend().lock().asked);
    // What is never done needs no proof.
    let signed = storage.sign(&name("a"), &Access::Get, LONGEST_SIGNED).await.unwrap_err();
    let erased = storage.erase(&items(&["a"])).await.unwrap_err();
    assert_eq!((signed.kind(), erased.kind()), (Kind::Config, Kind::Bug));
}

async fn absence_counts_only_on_a_second_proof<const BLOCKS: bool>() {
    let storage = attached::<BLOCKS>(&["a", "b"]).await;
    let proofs = || storage.backend().proofs.swap(0, Relaxed);
    storage.stat(&[name("a"), name("b")]).await.unwrap();
    assert_eq!(proofs(), 1, "what is there needs no second proof");
    let looked = storage.stat(&[name("a"), name("none")]).await.unwrap();
    assert!(matches!(looked[..], [Ok(Stat::File(_)), Ok(Stat::Missing)]), "{looked:?}");
    assert_eq!(proofs(), 2);

    storage.backend().vanishes.store(true, Relaxed);
    let again = async || storage.set_marker(&Marker::new("the right one", [])).await.unwrap();
    let gone = |e: &Error| {
        assert_eq!(e.kind(), Kind::StorageUnreachable, "{}", e.full());
        assert!(e.full().contains("the shelf carries no marker"), "{}", e.full());
    };
    let looked = storage.stat(&[name("a"), name("none")]).await.unwrap();
    assert!(matches!(&looked[..], [Ok(Stat::File(_)), Err(e)] if { gone(e); true }), "{looked:?}");
    again().await;
    let removed = storage.remove(&items(&["b", "none"])).await.unwrap();
    assert!(matches!(&removed[..], [Ok(Removed::Erased), Err(e)] if { gone(e); true }), "{removed:?}");
    again().await;
    gone(storage.trashed(&[name("none")]).await.unwrap()[0].as_ref().unwrap_err());
    again().await;
    gone(storage.restore(&in_trash(&["none"])).await.unwrap()[0].as_ref().unwrap_err());
    again().await;
    gone(storage.purge(&in_trash(&["none"])).await.unwrap()[0].as_ref().unwrap_err());
    again().await;
    gone(&storage.read(&name("none"), 1).await.unwrap_err());
    again().await;
    gone(&storage.fetch(&name("none")).await.unwrap_err());
    again().await;
    assert_eq!(storage.read(&name("a"), 1).await.unwrap().as_deref(), Some(&b"a"[..]), "it was there");
}

async fn a_name_that_is_twice_in_a_batch_has_its_turns<const BLOCKS: bool>() {
    let storage = attached::<BLOCKS>(&["a", "b"]).await;
    let removed = storage.remove(&items(&["a", "b", "a"])).await.unwrap();
    assert!(matches!(removed[..], [Ok(Removed::Erased), Ok(Removed::Erased), Ok(Removed::Missing)]), "{removed:?}");
    storage.remove(&[]).await.unwrap();
    storage.trashed(&[]).await.unwrap();
    storage.purge(&in_trash(&["c", "c", "d"])).await.unwrap();
    let asked = std::mem::take(&mut storage.backend().lock().asked);
    // An empty batch is an occasion to tidy up, where that costs no request.
    assert_eq!(asked, [vec![name("a"), name("b")], vec![name("a")], vec![], vec![name("c"), name("d")], vec![name("c")]]);
    storage.backend().forgets.store(true, Relaxed);
    assert_eq!(storage.remove(&items(&["a"])).await.unwrap_err().kind(), Kind::Bug);
    assert_eq!(storage.stat(&[name("a")]).await.unwrap_err().kind(), Kind::Bug);
}

async fn what_is_only_surveyed_is_not_changed<const BLOCKS: bool>() {
    let storage = Proving::over("shelf", Shelf::<BLOCKS>::default());
    storage.set_read_only();
    assert!(matches!(storage.stat(&[name("a")]).await.unwrap()[..], [Ok(Stat::Missing)]));
    assert!(storage.proof().await.unwrap().is_read_only());
    for e in [
        storage.now().await.unwrap_err(),
        storage.begin(&name("a"), &PutOptions::default()).await.unwrap_err(),
        storage.remove(&items(&["a"])).await.unwrap_err(),
        storage.trashed(&[name("a")]).await.unwrap_err(),
        storage.expired(Timestamp::MAX, None, 1).await.unwrap_err(),
        storage.restore(&in_trash(&["a"])).await.unwrap_err(),
        storage.purge(&in_trash(&["a"])).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), Kind::NotAttached, "{}", e.full());
    }
    assert_eq!(storage.backend().lock().asked, [[name("a")]]);
    assert_eq!(storage.backend().proofs.load(Relaxed), 0, "its marker need not be there");
}

async fn a_listing_is_complete_only_on_a_second_proof<const BLOCKS: bool>() {
    let names: Vec<String> = (0..4500).map(|i| format!("f{i:04}")).collect();
    let storage = attached::<BLOCKS>(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut listing = storage.list("f", Some(name("f0009"))).await.unwrap();
    let (mut listed, mut pages, mut last) = (Vec::new(), 0, false);
    while let Some(page) = listing.recv().await {
        let page = page.unwrap();
        (pages, last) = (pages + 1, page.last);
        listed.extend(page.entries);
    }
    assert!(last && pages == 5, "{pages} pages");
    assert_eq!(listed, names[10..].iter().map(|text| Listed::File(name(text))).collect::<Vec<_>>());
    storage.backend().vanishes.store(true, Relaxed);
    let mut listing = storage.list("", None).await.unwrap();
    let mut ended = None;
    while let Some(page) = listing.recv().await {
        assert!(!page.as_ref().is_ok_and(|page| page.last));
        ended = Some(page);
    }
    assert_eq!(ended.unwrap().unwrap_err().kind(), Kind::StorageUnreachable);
}

async fn a_body_that_is_cut_off_ends_with_an_error<const BLOCKS: bool>() {
    use futures_util::StreamExt;
    let storage = attached::<BLOCKS>(&["a"]).await;
    let file = storage.fetch(&name("a")).await.unwrap().unwrap();
    let pieces: Vec<_> = file.body.collect().await;
    assert!(matches!(&pieces[..], [Ok(bytes), Err(_)] if bytes[..] == b"a"[..]), "{pieces:?}");
}

/// The runtime has one thread, and one that may block: no operation waits for a second one.
fn on_one_thread(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap().block_on(check);
}

macro_rules! checks {
    ($($check:ident),*) => {
        mod blocking {
            $(#[test] fn $check() { super::on_one_thread(super::$check::<true>()); })*
        }
        mod waiting {
            $(#[test] fn $check() { super::on_one_thread(super::$check::<false>()); })*
        }
    };
}

checks!(
    nothing_is_asked_unproved,
    absence_counts_only_on_a_second_proof,
    a_name_that_is_twice_in_a_batch_has_its_turns,
    what_is_only_surveyed_is_not_changed,
    a_listing_is_complete_only_on_a_second_proof,
    a_body_that_is_cut_off_ends_with_an_error
);
