//! Which file goes into which row.
//!
//! In: what was typed, and a list. Out: pairs of a key and a file, each key once. Promise: a list that is understood in part is not used at all.

use std::{
    collections::HashSet,
    io::Read,
    path::{Path, PathBuf},
};

use rowbound::{Error, Kind, Result};

/// A row's key, and the file that it shall name.
pub type Pair = (String, PathBuf);

/// All pairs: those that were typed, then those of the list.
///
/// # Errors
/// [`Kind::Config`] names what is no pair, and the key that stands twice.
pub fn pairs(typed: &[String], list: Option<&Path>) -> Result<Vec<Pair>> {
    if typed.len() % 2 == 1 {
        return Err(Error::new(Kind::Config, "a key without a file")
            .with("key", typed.last().map_or("", String::as_str))
            .hint("write KEY FILE KEY FILE .."));
    }
    let mut pairs: Vec<Pair> = typed.chunks_exact(2).map(|pair| (pair[0].clone(), PathBuf::from(&pair[1]))).collect();
    if let Some(list) = list {
        pairs.extend(of_csv(&read(list)?).map_err(|e| e.with("list", list.display()))?);
    }
    let mut keys = HashSet::new();
    match pairs.iter().find(|(key, _)| !keys.insert(key.as_str())) {
        Some((key, _)) => Err(Error::new(Kind::Config, "a key stands twice: a row references one file")
            .with("key", key)
            .hint("leave one of its files out")),
        None => Ok(pairs),
    }
}

fn read(list: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match list.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_string(&mut text),
        false => std::fs::File::open(list).and_then(|mut file| file.read_to_string(&mut text)),
    };
    match read {
        Ok(_) => Ok(text),
        Err(e) => Err(Error::new(Kind::Config, "cannot read the list").with("list", list.display()).because(e)),
    }
}

/// Lines of a key, a comma and a file; what holds commas, quotation marks or line ends stands in quotation marks, those within doubled (RFC 4180).
fn of_csv(text: &str) -> Result<Vec<Pair>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    let mut line = 1;
    while !rest.is_empty() {
        let at = line;
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("the list has a line that is no key and file: {what}"))
                .with("line", at)
                .hint("write KEY,FILE; what holds a comma stands in quotation marks")
        };
        let mut fields = Vec::new();
        loop {
            let (field, behind) = field(rest).ok_or_else(|| wrong("a quotation mark is open"))?;
            line += field.matches('\n').count();
            fields.push(field);
            rest = behind;
            if let Some(next) = rest.strip_prefix(',') {
                rest = next;
                continue;
            }
            line += 1;
            rest = match rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) {
                Some(next) => next,
                None if rest.is_empty() => rest,
                None => return Err(wrong("something stands behind a quotation mark")),
            };
            break;
        }
        match &fields[..] {
            [empty] if empty.is_empty() => {}
            [key, file] if !key.is_empty() && !file.is_empty() => pairs.push((key.clone(), PathBuf::from(file))),
            [_, _] => return Err(wrong("one of the two is empty")),
            other => return Err(wrong(&format!("it has {} fields", other.len()))),
        }
    }
    Ok(pairs)
}

/// The first field and what stands behind it; `None` where its quotation mark is open.
fn field(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let end = if text[..end].ends_with('\r') && text[end..].starts_with('\n') { end - 1 } else { end };
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut field = String::new();
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_spreadsheets_write_them() {
        let read = |text: &str| -> Vec<(String, String)> {
            let pairs = of_csv(text).unwrap_or_else(|e| panic!("{text:?}: {}", e.full()));
            pairs.into_iter().map(|(key, file)| (key, file.display().to_string())).collect()
        };
        let pair = |key: &str, file: &str| (key.to_owned(), file.to_owned());
        assert_eq!(read("1,a.jpg\n2,b c.jpg\n"), [pair("1", "a.jpg"), pair("2", "b c.jpg")]);
        assert_eq!(read("\u{feff}1,a.jpg\r\n\r\n2,b.jpg"), [pair("1", "a.jpg"), pair("2", "b.jpg")]);
        assert_eq!(read("\"a,b\",\"x \"\"y\"\"\nz.jpg\"\r\n3,c"), [pair("a,b", "x \"y\"\nz.jpg"), pair("3", "c")]);
        assert_eq!(read(" 1,a\rb"), [pair(" 1", "a\rb")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_list_with_a_mistake_is_refused_with_its_line() {
        for (text, line, said) in [
            ("1,a\n2\n", 2, "it has 1 fields"),
            ("1,a,b\n", 1, "it has 3 fields"),
            ("\"1\n\",a\n,b\n", 3, "empty"),
            ("1,\n", 1, "empty"),
            ("1,\"a\n2,b\n", 1, "open"),
            ("1,\"a\"b\n", 1, "behind"),
        ] {
            let error = of_csv(text).expect_err(text).full();
            assert!(error.contains(said) && error.contains(&format!("line: {line}")), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_key_stands_once() {
        let typed = ["1", "a", "1", "b"].map(str::to_owned);
        assert!(pairs(&typed, None).expect_err("twice").full().contains("twice"));
        assert!(pairs(&typed[..3], None).expect_err("no file").full().contains("without a file"));
    }
}
