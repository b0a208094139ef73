//! Names inside JSON, by a JSONPath (RFC 9535).
//!
//! A value that is no JSON, that holds a key twice, or whose path leads to something else than a string is unreadable: what it references is not known, which is not
//! the same as nothing.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::error::{Error, Kind, Result};

/// A path, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    text: String,
    path: JsonPath,
}

impl Eq for Path {}

impl Path {
    /// Compiles `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] when it does not parse.
    pub fn parse(path: &str) -> Result<Self> {
        let compiled = JsonPath::parse(path).map_err(|e| {
            Error::new(Kind::Config, format!("`path` does not parse: {}", e.message()))
                .with("path", format_args!("{path:?}"))
                .hint("write a JSONPath (RFC 9535): $[*] for a list of names, $.image, $[*].src, $..image")
        })?;
        Ok(Path { text: path.to_owned(), path: compiled })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The strings to which the path leads in `value`.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn strings(&self, value: &[u8]) -> std::result::Result<Vec<String>, String> {
        if value.iter().all(u8::is_ascii_whitespace) {
            return Ok(Vec::new());
        }
        let once: Once = serde_json::from_slice(value).map_err(|e| format!("is no JSON: {e}"))?;
        let nodes = self.path.query(&once.0);
        let mut strings = Vec::new();
        for node in nodes.iter() {
            match node {
                Value::String(s) if s.is_empty() => {}
                Value::String(s) => strings.push(s.clone()),
                Value::Null => {}
                _ => return Err(format!("has something else than a string at {}", self.text)),
            }
        }
        Ok(strings)
    }
}

/// JSON in which no key stands twice: `serde_json` would keep the last and forget what the first references.
struct Once(Value);

impl<'de> serde::Deserialize<'de> for Once {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Once;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, v: bool) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }

            fn visit_i64<E>(self, v: i64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }

            fn visit_u64<E>(self, v: u64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }

            fn visit_f64<E>(self, v: f64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }

            fn visit_str<E>(self, v: &str) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }

            fn visit_unit<E>(self) -> std::result::Result<Once, E> {
                Ok(Once(Value::Null))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Once, A::Error> {
                let mut items = Vec::new();
                while let Some(Once(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Once(Value::Array(items)))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Once, A::Error> {
                let mut items = serde_json::Map::new();
                while let Some((key, Once(item))) = map.next_entry::<String, Once>()? {
                    if items.insert(key, item).is_some() {
                        return Err(serde::de::Error::custom("a key stands twice"));
                    }
                }
                Ok(Once(Value::Object(items)))
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strings_at_the_path_and_no_others() {
        let strings = |path: &str, value: &str| Path::parse(path).unwrap().strings(value.as_bytes());
        assert_eq!(strings("$[*]", r#"["a.jpg", "b/c.jpg", "", null]"#).unwrap(), ["a.jpg", "b/c.jpg"]);
        assert_eq!(strings("$[*].image", r#"[{"image": "caf\u00e9.jpg", "title": "x.jpg"}, {"title": "y"}]"#).unwrap(), ["café.jpg"]);
        assert_eq!(strings("$..src", r#"{"a": {"src": "1"}, "b": [{"src": "2"}], "n": 1.5e300, "t": true}"#).unwrap(), ["1", "2"]);
        assert!(strings("$[*]", " ").unwrap().is_empty());
        assert!(strings("$[*]", "null").unwrap().is_empty());
        for (path, value, why) in [
            ("$[*]", r#"["a.jpg""#, "is no JSON"),
            ("$[*]", r#"["a.jpg"] x"#, "is no JSON"),
            ("$.image", r#"{"image": "a", "image": "b"}"#, "twice"),
            ("$[*]", r#"[{"image": "a.jpg"}]"#, "something else than a string at $[*]"),
            ("$[*]", "[7]", "something else"),
        ] {
            let said = strings(path, value).unwrap_err();
            assert!(said.contains(why), "{value}: {said}");
        }
        assert!(Path::parse("$[").unwrap_err().to_string().contains("`path` does not parse"));
    }
}
