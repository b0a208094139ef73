//! The pictures, out of whatever storage they lie in.
//!
//! In: a name. Out: its bytes as they come. Promise: nothing but a checked name reaches the storage, and nothing of it is run by a browser.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use rowbound::{FileName, storage::Stat};

use crate::{
    app::App,
    pages::{Failed, tagged},
};

pub async fn picture(State(app): State<App>, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Failed> {
    let name = FileName::parse(&name).map_err(|_| Failed::NotFound)?;
    // A folder, a link, a device is no picture either.
    let Stat::File(seen) = app.pictures.storage.stat(std::slice::from_ref(&name)).await?.remove(0)? else { return Err(Failed::NotFound) };
    // Not `immutable`: a name whose file is gone is free, and tomorrow's picture of that name is another one. The browser asks, and is told in a few bytes.
    let tag: String = seen.version.chars().filter(char::is_ascii_alphanumeric).collect();
    let tag = format!("\"{tag}\"");
    if let Some(known) = tagged(&headers, &tag) {
        return Ok(known);
    }
    let file = app.pictures.media.storages().default()?.open(&name).await?;
    let about = [
        // Both fields write JPEG. What somebody put into the folder by hand is shown as one, or not at all.
        (header::CONTENT_TYPE, "image/jpeg".to_owned()),
        (header::CONTENT_LENGTH, file.seen.size.to_string()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    Ok((about, Body::from_stream(file.body)).into_response())
}
