//! Forms: urlencoded ones are read as the `form_urlencoded` crate reads them; multipart ones never panic, and of those made
//! from known parts the parts are found. A line with the name, a line with the boundary, then the body.

use bytes::Bytes;
use turnwise::request::form::{multipart, urlencoded};

fn line(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|octet| *octet == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// As the module says.
pub fn check(input: &[u8]) {
    let (name, rest) = line(input);
    let (boundary, body) = line(rest);
    let Ok(name) = std::str::from_utf8(name) else { return };

    let ours: Vec<_> = urlencoded(body, name).map(|value| String::from_utf8_lossy(&value).into_owned()).collect();
    // Octets that are not UTF-8 have become replacement characters there, and could be taken for a name.
    if !name.contains('\u{fffd}') {
        let theirs = form_urlencoded::parse(body).filter(|(own, _)| own == name);
        let theirs: Vec<_> = theirs.map(|(_, value)| value.into_owned()).collect();
        assert_eq!(ours, theirs);
    }

    let boundary = String::from_utf8_lossy(boundary);
    let _ = multipart(&Bytes::copy_from_slice(body), &boundary, name);
    let _ = multipart(&Bytes::copy_from_slice(body), &format!("multipart/form-data; boundary={boundary}"), name);

    // Parts with the values that stand between zeros.
    let plain = |text: &str| !text.is_empty() && text.len() <= 60 && text.bytes().all(|c| c.is_ascii_alphanumeric());
    if !plain(&boundary) || !plain(name) {
        return;
    }
    let values: Vec<&[u8]> = body.split(|octet| *octet == 0).take(20).collect();
    let delimiter = format!("--{boundary}");
    if values.iter().any(|value| value.windows(delimiter.len()).any(|window| window == delimiter.as_bytes())) {
        return;
    }
    let mut form = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let (own, file) = match number % 4 {
            2 => ("other", ""),
            3 => (name, "; filename=\"f\""),
            _ => (name, ""),
        };
        let head = format!("{delimiter}\r\nContent-Disposition: form-data; name=\"{own}\"{file}\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(value);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("{delimiter}--\r\n").as_bytes());
    let expected: Vec<&[u8]> = values
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 4 < 2 || (number % 4 == 2 && name == "other"))
        .map(|(_, value)| *value)
        .collect();
    let found = multipart(&Bytes::from(form), &format!("multipart/form-data; boundary={boundary}"), name);
    assert_eq!(found, expected);
}
