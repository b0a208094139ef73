//! Posts: a title, a text, and any number of pictures.
//!
//! In: forms. Out: rows of two tables, and pages. Promise: pictures are saved before the transaction begins, and a transaction that fails leaves none of
//! them behind.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use rowbound_orm::{ImageFile, QueryDelete};
use rowbound_web::UploadForm;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, ModelTrait, QueryOrder, QuerySelect, TransactionTrait, entity::prelude::*};

use crate::{
    app::App,
    form::{Reading, Refused},
    models::{post, post_image},
    pages::{Failed, Flash, Frame, Id, go, page, s},
};

/// So many are on a page.
const SHOWN: u64 = 100;

struct Picture {
    id: i32,
    url: String,
}

struct Card {
    id: i32,
    title: String,
    text: String,
    pictures: Vec<Picture>,
}

#[derive(Template)]
#[template(path = "posts.html")]
struct List {
    frame: Frame,
    cards: Vec<Card>,
}

#[derive(Template)]
#[template(path = "post.html")]
struct Show {
    frame: Frame,
    post: Card,
}

#[derive(Template)]
#[template(path = "post_form.html")]
struct Edit {
    frame: Frame,
    /// `None` for a post that is not there yet.
    id: Option<i32>,
    title: String,
    text: String,
    pictures: Vec<Picture>,
    refused: Refused,
    /// Pictures that were saved before something else was refused: they have no row.
    left: Vec<ImageFile>,
}

/// What was typed and chosen.
struct Typed {
    title: String,
    text: String,
    images: Vec<ImageFile>,
    remove: Vec<i32>,
    refused: Refused,
}

async fn read(app: &App, form: UploadForm) -> Result<Typed, Failed> {
    let mut reading = Reading::new(form);
    let (mut title, mut text, mut images, mut remove) = (String::new(), String::new(), Vec::new(), Vec::new());
    while let Some(part) = reading.next().await? {
        match part.name() {
            "title" => title = reading.text(part).await?,
            "text" => text = reading.text(part).await?,
            "remove" => remove.extend(reading.text(part).await?.parse::<i32>()),
            "images" => images.extend(reading.picture(part, &app.pictures.post).await?),
            _ => {}
        }
    }
    reading.check_text(&text);
    reading.check_title(&mut title);
    Ok(Typed { title, text: text.trim().to_owned(), images, remove, refused: reading.refused })
}

fn pictures(app: &App, images: Vec<post_image::Model>) -> Result<Vec<Picture>, Failed> {
    images.into_iter().map(|row| Ok(Picture { id: row.id, url: row.image.url(&app.pictures.post)? })).collect()
}

async fn found(app: &App, id: i32) -> Result<Card, Failed> {
    let row = post::Entity::find_by_id(id).one(&app.db).await?.ok_or(Failed::NotFound)?;
    let images = row.find_related(post_image::Entity).order_by_asc(post_image::Column::Id).all(&app.db).await?;
    Ok(Card { id, title: row.title, text: row.text, pictures: pictures(app, images)? })
}

async fn add(db: &impl ConnectionTrait, post: i32, images: Vec<ImageFile>) -> Result<(), Failed> {
    let row = |image| post_image::ActiveModel { post_id: Set(post), image: Set(image), ..Default::default() };
    if !images.is_empty() {
        post_image::Entity::insert_many(images.into_iter().map(row)).exec(db).await?;
    }
    Ok(())
}

/// Writes a post and its pictures.
///
/// # Errors
/// The database's.
pub async fn insert(app: &App, title: &str, text: &str, images: Vec<ImageFile>) -> Result<post::Model, Failed> {
    let transaction = app.db.begin().await?;
    let row = post::ActiveModel { title: Set(title.to_owned()), text: Set(text.to_owned()), ..Default::default() };
    let row = row.insert(&transaction).await?;
    add(&transaction, row.id, images).await?;
    transaction.commit().await?;
    Ok(row)
}

pub async fn list(State(app): State<App>, flash: Flash) -> Result<Response, Failed> {
    let rows = post::Entity::find().order_by_desc(post::Column::Id).limit(SHOWN).all(&app.db).await?;
    let images = post_image::Entity::find()
        .filter(post_image::Column::PostId.is_in(rows.iter().map(|row| row.id)))
        .order_by_asc(post_image::Column::Id)
        .all(&app.db)
        .await?;
    let card = |row: post::Model| {
        let own = images.iter().filter(|image| image.post_id == row.id).cloned().collect();
        Ok(Card { id: row.id, title: row.title, text: row.text, pictures: pictures(&app, own)? })
    };
    let cards = rows.into_iter().map(card).collect::<Result<_, Failed>>()?;
    Ok(page(StatusCode::OK, &List { frame: Frame::new("posts", flash), cards }))
}

pub async fn show(State(app): State<App>, Id(id): Id, flash: Flash) -> Result<Response, Failed> {
    let post = found(&app, id).await?;
    Ok(page(StatusCode::OK, &Show { frame: Frame::new("posts", flash), post }))
}

pub async fn blank(flash: Flash) -> Response {
    let (title, text, refused) = (String::new(), String::new(), Refused::default());
    let frame = Frame::new("posts", flash);
    page(StatusCode::OK, &Edit { frame, id: None, title, text, pictures: Vec::new(), refused, left: Vec::new() })
}

pub async fn create(State(app): State<App>, flash: Flash, form: UploadForm) -> Result<Response, Failed> {
    let Typed { title, text, images, refused, .. } = read(&app, form).await?;
    if !refused.0.is_empty() {
        let frame = Frame::new("posts", flash);
        let edit = Edit { frame, id: None, title, text, pictures: Vec::new(), refused, left: images };
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &edit));
    }
    let n = images.len();
    let row = insert(&app, &title, &text, images).await?;
    Ok(go(&format!("/posts/{}", row.id), &format!("“{title}” was created with {n} picture{}.", s(n))))
}

pub async fn edit(State(app): State<App>, Id(id): Id, flash: Flash) -> Result<Response, Failed> {
    let Card { title, text, pictures, .. } = found(&app, id).await?;
    let frame = Frame::new("posts", flash);
    Ok(page(StatusCode::OK, &Edit { frame, id: Some(id), title, text, pictures, refused: Refused::default(), left: Vec::new() }))
}

pub async fn update(State(app): State<App>, Id(id): Id, flash: Flash, form: UploadForm) -> Result<Response, Failed> {
    let there = found(&app, id).await?;
    let Typed { title, text, images, remove, refused } = read(&app, form).await?;
    if !refused.0.is_empty() {
        let frame = Frame::new("posts", flash);
        let edit = Edit { frame, id: Some(id), title, text, pictures: there.pictures, refused, left: images };
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &edit));
    }
    let transaction = app.db.begin().await?;
    let change = post::ActiveModel { id: Set(id), title: Set(title.clone()), text: Set(text) };
    change.update(&transaction).await?;
    // Only this post's own, whatever numbers the form sends.
    let own = post_image::Entity::delete_many().filter(post_image::Column::PostId.eq(id));
    let removed = own.filter(post_image::Column::Id.is_in(remove)).exec(&transaction).await?.rows_affected as usize;
    let added = images.len();
    add(&transaction, id, images).await?;
    transaction.commit().await?;
    let message = match (added, removed) {
        (0, 0) => format!("“{title}” was saved."),
        _ => format!("“{title}” was saved: {added} picture{} added, {removed} removed.", s(added)),
    };
    Ok(go(&format!("/posts/{id}"), &message))
}

pub async fn delete(State(app): State<App>, Id(id): Id) -> Result<Response, Failed> {
    let post = found(&app, id).await?;
    // Its pictures' rows go with it (`on_delete = "Cascade"`), each with its signals. `delete_by_id` would leave them to the database's own cascade, which
    // the application does not see; their files go either way.
    let deleted = post::Entity::find_by_id(id).delete(&app.db).await.map_err(DbErr::from)?;
    let n = deleted.of::<post_image::Entity>() as usize;
    Ok(go("/posts", &format!("“{}” was deleted, and {n} picture{} with it.", post.title, s(n))))
}
