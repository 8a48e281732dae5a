//! Fields of forms: urlencoded ones (also the query of a target) and multipart ones.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream;
use http::{HeaderMap, header};
use multer::Multipart;
use percent_encoding::percent_decode;

/// The values of one field of an `application/x-www-form-urlencoded` text, in order, decoded to octets.
///
/// As in the WHATWG URL standard: `+` is a space, and a percent sign without two digits stands for itself.
pub fn urlencoded<'t>(text: &'t [u8], name: &str) -> impl Iterator<Item = Cow<'t, [u8]>> {
    text.split(|&octet| octet == b'&').filter_map(move |pair| {
        let mut halves = pair.splitn(2, |&octet| octet == b'=');
        let own = halves.next().unwrap_or_default();
        (!pair.is_empty() && *decoded(own) == *name.as_bytes()).then(|| decoded(halves.next().unwrap_or_default()))
    })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|&octet| if octet == b'+' { b' ' } else { octet }).collect();
        return Cow::Owned(percent_decode(&spaced).collect());
    }
    percent_decode(text).into()
}

/// The values of one text field (a part without a file name) of a whole `multipart/form-data` body (RFC 7578).
///
/// Nothing when the content type names no boundary or the body does not parse. The work is linear in the body, which the
/// caller has bounded.
#[must_use]
pub fn multipart(body: &Bytes, content_type: &str, name: &str) -> Vec<Bytes> {
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return Vec::new();
    };
    let whole = stream::iter([Ok::<_, Infallible>(body.clone())]);
    // The stream is ready from the beginning, so reading it never waits.
    values(Multipart::new(whole, boundary), name).now_or_never().and_then(Result::ok).unwrap_or_default()
}

async fn values(mut parts: Multipart<'_>, name: &str) -> multer::Result<Vec<Bytes>> {
    let mut found = Vec::new();
    while let Some(part) = parts.next_field().await? {
        if part.file_name().is_none() && (part.name() == Some(name) || has_name(part.headers(), name)) {
            found.push(part.bytes().await?);
        }
    }
    Ok(found)
}

/// Whether a part is named so by a parameter whose own name has other letters than `name`: parameters have no case (RFC 2045,
/// section 5.1), but the library knows only one.
fn has_name(headers: &HeaderMap, name: &str) -> bool {
    let line = headers.get(header::CONTENT_DISPOSITION).and_then(|line| line.to_str().ok()).unwrap_or_default();
    let mut parts = line.split(';').skip(1).filter_map(|part| part.split_once('='));
    parts.any(|(own, value)| match own.trim().to_ascii_lowercase().as_str() {
        "name" => value.trim().trim_matches('"') == name,
        // As in `name*=utf-8''s` (RFC 5987, section 3.2), which some servers read.
        "name*" => {
            let text = value.trim().splitn(3, '\'').nth(2).unwrap_or_default();
            percent_decode(text.as_bytes()).eq(name.bytes())
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str, name: &str) -> Vec<Vec<u8>> {
        urlencoded(text.as_bytes(), name).map(Cow::into_owned).collect()
    }

    fn part(name: &str, more: &str, value: &str) -> String {
        format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    }

    fn parts(body: &str) -> Vec<Bytes> {
        multipart(&Bytes::copy_from_slice(body.as_bytes()), "multipart/form-data; boundary=X", "s")
    }

    #[test]
    fn names_and_values_are_decoded() {
        assert_eq!(all("a=1&%73id=x%20y+z%2B&&sid&sid=%ff", "sid"), [&b"x y z+"[..], b"", b"\xff"]);
        assert_eq!(all("", ""), Vec::<Vec<u8>>::new());
        assert_eq!(all("s=%zz=", "s"), [b"%zz="]);
    }

    #[test]
    fn text_parts_are_found_and_files_are_not() {
        let body = [part("f", "; filename=\"f\"", "\0"), part("s", "; filename=\"s\"", "file"), part("s", "", "a b")];
        assert_eq!(parts(&(body.concat() + "--X--\r\n")), ["a b"]);
    }

    #[test]
    fn the_name_of_a_parameter_has_no_case() {
        let body = part("s", "", "a").replace("name=", "NAME =") + &part("t", "", "b").replace("name=", "Name=");
        assert_eq!(parts(&(body + "--X--\r\n")), ["a"]);
        let body = part("s", "", "a").replace("name=\"s\"", "name*=utf-8''%73");
        assert_eq!(parts(&(body + "--X--\r\n")), ["a"]);
    }

    #[test]
    fn a_multipart_body_that_does_not_parse_has_nothing() {
        assert!(parts(&part("s", "", "a")).is_empty());
        assert!(parts("").is_empty());
        assert!(parts("s=a").is_empty());
        assert!(multipart(&Bytes::from_static(b"--X--"), "multipart/form-data", "s").is_empty());
    }

    proptest! {
        #[test]
        fn any_form_is_read_without_panic(body: Vec<u8>, name: String) {
            urlencoded(&body, &name).count();
            let _ = multipart(&Bytes::from([b"--X\r\n".to_vec(), body].concat()), "multipart/form-data; boundary=X", &name);
        }

        #[test]
        fn what_is_encoded_is_found_again(name: String, value: String) {
            let text = form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
            prop_assert_eq!(all(&text, &name), [value.into_bytes()]);
        }
    }
}
