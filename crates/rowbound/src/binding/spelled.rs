//! Everything that a value could mean, and how a name could be written.
//!
//! In: a value with one name, or a name. Out: every name that the value could hold ([`Reading::holds`]), every way to write a name that an index can look for
//! ([`Reading::spellings`]), and how deep a check must look so that it misses none ([`Reading::depth`]). Promise: to hold too much costs a wait, to hold too little
//! costs a file. So the exact reading decides only what is released, and everything here decides what stays.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{Reading, Resolved, Scan};
use crate::name::{FileName, Names, walked};

/// Of a URL so many parts are tried as the beginning of a name.
const PARTS: usize = 64;

/// Of a name so many separators are doubled in turn.
const DOUBLED: usize = 8;

/// How deep a check must look into a column of names or URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Each value is one name and can mean no other: equality finds it.
    Plain,
    /// Some values are written otherwise, but each in one of a name's [`Reading::spellings`]: equality finds it among these.
    Spelled,
    /// Some values could mean a name in a way that no list holds. All that are not plain are read. The depth of a column that nobody has looked through.
    #[default]
    Whole,
}

/// The values of a column that are not plain, of which those that could hold one of the names are wanted.
#[derive(Clone)]
pub struct NonPlain {
    reading: Reading,
    names: Names,
    wanted: Arc<HashSet<FileName>>,
    /// What looks for these in a value that may mention several: made when one comes.
    mentions: Arc<OnceLock<Scan>>,
    read: bool,
}

impl fmt::Debug for NonPlain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NonPlain({:?}, {} names)", self.reading, self.wanted.len())
    }
}

impl PartialEq for NonPlain {
    fn eq(&self, other: &Self) -> bool {
        self.reading == other.reading && self.wanted == other.wanted && self.read == other.read
    }
}

impl Eq for NonPlain {}

impl NonPlain {
    /// `read`: only what is read counts, not what a value could mean besides.
    pub(super) fn new<'a>(reading: &Reading, names: Names, wanted: impl IntoIterator<Item = &'a FileName>, read: bool) -> Self {
        NonPlain {
            reading: reading.clone(),
            names,
            wanted: Arc::new(wanted.into_iter().cloned().collect()),
            mentions: Arc::default(),
            read,
        }
    }

    /// Whether a value holds one of the names.
    pub fn wants(&self, value: &[u8]) -> bool {
        let mut wanted = false;
        match self.read {
            true => self.reading.each_name(value, self.names, |found| {
                wanted |= matches!(found, Resolved::Name(name) if self.wanted.contains(&name));
            }),
            false => {
                self.reading.holds(value, self.names, |name| wanted |= self.wanted.contains(&name));
                if !wanted && may_mention(value) {
                    self.mentions.get_or_init(|| Scan::mentioned(&self.reading, &*self.wanted)).held(value, |_, _| wanted = true);
                }
            }
        }
        wanted
    }

    /// What may stand before a name, the longest first.
    pub fn prefixes(&self) -> Vec<&str> {
        let (prefixes, strip) = self.reading.prefixes();
        let mut all: Vec<&str> = prefixes.iter().chain(strip).map(String::as_str).collect();
        all.sort_by_key(|p| std::cmp::Reverse(p.len()));
        all
    }

    /// Whether a value under no prefix is a name; else each of them is odd.
    pub fn bare(&self) -> bool {
        self.reading.is_bare()
    }
}

/// What makes the rest of a value behind its prefix odd, as a regular expression; databases ask for it in their own ways: a byte other than printable ASCII, one of
/// `"#%(,;<?[\]|`, an empty or dotted part, a part that ends with a dot, a slash, a dot or a blank at the beginning, a blank at the end.
pub const ODD: &str = r"[^ -!\$\&-'\)-+\--:=->@-Z\^-\{\}-~]|//|/[.]|[.]/|^[/. ]|[. ]$";

/// The same without regular expressions, and not as wide: a bracket or a comma alone is a part of a name.
fn is_plain(rest: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'"' | b'$' | b'&'..=b'>' | b'@'..=b'[' | b']'..=b'~');
    rest.bytes().all(printable)
        && !may_mention(rest.as_bytes())
        && !rest.contains("//")
        && !rest.contains("/.")
        && !rest.contains("./")
        && !rest.starts_with(['/', '.', ' '])
        && !rest.ends_with(['.', ' '])
}

/// Whether a value looks like something else than one name: HTML, JSON, PHP's serialize(), Markdown, a style sheet, a list, several lines, bytes that are no text. Then
/// whatever it mentions may be meant, as in a column of texts. Some rows of a table of keys and values are like that.
pub(crate) fn may_mention(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return true };
    text.contains(['"', '<'])
        || text.trim().contains('\n')
        || ["](", "['", "url("].iter().any(|begin| text.contains(begin))
        || is_list(text)
}

/// Whether a name with a suffix is followed by a separator and something more: `a.jpg,b.jpg`, and not `Smith, John.jpg`.
fn is_list(text: &str) -> bool {
    text.match_indices([',', ';', '|']).any(|(at, _)| {
        let before = text[..at].trim_end_matches(['\'', ' ']);
        let suffix = before.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        (1..=5).contains(&suffix.len()) && suffix.bytes().all(|b| b.is_ascii_alphanumeric()) && !text[at + 1..].trim().is_empty()
    })
}

impl Reading {
    /// What stands before names: prefixes of URLs, and what is taken away raw.
    fn prefixes(&self) -> (&[String], &[String]) {
        match self {
            Reading::Url { prefixes } => (prefixes, &[]),
            Reading::Raw { strip, prefixes, .. } => (prefixes, strip),
            _ => (&[], &[]),
        }
    }

    /// Whether a value under no prefix is a name.
    fn is_bare(&self) -> bool {
        matches!(self, Reading::Name | Reading::Key | Reading::Raw { bare: true, .. })
    }

    /// What follows the longest prefix of a value; `None` where it stands under none.
    fn rest<'v>(&self, value: &'v str) -> Option<&'v str> {
        let (prefixes, strip) = self.prefixes();
        prefixes.iter().chain(strip).filter_map(|p| value.strip_prefix(p.as_str())).min_by_key(|r| r.len())
    }

    /// Calls `take` with every name that a value with one name could mean, perhaps more than once: as it stands and percent-decoded, with and without query and fragment, without
    /// blanks around it, with leading and doubled separators taken away, without dots at the end of a part, in the other normal forms. Where it looks like a URL or a path and stands under no
    /// prefix, so is every part of it that ends with its end. A `+` in a URL may be a blank: forms and S3 write it so.
    pub fn holds(&self, value: &[u8], names: Names, mut take: impl FnMut(FileName)) {
        self.each_name(value, names, |found| {
            if let Resolved::Name(name) = found {
                take(name);
            }
        });
        if self.is_many() || *self == Reading::Key {
            return;
        }
        let Ok(text) = std::str::from_utf8(value) else { return };
        let rest = self.rest(text);
        if let Some(plain) = rest.or(self.is_bare().then_some(text))
            && is_plain(plain)
        {
            let spaced = self.prefixes().0.iter().filter_map(|p| spaced(text.strip_prefix(p.as_str())?));
            spaced.filter_map(|name| FileName::of(names, &name).ok()).for_each(take);
            return;
        }
        let mut seen = HashSet::new();
        let mut tidy = |text: &str| {
            for one in [text, text.trim_start(), text.trim_end(), text.trim()] {
                let path = walked(one);
                let undotted = undotted(&path);
                // django-storages takes both off before it stores a file on Azure, and keeps the name as it was.
                let stripped = undotted.trim_start_matches(['.', '/']).to_owned();
                for one in [Cow::Borrowed(one), Cow::Borrowed(one.trim_start_matches('/')), path, undotted, Cow::Owned(stripped)] {
                    if seen.contains(one.as_ref()) {
                        continue;
                    }
                    if let Ok(name) = FileName::of(names, &one) {
                        forms(&name).into_iter().filter_map(|form| FileName::of(names, &form).ok()).for_each(&mut take);
                        take(name);
                    }
                    seen.insert(one.into_owned());
                }
            }
        };
        // Blanks before a prefix hide it.
        let rest = rest.or_else(|| self.rest(text.trim_start()));
        let is_url = !self.is_bare() || looks_like_a_path(text);
        for view in views(rest.unwrap_or(text), is_url) {
            // Where URLs are expected, too: some rows have the name alone.
            tidy(&view);
            if rest.is_none() && (!self.is_bare() || looks_like_a_path(&view)) {
                view.match_indices(['/', '=']).take(PARTS).for_each(|(at, _)| tidy(&view[at + 1..]));
            }
        }
        // `/thumb?src=a.jpg&w=60`.
        let parameters = text.split_once('?').map_or("", |(_, query)| query).split(['&', ';', '#']).take(PARTS);
        for (_, parameter) in parameters.filter_map(|one| one.split_once('=')) {
            for view in views(parameter, true) {
                tidy(&view);
                view.match_indices('/').take(PARTS).for_each(|(at, _)| tidy(&view[at + 1..]));
            }
        }
    }

    /// What equality must find of a name: the values that are it, plainly written, also with a `+` for each blank behind the prefix of a URL.
    pub fn plain_values<'n>(&self, name: &'n FileName) -> impl Iterator<Item = String> + use<'_, 'n> {
        let (prefixes, strip) = self.prefixes();
        let own = match self {
            // A key is its file's last part; what else lies there, the resolver tells.
            Reading::Key => Some(name.base().to_owned()),
            _ => self.is_bare().then(|| name.as_str().to_owned()),
        };
        let plus = name.as_str().contains(' ').then(|| name.as_str().replace(' ', "+"));
        let with_plus = plus.into_iter().flat_map(move |plus| prefixes.iter().map(move |p| format!("{p}{plus}")));
        own.into_iter().chain(prefixes.iter().chain(strip).map(move |p| format!("{p}{name}"))).chain(with_plus)
    }

    /// Other ways to write a name that an index can look for: percent-encoded, in other normal forms, with a separator before it or one doubled, a blank around it,
    /// with a `+` for each blank.
    pub fn spellings(&self, name: &FileName) -> BTreeSet<String> {
        let mut ways = BTreeSet::new();
        let mut plain = vec![name.as_str().to_owned()];
        plain.extend(forms(name));
        if let Ok(path) = FileName::parse(&walked(name.as_str())) {
            plain.push(path.as_str().to_owned());
        }
        for one in &plain {
            let around = [
                format!("/{one}"),
                format!("./{one}"),
                format!(" {one}"),
                format!("{one} "),
                format!("{one}\n"),
                format!("{one}."),
                one.clone(),
            ];
            ways.extend(around);
            ways.extend(one.match_indices('/').take(DOUBLED).map(|(at, _)| format!("{}/{}", &one[..at], &one[at..])));
            if let Ok(name) = FileName::key(one) {
                let encoded = [name.url_path(), name.uri_path().replace('+', "%2B")];
                ways.extend(encoded.iter().map(|one| one.replace("%20", "+")));
                ways.extend(encoded);
                ways.insert(name.uri_path());
            }
        }
        let (prefixes, strip) = self.prefixes();
        let own = if self.is_bare() { ways.clone() } else { BTreeSet::new() };
        prefixes.iter().chain(strip).flat_map(|p| ways.iter().map(move |way| format!("{p}{way}"))).chain(own).collect()
    }

    /// How deep a check must look to find every name that this value could mean.
    pub fn depth(&self, value: &[u8], names: Names) -> Depth {
        // What is no UTF-8 may still be read as a name, and equality finds it nowhere.
        let text = std::str::from_utf8(value).ok();
        if may_mention(value) && *self != Reading::Key {
            return Depth::Whole;
        }
        let mut depth = Depth::Plain;
        self.holds(value, names, |name| {
            depth = depth.max(match () {
                () if self.plain_values(&name).any(|one| Some(&*one) == text) => Depth::Plain,
                () if depth < Depth::Whole && text.is_some_and(|text| self.spellings(&name).contains(text)) => Depth::Spelled,
                () => Depth::Whole,
            });
        });
        depth
    }
}

/// The path without dots at the end of its parts: Azure stores `Acme Inc./a.` under `Acme Inc/a`.
fn undotted(path: &str) -> Cow<'static, str> {
    Cow::Owned(path.split('/').map(|part| part.trim_end_matches('.')).collect::<Vec<_>>().join("/"))
}

/// Whether a value is a URL or a path from elsewhere, rather than a name within a storage.
fn looks_like_a_path(text: &str) -> bool {
    let text = text.trim_start();
    text.contains("://") || text.starts_with('/') || text.starts_with("../")
}

/// A URL, or what follows its prefix, with blanks for `+`; `None` where it has none, or blanks of its own: who encodes blanks leaves none.
fn spaced(url: &str) -> Option<String> {
    (url.contains('+') && !url.contains(' ')).then(|| url.replace('+', " "))
}

/// The text as it stands and percent-decoded, with and without what follows a `?` or a `#`; of a URL also with blanks for `+`; each also with the separators of other systems
/// as ours.
fn views(text: &str, is_url: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |view: &str| {
        for view in [Cow::Borrowed(view), Cow::Owned(view.replace('\\', "/"))] {
            if !all.iter().any(|known| *known == view) {
                all.push(view.into_owned());
            }
        }
    };
    for end in [&[][..], &['?'], &['#'], &['?', '#']] {
        let cut = text.split(end).next().unwrap_or(text);
        let spaced = spaced(cut).filter(|_| is_url);
        for one in [Some(cut), spaced.as_deref()].into_iter().flatten() {
            add(one);
            if let Ok(decoded) = percent_encoding::percent_decode_str(one).decode_utf8() {
                add(&decoded);
            }
        }
    }
    all
}

/// Other names, of which a value that means one means this name, too: its normal forms, because a name may be in none of them; and of a key that is no path the path
/// that it comes to, because a library of the application may take `/a/b` and `./a/b` for `a/b`.
pub(crate) fn aliases(name: &FileName) -> Vec<FileName> {
    let path = if name.as_path().is_ok() { None } else { FileName::parse(&walked(name.as_str())).ok() };
    let mut all: Vec<FileName> = Vec::new();
    for one in [Some(name), path.as_ref()].into_iter().flatten() {
        all.extend(forms(one).iter().filter_map(|form| FileName::key(form).ok()));
    }
    all.extend(path);
    all
}

/// The [`aliases`] of these names, each with those that it means.
pub(crate) fn by_alias<'n>(names: impl IntoIterator<Item = &'n FileName>) -> HashMap<FileName, Vec<&'n FileName>> {
    let mut meant: HashMap<FileName, Vec<&FileName>> = HashMap::new();
    for name in names {
        aliases(name).into_iter().for_each(|alias| meant.entry(alias).or_default().push(name));
    }
    meant
}

/// Whether two keys come to the same path.
pub(crate) fn same_path(a: &FileName, b: &FileName) -> bool {
    walked(a.as_str()) == walked(b.as_str())
}

/// Its other normal forms: macOS writes `e` and an accent where others write `é`.
fn forms(name: &FileName) -> Vec<String> {
    if name.as_str().is_ascii() {
        return Vec::new();
    }
    let mut forms = vec![name.as_str().nfc().collect::<String>(), name.as_str().nfd().collect()];
    forms.retain(|form| form != name.as_str());
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::{Binding, Scan};
    use proptest::prelude::*;

    fn readings() -> [Reading; 4] {
        let (prefixes, strip) = (vec!["https://cdn.example.com/media/".to_owned(), "/media/".to_owned()], vec!["public://".to_owned()]);
        [
            Reading::Name,
            Reading::Url { prefixes: prefixes.clone() },
            Reading::Raw { strip: strip.clone(), prefixes, bare: false },
            Reading::Raw { strip, prefixes: Vec::new(), bare: true },
        ]
    }

    fn held(reading: &Reading, value: &str) -> Vec<String> {
        let mut all = Vec::new();
        reading.holds(value.as_bytes(), Names::Paths, |name| all.push(name.to_string()));
        all.dedup();
        all
    }

    #[test]
    fn dots_at_the_ends_of_parts_may_be_left_out() {
        for (value, name) in
            [(".env.jpg", "env.jpg"), ("../a.jpg", "a.jpg"), (".well-known/x", "well-known/x"), ("Acme Inc./a.jpg.", "Acme Inc/a.jpg")]
        {
            assert!(held(&readings()[0], value).contains(&name.to_owned()), "{value}");
        }
    }

    #[test]
    fn a_plain_value_holds_its_name_and_no_other() {
        assert_eq!(held(&Reading::Name, "2024/a b.jpg"), ["2024/a b.jpg"]);
        assert_eq!(held(&readings()[1], "/media/2024/a.jpg"), ["2024/a.jpg"]);
        assert_eq!(held(&readings()[2], "public://2024/a.jpg"), ["2024/a.jpg"]);
        assert_eq!(held(&Reading::Key, "abcdef"), ["ab/cd/abcdef"]);
    }

    #[test]
    fn names_that_a_value_only_contains_are_not_held() {
        let not = |reading: &Reading, value: &str, name: &str| assert!(!held(reading, value).contains(&name.to_owned()), "{value}");
        not(&Reading::Name, "a/b.jpg", "b.jpg");
        not(&Reading::Name, "a/b.jpg ", "b.jpg");
        not(&readings()[1], "/media/a/b.jpg?v=1", "b.jpg");
        not(&Reading::Name, "/a/b.jpg", ".jpg");
    }

    #[test]
    fn a_key_that_is_no_path_is_meant_by_its_path() {
        let meant = |name: &str| aliases(&FileName::key(name).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(meant("/a/b"), ["a/b"]);
        assert_eq!(meant("./a//b"), ["a/b"]);
        assert_eq!(meant("a/b"), [""; 0]);
        assert_eq!(meant("caf\u{e9}"), ["cafe\u{301}"]);
        // Neither composed nor decomposed: a row may have either.
        assert_eq!(meant("\u{e9}e\u{301}"), ["\u{e9}\u{e9}", "e\u{301}e\u{301}"]);
        for (value, name) in [("a/b", "/a/b"), ("./a/b", "/a/b"), ("/a/b", "./a/b"), ("/a/b", "a/b"), ("\u{e9}\u{e9}", "\u{e9}e\u{301}")] {
            let binding = Binding { names: Names::Keys, ..Binding::name("t.f", "default").unwrap() };
            let name = FileName::key(name).unwrap();
            let depth = binding.reading.depth(value.as_bytes(), Names::Keys);
            for depth in [depth, Depth::Whole] {
                let search = binding.search_at([&name], depth);
                let found = search.values.contains(&value.to_owned()) || search.non_plain.is_some_and(|odd| odd.wants(value.as_bytes()));
                assert!(found, "{value:?} at {depth:?} for {name:?}");
            }
        }
    }

    /// A form encodes a blank so, and S3 reads it so.
    #[test]
    fn a_plus_in_a_url_may_be_a_blank() {
        let urls = &readings()[1];
        let binding = Binding::name("t.f", "default").unwrap().reading(urls.clone());
        for (value, name) in [
            ("/media/2024/a+b.jpg", "2024/a b.jpg"),
            ("/media/2024/a+b.jpg", "2024/a+b.jpg"),
            ("/media/2024/a%2Bb+c.jpg", "2024/a+b c.jpg"),
            ("https://bucket.s3.amazonaws.com/2024/a+b.jpg", "2024/a b.jpg"),
            ("/download.php?f=2024%2Fa+b.jpg", "2024/a b.jpg"),
            ("/download.php?f=2024%2Fa.jpg", "2024/a.jpg"),
        ] {
            assert!(held(urls, value).contains(&name.to_owned()), "{value} may mean {name}");
            let name = FileName::parse(name).unwrap();
            for depth in [urls.depth(value.as_bytes(), Names::Paths), Depth::Whole] {
                let search = binding.search_at([&name], depth);
                let found = search.values.contains(&value.to_owned()) || search.non_plain.is_some_and(|odd| odd.wants(value.as_bytes()));
                assert!(found, "{value:?} at {depth:?} for {name:?}");
            }
        }
        assert_eq!(urls.depth(b"/media/2024/a+b.jpg", Names::Paths), Depth::Plain);
        assert_eq!(held(&Reading::Name, "2024/a+b.jpg"), ["2024/a+b.jpg"]);
    }

    /// What a regular expression asks a database for is what this module takes for odd.
    #[test]
    fn databases_ask_for_every_value_that_is_not_plain() {
        let odd = regex::Regex::new(ODD).unwrap();
        for text in [
            "a",
            "a b",
            "a/b.c",
            "~`!@$&*()_-+={}[]|\\\"':;<>,.",
            "a.",
            "a./b",
            "a.b/c.d",
            "..",
            "/a",
            "a//b",
            "a/.b",
            " a",
            "a ",
            "a%b",
            "a?",
            "#",
            "é",
            "a\n",
            "\u{7f}",
            "",
        ] {
            assert_eq!(is_plain(text), !odd.is_match(text), "{text:?}");
        }
    }

    /// Where dots at the end of a part are left out, no file has a name with such.
    fn may_be_written(name: &str, how: usize) -> bool {
        !matches!(how, 18 | 19) || !name.split('/').any(|part| part.ends_with('.'))
    }

    /// A way in which somebody wrote a name into a column.
    fn written(name: &str, how: usize) -> String {
        let encoded = FileName::parse(name).map(|n| n.url_path()).unwrap_or_default();
        match how {
            0 => name.to_owned(),
            1 => format!("/media/{encoded}"),
            2 => format!("/media/{name}"),
            3 => format!("https://CDN.example.com:443/media/{encoded}?v=1#top"),
            4 => format!("//old.example.org/uploads/{encoded}"),
            5 => format!("http://cdn.example.com/media/{encoded}"),
            6 => format!("/srv/app/media/{name}"),
            7 => format!("public://{name}"),
            8 => format!("/{name}"),
            9 => format!("./{name}"),
            10 => format!(" {name}\n"),
            11 => name.replacen('/', "//", 1),
            12 => name.nfd().collect(),
            13 => format!("https://cdn.example.com/media/{}", name.nfd().collect::<String>()),
            14 => format!("https://cdn.example.com/media/{}", encoded.replace("%20", "+")),
            15 => name.replace('/', "\\"),
            16 => format!("/media/./{}", encoded.replacen('/', "/./", 1)),
            17 => format!("/media/x/../{}", encoded.replacen('/', "/y/../", 1)),
            18 => format!("{name}."),
            19 => format!("/media/{}.", encoded.replacen('/', "./", 1)),
            _ => format!("/media/{}", encoded.to_lowercase().replace("%2f", "/")),
        }
    }

    /// SQLite's texts may hold any byte, and so may columns of bytes.
    #[test]
    fn what_is_read_out_of_no_utf_8_is_not_plain() {
        let url = &readings()[1];
        assert_eq!(url.depth(b"/media/a.jpg?v=\xff", Names::Paths), Depth::Whole);
        assert_eq!(url.depth(b"/media/a.jpg", Names::Paths), Depth::Plain);
    }

    proptest! {
        /// However a column of names or URLs spells a name, the value holds it; and a check that is as deep as the value needs finds the value.
        #[test]
        fn no_reading_misses_the_file_that_a_value_was_made_from(
            name in "[a-zé0-9%#&+' ?]{1,5}(/[a-zé0-9%#&+' ?._-]{1,6}){0,2}\\.jpg", how in 0..21_usize, kind in 0..4_usize
        ) {
            let Ok(name) = FileName::parse(name.trim()) else { return Ok(()) };
            prop_assume!(may_be_written(name.as_str(), how));
            let value = written(name.as_str(), how);
            let reading = readings()[kind].clone();
            let bare = matches!(kind, 0 | 3);
            let all = held(&reading, &value);
            prop_assert!(all.contains(&name.to_string()), "{:?} as {:?} holds {:?}", value, reading.word(), all);

            let binding = Binding::name("t.f", "default").unwrap().reading(reading.clone());
            let depth = reading.depth(value.as_bytes(), Names::Paths);
            for depth in [depth, Depth::Whole] {
                let search = binding.search_at([&name], depth);
                let found = search.values.contains(&value) || search.non_plain.as_ref().is_some_and(|odd| odd.wants(value.as_bytes()));
                prop_assert!(found, "{:?} at {:?} for {:?}", value, depth, name);
            }
            // What a database does not ask for is plain.
            let rest = reading.rest(&value);
            if rest.or(bare.then_some(value.as_str())).is_some_and(is_plain) {
                prop_assert_eq!(depth, Depth::Plain);
            }
        }

        /// The same for values with many names: whatever the path or the prefix, the name is mentioned.
        #[test]
        fn no_list_or_text_misses_the_file_that_it_was_made_from(
            name in "[a-zé0-9]{1,5}(/[a-zé0-9 ._-]{1,6}){0,2}\\.jpg", how in 0..21_usize, json in any::<bool>()
        ) {
            let Ok(name) = FileName::parse(name.trim()) else { return Ok(()) };
            prop_assume!(may_be_written(name.as_str(), how));
            let value = written(name.as_str(), how);
            let (binding, text) = match json {
                true => (Binding::json("t.f", "default", "$.image").unwrap(), serde_json::json!({ "other": [{ "src": value }] }).to_string()),
                false => (Binding::text("t.f", "default", ["/m/"]).unwrap(), format!("<p><img src=\"{value}\"></p>")),
            };
            let mut found = false;
            Scan::new(&binding.reading, [&name]).held(text.as_bytes(), |_, _| found = true);
            prop_assert!(found, "{}", text);
        }

        #[test]
        fn no_value_makes_it_fail(value in proptest::collection::vec(any::<u8>(), 0..48)) {
            for reading in readings() {
                reading.holds(&value, Names::Keys, |_| {});
                reading.depth(&value, Names::Paths);
            }
        }
    }
}
