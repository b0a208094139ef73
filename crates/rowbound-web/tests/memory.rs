//! Uploads take constant memory: the peak of a real server's process, while a file comes in that is larger than it may have. The S3 server is another process.
//!
//! The server is `examples/receive.rs`, which cargo builds before these tests.

use std::{
    io::{BufRead, BufReader, Lines, Read},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use rowbound_testkit::{S3Kind, S3Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MIB: u64 = 1 << 20;

/// The promise: this and no more, whatever comes in.
const PROMISED: u64 = 64 * MIB;

struct Site {
    process: Child,
    /// Kept open: the server ends with its input, and must not fail to say something.
    _pipes: (Option<ChildStdin>, Lines<BufReader<ChildStdout>>),
    address: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Site {
    fn start(database: &Path, storage: &str, env: Vec<(String, String)>) -> Site {
        let here = std::env::current_exe().unwrap();
        let binary = here.ancestors().nth(2).unwrap().join("examples/receive");
        assert!(binary.exists(), "{} is not built: run `cargo build -p rowbound-web --examples`", binary.display());
        let mut command = Command::new(binary);
        command.arg(format!("sqlite:{}", database.display())).arg(storage).envs(env);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.by_ref().find_map(|line| Some(line.ok()?.strip_prefix("listening on ")?.to_owned())).expect("the server comes up");
        let stdin = process.stdin.take();
        Site { process, _pipes: (stdin, lines), address }
    }

    /// The most memory that the process has had, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Uploads a file of `size` bytes and returns its name.
    async fn upload(&self, size: u64) -> String {
        self.upload_behind(0, size).await
    }

    /// The same behind so many bytes that belong to no part: RFC 2046 calls them the preamble.
    async fn upload_behind(&self, preamble: u64, size: u64) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = b"\r\n--between-parts\r\nContent-Disposition: form-data; name=\"file\"; filename=\"big.bin\"\r\n\r\n";
        let end = b"\r\n--between-parts--\r\n";
        let length = preamble + head.len() as u64 + size + end.len() as u64;
        let request = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=between-parts";
        stream.write_all(format!("{request}\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await.unwrap();
        send(&mut stream, preamble).await;
        stream.write_all(head).await.ok();
        let left = send(&mut stream, size).await;
        stream.write_all(if left == 0 { end } else { b"" }).await.ok();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{left} bytes were not taken: {answer} ({read:?})");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }
}

/// The file's bytes from `at` on: no two pieces are alike, and there are line ends in it.
fn piece(at: u64) -> Vec<u8> {
    let mut piece = b"0123456789abcde\r\n--".repeat(3_400);
    piece[..8].copy_from_slice(&at.to_le_bytes());
    piece
}

/// Sends so many bytes of a file; those that were not taken.
async fn send(stream: &mut TcpStream, size: u64) -> u64 {
    let mut left = size;
    while left > 0 {
        let piece = piece(size - left);
        let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        left -= piece.len() as u64;
        // Whoever refuses it says why.
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    left
}

/// Compares what was stored with what was sent.
struct Stored {
    sent: Vec<u8>,
    at: u64,
    size: u64,
}

impl Stored {
    fn new(size: u64) -> Self {
        Stored { sent: Vec::new(), at: 0, size }
    }

    fn next(&mut self, mut got: &[u8]) {
        while !got.is_empty() {
            if self.sent.is_empty() {
                self.sent = piece(self.at);
            }
            let (here, rest) = got.split_at(got.len().min(self.sent.len()));
            assert!(self.sent.starts_with(here), "other bytes from {} on", self.at);
            self.sent.drain(..here.len());
            self.at += here.len() as u64;
            got = rest;
        }
    }

    fn end(self) {
        assert_eq!(self.at, self.size);
    }
}

/// What it took, for the log; and the promise: less than [`PROMISED`], and what one upload adds is less than `grown` bytes.
fn assert_constant(what: &str, site: &Site, before: u64, grown: u64, size: u64, began: Instant) {
    let (peak, mib) = (site.peak(), |bytes: u64| bytes as f64 / MIB as f64);
    println!(
        "{what}: {:.0} MiB in {:.1} s, peak {:.1} MiB, before {:.1} MiB",
        mib(size),
        began.elapsed().as_secs_f64(),
        mib(peak),
        mib(before)
    );
    assert!(peak - before < grown, "{what}: the upload took {:.1} MiB", mib(peak - before));
    assert!(peak < PROMISED, "{what}: the server's process took {:.1} MiB", mib(peak));
}

async fn to_a_folder(size: u64) {
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    let site = Site::start(&folder.path().join("app.sqlite3"), &format!("folder:{}", media.display()), Vec::new());
    let (before, began) = (site.peak(), Instant::now());
    let name = site.upload(size).await;
    assert_constant("folder", &site, before, 16 * MIB, size, began);
    let (mut stored, mut file) = (Stored::new(size), std::fs::File::open(media.join(name)).unwrap());
    let mut buffer = vec![0; 1 << 16];
    while let n @ 1.. = file.read(&mut buffer).unwrap() {
        stored.next(&buffer[..n]);
    }
    stored.end();
}

/// A server that looked for the first boundary in all that came before it would hold it all, and go through it again with each piece.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_before_a_form_is_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    let site = Site::start(&folder.path().join("app.sqlite3"), &format!("folder:{}", media.display()), Vec::new());
    let (before, began) = (site.peak(), Instant::now());
    site.upload_behind(96 * MIB, MIB).await;
    assert_constant("preamble", &site, before, 16 * MIB, 97 * MIB, began);
}

async fn to_s3(size: u64) {
    // In this process, which is another one than the site's.
    let server = S3Server::start(S3Kind::S3sFs);
    let bucket = server.bucket().await;
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(&folder.path().join("app.sqlite3"), &bucket.url("media/"), server.env());
    let (before, began) = (site.peak(), Instant::now());
    let name = site.upload(size).await;
    // A part of 8 MiB that is sent, and the code that sends it, which a debug build has much of.
    assert_constant("s3", &site, before, 32 * MIB, size, began);
    let key = format!("media/{name}");
    let object = bucket.client().get_object().bucket(bucket.name()).key(&key).send().await.unwrap();
    // As it comes: this process need not hold a gigabyte either.
    let mut stored = Stored::new(size);
    let mut body = object.body;
    while let Some(bytes) = body.try_next().await.unwrap() {
        stored.next(&bytes);
    }
    stored.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_takes_an_upload_in_constant_memory() {
    to_a_folder(96 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_takes_an_upload_in_constant_memory() {
    to_s3(96 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a gigabyte: make soak"]
async fn soak_a_folder_takes_a_gigabyte_in_constant_memory() {
    to_a_folder(1024 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a gigabyte: make soak"]
async fn soak_s3_takes_a_gigabyte_in_constant_memory() {
    to_s3(1024 * MIB).await;
}
