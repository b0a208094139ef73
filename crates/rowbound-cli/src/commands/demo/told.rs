//! What a step came to: compared with the table, and shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::story::Act;
use crate::output;

/// A step that was told.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Its number, from 1.
    pub step: usize,
    /// What it is about.
    pub title: &'static str,
    /// What was done.
    pub done: Vec<String>,
    /// What the table says.
    pub expected: State,
    /// What is.
    pub found: State,
    /// For people: name, size, rows.
    #[serde(skip)]
    pub lines: Vec<Vec<String>>,
}

/// What is compared after a step.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// What the collector said.
    pub collected: String,
    /// The names that rows hold.
    pub rows: BTreeSet<String>,
    /// The files in the folder.
    pub folder: BTreeSet<String>,
    /// Those whose bytes are not what was uploaded last under their name.
    pub altered: BTreeSet<String>,
    /// Candidates left in the queue.
    pub waiting: u64,
}

impl Told {
    /// Whether everything is as the table says.
    pub fn good(&self) -> bool {
        self.expected == self.found
    }

    /// The step for people.
    pub fn text(&self, colours: bool) -> String {
        let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let mut out = format!("{} {}\n", paint("1;36", &format!("{:>2}", self.step)), paint("1", self.title));
        for done in &self.done {
            out.push_str(&format!("     {}\n", paint("2", &done.replace('\n', "\n       "))));
        }
        out.push_str(&format!("     {} {}\n", paint("2", "collect:"), self.found.collected));
        if self.good() {
            out.push_str(&output::table(&self.lines, 7));
            if self.lines.is_empty() {
                out.push_str("       no row references a file, and the folder is empty\n");
            }
            out.push_str(&format!("     {}\n", paint("32", "as expected")));
            return out;
        }
        out.push_str(&format!("     {}\n", paint("1;31", "NOT AS EXPECTED")));
        let (e, f) = (&self.expected, &self.found);
        let said = |n: &u64| n.to_string();
        for (what, expected, found) in [
            ("collector", e.collected.clone(), f.collected.clone()),
            ("rows", list(&e.rows), list(&f.rows)),
            ("folder", list(&e.folder), list(&f.folder)),
            ("altered", list(&e.altered), list(&f.altered)),
            ("waiting", said(&e.waiting), said(&f.waiting)),
        ] {
            let mark = if expected == found { " " } else { "!" };
            if expected == found && !matches!(what, "rows" | "folder") {
                continue;
            }
            out.push_str(&format!("     {mark} {what:<9}  expected  {expected}\n                  found     {found}\n"));
        }
        out
    }
}

/// A line per name: the file's size, and the rows that reference it.
pub fn lines(rows: &BTreeMap<String, Vec<String>>, folder: &BTreeMap<String, Vec<u8>>) -> Vec<Vec<String>> {
    let names: BTreeSet<&String> = rows.keys().chain(folder.keys()).collect();
    let size = |name: &String| folder.get(name).map_or("NO FILE".to_owned(), |bytes| output::bytes(bytes.len() as u64));
    let holders = |name: &String| rows.get(name).map_or("no row".to_owned(), |rows| rows.join(", "));
    names.into_iter().map(|name| vec![name.clone(), size(name), holders(name)]).collect()
}

/// Up to eight names.
fn list(names: &BTreeSet<String>) -> String {
    let mut said: Vec<String> = names.iter().take(8).cloned().collect();
    if names.len() > 8 {
        said.push(format!("and {} more", names.len() - 8));
    }
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// What an act does, as a person would write it.
pub fn say(act: &Act) -> String {
    match act {
        Act::Upload(name, _) => format!("upload {name}"),
        Act::UploadMany(prefix, n) => format!("upload {prefix}1.jpg .. {prefix}{n}.jpg"),
        Act::Sql(statement) => format!("{statement};"),
        Act::Other(statement) => format!("sqlite3 db.sqlite3 \"{statement}\""),
        Act::Restore(name) => format!("rowbound restore {name}"),
        Act::Kill(_) => "rowbound collect --batch 10 & kill -9 $!".to_owned(),
    }
}
