//! Names: what a client calls a file -> what it is called here.
//!
//! In: any text. Out: one segment of a name that is safe on every file system, in every URL and on every screen. Promise: what may stand in it
//! is letters, digits, `_`, `-` and `.`, in the composed form of Unicode, as Django's `get_valid_filename` has it; never hidden, never empty.

use rand::Rng;
use rowbound::FileName;
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Kind, Result};

/// The longest segment that every file system takes, in bytes.
const SEGMENT: usize = 255;

/// What a file is called whose name has nothing that may stand in one.
const NAMELESS: &str = "file";

/// Letters and digits of a suffix; as many as Django's `get_random_string(7)` has.
const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const SUFFIX: usize = 7;

/// A file's name as a client gave it, made safe: folders (of either slash) are cut off, blanks become `_`, what is no letter, digit, `_`, `-` or `.` goes
/// (with it control characters and those that turn the direction of writing), accents are composed, dots at the beginning go.
///
/// ```
/// use rowbound_files::names::clean;
/// assert_eq!(clean("C:\\fakepath\\My Photo (1).PNG"), "My_Photo_1.PNG");
/// assert_eq!(clean("../../etc/passwd"), "passwd");
/// assert_eq!(clean("\u{202e}gpj.exe"), "gpj.exe");
/// assert_eq!(clean(".htaccess"), "htaccess");
/// assert_eq!(clean("???"), "file");
/// ```
pub fn clean(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = base
        .trim()
        .nfc()
        .filter_map(|c| match c {
            c if c.is_whitespace() => Some('_'),
            c if c.is_alphanumeric() || is_mark(c) || matches!(c, '_' | '-' | '.') => Some(c),
            _ => None,
        })
        .collect();
    // Once more: a mark may stand behind another letter now than it did.
    let out: String = kept.nfc().collect();
    let out = out.trim_start_matches('.').trim_end_matches('.');
    let (stem, ext) = split(out);
    let fitted = fit(stem, ext, SEGMENT);
    match fitted.trim_matches('.') {
        "" => NAMELESS.to_owned(),
        name => name.to_owned(),
    }
}

/// Marks that belong to a letter where no composed one exists (Devanagari, Thai, ..): Python's `\w` has them not, and breaks such names.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// A segment without its last suffix, and the suffix with its dot; as Python's `os.path.splitext`.
pub(crate) fn split(segment: &str) -> (&str, &str) {
    match segment.rfind('.') {
        Some(dot) if dot > 0 => segment.split_at(dot),
        _ => (segment, ""),
    }
}

/// The stem cut so that it and the suffix have at most `most` bytes.
fn fit(stem: &str, ext: &str, most: usize) -> String {
    let ext = if ext.len() < most { ext } else { "" };
    let mut end = stem.len().min(most - ext.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ext}", &stem[..end])
}

/// The name with another suffix (without its dot), unless its own is one of `keep`, in any case.
pub(crate) fn with_extension(name: &str, keep: &[&str], extension: &str) -> String {
    let (stem, ext) = split(name);
    match ext.strip_prefix('.').is_some_and(|ext| keep.iter().any(|k| k.eq_ignore_ascii_case(ext))) {
        true => name.to_owned(),
        false => fit(stem, &format!(".{extension}"), SEGMENT),
    }
}

/// A name of a file that would have no more than `most` characters and, beyond the first try, another random suffix: `photo_x3Bk9aQ.jpg`.
///
/// # Errors
/// [`Kind::Name`] where the folder alone is too long.
pub(crate) fn fitted(name: &FileName, most: usize, suffixed: bool) -> Result<FileName> {
    if !suffixed && name.as_str().chars().count() <= most && name.base().len() <= SEGMENT {
        return Ok(name.clone());
    }
    let suffix: String = match suffixed {
        true => {
            std::iter::once('_').chain((0..SUFFIX).map(|_| char::from(ALPHABET[rand::rng().random_range(0..ALPHABET.len())]))).collect()
        }
        false => String::new(),
    };
    let folder = name.folder().map_or_else(String::new, |folder| format!("{folder}/"));
    let (stem, ext) = split(name.base());
    let tail = format!("{suffix}{ext}");
    let too_long = || {
        Error::new(Kind::Name, "the name does not fit into the column")
            .with("name", name)
            .with("characters", most)
            .hint("shorten `upload_to`, or make the column longer and say so with `max_length`")
    };
    let room = most.checked_sub(folder.chars().count() + tail.chars().count()).filter(|room| *room > 0).ok_or_else(too_long)?;
    let stem: String = stem.chars().take(room).collect();
    let base = fit(&stem, &tail, SEGMENT);
    FileName::parse(&format!("{folder}{base}")).map_err(|why| Error::new(Kind::Name, format!("the name {why}")).with("name", name))
}

/// A name that nobody guesses: with 22 random letters and digits (130 bits).
///
/// # Errors
/// As [`fitted`].
pub(crate) fn unguessable(name: &FileName, most: usize) -> Result<FileName> {
    let token: String = (0..22).map(|_| char::from(ALPHABET[rand::rng().random_range(0..ALPHABET.len())])).collect();
    let (stem, ext) = split(name.base());
    let stem: String = stem.chars().take(20).collect();
    let folder = name.folder().map_or_else(String::new, |folder| format!("{folder}/"));
    let whole = format!("{folder}{token}_{stem}{ext}");
    let name = FileName::parse(&whole).map_err(|why| Error::new(Kind::Name, format!("the name {why}")).with("name", &whole))?;
    let name = fitted(&name, most, false)?;
    match name.base().starts_with(&token) {
        true => Ok(name),
        // What is left of it could be guessed.
        false => Err(Error::new(Kind::Name, "a name that nobody guesses does not fit into the column")
            .with("characters", most)
            .hint("make the column longer and say so with `max_length`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzzer: a mark that what was dropped had kept apart from its letter.
    #[test]
    fn a_safe_name_is_left_alone() {
        let (long, suffix) = (format!("{}.{}", "a.".repeat(10), "x".repeat(300)), format!("\u{7000}.{}", "x".repeat(253)));
        for given in ["\u{34b}A\u{1}(\0\u{344}", "e\u{200d}\u{301}.jpg", "a..", "a. .", &*long, &*suffix] {
            let made = clean(given);
            assert_eq!(clean(&made), made, "{given:?}");
            assert!(rowbound::FileName::parse(&made).is_ok() && made == made.trim_matches('.'), "{made:?}");
        }
    }

    /// Active Storage: unsafe names, bad UTF-8, right-to-left override; traversal in a key.
    #[test]
    fn names_of_clients_are_made_safe() {
        for (given, kept) in [
            ("photo.jpg", "photo.jpg"),
            ("My Photo.png", "My_Photo.png"),
            // Django's tests/utils_tests/test_text.py, get_valid_filename.
            ("^&'@{}[],$=!-#()%+~_123.txt", "-_123.txt"),
            ("/etc/passwd", "passwd"),
            ("..", "file"),
            ("...", "file"),
            ("", "file"),
            ("$.$.$", "file"),
            ("a/", "file"),
            (".bashrc", "bashrc"),
            ("photo.jpg.", "photo.jpg"),
            ("photo.jpg ", "photo.jpg"),
            ("a\0b.jpg", "ab.jpg"),
            ("a\nb.jpg", "a_b.jpg"),
            // Writing from right to left, invisible characters.
            ("evil\u{202e}gpj.exe", "evilgpj.exe"),
            ("a\u{200b}\u{feff}b.jpg", "ab.jpg"),
            // macOS sends accents apart.
            ("cafe\u{301}.jpg", "caf\u{e9}.jpg"),
            ("日本語 ファイル.png", "日本語_ファイル.png"),
            ("नमस्ते.txt", "नमस्ते.txt"),
            ("x.tar.gz", "x.tar.gz"),
        ] {
            assert_eq!(clean(given), kept, "{given:?}");
        }
    }

    #[test]
    fn long_names_keep_their_suffix_and_whole_characters() {
        let long = clean(&format!("{}.jpeg", "é".repeat(300)));
        assert!(long.len() <= 255 && long.ends_with("é.jpeg"), "{long}");
        let no_suffix = clean(&format!("a.{}", "b".repeat(300)));
        assert!(no_suffix.len() <= 255, "{no_suffix}");
    }

    #[test]
    fn a_name_fits_its_column() {
        let name = FileName::parse("2026/11/21/a-very-long-name.jpg").unwrap();
        assert_eq!(fitted(&name, 100, false).unwrap(), name);
        assert_eq!(fitted(&name, 20, false).unwrap().as_str(), "2026/11/21/a-ver.jpg");
        let other = fitted(&name, 26, true).unwrap();
        assert!(other.as_str().starts_with("2026/11/21/a-v_") && other.as_str().ends_with(".jpg"), "{other}");
        assert_eq!(other.as_str().chars().count(), 26);
        assert_ne!(other, fitted(&name, 26, true).unwrap());
        assert_eq!(fitted(&name, 11, false).unwrap_err().kind(), Kind::Name);
        assert!(unguessable(&name, 100).unwrap().as_str().len() > "2026/11/21/".len() + 22);
        assert_eq!(unguessable(&name, 30).unwrap_err().kind(), Kind::Name);
    }

    /// django-imagekit: the suffix follows the format.
    #[test]
    fn the_suffix_follows_the_format_as_imagekits() {
        // facts of django-imagekit's ProcessedImageField(format="JPEG").
        let jpeg = |name: &str| with_extension(name, &["jpg", "jpeg", "jpe", "jfif"], "jpg");
        for (given, kept) in [
            ("My_Photo.png", "My_Photo.jpg"),
            ("a.webp", "a.jpg"),
            ("noext", "noext.jpg"),
            ("x.jpeg", "x.jpeg"),
            ("a.JPG", "a.JPG"),
            ("a.jfif", "a.jfif"),
            ("a.txt", "a.jpg"),
            ("a.tar.gz", "a.tar.jpg"),
        ] {
            assert_eq!(jpeg(given), kept);
        }
    }
}
