//! SeaORM: a picture is declared once, then saved, replaced and deleted, and no file is left without a row. `cargo run -p rowbound-examples --example sea_orm`

use rowbound::{StoragePlan, Trash, collect::Settings};
use rowbound_files::{Field, ImageFile, Media, Upload};
use sea_orm::{ActiveValue::Set, ConnectionTrait, Database, TransactionTrait, entity::prelude::*};
use std::time::Duration;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "article")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    pub image: ImageFile,
}
impl ActiveModelBehavior for ActiveModel {}

const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let url = format!("sqlite:{}/app.sqlite3", folder.path().display());
    let db = Database::connect(format!("{url}?mode=rwc")).await?;
    db.execute_unprepared("create table article (id integer primary key, image text not null)").await?;

    // Said once: what is taken, where it goes, and that this column keeps it alive. (The defaults wait an hour for a row, not a second.)
    let image = Field::image("article.image").upload_to("articles").max_size(10 << 20);
    let storage = StoragePlan::folder("default", files.path()).grace(Duration::ZERO).min_age(Duration::from_secs(1)).trash(Trash::Off);
    let media = Media::builder(&url).storage(storage).field(&image).attach().await?;
    let images = media.files(&image)?;
    let save = async |name: &str| images.save(Upload::bytes(name, GIF)).await;
    let cat = ActiveModel { image: Set(save("cat.gif").await?), ..Default::default() }.insert(&db).await?;
    let dog = ActiveModel { image: Set(save("dog.gif").await?), ..Default::default() }.insert(&db).await?;
    println!("saved {}\nsaved {}", cat.image, dog.image);
    // A transaction that fails: its picture has no row.
    let bird = save("bird.gif").await?;
    let transaction = db.begin().await?;
    ActiveModel { id: Set(cat.id), image: Set(bird.clone()) }.update(&transaction).await?;
    transaction.rollback().await?;
    println!("rolled back {bird}");
    let fish = ActiveModel { id: Set(cat.id), image: Set(save("fish.gif").await?) }.update(&db).await?;
    println!("replaced {} with {}", cat.image, fish.image);
    dog.delete(&db).await?;
    println!("deleted the row of articles/dog.gif");
    // In production `rowbound run` does this beside the application.
    let collector = media.collector(Settings::default()).await?;
    while collector.metrics().await?.storages["default"].backlog > 0 {
        collector.drain(&tokio::sync::watch::channel(false).1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for row in Entity::find().all(&db).await? {
        println!("a row references {}, {} bytes", row.image, images.size(&row.image).await?);
    }
    for file in std::fs::read_dir(files.path().join("articles"))? {
        println!("a file is articles/{}", file?.file_name().display());
    }
    Ok(())
}
