//! Findings as CSV (RFC 4180): one table for orphans and dangling references, with a header.
//!
//! Values stand as they are: what begins with `=`, `+`, `-` or `@` is no formula but a name, and a changed one would be another file's.

use rowbound::sweep::{Dangling, Held, Orphan};

/// The columns.
const HEADER: [&str; 8] = ["finding", "storage", "name", "size", "modified", "column", "key", "in_trash"];

/// The first line. Each line has its end.
pub fn header() -> String {
    line(&HEADER)
}

/// A file that no row references.
pub fn orphan(storage: &str, orphan: &Orphan) -> String {
    let (size, modified) = (orphan.size.to_string(), orphan.modified.to_string());
    line(&["orphan", storage, orphan.name.as_str(), &size, &modified, "", "", ""])
}

/// The same, but its name stands in a value, though no binding reads it there.
pub fn held(storage: &str, held: &Held) -> String {
    let Held { orphan, column, .. } = held;
    let (size, modified) = (orphan.size.to_string(), orphan.modified.to_string());
    line(&["held", storage, orphan.name.as_str(), &size, &modified, column, "", ""])
}

/// A row that references a file that is not there.
pub fn dangling(storage: &str, row: &Dangling) -> String {
    let (key, in_trash) = (row.key.as_deref().unwrap_or_default(), if row.in_trash { "true" } else { "false" });
    line(&["dangling", storage, row.name.as_str(), "", "", &row.column, key, in_trash])
}

fn line(fields: &[&str; HEADER.len()]) -> String {
    fields.map(quoted).join(",") + "\r\n"
}

fn quoted(field: &str) -> String {
    // A blank at an end is part of the value, but some readers strip it unless it is quoted.
    match field.contains([',', '"', '\r', '\n']) || field.trim() != field {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use rowbound::FileName;

    fn found(name: &str) -> Orphan {
        Orphan { name: FileName::parse(name).unwrap(), size: 12, modified: Timestamp::UNIX_EPOCH }
    }

    /// RFC 4180, section 2, as a reader.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
        let mut chars = text.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
                '"' => quoted = !quoted,
                ',' if !quoted => row.push(std::mem::take(&mut field)),
                '\r' if !quoted => {
                    assert_eq!(chars.next(), Some('\n'));
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                c => field.push(c),
            }
        }
        assert!(row.is_empty() && field.is_empty() && !quoted);
        rows
    }

    #[test]
    fn a_table_of_findings() {
        let row = Dangling {
            name: FileName::parse("gone.jpg").unwrap(),
            column: "doc.file".into(),
            key: Some("[1,\"x\"]".into()),
            in_trash: true,
            file: None,
        };
        let text = header()
            + &orphan("default", &found("a/\"b\", c\n.jpg"))
            + &orphan("default", &found("=HYPERLINK(1)"))
            + &dangling("default", &row);
        assert_eq!(
            text,
            "finding,storage,name,size,modified,column,key,in_trash\r\n\
             orphan,default,\"a/\"\"b\"\", c\n.jpg\",12,1970-01-01T00:00:00Z,,,\r\n\
             orphan,default,=HYPERLINK(1),12,1970-01-01T00:00:00Z,,,\r\n\
             dangling,default,gone.jpg,,,doc.file,\"[1,\"\"x\"\"]\",true\r\n"
        );
    }

    proptest! {
        #[test]
        fn every_name_comes_back_as_it_was(names in proptest::collection::vec("[ a=,\"\r\n\u{e9};'\t/]{1,12}", 1..8)) {
            let names: Vec<String> = names.into_iter().filter(|n| FileName::parse(n).is_ok()).collect();
            let text: String = names.iter().map(|name| orphan("s", &found(name))).collect();
            let rows = read(&(header() + &text));
            prop_assert!(rows.iter().all(|row| row.len() == HEADER.len()));
            let read: Vec<&String> = rows[1..].iter().map(|row| &row[2]).collect();
            prop_assert_eq!(read, names.iter().collect::<Vec<_>>());
        }
    }
}
