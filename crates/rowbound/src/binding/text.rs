//! Names inside HTML, Markdown and other rich text.
//!
//! In: a text. Out: what stands behind each of the URL prefixes, read as a browser reads it: entities, percent-encoding, query and fragment cut.
//! A prefix is found in the spellings that template engines and JSON encoders give it (`\/`, `&#x2F;`), too.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::Regex;

use crate::error::{Error, Kind, Result};

/// How names are found in a text.
#[derive(Debug, Clone)]
pub struct Finder {
    prefixes: Vec<String>,
    pattern: Option<Regex>,
    spelled: Option<AhoCorasick>,
}

impl PartialEq for Finder {
    fn eq(&self, other: &Self) -> bool {
        self.prefixes == other.prefixes && self.pattern() == other.pattern()
    }
}

impl Eq for Finder {}

impl Finder {
    /// Finds what stands behind any of `prefixes`, and the one group of `pattern`.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is neither, the pattern does not parse, or has not exactly one group.
    pub fn new(prefixes: Vec<String>, pattern: Option<&str>) -> Result<Self> {
        if prefixes.is_empty() && pattern.is_none() {
            return Err(Error::new(Kind::Config, "kind = \"text\" needs a `prefix` or a `pattern`")
                .hint("write what stands before the file's name in a URL: prefix = [\"/media/\", \"https://cdn.example.com/media/\"]"));
        }
        let pattern = pattern
            .map(|p| {
                let bad = |why: String| {
                    Error::new(Kind::Config, format!("`pattern` {why}"))
                        .with("pattern", format_args!("{p:?}"))
                        .hint("write a regular expression with one group, which is the name: '\\[\\[image:([^\\]|]+)'")
                };
                let regex = Regex::new(p).map_err(|e| bad(format!("does not parse: {e}")))?;
                if regex.captures_len() == 2 { Ok(regex) } else { Err(bad(format!("has {} groups", regex.captures_len() - 1))) }
            })
            .transpose()?;
        let spellings = prefixes.iter().flat_map(|p| [p.clone(), p.replace('/', "\\/"), p.replace('/', "&#x2F;"), p.replace('/', "&#47;")]);
        let spelled = (!prefixes.is_empty())
            // The longest prefix wins, as in a URL column.
            .then(|| AhoCorasick::builder().ascii_case_insensitive(false).match_kind(MatchKind::LeftmostLongest).build(spellings))
            .transpose()
            .map_err(|e| Error::new(Kind::Config, "the prefixes are too large").because(e))?;
        Ok(Finder { prefixes, pattern, spelled })
    }

    /// The prefixes.
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// The pattern.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_ref().map(Regex::as_str)
    }

    /// Calls `take` with each name's bytes, in the order of prefixes' places, then of the pattern's. What names a folder or nothing is left out.
    pub fn each(&self, text: &[u8], mut take: impl FnMut(&[u8])) {
        let mut give = |path: &[u8]| {
            let path = path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(path);
            let name = percent_decode(path);
            if !name.is_empty() && !name.ends_with(b"/") {
                take(&name);
            }
        };
        for found in self.spelled.iter().flat_map(|s| s.find_iter(text)) {
            give(&token(&text[found.end()..], Around::of(&text[..found.start()])));
        }
        for found in self.pattern.iter().flat_map(|p| p.captures_iter(text)) {
            if let Some(group) = found.get(1) {
                give(&whole(group.as_bytes()));
            }
        }
    }
}

/// What a URL stands in, which says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// An attribute that holds one URL: blanks are part of it.
    Attribute(u8),
    /// Something else in these quotes.
    Quoted(u8),
    /// Neither.
    Plain,
}

impl Around {
    /// How far before a prefix its quote is looked for, in bytes: the longest host in use is shorter.
    const FAR: usize = 256;

    fn of(before: &[u8]) -> Around {
        let near = &before[before.len().saturating_sub(Self::FAR)..];
        let Some(at) = near.iter().rposition(|b| matches!(b, b'"' | b'\'' | b'(' | b'>' | b'<' | b',') || b.is_ascii_whitespace()) else {
            return Around::Plain;
        };
        let quote = near[at];
        if !matches!(quote, b'"' | b'\'') {
            return Around::Plain;
        }
        let attribute = near[..at].to_ascii_lowercase();
        let one = ["src=", "href=", "poster=", "data=", "content="].iter().any(|a| attribute.ends_with(a.as_bytes()));
        if one { Around::Attribute(quote) } else { Around::Quoted(quote) }
    }
}

/// The URL's rest at the beginning of `text`, with entities and escapes of JSON and Markdown read.
fn token(text: &[u8], around: Around) -> Vec<u8> {
    let mut out = Vec::new();
    let mut open = 0_u32;
    let mut at = 0;
    let mut quoted = false;
    while let Some(&b) = text.get(at) {
        match b {
            b'"' => {
                quoted = true;
                break;
            }
            b'\'' if matches!(around, Around::Attribute(b'"') | Around::Quoted(b'"')) => out.push(b),
            b'\'' => {
                quoted = true;
                break;
            }
            b' ' if matches!(around, Around::Attribute(_)) => out.push(b),
            b'<' | b'>' | b'`' => break,
            _ if b.is_ascii_whitespace() || b.is_ascii_control() => break,
            b'(' => {
                open += 1;
                out.push(b);
            }
            b')' if open > 0 => {
                open -= 1;
                out.push(b);
            }
            b')' if matches!(around, Around::Attribute(_)) => out.push(b),
            b')' => break,
            b'\\' => match escape(&text[at..]) {
                Some((bytes, length)) if !matches!(bytes.first(), Some(b'"')) => {
                    out.extend_from_slice(&bytes);
                    at += length;
                    continue;
                }
                _ => {
                    quoted = true;
                    break;
                }
            },
            b'&' => match entity(&text[at..]) {
                Some((c, _)) if matches!(c, '"' | '<' | '>') || c.is_whitespace() => {
                    quoted = true;
                    break;
                }
                Some((c, length)) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    at += length;
                    continue;
                }
                None => out.push(b),
            },
            _ => out.push(b),
        }
        at += 1;
    }
    if !quoted {
        // What ends a sentence or separates URLs is not part of one.
        while matches!(out.last(), Some(b'.' | b',' | b';' | b':' | b'!' | b'*' | b'~' | b']' | b'|')) {
            out.pop();
        }
    }
    out
}

/// The same for text whose end is known.
fn whole(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| matches!(b, b'&' | b'\\')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        let read = match b {
            b'&' => entity(&text[at..]).map(|(c, length)| (c.to_string().into_bytes(), length)),
            b'\\' => escape(&text[at..]),
            _ => None,
        };
        match read {
            Some((bytes, length)) => {
                out.extend_from_slice(&bytes);
                at += length;
            }
            None => {
                out.push(b);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// Names of the letters and signs from U+00A0 on, in their order: editors of HTML write them so, whatever the page's encoding.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para middot cedil sup1 \
    ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde \
    Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute \
    ecirc euml igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml";

/// The same of Greek, from U+0391 on. There is no letter at U+03A2.
const GREEK: &str = "Alpha Beta Gamma Delta Epsilon Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho - Sigma Tau Upsilon Phi Chi Psi Omega - - - - - - - \
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigmaf sigma tau upsilon phi chi psi omega";

/// Others that stand in names of files.
const OTHERS: [(&str, char); 26] = [
    ("OElig", '\u{152}'),
    ("oelig", '\u{153}'),
    ("Scaron", '\u{160}'),
    ("scaron", '\u{161}'),
    ("Yuml", '\u{178}'),
    ("fnof", '\u{192}'),
    ("circ", '\u{2c6}'),
    ("tilde", '\u{2dc}'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("ndash", '\u{2013}'),
    ("mdash", '\u{2014}'),
    ("lsquo", '\u{2018}'),
    ("rsquo", '\u{2019}'),
    ("sbquo", '\u{201a}'),
    ("ldquo", '\u{201c}'),
    ("rdquo", '\u{201d}'),
    ("bdquo", '\u{201e}'),
    ("bull", '\u{2022}'),
    ("hellip", '\u{2026}'),
    ("lsaquo", '\u{2039}'),
    ("rsaquo", '\u{203a}'),
    ("euro", '\u{20ac}'),
    ("trade", '\u{2122}'),
    ("minus", '\u{2212}'),
];

/// A letter by its name in HTML.
fn letter(name: &str) -> Option<char> {
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let of = |list: &str, first: u32| {
        let at = list.split_ascii_whitespace().position(|known| known == name)?;
        char::from_u32(first + u32::try_from(at).ok()?)
    };
    let other = || OTHERS.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    of(LATIN, 0xa0).or_else(|| of(GREEK, 0x391)).or_else(other)
}

/// The entity at the beginning of `text`, and its length. The named ones are those that editors and encoders of HTML write.
pub(super) fn entity(text: &[u8]) -> Option<(char, usize)> {
    let end = text.iter().take(12).position(|b| *b == b';')?;
    let name = std::str::from_utf8(text.get(1..end)?).ok()?;
    let c = match name {
        "amp" | "AMP" => '&',
        "quot" | "QUOT" => '"',
        "apos" => '\'',
        "lt" | "LT" => '<',
        "gt" | "GT" => '>',
        "sol" => '/',
        "lpar" => '(',
        "rpar" => ')',
        "num" => '#',
        "quest" => '?',
        "percnt" => '%',
        "plus" => '+',
        "equals" => '=',
        "period" => '.',
        "lowbar" => '_',
        "colon" => ':',
        "comma" => ',',
        "commat" => '@',
        "excl" => '!',
        "lsqb" => '[',
        "rsqb" => ']',
        _ => {
            let Some(number) = name.strip_prefix('#') else { return letter(name).map(|c| (c, end + 1)) };
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c, end + 1))
}

/// The escape of JSON or Markdown at the beginning of `text`, and its length.
pub(super) fn escape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |at: usize| u32::from_str_radix(std::str::from_utf8(text.get(at..at + 4)?).ok()?, 16).ok();
    match text.get(1)? {
        b'u' => {
            let high = unit(2)?;
            let (code, length) = match high {
                0xd800..0xdc00 if text.get(6..8) == Some(b"\\u") => {
                    let low = unit(8)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    (0x10000 + ((high - 0xd800) << 10) + low, 12)
                }
                _ => (high, 6),
            };
            Some((char::from_u32(code)?.to_string().into_bytes(), length))
        }
        b if b.is_ascii_punctuation() => Some((vec![*b], 2)),
        _ => None,
    }
}

/// As browsers decode a path: what is no `%` and two digits stays as it is.
fn percent_decode(path: &[u8]) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(finder: &Finder, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        finder.each(text.as_bytes(), |name| out.push(String::from_utf8_lossy(name).into_owned()));
        out
    }

    fn media() -> Finder {
        Finder::new(vec!["/media/".into(), "https://cdn.example.com/m/".into()], None).unwrap()
    }

    #[test]
    fn names_are_read_out_of_html_markdown_and_json_as_browsers_read_them() {
        for (text, want) in [
            (r#"<img src="/media/a.jpg" alt="x"><img src='/media/b.jpg'>"#, vec!["a.jpg", "b.jpg"]),
            (r#"<img src=/media/a.jpg>"#, vec!["a.jpg"]),
            ("![one](/media/2024/a.jpg) and ![two](/media/b.jpg \"title\")", vec!["2024/a.jpg", "b.jpg"]),
            ("![one](/media/a(1).jpg)", vec!["a(1).jpg"]),
            ("[x]: </media/a.jpg>", vec!["a.jpg"]),
            (r#"<img src="https://www.example.com/media/a.jpg?v=3#top">"#, vec!["a.jpg"]),
            (r#"<img src="/media/a%20b%C3%A9.jpg">"#, vec!["a bé.jpg"]),
            (r#"<img src="/media/a b.jpg">"#, vec!["a b.jpg"]),
            (r#"<img src="/media/100%.jpg">"#, vec!["100%.jpg"]),
            (r#"<img src="/media/a&amp;b.jpg?x=1&amp;y=2">"#, vec!["a&b.jpg"]),
            (r#"<img src="/media/O&#x27;Brien.jpg">"#, vec!["O'Brien.jpg"]),
            (r#"<img src="/media/O'Brien.jpg">"#, vec!["O'Brien.jpg"]),
            (r#"<img srcset="/media/a.jpg 1x, /media/b.jpg 2x">"#, vec!["a.jpg", "b.jpg"]),
            ("<div style=\"background:url(/media/a.jpg)\">", vec!["a.jpg"]),
            (r#"<div style="background:url('/media/a.jpg')">"#, vec!["a.jpg"]),
            (r#"{"src":"\/media\/caf\u00e9\/a.jpg","n":1}"#, vec!["café/a.jpg"]),
            (r#"{"html":"<img src=\"/media/a.jpg\">"}"#, vec!["a.jpg"]),
            (r#"<x data-block="{&quot;src&quot;:&quot;/media/a.jpg&quot;}">"#, vec!["a.jpg"]),
            ("<img src=\"&#x2F;media&#x2F;a.jpg\">", vec!["a.jpg"]),
            ("See /media/a.jpg, /media/b.jpg. And https://cdn.example.com/m/c.jpg!", vec!["a.jpg", "b.jpg", "c.jpg"]),
            (r"![](/media/a\_b.jpg)", vec!["a_b.jpg"]),
            (r#"<img src="/media/caf&eacute; &Uuml;ber &ndash; &alpha;&omega;.jpg">"#, vec!["café Über – αω.jpg"]),
            ("the folder /media/ and /media/x/", vec![]),
            ("nothing at all", vec![]),
        ] {
            assert_eq!(found(&media(), text), want, "{text}");
        }
    }

    #[test]
    fn letters_are_known_by_their_names() {
        for (name, c) in [
            ("nbsp", '\u{a0}'),
            ("iquest", '¿'),
            ("Agrave", 'À'),
            ("times", '×'),
            ("szlig", 'ß'),
            ("eacute", 'é'),
            ("divide", '÷'),
            ("yuml", 'ÿ'),
            ("Alpha", 'Α'),
            ("Rho", 'Ρ'),
            ("Sigma", 'Σ'),
            ("Omega", 'Ω'),
            ("alpha", 'α'),
            ("sigmaf", 'ς'),
            ("omega", 'ω'),
            ("scaron", 'š'),
            ("euro", '€'),
        ] {
            assert_eq!(entity(format!("&{name};").as_bytes()), Some((c, name.len() + 2)), "{name}");
        }
        for text in ["&-;", "&;", "&eacut;", "&eacute", "&thing;", "& eacute;"] {
            assert_eq!(entity(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_s_group_is_the_name() {
        let wiki = Finder::new(Vec::new(), Some(r"\[\[image:([^\]|]+)")).unwrap();
        assert_eq!(found(&wiki, "[[image:a b.jpg|left]] [[image:c%20d.jpg]]"), ["a b.jpg", "c d.jpg"]);
        for bad in ["a", "(a)(b)", "(a"] {
            let e = Finder::new(Vec::new(), Some(bad)).unwrap_err();
            assert!(e.to_string().contains("`pattern`"), "{e}");
        }
        assert!(Finder::new(Vec::new(), None).unwrap_err().to_string().contains("needs a `prefix`"));
    }

    fn encode(name: &str, html: bool) -> String {
        let url: String = name
            .chars()
            .map(|c| match c {
                'a'..='z' | '0'..='9' | '/' | '.' | '-' | '_' | '&' | '\'' => c.to_string(),
                c => c.to_string().bytes().map(|b| format!("%{b:02X}")).collect(),
            })
            .collect();
        if html { url.replace('&', "&amp;").replace('\'', "&#x27;") } else { url.replace('\'', "%27") }
    }

    proptest! {
        #[test]
        fn every_name_is_found_however_it_stands_in_the_text(
            names in proptest::collection::vec("[a-z0-9 %?#é&'_-]{1,8}(/[a-z0-9é&' ]{1,8}){0,2}\\.jpg", 1..6), kind in 0..4_usize
        ) {
            let text: String = names.iter().map(|n| match kind {
                0 => format!("<p>x</p><img alt='b' src=\"/media/{}\"/>", encode(n, true)),
                1 => format!("text ![alt](/media/{}) more\n", encode(n, false)),
                2 => format!("{}\n", serde_json::json!({ "src": format!("/media/{}", encode(n, false)), "x": [1] })),
                _ => format!("<img srcset=\"/media/{} 2x\">", encode(n, true)),
            }).collect();
            prop_assert_eq!(found(&media(), &text), names, "{}", text);
        }

        #[test]
        fn no_text_makes_it_fail(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = b"/media/".to_vec();
            bytes.extend(text);
            media().each(&bytes, |_| {});
        }
    }
}
