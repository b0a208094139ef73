//! The examples do what they say, in few lines.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

/// What each of the three prints.
const STORY: &str = "\
saved articles/cat.gif
saved articles/dog.gif
rolled back articles/bird.gif
replaced articles/cat.gif with articles/fish.gif
deleted the row of articles/dog.gif
a row references articles/fish.gif, 43 bytes
a file is articles/fish.gif
";

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The example's binary, which cargo builds before these tests.
fn example(name: &str) -> Command {
    let here = std::env::current_exe().unwrap();
    let binary: PathBuf = here.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(binary.exists(), "{} is not built: run `cargo build -p rowbound-examples --examples`", binary.display());
    Command::new(binary)
}

fn tells_the_story(name: &str, source: &str) {
    assert!(source.lines().count() < 60, "{name}.rs has {} lines", source.lines().count());
    let done = example(name).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), STORY);
}

#[test]
fn sqlx() {
    tells_the_story("sqlx", include_str!("sqlx.rs"));
}

#[test]
fn diesel() {
    tells_the_story("diesel", include_str!("diesel.rs"));
}

#[test]
fn sea_orm() {
    tells_the_story("sea_orm", include_str!("sea_orm.rs"));
}

#[test]
fn axum() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = example("axum").arg("0").arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").expect("it says where it is").to_owned();
    let post = |title: &str, image: &[u8]| {
        let part = |rest: &str| format!("--X\r\nContent-Disposition: form-data; name={rest}\r\n\r\n");
        let title = format!("{}{title}\r\n{}", part("\"title\""), part("\"image\"; filename=\"Pixel 1.gif\""));
        let body = [title.as_bytes(), image, b"\r\n--X--\r\n"].concat();
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length";
        stream.write_all(format!("{head}: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /health/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut health = String::new();
    stream.read_to_string(&mut health).unwrap();
    assert!(health.contains("application/json") && health.contains("\"state\":"), "{health}");
    let (good, bad, untitled) = (post("Hello", GIF), post("Hello", b"plain text"), post("", GIF));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(good.starts_with("HTTP/1.1 200 ") && good.contains("Hello: /media/articles/") && good.contains("/Pixel_1.gif"), "{good}");
    assert!(bad.starts_with("HTTP/1.1 415 ") && bad.contains("application/problem+json") && bad.contains("\"field\":\"image\""), "{bad}");
    assert!(untitled.starts_with("HTTP/1.1 400 ") && untitled.contains("\"field\":\"title\""), "{untitled}");
}
