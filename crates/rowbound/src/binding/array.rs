//! Names inside a PostgreSQL array, out of its text form: `{a.jpg,"b c.jpg",NULL}`.

/// The elements of an array of any dimensions, without NULLs.
///
/// # Errors
/// What is wrong with it.
pub(super) fn elements(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    // Bounds other than from 1 stand before it: [0:1]={a,b}
    let begin = match text.first() {
        Some(b'{') => 0,
        Some(b'[') => text.windows(2).position(|w| w == b"={").ok_or("has no elements")? + 1,
        _ => return Err("does not begin with `{`"),
    };
    let mut out = Vec::new();
    let mut depth = 0_u32;
    let mut bytes = text[begin..].iter().copied().peekable();
    while let Some(b) = bytes.next() {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1).ok_or("has a `}` too many")?;
                if depth == 0 {
                    return if bytes.next().is_none() { Ok(out) } else { Err("has text after its end") };
                }
            }
            b',' => {}
            b'"' => {
                let mut element = Vec::new();
                loop {
                    match bytes.next().ok_or("has a quote that does not end")? {
                        b'"' => break,
                        b'\\' => element.push(bytes.next().ok_or("ends within an escape")?),
                        other => element.push(other),
                    }
                }
                out.push(element);
            }
            first => {
                let mut element = vec![first];
                while let Some(next) = bytes.next_if(|b| !matches!(b, b',' | b'}')) {
                    element.push(next);
                }
                if !element.eq_ignore_ascii_case(b"null") {
                    out.push(element);
                }
            }
        }
    }
    Err("does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_of_arrays_is_read_back() {
        let read = |s: &str| elements(s.as_bytes()).map(|e| e.into_iter().map(|e| String::from_utf8(e).unwrap()).collect::<Vec<_>>());
        assert_eq!(read("{}").unwrap(), Vec::<String>::new());
        assert_eq!(read(r#"{a.jpg,"b c,d.jpg",NULL,"NULL","q\"\\é.jpg"}"#).unwrap(), ["a.jpg", "b c,d.jpg", "NULL", "q\"\\é.jpg"]);
        assert_eq!(read("{{a,b},{c,d}}").unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(read("[0:1]={a,b}").unwrap(), ["a", "b"]);
        for broken in ["", "a", "{a", "{\"a", "{a}}", "{a}x", "[0:1]"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
