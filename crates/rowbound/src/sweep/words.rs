//! Names as words of a value.
//!
//! In: a value, and a name that stands in it. Out: whether the value references that name, or only holds the same letters; the words of a list, however it is written; a piece
//! of the value for a report. Promise: whatever cannot be told counts as a reference.

use crate::{database::survey::OVERLAP, name::FileName};

/// A name without folder and suffix is a word like any other, unless it is so long.
const WORD: usize = 16;

/// A word that is so long, and has letters and digits, is of no language.
const MIXED: usize = 6;

/// So many brackets and quotes are taken off a word.
const LAYERS: usize = 16;

/// Whether a value that holds the bytes of `name` references it. A short word (`1`, `draft`) counts only where it stands for itself: as the whole value, as an item of a list,
/// between quotes, at the end of a path, or next to one of the bytes in `between`.
pub(super) fn is_reference(value: &[u8], name: &FileName, between: &[u8]) -> bool {
    // A key that is no path is referenced by its path, too.
    let word = if name.as_path().is_ok() { name.as_str() } else { name.as_str().trim_start_matches("./").trim_start_matches('/') };
    let word = word.as_bytes();
    let has = |what: fn(&u8) -> bool| word.iter().any(what);
    let is_mixed = word.len() >= MIXED && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    let is_plain = word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if word.is_empty() || word.len() >= WORD || is_mixed || !is_plain {
        return true;
    }
    if items(value).chain([value]).any(|item| peeled(item).any(|one| one == word)) {
        return true;
    }
    let is_binary = is_binary(value);
    // In bytes a field begins and ends with any byte, and often begins with its length: plain, or in the lower bits of what tells its type (CBOR, MessagePack).
    let is_byte = |at: usize| is_binary && !matches!(value[at], b' '..=b'~' | b'\t' | b'\n' | b'\r');
    let is_length = |at: usize| is_binary && usize::from(value[at] & 0x1f) == word.len();
    value.windows(word.len()).enumerate().filter(|(_, w)| *w == word).any(|(at, _)| {
        // Percent-encoded, a slash, a quote and what begins a query are three characters.
        let encoded = |at: usize| {
            value
                .get(at..at + 3)
                .is_some_and(|e| [b"%2f", b"%22", b"%27", b"%3d", b"%3f", b"%23", b"%26"].iter().any(|c| e.eq_ignore_ascii_case(*c)))
        };
        let before = at
            .checked_sub(1)
            .is_none_or(|i| matches!(value[i], b'"' | b'\'' | b'/' | b'=' | b';' | b'(') || between.contains(&value[i]) || is_byte(i))
            || at.checked_sub(3).is_some_and(encoded);
        let end = at + word.len();
        let after = value.get(end).is_none_or(|b| {
            matches!(b, b'"' | b'\'' | b'\\' | b'?' | b'#' | b'&' | b'<' | b'>' | b')') || between.contains(b) || is_byte(end)
        }) || encoded(end);
        before && after || at.checked_sub(1).is_some_and(is_length)
    })
}

/// The items of a list, in one line or one to a line.
pub(super) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| matches!(b, b',' | b';' | b'|' | b'\n' | b'\r' | b'\t'))
}

/// An item, and what remains of it when blanks, brackets, quotes and the dash of a YAML list are taken off, one after the other.
pub(super) fn peeled(item: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(item.trim_ascii()), |&word| peel(word)).take(LAYERS)
}

fn peel(word: &[u8]) -> Option<&[u8]> {
    let is_edge = |b: &u8| matches!(b, b'{' | b'}' | b'[' | b']' | b'(' | b')' | b'"' | b'\'' | b'\\');
    match word {
        [b'-', b' ', rest @ ..] => Some(rest.trim_ascii()),
        [first, rest @ ..] if is_edge(first) => Some(rest.trim_ascii()),
        [rest @ .., last] if is_edge(last) => Some(rest.trim_ascii()),
        _ => None,
    }
}

/// What stands behind the last `key: ` of an item (YAML, Python).
pub(super) fn behind_key(item: &[u8]) -> Option<&[u8]> {
    item.windows(2).rposition(|two| two == b": ").map(|at| &item[at + 2..])
}

/// Whether a value is bytes rather than text: something that was serialized, so that what stands next to a name says nothing.
pub(super) fn is_binary(value: &[u8]) -> bool {
    if value.iter().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r')) {
        return true;
    }
    // A piece of a long value may begin and end within a character.
    let cut = if value.len() > OVERLAP { value.iter().take(3).take_while(|b| **b & 0xc0 == 0x80).count() } else { 0 };
    std::str::from_utf8(&value[cut..]).is_err_and(|e| e.error_len().is_some() || value.len() <= OVERLAP)
}

/// A piece of a value around the last part of a name.
pub(super) fn excerpt(value: &[u8], name: &FileName) -> String {
    const BEFORE: usize = 60;
    const ALL: usize = 160;
    let base = name.base().as_bytes();
    let at = value.windows(base.len()).position(|w| w == base).unwrap_or(0);
    let start = at.saturating_sub(BEFORE);
    let end = value.len().min(start + ALL.max(at - start + base.len()));
    let mut text = String::from_utf8_lossy(&value[start..end]).into_owned();
    // A character that was cut in two is none.
    text = text.trim_matches('\u{fffd}').to_owned();
    format!("{}{text}{}", if start > 0 { ".." } else { "" }, if end < value.len() { ".." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &[u8], name: &str) -> bool {
        is_reference(value, &FileName::parse(name).unwrap(), b"")
    }

    #[test]
    fn a_short_word_counts_only_where_it_stands_for_itself() {
        for value in [
            "draft",
            " draft ",
            "\"draft\"",
            "{\"src\":\"/m/draft\"}",
            "<img src=/m/draft>",
            "https://h.example/draft?v=1",
            "draft, final",
            "a\tdraft\tb",
            "---\n- draft\n- other",
            "['draft', 'b']",
        ] {
            assert!(references(value.as_bytes(), "draft"), "{value}");
        }
        for value in ["a draft of it", "status: draft", "it is a draft, at last"] {
            assert!(!references(value.as_bytes(), "draft"), "{value}");
        }
        assert!(references(b"https://h.example/?u=%2Fm%2fdraft%3Fv=1", "draft"));
        let listed = |value: &str| is_reference(value.as_bytes(), &FileName::parse("draft").unwrap(), b"{,}");
        assert!(listed("{draft,b}") && listed("{a,draft}") && !listed("{\"a draft of it\"}"));
        assert!(references(b"see a/draft here", "a/draft") && references(b"see draft.txt here", "draft.txt"));
        assert!(references(b"see xtapjjcjiudrlk3tmwyjgpuobabd here", "xtapjjcjiudrlk3tmwyjgpuobabd"));
    }

    #[test]
    fn a_word_of_letters_and_digits_counts_wherever_it_stands() {
        for value in ["k3jd92xz,p0q8w7aa", "- k3jd92xz", "see k3jd92xz there"] {
            assert!(references(value.as_bytes(), "k3jd92xz"), "{value}");
        }
        assert!(!references(b"<h1>a</h1> and h2 there", "h2"), "too short to tell");
    }

    #[test]
    fn what_is_serialized_hides_no_word() {
        for value in [&b"\x80\x04\x8c\x05draft\x94."[..], b"\xa1\x64name\x65draft\x64next\xff", b"\x81\xa4name\xa5draft\xa4"] {
            assert!(is_binary(value) && references(value, "draft"), "{value:?}");
        }
        assert!(!references(b"\x00a draft of it\x00", "draft"));
        for text in ["", "a\nb\tc", "caf\u{e9}", "\u{10348}"] {
            assert!(!is_binary(text.as_bytes()), "{text:?}");
        }
        assert!(is_binary(b"caf\xe9"), "another encoding");
        let long = "\u{e9}".repeat(OVERLAP);
        assert!(!is_binary(&long.as_bytes()[1..long.len() - 1]), "a piece that begins and ends within a character");
    }

    #[test]
    fn an_excerpt_shows_the_name() {
        let name = FileName::parse("2024/é.jpg").unwrap();
        assert_eq!(excerpt("/m/2024/é.jpg".as_bytes(), &name), "/m/2024/é.jpg");
        let long = format!("{}é.jpg{}", "é".repeat(500), "ü".repeat(500));
        let cut = excerpt(long.as_bytes(), &name);
        assert!(cut.contains("é.jpg") && cut.starts_with("..") && cut.ends_with("..") && cut.len() < 200, "{cut}");
        assert_eq!(excerpt(b"elsewhere", &name), "elsewhere");
    }
}
