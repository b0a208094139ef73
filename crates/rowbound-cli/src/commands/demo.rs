//! `rowbound demo`: the story of two bindings on SQLite and a folder, told and verified.
//!
//! `demo/story.rs` is the story, a table of steps; `demo/blog.rs` is the application, which knows nothing of Rowbound; `demo/told.rs` compares and
//! shows. This file is what a program does with the engine: make a plan, attach, collect, restore. Begin at [`Demo::new`].

use std::{
    fs,
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use rowbound::{
    Binding, Collector, Error, FileName, Kind, Plan, Result, StoragePlan, Trash,
    attach::{Consent, attach, open_storages},
    collect::Settings,
    database::{self, Database, Options},
    queue::Outcome,
    status, trash,
};
use tokio::{process::Command, sync::watch};

use crate::{
    args::{Args, DemoArgs, Format},
    exit, output,
};

mod blog;
mod story;
#[cfg(test)]
mod tests;
mod told;

use blog::{Blog, io};
use story::{Act, STORY, Step, TEA};
use told::{State, Told};

/// The plan of [`plan`], for the child process and for whoever looks at the demo's folder afterwards.
const CONFIG: &str = r#"database = "sqlite:db.sqlite3"

[storage.default]
url = "folder:media"
grace = "0s"       # how long a released name waits before it is looked at (default: 10s)
min_age = "0s"     # a younger file, newer than its release, is left alone (default: 1h)
trash = "1h"       # how long collected files wait, restorable (default: 1d)

[[binding]]
column = "blog_article.image"
keep = ["defaults/*"]

[[binding]]
column = "blog_postimage.image"
"#;

const ONES_OWN: &str = r#"Bind your own database. Write rowbound.toml:

    database = "postgres://app@localhost/app"    # or sqlite:db.sqlite3, mysql://..

    [storage.default]
    url = "folder:/srv/app/media"

    [[binding]]
    column = "blog_article.image"

then:

    rowbound attach    # the triggers; --print-sql shows them and changes nothing
    rowbound run       # collects for ever; `rowbound collect` does it once
    rowbound status    # what waits, fails and was deleted"#;

const BUG: &str = "The demo stopped: rows and folder are not what the story says. This is a bug of Rowbound; please report it, with what \
                   `rowbound demo --keep FOLDER` leaves.";

/// Tells the whole story.
pub async fn demo(args: &Args, a: &DemoArgs) -> Result<u8> {
    let began = Instant::now();
    let temporary = tempfile::tempdir().map_err(|e| io("cannot make a temporary folder", &std::env::temp_dir(), e))?;
    let new = a.keep.as_ref().is_some_and(|folder| !folder.exists());
    let place = match &a.keep {
        Some(folder) => empty_folder(folder)?,
        None => temporary.path().to_owned(),
    };
    let text = args.format == Format::Text;
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut demo = Demo::new(&place).await?;
    if text {
        output::print(&format!(
            "A blog keeps its pictures in a folder. Rowbound is bound to blog_article.image and blog_postimage.image: {} statements made its\n\
             triggers. After each step the collector runs, and rows and folder are compared.\n",
            demo.statements
        ))?;
    }
    let told = demo.tell(STORY, |step| if text { output::print(&step.text(colours)) } else { Ok(()) }).await?;
    let good = told.len() == STORY.len() && told.iter().all(Told::good);
    demo.db.close().await;
    if a.keep.is_some() {
        keep(&place, new).map_err(|e| io("cannot give to its owner", &place, e))?;
    }
    if !text {
        output::answer(args.format, &told, |_| String::new())?;
        return Ok(if good { exit::DONE } else { exit::LEFT });
    }
    if good {
        let (steps, seconds, uploads) = (told.len(), began.elapsed().as_secs_f64(), demo.blog.uploads);
        output::print(&format!("{steps} steps as expected in {seconds:.1} s: {uploads} files uploaded, none lost, none left over.\n"))?;
    }
    if let Some(folder) = &a.keep {
        let config = demo.config.display();
        output::print(&format!("Kept in {}. To look at it:\n", folder.display()))?;
        output::print(&format!("    rowbound status -c {config}\n    rowbound history -c {config} --limit 20\n"))?;
    }
    output::print(if good { ONES_OWN } else { BUG })?;
    Ok(if good { exit::DONE } else { exit::LEFT })
}

/// The plan: which columns of which database reference files of which storage.
fn plan(place: &Path) -> Result<Plan> {
    Plan::builder(format!("sqlite:{}", place.join("db.sqlite3").display()))
        .storage(
            StoragePlan::folder("default", place.join("media"))
                .grace(Duration::ZERO)
                .min_age(Duration::ZERO)
                .trash(Trash::Keep(Duration::from_secs(3600))),
        )
        .binding(Binding::name("blog_article.image", "default")?.keep(["defaults/*"]))
        .binding(Binding::name("blog_postimage.image", "default")?)
        .build()
}

/// A blog with Rowbound bound to it.
struct Demo {
    blog: Blog,
    plan: Plan,
    db: Arc<dyn Database>,
    config: PathBuf,
    /// How many statements `attach` ran.
    statements: usize,
}

impl Demo {
    /// Makes the blog, then binds to it: plan, database, attach.
    async fn new(place: &Path) -> Result<Demo> {
        let blog = Blog::new(place).await?;
        let plan = plan(place)?;
        let db = database::open(&plan.database, &Options::default()).await?;
        let attached = attach(&plan, db.as_ref(), &Consent::default()).await?;
        let config = place.join("rowbound.toml");
        fs::write(&config, CONFIG).map_err(|e| io("cannot write", &config, e))?;
        Ok(Demo { blog, plan, db, config, statements: attached.statements.len() })
    }

    /// Goes through the steps, and stops at the first that is not as expected.
    async fn tell(&mut self, story: &[Step], mut show: impl FnMut(&Told) -> Result<()>) -> Result<Vec<Told>> {
        let mut all = Vec::new();
        for (i, step) in story.iter().enumerate() {
            let mut done = Vec::new();
            for act in step.acts {
                let more = self.act(act).await?;
                done.push(format!("{}{more}", told::say(act)));
            }
            let collected = self.collect().await?;
            let (rows, folder) = (self.blog.rows().await?, self.blog.folder()?);
            let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            let told = Told {
                step: i + 1,
                title: step.title,
                done,
                expected: State {
                    collected: step.collected.unwrap_or(&collected).to_owned(),
                    rows: names(step.rows),
                    folder: names(&[step.rows, step.unnamed].concat()),
                    ..State::default()
                },
                lines: told::lines(&rows, &folder),
                found: State {
                    collected,
                    altered: folder.iter().filter(|(n, b)| self.blog.uploaded.get(*n) != Some(b)).map(|(n, _)| n.clone()).collect(),
                    rows: rows.into_keys().collect(),
                    folder: folder.into_keys().collect(),
                    waiting: self.waiting().await?,
                },
            };
            show(&told)?;
            let good = told.good();
            all.push(told);
            if !good {
                break;
            }
        }
        Ok(all)
    }

    /// Collects what is due, as `rowbound collect` does.
    async fn collect(&self) -> Result<String> {
        let collector = Collector::new(&self.plan, self.db.clone(), Settings::default()).await?;
        let (_stop, stopped) = watch::channel(false);
        let summary = collector.drain(&stopped).await?;
        let counted = Outcome::ALL.iter().map(|(o, _)| (summary.count(*o), o.word())).filter(|(n, _)| *n > 0);
        let said: Vec<String> = counted.map(|(n, word)| format!("{n} {word}")).collect();
        Ok(if said.is_empty() { "nothing".to_owned() } else { said.join(", ") })
    }

    /// How many candidates are left in the queue.
    async fn waiting(&self) -> Result<u64> {
        Ok(status::backlogs(&self.plan, self.db.as_ref()).await?.values().map(|b| b.total - b.staged).sum())
    }

    /// Brings a file back from the trash, as `rowbound restore` does.
    async fn restore(&self, name: &str) -> Result<()> {
        let name = FileName::parse(name).map_err(|why| Error::new(Kind::Config, format!("this name {why}")))?;
        let storage = open_storages(&self.plan)?.remove("default").ok_or_else(|| Error::new(Kind::Config, "no storage"))?;
        let record = self.db.installation().await?.ok_or_else(|| Error::new(Kind::NotAttached, "not attached"))?;
        storage.expect(&record.storages["default"]);
        trash::restore(self.db.as_ref(), "default", storage.as_ref(), &name).await.map(drop)
    }

    /// Does one act; returns what there is to say besides.
    async fn act(&mut self, act: &Act) -> Result<String> {
        match *act {
            Act::Upload(name, picture) => self.blog.upload(name, picture)?,
            Act::UploadMany(prefix, count) => (1..=count).try_for_each(|i| self.blog.upload(&format!("{prefix}{i}.jpg"), TEA))?,
            Act::Sql(statement) => self.blog.sql(statement).await?,
            Act::Other(statement) => self.blog.sql_of_another(statement).await?,
            Act::Restore(name) => self.restore(name).await?,
            Act::Kill(first) => return self.kill(first).await,
        }
        Ok(String::new())
    }

    /// Starts this very program as a collector and kills it as soon as `first` has gone. Batches of ten leave it most of its work then.
    async fn kill(&self, first: &str) -> Result<String> {
        let wrong = |message: &str| Error::new(Kind::Storage, message);
        let before = self.blog.folder()?.len();
        let program = std::env::current_exe().map_err(|e| wrong("cannot find this program").because(e))?;
        let mut child = Command::new(program)
            .args(["collect", "--batch", "10", "--config"])
            .arg(&self.config)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| wrong("cannot start a collector").because(e))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.blog.path(first).exists() && Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = child.start_kill(); // fails only if it has ended, which its status tells
        let ended = child.wait_with_output().await.map_err(|e| wrong("cannot wait for the collector").because(e))?;
        let left = self.blog.folder()?.len();
        let waiting = self.waiting().await?;
        if ended.status.signal() != Some(9) || left == before || waiting == 0 {
            return Err(wrong("the collector was not killed in the middle: run the demo again")
                .with("its end", ended.status)
                .with("files gone", before - left)
                .with("candidates left", waiting)
                .with("it said", String::from_utf8_lossy(&ended.stderr).trim()));
        }
        Ok(format!("    # {} files had gone, {waiting} candidates were left", before - left))
    }
}

/// Gives what the demo made to the owner of the folder in which it lies.
fn keep(place: &Path, new: bool) -> std::io::Result<()> {
    if new {
        return rowbound::owner::give_all_to_folder(place);
    }
    for entry in fs::read_dir(place)? {
        rowbound::owner::give_all_to_folder(&entry?.path())?;
    }
    Ok(())
}

/// The folder of `--keep`: made if missing, refused if something is in it.
fn empty_folder(folder: &Path) -> Result<PathBuf> {
    let wrong = |message: &str| {
        Error::new(Kind::Config, message).with("keep", folder.display()).hint("name a folder that is empty or does not exist")
    };
    fs::create_dir_all(folder).map_err(|e| wrong("the folder cannot be made").because(e))?;
    match fs::read_dir(folder).map_err(|e| wrong("the folder cannot be read").because(e))?.next() {
        None => folder.canonicalize().map_err(|e| wrong("the folder cannot be read").because(e)),
        Some(_) => Err(wrong("the folder is not empty: nothing in it was touched")),
    }
}
