//! `rowbound put`: the way of an upload without an application.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{StreamExt, stream};
use rowbound::{
    Error, Kind, Plan, Result,
    binding::{Column, Reading},
};
use rowbound_files::{Field, Files, Media, Upload, Value};
use serde::Serialize;

use crate::{
    args::{Args, PutArgs},
    exit, logs, output,
};

/// Files under way at once.
const AT_ONCE: usize = 4;

/// What `put` answers.
#[derive(Debug, Serialize)]
struct Answer {
    /// Rows that name their file now.
    put: Vec<Put>,
    /// Rows that are as they were.
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Put {
    /// The row's primary key.
    key: String,
    /// The file of this machine.
    file: PathBuf,
    /// What the row names now.
    name: String,
    /// Its size in bytes.
    size: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    key: String,
    file: PathBuf,
    error: String,
}

pub async fn put(args: &Args, a: &PutArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let column = Column::parse(&a.column)?;
    let pairs: Vec<(String, PathBuf)> = a.pairs.chunks_exact(2).map(|pair| (pair[0].clone(), PathBuf::from(&pair[1]))).collect();
    if a.pairs.len() % 2 == 1 {
        return Err(Error::new(Kind::Config, "a key without a file")
            .with("key", a.pairs.last().map_or("", String::as_str))
            .hint("write KEY FILE KEY FILE .."));
    }
    let plan = Plan::load(Path::new(&args.config), args.database.as_deref())?;
    let binding = plan.bindings.iter().find(|b| b.query.is_none() && b.column == column).ok_or_else(|| {
        let known: Vec<_> = plan.bindings.iter().filter(|b| b.query.is_none()).map(|b| b.column.to_string()).collect();
        Error::new(Kind::Config, "this column is not bound").with("column", &column).hint(format!("bound are: {}", known.join(", ")))
    })?;
    if binding.reading != Reading::Name {
        return Err(Error::new(Kind::Config, "the column's values are no plain names")
            .with("column", &column)
            .with("kind", binding.reading.word()));
    }
    let mut field = Field::file(&a.column).storage(&binding.storage).max_size(u64::MAX).max_length(a.max_length);
    if let Some(folder) = &a.upload_to {
        field = field.upload_to(folder);
    }
    let media = Media::config(&args.config, args.database.as_deref()).map_err(told)?.field(&field).open().await.map_err(told)?;
    let files = media.files(&field).map_err(told)?;

    let done = Arc::new(AtomicUsize::new(0));
    let count = pairs.len();
    let mut ended: Vec<_> = stream::iter(pairs.into_iter().enumerate())
        .map(|(nth, (key, file))| {
            let (files, media, column, progress, done) = (&files, &media, &column, &progress, &done);
            async move {
                let put = one(files, media, column, &key, &file).await;
                progress.say(&format!("{} of {count} files", done.fetch_add(1, Relaxed) + 1));
                (
                    nth,
                    match put {
                        Ok((name, size)) => Ok(Put { key, file, name, size }),
                        Err(e) => Err(Failed { key, file, error: e.full() }),
                    },
                )
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    progress.end();
    ended.sort_by_key(|(nth, _)| *nth);
    let mut answer = Answer { put: Vec::new(), failed: Vec::new() };
    for (_, one) in ended {
        match one {
            Ok(put) => answer.put.push(put),
            Err(failed) => answer.failed.push(failed),
        }
    }
    output::answer(args.format, &answer, text)?;
    media.database().close().await;
    Ok(if answer.failed.is_empty() { exit::DONE } else { exit::LEFT })
}

/// Saves a file and lets a row name it.
async fn one(files: &Files<rowbound_files::File>, media: &Media, column: &Column, key: &str, file: &Path) -> Result<(String, u64)> {
    let value = files.save(Upload::path(file).await.map_err(told)?).await.map_err(told)?;
    let size = files.size(&value).await.map_err(told)?;
    let name = value.name().expect("a value that was saved is a name");
    if !media.database().assign(column, key, &name).await? {
        files.delete(&value).await.map_err(told)?;
        return Err(Error::new(Kind::NotFound, "there is no row with this key").with("column", column).with("key", key));
    }
    Ok((name.to_string(), size))
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for put in &answer.put {
        text += &format!("{}: {} ({})\n", output::safe(&put.key), output::safe(&put.name), output::bytes(put.size));
    }
    for failed in &answer.failed {
        text += &format!("{}: not put: {}\n", output::safe(&failed.key), output::safe(&failed.error));
    }
    text
}

/// An error of the upload side, as the command line knows errors.
fn told(e: rowbound_files::Error) -> Error {
    let kind = match e.kind() {
        rowbound_files::Kind::Engine(kind) => kind,
        rowbound_files::Kind::NotFound => Kind::NotFound,
        rowbound_files::Kind::Config => Kind::Config,
        _ => Kind::Storage,
    };
    // The engine's own words say it all.
    let text = e.engine().map_or_else(|| e.full(), Error::full);
    let error = Error::new(kind, text);
    match e.hint_text() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
