//! Names and values of header fields, methods, JSON pointers.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method};

use crate::config::key::Required;
use crate::config::{Fault, Key, Strict, Text, key, quoted};

pub(super) const HEADER_TEXT: Text =
    Text { what: "a header such as `X-Api-Key`", pattern: "^[!#$%&'*+.^`|~0-9A-Za-z-]{1,128}$" };
const HEADER: Strict<HeaderName> = Strict(&HEADER_TEXT, header_name);
const SESSION_TEXT: Text = Text { what: "a header such as `X-Session-Id`", pattern: HEADER_TEXT.pattern };
pub(super) const SESSION_HEADER: Strict<HeaderName> = Strict(&SESSION_TEXT, header_name);
pub(super) const HEADER_TO_SET: Strict<HeaderName> = Strict(&SESSION_TEXT, header_to_set);
pub(super) const HEADER_VALUE: Strict<HeaderValue> = Strict(
    &Text { what: "a text such as `beta`", pattern: "^[^\\u0000-\\u0008\\u000a-\\u001f\\u007f]+$" },
    header_value,
);
pub(super) const METHOD: Strict<Method> =
    Strict(&Text { what: "a method such as `POST`", pattern: "^[!#$%&'*+.^_`|~0-9A-Z-]{1,32}$" }, method);
pub(super) const POINTER: Strict<Vec<String>> =
    Strict(&Text { what: "a JSON pointer such as `/session_id`", pattern: "^/([^~]|~[01])*$" }, json_pointer);
pub(super) const FIELD: Strict<String> = Strict(
    &Text { what: "a field such as `session_id`", pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$" },
    field_name,
);
pub(super) const COOKIE: Strict<String> =
    Strict(&Text { what: "a cookie such as `sid`", pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$" }, cookie_name);

crate::config::keys! {
    /// A header, by which requests are told apart.
    pub(super) mod by_header = "header" {
        HEADER: Key<Strict<HeaderName>, Required> = key("header", super::HEADER, Required,
            "by the value of this field");
    }
}

/// A header that the policy reads.
///
/// Names with `_` are refused: the gateway drops such fields when they resemble one that is read, because servers
/// that follow CGI take `_` and `-` for the same.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Fault> {
    let wrong = || Fault::new(format!("`{}` is no header name", quoted(text)));
    if text.len() > 128 {
        return Err(wrong());
    }
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong())?;
    if name.as_str().contains('_') {
        return Err(wrong().hint(format!("did you mean `{}`?", text.replace('_', "-"))));
    }
    Ok(name)
}

/// A header that the gateway may set for a client.
pub(super) fn header_to_set(text: &str) -> Result<HeaderName, Fault> {
    let name = header_name(text)?;
    let owned = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    if owned.contains(&name) {
        return Err(Fault::new(format!("`{}` cannot hold a session key: it frames the request", quoted(text))));
    }
    Ok(name)
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, Fault> {
    // Not quoted: it may be a secret.
    HeaderValue::from_str(text).map_err(|_| Fault::new("must be text that a header can carry (no control characters)"))
}

pub(super) fn method(text: &str) -> Result<Method, Fault> {
    let wrong = || Fault::new(format!("must be a method such as `POST`, not `{}`", quoted(text)));
    if text.len() > 32 {
        return Err(wrong());
    }
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| wrong())?;
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(wrong().hint(format!("did you mean `{}`?", text.to_ascii_uppercase())));
    }
    Ok(method)
}

/// Decoded reference tokens of a JSON pointer (RFC 6901); the pointer to the whole document is refused.
pub(super) fn json_pointer(text: &str) -> Result<Vec<String>, Fault> {
    let wrong = || Fault::new(format!("must be a JSON pointer such as `/session_id`, not `{}`", quoted(text)));
    if text.len() > 512 {
        return Err(Fault::new("must be at most 512 characters"));
    }
    let Some(inner) = text.strip_prefix('/') else {
        let plain = text.trim_start_matches("$.").replace('.', "/");
        return Err(wrong().hint(format!("did you mean `/{}`?", quoted(&plain))));
    };
    let token = |token: &str| {
        let mut escapes = token.split('~').skip(1);
        if escapes.any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(wrong().hint("in a JSON pointer `~` is written `~0`, and `/` is written `~1`"));
        }
        // RFC 6901 section 4: `~1` first, so that `~01` becomes `~1`.
        Ok(token.replace("~1", "/").replace("~0", "~"))
    };
    inner.split('/').map(token).collect()
}

/// Name of a form field or of a query parameter.
pub(super) fn field_name(text: &str) -> Result<String, Fault> {
    if text.len() > 128 || text.chars().any(char::is_control) {
        return Err(Fault::new("must be a name of at most 128 visible characters"));
    }
    Ok(text.to_owned())
}

/// A cookie's name (RFC 6265 section 4.1.1: a token).
pub(super) fn cookie_name(text: &str) -> Result<String, Fault> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() > 128 || text.is_empty() || !text.bytes().all(token) {
        return Err(Fault::new(format!("`{}` is no cookie name", quoted(text))));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_pointers_are_decoded() {
        assert_eq!(json_pointer("/a~1b/m~0n/~01/0").expect("a pointer"), ["a/b", "m~n", "~1", "0"]);
        assert_eq!(json_pointer("/").expect("a pointer"), [""]);
        for text in ["", "a", "/a~", "/~2"] {
            json_pointer(text).expect_err(text);
        }
    }

    #[test]
    fn a_path_with_dots_is_taken_for_a_pointer() {
        let hint = json_pointer("$.metadata.session").expect_err("dots").hint;
        assert_eq!(hint.as_deref(), Some("did you mean `/metadata/session`?"));
    }

    #[test]
    fn a_header_with_an_underscore_would_never_be_seen() {
        let hint = header_name("X_Api_Key").expect_err("underscores").hint;
        assert_eq!(hint.as_deref(), Some("did you mean `X-Api-Key`?"));
    }

    #[test]
    fn a_method_in_lower_case_is_another_method() {
        assert_eq!(method("get").expect_err("lower case").hint.as_deref(), Some("did you mean `GET`?"));
        method("PURGE").expect("methods are open");
    }

    #[test]
    fn headers_that_frame_are_not_set() {
        header_to_set("Content-Length").expect_err("frames");
        header_to_set("X-Session-Id").expect("does not");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[/~0-9a-zA-Zé.$_ -]{0,30}") {
            let _ = (json_pointer(&text), header_to_set(&text), header_value(&text), method(&text), cookie_name(&text));
        }
    }
}
