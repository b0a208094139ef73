//! Other views of a value: its escapes taken away, its paths walked, without dots at the end of their parts.

use super::text::{entity, escape};

/// The text with every path in it as it is walked: doubled separators as one, without `.`, and without `..` and the part before it. `None` if nothing changes. The
/// separators of `https://` stay.
pub(super) fn walked(text: &[u8]) -> Option<Vec<u8>> {
    // Most texts have nothing to walk: they are looked through and not copied. The `//` of a URL is nothing, either.
    let is_step = |at: usize| match text.get(at + 1) {
        Some(b'/') => at == 0 || text[at - 1] != b':',
        Some(b'.') => text[at + 1..].starts_with(b"./") || text[at + 1..].starts_with(b"../"),
        _ => false,
    };
    if !text.iter().enumerate().any(|(at, b)| *b == b'/' && is_step(at)) {
        return None;
    }
    // What cannot stand in a part of a path, in whatever text.
    let ends = |b: &u8| *b == b'/' || b.is_ascii_control() || matches!(b, b' ' | b'"' | b'\'' | b'<' | b'>' | b'(' | b'=' | b',');
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let (mut at, mut changed) = (0, false);
    while let Some(&b) = text.get(at) {
        let rest = &text[at..];
        let before = out.last().copied();
        if b == b'/' && before == Some(b'/') && out.get(out.len().wrapping_sub(2)) != Some(&b':') {
            at += 1;
        } else if rest.starts_with(b"./") && before == Some(b'/') {
            at += 2;
        } else if rest.starts_with(b"../") && before == Some(b'/') && out.len() > 1 && !ends(&out[out.len() - 2]) {
            // `a/x/` becomes `a/`.
            out.pop();
            while out.last().is_some_and(|b| !ends(b)) {
                out.pop();
            }
            at += 3;
        } else {
            out.push(b);
            at += 1;
            continue;
        }
        changed = true;
    }
    changed.then_some(out)
}

/// The text without the dots before a separator: a service that leaves them out (Azure) stores `a./b` under `a/b`. `None` if there are none. Dots at the end of a
/// path need no view: what follows a name in a text may be a dot.
pub(super) fn undotted(text: &[u8]) -> Option<Vec<u8>> {
    if !text.windows(2).any(|pair| pair == b"./") {
        return None;
    }
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    for &b in text {
        while b == b'/' && out.last() == Some(&b'.') {
            out.pop();
        }
        out.push(b);
    }
    Some(out)
}

/// Kinds of escapes: `%2F`, `&amp;`, `\/` and `\u00e9`, `\n`, and the `+` of a form for a blank.
pub(super) const PERCENT: u8 = 1;
pub(super) const ENTITY: u8 = 2;
pub(super) const BACKSLASH: u8 = 4;
pub(super) const CONTROL: u8 = 8;
pub(super) const PLUS: u8 = 16;
pub(super) const ALL: u8 = PERCENT | ENTITY | BACKSLASH;

/// `text` with one layer of escapes of these kinds taken away; `None` if there is none.
pub(super) fn peel(text: &[u8], kinds: u8) -> Option<Vec<u8>> {
    let begins = |b: u8| match b {
        b'%' => kinds & PERCENT != 0,
        b'&' => kinds & ENTITY != 0,
        b'\\' => kinds & BACKSLASH != 0,
        b'+' => kinds & PLUS != 0,
        _ => false,
    };
    let first = text.iter().position(|b| begins(*b))?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..first]);
    let mut at = first;
    let mut changed = false;
    while let Some(&b) = text.get(at) {
        let read = match b {
            _ if !begins(b) => None,
            b'%' => percent(&text[at..]).map(|byte| (vec![byte], 3)),
            b'&' => entity(&text[at..]).map(|(c, length)| (c.to_string().into_bytes(), length)),
            b'+' => Some((vec![b' '], 1)),
            _ => escape(&text[at..]).or_else(|| control(&text[at..]).filter(|_| kinds & CONTROL != 0)),
        };
        match read {
            Some((bytes, length)) => {
                out.extend_from_slice(&bytes);
                at += length;
                changed = true;
            }
            None => {
                out.push(b);
                at += 1;
            }
        }
    }
    changed.then_some(out)
}

/// The escape of a control character in JSON, which elsewhere may be a backslash and a letter.
fn control(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let byte = match text.get(1)? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        _ => return None,
    };
    Some((vec![byte], 2))
}

fn percent(text: &[u8]) -> Option<u8> {
    let digit = |i: usize| (*text.get(i)? as char).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_walked() {
        for (text, path) in [
            ("<img src=\"/media/./2024//a.jpg\">", "<img src=\"/media/2024/a.jpg\">"),
            ("/x/../media/y/z/../../a.jpg", "/media/a.jpg"),
            ("https://h.example.org/./a/../../b.jpg", "https://b.jpg"),
            ("../a.jpg", "../a.jpg"),
            ("[../x/../a.jpg]", "[../a.jpg]"),
            ("f=x/../a.jpg", "f=a.jpg"),
            ("a/.b/..c/d./e", "a/.b/..c/d./e"),
        ] {
            let walked = walked(text.as_bytes()).map_or(text.to_owned(), |text| String::from_utf8(text).unwrap());
            assert_eq!(walked, path);
        }
    }

    #[test]
    fn dots_before_a_separator_are_left_out() {
        for (text, path) in [("Acme Inc./a..jpg.", Some("Acme Inc/a..jpg.")), ("a.../b./c", Some("a/b/c")), ("a.b/.c", None), ("", None)] {
            assert_eq!(undotted(text.as_bytes()).map(|text| String::from_utf8(text).unwrap()).as_deref(), path);
        }
    }
}
