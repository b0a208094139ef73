//! Which database a command is about, and who named it.
//!
//! `--database` comes first, then the configuration's `database`, then `DATABASE_URL`, which often is another program's. Where two of them name different databases it
//! is said, and errors about a database say which one it was.

use rowbound::{
    Error, Kind, Plan, Result,
    database::redact,
    plan::{PlanBuilder, same_database},
};

use super::note;
use crate::args::{Args, Named};

/// The environment's variable that names a database.
pub const VARIABLE: &str = "DATABASE_URL";

/// What the environment names.
fn environment() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())
}

/// The plan, on the database that it is about.
pub fn plan(args: &Args) -> Result<Plan> {
    let builder = PlanBuilder::load(&args.config, args.database.as_deref())?;
    let of_file = || args.config.display().to_string();
    let others = [(of_file(), builder.written_database().map(str::to_owned)), (VARIABLE.to_owned(), environment())];
    let (builder, by) = match (builder.named_database(), environment()) {
        (Some(_), _) if args.database.is_some() => (builder, "--database".to_owned()),
        (Some(_), _) => (builder, of_file()),
        (None, Some(url)) => (builder.database(url), VARIABLE.to_owned()),
        (None, None) => (builder, of_file()),
    };
    let plan = builder.build().map_err(|e| e.with("file", args.config.display()))?;
    said(args, &plan.database, &by, &others);
    Ok(plan)
}

/// Another installation's plan, on the database that its own file names: ours comes from elsewhere.
pub fn other(file: &std::path::Path) -> Result<Plan> {
    PlanBuilder::load(file, None)?.build().map_err(|e| e.with("file", file.display()))
}

/// The database of a command that has no configuration yet.
pub fn url(args: &Args) -> Result<String> {
    let (url, by) = match (&args.database, environment()) {
        (Some(url), _) => (url.clone(), "--database"),
        (None, Some(url)) => (url, VARIABLE),
        (None, None) => {
            return Err(Error::new(Kind::Config, "no database is named")
                .hint("add --database sqlite:PATH, postgres://.. or mysql://.., or set DATABASE_URL"));
        }
    };
    said(args, &url, by, &[(VARIABLE.to_owned(), environment())]);
    Ok(url)
}

/// Remembers which database it is, and says which others were named and are not used.
fn said(args: &Args, url: &str, by: &str, others: &[(String, Option<String>)]) {
    let _ = args.named.set(Named { url: url.to_owned(), by: by.to_owned() }); // once: a command is about one database
    for (other, named) in others.iter().filter(|(other, _)| other != by) {
        if let Some(named) = named.as_deref().filter(|named| !same_database(named, url)) {
            let (url, named) = (redact(url), redact(named));
            note(args, &format!("{other} names another database, {named}. It is not used: {by} names {url}"));
        }
    }
}

/// The database that an error is about, and who named it.
pub fn database_of<'a>(e: &Error, args: &'a Args) -> Option<&'a Named> {
    let about = matches!(e.kind(), Kind::Schema | Kind::NotAttached | Kind::Database | Kind::DatabaseUnreachable | Kind::Identity);
    args.named.get().filter(|_| about || args.opened.get().is_none())
}
