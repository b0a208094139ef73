//! Bytes -> parts, without IO ([RFC 7578](https://www.rfc-editor.org/rfc/rfc7578), [RFC 2046](https://www.rfc-editor.org/rfc/rfc2046#section-5.1), 5.1).
//!
//! In: a body's bytes, in whatever pieces they come. Out: events. Promise: what comes out does not depend on the pieces; no more is held than the last piece
//! and a part's header lines, and those only up to [`HEADER`].

// Written by hand, because no crate carries that promise. multer 3.1.0, which axum uses, was measured on 1 December 2026 with the cases of this module and of
// tests/form.rs, behind a layer that gave it a piece only when it had nothing left to say (without that layer it holds all of a body that is ready: 258 MiB of 256):
// - a part that ends with its header lines swallows the next part, header lines and all;
// - of two `Content-Disposition` the last wins, and nobody learns that there were two; so it is with `Content-Transfer-Encoding`;
// - a boundary in the middle of a line begins the form; what stands before the first one is held (34 MiB of 32) and searched again with each piece;
// - header lines have no limit of bytes; a part without any and a body that was cut off are the same error.
// A layer before it would have to find the parts itself to mend the first two. It reads neither `filename*` nor `%22`, so head.rs would stay as well.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{
    memchr_iter,
    memmem::{self, Finder},
};

use crate::head::Head;

/// The most bytes of a part's header lines.
const HEADER: usize = 16 << 10;

const LINE_END: usize = 2;

/// The most bytes of a boundary: RFC 2046, 5.1.1.
const BOUNDARY: usize = 70;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part(Head),
    /// Bytes of that part, never none.
    Bytes(Bytes),
    /// The part is over.
    PartEnd,
    /// The form is over.
    End,
    /// More bytes are wanted.
    More,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is no such form.
    Malformed(&'static str),
    /// It ended too early.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Preamble,
    /// Behind a delimiter: a line end, or two dashes.
    Delimiter,
    Header,
    Bytes,
    End,
}

/// Reads one body.
#[derive(Debug)]
pub(crate) struct Parser {
    delimiter: Finder<'static>,
    buffer: Bytes,
    at: At,
    /// The header lines so far, and how many bytes they are.
    lines: Vec<Vec<u8>>,
    header: usize,
    /// So many bytes at the buffer's beginning may belong to a delimiter, and else to nothing.
    skip: usize,
    finished: bool,
}

enum Chunk {
    /// Never none.
    Bytes(Bytes),
    Delimiter,
    Nothing,
}

impl Parser {
    /// Of the request's `Content-Type`.
    ///
    /// # Errors
    /// `None` for another type; [`Broken::Malformed`] without a boundary that may be one.
    pub(crate) fn of_type(content_type: &str) -> Option<Result<Self, Broken>> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|one| {
            let (key, value) = one.split_once('=')?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            key.trim().eq_ignore_ascii_case("boundary").then(|| bare.to_owned())
        });
        let legal = |b: &u8| b.is_ascii_graphic() && *b != b'"' || *b == b' ';
        Some(match boundary {
            Some(b) if (1..=BOUNDARY).contains(&b.len()) && b.as_bytes().iter().all(legal) && !b.ends_with(' ') => Ok(Self::new(&b)),
            _ => Err(Broken::Malformed("the `Content-Type` has no boundary")),
        })
    }

    fn new(boundary: &str) -> Self {
        Parser {
            delimiter: Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned(),
            // The first delimiter may stand at the beginning, without a line end before it.
            buffer: Bytes::from_static(b"\r\n"),
            at: At::Preamble,
            lines: Vec::new(),
            header: 0,
            skip: LINE_END,
            finished: false,
        }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.buffer = match self.buffer.is_empty() {
            true => piece,
            false => {
                let mut both = BytesMut::with_capacity(self.buffer.len() + piece.len());
                both.extend_from_slice(&self.buffer);
                both.extend_from_slice(&piece);
                both.freeze()
            }
        };
    }

    /// There are no more pieces.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// What came next. After [`Event::End`] it is always that.
    ///
    /// # Errors
    /// [`Broken`]: nothing that follows can be trusted.
    pub(crate) fn next(&mut self) -> Result<Event, Broken> {
        loop {
            match self.at {
                At::Preamble => match self.chunk() {
                    Chunk::Bytes(_) => {}
                    Chunk::Delimiter => self.at = At::Delimiter,
                    Chunk::Nothing if self.finished => return Err(Broken::Malformed("the body has not one boundary")),
                    Chunk::Nothing => return Ok(Event::More),
                },
                At::Bytes => match self.chunk() {
                    Chunk::Bytes(bytes) => return Ok(Event::Bytes(bytes)),
                    Chunk::Delimiter => {
                        self.at = At::Delimiter;
                        return Ok(Event::PartEnd);
                    }
                    Chunk::Nothing => return self.more(),
                },
                At::Delimiter => {
                    // Blanks may follow a delimiter.
                    let blanks = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    self.buffer.advance(blanks);
                    match self.buffer.get(..2) {
                        Some(b"--") => self.at = At::End,
                        Some(b"\r\n") => {
                            self.buffer.advance(2);
                            (self.at, self.header) = (At::Header, 0);
                        }
                        Some(_) => return Err(Broken::Malformed("a boundary is followed by something else than a line end")),
                        None => return self.more(),
                    }
                }
                At::Header => {
                    let end = memmem::find(&self.buffer, b"\r\n");
                    if self.header + end.unwrap_or(self.buffer.len()) > HEADER {
                        return Err(Broken::Malformed("a part has more than 16 KiB of header lines"));
                    }
                    match end {
                        None => return self.more(),
                        Some(0) => {
                            // The empty line's end may be the beginning of a delimiter, where a part has no bytes at all.
                            (self.at, self.skip) = (At::Bytes, LINE_END);
                            let lines = std::mem::take(&mut self.lines);
                            return Head::parse(&lines).map(Event::Part).map_err(Broken::Malformed);
                        }
                        Some(end) => {
                            self.lines.push(self.buffer.split_to(end).to_vec());
                            self.buffer.advance(LINE_END);
                            self.header += end + LINE_END;
                        }
                    }
                }
                At::End => {
                    self.buffer = Bytes::new();
                    return Ok(Event::End);
                }
            }
        }
    }

    fn more(&self) -> Result<Event, Broken> {
        if self.finished { Err(Broken::Cut) } else { Ok(Event::More) }
    }

    /// What stands before the next delimiter, as far as that can be told; then the delimiter.
    fn chunk(&mut self) -> Chunk {
        let needle = self.delimiter.needle();
        let found = self.delimiter.find(&self.buffer);
        let sure = found.unwrap_or_else(|| {
            // The end may be the beginning of a delimiter, which has no second line end within it.
            let tail = self.buffer.len().saturating_sub(needle.len() - 1);
            memchr_iter(b'\r', &self.buffer[tail..])
                .map(|at| tail + at)
                .find(|at| needle.starts_with(&self.buffer[*at..]))
                .unwrap_or(self.buffer.len())
        });
        if sure > self.skip {
            let mut bytes = self.buffer.split_to(sure);
            bytes.advance(std::mem::take(&mut self.skip));
            return Chunk::Bytes(bytes);
        }
        match found {
            Some(at) => {
                self.buffer.advance(at + needle.len());
                self.skip = 0;
                Chunk::Delimiter
            }
            None => Chunk::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that comes out, with bytes put together.
    fn read(body: &[u8], pieces: impl Iterator<Item = usize>) -> Result<Vec<(Head, Vec<u8>)>, Broken> {
        let mut parser = Parser::new("X");
        let (mut parts, mut rest) = (Vec::<(Head, Vec<u8>)>::new(), body);
        let mut pieces = pieces.chain(std::iter::repeat(usize::MAX));
        loop {
            match parser.next()? {
                Event::Part(head) => parts.push((head, Vec::new())),
                Event::Bytes(bytes) => {
                    assert!(!bytes.is_empty());
                    parts.last_mut().expect("bytes come in a part").1.extend_from_slice(&bytes);
                }
                Event::PartEnd => {}
                Event::End => return Ok(parts),
                Event::More if rest.is_empty() => parser.finish(),
                Event::More => {
                    let (piece, after) = rest.split_at(pieces.next().unwrap_or_default().clamp(1, rest.len()));
                    parser.push(Bytes::copy_from_slice(piece));
                    rest = after;
                }
            }
        }
    }

    fn texts(body: &str) -> Result<Vec<(String, String)>, Broken> {
        let whole = read(body.as_bytes(), std::iter::empty());
        assert_eq!(whole, read(body.as_bytes(), std::iter::repeat(1)), "byte by byte");
        Ok(whole?.into_iter().map(|(head, bytes)| (head.name, String::from_utf8(bytes).unwrap())).collect())
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    const A: &str = "Content-Disposition: form-data; name=\"a\"";

    #[test]
    fn forms_are_read() {
        for (body, parts) in [
            (format!("--X\r\n{A}\r\n\r\none\r\n--X--\r\n"), pairs(&[("a", "one")])),
            // Without a last line end; with a preamble and an epilogue; with blanks behind the boundary.
            (format!("--X\r\n{A}\r\n\r\none\r\n--X--"), pairs(&[("a", "one")])),
            (format!("hello\r\n--X \t\r\n{A}\r\n\r\none\r\n--X--\r\nbye\r\n--X\r\n"), pairs(&[("a", "one")])),
            // Empty forms, empty parts, parts with a header only.
            ("--X--\r\n".to_owned(), vec![]),
            (format!("--X\r\n{A}\r\n\r\n\r\n--X\r\n{A}\r\n\r\n\r\n--X--"), pairs(&[("a", ""), ("a", "")])),
            (format!("--X\r\n{A}\r\n\r\n--X\r\n{A}\r\n\r\ntwo\r\n--X--"), pairs(&[("a", ""), ("a", "two")])),
            // What looks like the beginning of a boundary.
            (
                format!("--X\r\n{A}\r\n\r\n\r\n\r\n-\r\r\n--\r\n-X\r\n--Y --X\r\n--X--"),
                pairs(&[("a", "\r\n\r\n-\r\r\n--\r\n-X\r\n--Y --X")]),
            ),
        ] {
            assert_eq!(texts(&body), Ok(parts), "{body:?}");
        }
    }

    #[test]
    fn what_is_no_form_is_said() {
        let cut = Err(Broken::Cut);
        assert_eq!(texts(&format!("--X\r\n{A}\r\n\r\none")), cut);
        assert_eq!(texts(&format!("--X\r\n{A}\r\n\r\none\r\n--X")), cut);
        assert_eq!(texts(&format!("--X\r\n{A}\r\n\r\none\r\n--X\r\n")), cut);
        assert_eq!(texts(&format!("--X\r\n{A}")), cut);
        for body in ["", "hello", "--Y\r\n\r\n--Y--", "--X\r\n\r\none\r\n--X--", "--Xtra\r\n", "--X\r\nno colon\r\n\r\n"] {
            assert!(matches!(texts(body), Err(Broken::Malformed(_))), "{body:?}");
        }
        let long = format!("--X\r\n{A}\r\nx: {}", "y".repeat(HEADER));
        assert!(matches!(texts(&long), Err(Broken::Malformed(_))));
        let many = format!("--X\r\n{A}\r\n{}", "x: y\r\n".repeat(HEADER / 6));
        assert!(matches!(texts(&many), Err(Broken::Malformed(_))));
    }

    #[test]
    fn boundaries_are_those_of_the_content_type() {
        let boundary = |of: &str| Parser::of_type(of).map(|p| p.map(|p| String::from_utf8(p.delimiter.needle().to_vec()).unwrap()));
        let is = |b: &str| Some(Ok(format!("\r\n--{b}")));
        assert_eq!(boundary("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk"), is("----WebKitFormBoundary7MA4YWxk"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), is("a b"));
        assert_eq!(boundary("application/json"), None);
        assert_eq!(boundary("multipart/mixed; boundary=x"), None);
        for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a\r\n\""] {
            assert!(matches!(boundary(wrong), Some(Err(Broken::Malformed(_)))), "{wrong}");
        }
        assert!(matches!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))), Some(Err(_))));
    }

    proptest! {
        /// Whatever the bytes and the pieces: what goes in comes out.
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"\r\n-Xab"[..]), 0..40), 0..4),
            pieces in prop::collection::vec(1_usize..20, 0..200),
        ) {
            let legal = |bytes: &&Vec<u8>| memmem::find(&[b"\r\n", bytes.as_slice(), b"\r\n--"].concat(), b"\r\n--X").is_none();
            let parts: Vec<_> = parts.iter().filter(legal).cloned().collect();
            let mut body = Vec::new();
            for part in &parts {
                body.extend_from_slice(format!("--X\r\n{A}\r\n\r\n").as_bytes());
                body.extend_from_slice(part);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--X--\r\n");
            let read = read(&body, pieces.into_iter()).unwrap();
            prop_assert_eq!(read.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), parts);
        }

        /// Whatever comes: an answer, the same for all pieces.
        #[test]
        fn nothing_makes_it_panic(
            body in prop::collection::vec(prop::sample::select(&b"\r\n-X:;=\"a"[..]), 0..120),
            pieces in prop::collection::vec(1_usize..9, 0..120),
        ) {
            let body = [&b"--X\r\n"[..], &body].concat();
            prop_assert_eq!(read(&body, pieces.into_iter()), read(&body, std::iter::empty()));
        }
    }
}
