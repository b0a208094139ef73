//! A binding: column C of table T names files of storage S, and how a value becomes a name.
//!
//! In: a column and the options of `[[binding]]`, or a query and those of `[[reference]]`. Out: [`Binding::each_name`], which turns a value into
//! names, and [`Binding::search`], which says what to look for in the column to find every value that
//! resolves to one of a set of names. Capture, check and sweep all go through these two, so that what was
//! released and what is referenced can never be read in two ways.

use std::{borrow::Cow, fmt};

use globset::{Glob, GlobSet, GlobSetBuilder};

mod array; // a PostgreSQL array -> its elements
mod json; // JSON and a path -> strings
mod scan; // every value read once, for all names of a batch
mod text; // HTML, Markdown -> names

pub use json::Path as JsonPath;
pub use scan::{Held, Scan};
pub use text::Finder;

use crate::{
    error::{Error, Kind, Result},
    name::{FileName, Names, Refused},
};

/// A table's column: `[schema.]table.column`. A part that holds a dot is written in double quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column {
    /// The schema (PostgreSQL) or database (MySQL); `None` takes the connection's own.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
}

impl Column {
    /// Reads `[schema.]table.column`.
    ///
    /// # Errors
    /// [`Kind::Config`] when there are not two or three parts, or a part is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Kind::Config, format!("`column` {why}"))
                .with("column", format_args!("{text:?}"))
                .hint("write it as `table.column` or `schema.table.column`; quote a part that holds a dot: `\"my.table\".image`")
        };
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
                // A doubled quote inside stands for one, as in SQL.
                let mut part = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next() {
                        Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                            chars.next();
                            part.push('"');
                        }
                        Some((i, '"')) => break i + 1,
                        Some((_, c)) => part.push(c),
                        None => return Err(bad("has a quote that does not end")),
                    }
                };
                (part, &quoted[end..])
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            if part.is_empty() {
                return Err(bad("has an empty part"));
            }
            if part.contains('\0') {
                return Err(bad("holds a NUL byte"));
            }
            parts.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return Err(bad("has text after a quoted part")),
            }
        }
        let column = parts.pop().ok_or_else(|| bad("is empty"))?;
        let table = parts.pop().ok_or_else(|| bad("names no table"))?;
        let schema = parts.pop();
        if !parts.is_empty() {
            return Err(bad("has more than three parts"));
        }
        Ok(Column { schema, table, column })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.schema.iter().chain([&self.table, &self.column]);
        for (i, part) in parts.enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            if part.contains(['.', '"']) {
                write!(f, "\"{}\"", part.replace('"', "\"\""))?;
            } else {
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}

/// How a column's value becomes a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The value is the name, byte for byte (Django's `FileField`, Laravel's paths, ...).
    Name,
    /// The value is a URL: one of these prefixes, then the percent-encoded name, then perhaps `?..` or `#..`.
    /// A value under none of the prefixes names no file of the storage.
    Url {
        /// Compared byte for byte; each ends with `/`.
        prefixes: Vec<String>,
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

    /// The word for it in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Reading::Name => "name",
            Reading::Url { .. } => "url",
            Reading::Key => "active-storage-key",
            Reading::Json { .. } => "json",
            Reading::Array { .. } => "array",
            Reading::Text(_) => "text",
        }
    }

    /// Calls `take` with everything that `value` names, in the order in which it stands there. `names` says what the storage takes for a name.
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

/// A declaration that a column, or a query, names files of a storage.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The column. Of a query: the table [`QUERY`], and the query's name as the column.
    pub column: Column,
    /// A query whose one column names files: a source of references without capture. What it lets go of, the sweep finds.
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
    /// Live or shadow.
    pub mode: Mode,
    /// Tolerant or fast triggers.
    pub body: Body,
}

/// The table that stands in [`Binding::column`] of a query.
pub const QUERY: &str = "query";

/// What a value names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A file of the binding's storage.
    Name(FileName),
    /// No file of the storage (a URL of another host, an empty value).
    Nothing,
    /// Something that must not reach a storage.
    Refused(Refused),
    /// The value cannot be read, so what it names is not known: never the same as nothing.
    Unreadable(String),
}

/// What to look for in a column so that no value that resolves to one of the names is missed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// Values to find by equality. The database may return more than equal ones (collations): the caller resolves
    /// what comes back and compares bytes.
    pub values: Vec<String>,
    /// Further: every value that begins with one of these and holds a `%`, a `?` or a `#`: one name has many
    /// spellings as a URL, and equality finds only the one without these three.
    pub odd_under: Vec<String>,
    /// Instead: every value of the column is read once, and what is found are the names that it holds, not the value.
    pub scan: Option<Scan>,
}

impl Binding {
    /// A live binding of a column whose values are names.
    ///
    /// # Errors
    /// [`Kind::Config`] when `column` is not `[schema.]table.column`.
    pub fn name(column: &str, storage: &str) -> Result<Self> {
        Ok(Binding {
            column: Column::parse(column)?,
            query: None,
            storage: storage.to_owned(),
            reading: Reading::Name,
            names: Names::Paths,
            keep: Vec::new(),
            derivatives: Vec::new(),
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
            None => format!("{} -> {}", self.column, self.storage),
        }
    }

    /// What `value` names, where a value has one name. Where it has many, they are opened up first ([`Binding::each_name`]), and each `value` is one of them:
    /// a name as it is.
    pub fn resolve(&self, value: &[u8]) -> Resolved {
        let mut found = Resolved::Nothing;
        match self.scans() {
            true if value.is_empty() => {}
            true => found = name(value, self.names),
            false => self.reading.each_name(value, self.names, |one| found = one),
        }
        found
    }

    /// Calls `take` with everything that `value`, as it stands in the column, names, in the order in which it stands there.
    pub fn each_name(&self, value: &[u8], take: impl FnMut(Resolved)) {
        self.reading.each_name(value, self.names, take);
    }

    /// Whether references are found by a [`Scan`], which tells names and not values.
    pub fn scans(&self) -> bool {
        self.query.is_some() || self.reading.is_many()
    }

    /// What to look for in the column to find every value that holds one of `names`.
    pub fn search<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Search {
        if self.scans() {
            return Search { scan: Some(Scan::new(&self.reading, names)), ..Search::default() };
        }
        let values = |values: Vec<String>| Search { values, ..Search::default() };
        match &self.reading {
            Reading::Url { prefixes } => {
                // A value without `%`, `?` and `#` is the prefix and the name as they are; all others are odd.
                let plain = names.into_iter().flat_map(|name| prefixes.iter().map(move |p| format!("{p}{name}"))).collect();
                Search { odd_under: prefixes.clone(), ..values(plain) }
            }
            // A key is its file's last part; what else lies there, the resolver tells.
            Reading::Key => values(names.into_iter().map(|n| n.base().to_owned()).collect()),
            _ => values(names.into_iter().map(|n| n.as_str().to_owned()).collect()),
        }
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

/// The `keep` patterns of every binding on one storage, compiled.
#[derive(Debug, Clone)]
pub struct Keep(GlobSet);

impl Keep {
    /// Compiles the union of the patterns of `bindings`.
    ///
    /// # Errors
    /// [`Kind::Config`] names the pattern that does not parse.
    pub fn new<'a>(bindings: impl IntoIterator<Item = &'a Binding>) -> Result<Self> {
        Self::with_ignored(bindings, &[])
    }

    /// The same and a storage's `ignore` patterns: what a sweep leaves alone.
    ///
    /// # Errors
    /// As [`Keep::new`].
    pub fn with_ignored<'a>(bindings: impl IntoIterator<Item = &'a Binding>, ignored: &[String]) -> Result<Self> {
        let parse = |field: &'static str, pattern: &str| {
            Glob::new(pattern).map_err(|e| {
                Error::new(Kind::Config, format!("`{field}` holds a pattern that does not parse: {}", e.kind()))
                    .with(field, format_args!("{pattern:?}"))
                    .hint("`*` matches anything, `?` one character, `[a-z]` a set, `{a,b}` either")
            })
        };
        let mut set = GlobSetBuilder::new();
        for binding in bindings {
            for pattern in &binding.keep {
                set.add(parse("keep", pattern).map_err(|e| e.with("binding", &binding.column))?);
            }
        }
        for pattern in ignored {
            set.add(parse("ignore", pattern)?);
        }
        set.build().map(Keep).map_err(|e| Error::new(Kind::Config, "the `keep` patterns are too large").because(e))
    }

    /// Whether `name` must never be deleted. A key that is no path is protected with its path, too.
    pub fn protects(&self, name: &FileName) -> bool {
        let with_path = || name.as_path().is_err() && name.other_spellings().iter().any(|path| self.0.is_match(path.as_str()));
        self.0.is_match(name.as_str()) || with_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
                let odd = value.contains(['%', '?', '#']);
                prop_assert!(odd || search.values.contains(&value));
            }
        }
    }
}
