//! A proposal as the text of `rowbound.toml`.

use super::{Proposal, Proposed};
use crate::evidence::Reading;

impl Proposal {
    /// The proposal as the text of `rowbound.toml`. `database` and the storages' URLs stand in it as they are.
    pub fn toml(&self, database: &str, storages: &[(String, String)]) -> String {
        let mut out = String::from(
            "# Proposed by `rowbound init`: a proposal from samples. Read it, complete it, then `rowbound attach`; until then nothing is changed.\n",
        );
        out += &format!("# {} text columns have values; a column counts where sampled values are files of a storage.\n", self.looked);
        for (name, says) in &self.frameworks {
            out += &format!("# {name}: {says}.\n");
        }
        out += &format!("\ndatabase = {}\n", text(database));
        if !self.ignore.is_empty() {
            out += "# Columns that repeat names without needing the files.\nignore = [\n";
            for i in &self.ignore {
                out += &format!("    {}, # {}\n", text(&i.column), i.why);
            }
            out += "]\n";
        }
        for (name, url) in storages {
            out += &format!("\n[storage.{}]\nurl = {}\n", key(name), text(url));
            for m in self.misplaced.iter().filter(|m| m.storage == *name) {
                let url = m.url.as_ref().map_or(String::new(), |url| format!(": url = {}", text(url)));
                out +=
                    &format!("# The files of {} lie in its folder {:?}: the storage begins one folder too high{url}\n", m.column, m.folder);
            }
            if self.bare.contains(name) {
                out += "# No column references a file of it: bind one, or take the storage out. A sweep leaves it alone until then.\n";
            }
            if let Some(patterns) = self.housekeeping.get(name) {
                let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
                out += &format!("ignore = {} # servers, editors and repositories left these\n", list(&patterns));
            }
        }
        for p in &self.bindings {
            out += "\n";
            out += &p.toml("");
        }
        if !self.unsure.is_empty() {
            out += "\n# Undecided. `rowbound attach` refuses until each of these is bound (uncomment it) or listed in `ignore` above.\n";
            for p in &self.unsure {
                out += "\n";
                out += &p.toml("# ");
            }
        }
        let mut section = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                out += &format!("\n# {title}\n");
                for item in &items {
                    out += &format!("#   {item}\n");
                }
            }
        };
        section(
            "These look as if they referenced files, but no storage above has one of them. Are they elsewhere? Then nothing here touches them.",
            self.elsewhere.iter().map(|(column, value)| format!("{column}: {value:?}")).collect(),
        );
        section(
            "Files end like these values: the application puts the rest of their names before it. Bind such a column with a query that builds the names\n\
             # ([[reference]], see docs/bindings.md); until then no row of it holds a file.",
            self.composed.iter().map(|c| format!("{}: {:?}, and storage {} has {:?}", c.column, c.value, c.storage, c.file)).collect(),
        );
        section("These have no value yet, but their names speak of files. Bind those that will name some.", self.empty.clone());
        section(
            "These were not looked at.",
            self.unread.iter().map(|(column, why)| format!("{column}: {}", why.replace('\n', " "))).collect(),
        );
        if self.bindings.is_empty() && self.unsure.is_empty() {
            out += "\n# No column names a file of these storages. Is it the right database, and are the storages' urls the folders\n\
                    # that the names are relative to? A binding looks like this:\n# [[binding]]\n# column = \"table.column\"\n";
        }
        out
    }
}

impl Proposed {
    fn toml(&self, mark: &str) -> String {
        let e = &self.evidence;
        let mut lines = vec![format!(
            "# {}{} reference files of {}, such as {}",
            e.share(),
            if e.partial { ", of a table that was not read whole," } else { "" },
            e.storage,
            e.example(),
        )];
        lines.extend(self.doubts.iter().map(|d| format!("# unsure: {d}")));
        lines.extend(self.notes.iter().map(|n| format!("# note: {n}")));
        let mut fields = vec!["[[binding]]".to_owned(), format!("column = {}", text(&e.column.column.to_string()))];
        if e.storage != "default" {
            fields.push(format!("storage = {}", text(&e.storage)));
        }
        let prefixes = || list(&e.prefixes.iter().map(String::as_str).collect::<Vec<_>>());
        match e.reading {
            Reading::Name => {}
            Reading::Url => {
                fields.push("kind = \"url\"".to_owned());
                match e.raw {
                    true => {
                        fields.push(format!("strip = {} # the names stand behind it as they are, and are not percent-encoded", prefixes()))
                    }
                    false => fields.push(format!("prefix = {}", prefixes())),
                }
            }
            Reading::Key => fields.push("kind = \"active-storage-key\"".to_owned()),
            Reading::Json => {
                fields.push("kind = \"json\"".to_owned());
                let path = self.path.as_deref().unwrap_or("$[*]");
                if e.paths.len() > 1 {
                    lines.push(format!("# the names stand at {}", e.paths.join(", ")));
                }
                // Any mention in a value holds a file, whatever the path; only what it leads to is released.
                fields.push(format!("path = {}", text(path)));
                if !e.prefixes.is_empty() {
                    fields.push(format!("prefix = {}", prefixes()));
                }
            }
            Reading::Array => fields.push("kind = \"array\"".to_owned()),
            Reading::Text => {
                fields.push("kind = \"text\"".to_owned());
                if !e.prefixes.is_empty() {
                    fields.push(format!("prefix = {}", prefixes()));
                }
            }
        }
        if let Some((column, keys)) = &self.only {
            match keys.as_slice() {
                // Written down, it would release what another row references that no sample showed.
                [one] => lines.push(format!(
                    "# if no other rows of it reference files, add this line: their values are released as names, too, and end as `missing`\n# where = {{ {} = {} }}",
                    key(column),
                    text(one)
                )),
                several => lines.push(format!("# it references files in the rows whose {column} is {}", several.join(", "))),
            }
        }
        if !self.keep.is_empty() {
            fields.push(format!("keep = {}", list(&self.keep.iter().map(String::as_str).collect::<Vec<_>>())));
        }
        if !self.derivatives.is_empty() {
            fields.push(format!("derivatives = {}", list(&self.derivatives)));
        }
        let fields = fields.into_iter().map(|f| format!("{mark}{f}"));
        lines.into_iter().chain(fields).map(|l| l + "\n").collect()
    }
}

/// A list of strings, or the only one.
fn list(items: &[&str]) -> String {
    match items {
        [one] => text(one),
        many => format!("[{}]", many.iter().map(|i| text(i)).collect::<Vec<_>>().join(", ")),
    }
}

/// A string of TOML in which `${` means itself.
fn text(value: &str) -> String {
    toml::Value::from(value.replace("${", "$${")).to_string()
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { text(name) }
}
