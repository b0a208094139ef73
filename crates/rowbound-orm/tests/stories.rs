//! The two classic stories, twice: with the receivers that Django developers write by hand, and without any. The folder is the same at the end, unless a transaction
//! is rolled back: then only the second has kept the file.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use rowbound::{Binding, Trash};
use rowbound_orm::{BoxError, Conn, ImageFile, QueryDelete, Rowbound, Upload, receiver};
use rowbound_testkit::{Backend, World, wait_until};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ActiveValue::Set, ColumnTrait, ConnectionTrait, Database, DatabaseConnection, EntityTrait, ModelTrait,
    QueryFilter, Schema, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

mod article {
    use rowbound_orm::{Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "article")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[file(upload_to = "%Y/%m/%d/", thumbnail(300, 300), format = "jpeg", quality = 90)]
        pub image: Option<ImageFile>,
    }
}

mod post {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "post")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[sea_orm(has_many)]
        pub post_images: HasMany<super::post_image::Entity>,
    }
}

mod post_image {
    use rowbound_orm::{Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "post_image")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub post_id: i32,
        #[file(upload_to = "posts/")]
        pub image: ImageFile,
        #[sea_orm(belongs_to, from = "post_id", to = "id", on_delete = "Cascade")]
        pub post: HasOne<super::post::Entity>,
    }
}

static MEDIA: OnceLock<PathBuf> = OnceLock::new();

/// `default_storage.delete(name)`, as it is done by hand: at once, and for good.
fn delete_file(image: &ImageFile) -> Result<(), BoxError> {
    match std::fs::remove_file(MEDIA.get().expect("a test's folder").join(image.as_str())) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

#[receiver(PostDelete, manual)]
async fn article_deleted(row: &article::Model) -> Result<(), BoxError> {
    row.image.as_ref().map_or(Ok(()), delete_file)
}

#[receiver(PreSave, manual)]
async fn article_saved(row: &mut article::ActiveModel, db: &Conn<'_>, created: bool) -> Result<(), BoxError> {
    if created {
        return Ok(());
    }
    let (ActiveValue::Set(id) | ActiveValue::Unchanged(id)) = row.id else { return Ok(()) };
    let old = article::Entity::find_by_id(id).one(db).await?.and_then(|old| old.image);
    match (&row.image, old) {
        (Set(new), Some(old)) if new.as_ref() != Some(&old) => delete_file(&old),
        _ => Ok(()),
    }
}

#[receiver(PreDelete, manual)]
async fn post_goes(row: &post::Model, db: &Conn<'_>) -> Result<(), BoxError> {
    for image in row.find_related(post_image::Entity).all(db).await? {
        delete_file(&image.image)?;
    }
    Ok(())
}

/// A picture that can be made smaller.
fn photo() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(640, 480, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 90]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

async fn article(db: &DatabaseConnection) -> article::Model {
    let image = article::Model::IMAGE.save(Upload::bytes("My Photo.png", photo())).await.unwrap_or_else(|e| panic!("{}", e.full()));
    article::ActiveModel { image: Set(Some(image)), ..Default::default() }.insert(db).await.expect("an article")
}

async fn post_with_three(db: &DatabaseConnection) -> post::Model {
    let post = post::ActiveModel { ..Default::default() }.insert(db).await.expect("a post");
    for _ in 0..3 {
        let image = post_image::Model::IMAGE.save(Upload::bytes("trip.gif", GIF)).await.unwrap_or_else(|e| panic!("{}", e.full()));
        post_image::ActiveModel { post_id: Set(post.id), image: Set(image), ..Default::default() }.insert(db).await.expect("an image");
    }
    post
}

/// Both stories; what is in the folder at the end, and whether the file that a rolled-back delete named is still there.
async fn told(backend: Backend, by_hand: bool) -> (usize, bool) {
    let storage = |s: rowbound::StoragePlan| s.min_age(Duration::from_secs(1)).stage_ttl(Duration::from_secs(1)).trash(Trash::Off);
    let world = World::new(backend).await.storage(storage);
    let world = ["article.image", "post_image.image"].iter().fold(world, |w, c| w.bind(Binding::name(c, "default").unwrap()));
    let db = Database::connect(world.db.url()).await.expect("the database");
    let schema = Schema::new(db.get_database_backend());
    for create in [
        schema.create_table_from_entity(article::Entity),
        schema.create_table_from_entity(post::Entity),
        schema.create_table_from_entity(post_image::Entity),
    ] {
        db.execute(&create).await.expect("a table");
    }
    let rowbound = Rowbound::builder(&db).unwrap().storage(world.storage.clone()).attach(true).start().await;
    let rowbound = rowbound.unwrap_or_else(|e| panic!("{}", e.full()));
    MEDIA.set(world.media()).expect("one story a process");
    if by_hand {
        article_deleted::connect();
        article_saved::connect();
        post_goes::connect();
    }

    // Article: one deleted, one replaced, one cleared, one that stays.
    let (gone, replaced, cleared, kept) = (article(&db).await, article(&db).await, article(&db).await, article(&db).await);
    let name = kept.image.as_ref().unwrap().as_str();
    let bytes = std::fs::read(world.media().join(name)).unwrap();
    let size = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!((size.width(), size.height(), &bytes[..2]), (300, 300, &b"\xff\xd8"[..]), "{name}");
    let dated = name.split('/').map(|part| part.chars().all(|c| c.is_ascii_digit())).collect::<Vec<_>>();
    assert!(dated == [true, true, true, false] && name.ends_with(".jpg"), "{name}");
    gone.delete(&db).await.unwrap();
    let new = article::Model::IMAGE.save(Upload::bytes("new.png", photo())).await.unwrap();
    article::ActiveModel { id: Set(replaced.id), image: Set(Some(new)) }.update(&db).await.unwrap();
    article::ActiveModel { id: Set(cleared.id), image: Set(None) }.update(&db).await.unwrap();
    // Post: one of two goes, with its images, which nobody deletes one by one.
    let (first, _second) = (post_with_three(&db).await, post_with_three(&db).await);
    post::Entity::find().filter(post::Column::Id.eq(first.id)).delete(&db).await.unwrap();
    wait_until(Duration::from_secs(60), "files follow rows", async || world.files() == world.refs().await).await;
    let folder = world.files().len();
    assert_eq!(folder, 2 + 3, "the article that stays, the one with a new picture, three images of the second post: {:?}", world.files());

    // And a delete that is rolled back, as a request that fails after it does.
    let name = kept.image.clone().unwrap();
    let immediate = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let transaction = db.begin_with_options(immediate).await.unwrap();
    kept.delete(&transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(
        article::Entity::find().filter(article::Column::Image.eq(name.clone())).all(&db).await.unwrap().len(),
        1,
        "its row is there"
    );
    let there = world.media().join(name.as_str()).exists();
    rowbound.stop().await;
    (folder, there)
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn by_hand_the_folder_is_right_until_a_rollback_loses_a_file() {
                assert_eq!(told(Backend::$backend, true).await, (5, false));
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn without_receivers_the_folder_is_right_after_a_rollback_too() {
                assert_eq!(told(Backend::$backend, false).await, (5, true));
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
