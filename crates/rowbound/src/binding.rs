//! A binding: column C of table T references files of storage S, and how a value becomes a name.
//!
//! In: a column and the options of `[[binding]]`, or a query and those of `[[reference]]`. Out: [`Binding::each_name`], which turns a value into
//! names, and [`Binding::search`], which says what to look for in the column to find every value that
//! resolves to one of a set of names. Capture, check and sweep all go through these two, so that what was
//! released and what is referenced can never be read in two ways.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

mod array; // a PostgreSQL array -> its elements
mod column; // how a column is written
mod json; // JSON and a path -> strings
mod keep; // names that are never deleted
mod scan; // every value read once, for all names of a batch
mod spelled; // everything that a value could mean
mod text; // HTML, Markdown -> names
mod views; // a value without its escapes, with its paths walked

pub use column::Column;
pub use json::Path as JsonPath;
pub use keep::Keep;
pub use scan::{Held, Scan};
pub use spelled::{Depth, NonPlain, ODD};
pub(crate) use spelled::{aliases, by_alias, may_mention, same_path};
pub use text::Finder;

use crate::{
    error::Result,
    name::{FileName, Names, Refused},
};

/// How a column's value becomes a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The value is the name, byte for byte (Django's `FileField`, Laravel's paths, ...).
    Name,
    /// The value is a URL: one of these prefixes, then the percent-encoded name, then perhaps `?..` or `#..`.
    /// A value under none of the prefixes references no file of the storage.
    Url {
        /// Compared byte for byte; each ends with `/`.
        prefixes: Vec<String>,
    },
    /// One of `strip` stands before the name, which is written as it is; or one of `prefixes`, as in [`Reading::Url`].
    Raw {
        /// Compared byte for byte, as `prefixes` are.
        strip: Vec<String>,
        /// Of URLs.
        prefixes: Vec<String>,
        /// Whether a value under none of them is a name itself.
        bare: bool,
    },
    /// The value is a key of Active Storage's disk service: the file `abcdef` lies at `ab/cd/abcdef`.
    Key,
    /// The value is JSON; each string to which the path leads is a name, or a URL under one of the prefixes where there are any.
    Json {
        /// Where the names stand.
        path: JsonPath,
        /// Empty: the strings are names.
        prefixes: Vec<String>,
    },
    /// The value is a PostgreSQL array; each element is a name, or a URL under one of the prefixes where there are any.
    Array {
        /// Empty: the elements are names.
        prefixes: Vec<String>,
    },
    /// The value is a text (HTML, Markdown, ..) with URLs in it.
    Text(Finder),
}

impl Reading {
    /// Whether a value may hold any number of names. Then a candidate's value is opened up before it is looked at, and references are found by a
    /// [`Scan`].
    pub fn is_many(&self) -> bool {
        matches!(self, Reading::Json { .. } | Reading::Array { .. } | Reading::Text(_))
    }

    /// The last name of a value; where a value has one name, that one.
    pub(crate) fn resolve(&self, value: &[u8], names: Names) -> Resolved {
        let mut found = Resolved::Nothing;
        self.each_name(value, names, |one| found = one);
        found
    }

    /// The word for it in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Reading::Name => "name",
            Reading::Raw { bare: true, .. } => "name",
            Reading::Url { .. } | Reading::Raw { .. } => "url",
            Reading::Key => "active-storage-key",
            Reading::Json { .. } => "json",
            Reading::Array { .. } => "array",
            Reading::Text(_) => "text",
        }
    }

    /// Calls `take` with everything that `value` references, in the order in which it stands there. `names` says what the storage takes for a name.
    pub fn each_name(&self, value: &[u8], names: Names, mut take: impl FnMut(Resolved)) {
        if value.is_empty() {
            return;
        }
        let one = |element: &[u8], prefixes: &[String]| match prefixes {
            [] => bare(element, names),
            prefixes => url(element, prefixes, names),
        };
        match self {
            Reading::Name => take(bare(value, names)),
            Reading::Url { prefixes } => take(url(value, prefixes, names)),
            Reading::Raw { strip, prefixes, bare } => take(raw(value, strip, prefixes, *bare, names)),
            Reading::Key => take(key_path(value, names)),
            Reading::Json { path, prefixes } => match path.strings(value) {
                Ok(strings) => strings.iter().for_each(|s| take(one(s.as_bytes(), prefixes))),
                Err(why) => take(Resolved::Unreadable(why)),
            },
            Reading::Array { prefixes } => match array::elements(value) {
                Ok(elements) => elements.iter().filter(|e| !e.is_empty()).for_each(|e| take(one(e, prefixes))),
                Err(why) => take(Resolved::Unreadable(format!("is no array: it {why}"))),
            },
            Reading::Text(finder) => finder.each(value, |found| take(name(found, names))),
        }
    }
}

/// A value that is a name, or what an application stores in such a column instead: a URL of another host (an avatar), a picture as a `data:` URI. These name
/// no file here, but only if they cannot be a name: `data:image/png;base64,x` can, and then a file of that name is looked for. An `http://` cannot, because a
/// path holds no empty segment, and no key is a URL.
fn bare(value: &[u8], names: Names) -> Resolved {
    match name(value, names) {
        Resolved::Refused(_) if is_elsewhere(value) => Resolved::Nothing,
        resolved => resolved,
    }
}

/// Whether a value says by its scheme that it is no file of a storage: `http:`, `https:` with a host, or `data:`.
pub(crate) fn is_elsewhere(value: &[u8]) -> bool {
    [&b"http://"[..], b"https://", b"data:"].iter().any(|scheme| value.get(..scheme.len()).is_some_and(|v| v.eq_ignore_ascii_case(scheme)))
}

fn name(bytes: &[u8], names: Names) -> Resolved {
    match std::str::from_utf8(bytes).map_err(|_| Refused::NotUtf8).and_then(|text| FileName::of(names, text)) {
        Ok(name) => Resolved::Name(name),
        Err(why) => Resolved::Refused(why),
    }
}

fn url(value: &[u8], prefixes: &[String], names: Names) -> Resolved {
    let Some(rest) = prefixes.iter().filter_map(|p| value.strip_prefix(p.as_bytes())).min_by_key(|r| r.len()) else {
        return Resolved::Nothing;
    };
    let path = rest.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(rest);
    match percent_decode(path) {
        Ok(bytes) => name(&bytes, names),
        Err(why) => Resolved::Refused(why),
    }
}

/// As [`url`], but what stands behind one of `strip` is the name as it is.
fn raw(value: &[u8], strip: &[String], prefixes: &[String], is_bare: bool, names: Names) -> Resolved {
    let longest = |all: &[String]| all.iter().filter(|p| value.starts_with(p.as_bytes())).map(String::len).max();
    match (longest(strip), longest(prefixes)) {
        (Some(raw), decoded) if decoded.is_none_or(|decoded| decoded <= raw) => name(&value[raw..], names),
        (_, Some(_)) => url(value, prefixes, names),
        (_, None) if is_bare => bare(value, names),
        (_, None) => Resolved::Nothing,
    }
}

/// Where Active Storage's disk service puts a key:
/// <https://github.com/rails/rails/blob/main/activestorage/lib/active_storage/service/disk_service.rs> (`folder_for`).
fn key_path(value: &[u8], names: Names) -> Resolved {
    let Ok(key) = std::str::from_utf8(value) else { return Resolved::Refused(Refused::NotUtf8) };
    match (key.get(0..2), key.get(2..4)) {
        (Some(a), Some(b)) => name(format!("{a}/{b}/{key}").as_bytes(), names),
        _ => Resolved::Nothing,
    }
}

/// Whether candidates of a binding are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They are.
    #[default]
    Live,
    /// Everything but the deletion: the ledger says what would have gone.
    Shadow,
}

/// What the triggers prefer: never to fail a statement of the application, or never to slow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// A renamed, dropped or altered column never makes the application's writes fail.
    #[default]
    Tolerant,
    /// Updates that do not touch the column cost nothing (PostgreSQL `UPDATE OF` and `WHEN`), but altering the
    /// column needs `rowbound detach` before and `rowbound attach` after.
    Fast,
}

/// A declaration that a column, or a query, references files of a storage.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The column. Of a query: the table [`QUERY`], and the query's name as the column.
    pub column: Column,
    /// A query whose one column references files: a source of references without capture. What it releases, the sweep finds.
    pub query: Option<String>,
    /// The storage's name in the plan.
    pub storage: String,
    /// How values are read.
    pub reading: Reading,
    /// What its storage takes for a name: the plan says it.
    pub names: Names,
    /// Names that are never deleted, by anyone; `*` also matches `/`, so that a pattern protects more, not less.
    pub keep: Vec<String>,
    /// How the derivatives of its files are named, which go with them: patterns or presets.
    pub derivatives: Vec<String>,
    /// Only rows whose other columns have these values, as text, reference files: `where` in the configuration.
    pub only: BTreeMap<String, String>,
    /// Live or shadow.
    pub mode: Mode,
    /// Tolerant or fast triggers.
    pub body: Body,
}

/// The table that stands in [`Binding::column`] of a query.
pub const QUERY: &str = "query";

/// What a value references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A file of the binding's storage.
    Name(FileName),
    /// No file of the storage (a URL of another host, an empty value).
    Nothing,
    /// Something that must not reach a storage.
    Refused(Refused),
    /// The value cannot be read, so what it references is not known: never the same as nothing.
    Unreadable(String),
}

/// What to look for in a column so that no value that resolves to one of the names is missed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// Values to find by equality. The database may return more than equal ones (collations): the caller resolves
    /// what comes back and compares bytes.
    pub values: Vec<String>,
    /// Further: the values that are not plain, of which those that hold one of the names are wanted.
    pub non_plain: Option<NonPlain>,
    /// Instead: every value of the column is read once, and what is found are the names that it holds, not the value.
    pub scan: Option<Scan>,
    /// Only in rows whose other columns have these values, as text.
    pub only: BTreeMap<String, String>,
}

impl Binding {
    /// A live binding of a column whose values are names.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when `column` is not `[schema.]table.column`.
    pub fn name(column: &str, storage: &str) -> Result<Self> {
        Ok(Binding {
            column: Column::parse(column)?,
            query: None,
            storage: storage.to_owned(),
            reading: Reading::Name,
            names: Names::Paths,
            keep: Vec::new(),
            derivatives: Vec::new(),
            only: BTreeMap::new(),
            mode: Mode::Live,
            body: Body::Tolerant,
        })
    }

    /// A live binding of a column whose values are URLs that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Binding::name`].
    pub fn url(column: &str, storage: &str, prefix: &str) -> Result<Self> {
        Ok(Binding { reading: Reading::Url { prefixes: vec![prefix.to_owned()] }, ..Self::name(column, storage)? })
    }

    /// A live binding of a column whose values are JSON with names at `path`.
    ///
    /// # Errors
    /// As [`Binding::name`] and [`JsonPath::parse`].
    pub fn json(column: &str, storage: &str, path: &str) -> Result<Self> {
        let reading = Reading::Json { path: JsonPath::parse(path)?, prefixes: Vec::new() };
        Ok(Binding { reading, ..Self::name(column, storage)? })
    }

    /// A live binding of a PostgreSQL array column whose elements are names.
    ///
    /// # Errors
    /// As [`Binding::name`].
    pub fn array(column: &str, storage: &str) -> Result<Self> {
        Ok(Binding { reading: Reading::Array { prefixes: Vec::new() }, ..Self::name(column, storage)? })
    }

    /// A live binding of a column whose values are HTML, Markdown or other text, in which names stand behind one of `prefixes`.
    ///
    /// # Errors
    /// As [`Binding::name`] and [`Finder::new`].
    pub fn text<S: Into<String>>(column: &str, storage: &str, prefixes: impl IntoIterator<Item = S>) -> Result<Self> {
        let finder = Finder::new(prefixes.into_iter().map(Into::into).collect(), None)?;
        Ok(Binding { reading: Reading::Text(finder), ..Self::name(column, storage)? })
    }

    /// A source of references without capture: `query` is a SELECT of one column, whose values are names. `name` names it in messages.
    pub fn query(name: &str, storage: &str, query: &str) -> Self {
        Binding {
            column: Column { schema: None, table: QUERY.to_owned(), column: name.to_owned() },
            query: Some(query.trim().trim_end_matches(';').to_owned()),
            storage: storage.to_owned(),
            reading: Reading::Name,
            names: Names::Paths,
            keep: Vec::new(),
            derivatives: Vec::new(),
            only: BTreeMap::new(),
            mode: Mode::Live,
            body: Body::Tolerant,
        }
    }

    /// Sets how values are read.
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Adds patterns of names that are never deleted.
    pub fn keep<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.keep.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Adds patterns (`CACHE/images/{stem}/*`) or presets (`imagekit`) of the derivatives that go with each file. The plan checks them.
    pub fn derivatives<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.derivatives.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Lets only rows reference files whose `column` has this value, compared as text.
    pub fn only(mut self, column: impl Into<String>, value: impl Into<String>) -> Self {
        self.only.insert(column.into(), value.into());
        self
    }

    /// Sets the mode.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets what the triggers prefer.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The key under which the installation knows this binding: column and storage.
    pub fn key(&self) -> String {
        match self.query {
            // No column's key holds a blank before the arrow.
            Some(_) => format!("query {} -> {}", self.column.column, self.storage),
            None => format!("{}{} -> {}", self.column, self.shown_only(), self.storage),
        }
    }

    /// Tells how its values are read, and of which rows, from any other way. Another build may write it otherwise.
    pub fn mark(&self) -> String {
        // FNV-1a: the standard hasher promises nothing for the next build.
        let text = format!("{:?} {:?} {:?}", self.reading, self.names, self.only);
        format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Which rows reference files, as it stands behind the column: ` where kind = "image"`.
    fn shown_only(&self) -> String {
        let conditions: Vec<String> = self.only.iter().map(|(column, value)| format!("{column} = {value:?}")).collect();
        if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) }
    }

    /// What `value` references, where a value has one name. Where it has many, they are opened up first ([`Binding::each_name`]), and each `value` is
    /// one of them: a name as it is.
    pub fn resolve(&self, value: &[u8]) -> Resolved {
        let mut found = Resolved::Nothing;
        match self.scans() {
            true if value.is_empty() => {}
            true => found = name(value, self.names),
            false => self.reading.each_name(value, self.names, |one| found = one),
        }
        found
    }

    /// Calls `take` with everything that `value`, as it stands in the column, references, in the order in which it stands there.
    pub fn each_name(&self, value: &[u8], take: impl FnMut(Resolved)) {
        self.reading.each_name(value, self.names, take);
    }

    /// Whether it is a query in which this table is a word, in whatever case: `"order item"`, but not `item` in `items`.
    pub(crate) fn queries(&self, table: &str) -> bool {
        let Some(query) = self.query.as_ref().map(|query| query.to_lowercase()) else { return false };
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let stands_alone = |(at, word): (usize, &str)| {
            let (before, after) = (query[..at].chars().next_back(), query[at + word.len()..].chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        };
        query.match_indices(&table.to_lowercase()).any(stands_alone)
    }

    /// Whether references are found by a [`Scan`], which tells names and not values.
    pub fn scans(&self) -> bool {
        self.query.is_some() || self.reading.is_many()
    }

    /// Calls `take` with every name that `value` could mean: see [`Reading::holds`].
    pub fn holds(&self, value: &[u8], take: impl FnMut(FileName)) {
        self.reading.holds(value, self.names, take);
    }

    /// What to look for in the column to find every value that could hold one of `names`, whatever stands in the column.
    pub fn search<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Search {
        self.search_at(names, Depth::Whole)
    }

    /// The same in a column that was looked through: none of its values needs a deeper look.
    pub fn search_at<'a>(&self, names: impl IntoIterator<Item = &'a FileName>, depth: Depth) -> Search {
        if self.scans() {
            return Search { scan: Some(Scan::new(&self.reading, names)), ..self.empty_search() };
        }
        let names: Vec<&FileName> = names.into_iter().collect();
        let aliases: Vec<FileName> = names.iter().flat_map(|name| aliases(name)).collect();
        let names: Vec<&FileName> = names.into_iter().chain(&aliases).collect();
        let mut search = self.empty_search();
        search.values = match depth {
            Depth::Spelled => {
                let mut values: BTreeSet<String> = names.iter().flat_map(|name| self.reading.spellings(name)).collect();
                values.extend(names.iter().flat_map(|name| self.reading.plain_values(name)));
                values.into_iter().collect()
            }
            _ => names.iter().flat_map(|name| self.reading.plain_values(name)).collect(),
        };
        search.non_plain = self.odd(depth, names, false);
        search
    }

    /// What to look for to find what is read as one of `names`, and not what a value could mean besides: for who reports references, never for a check.
    pub fn search_read<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Search {
        if self.scans() {
            return Search { scan: Some(Scan::read_only(&self.reading, names)), ..self.empty_search() };
        }
        let names: Vec<&FileName> = names.into_iter().collect();
        let values = names.iter().flat_map(|name| self.reading.plain_values(name)).collect();
        let odd = match self.reading {
            // What is not plain is no name, or is its own.
            Reading::Name => None,
            _ => self.odd(Depth::Whole, names, true),
        };
        Search { values, non_plain: odd, ..self.empty_search() }
    }

    fn odd(&self, depth: Depth, names: Vec<&FileName>, read: bool) -> Option<NonPlain> {
        (depth == Depth::Whole && self.reading != Reading::Key && !names.is_empty())
            .then(|| NonPlain::new(&self.reading, self.names, names, read))
    }

    fn empty_search(&self) -> Search {
        Search { only: self.only.clone(), ..Search::default() }
    }
}

pub(crate) fn percent_decode(path: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    if !path.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16)).ok_or(Refused::BrokenEncoding);
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => (hex(bytes.next())? * 16 + hex(bytes.next())?) as u8,
            b => *b,
        });
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    #[test]
    fn columns_parse_and_print() {
        for (text, schema, table, column) in [
            ("blog_article.image", None, "blog_article", "image"),
            ("public.blog_article.image", Some("public"), "blog_article", "image"),
            ("\"my.schema\".\"a\"\"b\".c", Some("my.schema"), "a\"b", "c"),
        ] {
            let parsed = Column::parse(text).unwrap();
            assert_eq!((parsed.schema.as_deref(), &*parsed.table, &*parsed.column), (schema, table, column));
            assert_eq!(parsed.to_string(), text);
        }
        for bad in ["", "image", ".image", "a.", "a..b", "a.b.c.d", "\"a.b", "\"a\"x.b"] {
            let e = Column::parse(bad).unwrap_err();
            assert_eq!(e.kind(), Kind::Config);
            assert!(e.to_string().contains(&format!("{bad:?}")), "{e}");
        }
    }

    #[test]
    fn urls_resolve_as_browsers_read_them() {
        let b = Binding::url("t.c", "default", "https://cdn.example.com/media/").unwrap();
        let name = |s: &str| Resolved::Name(FileName::parse(s).unwrap());
        for (value, want) in [
            ("https://cdn.example.com/media/a.jpg", name("a.jpg")),
            ("https://cdn.example.com/media/a.jpg?v=3#x", name("a.jpg")),
            ("https://cdn.example.com/media/a%20b%C3%A9.jpg", name("a bé.jpg")),
            ("https://cdn.example.com/media/a b.jpg", name("a b.jpg")),
            ("https://other.example.com/media/a.jpg", Resolved::Nothing),
            ("", Resolved::Nothing),
            ("https://cdn.example.com/media/", Resolved::Refused(Refused::Empty)),
            ("https://cdn.example.com/media/%2e%2e/x", Resolved::Refused(Refused::DotSegment)),
            ("https://cdn.example.com/media//etc", Resolved::Refused(Refused::Absolute)),
            ("https://cdn.example.com/media/%zz", Resolved::Refused(Refused::BrokenEncoding)),
            ("https://cdn.example.com/media/%ff", Resolved::Refused(Refused::NotUtf8)),
        ] {
            assert_eq!(b.resolve(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut b = Binding::url("t.c", "default", "/media/").unwrap();
        b.reading = Reading::Url { prefixes: vec!["/".into(), "/media/".into()] };
        assert_eq!(b.resolve(b"/media/a.jpg"), Resolved::Name(FileName::parse("a.jpg").unwrap()));
    }

    #[test]
    fn a_query_is_known_by_its_tables() {
        let query =
            Binding::query("media", "default", "select m.id || '/' || m.file from Public.Media m join \"order item\" o on o.id = m.item");
        for (table, is_there) in [
            ("media", true),
            ("MEDIA", true),
            ("order item", true),
            ("item", true),
            ("order", true),
            ("med", false),
            ("edia", false),
            ("ite", false),
        ] {
            assert_eq!(query.queries(table), is_there, "{table}");
        }
        assert!(!Binding::name("media.file", "default").unwrap().queries("media"));
        let of = |query: &str| Binding::query("names", "default", query);
        for query in ["select v from wp_postmeta where k = 'x'", "select m.v from \"WP_PostMeta\" m", "select v from app.wp_postmeta"] {
            assert!(of(query).queries("wp_postmeta"), "{query}");
        }
        for query in ["select v from wp_postmeta_old", "select v from my_wp_postmeta", "select file from doc"] {
            assert!(!of(query).queries("wp_postmeta"), "{query}");
        }
    }

    #[test]
    fn keep_protects_below_folders_too() {
        let b = Binding::name("t.c", "default").unwrap().keep(["defaults/*", "logo.{png,svg}"]);
        let keep = Keep::new([&b]).unwrap();
        for (name, protected) in
            [("defaults/a.png", true), ("defaults/x/a.png", true), ("logo.svg", true), ("my/logo.svg", false), ("defaults", false)]
        {
            assert_eq!(keep.protects(&FileName::parse(name).unwrap()), protected, "{name}");
        }
        for (key, protected) in [("/defaults/a.png", true), ("./logo.svg", true), ("defaults//a.png", true), ("/my/logo.svg", false)] {
            assert_eq!(keep.protects(&FileName::key(key).unwrap()), protected, "{key}");
        }
        let bad = Binding::name("t.c", "default").unwrap().keep(["a[", "b"]);
        assert!(Keep::new([&bad]).unwrap_err().to_string().contains("\"a[\""));
    }

    proptest! {
        /// Whatever spelling of a URL resolves to a name is found by the search for that name.
        #[test]
        fn search_misses_no_spelling(name in "[a-z %?#é!/~+]{1,8}", mask in proptest::collection::vec(any::<bool>(), 24), query in "(\\?[a-z]{0,3})?") {
            let b = Binding::url("t.c", "default", "/m/").unwrap();
            let spelled: String = name.bytes().zip(mask.iter().cycle()).map(|(byte, enc)| {
                if *enc || matches!(byte, b'%' | b'?' | b'#') || !byte.is_ascii() { format!("%{byte:02X}") } else { (byte as char).to_string() }
            }).collect();
            let value = format!("/m/{spelled}{query}");
            if let Resolved::Name(found) = b.resolve(value.as_bytes()) {
                prop_assert_eq!(found.as_str(), &name);
                let search = b.search([&found]);
                prop_assert!(search.values.contains(&value) || search.non_plain.is_some_and(|odd| odd.wants(value.as_bytes())));
            }
        }
    }
}
