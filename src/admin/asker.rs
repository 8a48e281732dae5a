//! Whether the asker may: the token, and what a browser must not be made to do.
//!
//! A page of another site can have a browser send requests here (CSRF), and by having its own name resolve to our
//! address it can read the answers as well (DNS rebinding). Browsers say enough to tell: `Sec-Fetch-Site` or `Origin`
//! for the first; for the second the name in `Host`, which is then one that somebody on the internet owns. What is no
//! browser is asked for the token alone. See ADR 19.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::answer::{self, Answer};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Browsers send at least one of these with every request, and no page can make them leave out the first.
const OF_BROWSERS: [HeaderName; 4] = [header::ACCEPT_LANGUAGE, header::ORIGIN, SEC_FETCH_SITE, header::REFERER];

/// Top-level names that nobody on the internet can own, so that nobody there can have a name below them resolve.
const PRIVATE: [&str; 8] = ["localhost", "local", "internal", "svc", "localdomain", "test", "example", "invalid"];

/// What is asked for, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Shows what not everybody may see, or changes something.
    pub guarded: bool,
    pub changes: bool,
}

/// Why the asker may not.
pub(super) fn refusal(wish: Wish, token: Option<&str>, headers: &HeaderMap) -> Option<Answer> {
    if wish.changes && is_of_another_page(headers) {
        return Some(answer::refused(
            "foreign_page",
            "A page of another site may change nothing here. The status page must be opened under the name and port that reach this port, \
             and a proxy between must pass `Host` on as it came.",
        ));
    }
    if !wish.guarded {
        return None;
    }
    match token {
        Some(token) if !has_token(token, headers) => {
            let mut refused = answer::problem(StatusCode::UNAUTHORIZED, "Send `Authorization: Bearer <token>`.");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Some(refused)
        }
        None if is_browser(headers) && !is_private(host(headers)) => Some(answer::refused(
            "foreign_name",
            "Without a token, browsers are only answered where no other site can stand behind the name in the address: localhost, an IP \
             address, a name without a dot, or one below .internal, .local or .svc. Use one of them, or set admin.token_file.",
        )),
        _ => None,
    }
}

/// Whether it is the token. The time it takes does not tell how much of it was right.
fn has_token(token: &str, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let Some((scheme, given)) = given.split_at_checked("Bearer ".len()) else {
        return false;
    };
    let digest = |bytes: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(bytes);
    let differing = digest(given).iter().zip(digest(token.as_bytes())).fold(0, |all, (a, b)| all | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && differing == 0
}

/// Whether a browser sends this for a page of another origin.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let mut same_origin = false;
    for site in headers.get_all(SEC_FETCH_SITE) {
        match site.as_bytes() {
            b"same-origin" => same_origin = true,
            // By a person, not by a page.
            b"none" => {}
            _ => return true,
        }
    }
    // The browser's own word counts for more than a comparison with `Host`, which a proxy may have changed.
    !same_origin && headers.get_all(header::ORIGIN).iter().any(|origin| !is_at(origin, host(headers)))
}

fn is_at(origin: &HeaderValue, host: &str) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

fn is_browser(headers: &HeaderMap) -> bool {
    OF_BROWSERS.iter().any(|name| headers.contains_key(name))
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
}

/// Whether nobody on the internet can have this name resolve to an address of their choice.
fn is_private(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return address.0.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit_once('.').map(|(_, last)| last);
    name.parse::<Ipv4Addr>().is_ok()
        || match last {
            Some(last) => PRIVATE.iter().any(|private| last.eq_ignore_ascii_case(private)),
            None => !name.is_empty(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn names_that_can_be_bought_are_not_private() {
        for name in ["localhost", "localhost:9180", "a.localhost", "127.0.0.1:9180", "10.1.2.3", "[::1]", "[::1]:9180"]
        {
            assert!(is_private(name), "{name}");
        }
        for name in
            ["turnwise", "turnwise:9180", "turnwise.agents.svc", "turnwise.agents.svc.cluster.local:80", "Gw.INTERNAL."]
        {
            assert!(is_private(name), "{name}");
        }
        for name in [
            "evil.com",
            "evil.com:9180",
            "127.0.0.1.nip.io",
            "localhost.evil.com",
            "turnwise.prod",
            "",
            "[evil]",
            "1.2.3",
        ] {
            assert!(!is_private(name), "{name}");
        }
    }

    #[test]
    fn the_word_of_the_browser_counts_before_the_name() {
        let own = ("host", "gw:9180");
        for fields in [
            &[own][..],
            &[own, ("origin", "http://gw:9180")],
            &[own, ("origin", "https://GW:9180"), ("sec-fetch-site", "none")],
            &[own, ("origin", "https://ops.example"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!is_of_another_page(&headers(fields)), "{fields:?}");
        }
        for fields in [
            &[own, ("origin", "http://gw")][..],
            &[own, ("origin", "null")],
            &[own, ("origin", "")],
            &[("origin", "http://")],
            &[own, ("origin", "http://evil.example"), ("sec-fetch-site", "none")],
            &[own, ("sec-fetch-site", "cross-site")],
            &[own, ("sec-fetch-site", "same-site"), ("origin", "http://gw:9180")],
            &[own, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[own, ("sec-fetch-site", "")],
        ] {
            assert!(is_of_another_page(&headers(fields)), "{fields:?}");
        }
    }
}
