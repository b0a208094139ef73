//! Diesel: a picture is declared once, then saved, replaced and deleted, and no file is left without a row. `cargo run -p rowbound-examples --example diesel`

use std::time::Duration;

use diesel::{prelude::*, result::Error::RollbackTransaction};
use rowbound::{StoragePlan, Trash, collect::Settings};
use rowbound_files::{Field, ImageFile, Media, Upload};

diesel::table! { article (id) { id -> Integer, image -> Text, } }

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = folder.path().join("app.sqlite3").display().to_string();
    let mut db = SqliteConnection::establish(&path)?;
    diesel::sql_query("create table article (id integer primary key, image text not null)").execute(&mut db)?;

    // Said once: what is taken, where it goes, and that this column keeps it alive. (The defaults wait an hour for a row, not a second.)
    let image = Field::image("article.image").upload_to("articles").max_size(10 << 20);
    let storage = StoragePlan::folder("default", files.path()).grace(Duration::ZERO).min_age(Duration::from_secs(1)).trash(Trash::Off);
    let media = Media::builder(format!("sqlite:{path}")).storage(storage).field(&image).attach().await?;
    let images = media.files(&image)?;

    for (id, name) in [(1, "cat.gif"), (2, "dog.gif")] {
        let saved = images.save(Upload::bytes(name, GIF)).await?;
        diesel::insert_into(article::table).values((article::id.eq(id), article::image.eq(&saved))).execute(&mut db)?;
        println!("saved {saved}");
    }
    // A transaction that fails: its picture has no row.
    let bird = images.save(Upload::bytes("bird.gif", GIF)).await?;
    let failed = db.transaction::<(), _, _>(|db| {
        diesel::update(article::table.find(1)).set(article::image.eq(&bird)).execute(db)?;
        Err(RollbackTransaction)
    });
    assert_eq!(failed, Err(RollbackTransaction));
    println!("rolled back {bird}");

    let fish = images.save(Upload::bytes("fish.gif", GIF)).await?;
    diesel::update(article::table.find(1)).set(article::image.eq(&fish)).execute(&mut db)?;
    println!("replaced articles/cat.gif with {fish}");
    diesel::delete(article::table.find(2)).execute(&mut db)?;
    println!("deleted the row of articles/dog.gif");
    // In production `rowbound run` does this beside the application.
    let collector = media.collector(Settings::default()).await?;
    while collector.metrics().await?.storages["default"].backlog > 0 {
        collector.drain(&tokio::sync::watch::channel(false).1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for row in article::table.select(article::image).load::<ImageFile>(&mut db)? {
        println!("a row references {row}, {} bytes", images.size(&row).await?);
    }
    for file in std::fs::read_dir(files.path().join("articles"))? {
        println!("a file is articles/{}", file?.file_name().display());
    }
    Ok(())
}
