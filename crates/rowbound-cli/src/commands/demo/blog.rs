//! A blog that knows nothing of Rowbound: it runs SQL on its own connection and writes uploads into its media folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rowbound::{Error, Kind, Result};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::story::{Picture, SCHEMA};

/// The blog.
#[derive(Debug)]
pub struct Blog {
    file: PathBuf,
    db: SqliteConnection,
    media: PathBuf,
    /// What was uploaded last under each name.
    pub uploaded: BTreeMap<String, Vec<u8>>,
    /// How often something was.
    pub uploads: usize,
}

impl Blog {
    /// Makes database and media folder in `place`.
    pub async fn new(place: &Path) -> Result<Blog> {
        let (file, media) = (place.join("db.sqlite3"), place.join("media"));
        fs::create_dir_all(&media).map_err(|e| io("cannot make the media folder", &media, e))?;
        let mut db = connect(&file, true).await?;
        for statement in SCHEMA {
            run(&mut db, statement).await?;
        }
        Ok(Blog { file, db, media, uploaded: BTreeMap::new(), uploads: 0 })
    }

    /// Runs a statement.
    pub async fn sql(&mut self, statement: &str) -> Result<()> {
        run(&mut self.db, statement).await
    }

    /// Runs a statement as another program would, on a connection of its own.
    pub async fn sql_of_another(&self, statement: &str) -> Result<()> {
        let mut db = connect(&self.file, false).await?;
        run(&mut db, statement).await?;
        db.close().await.map_err(|e| wrong("close", e))
    }

    /// Stores a picture, with a comment segment (FF FE, length, text) of its own, so that no two uploads have the same bytes.
    pub fn upload(&mut self, name: &str, picture: Picture) -> Result<()> {
        self.uploads += 1;
        let comment = format!("upload {:08}", self.uploads);
        let length = u16::try_from(comment.len() + 2).unwrap_or(u16::MAX).to_be_bytes();
        let bytes = [&picture[..2], &[0xff, 0xfe], &length, comment.as_bytes(), &picture[2..]].concat();
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.media);
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, &bytes)).map_err(|e| io("cannot store an upload", &path, e))?;
        self.uploaded.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.media.join(name)
    }

    /// Every name that a row holds, with the rows that do.
    pub async fn rows(&mut self) -> Result<BTreeMap<String, Vec<String>>> {
        let query = "select image, 'article ' || id from blog_article where image <> '' \
                     union all select image, 'picture ' || id || ' of post ' || post_id from blog_postimage where image <> ''";
        let found: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut self.db).await.map_err(|e| wrong(query, e))?;
        let mut rows = BTreeMap::<String, Vec<String>>::new();
        for (name, row) in found {
            rows.entry(name).or_default().push(row);
        }
        Ok(rows)
    }

    /// Every file of the media folder with its bytes, without Rowbound's own; read with the standard library, not by the engine.
    pub fn folder(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.media.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|e| io("cannot list", &folder, e))? {
                let path = entry.map_err(|e| io("cannot list", &folder, e))?.path();
                let name = path.strip_prefix(&self.media).unwrap_or(&path).to_string_lossy().into_owned();
                if name == rowbound::RESERVED {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(name, fs::read(&path).map_err(|e| io("cannot read", &path, e))?);
                }
            }
        }
        Ok(files)
    }
}

async fn connect(file: &Path, create: bool) -> Result<SqliteConnection> {
    // sqlx enforces foreign keys by default, as Django does.
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(create).journal_mode(SqliteJournalMode::Wal);
    options.connect().await.map_err(|e| wrong("connect", e))
}

async fn run(db: &mut SqliteConnection, statement: &str) -> Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(db).await.map(drop).map_err(|e| wrong(statement, e))
}

fn wrong(statement: &str, e: sqlx::Error) -> Error {
    Error::new(Kind::Database, "a statement of the demo's blog failed").with("statement", statement).because(e)
}

/// An error of the demo's own files.
pub fn io(message: &str, path: &Path, e: std::io::Error) -> Error {
    Error::new(Kind::Storage, message).with("path", path.display()).because(e)
}
