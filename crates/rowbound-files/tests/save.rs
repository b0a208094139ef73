//! What `save` keeps, refuses and leaves behind; on SQLite and a folder, because nothing here depends on either.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rowbound::{
    Binding, StoragePlan, Trash,
    collect::Settings,
    queue::{Announce, Outcome},
};
use rowbound_files::{BoxError, Error, Field, File, FileName, Files, ImageFile, Kind, Media, Processed, Spec, Upload, Value};
use rowbound_testkit::{Backend, World, wait_until};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(20);

/// A GIF of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

async fn world() -> World {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    world.storage(|s| s.min_age(Duration::from_millis(100)).base_url("/media/").trash(Trash::Keep(Duration::from_secs(86_400))))
}

/// Opens what the world has with these fields instead of its bindings.
async fn open<T: Value>(world: &World, field: &Field<T>) -> (Media, Files<T>) {
    let opened = Media::builder(world.db.url()).storage(world.storage.clone()).field(field).attach().await;
    let media = opened.unwrap_or_else(|e| panic!("{}", e.full()));
    let files = media.files(field).unwrap_or_else(|e| panic!("{}", e.full()));
    (media, files)
}

fn doc() -> Field<File> {
    Field::file("doc.file").upload_to("d")
}

async fn save<T: Value>(files: &Files<T>, name: &str, bytes: &[u8]) -> T {
    files.save(Upload::bytes(name, bytes.to_vec())).await.unwrap_or_else(|e| panic!("{name}: {}", e.full()))
}

/// Collects until nothing waits.
async fn collected(media: &Media) {
    let collector = media.collector(Settings::default()).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    wait_until(DEADLINE, "nothing waits", async || {
        collector.drain(&stopped).await.unwrap_or_else(|e| panic!("{}", e.full()));
        waiting(media).await == 0
    })
    .await;
}

async fn waiting(media: &Media) -> u64 {
    let collector = media.collector(Settings::default()).await;
    match collector {
        Ok(collector) => collector.metrics().await.unwrap().storages.values().map(|s| s.backlog).sum(),
        // The one worker is the caller.
        Err(_) => {
            media
                .database()
                .backlog(&rowbound::queue::Claim {
                    storage: "default".into(),
                    bindings: vec![1],
                    grace: Duration::ZERO,
                    limit: 1,
                    owner: String::new(),
                    lease: Duration::ZERO,
                    not_due_too: false,
                    counted: false,
                })
                .await
                .unwrap()
                .total
        }
    }
}

#[tokio::test]
async fn a_saved_file_stays_with_its_row_and_goes_without_one() {
    let world = world().await;
    let (media, files) = open(&world, &doc()).await;
    let (kept, lost) = (save(&files, "kept.txt", b"1").await, save(&files, "lost.txt", b"2").await);
    assert_eq!((kept.as_str(), lost.as_str()), ("d/kept.txt", "d/lost.txt"));
    assert_eq!(world.files(), ["d/kept.txt", "d/lost.txt"]);
    world.db.exec(&format!("insert into doc (file) values ('{kept}')")).await;
    collected(&media).await;
    assert_eq!(world.files(), ["d/kept.txt"]);
    assert_eq!(kept.url(&files).unwrap(), "/media/d/kept.txt");
    assert_eq!(kept.size(&files).await.unwrap(), 1);
    assert!(kept.exists(&files).await.unwrap() && !lost.exists(&files).await.unwrap());
    assert_eq!(lost.open(&files).await.unwrap_err().kind(), Kind::NotFound);
    let mut body = kept.open(&files).await.unwrap().body;
    assert_eq!(body.next().await.unwrap().unwrap(), Bytes::from_static(b"1"));
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn deleting_asks_the_collector_who_asks_the_rows() {
    let world = world().await;
    let (media, files) = open(&world, &doc()).await;
    let value = save(&files, "a.txt", b"1").await;
    world.db.exec(&format!("insert into doc (file) values ('{value}')")).await;
    collected(&media).await;
    value.delete(&files).await.unwrap();
    collected(&media).await;
    assert_eq!(world.files(), ["d/a.txt"], "a row names it");
    world.db.exec("update doc set file = null").await;
    value.delete(&files).await.unwrap();
    collected(&media).await;
    assert_eq!(world.files(), [""; 0]);
    File::blank().delete(&files).await.unwrap();
    assert!(!File::blank().exists(&files).await.unwrap());
}

/// Active Storage: a key collision cannot overwrite.
#[tokio::test]
async fn a_name_that_is_taken_gets_a_suffix_and_the_other_file_stays() {
    let world = world().await;
    world.put_file("d/photo.jpg", b"somebody else's");
    let (_media, files) = open(&world, &doc()).await;
    let value = save(&files, "photo.jpg", b"1").await;
    let suffix = value.as_str().strip_prefix("d/photo_").and_then(|rest| rest.strip_suffix(".jpg")).expect("a suffix");
    assert!(suffix.len() == 7 && suffix.chars().all(|c| c.is_ascii_alphanumeric()), "{value}");
    assert_eq!(std::fs::read(world.media().join("d/photo.jpg")).unwrap(), b"somebody else's");
    // A mere clash announces nothing: what lies there without a row is none of ours.
    let waits = files.store().open(&FileName::parse("d/photo.jpg").unwrap()).await;
    assert!(waits.is_ok());
    assert!(_media.database().waiting(&["d/photo.jpg".to_owned()]).await.unwrap().is_empty());
}

/// Active Storage: a key collision cannot overwrite.
#[tokio::test]
async fn many_at_once_get_names_of_their_own() {
    let world = world().await;
    let (_media, files) = open(&world, &doc()).await;
    let all = futures_util::future::join_all((0..20_u8).map(|n| {
        let files = files.clone();
        async move { (n, save(&files, "photo.jpg", &[n; 10]).await) }
    }))
    .await;
    let names: std::collections::BTreeSet<_> = all.iter().map(|(_, value)| value.as_str().to_owned()).collect();
    assert_eq!(names.len(), 20);
    for (n, value) in all {
        assert_eq!(std::fs::read(world.media().join(value.as_str())).unwrap(), [n; 10]);
    }
}

/// Shrine: an invalid upload is removed, also within derivatives.
/// Active Storage: a checksum that does not match leaves no object; Shrine: temporary files are removed.
/// Active Storage: a PUT larger than its signature allows; a file of no bytes.
#[tokio::test]
async fn what_is_refused_leaves_nothing_and_is_the_uploads_fault() {
    let world = world().await;
    let field = doc().max_size(1000).accept(["text/plain", "image/*"]);
    let (media, files) = open(&world, &field).await;
    let cut = || stream::iter([Ok(Bytes::from_static(b"text")), Err::<Bytes, BoxError>("connection reset".into())]);
    let long = || stream::iter((0..100).map(|_| Ok::<_, BoxError>(Bytes::from(vec![b'x'; 100]))));
    for (upload, kind, status) in [
        (Upload::bytes("a.txt", &b""[..]), Kind::Empty, 400),
        (Upload::bytes("a.txt", vec![b'x'; 1001]), Kind::TooLarge, 413),
        (Upload::stream("a.txt", long()), Kind::TooLarge, 413),
        (Upload::stream("a.txt", long()).declared(100), Kind::TooLarge, 413),
        (Upload::bytes("a.png", &b"%PDF-1.7 .."[..]), Kind::Type, 415),
        (Upload::bytes("a.txt", &b"<script>alert(1)</script>"[..]), Kind::Type, 415),
        (Upload::stream("a.txt", cut()), Kind::Cut, 400),
        (Upload::bytes("a.txt", &b"text"[..]).declared(5), Kind::Cut, 400),
    ] {
        let shown = format!("{upload:?}");
        let e = files.save(upload).await.unwrap_err();
        assert_eq!((e.kind(), e.status()), (kind, status), "{shown}: {}", e.full());
        assert!(e.is_uploads_fault() && e.to_string().contains("doc.file"), "{}", e.full());
    }
    assert_eq!(world.files(), [""; 0]);
    assert_eq!(waiting(&media).await, 0, "something was staged");
    save(&files, "a.txt", &[b'x'; 1000]).await;
}

/// Shrine: an empty field; Active Storage: `nil` and `''`.
#[tokio::test]
async fn a_form_may_come_without_a_file() {
    let world = world().await;
    let (_media, files) = open(&world, &doc().blank(true)).await;
    assert_eq!(files.save_optional(None).await.unwrap(), None);
    assert_eq!(files.save_optional(Some(Upload::bytes("", &b""[..]))).await.unwrap(), None);
    assert!(files.save_optional(Some(Upload::bytes("a", &b"1"[..]))).await.unwrap().is_some());
    // A name and no bytes is a file that is empty, not none.
    assert_eq!(files.save_optional(Some(Upload::bytes("a", &b""[..]))).await.unwrap_err().kind(), Kind::Empty);
    let (_media, needed) = open(&world, &doc()).await;
    assert_eq!(needed.save_optional(None).await.unwrap_err().kind(), Kind::Required);
}

/// Active Storage: unsafe names, bad UTF-8, right-to-left override; traversal in a key.
/// CarrierWave: a new file of the same name gets another one, the old is removed; dynamic paths.
#[tokio::test]
async fn names_come_from_the_declaration() {
    let world = world().await;
    let (_media, files) = open(&world, &doc().upload_to("%Y/%m/%d")).await;
    let today = jiff::Timestamp::now().strftime("%Y/%m/%d").to_string();
    assert_eq!(save(&files, "../../My Photo (1).PNG", b"x").await.as_str(), format!("{today}/My_Photo_1.PNG"));

    let field = doc().upload_by(|u| format!("by/{}/{}", u.media_type.replace('/', "-"), u.name)).max_length(40);
    let (_media, files) = open(&world, &field).await;
    assert_eq!(save(&files, "a.txt", b"x").await.as_str(), "by/text-plain/a.txt");
    let long = save(&files, &format!("{}.txt", "é".repeat(200)), b"x").await;
    assert!(long.as_str().chars().count() == 40 && long.as_str().ends_with("é.txt"), "{long}");

    for bad in ["../x", "/x", "a//b", "", ".rowbound/x"] {
        let (_media, files) = open(&world, &doc().upload_by(move |_| bad.to_owned())).await;
        assert_eq!(files.save(Upload::bytes("a", &b"1"[..])).await.unwrap_err().kind(), Kind::Name, "{bad}");
    }
    for bad in ["%Y/%", "../x", "/abs", "a//b"] {
        let e = Media::builder(world.db.url()).storage(world.storage.clone()).field(&doc().upload_to(bad)).plan().unwrap_err();
        assert_eq!(e.kind(), Kind::Config, "{bad}");
    }
}

/// django-imagekit: the suffix follows the format.
#[tokio::test]
async fn a_picture_is_one_by_its_bytes_and_named_by_its_format() {
    let world = world().await;
    let field = Field::image("doc.file").upload_to("p");
    let (_media, files) = open(&world, &field).await;
    assert_eq!(save(&files, "evil.html", GIF).await.as_str(), "p/evil.gif");
    assert_eq!(save(&files, "noext", GIF).await.as_str(), "p/noext.gif");
    for not in [&b"text"[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"] {
        let e = files.save(Upload::bytes("a.gif", not.to_vec())).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Type, "{}", e.full());
    }
}

/// Shrine: an invalid upload is removed, also within derivatives.
#[tokio::test]
async fn what_a_processor_makes_is_what_is_kept() {
    let world = world().await;
    let field = Field::image("doc.file").process(|bytes: &[u8]| match bytes.len() {
        0..1000 => Ok(Processed { bytes: b"\xff\xd8\xff made".to_vec(), media_type: "image/jpeg".into() }),
        1000 => panic!("a processor's bug"),
        _ => Err(Error::new(Kind::Picture, "too odd")),
    });
    let (media, files) = open(&world, &field).await;
    let value = save(&files, "My Photo.png", GIF).await;
    assert_eq!(value.as_str(), "My_Photo.jpg");
    assert_eq!(std::fs::read(world.media().join("My_Photo.jpg")).unwrap(), b"\xff\xd8\xff made");
    let before = waiting(&media).await;
    for size in [1000, 1001] {
        let mut odd = GIF.to_vec();
        odd.resize(size, 0);
        assert_eq!(files.save(Upload::bytes("a.gif", odd)).await.unwrap_err().kind(), Kind::Picture);
    }
    assert_eq!(world.files(), ["My_Photo.jpg"]);
    assert_eq!(waiting(&media).await, before, "something was staged");
}

fn small() -> Spec {
    let small = |_: &[u8]| Ok(Processed { bytes: GIF.to_vec(), media_type: "image/gif".into() });
    Spec::new("small", "image/gif", small).unwrap().width(300)
}

/// Shrine: derivatives are destroyed with their original; Active Storage: a variant is made once.
#[tokio::test]
async fn derived_pictures_are_made_once_and_go_with_their_original() {
    let world = world().await;
    let (media, files) = open(&world, &Field::image("doc.file").upload_to("p").spec(&small())).await;
    let value: ImageFile = save(&files, "a.gif", GIF).await;
    world.db.exec(&format!("insert into doc (file) values ('{value}')")).await;
    let url = files.variant_url(&value, &small()).unwrap();
    let first = files.variant(&value, &small()).await.unwrap();
    assert!(first.made && first.name.as_str().starts_with("CACHE/images/p/a/small-"), "{first:?}");
    assert_eq!(url, format!("/media/{}", first.name));
    assert_eq!(files.srcset(&value, [&small()]).unwrap(), format!("{url} 300w"));
    assert!(!files.variant(&value, &small()).await.unwrap().made);
    collected(&media).await;
    assert_eq!(world.files(), [first.name.as_str(), "p/a.gif"], "what is staged is kept as the derivative of a file that is there");
    world.db.exec("delete from doc").await;
    collected(&media).await;
    assert_eq!(world.files(), [""; 0]);
    let unknown = Spec::new("other", "image/gif", |_: &[u8]| unreachable!()).unwrap();
    assert_eq!(files.variant(&value, &unknown).await.unwrap_err().kind(), Kind::Config);
}

/// Shrine, Active Storage: a row that is gone while it is processed.
#[tokio::test]
async fn a_picture_that_goes_while_a_form_of_it_is_made_leaves_none() {
    let world = world().await;
    let (begun, go_on) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let spec = {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        Spec::new("slow", "image/gif", move |_: &[u8]| {
            begun.wait();
            go_on.wait();
            Ok(Processed { bytes: GIF.to_vec(), media_type: "image/gif".into() })
        })
        .unwrap()
    };
    let (media, files) = open(&world, &Field::image("doc.file").spec(&spec)).await;
    let value: ImageFile = save(&files, "a.gif", GIF).await;
    let making = tokio::spawn({
        let (files, value, spec) = (files.clone(), value.clone(), spec.clone());
        async move { files.variant(&value, &spec).await }
    });
    tokio::task::spawn_blocking(move || begun.wait()).await.unwrap();
    // No row names it: it goes while the picture is in hand.
    collected(&media).await;
    assert_eq!(world.files(), [""; 0]);
    tokio::task::spawn_blocking(move || go_on.wait()).await.unwrap();
    let variant = making.await.unwrap().unwrap();
    assert_eq!(world.files(), [variant.name.as_str()]);
    collected(&media).await;
    assert_eq!(world.files(), [""; 0]);
    let history =
        media.database().history(&rowbound::ledger::Filter { name: Some(variant.name.to_string()), ..Default::default() }).await.unwrap();
    assert_eq!(history[0].outcome, Outcome::Trashed);
}

/// Shrine: a client may not name a stored file.
#[tokio::test]
async fn a_name_that_no_upload_announced_is_not_confirmed() {
    let world = world().await;
    let (media, files) = open(&world, &doc().max_size(1000).accept(["text/*"])).await;
    let value = save(&files, "mine.txt", b"1").await;
    world.put_file("d/others.txt", b"2");
    // What `save` has staged is no client's to confirm either: it is another one's upload.
    for name in [value.as_str(), "d/others.txt", "d/none.txt", "../x", ""] {
        assert_eq!(files.confirm(name).await.unwrap_err().kind(), Kind::Unconfirmed, "{name}");
    }
    // What was given out is looked at: its size, and its type by its bytes.
    let given_for = |name: &str, wait| Announce { storage: "default".into(), name: FileName::parse(name).unwrap(), event: "direct", wait };
    let given = |name: &str| given_for(name, Duration::from_secs(3600));
    for (name, bytes, is) in [
        ("d/token_a.txt", &b"text"[..], Ok("d/token_a.txt")),
        ("d/token_b.txt", &[b'x'; 1001], Err(Kind::TooLarge)),
        ("d/token_c.txt", b"%PDF-1.7", Err(Kind::Type)),
        ("d/token_d.txt", b"", Err(Kind::Empty)),
    ] {
        media.database().announce(&[given(name)]).await.unwrap();
        assert_eq!(files.confirm(name).await.unwrap_err().kind(), Kind::Unconfirmed, "it has not come");
        world.put_file(name, bytes);
        match (files.confirm(name).await, is) {
            (Ok(value), Ok(wanted)) => assert_eq!(value.as_str(), wanted),
            (Err(e), Err(kind)) => assert_eq!(e.kind(), kind, "{}", e.full()),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
    // What was given out, and is due by now, may go at any moment.
    media.database().announce(&[given_for("d/token_late.txt", Duration::ZERO)]).await.unwrap();
    world.put_file("d/token_late.txt", b"late");
    assert_eq!(files.confirm("d/token_late.txt").await.unwrap_err().kind(), Kind::Unconfirmed, "its time is over");
    // A folder has no URLs to give out.
    let e = files.presign_upload("a.txt", 3, "text/plain", Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Config, "{}", e.full());
}

#[tokio::test]
async fn an_application_that_is_not_attached_does_not_start() {
    let world = world().await;
    let builder = || Media::builder(world.db.url()).storage(world.storage.clone()).field(&doc());
    let e = builder().open().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Engine(rowbound::Kind::NotAttached));
    assert!(e.hint_text().unwrap().contains("rowbound attach"), "{e:?}");
    builder().attach().await.unwrap();
    let media = builder().open().await.unwrap();
    assert_eq!(media.files(&Field::file("doc.title")).unwrap_err().kind(), Kind::Config, "a field of which it does not know");
    assert_eq!(
        media.files(&doc().storage("other")).unwrap_err().kind(),
        Kind::Config,
        "a storage in which nobody looks for its references"
    );
    let url = Binding::url("doc.file", "default", "https://cdn.example.com/").unwrap();
    let e = Media::builder(world.db.url()).storage(world.storage.clone()).binding(url).field(&doc()).plan().unwrap_err();
    assert_eq!(e.kind(), Kind::Config, "{}", e.full());
    // A storage that gives uploads no time.
    let hasty = StoragePlan { min_age: Duration::ZERO, ..world.storage.clone() };
    let media = Media::builder(world.db.url()).storage(hasty).field(&doc()).open().await.unwrap();
    let e = media.files(&doc()).unwrap().save(Upload::bytes("a", &b"1"[..])).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Config);
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn a_transaction_of_ones_own_is_said_to_be_in_the_way() {
    let world = world().await;
    let (_media, files) = open(&world, &doc()).await;
    let mut app = world.db.app().await;
    app.exec("begin immediate").await;
    let e = files.save(Upload::bytes("a", &b"1"[..])).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Engine(rowbound::Kind::Busy), "{}", e.full());
    assert!(e.hint_text().unwrap().contains("before a transaction begins to write"), "{e:?}");
    assert_eq!(world.files(), [""; 0]);
    app.rollback().await;
    save(&files, "a", b"1").await;
}

#[tokio::test]
async fn storages_offer_what_djangos_do() {
    let world = world().await;
    let (media, _files) = open(&world, &doc()).await;
    let store = media.storages().default().unwrap();
    let name = FileName::parse("x/a.txt").unwrap();
    let saved = store.save(&name, Upload::bytes("ignored", &b"one"[..])).await.unwrap();
    assert_eq!(saved, name);
    let second = store.save(&name, Upload::bytes("", &b"two"[..])).await.unwrap();
    assert_ne!(second, name);
    assert!(store.exists(&name).await.unwrap());
    assert_eq!(store.size(&name).await.unwrap(), 3);
    assert!(store.modified(&name).await.unwrap() > jiff::Timestamp::now() - Duration::from_secs(60));
    assert_eq!(store.path(&name).unwrap(), world.media().join("x/a.txt"));
    assert_eq!(store.url(&FileName::parse("x/a b+é.txt").unwrap()).unwrap(), "/media/x/a%20b%2B%C3%A9.txt");
    assert_ne!(store.available_name(&name, 100).await.unwrap(), name);
    let mut listing = store.list("x/").await.unwrap();
    assert_eq!(listing.recv().await.unwrap().unwrap().entries.len(), 2);
    store.replace(&name, Upload::bytes("", &b"three"[..])).await.unwrap();
    assert_eq!(store.size(&name).await.unwrap(), 5);
    store.delete(&second).await.unwrap();
    assert_eq!(media.storages().get("none").unwrap_err().kind(), Kind::Config);
    collected(&media).await;
    assert_eq!(world.files(), [""; 0], "no row references any of them");
}
