//! Last parts of names that stand in a value: `a.jpg` of `2024/a.jpg`.
//!
//! In: a value, and the last parts that it holds. Out: which of them stand there by themselves, as applications write a name whose folder they know (sizes in WordPress'
//! metadata, lists of CarrierWave), and which may be the end of another file's path. Promise: how often a value is read does not depend on how many
//! there are.

use std::collections::{BTreeSet, HashSet};

use aho_corasick::AhoCorasick;
use percent_encoding::percent_decode;
use unicode_normalization::UnicodeNormalization;

use super::words::{behind_key, is_binary, items, peeled};
use crate::{database::survey::OVERLAP, name::FileName};

/// A last part that is shorter than this, and has no suffix, stands everywhere.
const SHORT: usize = 6;

/// A last part without its suffix that is so long, and made of letters and digits, is a key that nobody else has.
const KEY: usize = 20;

/// In a piece of a long value, whose beginning is not seen: if so many bytes hold a quote at least, it is JSON or the like.
const QUOTED: usize = 200;

/// A longer word is no name, percent-encoded or not.
const LONG: usize = 4_096;

/// Whether a last part is worth looking for.
pub(super) fn is_telling(base: &str) -> bool {
    base.len() >= SHORT || base.contains('.') && base.len() > 3
}

/// The last parts that one value holds.
#[derive(Debug, Default)]
pub(super) struct Lasts(BTreeSet<FileName>);

impl Lasts {
    /// The value holds this one.
    pub(super) fn add(&mut self, base: &FileName) {
        if !self.0.contains(base) {
            self.0.insert(base.clone());
        }
    }

    /// Whether the value holds none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, and whether it stands in `value` by itself: as the whole value, as an item of a list, between quotes in JSON or in PHP's serialize(), as a value of YAML or Python,
    /// or in bytes that somebody serialized. A key of random letters stands by itself wherever it is.
    pub(super) fn of(self, value: &[u8]) -> Vec<(FileName, bool)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let (is_structured, is_binary) = (is_structured(value), is_binary(value));
        let wanted: HashSet<&[u8]> = self.0.iter().map(|base| base.as_str().as_bytes()).collect();
        let longest = wanted.iter().map(|base| base.len()).max().unwrap_or(0);
        let quoted = value.split(|b| matches!(b, b'"' | b'\'')).filter(|_| is_structured);
        let found = items(value).chain(quoted).chain([value]).flat_map(|item| [Some(item), behind_key(item)]).flatten();
        let words = found.flat_map(|word| std::iter::once(word).chain(peeled(word)));
        let mut alone: HashSet<Vec<u8>> = words.filter(|word| word.len() <= longest && wanted.contains(word)).map(<[u8]>::to_vec).collect();
        let other = spelled(value);
        if is_binary {
            alone.extend(outside_of_paths(value, wanted));
        }
        let is_alone = |base: &str| {
            // What is escaped there does not stand there as it is. Between quotes it stands all the same.
            let is_escaped = (is_structured || is_binary) && (!base.is_ascii() || base.contains(['&', '\'', '<', '>', '"', '\\']));
            alone.contains(base.as_bytes())
                || is_escaped
                || is_key(base)
                || !other.is_empty() && other.contains(&base.nfc().collect::<String>())
        };
        let all: Vec<bool> = self.0.iter().map(|base| is_alone(base.as_str())).collect();
        self.0.into_iter().zip(all).collect()
    }
}

/// What the value and its items are, percent-decoded and in one normal form, where they are written in another way.
fn spelled(value: &[u8]) -> HashSet<String> {
    let words = items(value).chain([value]).filter(|word| word.len() <= LONG && word.iter().any(|b| !b.is_ascii() || *b == b'%'));
    words.filter_map(|word| Some(percent_decode(word.trim_ascii()).decode_utf8().ok()?.nfc().collect())).collect()
}

/// Those that stand in bytes elsewhere than at the end of a path: what comes before and after them there is no text.
fn outside_of_paths(value: &[u8], wanted: HashSet<&[u8]>) -> Vec<Vec<u8>> {
    let wanted: Vec<&[u8]> = wanted.into_iter().collect();
    let Ok(automaton) = AhoCorasick::new(&wanted) else { return wanted.into_iter().map(<[u8]>::to_vec).collect() };
    let found = automaton.find_overlapping_iter(value);
    let outside = found.filter(|one| one.start().checked_sub(1).is_none_or(|before| value[before] != b'/'));
    let all: HashSet<usize> = outside.map(|one| one.pattern().as_usize()).collect();
    all.into_iter().map(|at| wanted[at].to_vec()).collect()
}

/// Whether a value is JSON, or what PHP's serialize() writes, as far as its beginning tells; or a piece of one.
fn is_structured(value: &[u8]) -> bool {
    let is_piece = value.len() >= OVERLAP && value.iter().filter(|b| **b == b'"').count() >= value.len() / QUOTED;
    is_piece
        || match value.trim_ascii_start() {
            [b'"' | b'[', ..] => true,
            [b'{', rest @ ..] => matches!(rest.trim_ascii_start(), [b'"' | b'\'', ..]),
            [b'a' | b'O' | b's', b':', b'0'..=b'9', ..] => true,
            _ => false,
        }
}

/// Whether a last part is a key that nobody else has: a hash, random letters and digits, a UUID.
fn is_key(base: &str) -> bool {
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    let parts: Vec<usize> = stem.split('-').map(str::len).collect();
    let has = |what: fn(&u8) -> bool| stem.bytes().any(|b| what(&b));
    (parts.len() == 1 && stem.len() >= KEY || parts == [8, 4, 4, 4, 12])
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(value: &str, base: &str) -> bool {
        let mut lasts = Lasts::default();
        lasts.add(&FileName::key(base).unwrap());
        let of = lasts.of(value.as_bytes());
        assert_eq!(of.len(), 1);
        of[0].1
    }

    #[test]
    fn a_last_part_stands_by_itself_in_another_spelling() {
        for value in ["e\u{301}te\u{301}.jpg", "%C3%A9t%C3%A9.jpg", "a.jpg,%C3%A9t%C3%A9.jpg"] {
            assert!(alone(value, "\u{e9}t\u{e9}.jpg"), "{value}");
        }
        assert!(!alone("d/%C3%A9t%C3%A9.jpg", "\u{e9}t\u{e9}.jpg"));
    }

    #[test]
    fn a_last_part_stands_by_itself_in_lists_json_and_serialized_php() {
        for value in [
            "a-300x200.jpg",
            " a-300x200.jpg\n",
            "b.jpg, a-300x200.jpg",
            "{b.jpg,a-300x200.jpg}",
            r#"{"sizes": {"medium": {"file": "a-300x200.jpg", "width": 300}}}"#,
            r#"[1, "a-300x200.jpg"]"#,
            r#"{"b c.jpg",a-300x200.jpg}"#,
            r#"{"x":"{\"file\":\"a-300x200.jpg\"}"}"#,
            r#"a:1:{s:4:"file";s:13:"a-300x200.jpg";}"#,
            "---\n- a-300x200.jpg\n- b.jpg\n",
            "file: a-300x200.jpg\nwidth: 300",
            "{file: a-300x200.jpg, width: 300}",
            "['a-300x200.jpg', 'b.jpg']",
            "['b, c.jpg', 'a-300x200.jpg']",
            "{'file': 'a-300x200.jpg'}",
            "b.jpg\ta-300x200.jpg",
        ] {
            assert!(alone(value, "a-300x200.jpg"), "{value}");
        }
        for value in [
            "see a-300x200.jpg there",
            "elsewhere/a-300x200.jpg",
            r#"{"file": "elsewhere/a-300x200.jpg"}"#,
            r#"<img src="/m/b.jpg" alt="a-300x200.jpg">"#,
        ] {
            assert!(!alone(value, "a-300x200.jpg"), "{value}");
        }
        assert!(alone(r#"{"file":"caf\u00e9.jpg"}"#, "caf\u{e9}.jpg"), "it is escaped, and stands between quotes");
    }

    #[test]
    fn a_piece_of_long_json_is_json() {
        let size = |n: usize| format!(r#""size-{n}":{{"file":"photo-{n}-300x200.jpg","width":300,"height":200}},"#);
        let piece = |text: &str| format!("00,\"height\":200}},{text}\"last\":{{\"file\":\"a-300x200.jpg\",\"wi");
        let sizes: String = (0..OVERLAP / 40).map(size).collect();
        assert!(alone(&piece(&sizes), "a-300x200.jpg"));
        let prose = "Lorem ipsum dolor sit amet; ".repeat(OVERLAP / 20);
        assert!(!alone(&format!("{prose} see \"a-300x200.jpg\" there"), "a-300x200.jpg"));
    }

    #[test]
    fn a_last_part_stands_by_itself_in_what_is_serialized() {
        let in_bytes = |value: &[u8]| {
            let mut lasts = Lasts::default();
            lasts.add(&FileName::key("a-1.jpg").unwrap());
            lasts.of(value)[0].1
        };
        // MessagePack, CBOR, pickle, protobuf.
        for value in [&b"\x81\xa4file\xa7a-1.jpg"[..], b"\xa1\x64file\x67a-1.jpg\xff", b"\x80\x04\x8c\x07a-1.jpg\x94.", b"\x0a\x07a-1.jpg"]
        {
            assert!(in_bytes(value), "{value:?}");
        }
        assert!(!in_bytes(b"\x8c\x11elsewhere/a-1.jpg\x94."));
    }

    #[test]
    fn a_random_key_is_meant_wherever_it_stands() {
        let text = |base: &str| format!("key: x/{base}?v=1 and more");
        for base in
            ["xt4pjjc9iudrl0k3tmw7gpuob2bd", "0b0c1a52-6a53-4b0e-9f6c-2f6f0a4a9d11.jpg", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b.png"]
        {
            assert!(alone(&text(base), base), "{base}");
        }
        for base in ["logo.png", "photograph-of-a-waterfall-2.jpg", "12345678901234567890.jpg"] {
            assert!(!alone(&text(base), base), "{base}");
        }
    }

    #[test]
    fn short_words_are_not_looked_for() {
        for (base, telling) in [("1", false), ("draft", false), ("1.js", true), ("a.b", false), ("photo1", true)] {
            assert_eq!(is_telling(base), telling, "{base}");
        }
    }
}
