//! Services through OpenDAL, on real servers: what the suite (tests/storage.rs) does not ask. What the library and the servers do on
//! their own, and what is refused.

use std::{fs, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use rowbound::{
    Kind, StoragePlan, Trash,
    plan::Location,
    storage::{self, Access, Conditional, Listed, Removed, Restored, SkipReason, Stat, TrashKind, services},
};
use rowbound_testkit::{
    Ask, Fault, FaultProxy, Rule,
    services::{ServicePlace, ServiceServer, ServiceServerKind},
    storage_suite::{self as suite, Place, attach, drain, look, name, seen},
};

const DAY: Duration = Duration::from_secs(86_400);

async fn storage_at(place: &ServicePlace, trash: Trash) -> Arc<dyn storage::Storage> {
    let storage = storage::open(&place.plan(trash)).unwrap_or_else(|e| panic!("{}", e.full()));
    attach(&*storage).await;
    storage
}

/// Those that serve a folder.
const BOTH: [ServiceServerKind; 2] = [ServiceServerKind::Webdav, ServiceServerKind::Sftp];

const ALL: [ServiceServerKind; 3] = [ServiceServerKind::Webdav, ServiceServerKind::Sftp, ServiceServerKind::Azblob];

#[tokio::test]
async fn what_was_tried_is_what_is_told() {
    for kind in ALL {
        let place = ServicePlace::new(&Arc::new(ServiceServer::start(kind)));
        let keeps = if kind == ServiceServerKind::Azblob { TrashKind::Copied } else { TrashKind::Moved };
        for (trash, kept) in [(Trash::Keep(DAY), keeps), (Trash::Off, TrashKind::No), (Trash::IfVersioned(DAY), TrashKind::No)] {
            let storage = storage::open(&place.plan(trash)).unwrap();
            let proved = storage.probe().await.unwrap();
            assert_eq!((proved.trash, proved.delete), (kept, Conditional::OneByOne), "{kind:?} {trash:?}");
            assert_eq!(proved.create, kind != ServiceServerKind::Webdav, "{kind:?}");
        }
        assert_eq!(place.own().await, [""; 0]);
    }
}

#[tokio::test]
async fn without_a_trash_in_the_plan_files_are_erased() {
    for kind in ALL {
        let place = ServicePlace::new(&Arc::new(ServiceServer::start(kind)));
        let storage = storage_at(&place, Trash::IfVersioned(DAY)).await;
        place.put(&name("a/b.jpg"), b"1").await;
        assert_eq!(suite::take(&*storage, &name("a/b.jpg")).await, Removed::Erased);
        assert_eq!(place.own().await, ["storage.json"], "{kind:?}");
    }
}

#[tokio::test]
async fn a_name_that_the_library_would_trim_reaches_no_other_file() {
    for kind in ALL {
        let place = ServicePlace::new(&Arc::new(ServiceServer::start(kind)));
        let storage = storage_at(&place, Trash::Off).await;
        place.put(&name("photo.jpg"), b"1").await;
        let before = storage.requests();
        for odd in ["photo.jpg ", " photo.jpg", "photo.jpg\u{2003}", "photo.jpg\n"] {
            let Stat::Refused(why) = look(&*storage, &name(odd)).await else { panic!("{odd:?} is not refused") };
            assert!(why.contains("another name"), "{why}");
            let forged = seen(&*storage, &name("photo.jpg")).await;
            assert_eq!(storage.remove(&[(name(odd), forged)]).await.unwrap().remove(0).unwrap(), Removed::Changed);
            assert_eq!(suite::in_trash(&*storage, &name(odd)).await, None);
        }
        assert!(storage.requests() > before);
        assert_eq!(place.get(&name("photo.jpg")).await.as_deref(), Some(&b"1"[..]));
    }
}

#[tokio::test]
async fn a_folder_or_a_pipe_is_no_file() {
    for kind in BOTH {
        let place = ServicePlace::new(&Arc::new(ServiceServer::start(kind)));
        let storage = storage_at(&place, Trash::Off).await;
        place.put(&name("a/b.jpg"), b"1").await;
        assert!(matches!(look(&*storage, &name("a")).await, Stat::Refused(_)), "{kind:?}");
        let forged = seen(&*storage, &name("a/b.jpg")).await;
        assert_eq!(storage.remove(&[(name("a"), forged)]).await.unwrap().remove(0).unwrap(), Removed::Changed);
        assert!(place.get(&name("a/b.jpg")).await.is_some());
        if kind == ServiceServerKind::Sftp {
            let made = std::process::Command::new("mkfifo").arg(place.root().join("pipe")).status().unwrap();
            assert!(made.success());
            assert!(matches!(look(&*storage, &name("pipe")).await, Stat::Refused(_)));
            let (entries, last) = drain(storage.list("", None).await.unwrap()).await.unwrap();
            assert_eq!(entries, [Listed::File(name("a/b.jpg")), Listed::Skipped("pipe".into(), SkipReason::NotAFile)]);
            assert!(last);
        }
    }
}

/// OpenDAL fails on such a name over SFTP; WsgiDAV leaves it out of its listings.
#[tokio::test]
async fn a_name_that_is_not_utf8_ends_a_listing_over_sftp() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Sftp)));
    let storage = storage_at(&place, Trash::Off).await;
    place.put(&name("a/b.jpg"), b"1").await;
    fs::write(place.root().join(std::ffi::OsStr::from_bytes(b"x\xff")), b"1").unwrap();
    let error = drain(storage.list("", None).await.unwrap()).await.unwrap_err();
    assert!(error.full().contains("the listing could not be completed"), "{}", error.full());
    // The rest goes on.
    assert_eq!(suite::take(&*storage, &name("a/b.jpg")).await, Removed::Erased);
}

/// What docs/storages.md says of links.
#[tokio::test]
async fn a_link_is_removed_or_stays_and_its_file_stays() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Sftp)));
    let storage = storage_at(&place, Trash::Off).await;
    place.put(&name("real.jpg"), b"1").await;
    let link = place.root().join("link.jpg");
    std::os::unix::fs::symlink(place.root().join("real.jpg"), &link).unwrap();
    assert_eq!(suite::take(&*storage, &name("link.jpg")).await, Removed::Erased);
    assert!(fs::symlink_metadata(&link).is_err());
    // Seen from the trash, a relative link leads elsewhere.
    std::os::unix::fs::symlink("real.jpg", &link).unwrap();
    let item = (name("link.jpg"), seen(&*storage, &name("link.jpg")).await);
    let error = storage.remove(&[item]).await.unwrap().remove(0).unwrap_err();
    assert!(error.full().contains("is it a link?"), "{}", error.full());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(place.get(&name("real.jpg")).await.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_server_that_is_gone_is_no_empty_storage() {
    for kind in ALL {
        let server = Arc::new(ServiceServer::start(kind));
        let place = ServicePlace::new(&server);
        let storage = storage_at(&place, Trash::Keep(DAY)).await;
        place.put(&name("a/b.jpg"), b"1").await;
        let seen = seen(&*storage, &name("a/b.jpg")).await;
        server.kill();
        let fresh = storage::open(&place.plan(Trash::Keep(DAY))).unwrap();
        let begun = std::time::Instant::now();
        let error = fresh.marker().await.unwrap_err();
        assert_eq!(error.kind(), Kind::StorageUnreachable, "{}", error.full());
        assert_eq!(error.retry_status(), rowbound::Retry::Later);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        fresh.expect("suite");
        for error in [
            fresh.stat(&[name("a/b.jpg")]).await.unwrap_err(),
            fresh.remove(&[(name("a/b.jpg"), seen.clone())]).await.unwrap_err(),
            fresh.list("", None).await.unwrap_err(),
            fresh.expired(jiff::Timestamp::MAX, None, 1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::StorageUnreachable, "{}", error.full());
            for secret in ["rowbound-test-password", "cm93Ym91bmQtdGVzdC1wYXNzd29yZA"] {
                assert!(!error.full().contains(secret), "{}", error.full());
            }
        }
    }
}

/// As WsgiDAV does when two removals need the same new folder at once.
#[tokio::test]
async fn a_move_that_fails_for_the_moment_is_made_again() {
    let server = Arc::new(ServiceServer::start(ServiceServerKind::Webdav));
    let proxy = FaultProxy::to(([127, 0, 0, 1], server.port()).into());
    let place = ServicePlace::new(&server).through(&proxy.endpoint());
    let storage = storage_at(&place, Trash::Keep(DAY)).await;
    // The first removal tries what the service can.
    place.put(&name("first"), b"1").await;
    suite::take(&*storage, &name("first")).await;
    for (ask, fault) in [(Ask::MakeFolder, Fault::Answer(500)), (Ask::Move, Fault::Answer(500)), (Ask::Move, Fault::CutAfter)] {
        place.put(&name("a/b.jpg"), b"1").await;
        proxy.reset_counts();
        proxy.rule(Rule::new(fault.clone()).on([ask]).times(1));
        assert!(matches!(suite::take(&*storage, &name("a/b.jpg")).await, Removed::Trashed(_)), "{ask:?} {fault:?}");
        proxy.clear();
        // What took effect is not done again.
        assert_eq!(proxy.count(Ask::Move), if (ask, &fault) == (Ask::Move, &Fault::Answer(500)) { 2 } else { 1 }, "{ask:?} {fault:?}");
        proxy.rule(Rule::new(fault.clone()).on([ask]).times(1));
        let item = suite::in_trash(&*storage, &name("a/b.jpg")).await.unwrap();
        assert_eq!(storage.restore(&[item]).await.unwrap().remove(0).unwrap(), Restored::Back, "{ask:?} {fault:?}");
        proxy.clear();
        assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"1"[..]));
    }
    // What lasts is an error, and the file stays.
    proxy.rule(Rule::new(Fault::Answer(500)).on([Ask::Move]));
    let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
    let error = storage.remove(&[item]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(error.retry_status(), rowbound::Retry::Later, "{}", error.full());
    assert!(place.get(&name("a/b.jpg")).await.is_some());
}

#[tokio::test]
async fn a_wrong_login_is_an_error_and_shows_no_secret() {
    let server = ServiceServer::start(ServiceServerKind::Webdav);
    let (_, url) = server.folder();
    let location = Location::parse(&url.replace("rowbound-test-password", "not%20the%20password"), std::path::Path::new("/")).unwrap();
    let error = storage::open(&StoragePlan::at("default", location)).unwrap().marker().await.unwrap_err();
    assert!(error.hint_text().is_some());
    assert!(!error.full().contains("not the password") && !error.full().contains("not%20the"), "{}", error.full());
}

#[tokio::test]
async fn a_wrong_key_is_an_error_and_shows_no_secret() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Azblob)));
    let Location::Service(mut at) = place.plan(Trash::Off).location else { panic!("a service") };
    at.options.insert("account_key".to_owned(), "bm90IHRoZSBrZXk=".to_owned());
    let error = storage::open(&StoragePlan::at("default", Location::Service(at))).unwrap().marker().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Permission, "{}", error.full());
    assert!(error.hint_text().is_some());
    assert!(!error.full().contains("bm90IHRoZSBrZXk"), "{}", error.full());
}

/// Azure takes `\` for `/`, and so does Azurite: until names with one were refused, `attach` refused every container.
#[tokio::test]
async fn azblob_a_name_with_a_backslash_reaches_no_other_file() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Azblob)));
    for trash in [Trash::Off, Trash::Keep(DAY)] {
        let storage = storage_at(&place, trash).await;
        // What the application writes under the one name lies under the other.
        place.put(&name("a\\b.jpg"), b"1").await;
        assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"1"[..]));
        for odd in ["a\\b.jpg", "a/b.jpg\n", "a/\tb.jpg", "a/b.jpg.", "a./b.jpg"] {
            let Stat::Refused(why) = look(&*storage, &name(odd)).await else { panic!("{odd:?} is not refused") };
            assert!(why.contains("another name"), "{why}");
            let forged = seen(&*storage, &name("a/b.jpg")).await;
            assert_eq!(storage.remove(&[(name(odd), forged)]).await.unwrap().remove(0).unwrap(), Removed::Changed);
            assert_eq!(suite::in_trash(&*storage, &name(odd)).await, None);
        }
        assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"1"[..]));
        assert_eq!(drain(storage.list("", None).await.unwrap()).await.unwrap().0, [Listed::File(name("a/b.jpg"))]);
    }
}

/// The second attempt of a conditional deletion finds nothing, and says that the condition does not hold. That was read as somebody else's deletion, and the
/// copy in the trash was erased.
#[tokio::test]
async fn azblob_a_deletion_whose_answer_is_lost_keeps_the_file_in_the_trash() {
    let server = Arc::new(ServiceServer::start(ServiceServerKind::Azblob));
    let proxy = FaultProxy::to(([127, 0, 0, 1], server.port()).into());
    let place = ServicePlace::new(&server).through(&proxy.endpoint());
    let storage = storage_at(&place, Trash::Keep(DAY)).await;
    // The first removal tries what the service can.
    place.put(&name("first"), b"1").await;
    suite::take(&*storage, &name("first")).await;
    for (ask, fault, asked) in [
        (Ask::Delete, Fault::CutAfter, 1),
        (Ask::Delete, Fault::Answer(503), 2),
        (Ask::Delete, Fault::CutBefore, 2),
        (Ask::Copy, Fault::Answer(503), 2),
        (Ask::Copy, Fault::CutBefore, 2),
    ] {
        place.put(&name("a/b.jpg"), b"bytes").await;
        proxy.reset_counts();
        proxy.rule(Rule::new(fault.clone()).on([ask]).times(1));
        assert!(matches!(suite::take(&*storage, &name("a/b.jpg")).await, Removed::Trashed(_)), "{ask:?} {fault:?}");
        proxy.clear();
        assert_eq!(proxy.count(ask), asked, "{ask:?} {fault:?}");
        assert_eq!(place.get(&name("a/b.jpg")).await, None);
        let item =
            suite::in_trash(&*storage, &name("a/b.jpg")).await.unwrap_or_else(|| panic!("{ask:?} {fault:?}: it is not in the trash"));
        assert_eq!(storage.restore(&[item]).await.unwrap().remove(0).unwrap(), Restored::Back, "{ask:?} {fault:?}");
        assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"bytes"[..]));
    }
    // A copy whose answer is lost is an error, and the file stays.
    proxy.rule(Rule::new(Fault::CutAfter).on([Ask::Copy]).times(1));
    let item = (name("a/b.jpg"), seen(&*storage, &name("a/b.jpg")).await);
    let error = storage.remove(&[item]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(error.retry_status(), rowbound::Retry::Later, "{}", error.full());
    assert_eq!(place.get(&name("a/b.jpg")).await.as_deref(), Some(&b"bytes"[..]));
    assert_eq!(suite::in_trash(&*storage, &name("a/b.jpg")).await, None, "what was left of it is erased");
}

/// `OpenDAL` signs with a shared access signature by appending it: the whole container would have been in the hands of whoever got a URL.
#[tokio::test]
async fn azblob_a_shared_access_signature_works_and_is_in_no_signed_url() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Azblob))).with_token();
    let storage = storage_at(&place, Trash::Keep(DAY)).await;
    place.put(&name("a/b.jpg"), b"1").await;
    for access in [Access::Get, Access::Put { size: 1, content_type: "image/jpeg".to_owned() }] {
        let error = storage.sign(&name("a/b.jpg"), &access, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{}", error.full());
        assert!(!error.full().contains("sig="), "{}", error.full());
    }
    assert!(matches!(suite::take(&*storage, &name("a/b.jpg")).await, Removed::Trashed(_)));
}

/// Accounts with a hierarchical namespace show each folder as an empty blob besides.
#[tokio::test]
async fn azblob_what_stands_for_a_folder_is_no_file() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Azblob)));
    let storage = storage_at(&place, Trash::Off).await;
    place.put(&name("a/b.jpg"), b"1").await;
    let forged = seen(&*storage, &name("a/b.jpg")).await;
    place.put_folder_mark(&name("a")).await;
    assert!(matches!(look(&*storage, &name("a")).await, Stat::Refused(_)));
    assert_eq!(storage.remove(&[(name("a"), forged)]).await.unwrap().remove(0).unwrap(), Removed::Changed);
    assert!(place.get(&name("a")).await.is_some());
}

#[tokio::test]
async fn a_place_that_is_not_in_the_trash_is_refused() {
    for kind in [ServiceServerKind::Webdav, ServiceServerKind::Azblob] {
        let place = ServicePlace::new(&Arc::new(ServiceServer::start(kind)));
        no_place_but_one_in_the_trash(&place).await;
    }
}

async fn no_place_but_one_in_the_trash(place: &ServicePlace) {
    let storage = storage_at(place, Trash::Keep(DAY)).await;
    place.put(&name("a"), b"1").await;
    suite::take(&*storage, &name("a")).await;
    let item = suite::in_trash(&*storage, &name("a")).await.unwrap();
    for bad in ["", "a", "x/a", "../a", "1700000000000-12345678/b", "/a"] {
        let forged = storage::Trashed { place: bad.to_owned(), ..item.clone() };
        for error in [
            storage.purge(std::slice::from_ref(&forged)).await.unwrap().remove(0).map(drop),
            storage.restore(std::slice::from_ref(&forged)).await.unwrap().remove(0).map(drop),
        ] {
            assert_eq!(error.unwrap_err().kind(), Kind::NotFound, "{bad:?}");
        }
    }
    assert_eq!(suite::in_trash(&*storage, &name("a")).await, Some(item));
}

#[test]
fn a_wrong_url_says_what_is_wrong() {
    for (url, why) in [
        ("webdav://host/media?pasword=x", "\"pasword\""),
        ("webdav://me:hush@host/media", "credentials"),
        ("webdav:///media", "endpoint"),
        ("sftp:///media", "endpoint"),
        ("sftp://me:hush@host/media", "credentials"),
        ("sftp://host/media?known_hosts_strategy=perhaps", "known_hosts"),
        ("webdav://host/a/../b", "`..` segment"),
        ("webdav://host/a?disable_create_dir=hush", "wrong kind"),
        ("azblob:///media?endpoint=http://host", "container"),
        ("azblob://media/files?account_name=a", "endpoint"),
        ("azblob://media/files?endpoint=http://host&account_name=a&account_key=hush!", "account_key"),
        ("gopher://host/media", "no kind of storage"),
    ] {
        let location = Location::parse(url, std::path::Path::new("/")).unwrap();
        let error = storage::open(&StoragePlan::at("default", location)).map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{url}");
        assert!(error.full().contains(why), "{url}: {}", error.full());
        assert!(!error.full().contains("hush"), "{url}: {}", error.full());
    }
}

#[test]
fn services_are_documented() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/storages.md");
    let stands = fs::read_to_string(&path).expect("docs/storages.md");
    let (begin, end) = ("<!-- services -->\n", "<!-- end of services -->");
    let (before, rest) = stands.split_once(begin).expect("docs/storages.md has no mark where the table begins");
    let (_, after) = rest.split_once(end).expect("docs/storages.md has no mark where the table ends");
    let wanted = format!("{before}{begin}\n{}\n{end}{after}", services::table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).expect("cannot write docs/storages.md");
        return;
    }
    assert!(stands == wanted, "the table in docs/storages.md is not what the code says: run this test with UPDATE_DOCS=1");
}
