//! A server that takes files of up to 2 GB into any storage, in constant memory:
//!
//! ```text
//! cargo run --release -p rowbound-web --example receive -- sqlite:receive.sqlite3 folder:media
//! curl -F file=@film.mkv http://127.0.0.1:PORT
//! ```
//!
//! It says where it listens and ends when its standard input does. `tests/memory.rs` looks at how much memory it takes.

use axum::{Router, extract::State, routing::post};
use rowbound::StoragePlan;
use rowbound_files::{Field, File, Files, Media};
use rowbound_web::{Limits, Problem, UploadForm};

async fn upload(State(files): State<Files<File>>, form: UploadForm) -> Result<String, Problem> {
    let mut form = form.limits(Limits::default().total(3 << 30));
    let part = form.next().await?.ok_or_else(|| Problem::required("file"))?;
    let saved = part.save(&files).await?;
    while form.next().await?.is_some() {}
    Ok(saved.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(database), Some(storage)) = (args.next(), args.next()) else { return Err("say which database, and which storage".into()) };
    let db = sqlx::SqlitePool::connect(&format!("{database}?mode=rwc")).await?;
    sqlx::query("create table if not exists doc (id integer primary key, file text)").execute(&db).await?;
    let field = Field::file("doc.file").max_size(2 << 30);
    let files = Media::builder(database).storage(StoragePlan::url_at("default", &storage)?).field(&field).attach().await?.files(&field)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    Ok(axum::serve(listener, Router::new().route("/", post(upload)).with_state(files)).await?)
}
