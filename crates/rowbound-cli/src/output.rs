//! Printing: text for people, JSON for programs, errors with their hints.

use std::{
    io::{IsTerminal, Write},
    os::fd::AsFd,
};

use jiff::Timestamp;
use rowbound::{Error, Kind, Result};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::args::{Format, Named};

/// Prints `value` as JSON, or what `text` writes, whose lines are wrapped to the terminal. A closed pipe is a normal end.
pub fn answer<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
    let width = columns();
    verbatim(format, value, |value| text(value).lines().map(|line| wrapped(line, hang(line), width)).collect())
}

/// The same for a text that is data itself, such as SQL: its lines stay as they are.
pub fn verbatim<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
    let out = match format {
        Format::Json => {
            serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Config, "the answer cannot be written as JSON").because(e))?
        }
        Format::Text | Format::Csv => text(value).trim_end().to_owned(),
    };
    print(&out)
}

/// The columns of the terminal that standard output is; `None` where it is none: a pipe and a file get whole lines.
pub fn columns() -> Option<usize> {
    width(&std::io::stdout())
}

/// The columns of a terminal, at least 40.
pub fn width(stream: &(impl AsFd + IsTerminal)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let asked = rustix::termios::tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    // A terminal that does not know its size; shells keep it in a variable of their own, and export that only if they are told to.
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    Some(asked).filter(|n| *n > 0).or_else(said).map(|n: usize| n.max(40))
}

/// Where a line that is too long goes on: beneath its last column, if it has columns, which two blanks divide.
fn hang(line: &str) -> usize {
    let indent = line.len() - line.trim_start().len();
    let mut last = indent + 2;
    let mut width = 0;
    let mut blanks = 0;
    for c in line.chars() {
        if c != ' ' && blanks >= 2 && width > indent && width <= 40 {
            last = width;
        }
        blanks = if c == ' ' { blanks + 1 } else { 0 };
        width += c.width().unwrap_or(0);
    }
    last
}

/// A line with its newline, wrapped at blanks where it is wider than `width`; what follows is indented by `hang`. A word that is wider than a line is parted, after a
/// slash or a comma if it has some.
pub fn wrapped(line: &str, hang: usize, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| line.width() > *width) else { return format!("{line}\n") };
    let hang = hang.min(width / 2);
    let mut out = String::new();
    let mut at = line.len() - line.trim_start().len();
    out.push_str(&" ".repeat(at));
    let mut begun = false;
    let next = |out: &mut String, at: &mut usize| {
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
        out.push_str(&" ".repeat(hang));
        *at = hang;
    };
    let mut blanks = 0;
    for word in line.trim_start().split(' ') {
        if word.is_empty() {
            blanks += 1;
            continue;
        }
        let parts: Vec<&str> = if word.width() > width - hang { word.split_inclusive(['/', ',', '&']).collect() } else { vec![word] };
        for (i, part) in parts.into_iter().enumerate() {
            let between = if i == 0 && begun { blanks + 1 } else { 0 };
            if begun && at + between + part.width() > width {
                next(&mut out, &mut at);
            } else {
                out.push_str(&" ".repeat(between));
                at += between;
            }
            for c in part.chars() {
                let wide = c.width().unwrap_or(0);
                if at + wide > width {
                    next(&mut out, &mut at);
                }
                out.push(c);
                at += wide;
            }
            begun = true;
        }
        blanks = 0;
    }
    out.push('\n');
    out
}

/// Who or what something is said of: all of a few; of many the first three and how many more.
pub fn listed(subjects: &[&str]) -> String {
    match subjects {
        [first, second, third, _, _, ..] => format!("{first}, {second}, {third} and {} more", subjects.len() - 3),
        few => few.join(", "),
    }
}

/// Equal items once each, in the order in which they came first, with all that they were said of.
pub fn grouped<'a, K: PartialEq>(items: impl IntoIterator<Item = (K, &'a str)>) -> Vec<(K, Vec<&'a str>)> {
    let mut groups: Vec<(K, Vec<&str>)> = Vec::new();
    for (item, subject) in items {
        match groups.iter_mut().find(|(known, _)| *known == item) {
            Some((_, subjects)) => subjects.push(subject),
            None => groups.push((item, vec![subject])),
        }
    }
    groups
}

/// Prints one text on stdout, with a newline.
pub fn print(text: &str) -> Result<()> {
    raw(&format!("{text}\n"))
}

/// Prints a text on stdout as it is. A closed pipe is a normal end.
pub fn raw(text: &str) -> Result<()> {
    match write!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::new(Kind::Config, "cannot write to stdout").because(e)),
        _ => Ok(()),
    }
}

/// Prints an error, the database that it is about and its hint on stderr; with `--format json` as an object.
pub fn error(e: &Error, database: Option<&Named>, format: Format) {
    let database = database.map(|named| (rowbound::database::redact(&named.url), &named.by));
    if format == Format::Json {
        let database = database.map(|(url, by)| serde_json::json!({ "url": url, "named_by": by }));
        let value = serde_json::json!({ "error": { "kind": e.kind(), "message": e.full(), "hint": e.hint_text(), "database": database } });
        eprintln!("{value}");
        return;
    }
    let red = |text: &str| {
        if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            format!("\x1b[1;31m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let width = width(&std::io::stderr());
    // Wrapped without its colour, which has no width.
    let text: String = format!("error: {}", e.full()).lines().map(|line| wrapped(&safe(line), 7, width)).collect();
    eprint!("{}{}", red("error"), text.strip_prefix("error").unwrap_or(&text));
    if let Some((url, by)) = database {
        eprint!("{}", wrapped(&format!("  database: {url}, named by {by}"), 12, width));
    }
    if let Some(hint) = e.hint_text() {
        eprint!("{}", wrapped(&safe(&format!("  hint: {hint}")), 8, width));
    }
}

/// Prints something worth knowing on stderr; with `--format json` as an object on a line of its own.
pub fn note(text: &str, format: Format) {
    match format {
        Format::Json => eprintln!("{}", serde_json::json!({ "note": { "message": text } })),
        Format::Text | Format::Csv => eprint!("{}", wrapped(&format!("note: {text}"), 6, width(&std::io::stderr()))),
    }
}

/// A size for people: `812 B`, `3.4 MB` (powers of 1,000, as storages bill).
pub fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// So many files.
pub fn files(n: u64) -> String {
    if n == 1 { "1 file".to_owned() } else { format!("{n} files") }
}

/// A moment for people, to the second, UTC.
pub fn moment(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A length of time for people: its two largest units.
pub fn length(seconds: u64) -> String {
    rowbound::clock::spoken(std::time::Duration::from_secs(seconds))
}

/// Text that is safe on a terminal: control characters are escaped, and those that turn the direction of what follows (CVE-2021-42574).
pub fn safe(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The widest name that a text shows whole, in columns of a terminal.
const NAME: usize = 80;

/// A name as a text for people shows it: safe on a terminal, and cut in the middle where it is wider than a line, so that one long name does not pad the lines
/// of all others. JSON has it whole.
pub fn name(name: &str) -> String {
    cut(&safe(name), columns().map_or(NAME, |columns| NAME.min(columns - 4)))
}

/// A text that is cut in the middle where it is wider than `most`.
pub fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let fitting = |chars: &mut dyn Iterator<Item = char>, most: usize| {
        let mut width = 0;
        let fits = chars.take_while(|c| {
            width += c.width().unwrap_or(0);
            width <= most
        });
        fits.collect::<String>()
    };
    // The end tells more: it is the file's own name.
    let begin = fitting(&mut text.chars(), most / 3);
    let end = fitting(&mut text.chars().rev(), most - 1 - begin.width());
    format!("{begin}\u{2026}{}", end.chars().rev().collect::<String>())
}

/// A table with columns as wide as needed; the last one is not padded.
pub fn table(rows: &[Vec<String>], indent: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width: Vec<usize> = (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| s.width()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, s)| if c + 1 == row.len() { s.clone() } else { format!("{s}{}", " ".repeat(width[c] - s.width())) })
            .collect();
        out.push_str(&" ".repeat(indent));
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The same within `width`. Where it is wider, the last column stands beneath its row, and the one before it, a name, is cut.
pub fn table_in(width: Option<usize>, mut rows: Vec<Vec<String>>, indent: usize) -> String {
    let whole = table(&rows, indent);
    let Some(width) = width.filter(|width| whole.lines().any(|line| line.width() > *width)) else { return whole };
    let beneath = indent + 4;
    let last: Vec<Option<String>> = rows.iter_mut().map(Vec::pop).collect();
    let names: Vec<Option<String>> = rows.iter_mut().map(Vec::pop).collect();
    let before = table(&rows, indent).lines().map(UnicodeWidthStr::width).max().unwrap_or(0) + 2;
    for (row, name) in rows.iter_mut().zip(names) {
        row.push(cut(&name.unwrap_or_default(), width.saturating_sub(before).max(20)));
    }
    let lines = table(&rows, indent);
    let why = last.into_iter().map(|why| wrapped(&format!("{:beneath$}{}", "", why.unwrap_or_default()), beneath, Some(width)));
    lines.lines().zip(why).map(|(line, why)| format!("{line}\n{why}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lengths_read_well() {
        for (n, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (999_950, "1.0 MB"), (u64::MAX, "18446.7 PB")]
        {
            assert_eq!(bytes(n), text);
        }
        for (n, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h")] {
            assert_eq!(length(n), text);
        }
        assert_eq!(safe("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(safe("a\u{202e}gpj.exe é"), "a\\u{202e}gpj.exe é");
    }

    #[test]
    fn a_long_name_is_cut_in_the_middle() {
        let fits = "x".repeat(NAME);
        assert_eq!(name(&fits), fits);
        let long = format!("photos/{}/cat.jpg", "a".repeat(1_000));
        assert_eq!(name(&long).width(), NAME);
        assert!(name(&long).starts_with("photos/aa") && name(&long).ends_with("aa/cat.jpg"), "{}", name(&long));
        // Characters of two columns, and what a terminal would obey.
        let wide = format!("{}\x1b/\u{732b}.jpg", "\u{732b}".repeat(100));
        assert!((NAME - 1..=NAME).contains(&name(&wide).width()), "{}", name(&wide));
        assert!(name(&wide).ends_with("\\u{1b}/\u{732b}.jpg"), "{}", name(&wide));
    }

    #[test]
    fn a_table_that_is_too_wide_has_its_last_column_beneath() {
        let row = |name: &str, why: &str| ["2026-11-21 10:00:00Z", "trashed", "1 B", name, why].map(str::to_owned).to_vec();
        let short = vec![row("a.jpg", "delete of row 1")];
        assert_eq!(table_in(Some(80), short.clone(), 0), table(&short, 0));
        let long = vec![row(&"a/".repeat(60), "delete of row 1 in doc.file"), row("b.jpg", &"why ".repeat(40))];
        let text = table_in(Some(80), long, 0);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains('\u{2026}') && lines[1] == format!("{:4}delete of row 1 in doc.file", ""), "{text}");
        assert!(lines[2].ends_with("  1 B  b.jpg") && lines.len() > 5, "{text}");
    }

    #[test]
    fn lines_are_wrapped_beneath_their_last_column() {
        let wrap = |line: &str| wrapped(line, hang(line), Some(40));
        let long = "warning   a.b: one two three four five six seven eight nine ten";
        assert_eq!(wrap(long), "warning   a.b: one two three four five\n          six seven eight nine ten\n");
        assert_eq!(
            wrap("          one two three four five six seven eight"),
            "          one two three four five six\n            seven eight\n"
        );
        assert_eq!(wrap("short  line"), "short  line\n");
        assert_eq!(wrapped(long, 10, None), format!("{long}\n"));
        // A word that no line holds.
        let path = format!("see {}", "folder/".repeat(12));
        assert!(wrap(&path).lines().all(|line| line.width() <= 40 && line.ends_with('/')), "{}", wrap(&path));
        let solid = "x".repeat(100);
        assert!(wrap(&solid).lines().all(|line| line.width() <= 40), "{}", wrap(&solid));
        assert_eq!(wrap(&solid).chars().filter(|c| *c == 'x').count(), 100);
        let wide = "\u{732b}".repeat(60);
        assert!(wrap(&wide).lines().all(|line| line.width() <= 40), "{}", wrap(&wide));
    }

    #[test]
    fn equal_items_stand_once() {
        let groups = grouped([("x", "a"), ("y", "b"), ("x", "c")]);
        assert_eq!(groups, [("x", vec!["a", "c"]), ("y", vec!["b"])]);
        assert_eq!(listed(&["a", "b", "c", "d"]), "a, b, c, d");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn columns_are_as_wide_as_they_are_seen() {
        let rows = [vec!["\u{732b}\u{732b}".to_owned(), "b".to_owned()], vec!["aaaa".to_owned(), "b".to_owned()]];
        assert_eq!(table(&rows, 0), "\u{732b}\u{732b}  b\naaaa  b\n");
    }
}
