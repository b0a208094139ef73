//! A column's name, as it is written and shown.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// A table's column: `[schema.]table.column`. A part that holds a dot is written in double quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column {
    /// The schema (PostgreSQL) or database (MySQL); `None` takes the connection's own.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
}

impl Column {
    /// Reads `[schema.]table.column`.
    ///
    /// # Errors
    /// [`Kind::Config`] when there are not two or three parts, or a part is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Kind::Config, format!("`column` {why}"))
                .with("column", format_args!("{text:?}"))
                .hint("write it as `table.column` or `schema.table.column`; quote a part that holds a dot: `\"my.table\".image`")
        };
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
                // A doubled quote inside stands for one, as in SQL.
                let mut part = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next() {
                        Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                            chars.next();
                            part.push('"');
                        }
                        Some((i, '"')) => break i + 1,
                        Some((_, c)) => part.push(c),
                        None => return Err(bad("has a quote that does not end")),
                    }
                };
                (part, &quoted[end..])
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            if part.is_empty() {
                return Err(bad("has an empty part"));
            }
            if part.contains('\0') {
                return Err(bad("holds a NUL byte"));
            }
            parts.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return Err(bad("has text after a quoted part")),
            }
        }
        let column = parts.pop().ok_or_else(|| bad("is empty"))?;
        let table = parts.pop().ok_or_else(|| bad("names no table"))?;
        let schema = parts.pop();
        if !parts.is_empty() {
            return Err(bad("has more than three parts"));
        }
        Ok(Column { schema, table, column })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.schema.iter().chain([&self.table, &self.column]);
        for (i, part) in parts.enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            if part.contains(['.', '"']) {
                write!(f, "\"{}\"", part.replace('"', "\"\""))?;
            } else {
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}
