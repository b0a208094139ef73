//! One file per command.

use std::sync::Arc;

use rowbound::{
    Error, FileName, Kind, Names, Plan, Result,
    database::{self, Database, Options},
};
use tokio::sync::watch;

use crate::{
    args::{Args, Command, Format},
    output,
};

mod attach;
mod collect;
mod completions;
#[cfg(feature = "sqlite")]
mod demo;
mod detach;
mod doctor;
mod explain;
mod forget;
mod history;
mod init;
mod installations;
mod named; // which database, and who named it
pub mod pictures;
mod promote;
mod put;
mod restore;
mod run;
mod status;
mod sweep;
mod thumbnail;

pub use named::database_of;

/// Runs the command; returns the exit status.
pub async fn run(args: &Args) -> Result<u8> {
    if args.format == Format::Csv && !matches!(args.command, Command::Sweep(_)) {
        return Err(Error::new(Kind::Config, "only `sweep` answers as CSV").hint("add --format json"));
    }
    match &args.command {
        #[cfg(feature = "sqlite")]
        Command::Demo(a) => demo::demo(args, a).await,
        #[cfg(not(feature = "sqlite"))]
        Command::Demo(_) => Err(Error::new(Kind::Config, "this build knows no SQLite, on which the demo runs")
            .hint("cargo install rowbound-cli --features sqlite")),
        Command::Init(a) => init::init(args, a).await,
        Command::Attach(a) => attach::attach(args, a).await,
        Command::Promote(a) => promote::promote(args, a).await,
        Command::Detach(a) => detach::detach(args, a).await,
        Command::Run(a) => run::run(args, a).await,
        Command::Collect(a) => collect::collect(args, a).await,
        Command::Sweep(a) => sweep::sweep(args, a).await,
        Command::Forget(a) => forget::forget(args, a).await,
        Command::Status => status::status(args).await,
        Command::Doctor => doctor::doctor(args).await,
        Command::History(a) => history::history(args, a).await,
        Command::Explain(a) => explain::explain(args, a).await,
        Command::Restore(a) => restore::restore(args, a).await,
        Command::Installations(a) => installations::installations(args, a).await,
        Command::Put(a) => put::put(args, a).await,
        Command::Thumbnail(a) => thumbnail::thumbnail(args, a).await,
        Command::Completions { shell } => completions::completions(*shell),
        Command::Man { out } => completions::man(out.as_deref()),
    }
}

/// The plan and its open database.
async fn open(args: &Args) -> Result<(Plan, Arc<dyn Database>)> {
    let plan = named::plan(args)?;
    let db = database::open(&plan.database, &Options::of(&plan)).await?;
    let _ = args.opened.set(()); // once
    Ok((plan, db))
}

/// Says something that is no error, on stderr.
fn note(args: &Args, text: &str) {
    match tracing::dispatcher::has_been_set() {
        // A command with a log says it there, in the log's form.
        true => tracing::warn!("{text}"),
        false => output::note(text, args.format),
    }
}

/// The storage that `wanted` names; without a name the only one, or `default`.
fn storage<'a>(plan: &'a Plan, wanted: Option<&'a str>) -> Result<&'a str> {
    let known = || plan.storages.keys().cloned().collect::<Vec<_>>().join(", ");
    match wanted {
        Some(name) if plan.storages.contains_key(name) => Ok(name),
        Some(name) => Err(Error::new(Kind::Config, "the plan has no such storage")
            .with("storage", format_args!("{name:?}"))
            .hint(format!("known are: {}", known()))),
        None => match plan.storages.keys().next() {
            Some(only) if plan.storages.len() == 1 => Ok(only),
            _ if plan.storages.contains_key("default") => Ok("default"),
            _ => Err(Error::new(Kind::Config, "the plan has several storages").hint(format!("add --storage with one of: {}", known()))),
        },
    }
}

/// A name as the storage takes it.
fn name(text: &str, names: Names) -> Result<FileName> {
    FileName::of(names, text).map_err(|why| {
        Error::new(Kind::Config, format!("this name {why}"))
            .with("name", format_args!("{text:?}"))
            .hint("write it as the rows hold it: relative to the storage, without a leading slash")
    })
}

/// Becomes true at SIGTERM or Ctrl-C.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let wrong = |e: std::io::Error| Error::new(Kind::Config, "cannot listen for signals").because(e);
    let mut term = signal(SignalKind::terminate()).map_err(wrong)?;
    let mut int = signal(SignalKind::interrupt()).map_err(wrong)?;
    let (send, receive) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("finishing the batch, then ending");
        let _ = send.send(true);
        // The receivers live as long as the work; the sender must too, else `changed` would end at once.
        std::future::pending::<()>().await;
    });
    Ok(receive)
}
