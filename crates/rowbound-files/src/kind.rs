//! What a file is, by its bytes: the name and the client's word are not asked.
//!
//! In: the beginning of a file, and its name for what bytes cannot tell (a CSV from any other text). Out: a media type.

/// So many first bytes tell.
pub(crate) const HEAD: usize = 8192;

/// Texts that only their suffix tells apart.
const TEXTS: [(&str, &str); 9] = [
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("ics", "text/calendar"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("tsv", "text/tab-separated-values"),
    ("vcf", "text/vcard"),
    ("vtt", "text/vtt"),
];

/// The media type of a file that begins with `head`; `application/octet-stream` where nothing is known.
///
/// ```
/// use rowbound_files::media_type;
/// assert_eq!(media_type(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "photo.jpg"), "image/png");
/// assert_eq!(media_type(b"a,b\n1,2\n", "table.csv"), "text/csv");
/// assert_eq!(media_type(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "x.png"), "image/svg+xml");
/// assert_eq!(media_type(b"\0\x01\x02", "x.png"), "application/octet-stream");
/// ```
pub fn media_type(head: &[u8], name: &str) -> &'static str {
    let head = &head[..head.len().min(HEAD)];
    let by_markup = markup(head);
    if let Some(kind) = by_markup {
        return kind;
    }
    if let Some(kind) = infer::get(head) {
        return kind.mime_type();
    }
    if !is_text(head) {
        return "application/octet-stream";
    }
    let ext = name.rsplit_once('.').map_or("", |(_, ext)| ext);
    TEXTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ext)).map_or("text/plain", |(_, kind)| kind)
}

/// The suffix (without its dot) that belongs to a picture's type, and those that may stay.
pub(crate) fn picture_extensions(media_type: &str) -> Option<(&'static str, &'static [&'static str])> {
    Some(match media_type {
        "image/jpeg" => ("jpg", &["jpg", "jpeg", "jpe", "jfif"]),
        "image/png" => ("png", &["png"]),
        "image/webp" => ("webp", &["webp"]),
        "image/gif" => ("gif", &["gif"]),
        "image/tiff" => ("tif", &["tif", "tiff"]),
        "image/bmp" => ("bmp", &["bmp", "dib"]),
        "image/avif" => ("avif", &["avif"]),
        _ => return None,
    })
}

/// What a browser would run or draw: looked for first, because it is what hides in files that call themselves something else.
fn markup(head: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(head);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // Declarations, comments and document types may stand before the root.
    loop {
        let end = match () {
            () if rest.starts_with("<?") => "?>",
            () if rest.starts_with("<!--") => "-->",
            () if starts(rest, "<!doctype svg") => return Some("image/svg+xml"),
            () if starts(rest, "<!doctype html") => return Some("text/html"),
            () if rest.starts_with("<!") => ">",
            () => break,
        };
        match rest.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return text.trim_start().starts_with("<?xml").then_some("text/xml"),
        }
    }
    for (tag, kind) in [
        ("<svg", "image/svg+xml"),
        ("<html", "text/html"),
        ("<head", "text/html"),
        ("<body", "text/html"),
        ("<script", "text/html"),
        ("<iframe", "text/html"),
        ("<meta", "text/html"),
    ] {
        if starts(rest, tag) {
            return Some(kind);
        }
    }
    text.trim_start().starts_with("<?xml").then_some("text/xml")
}

fn starts(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character that the cut went through.
        Err(e) => e.error_len().is_none() && e.valid_up_to() + 4 > head.len(),
    };
    valid && !head.iter().any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

/// Whether `media_type` is one of `accepted`: a type, or all of a kind (`image/*`).
pub(crate) fn accepts(accepted: &[String], media_type: &str) -> bool {
    accepted.iter().any(|one| match one.strip_suffix("/*") {
        Some(kind) => media_type.split('/').next().is_some_and(|of| of.eq_ignore_ascii_case(kind)),
        None => one.eq_ignore_ascii_case(media_type),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_not_names() {
        for (head, name, kind) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], "a.png", "image/jpeg"),
            (b"GIF89a", "a.html", "image/gif"),
            (b"%PDF-1.7\n", "a.jpg", "application/pdf"),
            (b"PK\x03\x04", "a.jpg", "application/zip"),
            (b"hello", "a", "text/plain"),
            (b"hello", "a.JPG", "text/plain"),
            ("é".as_bytes(), "a.txt", "text/plain"),
            (b"{}", "a.json", "application/json"),
            (b"\xff\xfe", "a.txt", "application/octet-stream"),
            (b"", "a.txt", "text/plain"),
            (b" <!-- x --> <HTML>", "a.jpg", "text/html"),
            (b"\xef\xbb\xbf<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x' 'y'><svg/>", "a.jpg", "image/svg+xml"),
            (b"<?xml version='1.0'?><rss/>", "a.xml", "text/xml"),
            (b"<script>alert(1)</script>", "a.png", "text/html"),
        ] {
            assert_eq!(media_type(head, name), kind, "{head:?} {name}");
        }
        // Cut within a character.
        let long = "é".repeat(HEAD);
        assert_eq!(media_type(&long.as_bytes()[..HEAD - 1], "a.txt"), "text/plain");
    }

    #[test]
    fn kinds_of_types_are_accepted() {
        let some = ["image/*".to_owned(), "application/pdf".to_owned()];
        assert!(accepts(&some, "image/png") && accepts(&some, "application/PDF"));
        assert!(!accepts(&some, "imagery/png") && !accepts(&some, "application/zip") && !accepts(&[], "image/png"));
    }
}
