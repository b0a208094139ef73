//! sqlx: a picture is declared once, then saved, replaced and deleted, and no file is left without a row. `cargo run -p rowbound-examples --example sqlx`

use std::time::Duration;

use rowbound::{StoragePlan, Trash, collect::Settings};
use rowbound_files::{Field, ImageFile, Media, Upload};

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let url = format!("sqlite:{}/app.sqlite3", folder.path().display());
    let db = sqlx::SqlitePool::connect(&format!("{url}?mode=rwc")).await?;
    sqlx::query("create table article (id integer primary key, image text not null)").execute(&db).await?;

    // Said once: what is taken, where it goes, and that this column keeps it alive. (The defaults wait an hour for a row, not a second.)
    let image = Field::image("article.image").upload_to("articles").max_size(10 << 20);
    let storage = StoragePlan::folder("default", files.path()).grace(Duration::ZERO).min_age(Duration::from_secs(1)).trash(Trash::Off);
    let media = Media::builder(&url).storage(storage).field(&image).attach().await?;
    let images = media.files(&image)?;

    for (id, name) in [(1, "cat.gif"), (2, "dog.gif")] {
        let saved = images.save(Upload::bytes(name, GIF)).await?;
        sqlx::query("insert into article (id, image) values (?, ?)").bind(id).bind(&saved).execute(&db).await?;
        println!("saved {saved}");
    }

    // A transaction that fails: its picture has no row.
    let bird = images.save(Upload::bytes("bird.gif", GIF)).await?;
    let mut transaction = db.begin().await?;
    sqlx::query("update article set image = ? where id = 1").bind(&bird).execute(&mut *transaction).await?;
    transaction.rollback().await?;
    println!("rolled back {bird}");

    let fish = images.save(Upload::bytes("fish.gif", GIF)).await?;
    sqlx::query("update article set image = ? where id = 1").bind(&fish).execute(&db).await?;
    println!("replaced articles/cat.gif with {fish}");
    sqlx::query("delete from article where id = 2").execute(&db).await?;
    println!("deleted the row of articles/dog.gif");

    // In production `rowbound run` does this beside the application.
    let collector = media.collector(Settings::default()).await?;
    while collector.metrics().await?.storages["default"].backlog > 0 {
        collector.drain(&tokio::sync::watch::channel(false).1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (row,) in sqlx::query_as::<_, (ImageFile,)>("select image from article").fetch_all(&db).await? {
        println!("a row references {row}, {} bytes", images.size(&row).await?);
    }
    for file in std::fs::read_dir(files.path().join("articles"))? {
        println!("a file is articles/{}", file?.file_name().display());
    }
    Ok(())
}
