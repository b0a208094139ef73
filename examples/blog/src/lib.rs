//! A blog whose pictures live exactly as long as their rows: axum, SeaORM, askama, Rowbound.
//!
//! # The map
//!
//! Modules stand in the order in which things happen; each imports only those above it.

mod options; // arguments and environment -> where everything lies
mod models; // the rows, and which of their columns are pictures
mod files; // where their files lie, and who collects them
mod app; // what handlers share
mod pages; // what every page has; errors as pages
mod guard; // which requests are taken at all
mod form; // an upload form -> values, and what a person must mend
mod media; // GET /media/..: the pictures
mod articles; // one picture each
mod posts; // many pictures each
mod samples; // a blog to begin with
mod disk; // what is on the disk, beside the rows

use std::process::ExitCode;

use axum::{
    Extension, Router, middleware,
    routing::{get, post},
};
use rowbound_web::Limits;
use sea_orm::{ConnectOptions, Database};
use tokio::{net::TcpListener, signal};

use crate::{app::App, files::Pictures};
use options::{Options, USAGE};

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(articles::list))
        .route("/articles/new", get(articles::blank).post(articles::create))
        .route("/articles/delete", post(articles::delete_many))
        .route("/articles/{id}", get(articles::edit).post(articles::update))
        .route("/articles/{id}/delete", post(articles::delete))
        .route("/posts", get(posts::list))
        .route("/posts/new", get(posts::blank).post(posts::create))
        .route("/posts/{id}", get(posts::show))
        .route("/posts/{id}/edit", get(posts::edit).post(posts::update))
        .route("/posts/{id}/delete", post(posts::delete))
        .route("/samples", post(samples::fill))
        .route("/disk", get(disk::page))
        .route("/disk/now", get(disk::fragment))
        .route("/media/{*name}", get(media::picture))
        .route("/static/{name}", get(pages::asset))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::not_allowed)
        .layer(Extension(Limits::default().total(200 << 20).parts(200)))
        .layer(middleware::from_fn(guard::guard))
        .with_state(app)
}

/// The program: reads arguments and environment, runs, and says what went wrong.
pub async fn program() -> ExitCode {
    // On standard error; RUST_LOG asks for more.
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let options = match Options::parse(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("rowbound-blog: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rowbound-blog: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Opens everything, says where it listens, and serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Why it cannot: database, storage or port, with what helps.
async fn run(options: Options) -> Result<(), String> {
    for folder in &options.folders {
        std::fs::create_dir_all(folder).map_err(|e| format!("cannot make the folder {}: {e}", folder.display()))?;
    }
    let mut connect = ConnectOptions::new(options.sea_orm());
    connect.sqlx_logging(false);
    let db = Database::connect(connect).await.map_err(|e| format!("cannot open the database: {e}"))?;
    models::create_tables(&db).await.map_err(|e| format!("cannot make the tables: {e}"))?;
    let failed = |e: rowbound_files::Error| match e.hint_text() {
        Some(hint) => format!("{}\nhint: {hint}", e.full()),
        None => e.full(),
    };
    let rowbound = files::start(&options, &db).await.map_err(failed)?;
    let pictures = Pictures::of(&rowbound).await.map_err(failed)?;

    let address = ("127.0.0.1", options.port);
    let listener = TcpListener::bind(address).await.map_err(|e| format!("cannot listen on port {}: {e}", options.port))?;
    println!("http://{}", listener.local_addr().map_err(|e| e.to_string())?);
    eprintln!("rows in {}, pictures in {}; Ctrl-C ends it", rowbound::database::redact(&options.database), options.storage.url());
    let app = App { db: db.clone(), pictures: pictures.clone() };
    let served = axum::serve(listener, router(app)).with_graceful_shutdown(asked_to_stop()).await;

    // It ends after the files that it is at.
    rowbound.stop().await;
    pictures.media.database().close().await;
    db.close().await.map_err(|e| e.to_string())?;
    served.map_err(|e| e.to_string())
}

async fn asked_to_stop() {
    let term = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut term) => term.recv().await,
            Err(_) => std::future::pending().await,
        };
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        () = term => {}
    }
}
