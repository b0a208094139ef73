//! The plan: the checked configuration.
//!
//! In: the text of `rowbound.toml`, the environment, or calls of [`PlanBuilder`]. Out: a [`Plan`], parsed without IO, then
//! checked; every complaint names the field and the value.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

mod address; // a database's URL, in whose spelling it may be
mod barrier; // whom no barrier waits for
mod hook; // commands and webhooks that are called after a deletion
mod location; // a storage's url -> where its files lie
mod raw; // rowbound.toml as it is written -> storages and bindings
mod storage; // where files lie, and how long each waits for what
mod validate; // can it be carried out, as far as that is known without IO

pub use address::{canonical, label, redact, same_database, sqlite_file};
pub use barrier::Ignored;
pub use hook::{Call, Hook, check_hooks};
pub use location::{Bucket, Location, Service};
pub use storage::{Erase, HOLD, STAGE_TTL, StoragePlan, Trash};

use crate::{
    binding::{Binding, Body, Column, Finder, JsonPath, Mode, Reading},
    error::{Error, Kind, Result},
    name::Names,
    queue::Outcome,
};

/// The configuration's usual file name.
pub const FILE: &str = "rowbound.toml";

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The database's URL, as [`canonical`] writes it.
    pub database: String,
    /// Storages by name.
    pub storages: BTreeMap<String, StoragePlan>,
    /// Bindings, in the order in which they were declared; then the queries.
    pub bindings: Vec<Binding>,
    /// Columns that hold names of files but no references: `attach` does not refuse because of them. `*` stands for every column of a table.
    pub ignore: Vec<Column>,
    /// Who hears of what was deleted. The engine calls none of them: the command line does.
    pub hooks: Vec<Hook>,
    /// How long entries stay in the ledger after they were written, unless something still needs them; `None`: for ever.
    pub keep_history: Option<Duration>,
    /// Sessions that no barrier waits for. Who opens the database hands them over, with `Options::of`.
    pub ignored_sessions: Vec<Ignored>,
}

/// Builds a [`Plan`] in code.
///
/// ```
/// use rowbound::{Binding, Plan, StoragePlan};
/// let plan = Plan::builder("sqlite:db.sqlite3")
///     .storage(StoragePlan::folder("default", "media"))
///     .binding(Binding::name("blog_article.image", "default")?.keep(["defaults/*"]))
///     .build()?;
/// assert_eq!(plan.bindings[0].column.table, "blog_article");
/// # Ok::<(), rowbound::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlanBuilder {
    database: String,
    written: Option<String>,
    storages: Vec<StoragePlan>,
    bindings: Vec<Binding>,
    ignore: Vec<Column>,
    hooks: Vec<Hook>,
    keep_history: Option<Duration>,
    ignored_sessions: Vec<Ignored>,
}

impl PlanBuilder {
    /// Adds a storage.
    pub fn storage(mut self, storage: StoragePlan) -> Self {
        self.storages.push(storage);
        self
    }

    /// Adds a binding.
    pub fn binding(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }

    /// Says that a column holds names of files but no references.
    pub fn ignore(mut self, column: Column) -> Self {
        self.ignore.push(column);
        self
    }

    /// Adds a hook.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Lets entries leave the ledger so long after they were written: at least a day. Default: never.
    pub fn keep_history(mut self, time: Duration) -> Self {
        self.keep_history = Some(time);
        self
    }

    /// Lets no barrier wait for the transactions of these sessions. You say that they never write a reference: if they do, files that they reference are lost.
    pub fn ignore_session(mut self, sessions: Ignored) -> Self {
        self.ignored_sessions.push(sessions);
        self
    }

    /// Adds a binding, or, where one of the same column and storage is there, its patterns to that one.
    ///
    /// # Errors
    /// [`Kind::Config`] where the one that is there reads the column's values in another way: it would not find what the other one writes.
    pub fn bind(mut self, binding: Binding) -> Result<Self> {
        match self.bindings.iter_mut().find(|b| b.key() == binding.key()) {
            Some(there) if there.reading != binding.reading => {
                return Err(Error::new(Kind::Config, "the column is bound already, with another kind of values")
                    .with("binding", binding.key())
                    .with("kind", there.reading.word())
                    .with("wanted", binding.reading.word())
                    .hint("a field's column holds plain names: kind = \"name\""));
            }
            Some(there) => {
                let new = |all: &[String], more: Vec<String>| more.into_iter().filter(|one| !all.contains(one)).collect::<Vec<_>>();
                there.keep.extend(new(&there.keep, binding.keep));
                there.derivatives.extend(new(&there.derivatives, binding.derivatives));
            }
            None => self.bindings.push(binding),
        }
        Ok(self)
    }

    /// Sets the database's URL, whatever the file said.
    pub fn database(mut self, url: impl Into<String>) -> Self {
        self.database = url.into();
        self
    }

    /// Takes the database at `url`, which somebody else's environment names, where the file names none. Where the file names another one, that one stays, and a
    /// warning is logged.
    pub fn database_or(mut self, url: &str) -> Self {
        match self.named_database() {
            None => url.clone_into(&mut self.database),
            Some(own) if same_database(own, url) => {}
            Some(own) => {
                tracing::warn!(database = redact(own), other = redact(url), "DATABASE_URL names another database, which is not used")
            }
        }
        self
    }

    /// The database's URL so far; `None` if neither the file nor a call has named one.
    pub fn named_database(&self) -> Option<&str> {
        Some(self.database.as_str()).filter(|url| !url.is_empty())
    }

    /// The database's URL that stands in the file, whatever overrides it.
    pub fn written_database(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// What stands in a `rowbound.toml`, to which more is added in code: see [`Plan::load`].
    ///
    /// # Errors
    /// As [`Plan::load`], but for what only the whole plan shows.
    pub fn load(file: &Path, database: Option<&str>) -> Result<PlanBuilder> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            Error::new(Kind::Config, "cannot read the configuration")
                .with("file", file.display())
                .because(e)
                .hint("name it with --config, or write one: docs/configuration.md")
        })?;
        let base = file.parent().unwrap_or(Path::new("."));
        let env = |var: &str| std::env::var(var).ok();
        Self::read(&text, base, database, &env, &|url| address::settled(url, base)).map_err(|e| e.with("file", file.display()))
    }

    /// The same for a text, with an environment of its own.
    ///
    /// # Errors
    /// As [`PlanBuilder::load`].
    pub fn parse(text: &str, base: &Path, database: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<PlanBuilder> {
        Self::read(text, base, database, env, &|_| Ok(None))
    }

    /// `settle` may look which file the database's URL means.
    fn read(
        text: &str,
        base: &Path,
        database: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
        settle: &dyn Fn(&str) -> Result<Option<String>>,
    ) -> Result<PlanBuilder> {
        let mut value: toml::Value = toml::from_str::<toml::Table>(text)
            .map(toml::Value::Table)
            .map_err(|e| Error::new(Kind::Config, format!("this is not TOML: {}", e.to_string().trim())))?;
        expand(&mut value, "", env)?;
        let raw: raw::File = value.try_into().map_err(|e: toml::de::Error| {
            let text = e.to_string();
            // The second line of its text says where, in the words of the file: in `storage.default`.
            let place = text.lines().find_map(|l| l.strip_prefix("in `")?.strip_suffix('`'));
            let error = Error::new(Kind::Config, e.message().trim().to_owned()).hint("docs/configuration.md lists every field");
            place.into_iter().fold(error, |e, place| e.with("in", place))
        })?;
        let of_file = |url: &str| -> Result<String> {
            let url = canonical(url)?;
            Ok(settle(&url)?.unwrap_or_else(|| anchor_sqlite(url, base)))
        };
        let (url, written) = match (database, raw.database) {
            // What is overridden is nobody's mistake any more.
            (Some(over), written) => (over.to_owned(), written.map(|url| of_file(&url).unwrap_or(url))),
            (None, Some(url)) if !url.is_empty() => of_file(&url).map(|url| (url.clone(), Some(url)))?,
            (None, _) => (String::new(), None),
        };
        let mut builder = Plan::builder(url);
        builder.written = written;
        for (name, storage) in raw.storage {
            builder = builder.storage(storage.resolve(name, base)?);
        }
        for binding in raw.binding {
            builder = builder.binding(binding.resolve()?);
        }
        for reference in raw.reference {
            builder = builder.binding(reference.resolve()?);
        }
        for hook in raw.hook {
            builder = builder.hook(hook.resolve()?);
        }
        if let Some(text) = &raw.keep_history {
            builder = builder.keep_history(duration("keep_history", text)?);
        }
        for sessions in raw.barrier.map(|b| Vec::from(b.ignore)).unwrap_or_default() {
            builder = builder.ignore_session(Ignored::parse(&sessions)?);
        }
        for column in raw.ignore.map(Vec::from).unwrap_or_default() {
            builder = builder.ignore(Column::parse(&column).map_err(|e| e.with("in", "ignore"))?);
        }
        Ok(builder)
    }

    /// Checks the whole.
    ///
    /// # Errors
    /// [`Kind::Config`] names the field and the value.
    pub fn build(self) -> Result<Plan> {
        if self.database.is_empty() {
            return Err(
                Error::new(Kind::Config, "`database` is missing").hint("write it into rowbound.toml, set DATABASE_URL, or pass --database")
            );
        }
        let database = canonical(&self.database)?;
        let mut storages = BTreeMap::new();
        for storage in self.storages {
            if let Some(twice) = storages.insert(storage.name.clone(), storage) {
                return Err(Error::new(Kind::Config, "two storages have the same name").with("storage", twice.name));
            }
        }
        let PlanBuilder { mut bindings, ignore, hooks, keep_history, ignored_sessions, .. } = self;
        for binding in &mut bindings {
            binding.names = storages.get(&binding.storage).map_or(Names::Paths, |storage: &StoragePlan| storage.location.names());
        }
        let plan = Plan { database, storages, bindings, ignore, hooks, keep_history, ignored_sessions };
        plan.validate()?;
        Ok(plan)
    }
}

impl Plan {
    /// Begins a plan for the database at `url`.
    pub fn builder(url: impl Into<String>) -> PlanBuilder {
        PlanBuilder {
            database: url.into(),
            written: None,
            storages: Vec::new(),
            bindings: Vec::new(),
            ignore: Vec::new(),
            hooks: Vec::new(),
            keep_history: None,
            ignored_sessions: Vec::new(),
        }
    }

    /// Reads `rowbound.toml`. Relative paths in it (folders, a SQLite file) are taken from the file's own folder.
    /// `database` overrides the file's; it is taken as it is.
    ///
    /// # Errors
    /// [`Kind::Config`] names file, field and value.
    pub fn load(file: &Path, database: Option<&str>) -> Result<Plan> {
        PlanBuilder::load(file, database)?.build().map_err(|e| e.with("file", file.display()))
    }

    /// The same for a text, with an environment of its own.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn parse(text: &str, base: &Path, database: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan> {
        PlanBuilder::parse(text, base, database, env)?.build()
    }

    /// The bindings on one storage.
    pub fn on_storage<'a>(&'a self, storage: &'a str) -> impl Iterator<Item = &'a Binding> {
        self.bindings.iter().filter(move |b| b.storage == storage)
    }
}

/// A length of time as it is written in the configuration: `500ms`, `10s`, `2h 30m`, `1d`, `1y`. Days have 24 hours, years 365 days.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(rowbound::parse_duration("1d"), Some(Duration::from_secs(86_400)));
/// assert_eq!(rowbound::parse_duration("1y"), rowbound::parse_duration("365d"));
/// assert_eq!(rowbound::parse_duration("-1s"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let span: jiff::Span = text.parse().ok()?;
    let days = i64::from(span.get_years()).checked_mul(365)?.checked_add(span.get_days().into())?;
    let span = span.try_years(0).ok()?.try_days(days).ok()?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(length).ok()
}

fn duration(field: &'static str, text: &str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| {
        Error::new(Kind::Config, format!("`{field}` is no length of time"))
            .with(field, format_args!("{text:?}"))
            .hint("write 500ms, 10s, 5m, 1h or 1d")
    })
}

/// Replaces `${VAR}` in every string. `$${` stands for `${`.
fn expand(value: &mut toml::Value, path: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    match value {
        toml::Value::String(text) => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find("${") {
                if rest[..at].ends_with('$') {
                    out.push_str(&rest[..at - 1]);
                    out.push_str("${");
                    rest = &rest[at + 2..];
                    continue;
                }
                out.push_str(&rest[..at]);
                let var_and_more = &rest[at + 2..];
                let end = var_and_more.find('}').ok_or_else(|| {
                    Error::new(Kind::Config, format!("`{path}` holds a `${{` that does not end")).with("value", format_args!("{text:?}"))
                })?;
                let var = &var_and_more[..end];
                out.push_str(&env(var).ok_or_else(|| {
                    Error::new(Kind::Config, format!("`{path}` needs the environment variable {var}, which is not set"))
                        .hint(format!("export {var}=.."))
                })?);
                rest = &var_and_more[end + 1..];
            }
            out.push_str(rest);
            *text = out;
            Ok(())
        }
        toml::Value::Array(items) => items.iter_mut().enumerate().try_for_each(|(i, item)| expand(item, &format!("{path}[{i}]"), env)),
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(key, item)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            expand(item, &path, env)
        }),
        _ => Ok(()),
    }
}

/// A relative `sqlite:` path in a file is relative to the file.
fn anchor_sqlite(url: String, base: &Path) -> String {
    let Some(rest) = url.strip_prefix("sqlite:") else { return url };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') || path.starts_with(':') || base.as_os_str().is_empty() {
        return url;
    }
    format!("sqlite:{}", base.join(path).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_takes_raw_prefixes_and_no_where() {
        let read = |more: &str| {
            let text =
                "database = \"sqlite:x\"\n[storage.default]\nurl = \"folder:m\"\n[[reference]]\nname = \"media\"\nquery = \"select 1\"\n";
            Plan::parse(&format!("{text}{more}"), Path::new("/"), None, &|_| None)
        };
        let plan = read("strip = \"public://\"").unwrap();
        let name = crate::name::FileName::parse("a%20b.jpg").unwrap();
        let mut read_as = Vec::new();
        plan.bindings[0].each_name(b"public://a%20b.jpg", |found| read_as.push(found));
        assert_eq!(read_as, [crate::binding::Resolved::Name(name)]);
        let e = read("where = { kind = \"image\" }").unwrap_err();
        assert_eq!(e.kind(), Kind::Config);
        assert!(e.full().contains("reference: media") && e.full().contains("kind = \"image\""), "{}", e.full());
        assert!(e.hint_text().is_some_and(|hint| hint.contains("`query`")), "{}", e.full());
        let query = Binding::query("media", "default", "select 1").only("kind", "image");
        let e = Plan::builder("sqlite:x").storage(StoragePlan::folder("default", "m")).binding(query).build().unwrap_err();
        assert!(e.full().contains("where"), "{}", e.full());
    }

    #[test]
    fn a_binding_in_code_adds_to_the_one_that_is_written() {
        let text = "database = \"sqlite:x\"\n[storage.default]\nurl = \"folder:m\"\n[[binding]]\ncolumn = \"t.f\"\nkeep = \"a/*\"";
        let written = || PlanBuilder::parse(text, Path::new("/"), None, &|_| None).unwrap();
        let plan = written().bind(Binding::name("t.f", "default").unwrap().keep(["a/*", "b/*"])).unwrap().build().unwrap();
        assert_eq!((plan.bindings.len(), &plan.bindings[0].keep), (1, &vec!["a/*".to_owned(), "b/*".to_owned()]));
        let plan = written().bind(Binding::name("t.g", "default").unwrap()).unwrap().build().unwrap();
        assert_eq!(plan.bindings.len(), 2);
        assert_eq!(written().bind(Binding::url("t.f", "default", "/m/").unwrap()).unwrap_err().kind(), Kind::Config);
    }
}
