//! A scan: every value of a column read once, for all the names of a batch.
//!
//! Where values hold many names, no equality finds them, and a search for each name would read the column as often as there are names. A scan
//! reads each value once. What it may never do is miss a mention, so beside what the resolver reads, **any** mention of the name counts: in a text under whatever
//! prefix or host, because somebody's page shows the file; in JSON and in an array outside of the path, because a path that a few values showed is not all that the
//! others use. So it is in a value that cannot be read.
//!
//! Mentions are looked for in the value as it stands and with its escapes (percent, entities, JSON) taken away, layer by layer; in each normal form of the name, of a key
//! that is no path also as its path; in paths as they are walked (`a//b`, `a/./b`, `a/x/../b`, `a\b`) and without dots at the end of a part (`a./b`), and with a `+` for each blank. In bytes that are no text a name may stand next to a letter. Where a
//! query's values hold one name each, whatever they could mean counts, as in a column.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use aho_corasick::AhoCorasick;

use super::{
    Reading, Resolved,
    spelled::{aliases, may_mention},
    views::{ALL, BACKSLASH, CONTROL, ENTITY, PERCENT, PLUS, peel, undotted, walked},
};
use crate::name::{FileName, Names};

/// So many layers of escapes are taken away: HTML within JSON within an attribute has three.
const LAYERS: usize = 4;

/// So many views of one value are looked at, where its escapes are taken away one kind at a time.
const VIEWS: usize = 64;

/// A value that has so many bytes may be a piece of a longer one, and begin or end within a character.
const PIECE: usize = 64 << 10;

/// How a value holds a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The binding reads it there: when it goes, it is released.
    Read,
    /// It is mentioned elsewhere: it counts, and nothing is released with it.
    Mentioned,
}

/// What to look for in every value of a column.
#[derive(Clone)]
pub struct Scan(Arc<Inner>);

struct Inner {
    reading: Reading,
    names: Vec<FileName>,
    set: HashSet<FileName>,
    /// Other names whose mention means one of `names`, with its place there.
    aliases: HashMap<FileName, Vec<usize>>,
    mentions: Option<AhoCorasick>,
    /// What is looked for: each name, then its aliases, with the name's place in `names`.
    written: Vec<(String, usize)>,
    /// Whether only what is read counts.
    read: bool,
    /// Whether mentions count.
    all: bool,
    /// Whether a name could itself be taken for an escape: then each kind of escapes is taken away by itself, too.
    odd: bool,
    /// Whether a name holds a blank, for which a URL may have a `+`.
    blank: bool,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan({:?}, {} names)", self.0.reading, self.0.names.len())
    }
}

impl PartialEq for Scan {
    fn eq(&self, other: &Self) -> bool {
        self.0.reading == other.0.reading && self.0.names == other.0.names && self.0.all == other.0.all && self.0.read == other.0.read
    }
}

impl Eq for Scan {}

impl Scan {
    /// Looks for `names` in values of `reading`.
    pub fn new<'a>(reading: &Reading, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::of(reading, names, reading.is_many(), false)
    }

    /// The same for a value of which anything that it mentions may be meant, whatever it is read as.
    pub(crate) fn mentioned<'a>(reading: &Reading, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::of(reading, names, true, false)
    }

    /// The same for what is read only: what a value merely mentions is not told. No check may rely on it.
    pub fn read_only<'a>(reading: &Reading, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::of(reading, names, false, true)
    }

    fn of<'a>(reading: &Reading, names: impl IntoIterator<Item = &'a FileName>, all: bool, read: bool) -> Self {
        let names: Vec<FileName> = names.into_iter().cloned().collect();
        let set = names.iter().cloned().collect();
        // Too large an automaton is no error: then each name is looked for by itself.
        let mut written: Vec<(String, usize)> = names.iter().enumerate().map(|(i, n)| (n.as_str().to_owned(), i)).collect();
        let mut meant: HashMap<FileName, Vec<usize>> = HashMap::new();
        for (i, alias) in names.iter().enumerate().flat_map(|(i, n)| aliases(n).into_iter().map(move |alias| (i, alias))) {
            written.push((alias.as_str().to_owned(), i));
            meant.entry(alias).or_default().push(i);
        }
        let mentions = (all || !read).then(|| AhoCorasick::new(written.iter().map(|(text, _)| text)).ok()).flatten();
        let has_blank = |n: &FileName| n.as_str().contains(' ');
        let is_odd = |n: &FileName| {
            n.as_str().chars().any(|c| matches!(c, '%' | '&' | '\\') || c.is_control()) || (has_blank(n) && n.as_str().contains('+'))
        };
        let (odd, blank) = (names.iter().any(is_odd), names.iter().any(has_blank));
        Scan(Arc::new(Inner { reading: reading.clone(), names, set, aliases: meant, mentions, written, read, all, odd, blank }))
    }

    /// How values are read.
    pub fn reading(&self) -> &Reading {
        &self.0.reading
    }

    /// Whether there is anything to look for.
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty()
    }

    /// Calls `take` with each of the names that `value` holds and how; with some of them more than once, and with what is read first.
    pub fn held(&self, value: &[u8], mut take: impl FnMut(&FileName, Held)) {
        let inner = &*self.0;
        let read = |take: &mut dyn FnMut(&FileName)| {
            // Whatever the storage takes: what it does not is not among the names.
            inner.reading.each_name(value, Names::Keys, |resolved| {
                if let Resolved::Name(name) = resolved
                    && let Some(name) = inner.set.get(&name)
                {
                    take(name);
                }
            });
        };
        if !inner.all {
            read(&mut |name| take(name, Held::Read));
            if !inner.read {
                inner.reading.holds(value, Names::Keys, |name| {
                    let aliases = inner.aliases.get(&name).into_iter().flatten().map(|i| &inner.names[*i]);
                    inner.set.get(&name).into_iter().chain(aliases).for_each(|name| take(name, Held::Mentioned));
                });
                if may_mention(value) && inner.reading != Reading::Key {
                    self.mentions(value, &mut |name| take(name, Held::Mentioned));
                }
            }
            return;
        }
        // In JSON and in an array a name stands whole, between quotes or behind a prefix: what is not mentioned is not read, so that most values need not be parsed.
        let whole = matches!(inner.reading, Reading::Json { .. } | Reading::Array { .. }) && !inner.odd;
        if !whole {
            read(&mut |name| take(name, Held::Read));
            return self.mentions(value, &mut |name| take(name, Held::Mentioned));
        }
        let mut mentioned = HashSet::new();
        self.mentions(value, &mut |name| {
            mentioned.insert(name);
        });
        if !mentioned.is_empty() {
            read(&mut |name| take(name, Held::Read));
            mentioned.into_iter().for_each(|name| take(name, Held::Mentioned));
        }
    }

    fn mentions<'s>(&'s self, value: &[u8], take: &mut impl FnMut(&'s FileName)) {
        let binary = is_binary(value);
        let mut view = Cow::Borrowed(value);
        for _ in 0..LAYERS {
            self.mentions_as(&view, binary, take);
            match peel(&view, ALL) {
                Some(next) => view = Cow::Owned(next),
                None => break,
            }
        }
        self.mentions_as(&view, binary, take);
        if !self.0.odd {
            return;
        }
        // `a%20b.jpg` may be a name, and stand in JSON as `2024\/a%20b.jpg`: to take away both escapes at once would miss it.
        let plus = if self.0.blank { PLUS } else { 0 };
        let mut views = vec![(value.to_vec(), 0)];
        let mut at = 0;
        while let Some((view, layer)) = views.get(at).cloned() {
            at += 1;
            self.mentions_in(&view, binary, take);
            for kind in [BACKSLASH, BACKSLASH | CONTROL, ENTITY, PERCENT, plus] {
                if let Some(next) = peel(&view, kind).filter(|_| layer < 2 * LAYERS && views.len() < VIEWS)
                    && views.iter().all(|(known, _)| *known != next)
                {
                    views.push((next, layer + 1));
                }
            }
        }
    }

    /// In a view as it stands, and as it is meant where its paths are walked, or blanks are written as `+`.
    fn mentions_as<'s>(&'s self, view: &[u8], binary: bool, take: &mut impl FnMut(&'s FileName)) {
        self.mentions_in(view, binary, take);
        let ours = view.contains(&b'\\').then(|| view.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect::<Vec<u8>>());
        if let Some(ours) = &ours {
            self.mentions_in(ours, binary, take);
        }
        let spaced = self.0.blank.then(|| peel(ours.as_deref().unwrap_or(view), PLUS)).flatten();
        if let Some(spaced) = &spaced {
            self.mentions_in(spaced, binary, take);
        }
        for view in [Some(view), ours.as_deref(), spaced.as_deref()].into_iter().flatten() {
            let walked = walked(view);
            if let Some(walked) = &walked {
                self.mentions_in(walked, binary, take);
            }
            if let Some(undotted) = undotted(walked.as_deref().unwrap_or(view)) {
                self.mentions_in(&undotted, binary, take);
            }
        }
    }

    fn mentions_in<'s>(&'s self, text: &[u8], binary: bool, take: &mut impl FnMut(&'s FileName)) {
        match &self.0.mentions {
            Some(automaton) => {
                for found in automaton.find_overlapping_iter(text) {
                    if binary || apart(text, found.start(), found.end()) {
                        take(&self.0.names[self.0.written[found.pattern().as_usize()].1]);
                    }
                }
            }
            None => {
                for (written, name) in &self.0.written {
                    let bytes = written.as_bytes();
                    let is_meant = |at: usize| binary || apart(text, at, at + bytes.len());
                    if text.windows(bytes.len()).enumerate().any(|(at, w)| w == bytes && is_meant(at)) {
                        take(&self.0.names[*name]);
                    }
                }
            }
        }
    }
}

/// Whether a value is no text. Serialized bytes (pickle, protobuf, MessagePack) have the length of a string before it and what comes next behind it, and each of these may be
/// a letter or a digit: a name of 49 bytes stands behind a `1`.
fn is_binary(value: &[u8]) -> bool {
    if value.iter().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c)) {
        return true;
    }
    let is_piece = value.len() >= PIECE;
    let begin = if is_piece { value.iter().take(3).take_while(|b| **b & 0xc0 == 0x80).count() } else { 0 };
    match std::str::from_utf8(&value[begin..]) {
        Ok(_) => false,
        Err(e) => !is_piece || e.error_len().is_some(),
    }
}

/// Whether what stands at `start..end` of a text is not a piece of a longer word: `1.jpg` is not mentioned in `11.jpg`, nor `img/1` in `img/12`. Everything else around
/// it could be a separator.
fn apart(text: &[u8], start: usize, end: usize) -> bool {
    let word = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let before = start.checked_sub(1).and_then(|i| text.get(i));
    // A message of protobuf with one field may look like a text: its tag is a line feed.
    if before.is_some_and(|b| usize::from(*b) == end - start) {
        return true;
    }
    // A line of pickle's first protocol: `Va.jpg`.
    if before == Some(&b'V') && matches!(start.checked_sub(2).map(|i| text[i]), None | Some(b'\n')) && text.get(end) == Some(&b'\n') {
        return true;
    }
    // `%2F1.jpg` mentions 1.jpg, `\n1.jpg` as well: an escape's last letter is no part of the word.
    let escape =
        (start >= 3 && text[start - 3] == b'%') || (start >= 2 && text[start - 2] == b'\\') || (start >= 6 && text[start - 6] == b'\\');
    (!word(before) || !word(text.get(start)) || escape) && (!word(text.get(end)) || !word(text.get(end.wrapping_sub(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;
    use proptest::prelude::*;

    fn held(binding: &Binding, names: &[&str], value: impl AsRef<[u8]>) -> Vec<String> {
        let names: Vec<FileName> = names.iter().map(|n| FileName::parse(n).unwrap()).collect();
        let mut out = HashSet::new();
        Scan::new(&binding.reading, &names).held(value.as_ref(), |n, _| {
            out.insert(n.to_string());
        });
        let mut out: Vec<String> = out.into_iter().collect();
        out.sort();
        out
    }

    #[test]
    fn any_mention_in_a_text_counts() {
        let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
        let names = ["2024/a b.jpg", "1.jpg", "é/x.png"];
        for (value, want) in [
            ("<img src='https://elsewhere.example.com/files/2024/a%20b.jpg'>", vec!["2024/a b.jpg"]),
            ("<img src=\"/media/2024/a b.jpg\">", vec!["2024/a b.jpg"]),
            (r#"{"src":"\/media\/2024\/a b.jpg"}"#, vec!["2024/a b.jpg"]),
            (r#"{&quot;src&quot;:&quot;\/media\/\u00e9\/x.png&quot;}"#, vec!["é/x.png"]),
            ("&#x2F;media&#x2F;%C3%A9%2Fx.png", vec!["é/x.png"]),
            ("%2Fmedia%2F1.jpg and 2024%2Fa%20b.jpg", vec!["1.jpg", "2024/a b.jpg"]),
            (r"line\n1.jpg", vec!["1.jpg"]),
            ("11.jpg 1.jpgx 1.jpeg", vec![]),
            ("1.jpg", vec!["1.jpg"]),
            ("x_1.jpg", vec!["1.jpg"]),
        ] {
            assert_eq!(held(&text, &names, value), want, "{value}");
        }
    }

    #[test]
    fn json_holds_what_it_mentions_wherever_it_stands() {
        let json = Binding::json("t.c", "default", "$[*].image").unwrap();
        let names = ["a.jpg", "b.jpg", "2026/é ü.jpg", "2026/a%20b é.jpg", "2026/a&amp;b.jpg", "2026/tab\t.jpg", "2026/é.jpg"];
        for (value, want) in [
            (r#"[{"image":"a.jpg","old":"b.jpg"}]"#, vec!["a.jpg", "b.jpg"]),
            (r#"[{"image":"a.jpg","old":"b.jpg"}"#, vec!["a.jpg", "b.jpg"]),
            (r#"[{"image":"a.jpg","image":"b.jpg"}]"#, vec!["a.jpg", "b.jpg"]),
            (r#"[{"image":{"src":"b\u002ejpg"}}]"#, vec!["b.jpg"]),
            (r#"{"b.jpg":1,"n":[1.5,true,null]}"#, vec!["b.jpg"]),
            (r#"{"x":"2026\/\u00e9 \u00fc.jpg"}"#, vec!["2026/é ü.jpg"]),
            (r#"{"x":"2026\u002f\u00C3\u00A9 \u00fc.jpg"}"#, vec![]),
            (r#"{"x":"https://h.example.org/m/2026/%C3%A9%20%C3%BC.jpg?w=1"}"#, vec!["2026/é ü.jpg"]),
            (r#"{"x":"{\"y\":\"2026\\\/\\u00e9 \\u00fc.jpg\"}"}"#, vec!["2026/é ü.jpg"]),
            (r#"{"x":"<img srcset=\"\/m\/a.jpg 1x, \/m\/b.jpg 2x\">"}"#, vec!["a.jpg", "b.jpg"]),
            (r#"{"x":"<img src='/m/2026/&eacute;.jpg'>&quot;b.jpg&quot;"}"#, vec!["2026/é.jpg", "b.jpg"]),
            (r#"{"x":"2026\/a%20b \u00e9.jpg"}"#, vec!["2026/a%20b é.jpg"]),
            (r#"{"x":"2026\/a%2520b%20%C3%A9.jpg"}"#, vec!["2026/a%20b é.jpg"]),
            (r#"{"x":"2026\/a&amp;b.jpg"}"#, vec!["2026/a&amp;b.jpg", "b.jpg"]),
            (r#"{"x":"2026\/tab\t.jpg"}"#, vec!["2026/tab\t.jpg"]),
            (r#"{"x":"11.jpg","y":"aa.jpg","z":"b.jpgx"}"#, vec![]),
        ] {
            assert_eq!(held(&json, &names, value), want, "{value}");
        }
        let array = Binding::array("t.c", "default").unwrap();
        assert_eq!(held(&array, &names, r#"{/media/a.jpg,"https://h.example.org/2026/%C3%A9%20%C3%BC.jpg"}"#), ["2026/é ü.jpg", "a.jpg"]);
    }

    /// Serialized bytes: what stands next to a name may be the length of a string, or the tag of the next field.
    #[test]
    fn a_length_or_a_tag_hides_no_name() {
        let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
        let name = "documents/2024/03/annual-report-final-version.pdf";
        assert_eq!(name.len(), usize::from(b'1'));
        let around = |before: &[u8], after: &[u8]| [before, name.as_bytes(), after].concat();
        for (what, value) in [
            ("pickle", around(b"\x80\x04\x95\x3f\0\0\0\0\0\0\0}\x94\x8c\x04file\x94\x8c1", b"\x94s.")),
            ("protobuf, fields 2 and 6", around(b"\x121", b"2\x01x")),
            ("protobuf, field 1 alone", around(b"\n1", b"")),
            ("protobuf, fields 1 and 8", around(b"\n1", b"B\x01x")),
            ("MessagePack", around(b"\x82\xa4file\xd91", b"\xa1n1")),
            ("an array of MessagePack", around(b"\x92\xd91", b"1")),
        ] {
            assert_eq!(held(&text, &[name], &value), [name], "{what}");
            assert_eq!(held(&Binding::array("t.c", "default").unwrap(), &[name], &value), [name], "{what}");
        }
        assert_eq!(held(&text, &["a.jpg"], "aa.jpg a.jpgs"), [""; 0], "a text");
        assert_eq!(held(&text, &["a.jpg"], "\taa.jpg\r\n\x0c"), [""; 0], "a text");
        // A piece of a long text may begin and end within a character.
        let long = format!("{0} aa.jpg {0}", "é".repeat(PIECE));
        assert_eq!(held(&text, &["a.jpg"], &long.as_bytes()[1..long.len() - 1]), [""; 0], "a piece of a text");
        assert_eq!(held(&text, &["a.jpg"], [long.as_bytes(), b"\xff"].concat()), ["a.jpg"], "no text");
    }

    #[test]
    fn a_path_is_walked_and_a_backslash_separates() {
        let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
        for value in ["<img src='..\\2024\\a.jpg'>", r#"{"file":"D:\\uploads\\2024\\a.jpg"}"#, "/media/x/..//2024/./a.jpg?v=1"] {
            assert_eq!(held(&text, &["2024/a.jpg", "24/a.jpg"], value), ["2024/a.jpg"], "{value}");
        }
    }

    #[test]
    fn dots_at_the_end_of_a_part_may_be_left_out() {
        let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
        for value in ["<img src='/media/Acme%20Inc./a.jpg.'>", r#"{"file":"Acme Inc.\\a.jpg."}"#, "/media/x/../Acme Inc./a.jpg..?v=1"] {
            assert_eq!(held(&text, &["Acme Inc/a.jpg", "Inc/a.jpg"], value), ["Acme Inc/a.jpg", "Inc/a.jpg"], "{value}");
        }
        assert_eq!(held(&text, &["a/b.jpg"], "a.x/b.jpg"), [""; 0]);
    }

    #[test]
    fn a_plus_may_be_a_blank() {
        let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
        let names = ["2024/a b.jpg", "2024/a+b c.jpg", "2024/a+b.jpg"];
        for (value, want) in [
            ("/download.php?f=2024%2Fa+b.jpg&w=1", vec!["2024/a b.jpg", "2024/a+b.jpg"]),
            ("/download.php?f=2024%2Fa%2Bb+c.jpg", vec!["2024/a+b c.jpg"]),
            ("<a href='https://bucket.s3.amazonaws.com/2024/a%2Bb+c.jpg'>", vec!["2024/a+b c.jpg"]),
            (r#"{"url":"\/dl?f=2024\u002fa\u002bb.jpg"}"#, vec!["2024/a b.jpg", "2024/a+b.jpg"]),
            ("2024/a-b.jpg", vec![]),
        ] {
            assert_eq!(held(&text, &names, value), want, "{value}");
        }
        assert_eq!(held(&text, &names[..1], "f=2024%2Fa+b.jpg"), ["2024/a b.jpg"], "no name is odd");
        for value in ["/media/Acme+Inc./a.jpg", r"uploads\Acme+Inc\a.jpg", "/media/x/../Acme+Inc/a.jpg", "/media/Acme+Inc/./a.jpg"] {
            assert_eq!(held(&text, &["Acme Inc/a.jpg"], value), ["Acme Inc/a.jpg"], "{value}");
        }
    }

    /// A query of names has values that a column of names could have.
    #[test]
    fn a_value_of_a_query_holds_what_it_mentions() {
        for value in [r#"["d/a.jpg","d/b.jpg"]"#, "d/a.jpg,d/b.jpg", "<img src='/media/d/a.jpg'>", r#"a:1:{s:1:"f";s:7:"d/a.jpg";}"#] {
            let name = Binding::name("t.c", "default").unwrap();
            assert_eq!(held(&name, &["d/a.jpg"], value), ["d/a.jpg"], "{value}");
            let url = Binding::url("t.c", "default", "/media/").unwrap();
            assert_eq!(held(&url, &["d/a.jpg"], value), ["d/a.jpg"], "{value}");
        }
    }

    #[test]
    fn what_is_read_is_told_from_what_is_mentioned() {
        let json = Binding::json("t.c", "default", "$[*].image").unwrap();
        let names: Vec<FileName> = ["a.jpg", "b.jpg"].iter().map(|n| FileName::parse(n).unwrap()).collect();
        let value = br#"[{"image":"a.jpg","old":"b.jpg"}]"#;
        let mut told = Vec::new();
        Scan::new(&json.reading, &names).held(value, |n, how| told.push((n.to_string(), how)));
        assert_eq!(told.first(), Some(&("a.jpg".to_owned(), Held::Read)));
        assert!(told.contains(&("b.jpg".to_owned(), Held::Mentioned)) && !told.contains(&("b.jpg".to_owned(), Held::Read)), "{told:?}");
        told.clear();
        Scan::read_only(&json.reading, &names).held(value, |n, how| told.push((n.to_string(), how)));
        assert_eq!(told, [("a.jpg".to_owned(), Held::Read)]);
    }

    /// In so many ways [`encoded`] writes a value.
    const ENCODED: usize = 10;

    /// A value with this name in it, as somebody's encoder writes it.
    fn encoded(name: &str, how: usize) -> Vec<u8> {
        let named = |text: &str| -> String {
            let char = |c: char| match c {
                '&' => "&amp;".to_owned(),
                '"' => "&quot;".to_owned(),
                '\'' => "&#39;".to_owned(),
                'é' => "&eacute;".to_owned(),
                c => c.to_string(),
            };
            text.chars().map(char).collect()
        };
        let numeric = |begin: &str, number: fn(u32) -> String| -> String {
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("{begin}{};", number(c.into())) }).collect()
        };
        let json = |text: &str| serde_json::json!({ "src": text }).to_string().replace('/', "\\/").replace('é', "\\u00e9");
        let path = FileName::parse(name).unwrap().url_path();
        let form: String = name
            .bytes()
            .map(|b| match b {
                b' ' => "+".to_owned(),
                b if b.is_ascii_alphanumeric() || b"-_.".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        let text = match how {
            0 => format!("<img src=\"/media/{}\">", named(name)),
            1 => format!("<img src=\"/media/{}\">", numeric("&#", |c| c.to_string())),
            2 => format!("<img src=\"/media/{}\">", numeric("&#x", |c| format!("{c:X}"))),
            3 => json(name),
            4 => json(&format!("<img src=\"/media/{}\">", named(name))),
            5 => format!("<x data-x=\"{}\">", named(&json(name))),
            6 => json(&json(name)),
            7 => format!("<a href=\"https://h.example.org/m/{path}?w=1&amp;h=2\">"),
            8 => format!("<a href=\"/download.php?f={form}&amp;w=1\">"),
            _ => format!("a:1:{{s:3:\"src\";s:{}:\"/media/{name}\";}}", name.len() + 7),
        };
        text.into_bytes()
    }

    proptest! {
        /// What capture reads out of a text, the check finds in it: else a file that a row references could go.
        #[test]
        fn what_the_resolver_reads_the_scan_finds(text in "(/media/|[a-z0-9 .%&;#x2F\\\\/\"'()<>é-]|%2[0-9A-F]|&amp;|&#x2F;|\\\\u00e9){0,40}") {
            let binding = Binding::text("t.c", "default", ["/media/"]).unwrap();
            let mut names = HashSet::new();
            binding.each_name(text.as_bytes(), |r| if let Resolved::Name(n) = r { names.insert(n); });
            let mut found = HashSet::new();
            Scan::new(&binding.reading, &names).held(text.as_bytes(), |n, _| { found.insert(n.clone()); });
            prop_assert_eq!(found, names);
        }

        /// The same for JSON, whose parser is spared where nothing is mentioned; and whatever the path, the name in a longer string, or twice escaped.
        #[test]
        fn what_json_says_in_any_way_is_found(
            name in "([a-z0-9é %&\\\\\"\u{1}\t;#?'u-]{1,5}/)?[a-z0-9é %&\\\\;u-]{1,6}\\.jpg", how in 0..5_usize, slashes in any::<bool>(), ascii in any::<bool>()
        ) {
            let name = FileName::parse(&name).unwrap();
            let said = match how {
                0 => serde_json::json!([{ "image": name.as_str() }]),
                1 => serde_json::json!({ "other": [{ name.as_str(): 1 }] }),
                2 => serde_json::json!({ "html": format!("<img src=\"/m/{name}\"> and more") }),
                3 => serde_json::json!({ "json": serde_json::json!({ "x": name.as_str() }).to_string() }),
                _ => serde_json::json!(["https://h.example.org/m/".to_owned() + &name.as_str().bytes().map(|b| format!("%{b:02x}")).collect::<String>()]),
            };
            let mut value = said.to_string();
            if slashes {
                value = value.replace('/', "\\/");
            }
            if ascii {
                value = value.replace('é', "\\u00e9");
            }
            let binding = Binding::json("t.c", "default", "$[*].image").unwrap();
            let mut found = Vec::new();
            Scan::new(&binding.reading, [&name]).held(value.as_bytes(), |n, how| found.push((n.clone(), how)));
            prop_assert!(found.iter().any(|(n, _)| *n == name), "{}", value);
            prop_assert_eq!(found.iter().any(|(_, how)| *how == Held::Read), how == 0, "{}", value);
        }

        /// Whatever a name holds, and whoever wrote it down: an editor of HTML, an encoder of JSON or of URLs, PHP.
        #[test]
        fn a_name_is_found_as_encoders_write_it(
            name in "[a-zé0-9%#&+'?\"]{1,2}[a-zé0-9%#&+'?\" ._-]{0,5}(/[a-zé0-9%#&+'?\"][a-zé0-9%#&+'?\" ._-]{0,5}){0,2}\\.jpg", how in 0..ENCODED
        ) {
            let text = Binding::text("t.c", "default", ["/media/"]).unwrap();
            let value = encoded(&name, how);
            prop_assert_eq!(held(&text, &[&name], &value), vec![name], "{}", String::from_utf8_lossy(&value));
        }

        #[test]
        fn a_name_is_found_under_any_layers_of_escapes(
            name in "[a-z0-9]{1,4}(/[a-z0-9é ]{1,6}){0,2}\\.jpg", layers in proptest::collection::vec(0..3_usize, 0..3)
        ) {
            let mut spelled = format!("https://x.example/some/{name}");
            for layer in layers {
                spelled = match layer {
                    0 => spelled.bytes().map(|b| if b.is_ascii_alphanumeric() || b == b'/' { (b as char).to_string() } else { format!("%{b:02x}") }).collect(),
                    1 => spelled.replace('&', "&amp;").replace('"', "&quot;").replace('/', "&#x2F;"),
                    _ => serde_json::to_string(&spelled).unwrap().replace('/', "\\/").replace('é', "\\u00e9"),
                };
            }
            let text = format!("<p>{spelled}</p>");
            let binding = Binding::text("t.c", "default", ["/media/"]).unwrap();
            prop_assert_eq!(held(&binding, &[&name], &text), vec![name], "{}", text);
        }
    }
}
