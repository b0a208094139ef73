//! What was asked for at the start.
//!
//! In: arguments and environment. Out: a port, a database, a place for pictures. Does no IO.

use std::path::{Path, PathBuf};

use rowbound::StoragePlan;

/// The program's help.
pub const USAGE: &str = "\
Usage: rowbound-blog [PORT] [FOLDER]

  PORT    the port on 127.0.0.1; 0 takes a free one. Default: 3000, or the variable PORT
  FOLDER  where database and pictures lie. Default: ./blog-data

  DATABASE_URL      another database: postgres://user:password@host/name
  ROWBOUND_STORAGE  another place for the pictures: s3://bucket/prefix?region=..&endpoint=..";

/// Where the blog listens, and where it keeps what it has.
#[derive(Debug, Clone)]
pub struct Options {
    pub port: u16,
    /// The database, as SeaORM and Rowbound write it.
    pub database: String,
    pub storage: StoragePlan,
    /// What must be made before anything is opened.
    pub folders: Vec<PathBuf>,
}

impl Options {
    /// Reads arguments (without the program's name) and variables; `None` where help was asked for.
    ///
    /// # Errors
    /// A sentence that names the value.
    pub fn parse(
        mut arguments: impl Iterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Options>, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = arguments.next();
        if matches!(first.as_deref(), Some("-h" | "--help")) {
            return Ok(None);
        }
        let port = first.or_else(|| variable("PORT")).unwrap_or_else(|| "3000".to_owned());
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "blog-data".to_owned()));
        if let Some(more) = arguments.next() {
            return Err(format!("{more:?} is one argument too many"));
        }
        let mut folders = Vec::new();
        let database = variable("DATABASE_URL").unwrap_or_else(|| {
            folders.push(folder.clone());
            format!("sqlite:{}", Path::new(&folder).join("blog.sqlite3").display())
        });
        let storage = match variable("ROWBOUND_STORAGE") {
            Some(url) => StoragePlan::url_at("default", &url).map_err(|e| e.full())?,
            None => {
                folders.push(folder.join("media"));
                StoragePlan::folder("default", folder.join("media"))
            }
        };
        Ok(Some(Options { port, database, storage, folders }))
    }

    /// The same URL for SeaORM, which makes a database file only when told to.
    pub fn sea_orm(&self) -> String {
        match self.database.starts_with("sqlite:") && !self.database.contains('?') {
            true => format!("{}?mode=rwc", self.database),
            false => self.database.clone(),
        }
    }
}
