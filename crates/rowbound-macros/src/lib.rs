//! The macros of [`rowbound-orm`](https://docs.rs/rowbound-orm), which re-exports them and documents how they are used.
//!
//! In: an entity's `Model`, or a function. Out: `impl`s and a registration. Promise: a mistake is an error at compile time that points at the word.

use proc_macro::TokenStream;

mod options; // what stands in #[file(..)] and #[rowbound(..)]
mod entity; // a Model -> its files, its signals, its registration
mod receiver; // a function -> a receiver

#[cfg(test)]
mod tests;

/// The files of a `Model`: a constant for each `#[file(..)]` field, the bindings, and signals.
///
/// ```ignore
/// #[sea_orm::model]
/// #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
/// #[sea_orm(table_name = "article")]
/// pub struct Model {
///     #[sea_orm(primary_key)]
///     pub id: i32,
///     #[file(upload_to = "%Y/%m/%d/", thumbnail(300, 300), format = "jpeg", quality = 90)]
///     pub image: ImageFile,
/// }
/// // Model::IMAGE.save(upload).await?; there is no `impl ActiveModelBehavior for ActiveModel {}` to write.
/// ```
///
/// A field is a `File` or an `ImageFile`, or an `Option` of one. Options of `#[file(..)]`:
///
/// | option | meaning |
/// | --- | --- |
/// | `upload_to = "%Y/%m/%d/"` | the folder; or a path to a `fn(&Arrival) -> String` that gives the whole name |
/// | `storage = "name"` | the storage; default `default` |
/// | `max_size = "10MB"` | the most bytes; a number, or a text with kB, MB, GB, KiB, MiB, GiB |
/// | `max_length = 100` | the most characters of a name |
/// | `accept("image/png", ..)` | media types, told by the bytes |
/// | `blank`, `allow_empty` | a form may come without a file; a file may have no bytes |
/// | `keep("defaults/*")`, `derivatives("..")` | as of a binding |
/// | `cache_control = ".."` | for storages that say it |
/// | `thumbnail(w, h)`, `resize`, `resize_to_fill`, `resize_to_fit`, `resize_to_cover`, `smart_resize`, `crop`, `smart_crop` | pictures; `anchor = "c"`, `upscale = false` may follow the size |
/// | `transpose` | turned as its EXIF says |
/// | `then = expression` | any other processor; several are run in order |
/// | `process = expression` | a `Pipeline`, or a function, instead of all these |
/// | `format = "jpeg"`, `quality = 90`, `progressive`, `keep_profile` | how it is written |
/// | `spec = expression` | a derived picture (`Spec`); may be said several times |
/// | `column = Variant` | the variant of `Column`, where it is not the field's name in camel case |
///
/// On the struct, `#[rowbound(..)]` takes `no_behavior` (the application writes `ActiveModelBehavior` itself, and calls `rowbound_orm::behavior` in it),
/// `protect(Author)` (a relation whose rows keep what they refer to from being deleted), `extends(Place)` (a relation to the row that this one is a part of:
/// it goes with it), `crate = "path"`.
#[proc_macro_derive(Files, attributes(file, rowbound))]
pub fn files(input: TokenStream) -> TokenStream {
    entity::expand(input.into(), true).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Signals for a `Model` without files: what [`macro@Files`] does, but for the fields.
#[proc_macro_derive(Signals, attributes(file, rowbound))]
pub fn signals(input: TokenStream) -> TokenStream {
    entity::expand(input.into(), false).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function a receiver of a signal: `#[receiver(PostDelete)] async fn f(row: &post_image::Model, db: &Conn<'_>) -> Result<(), E>`.
///
/// The entity is that of the first argument: `&mut article::ActiveModel` for `PreSave`, `&article::Model` for the others, `&Gone<article::Entity>` for
/// `OnCommit`. The connection, and for `PreSave` and `PostSave` whether the row is a new one (`bool`), may be left out. `order = 10` comes after `0`, the default. With `manual` it is
/// not connected at the start, but by `f::connect()`; `f::disconnect()` does the opposite for all.
#[proc_macro_attribute]
pub fn receiver(options: TokenStream, item: TokenStream) -> TokenStream {
    receiver::expand(options.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
