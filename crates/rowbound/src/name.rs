//! A checked file name: the only string that can reach a storage.
//!
//! In: bytes out of a row, an argument or a listing. Out: a [`FileName`], or the reason why it is
//! [`Refused`]. Promise: the bytes are the ones that came in. Nothing is trimmed, folded, decoded or
//! collapsed, because every such kindness makes two names one, and then the wrong file goes. What a file system
//! could take for another name is a name only where keys are no paths: on S3.

use std::{borrow::Cow, fmt, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The folder beneath every storage's root that belongs to Rowbound (marker, trash). No row may reference it.
pub const RESERVED: &str = ".rowbound";

/// What stands in a URL's path as it is: RFC 3986's unreserved characters, and the slash.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What `encodeURI` leaves as it is, but for `?` and `#`, which would end the path.
const RESERVED_STAYS: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b';')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',');

/// A file's name within its storage: relative, `/`-separated, UTF-8, compared byte for byte.
///
/// ```
/// use rowbound::{FileName, Refused};
/// let name = FileName::parse("2026/11/21/photo.jpg ")?; // the trailing blank is part of the name
/// assert_eq!(name.as_str(), "2026/11/21/photo.jpg ");
/// assert_eq!(name.folder(), Some("2026/11/21"));
/// assert_eq!(FileName::parse("../secret"), Err(Refused::DotSegment));
/// # Ok::<(), Refused>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

/// Why a value is no [`FileName`]. What is refused is reported and never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// `""`.
    #[error("is empty")]
    Empty,
    /// It begins with `/`.
    #[error("is absolute")]
    Absolute,
    /// It holds a segment `.` or `..`.
    #[error("holds a `.` or `..` segment")]
    DotSegment,
    /// It holds `//` or ends with `/`.
    #[error("holds an empty segment (`//` or a trailing `/`)")]
    EmptySegment,
    /// It holds a NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// It is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// It lies in [`RESERVED`].
    #[error("lies in `.rowbound/`, which belongs to Rowbound")]
    Reserved,
    /// A URL whose percent-encoding cannot be decoded.
    #[error("has a broken percent-encoding")]
    BrokenEncoding,
    /// It begins as a URL does: `https://`, `s3://`.
    #[error("is a URL")]
    Url,
}

/// What a storage takes for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Names {
    /// Paths, in which no two spellings may mean one file: [`FileName::parse`].
    #[default]
    Paths,
    /// Keys, byte for byte: [`FileName::key`].
    Keys,
}

impl FileName {
    /// Checks `name` and keeps it as it is.
    ///
    /// # Errors
    /// [`Refused`] says which rule it breaks.
    pub fn parse(name: &str) -> Result<Self, Refused> {
        Self::path(name)?;
        Ok(FileName(name.into()))
    }

    fn path(name: &str) -> Result<(), Refused> {
        if name.is_empty() {
            return Err(Refused::Empty);
        }
        if name.starts_with('/') {
            return Err(Refused::Absolute);
        }
        if name.contains('\0') {
            return Err(Refused::Nul);
        }
        let mut first = true;
        for segment in name.split('/') {
            match segment {
                "" => return Err(Refused::EmptySegment),
                "." | ".." => return Err(Refused::DotSegment),
                RESERVED if first => return Err(Refused::Reserved),
                _ => first = false,
            }
        }
        Ok(())
    }

    /// Checks `name` as a key of S3, where `a//b`, `./a` and `/a` are three objects like all others. Only S3 takes such a name: see [`FileName::as_path`].
    ///
    /// ```
    /// use rowbound::{FileName, Refused};
    /// let key = FileName::key("2026//./photo.jpg")?;
    /// assert_eq!(key.as_str(), "2026//./photo.jpg");
    /// assert_eq!(key.as_path(), Err(Refused::EmptySegment));
    /// # Ok::<(), Refused>(())
    /// ```
    ///
    /// # Errors
    /// [`Refused::Empty`], [`Refused::Nul`], [`Refused::Reserved`]; [`Refused::Url`], because a row that holds a URL does not mean a key that looks like one.
    pub fn key(name: &str) -> Result<Self, Refused> {
        // RFC 3986, 3.1.
        let is_scheme = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        };
        match name {
            "" => Err(Refused::Empty),
            _ if name.contains('\0') => Err(Refused::Nul),
            _ if name.split('/').next() == Some(RESERVED) => Err(Refused::Reserved),
            _ if name.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) => Err(Refused::Url),
            _ => Ok(FileName(name.into())),
        }
    }

    /// Checks `name` as a storage takes it.
    ///
    /// # Errors
    /// Those of [`FileName::parse`] or [`FileName::key`].
    pub fn of(names: Names, name: &str) -> Result<Self, Refused> {
        match names {
            Names::Paths => Self::parse(name),
            Names::Keys => Self::key(name),
        }
    }

    /// The name, if it is a path as every storage takes it.
    ///
    /// # Errors
    /// [`Refused`] says why only S3 takes it.
    pub fn as_path(&self) -> Result<&str, Refused> {
        Self::path(&self.0)?;
        Ok(&self.0)
    }

    /// Other names by which a row may mean this key, if a library of the application takes keys for paths: of a key that is no path the path that it comes to, of a
    /// path the spellings that begin with `/` and `./`.
    pub(crate) fn other_spellings(&self) -> Vec<FileName> {
        if self.as_path().is_ok() {
            return ["/", "./"].iter().map(|begin| FileName(format!("{begin}{}", self.0).into())).collect();
        }
        FileName::parse(&walked(&self.0)).into_iter().collect()
    }

    /// The same for bytes out of a row or a directory.
    ///
    /// # Errors
    /// [`Refused::NotUtf8`] besides those of [`FileName::parse`].
    pub fn from_bytes(name: &[u8]) -> Result<Self, Refused> {
        Self::parse(std::str::from_utf8(name).map_err(|_| Refused::NotUtf8)?)
    }

    /// The name, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for the path of a URL. Unreserved characters (RFC 3986, 2.3) and `/` stay; everything else is percent-encoded, as UTF-8.
    ///
    /// ```
    /// # use rowbound::FileName;
    /// assert_eq!(FileName::parse("2026/café 100%?.jpg")?.url_path(), "2026/caf%C3%A9%20100%25%3F.jpg");
    /// # Ok::<(), rowbound::Refused>(())
    /// ```
    pub fn url_path(&self) -> String {
        utf8_percent_encode(&self.0, UNRESERVED).to_string()
    }

    /// The same as JavaScript's `encodeURI` writes it: what has a meaning in a URL stays, too.
    pub(crate) fn uri_path(&self) -> String {
        utf8_percent_encode(&self.0, RESERVED_STAYS).to_string()
    }

    /// Everything before the last `/`, or `None` for a file that lies in the root.
    pub fn folder(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }

    /// Everything after the last `/`.
    pub fn base(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, base)| base)
    }
}

/// The path that a text comes to, if it is walked: without empty parts and dots.
pub(crate) fn walked(text: &str) -> Cow<'_, str> {
    if FileName::path(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let mut path: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            _ => path.push(part),
        }
    }
    Cow::Owned(path.join("/"))
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for FileName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for FileName {
    /// Checked as [`FileName::key`] checks.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        FileName::key(&text).map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Active Storage: traversal, sibling folder, NUL, empty, dot segments, odd encodings, glob characters, trailing slash.
    #[test]
    fn refuses_what_could_be_another_file() {
        for (name, why) in [
            ("", Refused::Empty),
            ("/", Refused::Absolute),
            ("/etc/passwd", Refused::Absolute),
            ("//x", Refused::Absolute),
            ("..", Refused::DotSegment),
            ("../x", Refused::DotSegment),
            ("a/../../x", Refused::DotSegment),
            ("a/./x", Refused::DotSegment),
            (".", Refused::DotSegment),
            ("a//b", Refused::EmptySegment),
            ("a/", Refused::EmptySegment),
            ("a\0b", Refused::Nul),
            (".rowbound/storage.json", Refused::Reserved),
            (".rowbound", Refused::Reserved),
        ] {
            assert_eq!(FileName::parse(name), Err(why), "{name:?}");
        }
        assert_eq!(FileName::from_bytes(b"\xff.jpg"), Err(Refused::NotUtf8));
    }

    #[test]
    fn a_key_is_any_text_but_ours_and_urls() {
        for name in [
            "a//b",
            "/a",
            "//",
            "a/",
            ".",
            "..",
            "./a",
            "a/../b",
            "a/./b",
            "a",
            "data:x",
            "http:/a",
            "a/http://b",
            ".rowboundx/a",
            "/.rowbound/a",
        ] {
            assert_eq!(FileName::key(name).unwrap().as_str(), name);
            assert_eq!(FileName::key(name).unwrap().as_path().is_ok(), FileName::parse(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("", Refused::Empty),
            ("a\0b", Refused::Nul),
            (".rowbound", Refused::Reserved),
            (".rowbound//x", Refused::Reserved),
            ("http://a/b.jpg", Refused::Url),
            ("HTTPS://a/b.jpg", Refused::Url),
            ("s3://bucket/b.jpg", Refused::Url),
            ("git+ssh://a", Refused::Url),
        ] {
            assert_eq!(FileName::key(name), Err(why), "{name:?}");
        }
    }

    #[test]
    fn a_key_has_the_spellings_of_its_path() {
        let others = |name: &str| FileName::key(name).unwrap().other_spellings().iter().map(ToString::to_string).collect::<Vec<_>>();
        for (name, want) in [
            ("a/b", &["/a/b", "./a/b"][..]),
            ("/a/b", &["a/b"]),
            ("a//./b/", &["a/b"]),
            ("a/../../b", &["b"]),
            ("//", &[]),
            ("..", &[]),
            ("/.rowbound/a", &[]),
        ] {
            assert_eq!(others(name), want, "{name}");
        }
    }

    #[test]
    fn keeps_what_is_merely_odd() {
        for name in [" ", "a ", " a", "a\\b", "...", "a..b", "..a", "a\nb", "é", "e\u{301}", "*?[", "a/.rowbound/b", "%2e%2e/x"] {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
        }
    }

    /// Each byte of ASCII, alone: what stays is the list of the RFC, written out.
    #[test]
    fn the_path_of_a_url_has_only_unreserved_characters() {
        let stays = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
        for byte in 1..=0x7f_u8 {
            let name = format!("a{}b", char::from(byte));
            let want = if stays.contains(char::from(byte)) { name.clone() } else { format!("a%{byte:02X}b") };
            assert_eq!(FileName::parse(&name).unwrap().url_path(), want);
        }
        assert_eq!(FileName::parse("ä/日本.jpg").unwrap().url_path(), "%C3%A4/%E6%97%A5%E6%9C%AC.jpg");
    }

    proptest! {
        #[test]
        fn a_name_is_its_own_bytes_or_refused(name in ".{0,40}") {
            if let Ok(parsed) = FileName::parse(&name) {
                prop_assert_eq!(parsed.as_str(), &name);
                // Joined to a root it stays beneath it, and no two names meet.
                let joined = std::path::Path::new("/root").join(parsed.as_str());
                prop_assert!(joined.starts_with("/root"));
                prop_assert_eq!(joined.components().count(), 2 + name.split('/').count());
            }
        }

        #[test]
        fn folder_and_base_make_the_name(name in "[a-z]{1,3}(/[a-z]{1,3}){0,4}") {
            let parsed = FileName::parse(&name).unwrap();
            let again = parsed.folder().map_or(parsed.base().to_owned(), |f| format!("{f}/{}", parsed.base()));
            prop_assert_eq!(again, name);
        }
    }
}
