//! A blog to begin with: six articles and a post, for whoever has no picture at hand.
//!
//! In: nothing. Out: rows and files, made as a form would make them.

use axum::{extract::State, response::Response};
use rowbound_files::Upload;
use sea_orm::{ActiveModelTrait, ActiveValue::Set};

use crate::{
    app::App,
    models::article,
    pages::{Failed, go},
    posts,
};

macro_rules! picture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../crates/rowbound-cli/src/commands/demo/pictures/", $name)))
    };
}

/// Our own drawings, in the public domain.
const ARTICLES: [(&str, (&str, &[u8])); 6] = [
    ("A cup of tea", picture!("tea.jpg")),
    ("The city at night", picture!("city.jpg")),
    ("Down at the harbour", picture!("harbour.jpg")),
    ("Over the mountain", picture!("mountain.jpg")),
    ("A meadow in May", picture!("meadow.jpg")),
    ("The old lighthouse", picture!("lighthouse.jpg")),
];

pub async fn fill(State(app): State<App>) -> Result<Response, Failed> {
    for (title, (name, bytes)) in ARTICLES {
        let image = app.pictures.article.save(Upload::bytes(name, bytes)).await?;
        article::ActiveModel { title: Set(title.to_owned()), image: Set(Some(image)), ..Default::default() }.insert(&app.db).await?;
    }
    let mut images = Vec::new();
    for (_, (name, bytes)) in &ARTICLES[2..] {
        images.push(app.pictures.post.save(Upload::bytes(*name, *bytes)).await?);
    }
    let text = "Four days from the coast into the hills and back.\n\nDelete this post, and the database takes the rows of its pictures with it. \
                No line of the application sees them go; the files go all the same.";
    posts::insert(&app, "A short trip", text, images).await?;
    Ok(go("/", "Six articles and a post were created. Now delete some, and watch the disk."))
}
