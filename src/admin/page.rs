//! `GET /`: the status page. One document with nothing to load: what it shows it reads from the other endpoints.
//!
//! Style and script stand in it, and the policy that it comes with allows exactly these two, by their digests, and no
//! connection to anywhere else.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::answer::{self, Answer};

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// In this order they are one script.
const SCRIPTS: [&str; 8] = [
    include_str!("page/dom.js"),
    include_str!("page/words.js"),
    include_str!("page/plots.js"),
    include_str!("page/tiles.js"),
    include_str!("page/tables.js"),
    include_str!("page/sessions.js"),
    include_str!("page/alerts.js"),
    include_str!("page/live.js"),
];

#[derive(Debug)]
struct Page {
    html: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    let html = DOCUMENT.replace("/*style*/", STYLE).replace("/*script*/", &script);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        base64(&Sha256::digest(&script)),
        base64(&Sha256::digest(STYLE)),
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    Page { html: html.into(), policy }
});

pub(super) fn show() -> Answer {
    let mut answer = answer::with(StatusCode::OK, "text/html; charset=utf-8", PAGE.html.clone());
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    answer
}

fn base64(octets: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for three in octets.chunks(3) {
        let all = three.iter().fold(0, |all, octet| all << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let sign = SIGNS[(all >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (octets, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(octets.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn the_script_puts_no_markup_together() {
        let script = SCRIPTS.concat();
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "</script"]
        {
            assert!(!script.contains(word), "{word}");
        }
    }
}
