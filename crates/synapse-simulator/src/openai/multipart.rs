//! Just enough of `multipart/form-data` to read an upload: parts with a name, perhaps a file name, and
//! their bytes.

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) body: &'a [u8],
}

/// The parts of `body`, or nothing if it is not a whole form.
pub(super) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    if !content_type.starts_with("multipart/form-data") {
        return None;
    }
    let boundary = parameter(content_type, "boundary")?;
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, delimiter.as_bytes())?;
        parts.push(part(&rest[..end])?);
        rest = &rest[end + delimiter.len()..];
    }
}

fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let disposition =
        head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    Some(Part {
        name: parameter(disposition, "name")?,
        filename: parameter(disposition, "filename"),
        body: &bytes[end + 4..],
    })
}

/// The value of `name` in a header, quoted or bare.
fn parameter(header: &str, name: &str) -> Option<String> {
    let value = header.split(';').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xyz\"";

    #[test]
    fn fields_and_files_are_told_apart() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
            --xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
            Content-Type: audio/wav\r\n\r\n\x00\r\n--xy\xff\r\n--xyz--\r\n";
        let parts = parse(TYPE, body).unwrap();
        assert_eq!(parts[0], Part { name: "model".to_owned(), filename: None, body: b"m" });
        assert_eq!((parts[1].filename.as_deref(), parts[1].body), (Some("a.wav"), &b"\x00\r\n--xy\xff"[..]));
    }

    #[test]
    fn a_form_without_its_end_is_no_form() {
        assert_eq!(parse(TYPE, b"--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nm\r\n"), None);
        assert_eq!(parse("application/json", b"{}"), None);
    }
}
