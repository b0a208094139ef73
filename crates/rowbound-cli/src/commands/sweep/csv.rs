//! Findings as CSV (RFC 4180): one table for orphans and dangling references, with a header.

use std::io::{self, Write};

use rowbound::sweep::{Dangling, Orphan};

/// The columns.
pub const HEADER: [&str; 9] = ["finding", "storage", "name", "size", "modified", "column", "key", "in_trash", "healed"];

/// Writes findings. Values stand as they are: what begins with `=`, `+`, `-` or `@` is no formula but a name, and a changed one would be
/// another file's.
#[derive(Debug)]
pub struct Csv<W: Write> {
    out: W,
}

impl<W: Write> Csv<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W) -> io::Result<Self> {
        let mut csv = Csv { out };
        csv.row(&HEADER)?;
        Ok(csv)
    }

    /// Writes a file that no row names.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn orphan(&mut self, storage: &str, orphan: &Orphan) -> io::Result<()> {
        let (size, modified) = (orphan.size.to_string(), orphan.modified.to_string());
        self.row(&["orphan", storage, orphan.name.as_str(), &size, &modified, "", "", "", ""])
    }

    /// Writes a row that names a file that is not there.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dangling(&mut self, storage: &str, row: &Dangling) -> io::Result<()> {
        let yes = |yes: bool| if yes { "true" } else { "false" };
        self.row(&[
            "dangling",
            storage,
            row.name.as_str(),
            "",
            "",
            &row.column,
            row.key.as_deref().unwrap_or_default(),
            yes(row.in_trash),
            yes(row.healed),
        ])
    }

    /// Gives back what was written to.
    ///
    /// # Errors
    /// Those of flushing it.
    pub fn end(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn row(&mut self, fields: &[&str; HEADER.len()]) -> io::Result<()> {
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.out.write_all(b",")?;
            }
            // A blank at an end is part of the value, but some readers strip it unless it is quoted.
            if field.contains([',', '"', '\r', '\n']) || field.trim() != *field {
                write!(self.out, "\"{}\"", field.replace('"', "\"\""))?;
            } else {
                self.out.write_all(field.as_bytes())?;
            }
        }
        self.out.write_all(b"\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use rowbound::FileName;

    fn orphan(name: &str) -> Orphan {
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
        let mut csv = Csv::new(Vec::new()).unwrap();
        csv.orphan("default", &orphan("a/\"b\", c\n.jpg")).unwrap();
        csv.orphan("default", &orphan("=HYPERLINK(1)")).unwrap();
        let row = Dangling {
            name: FileName::parse("gone.jpg").unwrap(),
            column: "doc.file".into(),
            key: Some("[1,\"x\"]".into()),
            in_trash: true,
            healed: false,
        };
        csv.dangling("default", &row).unwrap();
        let text = String::from_utf8(csv.end().unwrap()).unwrap();
        assert_eq!(
            text,
            "finding,storage,name,size,modified,column,key,in_trash,healed\r\n\
             orphan,default,\"a/\"\"b\"\", c\n.jpg\",12,1970-01-01T00:00:00Z,,,,\r\n\
             orphan,default,=HYPERLINK(1),12,1970-01-01T00:00:00Z,,,,\r\n\
             dangling,default,gone.jpg,,,doc.file,\"[1,\"\"x\"\"]\",true,false\r\n"
        );
    }

    proptest! {
        #[test]
        fn every_name_comes_back_as_it_was(names in proptest::collection::vec("[ a=,\"\r\n\u{e9};'\t/]{1,12}", 1..8)) {
            let names: Vec<String> = names.into_iter().filter(|n| FileName::parse(n).is_ok()).collect();
            let mut csv = Csv::new(Vec::new()).unwrap();
            for name in &names {
                csv.orphan("s", &orphan(name)).unwrap();
            }
            let rows = read(&String::from_utf8(csv.end().unwrap()).unwrap());
            prop_assert!(rows.iter().all(|row| row.len() == HEADER.len()));
            let read: Vec<&String> = rows[1..].iter().map(|row| &row[2]).collect();
            prop_assert_eq!(read, names.iter().collect::<Vec<_>>());
        }
    }
}
