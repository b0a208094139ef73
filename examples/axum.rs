//! axum: an upload form. `cargo run -p rowbound-examples --example axum -- 3000`, then `curl -F title=Hello -F image=@photo.jpg localhost:3000`; every refusal is an
//! `application/problem+json`. Stop it and start it again as often as you like, in the middle of uploads too: the folder has exactly what rows reference.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, response::Html, routing::get};
use rowbound::StoragePlan;
use rowbound_files::{Field, Files, ImageFile, Media, Settings};
use rowbound_web::{Problem, UploadForm};
use sqlx::SqlitePool;

#[derive(Clone)]
struct App {
    db: SqlitePool,
    images: Files<ImageFile>,
}

const FORM: &str = "<!doctype html><form method=post enctype=multipart/form-data><input name=title><input type=file name=image><button>Upload</button></form>";

async fn create(State(app): State<App>, mut form: UploadForm) -> Result<String, Problem> {
    let (mut title, mut image) = (None, None);
    while let Some(part) = form.next().await? {
        match part.name() {
            "title" => title = Some(part.text().await?),
            "image" => image = Some(part.save(&app.images).await?), // streams: checked, and on the disk, when this returns
            _ => {}
        }
    }
    let title = title.filter(|t| !t.is_empty()).ok_or_else(|| Problem::required("title"))?;
    let image = image.ok_or_else(|| Problem::required("image"))?;
    let insert = sqlx::query("insert into article (title, image) values (?, ?)").bind(&title).bind(&image);
    insert.execute(&app.db).await.map_err(Problem::internal)?;
    Ok(format!("{title}: {}\n", image.url(&app.images)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(2).map_or_else(|| std::env::temp_dir().join("rowbound-axum"), Into::into);
    std::fs::create_dir_all(folder.join("media"))?;
    let db = SqlitePool::connect(&format!("sqlite:{}/app.sqlite3?mode=rwc", folder.display())).await?;
    sqlx::query("create table if not exists article (id integer primary key, title text, image text)").execute(&db).await?;

    let image = Field::image("article.image").upload_to("articles/%Y/%m").max_size(10 << 20);
    let storage = StoragePlan::folder("default", folder.join("media")).base_url("/media/").min_age(Duration::from_secs(60));
    let media = Media::beside(&db).storage(storage).field(&image).attach().await?;
    // Instead of a `rowbound run` beside it.
    let worker = Arc::new(media.start(Settings::default()));

    let files = Router::new().route("/health/files", get(rowbound_web::health)).with_state(worker.clone());
    let app = Router::new().route("/", get(async || Html(FORM)).post(create)).with_state(App { db, images: media.files(&image)? });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", std::env::args().nth(1).map_or(Ok(3000), |p| p.parse())?)).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app.merge(files)).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    worker.stop().await;
    Ok(())
}
