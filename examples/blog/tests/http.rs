//! What a browser does not show: other sites, hostile names, restarts.

mod common;

use common::{Blog, files, wait_until};

const PICTURE: &[u8] = include_bytes!("../../../crates/rowbound-cli/src/commands/demo/pictures/tea.jpg");

/// Rails, Django: forms that another site sends; hostile titles; names that lead out of the media folder.
#[test]
fn another_site_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blog = Blog::start(folder.path(), &[]);
    let parts: &[(&str, Option<&str>, &[u8])] = &[("title", None, b"Theirs"), ("image", Some("tea.jpg"), PICTURE)];
    let origin = format!("Origin: http://{}\r\n", blog.address);
    for said in
        ["Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n", "Origin: http://elsewhere.example\r\n", "Origin: null\r\n"]
    {
        assert_eq!(blog.post("/articles/new", said, parts).status, 403, "{said}");
    }
    assert!(files(&folder.path().join("media")).is_empty());
    assert!(!blog.get("/", "").text().contains("Theirs"));
    for said in ["Sec-Fetch-Site: same-origin\r\n", &origin, ""] {
        let made = blog.post("/articles/new", said, parts);
        assert_eq!((made.status, made.header("location")), (303, Some("/")), "{said}");
    }
    assert_eq!(files(&folder.path().join("media")).len(), 3);
}

/// Rails, Django: forms that another site sends; hostile titles; names that lead out of the media folder.
#[test]
fn what_people_type_is_text_and_what_is_missing_is_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let blog = Blog::start(folder.path(), &[]);
    let hostile = "<script>document.title=1</script>\"'&amp;\0";
    let made = blog.post("/articles/new", "", &[("title", None, hostile.as_bytes())]);
    assert_eq!(made.status, 303);
    let cookie = made.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("flash=%e2%80%9c%3cscript%3e"), "{cookie}");
    let list = blog.get("/", &format!("Cookie: {cookie}\r\n"));
    assert!(!list.text().contains("<script>document"), "{}", list.text());
    assert_eq!(list.text().matches("&#60;script&#62;document").count(), 4, "in the message, on the card and twice for those who hear it");
    assert!(list.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert_eq!(list.header("x-content-type-options"), Some("nosniff"));
    assert!(list.header("set-cookie").unwrap().contains("max-age=0"), "a message is shown once");

    let long = blog.post("/articles/new", "", &[("title", None, "x".repeat(201).as_bytes())]);
    assert_eq!(long.status, 422);
    assert!(long.text().contains("at most 200 characters; this one has 201"), "{}", long.text());
    let both = blog.post("/articles/1", "", &[("title", None, b"Both"), ("image", Some("tea.jpg"), PICTURE), ("remove", None, b"yes")]);
    assert!(both.status == 422 && both.text().contains("not both"), "{}", both.text());

    for (path, status) in [("/articles/2", 404), ("/articles/x", 404), ("/posts/99999999999", 404), ("/nothing", 404), ("/samples", 405)] {
        let page = blog.get(path, "");
        assert_eq!(page.status, status, "{path}");
        assert!(page.text().contains("<h1>"), "{path}: {}", page.text());
    }
    for path in ["/articles/77/delete", "/posts/77/delete", "/articles/77", "/posts/77/edit"] {
        assert_eq!(blog.post(path, "", &[("title", None, b"x")]).status, 404, "{path}");
    }
    assert_eq!(blog.post("/articles/delete", "", &[("article", None, b"1; drop table article")]).status, 303);
    let cut = blog.send(
        format!("POST /articles/new HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: 2\r\n\r\nhi", blog.address)
            .as_bytes(),
    );
    assert!(cut.status == 400 && cut.text().contains("<h1>"), "{}", cut.text());
    assert!(blog.get("/", "").text().contains("document"), "it is still there");
}

/// Rails, Django: forms that another site sends; hostile titles; names that lead out of the media folder.
#[test]
fn only_files_of_the_storage_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let blog = Blog::start(folder.path(), &[]);
    std::fs::write(folder.path().join("media/secret.txt"), "by hand").unwrap();
    blog.post("/articles/new", "", &[("title", None, b"Tea"), ("image", Some("tea.jpg"), PICTURE)]);
    let name = files(&folder.path().join("media")).into_iter().find(|name| name.ends_with("/tea.jpg")).unwrap();
    let picture = blog.get(&format!("/media/{name}"), "");
    assert_eq!(
        (picture.status, picture.header("content-type"), picture.header("x-content-type-options")),
        (200, Some("image/jpeg"), Some("nosniff"))
    );
    let tag = picture.header("etag").unwrap();
    assert_eq!(blog.get(&format!("/media/{name}"), &format!("If-None-Match: {tag}\r\n")).status, 304);
    for hidden in ["../blog.sqlite3", "..%2fblog.sqlite3", ".rowbound/storage.json", "%2Fetc%2Fpasswd", "x%00y", "2026", "", "no.jpg"] {
        assert_eq!(blog.get(&format!("/media/{hidden}"), "").status, 404, "{hidden}");
    }
    // What was put there by hand is nobody's to delete, and the page says so.
    assert!(blog.get("/disk", "").text().contains("no row, and nobody announced it"));
}

#[test]
fn it_stops_when_asked_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    let blog = Blog::start(folder.path(), &[]);
    assert_eq!(blog.post("/samples", "", &[]).status, 303);
    assert_eq!(files(&media).len(), 10);
    // A title that is a file's name is no reference, and no reason not to start.
    let name = files(&media).pop_first().unwrap();
    assert_eq!(blog.post("/articles/new", "", &[("title", None, name.as_bytes())]).status, 303);
    assert_eq!(blog.post("/posts/1/delete", "", &[]).status, 303);
    blog.stop();
    let blog = Blog::start(folder.path(), &[]);
    wait_until("the post's pictures go", || files(&media).len() == 6);
    assert_eq!(blog.get("/", "").text().matches("<img src=\"/media/").count(), 6);
    blog.stop();
}

#[test]
fn it_says_what_is_wrong_with_its_arguments() {
    for (arguments, says) in [(&["x"][..], "\"x\" is no port"), (&["0", "a", "b"], "one argument too many")] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_rowbound-blog")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && said.contains(says) && said.contains("Usage:"), "{said}");
    }
}
