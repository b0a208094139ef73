//! Several programs on one database, each with its own fields: none takes another's away, and none stores what nobody would look after.

use std::time::Duration;

use rowbound::{Kind as EngineKind, collect::Settings};
use rowbound_files::{Builder, Error, Field, File, Files, Kind, Media, Upload};
use rowbound_testkit::{Backend, World};
use tokio::sync::watch;

fn photo() -> Field<File> {
    Field::file("photo.file").upload_to("photos")
}

fn invoice() -> Field<File> {
    Field::file("invoice.file").upload_to("invoices")
}

/// A database with the tables of two programs, empty, as both find it at their first start.
async fn world(backend: Backend) -> World {
    let world = World::new(backend).await.storage(|s| s.min_age(Duration::from_secs(3600)));
    let id = backend.id_column();
    world.db.exec(&format!("create table photo (id {id}, file varchar(255)); create table invoice (id {id}, file varchar(255))")).await;
    world
}

fn program(world: &World, field: &Field<File>) -> Builder {
    Media::builder(world.db.url()).storage(world.storage.clone()).field(field)
}

async fn started(builder: Builder) -> Media {
    builder.attach().await.unwrap_or_else(|e| panic!("{}", e.full()))
}

fn files(media: &Media, field: &Field<File>) -> Files<File> {
    media.files(field).expect("its field")
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, kind: EngineKind, says: &str) -> Error {
    let Err(e) = result else { panic!("this must be refused: {says}") };
    assert_eq!(e.kind(), Kind::Engine(kind), "{}", e.full());
    assert!(e.full().contains(says), "{}", e.full());
    e
}

async fn save(files: &Files<File>) -> Result<File, Error> {
    files.save(Upload::bytes("a.txt", "a text")).await
}

/// What waits in the queue of a program.
async fn waiting(media: &Media, names: &[&str]) -> usize {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    media.database().waiting(&names).await.expect("the queue").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_program_does_not_take_the_first_one_s_bindings() {
    for backend in Backend::all() {
        let world = world(backend).await;
        let first = started(program(&world, &photo())).await;
        let before = first.database().installation().await.expect("a record");
        let e = refused(program(&world, &invoice()).attach().await, EngineKind::Drift, "photo.file -> default");
        let hint = e.hint_text().unwrap_or_default();
        assert!(hint.contains("rowbound attach --drop photo.file"), "{backend}: {hint}");
        assert_eq!(first.database().installation().await.expect("a record"), before, "{backend}: nothing changed");
        // The first goes on: it saves, and what its row releases is collected.
        let value = save(&files(&first, &photo())).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        world.db.exec(&format!("insert into photo (file) values ('{value}')")).await;
        let collector = first.collector(Settings::default()).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        let (_stop, stopped) = watch::channel(false);
        collector.drain(&stopped).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        assert_eq!(world.files(), ["photos/a.txt"], "{backend}");
        drop(collector);
        // Both fields in both programs: the union is bound.
        started(program(&world, &photo()).field(&invoice())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_for_a_column_that_is_not_bound_any_more() {
    for backend in Backend::all() {
        let world = world(backend).await;
        let first = started(program(&world, &photo())).await;
        let (photos, kept) = (files(&first, &photo()), save(&files(&first, &photo())).await.expect("it is attached"));
        let number = first.database().installation().await.expect("a record").expect("attached").bindings["photo.file -> default"];
        // What is meant is said, by its column or by its key; said again, it is gone already.
        let second = started(program(&world, &invoice()).drop_binding("photo.file")).await;
        started(program(&world, &invoice()).drop_binding("photo.file").drop_binding("never.bound")).await;
        let e = refused(save(&photos).await, EngineKind::NotAttached, "photo.file -> default");
        assert!(e.to_string().contains("photo.file") && e.hint_text().is_some_and(|h| h.contains("start this program again")), "{e}");
        assert_eq!(e.engine().map(rowbound::Error::kind), Some(EngineKind::NotAttached));
        refused(photos.delete(&kept).await, EngineKind::NotAttached, "photo.file -> default");
        refused(
            first.storages().default().expect("one").save(&World::file_name("x.txt"), Upload::bytes("x.txt", "x")).await,
            EngineKind::NotAttached,
            "photo.file -> default",
        );
        assert_eq!(world.files(), ["photos/a.txt"], "{backend}: nothing was stored");
        assert_eq!(waiting(&second, &["photos/a.txt", "x.txt"]).await, 1, "{backend}: nor announced");
        // The second stores as ever; and the first does again, when its column is back under its number.
        save(&files(&second, &invoice())).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        let both = started(program(&world, &photo()).field(&invoice())).await;
        assert_eq!(both.database().installation().await.expect("a record").expect("attached").bindings["photo.file -> default"], number);
        save(&photos).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_for_an_installation_that_is_gone_or_another() {
    for backend in Backend::all() {
        let world = world(backend).await;
        let media = started(program(&world, &photo())).await;
        let photos = files(&media, &photo());
        let value = save(&photos).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        std::fs::remove_file(world.media().join(value.as_str())).expect("it was written");
        // The storage's marker may tell before the database does.
        let refuses = async |says: &str| {
            let e = save(&photos).await.expect_err("nothing may be stored");
            assert!(matches!(e.kind(), Kind::Engine(EngineKind::NotAttached | EngineKind::StorageUnreachable)), "{backend}: {}", e.full());
            refused(photos.delete(&value).await, EngineKind::NotAttached, says);
            assert!(world.files().is_empty(), "{backend}: {:?}", world.files());
        };
        rowbound::attach::detach(media.plan(), media.database().as_ref(), false)
            .await
            .unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
        refuses("not attached to this database any more").await;
        let again = started(program(&world, &photo())).await;
        refuses("attached anew").await;
        save(&files(&again, &photo())).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
    }
}

/// Two that attach at the same moment, on a database that neither has seen: one is first, and the other is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_programs_that_attach_at_once_one_is_refused() {
    for backend in Backend::all() {
        for round in 0..5 {
            let world = world(backend).await;
            let (one, two) = tokio::join!(program(&world, &photo()).attach(), program(&world, &invoice()).attach());
            let told = [&one, &two].map(|r| r.as_ref().map(drop).map_err(Error::full));
            let (first, field, late) = match (one, two) {
                (Ok(first), Err(late)) => (first, photo(), late),
                (Err(late), Ok(first)) => (first, invoice(), late),
                _ => panic!("{backend}, round {round}: one of two must be refused: {told:?}"),
            };
            refused::<()>(Err(late), EngineKind::Drift, &format!("{} -> default", field.column()));
            save(&files(&first, &field)).await.unwrap_or_else(|e| panic!("{backend}: {}", e.full()));
            first
                .collector(Settings::default())
                .await
                .unwrap_or_else(|e| panic!("{backend}: {}", e.full()))
                .verify()
                .await
                .expect("capture is whole");
        }
    }
}

/// As when several replicas of one program start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_attach_the_same_at_once_both_start() {
    for backend in Backend::all() {
        for round in 0..5 {
            let world = world(backend).await;
            let (one, two) = tokio::join!(program(&world, &photo()).attach(), program(&world, &photo()).attach());
            for media in [one, two] {
                let media = media.unwrap_or_else(|e| panic!("{backend}, round {round}: {}", e.full()));
                save(&files(&media, &photo())).await.unwrap_or_else(|e| panic!("{backend}, round {round}: {}", e.full()));
            }
        }
    }
}

/// A column whose files are to be elsewhere from now on: those of the old place would have no reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_storage_for_a_column_is_a_binding_less() {
    let world = world(Backend::Sqlite).await;
    started(program(&world, &photo())).await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let moved = photo().storage("other");
    let builder = || {
        let storages = [world.storage.clone(), rowbound::StoragePlan::folder("other", &other).min_age(Duration::from_secs(3600))];
        storages.into_iter().fold(Media::builder(world.db.url()), Builder::storage).field(&moved)
    };
    refused(builder().attach().await, EngineKind::Drift, "photo.file -> default");
    started(builder().drop_binding("photo.file")).await;
}
