//! Printing: text for people, JSON for programs, errors with their hints.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use rowbound::{Error, Kind, Result};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::args::Format;

/// Prints `value` as JSON, or what `text` writes. A closed pipe is a normal end.
pub fn answer<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
    let out = match format {
        Format::Json => {
            serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Config, "the answer cannot be written as JSON").because(e))?
        }
        Format::Text | Format::Csv => text(value).trim_end().to_owned(),
    };
    print(&out)
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

/// Prints an error and its hint on stderr; with `--format json` as an object.
pub fn error(e: &Error, format: Format) {
    if format == Format::Json {
        let value = serde_json::json!({ "error": { "kind": e.kind(), "message": e.full(), "hint": e.hint_text() } });
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
    eprintln!("{}: {}", red("error"), e.full());
    if let Some(hint) = e.hint_text() {
        eprintln!("  hint: {hint}");
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

/// Text that is safe on a terminal: control characters are escaped.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The widest name that a text shows whole, in columns of a terminal.
const NAME: usize = 80;

/// A name as a text for people shows it: safe on a terminal, and cut in the middle where it is wider than a line, so that one long name does not pad the lines
/// of all others. JSON has it whole.
pub fn name(name: &str) -> String {
    let text = safe(name);
    if text.width() <= NAME {
        return text;
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
    let begin = fitting(&mut text.chars(), NAME / 3);
    let end = fitting(&mut text.chars().rev(), NAME - 1 - begin.width());
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
    fn columns_are_as_wide_as_they_are_seen() {
        let rows = [vec!["\u{732b}\u{732b}".to_owned(), "b".to_owned()], vec!["aaaa".to_owned(), "b".to_owned()]];
        assert_eq!(table(&rows, 0), "\u{732b}\u{732b}  b\naaaa  b\n");
    }
}
