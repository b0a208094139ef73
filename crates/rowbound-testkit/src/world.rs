//! A small world: an application's database, its media folder and the plan over both.

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rowbound::{
    Binding, FileName, Plan, RESERVED, StoragePlan, Trash,
    binding::{Body, Column, Mode, Reading, Resolved},
    plan::{Call, Erase, Hook, Ignored},
    queue::Waits,
};

use crate::{
    db::{Backend, TestDb},
    trace::Trace,
};

/// A database, a media folder and the bindings between them.
#[derive(Debug)]
pub struct World {
    /// The application's database.
    pub db: TestDb,
    /// The storage `default`: the media folder with no grace, no minimal age and no trash, until a test says otherwise.
    pub storage: StoragePlan,
    /// Storages beside it.
    pub others: Vec<StoragePlan>,
    /// The bindings of the plan.
    pub bindings: Vec<Binding>,
    /// Columns that hold names but no references.
    pub ignore: Vec<Column>,
    /// The hooks of the plan.
    pub hooks: Vec<Hook>,
    /// How long the ledger's entries are kept; `None`: for ever.
    pub keep_history: Option<Duration>,
    /// Sessions that no barrier waits for.
    pub ignored_sessions: Vec<Ignored>,
    /// What is done is recorded here: see [`World::traced`].
    pub trace: Option<Trace>,
    folder: tempfile::TempDir,
}

impl World {
    /// A world with an empty database and an empty media folder.
    pub async fn new(backend: Backend) -> World {
        Self::with(TestDb::new(backend).await)
    }

    /// The same around a database.
    pub fn with(db: TestDb) -> World {
        let folder = tempfile::Builder::new().prefix("rowbound-world.").tempdir().expect("cannot make a temporary folder");
        let media = folder.path().join("media");
        std::fs::create_dir(&media).expect("cannot make the media folder");
        let storage = StoragePlan::folder("default", media).grace(Duration::ZERO).min_age(Duration::ZERO).trash(Trash::Off);
        World {
            db,
            storage,
            others: Vec::new(),
            bindings: Vec::new(),
            ignore: Vec::new(),
            hooks: Vec::new(),
            keep_history: None,
            ignored_sessions: Vec::new(),
            trace: None,
            folder,
        }
    }

    /// Makes a table `doc(id, file, title)` and binds `doc.file`: enough for most tests.
    pub async fn with_docs(mut self) -> World {
        let id = self.db.backend().id_column();
        self.db.exec(&format!("create table doc (id {id}, file varchar(255), title varchar(255))")).await;
        self.bindings.push(Binding::name("doc.file", "default").expect("a column"));
        self
    }

    /// Adds a binding.
    pub fn bind(mut self, binding: Binding) -> World {
        self.bindings.push(binding);
        self
    }

    /// Adds columns to the plan's `ignore`.
    ///
    /// # Panics
    /// When one is not `table.column`.
    pub fn ignore(mut self, columns: &[&str]) -> World {
        self.ignore.extend(columns.iter().map(|c| Column::parse(c).expect("a column")));
        self
    }

    /// Adds a hook.
    pub fn hook(mut self, hook: Hook) -> World {
        self.hooks.push(hook);
        self
    }

    /// Records what processes of Rowbound and [`crate::Writer`]s do. `lease` is the shortest that a process gets.
    pub fn traced(mut self, lease: Duration) -> World {
        self.trace = Some(Trace::new(self.folder.path(), lease, self.db.backend() == Backend::Sqlite));
        self
    }

    /// Insists that the protocol's model allows what was recorded, and refuses `mutants` of it: see [`Trace::assert_allowed`].
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_trace_allowed(&self, mutants: u64) {
        self.trace.as_ref().expect("the world is traced").assert_allowed(mutants);
    }

    /// One of Rowbound's own tables: `candidate`, `ledger`, ..
    pub fn own_table(&self, name: &str) -> String {
        let between = if self.db.backend() == Backend::Postgres { '.' } else { '_' };
        format!("rowbound{between}{name}")
    }

    /// How many rows a table has, or those of them for which `TABLE where ..` holds.
    ///
    /// # Panics
    /// When the statement fails.
    pub async fn count(&self, of: &str) -> u64 {
        let n = self.db.query_strings(&format!("select cast(count(*) as char(20)) from {of}")).await;
        n[0].as_deref().and_then(|n| n.trim().parse().ok()).expect("a count")
    }

    /// What the ledger says of a name, the oldest first.
    pub async fn outcomes(&self, name: &str) -> Vec<String> {
        let sql = format!("select outcome from {} where name = '{name}' order by id", self.own_table("ledger"));
        self.db.query_strings(&sql).await.into_iter().flatten().collect()
    }

    /// The ledger refuses names that are like this from now on, as a full tablespace or somebody's trigger may: see [`World::ledger_takes_all`].
    pub async fn ledger_refuses(&self, like: &str) {
        let (ledger, like) = (self.own_table("ledger"), self.db.backend().literal(like));
        let create = format!("create trigger refuses before insert on {ledger}");
        let sql = match self.db.backend() {
            Backend::Sqlite => format!("{create} when new.name like {like} begin select raise(abort, 'no room for this one'); end"),
            Backend::Postgres => {
                let body = "create function refuses() returns trigger language plpgsql as \
                            $$ begin if new.name like tg_argv[0] then raise exception 'no room for this one'; end if; return new; end $$";
                self.db.exec(body).await;
                format!("{create} for each row execute function refuses({like})")
            }
            Backend::Mariadb | Backend::Mysql => format!(
                "{create} for each row begin if new.name like {like} then \
                 signal sqlstate '45000' set message_text = 'no room for this one'; end if; end"
            ),
        };
        self.db.exec(&sql).await;
    }

    /// It takes every name again.
    pub async fn ledger_takes_all(&self) {
        self.db.drop_trigger("refuses", &self.own_table("ledger")).await;
    }

    /// What came back from the trash is looked at once more a minute later: now.
    pub async fn look_again_now(&self) {
        // On SQLite no claim is written.
        let free = if self.db.backend() == Backend::Sqlite { "" } else { "and owner is null" };
        let table = self.own_table("candidate");
        self.db.exec(&format!("update {table} set due_at = null where event = 'return' {free}")).await;
    }

    /// Whether a file lies in the media folder.
    pub fn is_there(&self, name: &str) -> bool {
        self.media().join(name).exists()
    }

    /// What a file in the media folder holds.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn holds(&self, name: &str) -> String {
        std::fs::read_to_string(self.media().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Adds a storage, with a table `NAME(id, file)` that is bound to it.
    pub async fn another(mut self, storage: StoragePlan) -> World {
        let (id, name) = (self.db.backend().id_column(), storage.name.clone());
        self.db.exec(&format!("create table {name} (id {id}, file varchar(255))")).await;
        self.others.push(storage.grace(Duration::ZERO).min_age(Duration::ZERO));
        self.bind(Binding::name(&format!("{name}.file"), &name).expect("a column"))
    }

    /// Changes the storage.
    pub fn storage(mut self, change: impl FnOnce(StoragePlan) -> StoragePlan) -> World {
        self.storage = change(self.storage);
        self
    }

    /// The media folder.
    pub fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    /// A folder of the world's own, outside the media folder, for configuration and the like.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The plan as it is now.
    ///
    /// # Panics
    /// When it does not hold together.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::builder(self.db.url()).storage(self.storage.clone());
        for storage in &self.others {
            plan = plan.storage(storage.clone());
        }
        for binding in &self.bindings {
            plan = plan.binding(binding.clone());
        }
        for column in &self.ignore {
            plan = plan.ignore(column.clone());
        }
        for hook in &self.hooks {
            plan = plan.hook(hook.clone());
        }
        if let Some(keep) = self.keep_history {
            plan = plan.keep_history(keep);
        }
        for sessions in &self.ignored_sessions {
            plan = plan.ignore_session(sessions.clone());
        }
        plan.build().unwrap_or_else(|e| panic!("{}", e.full()))
    }

    /// Writes the plan as `rowbound.toml` into [`World::folder`] and returns its path.
    pub fn write_config(&self) -> PathBuf {
        let path = self.folder.path().join(rowbound::plan::FILE);
        // By rename: a command that was just started may be reading it.
        let fresh = self.folder.path().join(format!(".{:016x}", rand::random::<u64>()));
        std::fs::write(&fresh, config(&self.plan())).and_then(|()| std::fs::rename(&fresh, &path)).expect("cannot write rowbound.toml");
        path
    }

    /// Gives everything to another user and group, the SQLite database too. Only root may.
    ///
    /// # Panics
    /// When it cannot be given away.
    pub fn give_to(&self, uid: u32) {
        let database = self.db.url().strip_prefix("sqlite:").map(|file| Path::new(file).parent().expect("a folder").to_owned());
        for folder in database.iter().map(PathBuf::as_path).chain([self.folder()]) {
            let below = files_and_folders_below(folder);
            for path in below.iter().map(PathBuf::as_path).chain([folder]) {
                std::os::unix::fs::lchown(path, Some(uid), Some(uid))
                    .unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
            }
        }
    }

    /// Puts a file into the media folder, with its folders.
    pub fn put_file(&self, name: &str, bytes: &[u8]) {
        let path = self.media().join(name);
        let parent = path.parent().expect("a file in the media folder has a folder");
        std::fs::create_dir_all(parent).unwrap_or_else(|e| panic!("cannot make {}: {e}", parent.display()));
        std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }

    /// Makes a file's modification time as old as `by`. Its change time, which counts too, is now: see [`World::grown`] and [`World::pretend`].
    ///
    /// # Panics
    /// When there is no such file.
    pub fn age(&self, name: &str, by: Duration) {
        let file = std::fs::File::options().write(true).open(self.media().join(name));
        file.and_then(|f| f.set_modified(std::time::SystemTime::now() - by)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Waits until all that was written is older than what is released from now on, by more than the clocks' margin of two seconds.
    pub async fn grown(&self) {
        let began = Instant::now();
        wait_until(Duration::from_secs(30), "files grow older", || async { began.elapsed() > Duration::from_millis(2_500) }).await;
    }

    /// Pretends that what was found too young was seen first so long ago, and is due now.
    ///
    /// # Panics
    /// When nothing was found too young.
    pub async fn pretend(&self, ago: Duration) {
        let table = self.own_table("candidate");
        let young = self.db.query_strings(&format!("select distinct waits from {table} where waits like '{{\"young\":true%'")).await;
        assert!(!young.is_empty(), "nothing was found too young");
        for text in young.into_iter().flatten() {
            let mut waits: Waits = serde_json::from_str(&text).expect("what a candidate waits for is JSON");
            let sight = waits.sight.as_mut().expect("it says when it was seen");
            sight.at = rowbound::clock::before(sight.at, ago);
            let set = |text: &str| self.db.backend().literal(text);
            let waits = serde_json::to_string(&waits).expect("JSON");
            self.db.exec(&format!("update {table} set due_at = null, waits = {} where waits = {}", set(&waits), set(&text))).await;
        }
    }

    /// Puts a file and a row of `doc` that references it.
    pub async fn put_doc(&self, name: &str) {
        self.put_file(name, name.as_bytes());
        self.db.exec(&format!("insert into doc (file) values ({})", self.db.backend().literal(name))).await;
    }

    /// Every file below the media folder but Rowbound's own, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut names = files_below(&self.media());
        names.retain(|n| n.split('/').next() != Some(RESERVED));
        names
    }

    /// The files in the trash, as the names they have there, sorted.
    pub fn trashed(&self) -> Vec<String> {
        files_below(&self.media().join(RESERVED)).into_iter().filter(|n| n != rowbound::storage::MARKER).collect()
    }

    /// Every name that a row refers to, sorted.
    pub async fn refs(&self) -> Vec<String> {
        let quote = |name: &str| self.db.backend().quote(name);
        let mut names = BTreeSet::new();
        for binding in self.bindings.iter().filter(|b| b.query.is_none()) {
            let c = &binding.column;
            let table: Vec<_> = c.schema.iter().chain([&c.table]).map(|p| quote(p)).collect();
            let (table, column) = (table.join("."), quote(&c.column));
            for value in self.db.query_strings(&format!("select {column} from {table}")).await.into_iter().flatten() {
                binding.each_name(value.as_bytes(), |found| {
                    if let Resolved::Name(name) = found {
                        names.insert(name.as_str().to_owned());
                    }
                });
            }
        }
        names.into_iter().collect()
    }

    /// The one promise: the files that are there are the files that rows reference.
    ///
    /// # Panics
    /// With both differences: a file without a row is a leak, a row without a file a loss.
    pub async fn assert_files_follow_rows(&self) {
        let (files, refs) = (self.files(), self.refs().await);
        let only = |a: &[String], b: &[String]| a.iter().filter(|n| !b.contains(n)).cloned().collect::<Vec<_>>();
        let (leaked, lost) = (only(&files, &refs), only(&refs, &files));
        assert!(leaked.is_empty() && lost.is_empty(), "leaked (file, no row): {leaked:?}\nlost (row, no file): {lost:?}");
    }

    /// A name, checked.
    pub fn file_name(name: &str) -> FileName {
        FileName::parse(name).unwrap_or_else(|why| panic!("{name:?} {why}"))
    }
}

fn files_and_folders_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap_or_else(|e| panic!("cannot list {}: {e}", root.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_and_folders_below(&path));
        }
        found.push(path);
    }
    found
}

pub(crate) fn files_below(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // The trash is there only after the first deletion, and a folder may be pruned while we look.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => panic!("cannot list {}: {e}", folder.display()),
        };
        for entry in entries {
            let entry = entry.unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display()));
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) => {
                    let below = path.strip_prefix(root).expect("listed below the root");
                    names.push(below.to_string_lossy().into_owned());
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => panic!("cannot look at {}: {e}", path.display()),
            }
        }
    }
    names.sort();
    names
}

/// `plan` as the text of `rowbound.toml`.
pub fn config(plan: &Plan) -> String {
    let string = |s: &str| serde_json::Value::from(s.replace("${", "$${")).to_string(); // a JSON string is a TOML string
    let list = |items: &[String]| format!("[{}]", items.iter().map(|i| string(i)).collect::<Vec<_>>().join(", "));
    let time = |d: Duration| format!("\"{}ms\"", d.as_millis());
    let mut text = format!("database = {}\n", string(&plan.database));
    if !plan.ignore.is_empty() {
        text += &format!("ignore = {}\n", list(&plan.ignore.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    if let Some(keep) = plan.keep_history {
        text += &format!("keep_history = {}\n", time(keep));
    }
    for storage in plan.storages.values() {
        text += &format!(
            "\n[storage.{}]\nurl = {}\ngrace = {}\nmin_age = {}\nprune_folders = {}\n",
            string(&storage.name),
            string(&storage.location.to_url()),
            time(storage.grace),
            time(storage.min_age),
            storage.prune_folders,
        );
        match storage.trash {
            Trash::Off => text += "trash = \"off\"\n",
            Trash::Keep(d) => text += &format!("trash = {}\n", time(d)),
            Trash::IfVersioned(_) => {} // the default of those that can have it
        }
        if storage.erase == Erase::AllVersions {
            text += "erase = \"all-versions\"\n";
        }
        if let Some(ttl) = storage.stage_ttl {
            text += &format!("stage_ttl = {}\n", time(ttl));
        }
        if let Some(url) = &storage.base_url {
            text += &format!("base_url = {}\n", string(url));
        }
        if !storage.ignore.is_empty() {
            text += &format!("ignore = {}\n", list(&storage.ignore));
        }
    }
    for b in &plan.bindings {
        match &b.query {
            None => text += &format!("\n[[binding]]\ncolumn = {}\n", string(&b.column.to_string())),
            Some(query) => text += &format!("\n[[reference]]\nname = {}\nquery = {}\n", string(&b.column.column), string(query)),
        }
        text += &format!("storage = {}\nkind = {}\n", string(&b.storage), string(b.reading.word()));
        let (prefixes, path, pattern) = match &b.reading {
            Reading::Url { prefixes } | Reading::Array { prefixes } => (prefixes.as_slice(), None, None),
            Reading::Json { path, prefixes } => (prefixes.as_slice(), Some(path.as_str()), None),
            Reading::Text(finder) => (finder.prefixes(), None, finder.pattern()),
            Reading::Raw { prefixes, .. } => (prefixes.as_slice(), None, None),
            Reading::Name | Reading::Key => (&[][..], None, None),
        };
        if !prefixes.is_empty() {
            text += &format!("prefix = {}\n", list(prefixes));
        }
        for (field, value) in [("path", path), ("pattern", pattern)] {
            if let Some(value) = value {
                text += &format!("{field} = {}\n", string(value));
            }
        }
        if let Reading::Raw { strip, .. } = &b.reading {
            text += &format!("strip = {}\n", list(strip));
        }
        if !b.only.is_empty() {
            let pairs: Vec<_> = b.only.iter().map(|(column, value)| format!("{} = {}", string(column), string(value))).collect();
            text += &format!("where = {{ {} }}\n", pairs.join(", "));
        }
        if !b.keep.is_empty() {
            text += &format!("keep = {}\n", list(&b.keep));
        }
        if !b.derivatives.is_empty() {
            text += &format!("derivatives = {}\n", list(&b.derivatives));
        }
        if b.mode == Mode::Shadow {
            text += "mode = \"shadow\"\n";
        }
        if b.body == Body::Fast {
            text += "capture = \"fast\"\n";
        }
    }
    if !plan.ignored_sessions.is_empty() {
        text += &format!("\n[barrier]\nignore = {}\n", list(&plan.ignored_sessions.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    for hook in &plan.hooks {
        text += &format!("\n[[hook]]\nname = {}\n", string(&hook.name));
        match &hook.call {
            Call::Command(command) => text += &format!("command = {}\n", string(command)),
            Call::Webhook { url, secrets } => {
                text += &format!("url = {}\n", string(url));
                if !secrets.is_empty() {
                    text += &format!("secret = {}\n", list(secrets));
                }
            }
        }
        let words: Vec<_> = hook.outcomes.iter().map(|o| o.word().to_owned()).collect();
        text += &format!("outcomes = {}\nbatch = {}\ntimeout = {}\n", list(&words), hook.batch, time(hook.timeout));
    }
    text
}

/// Waits until `happened` says so.
///
/// # Panics
/// When `deadline` has passed; `what` then says what did not happen.
pub async fn wait_until<F, Fut>(deadline: Duration, what: &str, mut happened: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let end = Instant::now() + deadline;
    while !happened().await {
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_own_file() {
        let plan = Plan::builder("sqlite:/tmp/a${b}\"c.sqlite3")
            .storage(StoragePlan::folder("default", "/tmp/media").grace(Duration::from_millis(1500)).trash(Trash::Off))
            .storage(StoragePlan::folder("other", "/tmp/other").prune_folders(false).stage_ttl(Duration::from_secs(60)).base_url("/m/"))
            .binding(
                Binding::name("\"odd.table\".file", "default")
                    .unwrap()
                    .keep(["defaults/*", "a\"b"])
                    .derivatives(["imagekit", "{stem}_*"])
                    .mode(Mode::Shadow),
            )
            .binding(Binding::url("doc.url", "other", "https://cdn.example.com/m/").unwrap().body(Body::Fast))
            .binding(Binding::json("doc.list", "default", "$[*]['image']").unwrap())
            .binding(Binding::array("doc.array", "default").unwrap())
            .binding(Binding::text("doc.body", "default", ["/media/", "https://cdn.example.com/m/"]).unwrap())
            .binding(Binding::query("media", "other", "select \"name\"\nfrom media where id > 0").derivatives(["{stem}_*"]))
            .build()
            .unwrap();
        let again = Plan::parse(&config(&plan), Path::new("/"), None, &|_| None).unwrap();
        assert_eq!(again.database, plan.database);
        assert_eq!(again.storages, plan.storages);
        assert_eq!(format!("{:?}", again.bindings), format!("{:?}", plan.bindings));
    }
}
