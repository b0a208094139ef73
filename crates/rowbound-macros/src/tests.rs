//! Mistakes, and where their errors point; `ModelEx`.

use proc_macro2::TokenStream;

fn model(body: &str) -> String {
    format!("#[sea_orm(table_name = \"article\")] pub struct Model {{ #[sea_orm(primary_key)] pub id: i32, {body} }}")
}

/// The errors: each the text that it points at, and what it says.
fn errors(result: syn::Result<TokenStream>, source: &str) -> Vec<(String, String)> {
    let Err(all) = result else { return Vec::new() };
    all.into_iter()
        .map(|e| {
            let (start, end) = (e.span().start(), e.span().end());
            assert_eq!((start.line, end.line), (1, 1));
            let pointed: String = source.chars().skip(start.column).take(end.column - start.column).collect();
            (pointed, e.to_string())
        })
        .collect()
}

fn file(options: &str) -> Vec<(String, String)> {
    let source = model(&format!("#[file({options})] pub image: ImageFile"));
    errors(crate::entity::expand(source.parse().unwrap(), true), &source)
}

#[track_caller]
fn points(found: &[(String, String)], at: &str, says: &str) {
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, at, "{found:?}");
    assert!(found[0].1.contains(says), "{found:?}");
}

#[test]
fn what_is_right_has_no_error() {
    for options in [
        "upload_to = \"%Y/%m/%d/\", thumbnail(300, 300), format = \"jpeg\", quality = 90",
        "upload_to = names::by_user, storage = \"private\", max_size = \"10MB\", max_length = 200, blank, allow_empty",
        "accept(\"image/png\", \"image/*\"), keep(\"defaults/*\"), derivatives(\"imagekit\"), cache_control = \"public\"",
        "resize_to_fill(100, 50, anchor = \"tl\", upscale = false), progressive, keep_profile",
        "transpose, then = Adjust::new().contrast(1.2), then = MakeOpaque::new(), spec = card(), spec = big()",
        "process = own_pipeline(), column = Picture",
        "max_size = 4096",
        "upload_to = \"\"",
    ] {
        assert_eq!(file(options), [], "{options}");
    }
}

#[test]
fn an_error_points_at_the_word() {
    points(&file("uplod_to = \"a\""), "uplod_to", "did you mean `upload_to`?");
    points(&file("colour = \"a\""), "colour", "known are: thumbnail, resize,");
    points(&file("thumbnail"), "thumbnail", "takes a width and a height in pixels: thumbnail(300, 300)");
    points(&file("thumbnail(300)"), ")", "takes a width and a height");
    points(&file("thumbnail(300, \"x\")"), "\"x\"", "takes a width and a height");
    points(&file("thumbnail(0, 300)"), "0", "1 to 65535");
    points(&file("thumbnail(300, 300, anchor = \"middle\")"), "\"middle\"", "known are: tl, t, tr,");
    points(&file("smart_crop(300, 300, upscale = false)"), "upscale", "after the size it takes nothing");
    points(&file("resize(300, 300, anchor = \"c\")"), "anchor", "after the size it takes upscale");
    points(&file("format = \"jpeg2000\""), "\"jpeg2000\"", "known are: jpeg, png, webp");
    points(&file("quality = 101"), "101", "1 to 100");
    points(&file("quality = 90, quality = 80"), "quality", "said twice");
    points(&file("upload_to = \"/media/\""), "\"/media/\"", "absolute");
    points(&file("upload_to = \"a/../b\""), "\"a/../b\"", "`..`");
    points(&file("upload_to = \"%Q/x\""), "\"%Q/x\"", "stands for nothing");
    points(&file("upload_to = 5"), "5", "fn(&Arrival) -> String");
    points(&file("max_size = \"10 apples\""), "\"10 apples\"", "10MB");
    points(&file("max_size = 0"), "0", "no file would be taken");
    points(&file("max_length = 3"), "3", "too short");
    points(&file("accept(\"png\")"), "\"png\"", "image/png");
    points(&file("storage = \"\""), "\"\"", "empty");
    points(&file("process = own(), quality = 5"), "quality", "cannot stand beside it");
}

#[test]
fn an_error_of_the_struct_points_at_it() {
    let at = |source: &str, files| errors(crate::entity::expand(source.parse().unwrap(), files), source);
    let found = at(&model("#[file(thumbnail(3, 3))] pub paper: File"), true);
    points(&found, "thumbnail", "the field's type must be ImageFile");
    points(&at(&model("pub image: Option<ImageFile>, #[file] pub other: File"), true), "Option<ImageFile>", "never collected");
    assert_eq!(at(&model("#[sea_orm(ignore)] pub image: ImageFile, #[file] pub other: File"), true), []);
    points(&at(&model("pub title: String"), true), "Model", "for signals alone write #[derive(Signals)]");
    assert_eq!(at(&model("pub title: String"), false), []);
    points(&at(&model("#[file] pub image: ImageFile"), false), "#[file] pub image: ImageFile", "write #[derive(Files)]");
    points(&at("pub struct Article { id: i32 }", false), "Article", "on an entity's `Model`");
    points(&at("pub enum Model { A }", false), "Model", "on a struct");
    points(&at("#[rowbound(protects(X))] pub struct Model { id: i32 }", false), "protects", "takes no_behavior, protect(Relation)");
    // Two mistakes are two errors.
    assert_eq!(at(&model("#[file(a)] pub x: File, #[file(b)] pub y: File"), true).len(), 2);
}

#[test]
fn of_model_ex_nothing_is_made() {
    let source = model("#[file(nonsense)] pub image: ImageFile").replace("Model", "ModelEx");
    assert!(crate::entity::expand(source.parse().unwrap(), true).unwrap().is_empty());
}

fn receiver(options: &str, source: &str) -> Vec<(String, String)> {
    errors(crate::receiver::expand(options.parse().unwrap(), source.parse().unwrap()), source)
}

#[test]
fn a_receivers_mistakes() {
    let right = [
        ("PreSave", "async fn f(row: &mut a::ActiveModel, db: &Conn<'_>, created: bool) -> Result<(), E> {}"),
        ("PreSave, order = -5", "async fn f(row: &mut a::ActiveModel) -> Result<(), E> {}"),
        ("PostSave", "pub async fn f(row: &a::Model, db: &Conn<'_>) -> Result<(), E> {}"),
        ("PostDelete, manual", "async fn f(row: &a::Model, db: &Conn<'_>) -> Result<(), E> {}"),
        ("OnCommit, name = \"cdn\"", "async fn f(gone: &Gone<a::Entity>) -> Result<(), E> {}"),
    ];
    for (options, source) in right {
        assert_eq!(receiver(options, source), [], "{options}");
    }
    points(&receiver("PostDelete", "fn f(row: &a::Model) -> R {}"), "fn", "`async fn`");
    points(&receiver("PostDelete", "async fn f(row: a::Model) -> R {}"), "a::Model", "by reference: `row: &article::Model`");
    points(&receiver("PostDelete", "async fn f(row: &mut a::Model) -> R {}"), "&mut a::Model", "is `row: &article::Model`");
    points(&receiver("PreSave", "async fn f(row: &a::ActiveModel) -> R {}"), "&a::ActiveModel", "`row: &mut article::ActiveModel`");
    points(
        &receiver("PostDelete", "async fn f(row: &a::Model, db: &C, new: bool) -> R {}"),
        "new: bool",
        "takes the row and the connection",
    );
    points(&receiver("OnCommit", "async fn f(row: &Gone<E>, db: &C) -> R {}"), "db: &C", "takes the row and nothing else");
    points(&receiver("PostDelete", "async fn f<T>(row: &a::Model) -> R {}"), "T", "no type parameters");
    assert!(receiver("PostDelete", "async fn f(row: &a::Model) {}")[0].1.contains("answers with a `Result<(), E>`"));
    assert!(receiver("PostDelete", "async fn f() -> R {}")[0].1.contains("the first argument is the row"));
    let wrong = |options: &str| {
        crate::receiver::expand(options.parse().unwrap(), "async fn f(row: &a::Model) -> R {}".parse().unwrap()).unwrap_err()
    };
    assert!(wrong("PostRemove").to_string().contains("known are PreSave, PostSave, PreDelete, PostDelete, OnCommit"));
    assert!(wrong("").to_string().contains("name the signal"));
    assert!(wrong("PreDelete, PostDelete").to_string().contains("one signal a receiver"));
    assert!(wrong("PostDelete, name = \"x\"").to_string().contains("only receivers of OnCommit"));
}
