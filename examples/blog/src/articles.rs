//! Articles: a title, and a picture that may be replaced or removed.
//!
//! In: forms. Out: rows, and pages. Promise: nothing here deletes a file. A row that goes, or references another picture, is all that is needed.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use rowbound_files::ImageFile;
use rowbound_web::UploadForm;
use sea_orm::{ActiveValue::Set, EntityTrait, ModelTrait, PaginatorTrait, QueryOrder, QuerySelect, entity::prelude::*};

use crate::{
    app::App,
    form::{Reading, Refused},
    models::article,
    pages::{Failed, Flash, Frame, Id, go, page},
};

/// So many are on a page.
const SHOWN: u64 = 100;

struct Card {
    id: i32,
    title: String,
    picture: Option<String>,
}

#[derive(Template)]
#[template(path = "articles.html")]
struct List {
    frame: Frame,
    cards: Vec<Card>,
    /// How many there are, where not all are shown.
    of: Option<u64>,
}

#[derive(Template)]
#[template(path = "article.html")]
struct Edit {
    frame: Frame,
    /// `None` for an article that is not there yet.
    id: Option<i32>,
    title: String,
    picture: Option<String>,
    refused: Refused,
    /// A picture that was saved before something else was refused: it has no row.
    left: Option<ImageFile>,
}

/// What was typed and chosen.
struct Typed {
    title: String,
    image: Option<ImageFile>,
    remove: bool,
    refused: Refused,
}

async fn read(app: &App, form: UploadForm) -> Result<Typed, Failed> {
    let mut reading = Reading::new(form);
    let (mut title, mut image, mut remove) = (String::new(), None, false);
    while let Some(part) = reading.next().await? {
        match part.name() {
            "title" => title = reading.text(part).await?,
            // It is checked, made 300 x 300 and stored when this returns. If no row references it in time, it goes by itself.
            "image" => image = reading.picture(part, &app.pictures.article).await?,
            "remove" => remove = true,
            _ => {}
        }
    }
    reading.check_title(&mut title);
    if remove && image.is_some() {
        reading.refused.say("image", "Choose a new picture or remove the old one, not both.");
    }
    Ok(Typed { title, image, remove, refused: reading.refused })
}

fn url(app: &App, image: Option<&ImageFile>) -> Result<Option<String>, Failed> {
    Ok(image.map(|image| image.url(&app.pictures.article)).transpose()?)
}

async fn found(app: &App, id: i32) -> Result<article::Model, Failed> {
    article::Entity::find_by_id(id).one(&app.db).await?.ok_or(Failed::NotFound)
}

pub async fn list(State(app): State<App>, flash: Flash) -> Result<Response, Failed> {
    let rows = article::Entity::find().order_by_desc(article::Column::Id).limit(SHOWN).all(&app.db).await?;
    let of = if rows.len() as u64 == SHOWN { Some(article::Entity::find().count(&app.db).await?) } else { None };
    let card = |row: article::Model| Ok(Card { id: row.id, picture: url(&app, row.image.as_ref())?, title: row.title });
    let cards = rows.into_iter().map(card).collect::<Result<_, Failed>>()?;
    Ok(page(StatusCode::OK, &List { frame: Frame::new("articles", flash), cards, of }))
}

pub async fn blank(flash: Flash) -> Response {
    let frame = Frame::new("articles", flash);
    page(StatusCode::OK, &Edit { frame, id: None, title: String::new(), picture: None, refused: Refused::default(), left: None })
}

pub async fn create(State(app): State<App>, flash: Flash, form: UploadForm) -> Result<Response, Failed> {
    let Typed { title, image, refused, .. } = read(&app, form).await?;
    if !refused.0.is_empty() {
        let frame = Frame::new("articles", flash);
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &Edit { frame, id: None, title, picture: None, refused, left: image }));
    }
    let row = article::ActiveModel { title: Set(title), image: Set(image), ..Default::default() };
    let row = row.insert(&app.db).await?;
    Ok(go("/", &format!("“{}” was created.", row.title)))
}

pub async fn edit(State(app): State<App>, Id(id): Id, flash: Flash) -> Result<Response, Failed> {
    let row = found(&app, id).await?;
    let (frame, picture) = (Frame::new("articles", flash), url(&app, row.image.as_ref())?);
    Ok(page(StatusCode::OK, &Edit { frame, id: Some(id), title: row.title, picture, refused: Refused::default(), left: None }))
}

pub async fn update(State(app): State<App>, Id(id): Id, flash: Flash, form: UploadForm) -> Result<Response, Failed> {
    let row = found(&app, id).await?;
    let Typed { title, image, remove, refused } = read(&app, form).await?;
    if !refused.0.is_empty() {
        let (frame, picture) = (Frame::new("articles", flash), url(&app, row.image.as_ref())?);
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &Edit { frame, id: Some(id), title, picture, refused, left: image }));
    }
    let what = match (&image, &row.image) {
        (Some(_), Some(_)) => "was saved. Its old picture goes in a moment",
        (None, Some(_)) if remove => "was saved. Its picture goes in a moment",
        _ => "was saved",
    };
    let mut change = article::ActiveModel { id: Set(id), title: Set(title), ..Default::default() };
    if image.is_some() || remove {
        change.image = Set(image); // and the old file goes
    }
    let row = change.update(&app.db).await?;
    Ok(go("/", &format!("“{}” {what}.", row.title)))
}

pub async fn delete(State(app): State<App>, Id(id): Id) -> Result<Response, Failed> {
    let row = found(&app, id).await?;
    let title = row.title.clone();
    row.delete(&app.db).await?; // and its file goes
    Ok(go("/", &format!("“{title}” was deleted.")))
}

pub async fn delete_many(State(app): State<App>, form: UploadForm) -> Result<Response, Failed> {
    let (mut reading, mut ids) = (Reading::new(form), Vec::new());
    while let Some(part) = reading.next().await? {
        if part.name() == "article" {
            ids.extend(reading.text(part).await?.parse::<i32>());
        }
    }
    if ids.is_empty() {
        return Ok(go("/", "Nothing was selected, so nothing was deleted."));
    }
    // One statement, and no row of it is loaded: the files go all the same.
    let deleted = article::Entity::delete_many().filter(article::Column::Id.is_in(ids)).exec(&app.db).await?;
    let n = deleted.rows_affected as usize;
    Ok(go("/", &format!("{n} article{} deleted, in one statement.", if n == 1 { " was" } else { "s were" })))
}
