//! The blog in a real browser: clicked through from end to end, on both databases and both storages, with scripts and without.

mod common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::Engine;
use common::{Blog, files};
use rowbound_testkit::{Backend, Browser, S3Bucket, S3Kind, S3Server, TestDb, View, browser::CONTRAST};

const DESKTOP: View = View { width: 1280, height: 900, dark: false };

/// How long the page may take to show what happened. An upload without a row waits 10 s.
const SOON: Duration = Duration::from_secs(60);

/// Photographs of scikit-image in the public domain (rocket: NASA; coffee and the cat Chelsea: CC0).
struct Photos(PathBuf);

impl Photos {
    fn here() -> Photos {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = Command::new(root.join("scripts/pilkit-venv")).output().unwrap();
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
        let python = String::from_utf8(python.stdout).unwrap();
        let ask = ["-c", "import skimage, os; print(os.path.join(os.path.dirname(skimage.__file__), 'data'))"];
        let said = Command::new(python.trim()).args(ask).output().unwrap();
        Photos(String::from_utf8(said.stdout).unwrap().trim().into())
    }

    fn named(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        assert!(path.exists(), "{}", path.display());
        path
    }
}

enum Media {
    Folder(PathBuf),
    Bucket(S3Bucket, #[expect(dead_code, reason = "it serves until it is dropped")] S3Server),
}

/// A blog, and the way past it to its rows and its files.
struct World {
    blog: Blog,
    db: TestDb,
    media: Media,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(backend: Backend, s3: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        let db = TestDb::new(backend).await;
        let mut env = vec![("DATABASE_URL".to_owned(), db.url().to_owned())];
        let media = match s3 {
            false => Media::Folder(folder.path().join("media")),
            true => {
                let server = S3Server::start(S3Kind::S3sFs);
                let bucket = server.bucket().await;
                env.push(("ROWBOUND_STORAGE".to_owned(), bucket.url("blog/")));
                env.extend(server.env());
                Media::Bucket(bucket, server)
            }
        };
        World { blog: Blog::start(folder.path(), &env), db, media, folder }
    }

    async fn files(&self) -> BTreeSet<String> {
        match &self.media {
            Media::Folder(path) => files(path),
            Media::Bucket(bucket, _) => {
                let keys = bucket.keys("blog/").await;
                keys.iter()
                    .filter_map(|key| key.strip_prefix("blog/"))
                    .filter(|key| !key.starts_with(".rowbound/"))
                    .map(str::to_owned)
                    .collect()
            }
        }
    }

    async fn rows(&self) -> BTreeSet<String> {
        let every = "select image from article where image is not null union all select image from post_image";
        self.db.query_strings(every).await.into_iter().flatten().collect()
    }

    /// Every file has its row and every row its file, as soon as what was let go has gone.
    async fn settles(&self, browser: &mut Browser) {
        browser.open(&self.blog.url("/disk"), DESKTOP).await;
        browser.wait_for("/each referenced by a row|There is no file/.test(document.querySelector('#summary')?.textContent)", SOON).await;
        assert_eq!(self.files().await, self.rows().await);
    }
}

/// Whether the page shows a file in a list, by the end of its name.
fn shows(list: &str, name: &str) -> String {
    format!("[...document.querySelectorAll('{list} .name')].some(e => e.textContent.endsWith('{name}'))")
}

async fn flash(browser: &mut Browser) -> String {
    browser.eval("document.querySelector('.flash').firstChild.data.trim()").await.as_str().unwrap().to_owned()
}

async fn pictures_are(browser: &mut Browser, selector: &str, sizes: &[(u32, u32)]) {
    let all = format!("[...document.querySelectorAll('{selector}')]");
    browser.eval(&format!("{all}.forEach(i => i.loading = 'eager')")).await;
    browser.wait_for(&format!("{all}.every(i => i.complete && i.naturalWidth > 0)"), SOON).await;
    let seen = browser.eval(&format!("{all}.map(i => [i.naturalWidth, i.naturalHeight])")).await;
    assert_eq!(seen, serde_json::json!(sizes));
}

/// The whole story, by mouse and keyboard.
async fn story(world: &World, scripts: bool) {
    let (blog, photos) = (&world.blog, Photos::here());
    let mut browser = Browser::start().await;
    let browser = &mut browser;
    browser.scripts(scripts).await;

    // A photograph becomes a thumbnail.
    browser.open(&blog.url("/"), DESKTOP).await;
    browser.follow("a[href='/articles/new']").await;
    browser.fill("#title", "Morning coffee").await;
    browser.choose("#image", &[&photos.named("coffee.png")]).await;
    browser.follow("form button.main").await;
    assert_eq!(flash(browser).await, "“Morning coffee” was created.");
    pictures_are(browser, ".cover img", &[(300, 300)]).await;
    let coffee = world.rows().await.pop_first().unwrap();
    assert!(coffee.ends_with("/coffee.jpg") && coffee.starts_with("20"), "{coffee}");
    assert_eq!(world.files().await, BTreeSet::from([coffee.clone()]));

    // Replaced: the old file goes, and the page that is open shows it by itself.
    browser.follow(".cover").await;
    assert_eq!(browser.eval("document.querySelector('#title').value").await, "Morning coffee");
    browser.choose("#image", &[&photos.named("rocket.jpg")]).await;
    browser.follow("form button.main").await;
    browser.follow("nav a[href='/disk']").await;
    if scripts {
        browser.eval("document.querySelector('h1').dataset.same = 'yes'").await;
    }
    browser.wait_for(&shows(".gone", "/coffee.jpg"), SOON).await;
    browser.wait_for(&format!("!{} && {}", shows(".files", "/coffee.jpg"), shows(".files", "/rocket.jpg")), SOON).await;
    if scripts {
        assert_eq!(browser.eval("document.querySelector('h1').dataset.same").await, "yes", "the page was not loaded again");
    }
    world.settles(browser).await;

    // Removed: the article stays without a picture.
    browser.open(&blog.url("/articles/1"), DESKTOP).await;
    browser.click("input[name=remove]").await;
    browser.follow("form button.main").await;
    assert_eq!(flash(browser).await, "“Morning coffee” was saved. Its picture goes in a moment.");
    assert_eq!(browser.eval("document.querySelector('.cover .none').textContent").await, "No picture");
    world.settles(browser).await;
    assert_eq!(world.files().await.len(), 0);

    // Deleted: one, then many.
    browser.open(&blog.url("/articles/1"), DESKTOP).await;
    browser.choose("#image", &[&photos.named("chelsea.png")]).await;
    browser.follow("form button.main").await;
    browser.follow("button[formaction='/articles/1/delete']").await;
    assert_eq!(flash(browser).await, "“Morning coffee” was deleted.");
    browser.follow(".empty button").await;
    pictures_are(browser, ".cover img", &[(300, 300); 6]).await;
    for n in [2, 4, 6] {
        browser.click(&format!(".card:nth-child({n}) input")).await;
    }
    browser.follow(".bar button").await;
    assert_eq!(flash(browser).await, "3 articles were deleted, in one statement.");
    world.settles(browser).await;
    assert_eq!(world.files().await.len(), 3 + 4);

    // A post with several pictures; one goes and one comes; then all go with it, by the database's own hand.
    browser.open(&blog.url("/posts"), DESKTOP).await;
    browser.follow("a[href='/posts/new']").await;
    browser.fill("#title", "Three pictures").await;
    browser.fill("#text", "A first line.\nA second one.").await;
    let three = ["coffee.png", "rocket.jpg", "chelsea.png"].map(|name| photos.named(name));
    browser.choose("#images", &three.each_ref().map(PathBuf::as_path)).await;
    browser.follow("form button.main").await;
    assert_eq!(flash(browser).await, "“Three pictures” was created with 3 pictures.");
    pictures_are(browser, ".gallery img", &[(600, 400), (640, 427), (451, 300)]).await;
    browser.follow(".bar a").await;
    assert_eq!(browser.eval("document.querySelector('#text').value").await, "A first line.\nA second one.");
    browser.click(".gallery li:nth-child(2) input").await;
    browser.choose("#images", &[&photos.named("astronaut.png")]).await;
    browser.follow("form button.main").await;
    assert_eq!(flash(browser).await, "“Three pictures” was saved: 1 picture added, 1 removed.");
    pictures_are(browser, ".gallery img", &[(600, 400), (451, 300), (512, 512)]).await;
    assert_eq!(world.rows().await.len(), 3 + 4 + 3);
    browser.open(&blog.url("/posts/2"), DESKTOP).await;
    browser.follow(".bar button").await;
    assert_eq!(flash(browser).await, "“Three pictures” was deleted, and 3 pictures with it.");
    world.settles(browser).await;
    assert_eq!(world.files().await.len(), 3 + 4);

    // Refused: what was typed stays, what was wrong stands beside its field, and the picture that was stored before goes by itself.
    let before = world.rows().await;
    browser.open(&blog.url("/articles/new"), DESKTOP).await;
    browser.choose("#image", &[&photos.named("astronaut.png")]).await;
    browser.follow("form button.main").await;
    assert_eq!(browser.eval("document.querySelector('#title-error').textContent").await, "Enter a title.");
    assert_eq!(browser.eval("document.querySelector('#title').getAttribute('aria-describedby')").await, "title-error");
    // The summary is where one is. A browser gives it the focus when it draws the page, not when it has read it.
    browser.wait_for("document.activeElement.className === 'refused'", SOON).await;
    browser.click(".refused a").await;
    assert_eq!(browser.eval("document.activeElement.id").await, "title");
    assert_eq!(world.files().await.len(), before.len() + 1);
    browser.follow(".left a").await;
    browser.wait_for("document.querySelector('.goes b')?.textContent.startsWith('no row: goes ')", SOON).await;
    browser.wait_for(&shows(".gone", "/astronaut.jpg"), SOON).await;
    world.settles(browser).await;
    assert_eq!(world.rows().await, before);

    // What is no picture is refused, and stored nowhere.
    let text = world.folder.path().join("notes.txt");
    std::fs::write(&text, "This is no picture.").unwrap();
    browser.open(&blog.url("/articles/new"), DESKTOP).await;
    browser.fill("#title", "Kept & <b>safe</b>").await;
    browser.choose("#image", &[&text]).await;
    browser.follow("form button.main").await;
    let error = browser.eval("document.querySelector('#image-error').textContent").await;
    assert!(error.as_str().unwrap().starts_with("notes.txt: This is no picture of a kind that is taken. Choose a JPEG"), "{error}");
    assert_eq!(browser.eval("document.querySelector('#title').value").await, "Kept & <b>safe</b>");
    assert_eq!(world.files().await, world.rows().await);
    assert_eq!(world.rows().await, before);
}

/// Django, CarrierWave: a form that fails its validation keeps what was typed, and its file goes.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_a_folder() {
    story(&World::new(Backend::Sqlite, false).await, true).await;
}

/// Django, CarrierWave: a form that fails its validation keeps what was typed, and its file goes.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_a_folder_without_scripts() {
    story(&World::new(Backend::Sqlite, false).await, false).await;
}

/// Django, CarrierWave: a form that fails its validation keeps what was typed, and its file goes.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_s3() {
    story(&World::new(Backend::Postgres, true).await, true).await;
}

/// Every page at a desk and in a hand, by day and by night: nothing sticks out, everything can be read, and everything has its name.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_reads_well() {
    let world = World::new(Backend::Sqlite, false).await;
    let (blog, photos) = (&world.blog, Photos::here());
    let mut browser = Browser::start().await;
    look_at(&mut browser, &world, "empty", &["/", "/posts", "/disk"]).await;
    assert_eq!(blog.post("/samples", "", &[]).status, 303);
    let long = format!("A title without an end, in one word: {}", "pneumonoultramicroscopicsilicovolcanoconiosis".repeat(3));
    assert_eq!(blog.post("/articles/new", "", &[("title", None, long.as_bytes())]).status, 303);
    let photo = std::fs::read(photos.named("rocket.jpg")).unwrap();
    // Refused for want of a title: its picture waits on the disk without a row.
    let pages = ["/", "/articles/new", "/articles/1", "/posts", "/posts/1", "/posts/1/edit", "/posts/new", "/nothing"];
    look_at(&mut browser, &world, "full", &pages).await;
    for view in VIEWS {
        assert_eq!(blog.post("/posts/new", "", &[("title", None, b""), ("images", Some("My Rocket.jpg"), &photo)]).status, 422);
        assert_eq!(blog.post("/articles/7", "", &[("title", None, b"Soon gone"), ("image", Some("rocket.jpg"), &photo)]).status, 303);
        assert_eq!(blog.post("/articles/7", "", &[("title", None, b"Soon gone"), ("remove", None, b"yes")]).status, 303);
        browser.open(&blog.url("/disk"), view).await;
        browser.wait_for("document.querySelectorAll('.goes').length >= 1 && document.querySelectorAll('.gone li').length >= 0", SOON).await;
        reads_well(&mut browser, "disk", view).await;
        for (form, field) in [("/articles/new", "#image"), ("/posts/new", "#images")] {
            browser.open(&blog.url(form), view).await;
            browser.choose(field, &[&photos.named("README.txt")]).await;
            browser.follow("form button.main").await;
            reads_well(&mut browser, &format!("refused{}", form.replace('/', "-")), view).await;
        }
        browser.open(&blog.url("/"), view).await;
        browser.click(".card:last-child input").await;
        browser.follow(".bar button").await;
        reads_well(&mut browser, "deleted", view).await;
    }
}

const VIEWS: [View; 4] = [
    View { width: 1280, height: 900, dark: false },
    View { width: 1280, height: 900, dark: true },
    View { width: 390, height: 844, dark: false },
    View { width: 390, height: 844, dark: true },
];

async fn look_at(browser: &mut Browser, world: &World, state: &str, paths: &[&str]) {
    for view in VIEWS {
        for path in paths {
            browser.open(&world.blog.url(path), view).await;
            reads_well(browser, &format!("{state}{}", path.replace('/', "-")), view).await;
        }
    }
}

async fn reads_well(browser: &mut Browser, name: &str, view: View) {
    let at = format!("{name}-{}-{}", view.width, if view.dark { "dark" } else { "light" });
    browser.eval("[...document.images].forEach(i => i.loading = 'eager')").await;
    browser.wait_for("[...document.images].every(i => i.complete)", SOON).await;
    if let Some(folder) = std::env::var_os("ROWBOUND_SCREENSHOTS") {
        let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot_of_all().await).unwrap();
        std::fs::write(Path::new(&folder).join(format!("blog-{at}.png")), png).unwrap();
    }
    assert_eq!(browser.eval("document.documentElement.scrollWidth - innerWidth").await, 0, "{at}: it scrolls sideways");
    let out = "[...document.querySelectorAll('body *')].filter(e => { const b = e.getBoundingClientRect();
        return !e.closest('.heard, .skip') && (b.right > innerWidth + 1 || b.left < -1); }).map(e => e.outerHTML.slice(0, 120))";
    assert_eq!(browser.eval(out).await, serde_json::json!([]), "{at}: it sticks out");
    let worst = browser.eval(CONTRAST).await;
    assert!(worst["ratio"].as_f64().unwrap() >= 4.5, "{at}: {worst}");
    for (what, so) in [
        ("one heading of the first level", "document.querySelectorAll('h1').length === 1"),
        (
            "a language, a main part, a navigation",
            "document.documentElement.lang === 'en' && !!document.querySelector('main') && !!document.querySelector('nav[aria-label]')",
        ),
        // What is about to go may have gone before it was painted.
        (
            "every picture has an alternative",
            "[...document.images].every(i => i.hasAttribute('alt') && (i.naturalWidth > 0 || i.closest('li:has(.goes)')))",
        ),
        (
            "every input has a label",
            "[...document.querySelectorAll('input, textarea')].every(i => i.labels.length && i.labels[0].textContent.trim())",
        ),
        (
            "every link and button has a name",
            "[...document.querySelectorAll('a, button')].every(e => e.textContent.trim() || e.querySelector('img[alt]:not([alt=\"\"])'))",
        ),
        (
            "what describes a field is there",
            "[...document.querySelectorAll('[aria-describedby]')].every(e => e.getAttribute('aria-describedby').split(' ').every(id => document.getElementById(id)))",
        ),
        (
            "ids are unique",
            "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length",
        ),
        (
            "what is touched is large enough",
            "[...document.querySelectorAll('button, .button, .pick, nav a')].every(e => e.getBoundingClientRect().height >= 24)",
        ),
    ] {
        assert_eq!(browser.eval(so).await, true, "{at}: {what}");
    }
}
