//! The lines before a part's bytes.
//!
//! In: header lines. Out: [`Head`]. Promise: what browsers, curl and the usual libraries send is read as they meant it; what could mean two things is
//! refused.

use percent_encoding::percent_decode_str;

/// What a part says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
}

impl Head {
    /// Reads the lines, without their line ends.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub(crate) fn parse(lines: &[Vec<u8>]) -> Result<Head, &'static str> {
        let (mut disposition, mut content_type) = (None, None);
        for line in lines {
            let line = String::from_utf8_lossy(line);
            let (key, value) = line.split_once(':').ok_or("a part has a header line without a colon")?;
            let value = value.trim();
            match key.trim_end().to_ascii_lowercase().as_str() {
                "content-disposition" if disposition.is_some() => return Err("a part has two `Content-Disposition` headers"),
                "content-disposition" => {
                    disposition = Some(parameters(value).ok_or("a part has a `Content-Disposition` that cannot be read")?)
                }
                "content-type" => content_type = Some(value.to_owned()),
                // RFC 7578, 4.7: nobody should send it; taken as it is, a file would be another one than was meant.
                "content-transfer-encoding" if !["7bit", "8bit", "binary"].iter().any(|plain| value.eq_ignore_ascii_case(plain)) => {
                    return Err("a part has a `Content-Transfer-Encoding`, which forms may not have");
                }
                _ => {}
            }
        }
        let disposition = disposition.ok_or("a part has no `Content-Disposition`")?;
        if !disposition.kind.eq_ignore_ascii_case("form-data") {
            return Err("a part's `Content-Disposition` is not `form-data`");
        }
        let name = disposition.name.ok_or("a part has no name")?;
        Ok(Head { name, file_name: disposition.file_name, content_type })
    }
}

/// A `Content-Disposition`.
#[derive(Debug, Default)]
pub(crate) struct Disposition {
    kind: String,
    name: Option<String>,
    pub(crate) file_name: Option<String>,
}

/// `form-data; name="image"; filename="a.jpg"`. `None` for what is none, or says one thing twice.
pub(crate) fn parameters(value: &str) -> Option<Disposition> {
    let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
    let mut out = Disposition { kind: kind.trim().to_owned(), ..Disposition::default() };
    let mut extended = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            break;
        }
        let (key, after) = rest.split_once('=')?;
        let (text, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        rest = after;
        let slot = match key.trim().to_ascii_lowercase().as_str() {
            "name" => &mut out.name,
            "filename" => &mut out.file_name,
            "filename*" => &mut extended,
            _ => continue,
        };
        if slot.replace(text).is_some() {
            return None;
        }
    }
    // RFC 7578 forbids it and some libraries send it; RFC 8187 has its form.
    if let Some(text) = extended {
        let mut parts = text.splitn(3, '\'');
        let charset = parts.next()?;
        let encoded = parts.nth(1)?;
        if charset.eq_ignore_ascii_case("utf-8") {
            out.file_name = Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned());
        }
    }
    Some(out)
}

/// A text up to its closing quote, and what follows. Browsers write `%22`, `%0D` and `%0A` for what may not stand between quotes
/// (<https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>); older clients put a backslash before quotes and backslashes.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\', '%'])?;
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let escapes = [("\\\"", "\""), ("\\\\", "\\"), ("%22", "\""), ("%0D", "\r"), ("%0A", "\n")];
        if let Some(after) = rest.strip_prefix('"') {
            return Some((out, after));
        }
        match escapes.iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, plain)) => {
                out.push_str(plain);
                rest = &rest[escape.len()..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(disposition: &str) -> Result<Head, &'static str> {
        Head::parse(&[format!("content-disposition: {disposition}").into_bytes()])
    }

    /// Active Storage: unsafe names as browsers, Internet Explorer, curl and Python send them.
    #[test]
    fn what_clients_send_is_read_as_they_meant_it() {
        for (given, name, file) in [
            // Browsers.
            (r#"form-data; name="title""#, "title", None),
            (r#"form-data; name="image"; filename="a b.jpg""#, "image", Some("a b.jpg")),
            (r#"form-data; name="image"; filename="""#, "image", Some("")),
            (r#"form-data; name="a%22b"; filename="x%0D%0A.jpg""#, "a\"b", Some("x\r\n.jpg")),
            (r#"form-data; name="image"; filename="日本.jpg""#, "image", Some("日本.jpg")),
            (r#"form-data; name="image"; filename="a;b=c.jpg""#, "image", Some("a;b=c.jpg")),
            (r#"form-data; name="image"; filename="100%.jpg""#, "image", Some("100%.jpg")),
            // Internet Explorer.
            (r#"form-data; name="image"; filename="C:\dir\a.jpg""#, "image", Some(r"C:\dir\a.jpg")),
            // curl before 7.81.
            (r#"form-data; name="image"; filename="a\"b\\c.jpg""#, "image", Some("a\"b\\c.jpg")),
            // Without quotes, in other cases, with blanks.
            ("form-data;name=title", "title", None),
            ("Form-Data; Name=title ; FileName=a.jpg", "title", Some("a.jpg")),
            // Python's requests, aiohttp.
            ("form-data; name=\"image\"; filename*=utf-8''caf%C3%A9.jpg", "image", Some("café.jpg")),
            ("form-data; name=\"image\"; filename=\"cafe.jpg\"; filename*=UTF-8'en'caf%C3%A9.jpg", "image", Some("café.jpg")),
        ] {
            let head = head(given).unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!((head.name.as_str(), head.file_name.as_deref()), (name, file), "{given}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for given in [
            "form-data",
            "form-data; filename=\"a.jpg\"",
            "attachment; name=\"image\"",
            "form-data; name=\"image",
            "form-data; name=\"a\"; name=\"b\"",
            "form-data; name=\"a\"; filename=\"x\"; filename=\"y\"",
            "form-data; name",
        ] {
            assert!(head(given).is_err(), "{given}");
        }
        assert!(Head::parse(&[]).is_err());
        assert!(Head::parse(&[b"no colon".to_vec()]).is_err());
        let twice = [b"content-disposition: form-data; name=a".to_vec(), b"Content-Disposition: form-data; name=b".to_vec()];
        assert!(Head::parse(&twice).is_err());
        let encoded = [b"content-disposition: form-data; name=a".to_vec(), b"Content-Transfer-Encoding: base64".to_vec()];
        assert!(Head::parse(&encoded).is_err());
    }
}
