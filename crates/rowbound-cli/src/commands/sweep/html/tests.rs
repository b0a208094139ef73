//! The page in a real browser: what it computed, painted and asked for.

use std::{collections::BTreeMap, io::Cursor, path::Path, sync::Arc};

use base64::Engine;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use jiff::Timestamp;
use rowbound::{
    FileName,
    storage::{Storage, folder::Folder},
    sweep::Brake,
};
use rowbound_testkit::{Browser, View, browser::CONTRAST};

use super::*;
use crate::commands::sweep::report::Findings;

/// Names that want to be something else than text, or to break the page's layout.
const HOSTILE: [&str; 14] = [
    "hostile/<script>document.title=1</script>.png",
    "hostile/\"><img src=x onerror=document.title=1>.jpg",
    "hostile/' onmouseover='document.title=1.gif",
    "hostile/</title></style><svg onload=document.title=1>.png",
    "hostile/{{ 7 * 7 }}{% raw %}.png",
    "hostile/&lt;b&gt;&amp;.jpg",
    "hostile/a\u{202e}gpj.exe",
    "hostile/new\nline\tand tab.png",
    "hostile/javascript:alert(1).png",
    "hostile/=HYPERLINK(1).csv",
    "hostile/e\u{301}\u{540d}\u{524d}\u{1f408}.png",
    "hostile/ blank ends ",
    "hostile/\u{202e}\u{2066}]]>--><!--.bmp",
    "hostile/wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww.png",
];

/// Pictures have this many different colours, so that what is painted can be told apart.
const COLOURS: u8 = 12;

fn colour(n: usize) -> [u8; 3] {
    let hue = (n % usize::from(COLOURS)) as f32 / f32::from(COLOURS) * 6.0;
    let channel = |shift: f32| {
        let k = (shift + hue) % 6.0;
        (255.0 * (0.85 - 0.55 * k.min(4.0 - k).clamp(0.0, 1.0))) as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// An upload: a picture with a darker frame, wide, high or square.
fn picture(n: usize, format: ImageFormat) -> Vec<u8> {
    let (width, height) = [(480, 320), (300, 420), (360, 360), (640, 200)][n % 4];
    let [r, g, b] = colour(n);
    let image = RgbImage::from_fn(width, height, |x, y| {
        let inner = (24..width - 24).contains(&x) && (24..height - 24).contains(&y);
        if inner { Rgb([r, g, b]) } else { Rgb([r / 2, g / 2, b / 2]) }
    });
    encoded(&DynamicImage::ImageRgb8(image), format)
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// What ten years of uploads leave behind: name and bytes, and whether there is a picture to see.
fn uploads() -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut files = BTreeMap::new();
    for (n, name) in HOSTILE.iter().enumerate() {
        let seen = name.ends_with(".png") || name.ends_with(".jpg") || name.ends_with(".gif");
        files.insert((*name).to_owned(), (picture(n, ImageFormat::Png), seen || name.ends_with(".bmp") || name.ends_with(' ')));
    }
    let logo = RgbaImage::from_fn(300, 300, |x, y| if (x / 50 + y / 50) % 2 == 0 { Rgba([255, 255, 255, 255]) } else { Rgba([0; 4]) });
    let odd: [(&str, Vec<u8>, bool); 10] = [
        ("odd/half.jpg", picture(0, ImageFormat::Jpeg)[..900].to_vec(), true), // what there is of it
        ("odd/broken.jpg", vec![0x5a; 900], false),
        ("odd/empty.png", Vec::new(), false),
        ("odd/drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>".to_vec(), false),
        ("odd/report.pdf", b"%PDF-1.7".to_vec(), false),
        ("odd/movie.mp4", vec![0; 5000], false),
        ("odd/page.html", b"<script>document.title=1</script>".to_vec(), false),
        ("odd/0f343b0931126a20f133d67c2b018a3b", picture(7, ImageFormat::Jpeg), true),
        ("odd/logo.webp", encoded(&DynamicImage::ImageRgba8(logo), ImageFormat::WebP), true),
        ("odd/text", b"no picture at all".to_vec(), false),
    ];
    files.extend(odd.map(|(name, bytes, seen)| (name.to_owned(), (bytes, seen))));
    let mut n = 0;
    while files.len() < 400 {
        let name = format!("articles/{}/{:02}/IMG_{:04}.jpg", 2014 + n % 11, n % 12 + 1, 1000 + n * 7);
        files.insert(name, (picture(n, ImageFormat::Jpeg), true));
        n += 1;
    }
    files
}

struct Report400 {
    swept: Section,
    pictures: usize,
}

fn swept(root: &Path) -> Report400 {
    let uploads = uploads();
    let mut findings = Findings::new(400);
    let mut all = Amount::default();
    for (name, (bytes, _)) in &uploads {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        let modified = "2019-05-17T09:30:00Z".parse().unwrap();
        findings.orphan(&Orphan { name: FileName::parse(name).unwrap(), size: bytes.len() as u64, modified });
        all.files += 1;
        all.bytes += bytes.len() as u64;
    }
    for (n, (name, in_trash)) in [(HOSTILE[0], false), (HOSTILE[13], true), ("articles/2016/04/lost.jpg", false)].into_iter().enumerate() {
        let name = FileName::parse(name).unwrap();
        findings.dangling(&Dangling { name, column: "blog_article.image".into(), key: Some(format!("{n}")), in_trash, file: None });
    }
    let group = |label: &str, files, bytes| Group { label: label.into(), amount: Amount { files, bytes } };
    let moment = |text: &str| text.parse::<Timestamp>().unwrap();
    let report = Report {
        storage: "default".into(),
        url: format!("folder:/srv/{}", "a-very-long-folder-name/".repeat(8)),
        database: "postgres://app:***@db.example.com/app".into(),
        started: moment("2026-11-21T11:00:00Z"),
        ended: moment("2026-11-21T11:01:12Z"),
        prefix: String::new(),
        files: 1_234_567,
        references: 1_224_164,
        orphans: all,
        young: Amount { files: 3, bytes: 812_000 },
        derived: Amount { files: 10_000, bytes: 93_000_000 },
        mentioned: Amount { files: 4, bytes: 900_000 },
        otherwise: Amount { files: 1, bytes: 1_000 },
        otherwise_in: Default::default(),
        unexplained: Default::default(),
        protected: 12,
        odd: 2,
        dangling: 3,
        in_trash: 1,
        other_form: 0,
        held: Amount::default(),
        held_by: Vec::new(),
        similar: Default::default(),
        unread: Vec::new(),
        by_folder: vec![
            group("articles/", 377, all.bytes * 8 / 10),
            group("hostile/<script>document.title=1</", 14, all.bytes / 10),
            group(HOSTILE[13], 8, 70_000),
            group("", 1, 12),
        ],
        by_age: vec![group("1 to 7 days", 3, 10_000), group("7 to 30 days", 0, 0), group("more than a year", 397, all.bytes - 10_000)],
        brake: Some(Brake {
            why: "32 % of the files are orphans, more than max_share = 20 %".into(),
            hint: "if that is right: rowbound sweep --delete --max-share 40".into(),
            alike: vec!["300 of 400 begin like a file that is there, then \"__\"".into()],
        }),
        announced: 0,
        healed: 0,
    };
    let storage: Arc<dyn Storage> = Arc::new(Folder::new("default", root, None, true));
    storage.set_read_only();
    Report400 { swept: Section { report, findings, storage }, pictures: uploads.values().filter(|(_, seen)| *seen).count() }
}

/// Elements that stick out of the window, or out of the box that they belong to, by more than a pixel.
const OVERFLOW: &str = r#"[...document.querySelectorAll('body, body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1 || (e.matches('.grid li, .view, .about, dl div') && e.scrollWidth > e.clientWidth + 1);
}).map(e => e.outerHTML.slice(0, 120))"#;

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_orphans_read_well_in_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let Report400 { swept, pictures } = swept(&dir.path().join("media"));
    let page = dir.path().join("report.html");
    Target::new(&page).unwrap().write(vec![swept]).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no half of a report is left beside it");
    let url = format!("file://{}", page.display());
    let mut browser = Browser::start().await;
    for (width, height, dark) in [(1280, 900, false), (1280, 900, true), (390, 844, false), (390, 844, true)] {
        let at = format!("{width} px, {}", if dark { "dark" } else { "light" });
        browser.open(&url, View { width, height, dark }).await;

        let broken =
            "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0 && i.naturalHeight > 0, () => false)))";
        let decoded = browser.eval(broken).await;
        let decoded: Vec<bool> = decoded.as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        assert_eq!((decoded.len(), decoded.iter().filter(|d| **d).count()), (pictures, pictures), "{at}: pictures that can be seen");
        assert_eq!(browser.eval("document.querySelectorAll('.grid li').length").await, 400, "{at}");

        assert_eq!(browser.eval("document.documentElement.scrollWidth - innerWidth").await, 0, "{at}: it scrolls sideways");
        assert_eq!(browser.eval(OVERFLOW).await, serde_json::json!([]), "{at}");
        let worst = browser.eval(CONTRAST).await;
        assert!(worst["ratio"].as_f64().unwrap() >= 4.5, "{at}: {worst}");

        // Somebody else's names are text, and nothing ran.
        assert_eq!(browser.eval("document.title").await, "400 orphans of default", "{at}");
        assert_eq!(
            browser.eval("document.querySelectorAll('script, svg, iframe, object, embed, link, a, [onload], [onerror]').length").await,
            0
        );
        let text = browser.eval("document.body.textContent").await;
        for name in HOSTILE {
            for part in name.split('/') {
                assert!(text.as_str().unwrap().contains(&shown(part)), "{at}: {part:?}");
            }
        }
        // Nor did it ask anybody for anything.
        let asked: Vec<_> = browser.requests().iter().filter(|asked| !asked.starts_with("data:image/jpeg;base64,")).collect();
        assert_eq!(asked, [&url], "{at}");

        // People who hear the page.
        for (what, selector) in [
            ("one heading of the first level", "document.querySelectorAll('h1').length === 1"),
            ("a language and a main part", "document.documentElement.lang === 'en' && document.querySelectorAll('main').length === 1"),
            ("pictures are named by their captions", "[...document.images].every(i => i.alt === '')"),
            ("every heading cell says of what", "[...document.querySelectorAll('th')].every(t => t.scope === 'row' || t.scope === 'col')"),
            (
                "ids are unique",
                "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length",
            ),
        ] {
            assert_eq!(browser.eval(selector).await, true, "{at}: {what}");
        }

        painted(&mut browser, &at).await;
        if let Some(folder) = std::env::var_os("ROWBOUND_SCREENSHOTS") {
            browser.open(&url, View { width, height: 1800, dark }).await;
            for part in ["top", "end"] {
                browser.eval(&format!("scrollTo(0, '{part}' === 'top' ? 0 : document.body.scrollHeight)")).await;
                let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot().await).unwrap();
                let name = format!("sweep-{width}-{}-{part}.png", if dark { "dark" } else { "light" });
                std::fs::write(Path::new(&folder).join(name), png).unwrap();
            }
        }
    }
}

/// The screenshot shows each of the first pictures in its own colour.
async fn painted(browser: &mut Browser, at: &str) {
    let places = browser
        .eval(
            "(() => { document.querySelector('.grid').scrollIntoView(); return [...document.querySelectorAll('.grid li')].map(li => {
                const img = li.querySelector('img'), box = img && img.getBoundingClientRect();
                return { name: li.querySelector('bdi').textContent, x: box && box.x + box.width / 2, y: box && box.y + box.height / 2 };
            }).filter(p => p.x && p.y < innerHeight - 1) })()",
        )
        .await;
    let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot().await).unwrap();
    let seen = image::load_from_memory(&png).unwrap().to_rgb8();
    let places = places.as_array().unwrap();
    assert!(places.len() >= 4, "{at}: {} pictures in the window", places.len());
    let mut checked = 0;
    for place in places {
        let name = place["name"].as_str().unwrap();
        let Some(number) = name.strip_prefix("IMG_").and_then(|n| n.strip_suffix(".jpg")).and_then(|n| n.parse::<usize>().ok()) else {
            continue;
        };
        let pixel = seen.get_pixel(place["x"].as_f64().unwrap() as u32, place["y"].as_f64().unwrap() as u32);
        let want = colour((number - 1000) / 7);
        let off = pixel.0.iter().zip(want).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(off < 16, "{at}: {name} is painted {:?}, not {want:?}", pixel.0);
        checked += 1;
    }
    assert!(checked >= 4, "{at}: {checked} pictures were looked at");
}

#[tokio::test]
async fn nothing_found_and_nothing_swept_are_pages_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = swept(&dir.path().join("media")).swept;
    none.findings = Findings::new(400);
    none.report.orphans = Amount::default();
    (none.report.by_folder, none.report.by_age, none.report.brake) = (Vec::new(), Vec::new(), None);
    let page = dir.path().join("report.html");
    Target::new(&page).unwrap().write(vec![none]).await.unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("0 orphans of default") && text.contains("is referenced by a row"), "{text}");
    assert!(!text.contains("class=\"grid\""));
    Target::new(&page).unwrap().write(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn more_than_fits_is_drawn_listed_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut some = swept(&dir.path().join("media")).swept;
    let mut findings = Findings::new(10);
    for n in 0..6_000 {
        findings.orphan(&Orphan { name: FileName::parse(&format!("{n}.txt")).unwrap(), size: 1, modified: Timestamp::UNIX_EPOCH });
    }
    for n in 0..1_500 {
        let name = FileName::parse("x").unwrap();
        findings.dangling(&Dangling { name, column: "t.c".into(), key: Some(n.to_string()), in_trash: false, file: None });
    }
    some.findings = findings;
    some.report.orphans.files = 6_000;
    let page = dir.path().join("report.html");
    Target::new(&page).unwrap().write(vec![some]).await.unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    for said in
        ["10 of 6,000 files, drawn by lot from all folders", "5000 more by name", "and 990 more: rowbound", "and 500 more: rowbound"]
    {
        assert!(text.contains(said), "{said}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_anything_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let e = Target::new(&dir.path().join("none/report.html")).unwrap_err();
    assert_eq!(e.kind(), Kind::Config);
    assert!(e.full().contains("none/report.html"), "{}", e.full());
}
