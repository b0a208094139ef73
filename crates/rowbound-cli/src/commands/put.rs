//! `rowbound put`: the way of an upload without an application.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::{StreamExt, stream};
use rowbound::{
    Error, Kind, Result,
    binding::{Column, Reading},
};
use rowbound_files::{Field, Files, Media, Upload, Value};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    args::{Args, PutArgs},
    exit,
    logs::{self, Progress},
    output,
};

mod list; // which file goes into which row

use list::Pair;

/// Files under way at once, unless there are more processors.
const AT_ONCE: usize = 4;

/// What `put` answers.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// Rows that name their file now.
    put: Vec<Put>,
    /// Rows that are as they were.
    failed: Vec<Failed>,
    /// Rows that were not tried any more after a signal.
    left: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Put {
    /// The row's primary key.
    key: String,
    /// The file of this machine.
    file: PathBuf,
    /// What the row references now.
    name: String,
    /// Its size in bytes, as it was stored.
    size: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    key: String,
    file: PathBuf,
    error: String,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Left {
    key: String,
    file: PathBuf,
}

pub async fn put(args: &Args, a: &PutArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let column = Column::parse(&a.column)?;
    let pairs = list::pairs(&a.pairs, a.list.as_deref())?;
    let plan = super::named::plan(args)?;
    let binding = plan.bindings.iter().find(|b| b.query.is_none() && b.column == column).ok_or_else(|| {
        let known: Vec<_> = plan.bindings.iter().filter(|b| b.query.is_none()).map(|b| b.column.to_string()).collect();
        Error::new(Kind::Config, "this column is not bound").with("column", &column).hint(format!("bound are: {}", known.join(", ")))
    })?;
    if binding.reading != Reading::Name {
        return Err(Error::new(Kind::Config, "the column's values are no plain names")
            .with("column", &column)
            .with("kind", binding.reading.word()));
    }
    let stop = super::stop_signal()?;
    let work = Work { args, a, database: plan.database.clone(), column, pairs, progress, stop };
    let p = &a.pictures;
    if a.size.is_some() || p.format_of_pictures.is_some() || p.quality.is_some() || p.progressive || p.keep_profile {
        return work.pictures(&binding.storage).await;
    }
    let field = Field::file(&a.column).max_size(u64::MAX);
    work.run(field.storage(&binding.storage)).await
}

/// What is to be done.
struct Work<'a> {
    args: &'a Args,
    a: &'a PutArgs,
    database: String,
    column: Column,
    pairs: Vec<Pair>,
    progress: Progress,
    stop: watch::Receiver<bool>,
}

impl Work<'_> {
    /// The files are pictures, which are processed.
    #[cfg(feature = "images")]
    async fn pictures(self, storage: &str) -> Result<u8> {
        let pipeline = super::pictures::pipeline(self.a.size, &self.a.pictures)?;
        let field = Field::image(&self.a.column).max_size(super::pictures::LARGEST).process(pipeline);
        self.run(field.storage(storage)).await
    }

    #[cfg(not(feature = "images"))]
    async fn pictures(self, _: &str) -> Result<u8> {
        Err(super::pictures::missing())
    }

    /// Puts all, several at once. A failure ends nothing but its own file.
    async fn run<T: Value>(self, field: Field<T>) -> Result<u8> {
        let Work { args, a, database, column, pairs, progress, stop } = self;
        let mut field = field.max_length(a.max_length);
        if let Some(folder) = &a.upload_to {
            field = field.upload_to(folder);
        }
        let media = Media::config(&args.config, Some(&database)).map_err(told)?.field(&field).open().await.map_err(told)?;
        let files = media.files(&field).map_err(told)?;
        let jobs = a.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).max(AT_ONCE), usize::from);

        let (done, count) = (AtomicUsize::new(0), pairs.len());
        let mut ended: Vec<_> = stream::iter(pairs.into_iter().enumerate())
            .map(|(nth, (key, file))| {
                let (files, media, column, progress, done, stop) = (&files, &media, &column, &progress, &done, &stop);
                async move {
                    if *stop.borrow() {
                        return (nth, key, file, None);
                    }
                    let put = one(files, media, column, &key, &file).await;
                    progress.done(done.fetch_add(1, Relaxed) + 1, count, "files");
                    (nth, key, file, Some(put))
                }
            })
            .buffer_unordered(jobs)
            .collect()
            .await;
        progress.end();
        ended.sort_by_key(|(nth, ..)| *nth);
        let mut answer = Answer::default();
        for (_, key, file, one) in ended {
            match one {
                Some(Ok((name, size))) => answer.put.push(Put { key, file, name, size }),
                Some(Err(e)) => answer.failed.push(Failed { key, file, error: e.full(), hint: e.hint_text().map(str::to_owned) }),
                None => answer.left.push(Left { key, file }),
            }
        }
        output::answer(args.format, &answer, text)?;
        media.database().close().await;
        Ok(if answer.failed.is_empty() && answer.left.is_empty() { exit::DONE } else { exit::LEFT })
    }
}

/// Saves a file and lets a row reference it.
async fn one<T: Value>(files: &Files<T>, media: &Media, column: &Column, key: &str, file: &Path) -> Result<(String, u64)> {
    let no_row = || Error::new(Kind::NotFound, "there is no row with this key").with("column", column).with("key", key);
    // Asked first, so that nothing is stored in vain.
    if !media.database().has_row(column, key).await? {
        return Err(no_row());
    }
    let value = files.save(Upload::path(file).await.map_err(told)?).await.map_err(told)?;
    let assigned = async {
        let size = files.size(&value).await.map_err(told)?;
        let name = value.name().expect("a value that was saved is a name");
        match media.database().assign(column, key, &name).await? {
            true => Ok((name.to_string(), size)),
            // It went meanwhile.
            false => Err(no_row()),
        }
    };
    match assigned.await {
        Ok(put) => Ok(put),
        Err(e) => {
            // If this fails too, its time as an upload ends it.
            if let Err(also) = files.delete(&value).await {
                tracing::warn!(name = value.as_str(), "the file stays until its time as an upload is over: {}", also.full());
            }
            Err(e)
        }
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for put in &answer.put {
        text += &format!("{}: {} ({})\n", output::safe(&put.key), output::safe(&put.name), output::bytes(put.size));
    }
    for failed in &answer.failed {
        text += &format!("{}: not put: {}\n", output::safe(&failed.key), output::safe(&failed.error));
        if let Some(hint) = &failed.hint {
            text += &format!("  hint: {}\n", output::safe(hint));
        }
    }
    for left in &answer.left {
        text += &format!("{}: left: stopped before it\n", output::safe(&left.key));
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
