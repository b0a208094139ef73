//! Everything that a value could reference.
//!
//! In: a value, as it was sampled. Out: each name that it could hold, with the way to read it so. Promise: what a binding can read is among them.

use super::Reading;
use crate::{
    binding::{Reading as BindingReading, Resolved, percent_decode},
    database::survey::Class,
    name::{FileName, Names},
};

/// A way to read a name out of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Mention {
    pub reading: Reading,
    pub prefix: String,
    pub path: String,
    pub name: FileName,
    /// Of a URL: as it stands, although that is not how a browser would read it.
    pub raw: bool,
}

/// Where Active Storage's disk service would put the file of this key, if it could be one: `ab/cd/abcd..`. Moodle's files lie so, too.
fn key_path(value: &str) -> Option<FileName> {
    let mut path = None;
    if (20..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric()) {
        BindingReading::Key
            .each_name(value.as_bytes(), Names::Paths, |found| path = if let Resolved::Name(name) = found { Some(name) } else { None });
    }
    path
}

/// Strings of one value that are read, and pieces of one text.
const PIECES: usize = 400;

/// Everything that a value could reference, each with the way to read it so.
pub(super) fn mentions(value: &str, class: Class) -> Vec<Mention> {
    let mut all = Vec::new();
    let is_text = matches!(class, Class::Text | Class::Blob);
    if is_text {
        for Spelling { prefix, name, raw } in spellings(value) {
            let reading = if prefix.is_empty() { Reading::Name } else { Reading::Url };
            all.push(Mention { reading, prefix, path: String::new(), name, raw });
        }
        if let Some(name) = key_path(value) {
            all.push(Mention { reading: Reading::Key, prefix: String::new(), path: String::new(), name, raw: false });
        }
    }
    let begins = value.trim_start();
    if (!is_text || begins.starts_with(['[', '{', '"']))
        && let Ok(json) = serde_json::from_str::<serde_json::Value>(value)
    {
        let mut left = PIECES;
        strings(&json, &mut "$".to_owned(), &mut left, &mut |path, text| {
            for Spelling { prefix, name, raw } in spellings(text) {
                all.push(Mention { reading: Reading::Json, prefix, path: path.to_owned(), name, raw });
            }
            in_text(text, &mut all);
        });
        return all;
    }
    in_text(value, &mut all);
    all
}

/// Calls `take` with every string of `json` and its path.
fn strings(json: &serde_json::Value, path: &mut String, left: &mut usize, take: &mut impl FnMut(&str, &str)) {
    let length = path.len();
    match json {
        serde_json::Value::String(text) if *left > 0 => {
            *left -= 1;
            take(path, text);
        }
        serde_json::Value::Array(items) => {
            path.push_str("[*]");
            items.iter().for_each(|item| strings(item, path, left, take));
        }
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                path.truncate(length);
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.as_bytes()[0].is_ascii_digit() {
                    path.push_str(&format!(".{key}"));
                } else {
                    path.push_str(&format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'")));
                }
                strings(field, path, left, take);
            }
        }
        _ => {}
    }
    path.truncate(length);
}

/// What text, HTML or Markdown mentions.
fn in_text(text: &str, all: &mut Vec<Mention>) {
    if !text.contains('/') || !text.contains([' ', '\n', '"', '\'', '(', '<', '=']) {
        return;
    }
    let bare =
        text.split(|c: char| c.is_whitespace() || "\"'()<>`\\=".contains(c)).map(|piece| piece.trim_end_matches([',', ';', ':', '!', '.']));
    // A name with a blank or a bracket stands whole between quotes only.
    let quoted = ['"', '\''].into_iter().flat_map(|q| text.split(q).skip(1)).filter(|p| p.contains([' ', '(', ')', '=']) && p.len() <= 512);
    for piece in bare.chain(quoted).filter(|p| p.contains('/') && p.len() > 2).take(PIECES) {
        // HTML writes `&` so.
        let piece = piece.replace("&amp;", "&");
        for Spelling { prefix, name, raw } in spellings(&piece) {
            all.push(Mention { reading: Reading::Text, prefix, path: String::new(), name, raw });
        }
    }
}

/// A name that stands in a text, behind a prefix.
struct Spelling {
    prefix: String,
    name: FileName,
    /// As it stands, where a URL would mean another name or none.
    raw: bool,
}

/// What `text` could name: itself; and as a URL, what follows each of its slashes, the longest first, decoded and as it stands.
fn spellings(text: &str) -> Vec<Spelling> {
    if text.len() > 2_048 || text.chars().any(char::is_control) {
        return Vec::new();
    }
    let (mut all, mut odd) = (Vec::new(), Vec::new());
    // What is no path only S3 takes for a name; all others refuse to look at it.
    let mut take = |prefix: &str, name: FileName, raw: bool| match name.as_path().is_ok() {
        true => all.push(Spelling { prefix: prefix.to_owned(), name, raw }),
        // The second slash of `https://` begins no name.
        false if prefix.ends_with(":/") => {}
        false => odd.push(Spelling { prefix: prefix.to_owned(), name, raw }),
    };
    if let Ok(name) = FileName::key(text) {
        take("", name, false);
    }
    let path = text.split(['?', '#']).next().unwrap_or(text);
    for (at, _) in path.match_indices('/').take(16) {
        let (prefix, rest) = path.split_at(at + 1);
        // What a URL would have encoded: this is text in which a name stands.
        if prefix.contains(|c: char| c.is_whitespace() || "%<>\"'()".contains(c)) {
            break;
        }
        // As a binding reads it: an encoding that is broken is none.
        let decoded = percent_decode(rest.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes.into_owned()).ok());
        let as_it_stands = &text[at + 1..];
        let is_raw = decoded.as_deref() != Some(as_it_stands);
        if let Some(name) = decoded.and_then(|name| FileName::key(&name).ok()) {
            take(prefix, name, false);
        }
        if is_raw && let Ok(name) = FileName::key(as_it_stands) {
            take(prefix, name, true);
        }
    }
    all.append(&mut odd);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, class: Class) -> Vec<(Reading, String, String, String)> {
        mentions(value, class).into_iter().map(|m| (m.reading, m.prefix, m.path, m.name.to_string())).collect()
    }

    fn has(value: &str, class: Class, reading: Reading, prefix: &str, path: &str, name: &str) {
        let all = read(value, class);
        assert!(all.contains(&(reading, prefix.into(), path.into(), name.into())), "{value}: {all:?}");
    }

    #[test]
    fn a_value_is_read_in_every_way_that_a_binding_could_read_it() {
        use Reading::{Json, Name, Text, Url};
        has("a/b c.jpg", Class::Text, Name, "", "", "a/b c.jpg");
        has("/media/a%20b.jpg?v=1", Class::Text, Url, "/media/", "", "a b.jpg");
        has("https://cdn.example.com/m/a/b.jpg#x", Class::Text, Url, "https://cdn.example.com/m/", "", "a/b.jpg");
        has(r#"["a.jpg", "b/c.jpg"]"#, Class::Text, Json, "", "$[*]", "b/c.jpg");
        has(r#"{"pictures": [{"src": "/media/a.jpg"}]}"#, Class::Json, Json, "/media/", "$.pictures[*].src", "a.jpg");
        has(r#"{"a b": "x.jpg"}"#, Class::Json, Json, "", "$['a b']", "x.jpg");
        has(r#"<p><img src="/media/a.jpg?x=1&amp;y=2"></p>"#, Class::Text, Text, "/media/", "", "a.jpg");
        has("see ![x](/media/a.jpg) and /media/b.jpg.", Class::Text, Text, "/media/", "", "b.jpg");
        assert!(read("See /media/b.jpg", Class::Text).iter().all(|(reading, prefix, ..)| *reading != Url || prefix.is_empty()));
        has(r#"<img src="/media/a (1).jpg">"#, Class::Text, Text, "/media/", "", "a (1).jpg");
        has(r#"{"body": "<img src=\"/media/a.jpg\">"}"#, Class::Json, Text, "/media/", "", "a.jpg");
        has("/media/a//b.jpg", Class::Text, Url, "/media/", "", "a//b.jpg");
        has("/a.jpg", Class::Text, Name, "", "", "/a.jpg");
        assert!(read("https://h.example/a.jpg", Class::Text).iter().all(|(.., name)| !name.starts_with('/')));
        assert!(read("just words, and more", Class::Text).iter().all(|(reading, ..)| *reading == Name));
    }

    #[test]
    fn a_url_is_read_decoded_and_as_it_stands() {
        let all = |value: &str| -> Vec<(String, bool)> {
            let of_prefix = mentions(value, Class::Text).into_iter().filter(|m| m.prefix == "/files/" && m.reading == Reading::Url);
            of_prefix.map(|m| (m.name.to_string(), m.raw)).collect()
        };
        let both = |decoded: &str, raw: &str| vec![(decoded.to_owned(), false), (raw.to_owned(), true)];
        assert_eq!(all("/files/a b.png"), [("a b.png".to_owned(), false)]);
        assert_eq!(all("/files/100% cotton.jpg"), [("100% cotton.jpg".to_owned(), true)], "an encoding that is broken is none");
        assert_eq!(all("/files/a%20b.png"), both("a b.png", "a%20b.png"));
        assert_eq!(all("/files/C# notes.pdf"), both("C", "C# notes.pdf"));
        assert_eq!(all("/files/what?.png"), both("what", "what?.png"));
    }

    #[test]
    fn a_key_is_the_file_of_a_disk_service() {
        has("xtapjjcjiudrlk3tmwyjgpuobabd", Class::Text, Reading::Key, "", "", "xt/ap/xtapjjcjiudrlk3tmwyjgpuobabd");
        assert!(read("photo", Class::Text).iter().all(|(reading, ..)| *reading != Reading::Key));
    }
}
