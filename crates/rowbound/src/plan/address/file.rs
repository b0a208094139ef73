//! Which file a SQLite URL means.
//!
//! In: a URL, and the folder from which a relative path is taken. Out: the file that exists. Promise: where two files could be meant, and both exist, none is taken.
//! Frameworks disagree about `sqlite:///path`, so this looks what there is.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::{Family, scheme};
use crate::error::{Error, Kind, Result};

/// The paths that a SQLite URL can mean, the way to read it that we document first.
///
/// # Errors
/// [`Kind::Config`] where it names no file, or a database in memory.
fn sqlite_places(url: &str) -> Result<Vec<String>> {
    let bad = |why: &str| Error::new(Kind::Config, why.to_owned()).with("database", url).hint("write sqlite:path/to/db.sqlite3");
    let (_, Family::Sqlite, rest) = scheme(url)? else { return Err(bad("this is no SQLite URL")) };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut places = Vec::new();
    match rest.strip_prefix("//") {
        None => places.push(rest),
        Some(path) => {
            places.push(path);
            // Django, Laravel, SQLAlchemy: the third slash ends an empty host. Rails, sqlx: it begins an absolute path.
            places.extend(path.strip_prefix('/').filter(|path| !path.starts_with('/')));
            places.extend(path.strip_prefix("localhost/")); // Laravel
        }
    }
    let places: Vec<String> = places.into_iter().map(|path| path.strip_prefix("file:").unwrap_or(path).to_owned()).collect();
    if places.iter().any(|path| path.starts_with(':')) || query.split('&').any(|pair| pair == "mode=memory") {
        return Err(bad("an in-memory database cannot be shared with an application"));
    }
    if places.iter().any(String::is_empty) {
        return Err(bad("`database` names no file"));
    }
    Ok(places)
}

/// The file that a SQLite URL means; a relative one is taken from `base`. Where the spelling can mean two files, the one that exists is meant. `Err(places)` within
/// the `Ok`: none exists.
///
/// # Errors
/// [`Kind::Config`] where it names no file, a database in memory, or two files that both exist.
pub fn sqlite_file(url: &str, base: &Path) -> Result<std::result::Result<PathBuf, Vec<PathBuf>>> {
    let (mut there, mut tried): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for place in sqlite_places(url)? {
        let written = base.join(&place);
        // A `%` that is part of the name comes before one that encodes.
        let spelled = percent_decode_str(&place).decode_utf8().ok().map(|path| base.join(path.as_ref()));
        let found =
            [Some(&written), spelled.as_ref()].into_iter().flatten().find_map(|path| Some((path, std::fs::canonicalize(path).ok()?)));
        match found {
            Some((path, real)) if there.iter().all(|p| std::fs::canonicalize(p).ok().as_ref() != Some(&real)) => there.push(path.clone()),
            Some(_) => {}
            None => tried.push(written),
        }
    }
    match there.as_slice() {
        [] => Ok(Err(tried)),
        [one] => Ok(Ok(one.clone())),
        [one, other, ..] => {
            Err(Error::new(Kind::Config, "`database` can mean two files, and both exist: frameworks read three slashes differently")
                .with("database", url)
                .with("file", one.display())
                .with("file", other.display())
                .hint(format!("write sqlite:{} or sqlite:{}", one.display(), other.display())))
        }
    }
}

/// The URL of the SQLite file that `url` means; `None` where none exists, and for a server.
///
/// # Errors
/// As [`sqlite_file`].
pub(in crate::plan) fn settled(url: &str, base: &Path) -> Result<Option<String>> {
    match scheme(url) {
        Ok((_, Family::Sqlite, _)) => {
            Ok(sqlite_file(url, base)?.ok().map(|file| format!("sqlite:{}", file.display().to_string().replace('?', "%3F"))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three slashes: relative for Django, Laravel and SQLAlchemy, absolute for Rails and sqlx. The file that exists is meant.
    #[test]
    fn the_sqlite_file_that_exists_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        std::fs::create_dir(base.join("db")).unwrap();
        for name in ["db/a.sqlite3", "b c.sqlite3", "%41.sqlite3"] {
            std::fs::write(base.join(name), b"").unwrap();
        }
        let found = |url: &str| sqlite_file(url, base).unwrap().unwrap_or_else(|tried| panic!("{url}: {tried:?}"));
        let absolute = base.join("db/a.sqlite3");
        for url in ["sqlite:db/a.sqlite3", "sqlite://db/a.sqlite3", "sqlite:///db/a.sqlite3", "sqlite3:db/a.sqlite3?mode=ro"] {
            assert_eq!(found(url), absolute, "{url}");
        }
        for url in ["sqlite://localhost/db/a.sqlite3", "sqlite+pysqlite:///file:db/a.sqlite3?uri=true"] {
            assert_eq!(found(url), absolute, "{url}");
        }
        for slashes in ["sqlite:", "sqlite://", "sqlite:///", "sqlite3:", "sqlite://localhost/"] {
            assert_eq!(found(&format!("{slashes}{}", absolute.display())), absolute, "{slashes}");
        }
        assert_eq!(found("sqlite:///b%20c.sqlite3"), base.join("b c.sqlite3"));
        assert_eq!(found("sqlite:%41.sqlite3"), base.join("%41.sqlite3"), "a name with a percent sign");
        assert_eq!(sqlite_file("sqlite:///none", base).unwrap().unwrap_err(), [PathBuf::from("/none"), base.join("none")]);

        // Both exist: nobody can know. As the absolute path serves one below the folder, too.
        let nested = base.join(absolute.strip_prefix("/").unwrap());
        std::fs::create_dir_all(nested.parent().unwrap()).unwrap();
        std::fs::write(&nested, b"").unwrap();
        let e = sqlite_file(&format!("sqlite://{}", absolute.display()), base).unwrap_err();
        assert!(e.to_string().contains("both exist") && e.hint_text().unwrap().contains(nested.to_str().unwrap()), "{}", e.full());
        for memory in ["sqlite://", "sqlite::memory:", "sqlite://:memory:", "sqlite:///:memory:", "sqlite:x?mode=memory"] {
            assert_eq!(sqlite_file(memory, base).unwrap_err().kind(), Kind::Config, "{memory}");
        }
    }
}
