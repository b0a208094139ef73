//! The storage in a bucket: what the suite (tests/storage.rs) does not ask, on every S3 server that can be started here.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rowbound::{
    FileName, Kind, Retry, StoragePlan, Trash,
    plan::Location,
    storage::{
        Conditional, FileVersion, Marker, PutMode, PutOptions, PutResult, Removed, Restored, Since, Stat, Storage, TrashKind, s3::S3,
    },
};
use rowbound_testkit::{
    faults::{Ask, Fault, FaultProxy, Rule},
    places::{BucketPlace, PREFIX, Way},
    s3::{S3Bucket, S3Kind, S3Server},
    storage_suite::{Place, attach, files, in_trash, look, marker_of, name, restore, seen, take},
    wait_until,
};

fn opened(server: &S3Server, plan: &StoragePlan) -> Arc<dyn Storage> {
    let Location::S3(at) = &plan.location else { panic!("no bucket") };
    Arc::new(S3::with_key(plan, at, server.access_key(), server.secret_key()))
}

async fn place(server: &Arc<S3Server>, way: Way) -> BucketPlace {
    BucketPlace::new(server, way).await
}

/// Names that some layer likes to trim, decode, collapse or cannot say in XML, each beside its likely victims.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "photo.jpg",
        "photo.jpg ",
        " photo.jpg",
        "photo.jpg\t",
        "photo.jpg.",
        "photo.jpg\u{a0}",
        "photo.jpg\u{3000}",
        "Photo.jpg",
        "d/photo.jpg",
        "d /photo.jpg",
        "\u{e9}.jpg",
        "e\u{301}.jpg",
        "%C3%A9.jpg",
        "%2e%2e",
        "%2E%2E/x",
        "a+b",
        "a b",
        "a%20b",
        "a%2Bb",
        "a%2520b",
        "a\\b",
        "a\u{1}b",
        "a\u{1f}b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{fffe}b",
        "a\u{feff}b",
        "\u{feff}a",
        "*",
        "?",
        "?versionId=1",
        "#x",
        "a&b",
        "a&amp;b",
        "<Key>a</Key>",
        "]]>",
        "\"'",
        "...",
        "..a/a..",
        "\u{1f600}\u{10ffff}",
        "a=b;c",
        "a:b@c",
        "d/...",
        "~",
        "a\nb",
        "a\rb",
        "a\r\nb",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("x".repeat(1024 - PREFIX.len()));
    names.push(format!("{}\u{1f600}", "y".repeat(1020 - PREFIX.len())));
    names
}

/// Whether the server holds this key: it is put, and read back under this name and no other.
async fn holds(bucket: &S3Bucket, key: &str) -> bool {
    let body = aws_sdk_s3::primitives::ByteStream::from(key.as_bytes().to_vec());
    let put = bucket.client().put_object().bucket(bucket.name()).key(key).body(body).send().await;
    let held = put.is_ok() && {
        let read = bucket.client().get_object().bucket(bucket.name()).key(key).send().await;
        match read {
            Ok(found) => found.body.collect().await.is_ok_and(|b| b.to_vec() == key.as_bytes()),
            Err(_) => false,
        }
    };
    // One key that it cannot list would hide the others.
    let list = bucket.client().list_objects_v2().bucket(bucket.name()).encoding_type(aws_sdk_s3::types::EncodingType::Url);
    let listed = list.send().await.is_ok_and(|page| page.contents().len() == 1);
    let deleted = bucket.client().delete_object().bucket(bucket.name()).key(key).send().await;
    held && listed && deleted.is_ok()
}

async fn deletes_exactly(kind: S3Kind, way: Way) {
    let server = Arc::new(S3Server::start(kind));
    let place = place(&server, way).await;
    let storage = place.open(place.abilities().trash);
    attach(&*storage).await;
    let mut held = Vec::new();
    for name in odd_names() {
        let scratch = server.bucket().await;
        if holds(&scratch, &format!("{PREFIX}{name}")).await {
            held.push(name);
        } else {
            eprintln!("{kind} does not hold {:?}", name.chars().take(40).collect::<String>());
        }
    }
    assert!(held.len() >= 40, "{kind} holds only {}", held.len());
    for text in &held {
        place.put(&name(text), text.as_bytes()).await;
    }
    let mut left = held.clone();
    while let Some(text) = left.pop() {
        let removed = take(&*storage, &name(&text)).await;
        assert!(matches!(removed, Removed::Erased | Removed::Trashed(_)), "{text:?}: {removed:?}");
        assert_eq!(place.get(&name(&text)).await, None, "{text:?}");
        for other in &left {
            let bytes = place.get(&name(other)).await;
            assert_eq!(bytes.as_deref(), Some(other.as_bytes()), "{text:?} was asked for, {other:?} is gone or changed");
        }
    }
    if place.abilities().trash {
        for text in &held {
            let item = in_trash(&*storage, &name(text)).await.unwrap_or_else(|| panic!("{text:?} is not in the trash"));
            assert_eq!(restore(&*storage, &item).await, Restored::Back, "{text:?}");
            assert_eq!(place.get(&name(text)).await.as_deref(), Some(text.as_bytes()), "{text:?}");
        }
    } else {
        for text in &held {
            place.put(&name(text), text.as_bytes()).await;
        }
    }
    // All at once, and each is found by a listing.
    let mut want = held.clone();
    want.sort_unstable();
    assert_eq!(files(&*storage, None).await, want);
    let mut items = Vec::new();
    for text in &held {
        items.push((name(text), seen(&*storage, &name(text)).await));
    }
    for (removed, text) in storage.remove(&items).await.unwrap().into_iter().zip(&held) {
        assert!(matches!(removed, Ok(Removed::Erased | Removed::Trashed(_))), "{text:?}: {removed:?}");
    }
    assert_eq!(files(&*storage, None).await, [""; 0]);
}

#[tokio::test]
async fn moto_deletes_exactly_the_key_that_was_asked_for() {
    deletes_exactly(S3Kind::Moto, Way::Erase).await;
}

#[tokio::test]
async fn s3s_fs_deletes_exactly_the_key_that_was_asked_for() {
    deletes_exactly(S3Kind::S3sFs, Way::Copies).await;
}

#[tokio::test]
async fn a_key_that_is_too_long_is_refused() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    let place = place(&server, Way::Erase).await;
    let storage = place.open(false);
    attach(&*storage).await;
    let long = name(&"x".repeat(1025 - PREFIX.len()));
    assert!(matches!(look(&*storage, &long).await, Stat::Refused(_)));
    let seen = FileVersion::new(1, Timestamp::UNIX_EPOCH, "\"x\"".into());
    assert_eq!(storage.remove(&[(long, seen)]).await.unwrap().remove(0).unwrap(), Removed::Changed);
}

#[tokio::test]
async fn the_probe_sees_what_each_server_honours() {
    for kind in S3Kind::here() {
        let server = Arc::new(S3Server::start(kind));
        let proved = |way, trash| {
            let server = server.clone();
            async move {
                let place = place(&server, way).await;
                let proved = place.open(trash).probe().await.unwrap();
                assert_eq!(place.bucket.keys("").await, [""; 0], "{kind}: the probe leaves nothing");
                if way.versioned() {
                    assert_eq!(place.bucket.versions("").await, [], "{kind}: the probe leaves no version");
                }
                if kind != S3Kind::Garage {
                    assert_eq!(proved.exact, kind == S3Kind::Moto, "{kind} {way:?}: `a//b` is another key than `a/b`");
                }
                (proved.delete, proved.create, proved.trash)
            }
        };
        let (delete, create) = match kind {
            S3Kind::S3sFs => (Conditional::No, true),
            S3Kind::Moto => (Conditional::OneByOne, true),
            S3Kind::Garage => (Conditional::No, false),
        };
        assert_eq!(proved(Way::Erase, false).await, (delete, create, TrashKind::No), "{kind}");
        assert_eq!(proved(Way::Copies, true).await, (delete, create, TrashKind::Copied), "{kind}");
        if kind.has_versions() {
            assert_eq!(proved(Way::Versions, true).await, (delete, create, TrashKind::Versions), "{kind}");
            assert_eq!(proved(Way::AllVersions, false).await, (delete, create, TrashKind::Versions), "{kind}");
            let place = place(&server, Way::Versions).await;
            let off = StoragePlan::at("s3", place.bucket.location(PREFIX)).trash(Trash::Off);
            let error = opened(&server, &off).probe().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.hint_text().unwrap().contains("all-versions"), "{error:?}");
            assert_eq!(place.bucket.versions("").await, []);
        }
    }
}

/// With what the probe proved in the marker, as `attach` writes it.
async fn attached(place: &BucketPlace, trash: bool) -> Arc<dyn Storage> {
    let storage = place.open(trash);
    let proved = storage.probe().await.unwrap();
    storage.set_marker(&Marker { proved: Some(proved), ..marker_of("suite") }).await.unwrap();
    storage.expect("suite");
    storage
}

#[tokio::test]
async fn a_file_that_is_replaced_after_the_last_look_stays() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    for way in [Way::Erase, Way::Copies, Way::Versions] {
        let mut place = place(&server, way).await;
        attached(&place, true).await;
        let proxy = FaultProxy::to_s3(&server);
        place.endpoint = Some(proxy.endpoint());
        let storage = place.open(place.abilities().trash);
        storage.expect("suite");
        place.put(&name("a"), b"old").await;
        let item = (name("a"), seen(&*storage, &name("a")).await);
        // The deletion is on its way when the file is replaced.
        proxy.rule(Rule::new(Fault::Hold).on([Ask::Delete, Ask::DeleteMany]).path("/media%20files/a").times(1));
        let asked = {
            let (storage, item) = (storage.clone(), item.clone());
            tokio::spawn(async move { storage.remove(&[item]).await })
        };
        proxy.held(1).await;
        place.put(&name("a"), b"new").await;
        proxy.release();
        let removed = asked.await.unwrap().unwrap().remove(0).unwrap();
        assert_eq!(removed, Removed::Changed, "{way:?}");
        assert_eq!(place.get(&name("a")).await.as_deref(), Some(&b"new"[..]), "{way:?}");
        assert_eq!(in_trash(&*storage, &name("a")).await, None, "{way:?}");
        assert!(storage.expired(Timestamp::MAX, None, 10).await.unwrap().files.is_empty(), "{way:?}");
    }
}

/// The second attempt of a conditional deletion finds nothing, and says that the condition does not hold. That was read as somebody else's deletion, and the
/// copy in the trash was erased.
#[tokio::test]
async fn a_deletion_whose_answer_is_lost_keeps_the_file_in_the_trash() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    let mut place = place(&server, Way::Copies).await;
    let storage = attached(&place, true).await;
    assert_ne!(storage.probe().await.unwrap().delete, Conditional::No, "the service honours conditions");
    let proxy = FaultProxy::to_s3(&server);
    place.endpoint = Some(proxy.endpoint());
    let storage = place.open(true);
    storage.expect("suite");
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Answer(503)] {
        place.put(&name("a/b.jpg"), b"bytes").await;
        let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
        proxy.rule(Rule::new(fault.clone()).on([Ask::Delete, Ask::DeleteMany]).times(1));
        let removed = storage.remove(&[item]).await.unwrap().remove(0).unwrap();
        proxy.clear();
        assert!(matches!(removed, Removed::Trashed(_)), "{fault:?}: {removed:?}");
        assert_eq!(place.get(&name("a/b.jpg")).await, None, "{fault:?}");
        let item = in_trash(&*storage, &name("a/b.jpg")).await.unwrap_or_else(|| panic!("{fault:?}: it is not in the trash"));
        assert_eq!(restore(&*storage, &item).await, Restored::Back, "{fault:?}");
        assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"bytes"[..]), "{fault:?}");
    }
    // A new upload comes between the two attempts: it stays, and so does what may be the only copy of the old one.
    let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
    proxy.rule(Rule::new(Fault::CutAfter).on([Ask::Delete, Ask::DeleteMany]).times(1));
    proxy.rule(Rule::new(Fault::Hold).on([Ask::Delete, Ask::DeleteMany]).times(1));
    let asked = {
        let storage = storage.clone();
        tokio::spawn(async move { storage.remove(&[item]).await })
    };
    proxy.held(1).await;
    place.put(&name("a/b.jpg"), b"new").await;
    proxy.release();
    let error = asked.await.unwrap().unwrap().remove(0).unwrap_err();
    assert_eq!(error.retry_status(), Retry::Later, "{}", error.full());
    assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"new"[..]));
    let kept = storage.expired(Timestamp::MAX, None, 10).await.unwrap().files;
    assert_eq!(kept.len(), 1, "the copy stays, and expires: {kept:?}");
}

/// Where conditions are ignored, a second attempt could delete what came under the name since the first: there is a look before it.
#[tokio::test]
async fn a_deletion_without_a_condition_is_not_sent_again_unseen() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    let proxy = FaultProxy::to_s3(&server);
    for (way, trash) in [(Way::Copies, true), (Way::Erase, false)] {
        let mut place = place(&server, way).await;
        let storage = attached(&place, trash).await;
        assert_eq!(storage.probe().await.unwrap().delete, Conditional::No);
        place.endpoint = Some(proxy.endpoint());
        let storage = place.open(trash);
        storage.expect("suite");
        for (fault, asked) in [(Fault::CutAfter, 1), (Fault::CutBefore, if trash { 2 } else { 1 })] {
            place.put(&name("a/b.jpg"), b"bytes").await;
            let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
            proxy.reset_counts();
            proxy.rule(Rule::new(fault.clone()).on([Ask::Delete, Ask::DeleteMany]).times(1));
            let removed = storage.remove(&[item]).await.unwrap().remove(0);
            proxy.clear();
            match removed {
                Ok(removed) => assert!(trash && matches!(removed, Removed::Trashed(_)), "{way:?} {fault:?}: {removed:?}"),
                Err(error) => assert!(!trash && error.retry_status() == Retry::Later, "{way:?} {fault:?}: {}", error.full()),
            }
            assert_eq!(proxy.count(Ask::Delete) + proxy.count(Ask::DeleteMany), asked, "{way:?} {fault:?}");
            assert_eq!(in_trash(&*storage, &name("a/b.jpg")).await.is_some(), trash, "{way:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_service_is_said() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    let place = place(&server, Way::Erase).await;
    attach(&*place.open(false)).await;
    let Location::S3(at) = place.bucket.location(PREFIX) else { unreachable!() };
    let plan = StoragePlan::at("s3", Location::S3(at.clone()));
    let said = async |at: rowbound::plan::Bucket, secret: &str| {
        let storage = S3::with_key(&plan, &at, server.access_key(), secret);
        storage.expect("suite");
        let error = storage.stat(&[name("a")]).await.unwrap_err();
        assert!(error.hint_text().is_some_and(|h| !h.is_empty()), "{error:?}");
        (error.kind(), error.retry_status(), error.full())
    };
    let secret = server.secret_key();
    let (kind, retry, text) = said(rowbound::plan::Bucket { bucket: "rb-not-there".into(), ..at.clone() }, secret).await;
    assert_eq!((kind, retry), (Kind::StorageUnreachable, Retry::Later), "{text}");
    let (kind, retry, text) = said(at.clone(), "another secret").await;
    assert_eq!((kind, retry), (Kind::Permission, Retry::Never), "{text}");
    assert!(text.contains("SignatureDoesNotMatch") && !text.contains("another secret"), "{text}");
    server.stop();
    let (kind, retry, text) = said(at, secret).await;
    assert_eq!((kind, retry), (Kind::StorageUnreachable, Retry::Later), "{text}");
}

#[tokio::test]
async fn a_batch_of_which_a_part_is_forbidden_settles_the_rest() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    let mut place = place(&server, Way::Erase).await;
    let storage = attached(&place, false).await;
    let names: Vec<String> = (0..30).map(|i| format!("many/{i:02}")).collect();
    let mut items = Vec::new();
    for text in &names {
        place.put(&name(text), b"x").await;
        items.push((name(text), seen(&*storage, &name(text)).await));
    }
    let proxy = FaultProxy::to_s3(&server);
    place.endpoint = Some(proxy.endpoint());
    let forbidden: Vec<String> = (0..30).step_by(3).map(|i| format!("{PREFIX}{}", names[i])).collect();
    proxy.rule(Rule::new(Fault::FailKeys(forbidden, "AccessDenied".into())).on([Ask::DeleteMany]));
    let storage = place.open(false);
    storage.expect("suite");
    for (i, removed) in storage.remove(&items).await.unwrap().into_iter().enumerate() {
        if i % 3 == 0 {
            let error = removed.unwrap_err();
            assert_eq!((error.kind(), error.retry_status()), (Kind::Permission, Retry::Never));
            assert!(error.to_string().contains("s3:DeleteObject") && error.to_string().contains(&names[i]), "{error}");
            assert!(place.get(&name(&names[i])).await.is_some());
        } else {
            assert_eq!(removed.unwrap(), Removed::Erased);
            assert_eq!(place.get(&name(&names[i])).await, None);
        }
    }
}

#[tokio::test]
async fn a_service_that_stumbles_is_asked_again() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    for fault in [Fault::Answer(503), Fault::Answer(500), Fault::CutBefore, Fault::CutAfter, Fault::Truncate(20)] {
        let mut place = place(&server, Way::Copies).await;
        attached(&place, true).await;
        let proxy = FaultProxy::to_s3(&server);
        place.endpoint = Some(proxy.endpoint());
        let storage = place.open(true);
        storage.expect("suite");
        let names: Vec<String> = (0..40).map(|i| format!("many/{i:02}")).collect();
        for text in &names {
            place.put(&name(text), text.as_bytes()).await;
        }
        proxy.rule(Rule::new(fault.clone()).every(4));
        let files: Vec<_> = names.iter().map(|n| name(n)).collect();
        let mut gone = 0;
        // What did not go now goes later, and nothing goes without a copy. Which requests fail, depends on the order in which they come.
        for _ in 0..200 {
            let mut items = Vec::new();
            let Ok(looked) = storage.stat(&files).await else { continue };
            let mut unknown = false;
            for (file, look) in files.iter().zip(looked) {
                match look {
                    Ok(Stat::File(seen)) => items.push((file.clone(), seen)),
                    Ok(_) => {}
                    Err(_) => unknown = true,
                }
            }
            if items.is_empty() && !unknown {
                break;
            }
            let Ok(removed) = storage.remove(&items).await else { continue };
            gone += removed.iter().filter(|r| matches!(r, Ok(Removed::Trashed(_)))).count();
        }
        proxy.clear();
        assert!(gone <= 40);
        for file in &files {
            assert_eq!(place.get(file).await, None, "{fault:?}");
            let item = in_trash(&*storage, file).await.unwrap_or_else(|| panic!("{fault:?}: {file:?} is lost"));
            assert_eq!(restore(&*storage, &item).await, Restored::Back);
            assert_eq!(place.get(file).await.as_deref(), Some(file.as_str().as_bytes()));
        }
    }
}

#[tokio::test]
async fn markers_that_others_left_do_not_expire() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    let place = place(&server, Way::Versions).await;
    let storage = attached(&place, true).await;
    for text in ["theirs", "ours", "restored"] {
        place.put(&name(text), text.as_bytes()).await;
    }
    place.bucket.delete(&format!("{PREFIX}theirs")).await;
    for text in ["ours", "restored"] {
        take(&*storage, &name(text)).await;
    }
    let item = in_trash(&*storage, &name("restored")).await.unwrap();
    assert_eq!(restore(&*storage, &item).await, Restored::Back);
    place.bucket.delete(&format!("{PREFIX}restored")).await;
    let all = storage.expired(Timestamp::MAX, None, 10).await.unwrap().files;
    assert_eq!(all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["ours"]);
    assert!(storage.purge(&all).await.unwrap().remove(0).unwrap());
    assert_eq!(place.bucket.versions(&format!("{PREFIX}ours")).await, [], "no version is left");
    assert!(storage.expired(Timestamp::MAX, None, 10).await.unwrap().files.is_empty());
    assert_eq!(place.bucket.versions(&format!("{PREFIX}.rowbound/trash/")).await, [], "no manifest is left");
    // A person can still have back what was deleted by others.
    let item = in_trash(&*storage, &name("theirs")).await.unwrap();
    assert_eq!(restore(&*storage, &item).await, Restored::Back);
}

#[tokio::test]
async fn a_batch_that_was_never_settled_expires_all_the_same() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    for way in [Way::Versions, Way::Copies] {
        let mut place = place(&server, way).await;
        attached(&place, true).await;
        let proxy = FaultProxy::to_s3(&server);
        place.endpoint = Some(proxy.endpoint());
        let storage = place.open(true);
        storage.expect("suite");
        place.put(&name("a"), b"a").await;
        // The manifest is written before the batch; writing it again fails.
        proxy.rule(Rule::new(Fault::Answer(403)).on([Ask::Put]).path("/trash/").skip(1));
        assert!(matches!(take(&*storage, &name("a")).await, Removed::Trashed(_)));
        proxy.clear();
        let all = storage.expired(Timestamp::MAX, None, 10).await.unwrap().files;
        assert_eq!(all.len(), 1, "{way:?}");
        assert_eq!(Some(&all[0]), in_trash(&*storage, &name("a")).await.as_ref(), "{way:?}");
        assert!(storage.purge(&all).await.unwrap().remove(0).unwrap());
        assert!(storage.expired(Timestamp::MAX, None, 10).await.unwrap().files.is_empty());
    }
}

#[tokio::test]
async fn every_version_of_exactly_this_key_is_erased() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    let place = place(&server, Way::AllVersions).await;
    let storage = attached(&place, false).await;
    for _ in 0..3 {
        for text in ["a", "a/b", "ab"] {
            place.put(&name(text), text.as_bytes()).await;
        }
        place.bucket.delete(&format!("{PREFIX}a")).await;
        place.put(&name("a"), b"again").await;
    }
    assert_eq!(take(&*storage, &name("a")).await, Removed::Erased);
    let left = place.bucket.versions(&format!("{PREFIX}a")).await;
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().all(|v| !v.marker && v.key != format!("{PREFIX}a")), "{left:?}");
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error() {
    let server = Arc::new(S3Server::start(S3Kind::S3sFs));
    let mut place = place(&server, Way::Erase).await;
    attached(&place, false).await;
    for i in 0..1500 {
        place.put(&name(&format!("f{i:04}")), b"").await;
    }
    let proxy = FaultProxy::to_s3(&server);
    place.endpoint = Some(proxy.endpoint());
    let storage = place.open(false);
    storage.expect("suite");
    for fault in [Fault::Answer(403), Fault::Answer(500), Fault::Truncate(300), Fault::CutBefore] {
        proxy.rule(Rule::new(fault.clone()).on([Ask::List]).skip(1));
        let ended = rowbound_testkit::storage_suite::drain(storage.list("", None).await.unwrap()).await;
        assert!(ended.is_err(), "{fault:?}");
        proxy.clear();
    }
    assert_eq!(files(&*storage, None).await.len(), 1500);
}

#[tokio::test]
async fn many_looks_are_one_listing_and_see_the_same() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    let mut place = place(&server, Way::Erase).await;
    attached(&place, false).await;
    let proxy = FaultProxy::to_s3(&server);
    place.endpoint = Some(proxy.endpoint());
    let storage = place.open(false);
    storage.expect("suite");
    let names: Vec<FileName> = (0..40).map(|i| name(&format!("a{}/f{i:02}", i % 2))).collect();
    for name in &names[..35] {
        place.put(name, name.as_str().as_bytes()).await;
    }
    let looked = storage.stat(&names).await.unwrap();
    // One listing for each folder, and one that shows how the service encodes; what they do not hold is asked for once more.
    assert_eq!((proxy.count(Ask::List), proxy.count(Ask::Head)), (3, 5));
    for (i, (name, many)) in names.iter().zip(looked).enumerate() {
        let many = many.unwrap();
        assert_eq!(matches!(many, Stat::Missing), i >= 35);
        assert_eq!(many, look(&*storage, name).await, "{name}");
    }
    let asks = [Ask::Head, Ask::Get, Ask::List, Ask::Put, Ask::DeleteMany];
    assert_eq!(storage.requests(), asks.iter().map(|ask| proxy.count(*ask)).sum::<u64>());
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let server = S3Server::start(S3Kind::Moto);
    let Location::S3(at) = server.bucket().await.location("") else { unreachable!() };
    let at = rowbound::plan::Bucket { bucket: "rb-not-there".into(), ..at };
    let error = opened(&server, &StoragePlan::at("s3", Location::S3(at))).marker().await.unwrap_err();
    assert_eq!(error.kind(), Kind::StorageUnreachable);
    assert!(error.full().contains("NoSuchBucket") && error.hint_text().is_some(), "{error:?}");
}

/// The ids of the uploads in parts that the bucket knows of.
async fn unfinished(bucket: &S3Bucket) -> Vec<String> {
    let listed = bucket.client().list_multipart_uploads().bucket(bucket.name()).send().await.expect("moto lists them");
    listed.uploads().iter().map(|u| u.upload_id().expect("an id").to_owned()).collect()
}

/// As a process that is killed in the middle of it leaves it.
async fn killed_amid(storage: &dyn Storage, text: &str) {
    let mut upload = storage.begin(&name(text), &PutOptions::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    for _ in 0..2 {
        upload.write(vec![7; 6 << 20].into()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    }
    std::mem::forget(upload);
}

/// Sets the last heartbeat of every upload back.
async fn forgotten(bucket: &S3Bucket, hours: i64) {
    for key in bucket.keys(&format!("{PREFIX}.rowbound/uploads/")).await {
        let mut record: serde_json::Value = serde_json::from_slice(&bucket.get(&key).await.expect("a record")).expect("JSON");
        record["at"] = (Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string().into();
        bucket.put(&key, record.to_string().as_bytes()).await;
    }
}

/// tus, Uppy: parts of an upload that nobody ends stay on S3.
#[tokio::test(flavor = "multi_thread")]
async fn moto_loses_the_parts_of_a_killed_upload_after_a_day_and_no_others() {
    let server = Arc::new(S3Server::start(S3Kind::Moto));
    for way in [Way::Erase, Way::Versions] {
        let place = place(&server, way).await;
        let trash = place.abilities().trash;
        let storage = attached(&place, trash).await;
        let others =
            place.bucket.client().create_multipart_upload().bucket(place.bucket.name()).key(format!("{PREFIX}theirs")).send().await;
        let others = others.expect("an upload").upload_id().expect("an id").to_owned();
        killed_amid(&*storage, "d/killed").await;
        assert_eq!(unfinished(&place.bucket).await.len(), 2);
        let records = async || place.bucket.keys(&format!("{PREFIX}.rowbound/uploads/")).await.len();
        assert_eq!(records().await, 1);

        // A file that comes in whole leaves neither record nor parts, and the young one alone.
        let again = async |hours: i64| {
            forgotten(&place.bucket, hours).await;
            let storage = place.open(trash); // as another process
            storage.expect("suite");
            storage
        };
        let other = again(23).await;
        let mut upload = other.begin(&name("d/whole"), &PutOptions::default()).await.unwrap();
        upload.write(vec![1; 11 << 20].into()).await.unwrap();
        assert_eq!(upload.publish(&name("d/whole"), PutMode::Create).await.unwrap(), PutResult::Stored);
        assert_eq!((records().await, unfinished(&place.bucket).await.len()), (1, 2), "{way:?}");
        // It tells when it was begun, not when it came to be.
        let since = seen(&*other, &name("d/whole")).await.since;
        assert!(matches!(since, Since::Unknown(_)), "{since:?}");

        // After a day whoever removes something ends it, and what others began goes on.
        let other = again(25).await;
        take(&*other, &name("d/whole")).await;
        wait_until(Duration::from_secs(30), "the killed upload is aborted", async || {
            unfinished(&place.bucket).await == [others.as_str()] && records().await == 0
        })
        .await;

        // So does whoever uploads; and `detach` ends those that are young, too.
        killed_amid(&*storage, "d/killed").await;
        let other = again(25).await;
        killed_amid(&*other, "d/again").await;
        wait_until(Duration::from_secs(30), "one of the two is aborted", async || records().await == 1).await;
        assert_eq!(unfinished(&place.bucket).await.len(), 2);
        storage.remove_marker().await.unwrap_or_else(|e| panic!("{}", e.full()));
        assert_eq!(unfinished(&place.bucket).await, [others.as_str()], "{way:?}");
        assert_eq!(records().await, 0);
    }
}
