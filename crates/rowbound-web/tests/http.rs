//! Uploads over real HTTP: what is kept, what is refused and how, and that nothing is left over. On SQLite and a folder, because nothing here depends on
//! either.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Request, State},
    middleware::map_request,
    routing::{post, put},
};
use rowbound::collect::Settings;
use rowbound_files::{Field, File, Files, ImageFile, Media};
use rowbound_testkit::{Backend, World, wait_until};
use rowbound_web::{Kind, Limits, PROBLEMS, Problem, RawUpload, UploadForm};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// The most bytes of a file here.
const MOST: usize = 1 << 20;

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[derive(Clone)]
struct App {
    files: Files<File>,
    pictures: Files<ImageFile>,
    /// Requests that are over, whether they were answered or broken off.
    over: Arc<AtomicUsize>,
}

/// Counts when it is dropped, so that a handler that is broken off counts as well.
struct Over(Arc<AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Site {
    world: World,
    media: Media,
    over: Arc<AtomicUsize>,
    address: SocketAddr,
}

async fn form(State(app): State<App>, mut form: UploadForm) -> Result<String, Problem> {
    let _over = Over(app.over.clone());
    let (mut texts, mut files, mut picture) = (Vec::new(), Vec::new(), None);
    while let Some(part) = form.next().await? {
        match part.name() {
            "file" => files.push(part.save(&app.files).await?.to_string()),
            "picture" => picture = part.save_optional(&app.pictures).await?,
            "skipped" => {}
            _ => texts.push(format!("{}={}", part.name().to_owned(), part.text().await?)),
        }
    }
    if texts.is_empty() {
        return Err(Problem::required("title"));
    }
    Ok(json!({ "texts": texts, "files": files, "picture": picture.map(String::from) }).to_string())
}

async fn late(State(app): State<App>, mut form: UploadForm) -> Result<String, Problem> {
    let first = form.next().await?.expect("a part");
    let _second = form.next().await?;
    Ok(first.save(&app.files).await?.to_string())
}

async fn raw(State(app): State<App>, Path(name): Path<String>, body: RawUpload) -> Result<String, Problem> {
    let _over = Over(app.over.clone());
    Ok(body.save(name, &app.files).await?.to_string())
}

async fn site_with(limits: Limits) -> Site {
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.min_age(Duration::from_millis(100)));
    let file = Field::file("doc.file").upload_to("d").max_size(MOST as u64);
    let picture = Field::image("doc.title").upload_to("p").blank(true);
    let media = Media::builder(world.db.url()).storage(world.storage.clone()).field(&file).field(&picture).attach().await;
    let media = media.unwrap_or_else(|e| panic!("{}", e.full()));
    let over = Arc::new(AtomicUsize::new(0));
    let state = App { files: media.files(&file).unwrap(), pictures: media.files(&picture).unwrap(), over: over.clone() };
    let limited = async |request: Request| request.map(|body| Body::new(http_body_util::Limited::new(body, 1_000)));
    let app = Router::new()
        .route("/form", post(form))
        .route("/late", post(late))
        .route("/limited", post(form).layer(map_request(limited)))
        .route("/raw/{name}", put(raw))
        .layer(Extension(limits))
        .with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Site { world, media, over, address }
}

async fn site() -> Site {
    site_with(Limits::default()).await
}

struct Answer {
    status: u16,
    head: String,
    json: Value,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> Answer {
        let mut all = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut all)).await.expect("an answer in time");
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(!text.is_empty(), "no answer: {read:?}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, head: head.to_ascii_lowercase(), json: serde_json::from_str(body).unwrap_or(json!(body)) }
    }

    /// It is a problem of this kind.
    #[track_caller]
    fn refused(self, kind: Kind) -> Answer {
        let (_, slug, status, title) = PROBLEMS.iter().find(|row| row.0 == kind).unwrap();
        assert_eq!(self.status, *status, "{}", self.json);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        assert_eq!((&self.json["title"], &self.json["status"]), (&json!(title), &json!(status)), "{}", self.json);
        assert!(self.json["type"].as_str().unwrap().ends_with(&format!("docs/axum.md#{slug}")), "{}", self.json);
        self
    }
}

/// Parts of a form, each with its last line end but without the form's end.
fn text(name: &str, value: &str) -> Vec<u8> {
    format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
}

fn file_head(name: &str, file: &str) -> Vec<u8> {
    let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"");
    format!("--X\r\n{disposition}\r\nContent-Type: text/plain\r\n\r\n").into_bytes()
}

fn file(name: &str, file: &str, bytes: &[u8]) -> Vec<u8> {
    [&file_head(name, file), bytes, b"\r\n"].concat()
}

const END: &[u8] = b"--X--\r\n";

impl Site {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Begins a request; `length` is the body's.
    async fn begin(&self, line: &str, headers: &str, length: usize) -> TcpStream {
        let mut stream = self.connect().await;
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn begin_form(&self, length: usize) -> TcpStream {
        self.begin("POST /form", "Content-Type: multipart/form-data; boundary=X", length).await
    }

    /// Sends the whole, then reads the answer: what a browser does.
    async fn send(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.begin(line, headers, body.len()).await;
        stream.write_all(body).await.unwrap();
        Answer::read(&mut stream).await
    }

    async fn send_form(&self, parts: &[&[u8]]) -> Answer {
        self.send("POST /form", "Content-Type: multipart/form-data; boundary=X", &parts.concat()).await
    }

    async fn wait_for_the_end(&self, of: usize) {
        wait_until(DEADLINE, "the request is over", async || self.over.load(SeqCst) == of).await;
    }

    /// How many candidates there are.
    async fn staged(&self) -> u64 {
        let collector = self.media.collector(Settings::default()).await.unwrap();
        collector.metrics().await.unwrap().storages["default"].backlog
    }

    /// Nothing was stored, and nothing waits to be collected.
    async fn assert_untouched(&self) {
        assert_eq!(self.world.files(), [""; 0]);
        assert_eq!(self.staged().await, 0);
    }

    async fn collected(&self) {
        let collector = self.media.collector(Settings::default()).await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        wait_until(DEADLINE, "nothing waits", async || {
            collector.drain(&stopped).await.unwrap();
            collector.metrics().await.unwrap().storages["default"].backlog == 0
        })
        .await;
    }

    fn stored(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.world.media().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// Active Storage: unsafe names as browsers, Internet Explorer, curl and Python send them.
#[tokio::test]
async fn texts_and_files_in_any_order_arrive_as_they_were_sent() {
    let site = site().await;
    // Bytes that look like boundaries, of a size that is no multiple of anything.
    let one: Vec<u8> = b"\r\n--X \r\n--\r\n-".iter().copied().filter(|b| *b != b'X').cycle().take(700_001).collect();
    let two = b"zwei".to_vec();
    let body = [
        text("before", "日本"),
        file("file", "C:\\fakepath\\One (1).txt", &one),
        text("between", ""),
        file("skipped", "skipped.txt", &one),
        file("file", "../../two.txt", &two),
        text("after", "end"),
        END.to_vec(),
    ]
    .concat();
    // Twice on one connection.
    let mut stream = site.connect().await;
    for turn in 0..2 {
        let head = "POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=\"X\"\r\nContent-Length";
        stream.write_all(format!("{head}: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert!(timeout(DEADLINE, stream.read_buf(&mut answer)).await.unwrap().unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, json) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let json: Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["texts"], json!(["before=日本", "between=", "after=end"]));
        let names: Vec<_> = json["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        if turn == 0 {
            assert_eq!(names, ["d/One_1.txt", "d/two.txt"]);
        }
        assert!(site.stored(names[0]) == one && site.stored(names[1]) == two);
    }
    assert_eq!(site.world.files().len(), 4);
    site.world.db.exec("insert into doc (file) values ('d/One_1.txt')").await;
    site.collected().await;
    assert_eq!(site.world.files(), ["d/One_1.txt"]);
}

/// Active Storage: a PUT larger than its declared length; CarrierWave: a failed validation leaves nothing.
#[tokio::test]
async fn a_file_that_is_too_large_is_refused_while_it_streams() {
    let site = site().await;
    // It never ends: whoever waits for its end waits in vain.
    let mut stream = site.begin_form(1 << 30).await;
    stream.write_all(&[text("title", "t"), file_head("file", "big.bin")].concat()).await.unwrap();
    let mut sent = 0;
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        let piece = vec![0; 64 << 10];
        while writer.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = write => {}
        read = timeout(DEADLINE, reader.read_to_end(&mut answer)) => { read.expect("an answer in time").ok(); }
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("\"field\":\"file\""), "{text}");
    // What lies in the buffers of two sockets is not ours.
    assert!((MOST..MOST + (24 << 20)).contains(&sent), "{sent}");
    site.assert_untouched().await;
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_sees_the_answer() {
    let site = site().await;
    let answer = site.send_form(&[&file("file", "big.bin", &vec![0; 20 << 20]), &text("title", "t"), END]).await.refused(Kind::TooLarge);
    assert_eq!(answer.json["field"], "file");
    assert_eq!(answer.json["detail"], "the file is larger than 1.0 MB");
    let answer = site.send("PUT /raw/big.bin", "X-A: b", &vec![0; 20 << 20]).await.refused(Kind::TooLarge);
    assert_eq!(answer.json["field"], Value::Null);
    site.assert_untouched().await;
}

/// Active Storage: a PUT larger than its declared length; CarrierWave: a failed validation leaves nothing.
#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_not_asked_for() {
    let site = site_with(Limits::default().total(MOST as u64)).await;
    let expect = "Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=X";
    let mut stream = site.begin("POST /form", expect, MOST + 1).await;
    let answer = Answer::read(&mut stream).await.refused(Kind::TooLarge);
    assert_eq!(answer.json["limit"], MOST);
    assert!(!answer.head.contains("100 continue"));
    let mut stream = site.begin("PUT /raw/a.bin", "Expect: 100-continue", MOST + 1).await;
    Answer::read(&mut stream).await.refused(Kind::TooLarge);
    // One that says nothing is counted.
    let mut stream = site.connect().await;
    let head = "PUT /raw/a.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n", vec![7; 1 << 16].as_slice(), b"\r\n"].concat();
    for _ in 0..17 {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    Answer::read(&mut stream).await.refused(Kind::TooLarge);
    site.assert_untouched().await;
}

/// Active Storage: a PUT larger than its declared length; CarrierWave: a failed validation leaves nothing.
#[tokio::test]
async fn what_a_file_is_is_told_by_its_bytes() {
    let site = site().await;
    let text = text("title", "t");
    let answer = site.send_form(&[&text, &file("picture", "photo.jpg", b"#!/bin/sh"), END]).await.refused(Kind::Type);
    assert_eq!(answer.json["field"], "picture");
    assert!(answer.json["hint"].as_str().unwrap().contains("JPEG"), "{}", answer.json);
    site.assert_untouched().await;
    let answer = site.send_form(&[&text, &file("picture", "photo.jpg", GIF), END]).await;
    assert_eq!((answer.status, &answer.json["picture"]), (200, &json!("p/photo.gif")));
}

/// Shrine: an empty hidden field, an empty file input.
#[tokio::test]
async fn what_is_missing_is_named() {
    let site = site().await;
    assert_eq!(site.send_form(&[END]).await.refused(Kind::Required).json["field"], "title");
    // A browser's file input that was left empty.
    let text = text("title", "t");
    let answer = site.send_form(&[&text, &file("picture", "", b""), END]).await;
    assert_eq!((answer.status, &answer.json["picture"]), (200, &Value::Null));
    assert_eq!(site.send_form(&[&text, &file("file", "", b""), END]).await.refused(Kind::Empty).json["field"], "file");
    assert_eq!(site.send_form(&[&text, &file("file", "a.txt", b""), END]).await.refused(Kind::Empty).json["field"], "file");
    site.assert_untouched().await;
}

#[tokio::test]
async fn what_is_no_form_is_refused_and_leaves_nothing() {
    let site = site().await;
    let whole = [&text("title", "t")[..], &file("file", "a.txt", b"1234"), END].concat();
    let form = "Content-Type: multipart/form-data; boundary=X";
    site.send("POST /form", "Content-Type: application/json", b"{}").await.refused(Kind::NotAForm);
    site.send("POST /form", "X-A: b", b"title=t").await.refused(Kind::NotAForm);
    site.send("POST /form", "Content-Type: multipart/form-data", &whole).await.refused(Kind::Malformed);
    site.send("POST /form", "Content-Type: multipart/form-data; boundary=Y", &whole).await.refused(Kind::Malformed);
    site.send("POST /form", &format!("{form}\r\nContent-Encoding: gzip"), &whole).await.refused(Kind::Type);
    site.send("PUT /raw/a.txt", "Content-Encoding: gzip", b"1234").await.refused(Kind::Type);
    site.send("POST /form", form, b"--X\r\n\r\nno header\r\n--X--").await.refused(Kind::Malformed);
    let mut binary = [text("title", "xx"), END.to_vec()].concat();
    let at = binary.windows(2).position(|w| w == b"xx").unwrap();
    binary[at..at + 2].copy_from_slice(b"\xff\xfe");
    site.send("POST /form", form, &binary).await.refused(Kind::Malformed);
    site.assert_untouched().await;
    // Cut at every byte: before the file is whole nothing is kept, and afterwards it is staged.
    let file_ends = whole.windows(6).position(|w| w == b"1234\r\n").unwrap() + 4 + "\r\n--X".len();
    for cut in 1..whole.len() - "--\r\n".len() {
        let answer = site.send("POST /form", form, &whole[..cut]).await;
        assert_eq!(answer.status, 400, "{cut}: {}", answer.json);
        if cut < file_ends {
            assert_eq!(site.world.files(), [""; 0], "{cut}");
        }
    }
    site.collected().await;
    site.assert_untouched().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_at_most_what_is_collected() {
    let site = site().await;
    // In the middle of a file.
    let mut stream = site.begin_form(1 << 20).await;
    stream.write_all(&[text("title", "t"), file_head("file", "half.bin"), vec![1; 200_000]].concat()).await.unwrap();
    drop(stream);
    site.wait_for_the_end(1).await;
    site.assert_untouched().await;
    // Behind the file, before the form's end.
    let mut stream = site.begin_form(1 << 20).await;
    stream.write_all(&[text("title", "t"), file("file", "whole.bin", &[1; 200_000]), b"--X".to_vec()].concat()).await.unwrap();
    wait_until(DEADLINE, "the file is stored", async || site.world.files() == ["d/whole.bin"]).await;
    drop(stream);
    site.wait_for_the_end(2).await;
    assert_eq!(site.staged().await, 1);
    site.collected().await;
    site.assert_untouched().await;
}

#[tokio::test]
async fn a_client_that_falls_silent_is_not_waited_for() {
    let site = site_with(Limits::default().idle(Duration::from_millis(200))).await;
    let mut stream = site.begin_form(1 << 20).await;
    stream.write_all(&[file_head("file", "half.bin"), vec![1; 20_000]].concat()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.refused(Kind::Slow).json["field"], "file");
    let mut stream = site.begin("PUT /raw/a.bin", "X-A: b", 1 << 20).await;
    Answer::read(&mut stream).await.refused(Kind::Slow);
    site.assert_untouched().await;
}

#[tokio::test]
async fn forms_with_too_much_of_anything_are_refused() {
    let site = site_with(Limits::default().parts(3).text(100)).await;
    let t = |n: usize| text("t", &"x".repeat(n));
    assert_eq!(site.send_form(&[&t(1), &t(1), &t(1), END]).await.status, 200);
    assert_eq!(site.send_form(&[&t(1), &t(1), &t(1), &t(1), END]).await.refused(Kind::TooMany).json["limit"], 3);
    assert_eq!(site.send_form(&[&t(50), &t(50), END]).await.status, 200);
    let answer = site.send_form(&[&t(50), &t(51), END]).await.refused(Kind::TooLarge);
    assert_eq!((&answer.json["limit"], &answer.json["field"]), (&json!(100), &json!("t")));
    let long = [&b"--X\r\nContent-Disposition: form-data; name=\""[..], &[b'n'; 20_000], b"\"\r\n\r\n1\r\n--X--"].concat();
    site.send_form(&[&long]).await.refused(Kind::Malformed);
    // What wraps the body limits it, too.
    let line = ("POST /limited", "Content-Type: multipart/form-data; boundary=X");
    site.send(line.0, line.1, &[text("t", "x"), END.to_vec()].concat()).await;
    site.send(line.0, line.1, &[file("file", "a.bin", &[0; 2_000]), END.to_vec()].concat()).await.refused(Kind::TooLarge);
    site.assert_untouched().await;
}

#[tokio::test]
async fn a_storage_that_is_away_says_when_to_come_back() {
    let site = site().await;
    let away = site.world.folder().join("away");
    std::fs::rename(site.world.media(), &away).unwrap();
    let answer = site.send_form(&[&file("file", "a.txt", b"1"), &text("title", "t"), END]).await.refused(Kind::Unavailable);
    assert!(answer.head.contains("retry-after: 5"), "{}", answer.head);
    assert!(!answer.json.to_string().contains("media"), "what is inside is not the client's: {}", answer.json);
    std::fs::rename(&away, site.world.media()).unwrap();
    assert_eq!(site.send_form(&[&file("file", "a.txt", b"1"), &text("title", "t"), END]).await.status, 200);
}

#[tokio::test]
async fn a_part_that_is_read_too_late_is_an_error_and_not_another_parts_bytes() {
    let site = site().await;
    let body = [file("a", "a.txt", b"1"), file("b", "b.txt", b"2"), END.to_vec()].concat();
    site.send("POST /late", "Content-Type: multipart/form-data; boundary=X", &body).await.refused(Kind::Internal);
    site.assert_untouched().await;
}

#[tokio::test]
async fn a_body_is_a_file() {
    let site = site().await;
    let answer = site.send("PUT /raw/My%20notes.txt", "Content-Type: text/plain", b"one").await;
    assert_eq!((answer.status, answer.json), (200, json!("d/My_notes.txt")));
    assert_eq!(site.stored("d/My_notes.txt"), b"one");
    site.send("PUT /raw/empty.txt", "X-A: b", b"").await.refused(Kind::Empty);
    // Broken off.
    let mut stream = site.begin("PUT /raw/half.txt", "X-A: b", 1_000).await;
    stream.write_all(&[1; 500]).await.unwrap();
    stream.shutdown().await.unwrap();
    site.wait_for_the_end(3).await;
    assert_eq!(site.world.files(), ["d/My_notes.txt"]);
}

/// What a GET answers.
async fn get_from(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    Answer::read(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_200_while_files_are_collected() {
    let site = site().await;
    let worker = Arc::new(site.media.start(Settings::default()));
    let app = Router::new().route("/files", axum::routing::get(rowbound_web::health)).with_state(worker.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    wait_until(DEADLINE, "the worker runs", async || get_from(address, "/files").await.status == 200).await;
    let answer = get_from(address, "/files").await;
    assert_eq!((&answer.json["state"], &answer.json["backlog"], &answer.json["why"]), (&json!("running"), &json!(0), &Value::Null));
    assert!(answer.head.contains("content-type: application/json") && answer.head.contains("cache-control: no-store"), "{}", answer.head);

    // A storage is looked at when there is something to collect.
    let away = site.world.folder().join("away");
    std::fs::rename(site.world.media(), &away).unwrap();
    site.media.storages().default().unwrap().delete(&World::file_name("old.txt")).await.unwrap();
    wait_until(DEADLINE, "the worker waits", async || get_from(address, "/files").await.status == 503).await;
    let answer = get_from(address, "/files").await;
    assert_eq!((&answer.json["state"], &answer.json["why"]["kind"]), (&json!("waiting"), &json!("storage-unreachable")));
    std::fs::rename(&away, site.world.media()).unwrap();
    wait_until(DEADLINE, "the worker runs again", async || get_from(address, "/files").await.status == 200).await;

    worker.stop().await;
    let answer = get_from(address, "/files").await;
    assert_eq!((answer.status, &answer.json["state"]), (503, &json!("ended")));
}
