//! Forms through the public extractor, without a server: promises that a parser from elsewhere must carry before it may take the place of `src/multipart.rs`,
//! which says what was measured of multer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::header::CONTENT_TYPE,
};
use bytes::Bytes;
use futures_util::stream;
use rowbound_web::{Kind, Problem, UploadForm};

const PIECE: usize = 64 << 10;

const A: &str = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n";

async fn form(body: Body) -> UploadForm {
    let request = Request::post("/").header(CONTENT_TYPE, "multipart/form-data; boundary=X").body(body).unwrap();
    UploadForm::from_request(request, &()).await.expect("a form")
}

/// Names and bytes of the parts of a body that comes in pieces of so many bytes.
async fn parts(body: &[u8], piece: usize) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let mut form = form(Body::from_stream(stream::iter(pieces))).await;
    let mut parts = Vec::new();
    while let Some(part) = form.next().await? {
        parts.push((part.name().to_owned(), part.bytes().await?.to_vec()));
    }
    Ok(parts)
}

/// The kind of problem that the body is, whole and byte by byte.
async fn refused(body: &str) -> Kind {
    let kind = parts(body.as_bytes(), usize::MAX).await.expect_err(body).kind();
    assert_eq!(parts(body.as_bytes(), 1).await.expect_err(body).kind(), kind, "{body:?}");
    kind
}

/// A body that is ready whenever it is asked for: `head`, then so many pieces of the same byte. With how many pieces it was asked for.
fn ready(head: String, pieces: usize) -> (Body, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counted, piece) = (asked.clone(), Bytes::from(vec![b'z'; PIECE]));
    let rest = std::iter::repeat_n(piece, pieces).inspect(move |_| {
        counted.fetch_add(1, SeqCst);
    });
    let all = std::iter::once(Bytes::from(head)).chain(rest).map(Ok::<_, std::io::Error>);
    (Body::from_stream(stream::iter(all)), asked)
}

/// RFC 2046, 5.1.1: the line end before a boundary belongs to the boundary, and a part may end with its header lines.
#[tokio::test]
async fn a_part_without_bytes_does_not_swallow_the_next() {
    let body = format!("{A}\r\n{A}\r\ntwo\r\n--X--\r\n");
    let wanted = vec![("a".to_owned(), Vec::new()), ("a".to_owned(), b"two".to_vec())];
    for piece in [1, 7, usize::MAX] {
        assert_eq!(parts(body.as_bytes(), piece).await.unwrap(), wanted, "in pieces of {piece}");
    }
}

#[tokio::test]
async fn headers_that_are_said_twice_are_refused() {
    let twice = format!("{A}content-disposition: form-data; name=\"b\"\r\n\r\none\r\n--X--\r\n");
    assert_eq!(refused(&twice).await, Kind::Malformed);
    for codings in [["base64", "8bit"], ["8bit", "base64"]] {
        let [first, second] = codings.map(|coding| format!("Content-Transfer-Encoding: {coding}\r\n"));
        assert_eq!(refused(&format!("{A}{first}{second}\r\none\r\n--X--\r\n")).await, Kind::Malformed);
    }
}

/// What is no boundary is not taken for one, and a part without header lines is told from a body that was cut off.
#[tokio::test]
async fn boundaries_stand_at_the_beginning_of_a_line() {
    let body = format!("hello {A}\r\none\r\n{A}\r\ntwo\r\n--X--\r\n");
    assert_eq!(parts(body.as_bytes(), usize::MAX).await.unwrap(), [("a".to_owned(), b"two".to_vec())]);
    assert_eq!(refused("--X\r\n\r\none\r\n--X--\r\n").await, Kind::Malformed);
    assert_eq!(refused("hello").await, Kind::Malformed);
    assert_eq!(refused(&format!("{A}\r\none")).await, Kind::Cut);
}

/// A client may be faster than a storage: what was not asked for stays in its socket.
#[tokio::test]
async fn no_more_is_read_than_is_taken() {
    let (body, asked) = ready(format!("{A}\r\n"), 1_000);
    let mut first = form(body).await;
    let part = first.next().await.unwrap().expect("a part");
    assert!(asked.load(SeqCst) <= 1, "{asked:?} pieces for a header");
    drop(part);
    // Many small parts, each of which could read one piece ahead.
    let (body, asked) = ready(format!("{A}\r\none\r\n").repeat(500) + A + "\r\n", 1_000);
    let mut form = form(body).await;
    for _ in 0..501 {
        form.next().await.unwrap().expect("a part");
    }
    assert!(asked.load(SeqCst) <= 1, "{asked:?} pieces for 501 headers");
}

#[tokio::test]
async fn endless_header_lines_end_after_16_kib() {
    let (body, asked) = ready(format!("{A}x: "), 1_000);
    let mut form = form(body).await;
    assert_eq!(form.next().await.err().map(|problem| problem.kind()), Some(Kind::Malformed));
    assert!(asked.load(SeqCst) <= 1, "{asked:?} pieces");
    assert_eq!(refused(&format!("{A}x: {}\r\n\r\none\r\n--X--\r\n", "y".repeat(16 << 10))).await, Kind::Malformed);
}
