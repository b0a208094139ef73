//! A scan: every value of a column read once, for all the names of a batch.
//!
//! Where values hold many names, no equality finds them, and a search for each name would read the column as often as there are names. A scan
//! reads each value once. What it may never do is miss a mention, so beside what the resolver reads, two more things count:
//!
//! - in a text, **any** mention of the name counts, under whatever prefix or host: somebody's page shows the file;
//! - a value that cannot be read (broken JSON) holds every name that is mentioned anywhere in it.
//!
//! Mentions are looked for in the value as it stands and with its escapes (percent, entities, JSON) taken away, layer by layer.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use aho_corasick::AhoCorasick;

use super::{
    Reading, Resolved,
    text::{entity, escape},
};
use crate::name::FileName;

/// So many layers of escapes are taken away: HTML within JSON within an attribute has three.
const LAYERS: usize = 4;

/// What to look for in every value of a column.
#[derive(Clone)]
pub struct Scan(Arc<Inner>);

struct Inner {
    reading: Reading,
    names: Vec<FileName>,
    set: HashSet<FileName>,
    mentions: Option<AhoCorasick>,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan({:?}, {} names)", self.0.reading, self.0.names.len())
    }
}

impl PartialEq for Scan {
    fn eq(&self, other: &Self) -> bool {
        self.0.reading == other.0.reading && self.0.names == other.0.names
    }
}

impl Eq for Scan {}

impl Scan {
    /// Looks for `names` in values of `reading`.
    pub fn new<'a>(reading: &Reading, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        let names: Vec<FileName> = names.into_iter().cloned().collect();
        let set = names.iter().cloned().collect();
        // Too large an automaton is no error: then each name is looked for by itself.
        let mentions = AhoCorasick::new(names.iter().map(FileName::as_str)).ok();
        Scan(Arc::new(Inner { reading: reading.clone(), names, set, mentions }))
    }

    /// How values are read.
    pub fn reading(&self) -> &Reading {
        &self.0.reading
    }

    /// Whether there is anything to look for.
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty()
    }

    /// Calls `take` with each of the names that `value` holds; with some of them more than once.
    pub fn held(&self, value: &[u8], mut take: impl FnMut(&FileName)) {
        let mut mentioned = matches!(self.0.reading, Reading::Text(_));
        self.0.reading.each_name(value, |resolved| match resolved {
            Resolved::Name(name) => {
                if let Some(name) = self.0.set.get(&name) {
                    take(name);
                }
            }
            Resolved::Unreadable(_) => mentioned = true,
            Resolved::Nothing | Resolved::Refused(_) => {}
        });
        if mentioned {
            self.mentions(value, &mut take);
        }
    }

    fn mentions(&self, value: &[u8], take: &mut impl FnMut(&FileName)) {
        let mut view = Cow::Borrowed(value);
        for _ in 0..LAYERS {
            self.mentions_in(&view, take);
            match peel(&view) {
                Some(next) => view = Cow::Owned(next),
                None => return,
            }
        }
        self.mentions_in(&view, take);
    }

    fn mentions_in(&self, text: &[u8], take: &mut impl FnMut(&FileName)) {
        match &self.0.mentions {
            Some(automaton) => {
                for found in automaton.find_overlapping_iter(text) {
                    if apart(text, found.start(), found.end()) {
                        take(&self.0.names[found.pattern().as_usize()]);
                    }
                }
            }
            None => {
                for name in &self.0.names {
                    let bytes = name.as_str().as_bytes();
                    if text.windows(bytes.len()).enumerate().any(|(at, w)| w == bytes && apart(text, at, at + bytes.len())) {
                        take(name);
                    }
                }
            }
        }
    }
}

/// Whether what stands at `start..end` is not a piece of a longer word: `1.jpg` is not mentioned in `11.jpg`, nor `img/1` in `img/12`. Everything else around it
/// could be a separator.
fn apart(text: &[u8], start: usize, end: usize) -> bool {
    let word = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let before = start.checked_sub(1).and_then(|i| text.get(i));
    // `%2F1.jpg` mentions 1.jpg, `\n1.jpg` as well: an escape's last letter is no part of the word.
    let escape =
        (start >= 3 && text[start - 3] == b'%') || (start >= 2 && text[start - 2] == b'\\') || (start >= 6 && text[start - 6] == b'\\');
    (!word(before) || !word(text.get(start)) || escape) && (!word(text.get(end)) || !word(text.get(end.wrapping_sub(1))))
}

/// `text` with one layer of escapes taken away; `None` if there is none.
fn peel(text: &[u8]) -> Option<Vec<u8>> {
    let first = text.iter().position(|b| matches!(b, b'%' | b'&' | b'\\'))?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..first]);
    let mut at = first;
    let mut changed = false;
    while let Some(&b) = text.get(at) {
        let read = match b {
            b'%' => percent(&text[at..]).map(|byte| (vec![byte], 3)),
            b'&' => entity(&text[at..]).map(|(c, length)| (c.to_string().into_bytes(), length)),
            b'\\' => escape(&text[at..]),
            _ => None,
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

fn percent(text: &[u8]) -> Option<u8> {
    let digit = |i: usize| (*text.get(i)? as char).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;
    use proptest::prelude::*;

    fn held(binding: &Binding, names: &[&str], value: &str) -> Vec<String> {
        let names: Vec<FileName> = names.iter().map(|n| FileName::parse(n).unwrap()).collect();
        let mut out = HashSet::new();
        Scan::new(&binding.reading, &names).held(value.as_bytes(), |n| {
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
    fn json_holds_what_its_path_leads_to_and_broken_json_all_that_it_mentions() {
        let json = Binding::json("t.c", "default", "$[*].image").unwrap();
        let names = ["a.jpg", "b.jpg"];
        assert_eq!(held(&json, &names, r#"[{"image":"a.jpg","old":"b.jpg"}]"#), ["a.jpg"]);
        assert_eq!(held(&json, &names, r#"[{"image":"a.jpg","old":"b.jpg"}"#), ["a.jpg", "b.jpg"]);
        assert_eq!(held(&json, &names, r#"[{"image":"a.jpg","image":"b.jpg"}]"#), ["a.jpg", "b.jpg"]);
        assert_eq!(held(&json, &names, r#"[{"image":{"src":"b\u002ejpg"}}]"#), ["b.jpg"]);
    }

    proptest! {
        /// What capture reads out of a text, the check finds in it: else a file that a row names could go.
        #[test]
        fn what_the_resolver_reads_the_scan_finds(text in "(/media/|[a-z0-9 .%&;#x2F\\\\/\"'()<>é-]|%2[0-9A-F]|&amp;|&#x2F;|\\\\u00e9){0,40}") {
            let binding = Binding::text("t.c", "default", ["/media/"]).unwrap();
            let mut names = HashSet::new();
            binding.each_name(text.as_bytes(), |r| if let Resolved::Name(n) = r { names.insert(n); });
            let mut found = HashSet::new();
            Scan::new(&binding.reading, &names).held(text.as_bytes(), |n| { found.insert(n.clone()); });
            prop_assert_eq!(found, names);
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
