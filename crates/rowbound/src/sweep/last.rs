//! Last parts of names that stand in a value: `a.jpg` of `2024/a.jpg`.
//!
//! In: a value, and the last parts that it holds. Out: which of them stand there by themselves, as applications write a name whose folder they know (sizes in WordPress'
//! metadata, lists of CarrierWave), and which may be the end of another file's path. Promise: a value is read once, however many there are.

use std::collections::{BTreeSet, HashSet};

use crate::name::FileName;

/// A last part that is shorter than this, and has no suffix, stands everywhere.
const SHORT: usize = 6;

/// A last part without its suffix that is so long, and made of letters and digits, is a key that nobody else has.
const KEY: usize = 20;

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

    /// Each, and whether it stands in `value` by itself: as the whole value, as an item of a list, between quotes in JSON or in PHP's serialize(). A key of random letters is
    /// meant wherever it stands.
    pub(super) fn of(self, value: &[u8]) -> Vec<(FileName, bool)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let is_structured = is_structured(value);
        let wanted: HashSet<&[u8]> = self.0.iter().map(|base| base.as_str().as_bytes()).collect();
        let items = value.split(|b| matches!(b, b',' | b';' | b'|' | b'\n'));
        let quoted = value.split(|b| *b == b'"').filter(|_| is_structured);
        let words = items.chain(quoted).chain([value]).flat_map(|word| [word.trim_ascii(), without_edges(word)]);
        let alone: HashSet<Vec<u8>> = words.filter(|word| wanted.contains(word)).map(<[u8]>::to_vec).collect();
        let is_alone = |base: &str| {
            // What is escaped there does not stand there as it is. Between quotes it stands all the same.
            let is_escaped = is_structured && (!base.is_ascii() || base.contains(['&', '\'', '<', '>', '"', '\\']));
            alone.contains(base.as_bytes()) || is_escaped || is_key(base)
        };
        let all: Vec<bool> = self.0.iter().map(|base| is_alone(base.as_str())).collect();
        self.0.into_iter().zip(all).collect()
    }
}

/// Without blanks, the braces of a list, and the backslashes of JSON within JSON.
fn without_edges(word: &[u8]) -> &[u8] {
    let is_edge = |b: u8| matches!(b, b'{' | b'}' | b'[' | b']' | b'\\' | b' ');
    let mut word = word.trim_ascii();
    while let [first, rest @ ..] = word
        && is_edge(*first)
    {
        word = rest;
    }
    while let [rest @ .., last] = word
        && is_edge(*last)
    {
        word = rest;
    }
    word
}

/// Whether a value is JSON, or what PHP's serialize() writes, as far as its beginning tells.
fn is_structured(value: &[u8]) -> bool {
    match value.trim_ascii_start() {
        [b'"' | b'[', ..] => true,
        [b'{', rest @ ..] => rest.trim_ascii_start().starts_with(b"\""),
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
