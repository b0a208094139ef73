//! What can be typed.

use std::{path::PathBuf, sync::OnceLock};

use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use rowbound::queue::Outcome;

use crate::exit;

pub mod pictures; // what is done with pictures

use self::pictures::{PICTURES, PictureArgs, Size};

/// Where `--help` lists the options that every command takes.
const GLOBAL: &str = "Global options";

/// A garbage collector for uploaded files: a file lives exactly as long as some database row references it.
///
/// Rowbound binds to an existing SQLite, PostgreSQL, MySQL or MariaDB database. Triggers record each file name that a row
/// releases, within the application's own transaction. A collector checks that no row references the file any more, and deletes it.
///
/// Begin with `rowbound demo`. Then let `rowbound init` propose rowbound.toml, run `rowbound attach`, and keep `rowbound run` going.
#[derive(Debug, Parser)]
#[command(name = "rowbound", version, after_help = exit::ALL, max_term_width = 100)]
pub struct Args {
    /// The configuration
    #[arg(long, short, global = true, help_heading = GLOBAL, value_name = "FILE", env = "ROWBOUND_CONFIG", default_value = "rowbound.toml")]
    pub config: PathBuf,

    /// The database, instead of the configuration's: sqlite:PATH, postgres://.., mysql://.. [If neither gives one: DATABASE_URL]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    pub database: Option<String>,

    /// Which database the command was about, and what named it: for messages.
    #[arg(skip)]
    pub named: OnceLock<Named>,

    /// Whether it was opened.
    #[arg(skip)]
    pub opened: OnceLock<()>,

    /// How answers are printed on stdout
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Which messages are logged on stderr: error, warn, info, debug, or a filter such as rowbound=debug
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILTER", env = "ROWBOUND_LOG", default_value = "info")]
    pub log: String,

    /// How messages are logged
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// A database, and who named it.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its URL.
    pub url: String,
    /// `--database`, the configuration's file, or `DATABASE_URL`.
    pub by: String,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs: one JSON value, documented in docs/cli.md
    Json,
    /// For spreadsheets and programs: a table; `sweep` only
    Csv,
}

/// How messages are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text each
    Text,
    /// A JSON object each
    Json,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell the story of two bindings on SQLite and a folder, in seconds
    ///
    /// Makes a database and a media folder in a temporary place, goes through inserting, replacing, clearing, deleting, bulk
    /// updates, raw SQL, cascades, rollbacks, shared and moved files and a killed collector, and shows after each step what the rows say and what
    /// the folder holds. Exits with status 1 if the two ever differ.
    Demo(DemoArgs),
    /// Look at a database and its storages, and propose rowbound.toml
    ///
    /// Samples the values of every text column and looks them up in the storages: as names, as URLs, inside JSON and inside text. Writes a proposal
    /// with the evidence for each binding and what it is unsure of. Reads only: nothing is attached, and no file is overwritten.
    Init(InitArgs),
    /// Install or repair capture for the bindings of rowbound.toml
    ///
    /// Idempotent: run it after each change of rowbound.toml and after migrations. Looks at everything first and changes nothing if a table, a
    /// column, a right or a storage is missing. Rows of the application are never touched. Locks are waited for shortly and tried again, so that
    /// the application never queues behind it.
    Attach(AttachArgs),
    /// End shadow mode: files that a binding's rows release from now on are deleted
    ///
    /// Run `rowbound status` first: it counts the files that would have been deleted so far. Those files stay. A binding with
    /// mode = "shadow" in rowbound.toml stays in shadow mode until you remove that line. Running workers follow with their next batch.
    Promote(PromoteArgs),
    /// Remove capture, candidates and ledger: the schema is as it was before
    ///
    /// Files in the trash stay where they are. Names that wait to be collected are forgotten: their files stay, and no row references them. On a copy of
    /// the database it changes nothing without --copy, because the markers in the storages belong to the original.
    Detach(DetachArgs),
    /// Collect for ever (the daemon)
    ///
    /// Several may run at once on PostgreSQL, MySQL and MariaDB; one on SQLite. SIGTERM and Ctrl-C finish the batch and exit.
    Run(RunArgs),
    /// Collect what is due, then exit
    ///
    /// Exits with status 1 if something is left: it waits for its time, for an open transaction or for a retry. The output says which.
    Collect(CollectArgs),
    /// Find files that no row references (orphans), and rows whose file is missing
    ///
    /// Compares whole storages with all rows. It finds files that no trigger reported: files from before `attach`, uploads whose row never came, dropped tables. Without --delete and --heal it only reports, and needs
    /// no `attach`. With --delete orphans become candidates, which `run` or `collect` delete after all their checks. A sweep that was interrupted goes on
    /// where it stopped.
    Sweep(SweepArgs),
    /// Forget a hook that is no longer needed
    ///
    /// Files that are deleted from then on do not wait for it. A hook that `run` still has begins anew when `run` starts again. Changes nothing while
    /// deliveries wait, unless you give them up with --give-up.
    Forget(ForgetArgs),
    /// Show what waits, what fails and what was deleted
    Status,
    /// Report what is wrong or risky, and what to do about it
    ///
    /// Works before `attach` and after it. Status 0: nothing, or only notes; 1: warnings; 4: a danger, such as a column that references files but is not bound.
    Doctor,
    /// Show the ledger: what was deleted, when, why, and which row released it
    History(HistoryArgs),
    /// Show who holds a file and what happened to it
    Explain(NameArgs),
    /// Bring files back from the trash
    ///
    /// Restores NAMEs at once. With --since, --prefix, --all or --from the command shows which files it would restore, and restores them with --yes. Restores
    /// the latest version of each name, never over another file, and changes no row. Exits with status 1 if a file was not restored.
    Restore(RestoreArgs),
    /// Show which databases use the storages, and remove one that no longer exists
    ///
    /// Every storage has a marker (.rowbound/storage.json) with the installations that use it: one for each database. While a dead one is in it, no sweep deletes
    /// anything there, and `attach` of another database is refused.
    Installations(InstallationsArgs),
    /// Put files into rows: stage, write, and set the column in a transaction
    ///
    /// Does the same as an application that uses rowbound-files. Files that the rows referenced before are released, and collected. If no row has
    /// the key, nothing is stored. With an option under "Pictures" the files must be pictures, and are processed first. Exits with status 1 if some rows were left unchanged.
    Put(PutArgs),
    /// Make smaller pictures of files, as an application's image fields do
    ///
    /// Reads JPEG, PNG, WebP, GIF, TIFF and BMP by their bytes, not their names; turns them upright, and leaves all metadata behind. No file is
    /// overwritten without --force. Needs neither a database nor a configuration. Exits with status 1 if a file failed. The output says which.
    Thumbnail(ThumbnailArgs),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write the pages of all commands
    Man {
        /// Write rowbound.1 and a page per command into this folder
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

/// Options of `demo`.
#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
pub struct DemoArgs {
    /// Keep the database and the media folder here, to look at afterwards
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Where the files are: folder:PATH, s3://BUCKET/PREFIX, ..; several as NAME=URL, the first name usually `default`
    #[arg(long, value_name = "[NAME=]URL", required = true)]
    pub storage: Vec<String>,
    /// Write the proposal here instead of rowbound.toml; `-` prints it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the file if it is there
    #[arg(long)]
    pub force: bool,
}

/// Options of `attach`.
#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// Print the SQL that would run, and change nothing
    #[arg(long)]
    pub print_sql: bool,
    /// This database is a copy, or has moved: make it an installation of its own
    #[arg(long)]
    pub adopt: bool,
    /// With --adopt: the database has moved; deliver from here what its hooks have not received yet
    #[arg(long, requires = "adopt")]
    pub keep_deliveries: bool,
    /// Accept that storage NAME now points to a different location; may be repeated
    #[arg(long, value_name = "NAME")]
    pub adopt_storage: Vec<String>,
    /// Accept that a bound column was renamed, dropped or rebuilt, and that another column has its name now
    #[arg(long)]
    pub adopt_columns: bool,
    /// Drop the binding of COLUMN (or of the query of this name), which is attached but no longer in rowbound.toml; may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub drop: Vec<String>,
    /// Accept that another database uses the same storage, where no file is ever referenced by both
    #[arg(long)]
    pub shared: bool,
    /// Remove the installation ID, which no longer exists, from the markers of the storages; may be repeated
    #[arg(long, value_name = "ID")]
    pub forget_installation: Vec<String>,
    /// Delete nothing yet: every binding in shadow mode, whatever rowbound.toml says, until `rowbound promote`
    #[arg(long)]
    pub shadow: bool,
}

/// Options of `promote`.
#[derive(Debug, clap::Args)]
pub struct PromoteArgs {
    /// The bound column, as rowbound.toml writes it: [schema.]table.column
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub column: Option<String>,
    /// Every binding
    #[arg(long)]
    pub all: bool,
}

/// Options of `detach`.
#[derive(Debug, clap::Args)]
pub struct DetachArgs {
    /// Print the SQL that would run, and change nothing
    #[arg(long)]
    pub print_sql: bool,
    /// This database is a copy: clean it, and leave every storage to the original
    #[arg(long)]
    pub copy: bool,
}

/// How `run` and `collect` work.
#[derive(Debug, clap::Args)]
pub struct WorkArgs {
    /// Workers per storage (SQLite always has one)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Candidates per batch at most
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub batch: u32,
    /// How long a claim holds before another worker takes over
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub lease: std::time::Duration,
    /// How long a batch waits for open transactions before it is put back
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub patience: std::time::Duration,
}

/// Hooks besides the `[[hook]]`s of rowbound.toml.
#[derive(Debug, clap::Args)]
pub struct HookArgs {
    /// Run this with `sh -c` for each deleted file, with the ledger's entry as JSON on standard input; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub hook: Vec<String>,
    /// POST the ledger's entry of each deleted file to this URL; may be repeated
    #[arg(long, value_name = "URL")]
    pub webhook: Vec<String>,
}

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// How it works
    #[command(flatten)]
    pub work: WorkArgs,
    /// Its hooks
    #[command(flatten)]
    pub hooks: HookArgs,
    /// The longest pause between two looks at an empty queue
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub poll: std::time::Duration,
}

/// Options of `collect`.
#[derive(Debug, clap::Args)]
pub struct CollectArgs {
    /// How it works
    #[command(flatten)]
    pub work: WorkArgs,
    /// Its hooks
    #[command(flatten)]
    pub hooks: HookArgs,
    /// Go on until nothing is left, but no longer than this
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub wait: Option<std::time::Duration>,
    /// Retry at once what waits after a failure
    #[arg(long)]
    pub retry_now: bool,
}

/// Options of `sweep`.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    /// Only this storage; all of them without it
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Make candidates of the orphans: `run` or `collect` deletes them
    #[arg(long)]
    pub delete: bool,
    /// Restore missing files that rows reference from the trash
    #[arg(long)]
    pub heal: bool,
    /// Print the names of all orphans, one per line, instead of the summary
    #[arg(long)]
    pub list: bool,
    /// Write a page with the findings and thumbnails of orphaned pictures, to look at before deleting
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// How many orphans the page shows with a picture
    #[arg(long, value_name = "N", default_value_t = 400, requires = "report", value_parser = shown)]
    pub pictures: usize,
    /// Only names that begin with this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// Only names behind this one; with --until, several processes can share a storage
    #[arg(long, value_name = "NAME")]
    pub after: Option<String>,
    /// Only names up to this one, itself included
    #[arg(long, value_name = "NAME")]
    pub until: Option<String>,
    /// How old a file must be to be an orphan, instead of the storage's `min_age`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub min_age: Option<std::time::Duration>,
    /// The share of the files that may be orphaned (0.2 is 20 %); beyond it, nothing is deleted
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    pub max_share: f64,
    /// The share of the orphans that may be held, because their names stand in other values of the database (0.2 is 20 %); beyond it, nothing is deleted
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    pub max_held: f64,
    /// The share of the orphans that may look like derivatives, or share the last part of their name with a value (0.2 is 20 %); beyond it, nothing is deleted
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    pub max_alike: f64,
    /// The rowbound.toml of another installation that uses the storage: its references count, too. With a shared storage, --delete needs one --with for each other
    /// installation
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Proceed even if no row references any file
    #[arg(long)]
    pub allow_no_references: bool,
    /// Forget a sweep that was interrupted, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// The folder in which findings are kept while the sweep lasts [default: $XDG_STATE_HOME/rowbound or ~/.local/state/rowbound]
    #[arg(long, value_name = "FOLDER", env = "ROWBOUND_STATE")]
    pub state: Option<PathBuf>,
}

/// Options of `forget`.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// The hook's name, as `status` shows it
    pub name: String,
    /// Give up the deliveries that it has not received yet
    #[arg(long)]
    pub give_up: bool,
}

/// Options of `history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// Only this file
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only this storage
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Only these outcomes
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = outcome)]
    pub outcome: Vec<Outcome>,
    /// Not older than this: a length of time (1d) or a moment (2026-11-21T00:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Timestamp>,
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
}

/// Files for rows.
#[derive(Debug, clap::Args)]
pub struct PutArgs {
    /// A bound column: [schema.]table.column
    #[arg(value_name = "TABLE.COLUMN")]
    pub column: String,
    /// A row's primary key and the file that it is to reference; as many pairs as you like
    #[arg(required_unless_present = "list", num_args = 2.., value_names = ["KEY", "FILE"])]
    pub pairs: Vec<String>,
    /// More pairs: a CSV of keys and files, without a line of titles; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// The folder within the storage; %Y, %m, %d and the like stand for the moment, in UTC
    #[arg(long, value_name = "FOLDER")]
    pub upload_to: Option<String>,
    /// The most characters that the column takes: longer names are cut
    #[arg(long, value_name = "CHARACTERS", default_value_t = 100)]
    pub max_length: usize,
    /// So many files at once [default: 4, or one per processor where that is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// The files are pictures, and get this size in pixels: 300x200, or 300x or x200 for what follows from the proportions
    #[arg(long, value_name = "WxH", value_parser = pictures::size, help_heading = PICTURES)]
    pub size: Option<Size>,
    /// How they are processed
    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// A file.
#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// The file's name as the rows hold it
    pub name: String,
    /// The storage; optional if there is only one, or if it is `default`
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
}

/// Options of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Files, by their names as the rows hold them
    #[arg(value_name = "NAME", required_unless_present_any = ["since", "prefix", "all", "from"])]
    pub names: Vec<String>,
    /// The storage; optional if there is only one, or if it is `default`
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Files that were moved to the trash since then: a length of time (1d) or a moment (2026-11-21T00:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "names")]
    pub since: Option<Timestamp>,
    /// Files whose names begin with this
    #[arg(long, value_name = "TEXT", conflicts_with = "names")]
    pub prefix: Option<String>,
    /// All files in the trash
    #[arg(long, conflicts_with_all = ["names", "since", "prefix", "from"])]
    pub all: bool,
    /// The files of a list: a name on each line, or each ended by a NUL byte; - reads standard input
    #[arg(long, value_name = "LIST", conflicts_with = "names")]
    pub from: Option<PathBuf>,
    /// Restore the files, instead of showing which would be restored
    #[arg(long, conflicts_with = "names")]
    pub yes: bool,
}

/// Options of `installations`.
#[derive(Debug, clap::Args)]
pub struct InstallationsArgs {
    /// Only this storage; all of them without it
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Remove the installation ID, whose database no longer exists, from the markers
    #[arg(long, value_name = "ID")]
    pub remove: Option<String>,
}

/// Options of `thumbnail`.
#[derive(Debug, clap::Args)]
pub struct ThumbnailArgs {
    /// The pictures, then the thumbnail's file; or a folder, where each thumbnail gets its picture's name
    #[arg(required = true, num_args = 2.., value_names = ["IN", "OUT"])]
    pub paths: Vec<PathBuf>,
    /// So many pictures at once [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Overwrite thumbnails that are there
    #[arg(long)]
    pub force: bool,
    /// The size, in pixels: 300x200, or 300x or x200 for what follows from the proportions
    #[arg(long, value_name = "WxH", value_parser = pictures::size, help_heading = PICTURES)]
    pub size: Size,
    /// How they are processed
    #[command(flatten)]
    pub pictures: PictureArgs,
}

fn shown(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n <= 10_000).ok_or_else(|| "write a number from 0 to 10000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|p| p / 100.0),
        None => text.parse(),
    };
    share.ok().filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "write a share from 0 to 1, such as 0.35, or 35%".to_owned())
}

fn time(text: &str) -> Result<std::time::Duration, String> {
    rowbound::parse_duration(text).ok_or_else(|| "write 500ms, 10s, 5m, 1h or 1d".to_owned())
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = rowbound::parse_duration(text) {
        return Ok(rowbound::clock::before(Timestamp::now(), ago).max(Timestamp::UNIX_EPOCH));
    }
    // No ledger is older than 1970, and not every database knows the moments before.
    text.parse()
        .map(|at: Timestamp| at.max(Timestamp::UNIX_EPOCH))
        .map_err(|_| "write a length of time such as 1d, or a moment such as 2026-11-21T00:00:00Z".to_owned())
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::from_word(text).ok_or_else(|| {
        let known: Vec<_> = Outcome::ALL.iter().map(|(o, _)| o.word()).collect();
        format!("known are: {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
