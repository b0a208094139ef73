//! A site: an application's database and folders as it leaves them, and for every file what has to become of it.
//!
//! In: schema, rows, files, and what the application deletes later. Out: a line of the table, and a failure where a
//! file is lost, or the site cannot be attached. The site is taken over as somebody does who believes what `init`
//! proposes and does what `attach` asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use rowbound::{Binding, RESERVED};
use rowbound_testkit::{Backend, Output, Rowbound, World};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// What has to become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A row references it at the end, or the application needs it: without it something is lost.
    Stays,
    /// It was made of a file that stays: it can be made again at most, or somebody waits for it.
    Made,
    /// Nothing mentions it at the end: with it something is left.
    Goes,
    /// A cache or a log alone mentions it: both are right.
    Either,
}

/// An application's database, its folders, and what has to become of each file.
pub struct Site {
    application: &'static str,
    world: World,
    /// Names of the storages, and their folders.
    storages: Vec<(&'static str, &'static str)>,
    schema: String,
    rows: String,
    changes: String,
    files: BTreeMap<String, (Fate, &'static str)>,
}

impl Site {
    /// An empty one. A storage is a name and a folder within the site.
    pub async fn new(application: &'static str, backend: Backend, storages: &[(&'static str, &'static str)]) -> Site {
        let world = World::new(backend).await;
        for (_, folder) in storages {
            fs::create_dir_all(world.media().join(folder)).expect("the folder of a storage");
        }
        let (schema, rows, changes) = Default::default();
        Site { application, world, storages: storages.to_vec(), schema, rows, changes, files: BTreeMap::new() }
    }

    /// Statements that make tables, each with its `;`.
    pub fn schema(&mut self, sql: &str) {
        self.schema += sql;
    }

    /// A row. Values are texts; the database makes numbers of them where it wants some.
    pub fn row(&mut self, table: &str, values: &[(&str, &str)]) {
        self.rows += &insert(self.world.db.backend(), table, values);
    }

    /// A statement that the application runs after `attach`.
    pub fn later(&mut self, sql: &str) {
        self.changes += sql;
        self.changes += ";\n";
    }

    /// A row that the application writes after `attach`.
    pub fn later_row(&mut self, table: &str, values: &[(&str, &str)]) {
        self.changes += &insert(self.world.db.backend(), table, values);
    }

    /// A file that must be there at the end, and who needs it.
    pub fn stays(&mut self, file: &str, why: &'static str) {
        self.file(file, Fate::Stays, why);
    }

    /// A file that no row mentions, made of one that stays: a thumbnail, a size, the original that was there before.
    pub fn made(&mut self, file: &str, why: &'static str) {
        self.file(file, Fate::Made, why);
    }

    /// A file that nothing mentions at the end, and why.
    pub fn goes(&mut self, file: &str, why: &'static str) {
        self.file(file, Fate::Goes, why);
    }

    /// A file that may be there at the end, or not.
    pub fn either(&mut self, file: &str, why: &'static str) {
        self.file(file, Fate::Either, why);
    }

    fn file(&mut self, file: &str, fate: Fate, why: &'static str) {
        self.world.put_file(file, file.as_bytes());
        let before = self.files.insert(file.to_owned(), (fate, why));
        assert!(before.is_none(), "{file} is there twice");
    }

    /// Takes the site over, lets the application delete, sweeps, and insists that no file is lost.
    pub async fn taken_over(mut self) {
        let begin = if self.world.db.backend() == Backend::Sqlite { "begin" } else { "start transaction" };
        self.world.db.exec(&self.schema).await;
        self.world.db.exec(&format!("{begin};\n{}commit;", self.rows)).await;
        let mut owner = Owner::new(&mut self.world, &self.storages);
        owner.proposes().await;
        let mut attached = owner.attaches().await;
        self.world.db.exec(&format!("{begin};\n{}commit;", self.changes)).await;
        self.nothing_mentions_what_goes().await;
        for round in 0..3 {
            if !attached {
                break;
            }
            owner.collects().await;
            if round == 0 {
                for (name, folder) in &self.storages {
                    let listed = owner.rowbound.run(&["sweep", "--list", "--storage", name]).await;
                    owner.orphans.extend(listed.stdout.lines().map(|name| format!("{folder}/{name}")));
                }
            }
            owner.sweeps().await;
            owner.collects().await;
            // What stopped asks for another `attach`; what that does not change is not tried again.
            let asked = owner.asked.len();
            attached = owner.stopped && owner.attaches().await && owner.asked.len() > asked;
            owner.stopped = false;
        }
        self.is_whole(&owner);
    }

    /// Prints the line of the table, and insists that no file is lost.
    fn is_whole(&self, owner: &Owner) {
        let there = self.there();
        let all = |fate: Fate| self.files.iter().filter(move |(_, (f, _))| *f == fate).map(|(file, _)| file.as_str());
        let gone = |fate: Fate| -> Vec<_> { all(fate).filter(|file| !there.contains(*file)).collect() };
        let (lost, made) = (gone(Fate::Stays), gone(Fate::Made));
        let left: Vec<_> = all(Fate::Goes).filter(|file| there.contains(*file)).collect();
        let is = |file: &&str| self.files.get(*file).is_some_and(|(fate, _)| matches!(fate, Fate::Stays | Fate::Made));
        let orphans: Vec<_> = owner.orphans.iter().map(String::as_str).filter(is).collect();
        // One row of `| layout | database | init | attach | held or asked | lost | left |`.
        let holds = owner.said.iter().any(|line| line.starts_with("held"));
        println!(
            "| {} | {} | {}: {} bound, {} unsure | {} | {} asked{} | {} of {} files, and {} made of others | {} of {} |",
            self.application,
            self.world.db.backend(),
            owner.init,
            owner.bound,
            owner.unsure,
            owner.attach.join(", "),
            owner.asked.len(),
            if holds { ", some files held" } else { "" },
            lost.len(),
            self.files.len(),
            made.len(),
            left.len(),
            all(Fate::Goes).count(),
        );
        println!("    status  collect {}; sweep {}", owner.collect.join(", "), owner.sweep.join(", "));
        println!("    {} files that stay were orphans to the first sweep", orphans.len());
        owner.asked.iter().for_each(|line| println!("    asked   {line}"));
        owner.said.iter().take(12).for_each(|line| println!("    said    {line}"));
        let show = |what: &str, files: &[&str]| {
            let lines = self.by_reason(files);
            lines.iter().for_each(|line| println!("    {what:7} {line}"));
            lines
        };
        show("orphan", &orphans);
        show("left", &left);
        let reasons = [show("LOST", &lost), show("LOST", &made)].concat();
        if std::env::var_os("ROWBOUND_TELL").is_some() {
            println!("{}\n{}", owner.told.join("\n---\n"), fs::read_to_string(&owner.config).unwrap_or_default());
        }
        assert!(reasons.is_empty(), "{}: files are lost:\n{}", self.application, reasons.join("\n"));
        // Where nothing is attached nothing can be lost.
        let attached = owner.attach.last().map(String::as_str);
        assert_eq!(attached, Some("0"), "{} is not attached:\n{}", self.application, owner.asked.join("\n"));
    }

    /// Every file of the site, but Rowbound's own.
    fn there(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.world.media()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of the site") {
                let path = entry.expect("an entry of a folder").path();
                if path.is_dir() && path.file_name().is_some_and(|name| name != RESERVED) {
                    folders.push(path);
                } else if path.is_file() {
                    found.insert(path.strip_prefix(self.world.media()).expect("below the site").display().to_string());
                }
            }
        }
        found
    }

    /// A line for each reason: how many files, which it is, and one of them.
    fn by_reason(&self, files: &[&str]) -> Vec<String> {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for file in files {
            reasons.entry(self.files[*file].1).or_default().push(file);
        }
        reasons.iter().map(|(why, files)| format!("{} x {why}, such as {}", files.len(), files[0])).collect()
    }

    /// The replica itself may be wrong: no value holds the last part of a name that is to go.
    async fn nothing_mentions_what_goes(&self) {
        let db = &self.world.db;
        let quote = |name: &str| db.backend().quote(name);
        let columns = match db.backend() {
            Backend::Sqlite => {
                "select m.name || char(31) || c.name from sqlite_master m,
                    pragma_table_info(m.name) c where m.type = 'table' and m.name not like 'rowbound%'"
            }
            Backend::Postgres => {
                "select table_name || chr(31) || column_name from information_schema.columns where table_schema = 'public'"
            }
            _ => {
                "select concat(table_name, char(31 using utf8mb4), column_name) from information_schema.columns
                 where table_schema = database() and table_name not like 'rowbound%'"
            }
        };
        let mut all = String::new();
        for column in db.query_strings(columns).await.into_iter().flatten() {
            let (table, column) = column.split_once('\u{1f}').expect("the separator is in the query");
            for value in db.query_strings(&format!("select {} from {}", quote(column), quote(table))).await.into_iter().flatten() {
                all.push_str(&value);
                all.push('\n');
            }
        }
        for (file, (fate, why)) in &self.files {
            let last = file.rsplit('/').next().unwrap_or(file);
            assert!(*fate != Fate::Goes || !all.contains(last), "{file} is to go ({why}), and a row mentions it");
        }
    }
}

/// Somebody who takes a site over: believes what `init` proposes, and does what `attach` asks for.
struct Owner {
    rowbound: Rowbound,
    config: PathBuf,
    database: String,
    /// NAME=URL of each storage.
    storages: Vec<String>,
    init: String,
    bound: usize,
    unsure: usize,
    attach: Vec<String>,
    collect: Vec<String>,
    sweep: Vec<String>,
    /// What `attach` asked for.
    asked: Vec<String>,
    /// What `collect` and `sweep` held or refused.
    said: Vec<String>,
    /// Whether one of them stopped.
    stopped: bool,
    /// What the first sweep takes for orphans.
    orphans: Vec<String>,
    /// All that was printed.
    told: Vec<String>,
}

impl Owner {
    fn new(world: &mut World, storages: &[(&str, &str)]) -> Owner {
        // The world's own plan gives way to the proposal.
        world.bindings.push(Binding::name("a.b", "default").expect("a column"));
        let rowbound = Rowbound::new(BINARY, world)
            .env("DATABASE_URL", world.db.url())
            .env("ROWBOUND_STATE", &world.folder().join("state").display().to_string());
        let config = world.folder().join(rowbound::plan::FILE);
        fs::remove_file(&config).expect("the plan of the world");
        let storages = storages.iter().map(|(name, folder)| format!("{name}=folder:{}", world.media().join(folder).display()));
        Owner {
            rowbound,
            config,
            database: world.db.url().to_owned(),
            storages: storages.collect(),
            init: String::new(),
            bound: 0,
            unsure: 0,
            attach: Vec::new(),
            collect: Vec::new(),
            sweep: Vec::new(),
            asked: Vec::new(),
            said: Vec::new(),
            stopped: false,
            orphans: Vec::new(),
            told: Vec::new(),
        }
    }

    async fn run(&mut self, args: &[&str]) -> Output {
        let output = self.rowbound.run(args).await;
        self.told.push(format!("$ rowbound {}\n{}{}", args.join(" "), output.stdout, output.stderr));
        self.stopped |= output.code == Some(4);
        output
    }

    /// `init` with these arguments.
    async fn init(&mut self, more: &[&str]) -> Output {
        let (database, storages) = (self.database.clone(), self.storages.clone());
        let storages = storages.iter().flat_map(|storage| ["--storage", storage]);
        let args: Vec<_> = ["init", "--database", &database].into_iter().chain(storages).chain(more.iter().copied()).collect();
        self.run(&args).await
    }

    /// Takes the proposal as it is, and adds the only two settings that it does not have: what was uploaded a moment
    /// ago is old enough, and what was released is due.
    async fn proposes(&mut self) {
        self.init = status(&self.init(&[]).await);
        let text = self.config();
        let timed = text.lines().map(|line| match line.starts_with("[storage.") {
            true => format!("{line}\ngrace = \"0\"\nmin_age = \"0\"\n"),
            false => format!("{line}\n"),
        });
        fs::write(&self.config, timed.collect::<String>()).expect("rowbound.toml");
        self.bound = text.lines().filter(|line| ["[[binding]]", "[[reference]]"].contains(line)).count();
        self.unsure = text.split("\n\n").filter(|part| column_of(part, "# ").is_some()).count();
    }

    /// Attaches, and does what it asks for: binds columns as the proposal has them in comments, or as a new one does.
    async fn attaches(&mut self) -> bool {
        let named = regex::Regex::new(r"column: (.+?): (?:all|\d+ of) ").expect("a pattern");
        for _ in 0..20 {
            let output = self.run(&["attach"]).await;
            self.attach.push(status(&output));
            if output.code == Some(0) {
                self.stopped = false;
                return true;
            }
            let mut columns: Vec<_> = named.captures_iter(&output.stderr).map(|found| found[1].to_owned()).collect();
            if output.stderr.contains("no binding") {
                columns.extend(self.config().split("\n\n").filter_map(|part| column_of(part, "# ")));
            }
            columns.sort_unstable();
            columns.dedup();
            let asked = self.asked.len();
            for column in columns {
                if self.binds(&column).await {
                    self.asked.push(format!("{column}: bound as proposed"));
                }
            }
            if self.asked.len() == asked {
                self.asked.extend(output.stderr.lines().map(str::to_owned));
                return false;
            }
        }
        false
    }

    async fn collects(&mut self) {
        let output = self.run(&["collect", "--wait", "60s", "--patience", "20s"]).await;
        self.collect.push(status(&output));
        self.hears(&output, &["refused", "held"]);
    }

    async fn sweeps(&mut self) {
        let output = self.run(&["sweep", "--delete"]).await;
        self.sweep.push(status(&output));
        self.hears(&output, &["stopped", "held", "mentioned"]);
    }

    fn hears(&mut self, output: &Output, words: &[&str]) {
        let lines = output.stdout.lines().chain(output.stderr.lines());
        // The trash is not what is meant.
        let lines = lines.filter(|line| !line.contains("is held until"));
        let told = lines.filter(|line| line.starts_with("error") || words.iter().any(|word| line.contains(word)));
        self.said.extend(told.map(|line| line.trim().chars().take(240).collect::<String>()));
    }

    fn config(&self) -> String {
        fs::read_to_string(&self.config).unwrap_or_default()
    }

    /// Takes the comments away from the bindings of a column, or adds what `init` proposes now.
    async fn binds(&mut self, column: &str) -> bool {
        let text = self.config();
        let is_its = |part: &&str, mark: &str| column_of(part, mark).as_deref() == Some(column);
        if text.split("\n\n").any(|part| is_its(&part, "# ")) {
            let parts = text.split("\n\n").map(|part| if is_its(&part, "# ") { uncommented(part) } else { part.to_owned() });
            fs::write(&self.config, parts.collect::<Vec<_>>().join("\n\n")).expect("rowbound.toml");
            return true;
        }
        if text.split("\n\n").any(|part| is_its(&part, "")) {
            return false;
        }
        let now = self.init(&["--output", "-"]).await.stdout;
        let parts: Vec<_> = now.split("\n\n").filter(|part| is_its(part, "# ") || is_its(part, "")).map(uncommented).collect();
        fs::write(&self.config, format!("{text}\n{}\n", parts.join("\n\n"))).expect("rowbound.toml");
        !parts.is_empty()
    }
}

/// The column that a part of a proposal binds, behind `mark` on each line.
fn column_of(part: &str, mark: &str) -> Option<String> {
    let begin = format!("{mark}column = ");
    let value = part.lines().find_map(|line| line.strip_prefix(&begin))?;
    // TOML has two kinds of quotes.
    let column = match value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        Some(text) => text.to_owned(),
        None => serde_json::from_str(value).ok()?,
    };
    // What `init` shows where it found nothing.
    (column != "table.column").then_some(column)
}

/// A binding without the comments before its lines.
fn uncommented(part: &str) -> String {
    let begin = part.find("# [[").or_else(|| part.find("[[")).unwrap_or(0);
    part[begin..].lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn insert(backend: Backend, table: &str, values: &[(&str, &str)]) -> String {
    let columns: Vec<_> = values.iter().map(|(column, _)| backend.quote(column)).collect();
    let literals: Vec<_> = values.iter().map(|(_, value)| backend.literal(value)).collect();
    format!("insert into {} ({}) values ({});\n", backend.quote(table), columns.join(", "), literals.join(", "))
}

fn status(output: &Output) -> String {
    output.code.map_or_else(|| "killed".to_owned(), |code| code.to_string())
}

/// `length` hexadecimal digits that no other number has: a hash, a key, a piece of a UUID.
pub fn hex(number: u64, length: usize) -> String {
    let mut text = String::new();
    let mut state = number.wrapping_add(1);
    while text.len() < length {
        // SplitMix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        text += &format!("{:016x}", z ^ (z >> 31));
    }
    text.truncate(length);
    text
}

/// A UUID of the fourth version.
pub fn uuid(number: u64) -> String {
    let h = hex(number, 32);
    format!("{}-{}-4{}-a{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..])
}

/// As `encodeURIComponent` and `urllib.parse.quote` write it, slashes excepted.
pub fn encoded(path: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    path.bytes().map(byte).collect()
}

/// A value as PHP's `serialize()` writes it.
pub fn php(value: &Value) -> String {
    let text = |text: &str| format!("s:{}:\"{text}\";", text.len());
    let list = |items: Vec<String>| format!("a:{}:{{{}}}", items.len(), items.concat());
    match value {
        Value::String(s) => text(s),
        Value::Object(fields) => list(fields.iter().map(|(key, field)| text(key) + &php(field)).collect()),
        Value::Array(items) => list(items.iter().enumerate().map(|(i, item)| format!("i:{i};{}", php(item))).collect()),
        Value::Bool(b) => format!("b:{};", u8::from(*b)),
        Value::Number(n) => format!("i:{n};"),
        Value::Null => "N;".to_owned(),
    }
}

/// Names that people give to files, and that a reader of URLs misreads where they stand as they are.
pub const ODD: [&str; 8] = [
    "100% cotton.jpg",
    "C# notes.pdf",
    "what?.png",
    "a%20b.png",
    "one+one.jpg",
    "summer holiday.jpg",
    "M\u{fc}ller.jpg",
    "Mu\u{308}ller, again.jpg",
];
