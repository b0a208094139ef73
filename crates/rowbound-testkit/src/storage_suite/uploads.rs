//! Files that come in and go out.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use rowbound::{
    FileName, Kind,
    storage::{Access, PutMode, PutOptions, PutResult, Stat, Storage, Upload},
};

use crate::world::wait_until;

use super::{Abilities, ODD_NAMES, Place, assert_files, look, name, open};

/// More than one part of any layer: S3's are 5 MiB.
const LARGE: usize = (17 << 20) + 3;

fn pattern(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n % 251) as u8).collect()
}

async fn begin(storage: &dyn Storage, name: &FileName) -> Box<dyn Upload> {
    let options = PutOptions { content_type: Some("image/jpeg".to_owned()), cache_control: None };
    storage.begin(name, &options).await.unwrap_or_else(|e| panic!("{name:?}: {}", e.full()))
}

async fn write(upload: &mut dyn Upload, bytes: &[u8]) {
    for piece in bytes.chunks(700_001) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap_or_else(|e| panic!("{}", e.full()));
    }
}

async fn put(storage: &dyn Storage, name: &FileName, bytes: &[u8], mode: PutMode) -> PutResult {
    let mut upload = begin(storage, name).await;
    write(&mut *upload, bytes).await;
    upload.publish(name, mode).await.unwrap_or_else(|e| panic!("{name:?}: {}", e.full()))
}

async fn fetched(storage: &dyn Storage, name: &FileName) -> Option<Vec<u8>> {
    let mut file = storage.fetch(name).await.unwrap_or_else(|e| panic!("{name:?}: {}", e.full()))?;
    let mut bytes = Vec::new();
    while let Some(piece) = file.body.next().await {
        bytes.extend_from_slice(&piece.unwrap_or_else(|e| panic!("{name:?}: {}", e.full())));
    }
    assert_eq!(bytes.len() as u64, file.seen.size, "{name:?}");
    Some(bytes)
}

/// What comes in is there when it was placed, whole, and not before.
pub(super) async fn placed_whole(place: &dyn Place) {
    let storage = open(place, false).await;
    for (text, size) in [("a/b/c.jpg", 300_000), ("empty", 0), ("one", 1), ("a/large.bin", LARGE)] {
        let (file, bytes) = (name(text), pattern(size));
        let mut upload = begin(&*storage, &file).await;
        let (first, second) = bytes.split_at(size / 3);
        write(&mut *upload, first).await;
        assert_eq!(look(&*storage, &file).await, Stat::Missing, "{text} can be seen too early");
        write(&mut *upload, second).await;
        assert_eq!(look(&*storage, &file).await, Stat::Missing, "{text} can be seen too early");
        assert_eq!(upload.publish(&file, PutMode::Create).await.unwrap_or_else(|e| panic!("{text}: {}", e.full())), PutResult::Stored);
        drop(upload);
        assert!(place.get(&file).await.as_deref() == Some(&*bytes), "{text} is another");
        match look(&*storage, &file).await {
            Stat::File(seen) => assert_eq!(seen.size, size as u64, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_files(place, &*storage, &["a/b/c.jpg", "a/large.bin", "empty", "one"]).await;
}

/// Names as they are.
pub(super) async fn placed_exactly(place: &dyn Place) {
    let storage = open(place, false).await;
    let can = place.abilities();
    for text in ODD_NAMES {
        let file = name(text);
        if can.refuses.contains(&text) {
            let mut refused = match storage.begin(&file, &PutOptions::default()).await {
                Err(_) => continue,
                Ok(upload) => upload,
            };
            assert!(refused.publish(&file, PutMode::Create).await.is_err(), "{text:?} was placed");
            continue;
        }
        assert_eq!(put(&*storage, &file, text.as_bytes(), PutMode::Create).await, PutResult::Stored, "{text:?}");
    }
    for text in ODD_NAMES.into_iter().filter(|text| !can.refuses.contains(text)) {
        assert_eq!(place.get(&name(text)).await.as_deref(), Some(text.as_bytes()), "{text:?}");
    }
}

/// What is there stays, and the upload can have another name.
pub(super) async fn never_over(place: &dyn Place) {
    let storage = open(place, false).await;
    let (file, other) = (name("d/photo.jpg"), name("d/photo_x.jpg"));
    place.put(&file, b"the first").await;
    let mut upload = begin(&*storage, &file).await;
    write(&mut *upload, b"the second").await;
    for _ in 0..2 {
        assert_eq!(upload.publish(&file, PutMode::Create).await.unwrap(), PutResult::Occupied);
    }
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"the first"[..]));
    assert_eq!(upload.publish(&other, PutMode::Create).await.unwrap(), PutResult::Stored);
    assert_eq!(place.get(&other).await.as_deref(), Some(&b"the second"[..]));
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"the first"[..]));

    // A large one may be bound to its name: then that is said, and nothing is overwritten.
    let mut large = begin(&*storage, &file).await;
    write(&mut *large, &pattern(LARGE)).await;
    assert_eq!(large.publish(&file, PutMode::Create).await.unwrap(), PutResult::Occupied);
    let third = name("d/photo_y.jpg");
    match large.publish(&third, PutMode::Create).await {
        Ok(placed) => assert_eq!(placed, PutResult::Stored),
        Err(e) => assert_eq!(e.kind(), Kind::Busy, "{}", e.full()),
    }
    large.abort().await.unwrap();
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"the first"[..]));
    if !place.abilities().nests {
        // A folder is something too; some servers cannot even be asked about it.
        let folder = name("d");
        let mut upload = begin(&*storage, &folder).await;
        write(&mut *upload, b"x").await;
        assert!(!matches!(upload.publish(&folder, PutMode::Create).await, Ok(PutResult::Stored)), "a file took the place of a folder");
        assert_eq!(place.get(&file).await.as_deref(), Some(&b"the first"[..]));
    }
}

/// One step from the old file to the new one.
pub(super) async fn over(place: &dyn Place) {
    let storage = open(place, false).await;
    let file = name("d/photo.jpg");
    for size in [0, 10, LARGE, 5] {
        assert_eq!(put(&*storage, &file, &pattern(size), PutMode::Overwrite).await, PutResult::Stored);
        assert!(place.get(&file).await.is_some_and(|bytes| bytes == pattern(size)), "{size}");
    }
    assert_files(place, &*storage, &["d/photo.jpg"]).await;
}

/// Of many that want one name at once, one gets it.
pub(super) async fn one_wins(place: &dyn Place) {
    let storage = open(place, false).await;
    for round in 0..5 {
        let file = name(&format!("d{round}/photo.jpg"));
        let all = join_all((0..8_u8).map(|n| {
            let (storage, file) = (&storage, &file);
            async move {
                let mut upload = begin(&**storage, file).await;
                write(&mut *upload, &[n; 1000]).await;
                (n, upload.publish(file, PutMode::Create).await)
            }
        }))
        .await;
        if place.abilities().creates {
            // Elsewhere who lost may find that the other's file is just being put in place of his.
            let error = all.iter().find_map(|(_, placed)| placed.as_ref().err());
            assert!(error.is_none(), "{}", error.map(rowbound::Error::full).unwrap_or_default());
        }
        let won: Vec<u8> = all.iter().filter(|(_, placed)| matches!(placed, Ok(PutResult::Stored))).map(|(n, _)| *n).collect();
        let stands = place.get(&file).await.expect("one of them");
        assert!(stands.len() == 1000 && stands.iter().all(|b| *b == stands[0]), "a mixture");
        if place.abilities().creates {
            assert_eq!(won, [stands[0]], "several believe that they won");
        }
    }
}

/// What is given up leaves nothing.
pub(super) async fn given_up(place: &dyn Place) {
    let storage = open(place, false).await;
    let before = place.own().await;
    for size in [0, 1000, LARGE] {
        let file = name("d/photo.jpg");
        let mut upload = begin(&*storage, &file).await;
        write(&mut *upload, &pattern(size)).await;
        upload.abort().await.unwrap_or_else(|e| panic!("{}", e.full()));
        let mut upload = begin(&*storage, &file).await;
        write(&mut *upload, &pattern(size)).await;
        drop(upload);
        assert_eq!(look(&*storage, &file).await, Stat::Missing);
    }
    assert_files(place, &*storage, &[]).await;
    // What is dropped is given up in the background.
    wait_until(Duration::from_secs(20), "nothing is left of it", async || place.own().await == before).await;
}

/// A whole file as it comes.
pub(super) async fn fetches(place: &dyn Place) {
    let storage = open(place, false).await;
    for (text, size) in [("d/large", LARGE), ("empty", 0), ("photo.jpg", 9)] {
        place.put(&name(text), &pattern(size)).await;
        assert!(fetched(&*storage, &name(text)).await.is_some_and(|bytes| bytes == pattern(size)), "{text}");
    }
    for text in ["photo.jp", "none/photo.jpg"] {
        assert!(fetched(&*storage, &name(text)).await.is_none(), "{text}");
    }
    for text in place.abilities().refuses {
        assert!(storage.fetch(&name(text)).await.is_err(), "{text:?}");
    }
    if !place.abilities().nests {
        assert!(storage.fetch(&name("d")).await.is_err(), "a folder is no file");
    }
}

/// What a signed URL allows, or that there is none.
pub(super) async fn signs(place: &dyn Place) {
    let storage = open(place, false).await;
    let file = name("d/a photo+.jpg");
    let hour = Duration::from_secs(3600);
    let write = Access::Put { size: 5, content_type: "image/jpeg".to_owned() };
    if !place.abilities().signs {
        for access in [Access::Get, write] {
            assert_eq!(storage.sign(&file, &access, hour).await.unwrap_err().kind(), Kind::Config);
        }
        return;
    }
    let put = storage.sign(&file, &write, hour).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(put.method, "PUT");
    assert_eq!(crate::loopback::request(&put.method, &put.url, &put.headers, b"bytes").await.0, 200);
    assert_eq!(place.get(&file).await.as_deref(), Some(&b"bytes"[..]));
    let get = storage.sign(&file, &Access::Get, hour).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let (status, bytes) = crate::loopback::request(&get.method, &get.url, &get.headers, b"").await;
    assert_eq!((status, &*bytes), (200, &b"bytes"[..]));
    for wrong in [Duration::ZERO, Duration::from_secs(8 * 86_400)] {
        assert_eq!(storage.sign(&file, &Access::Get, wrong).await.unwrap_err().kind(), Kind::Config);
    }
}

/// The exception of a storage whose names cannot be taken in one step.
pub(super) fn creates(can: &Abilities) -> Option<String> {
    (!can.creates).then(|| "not in the moment after the last look".to_owned())
}

/// The exception of a storage without signed URLs.
pub(super) fn has_signed(can: &Abilities) -> Option<String> {
    (!can.signs).then(|| "has none, and says so".to_owned())
}
