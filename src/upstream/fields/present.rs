//! Which of the fields that matter here a message has, found in one pass over its names.
//!
//! To look for a field that is absent costs a hash and a probe; most of those that matter are absent from most messages.

use http::{HeaderMap, HeaderName, header};

/// A field that is looked for, removed or extended on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
    Http2Settings,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyAuthenticationInfo,
    Host,
    ContentLength,
    Expect,
    Forwarded,
    XForwardedFor,
    Traceparent,
    Tracestate,
    TurnwiseTurn,
    TurnwiseSession,
    TurnwiseJoined,
    TurnwiseWhenBusy,
    /// One of the most common fields of the rest, which pass as they are.
    Plain,
}

impl Field {
    fn of(name: &HeaderName) -> Option<Self> {
        Some(match *name {
            header::CONNECTION => Self::Connection,
            header::TE => Self::Te,
            header::TRANSFER_ENCODING => Self::TransferEncoding,
            header::UPGRADE => Self::Upgrade,
            header::PROXY_AUTHENTICATE => Self::ProxyAuthenticate,
            header::PROXY_AUTHORIZATION => Self::ProxyAuthorization,
            header::HOST => Self::Host,
            header::CONTENT_LENGTH => Self::ContentLength,
            header::EXPECT => Self::Expect,
            header::FORWARDED => Self::Forwarded,
            header::ACCEPT
            | header::ACCEPT_ENCODING
            | header::AUTHORIZATION
            | header::CACHE_CONTROL
            | header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::COOKIE
            | header::DATE
            | header::SERVER
            | header::USER_AGENT
            | header::VARY
            | header::VIA => Self::Plain,
            _ => return Self::of_text(name.as_str()),
        })
    }

    fn of_text(name: &str) -> Option<Self> {
        Some(match name {
            "keep-alive" => Self::KeepAlive,
            "proxy-connection" => Self::ProxyConnection,
            "http2-settings" => Self::Http2Settings,
            "proxy-authentication-info" => Self::ProxyAuthenticationInfo,
            "x-forwarded-for" => Self::XForwardedFor,
            "traceparent" => Self::Traceparent,
            "tracestate" => Self::Tracestate,
            "turnwise-turn" => Self::TurnwiseTurn,
            "turnwise-session" => Self::TurnwiseSession,
            "turnwise-joined" => Self::TurnwiseJoined,
            "turnwise-when-busy" => Self::TurnwiseWhenBusy,
            _ => return None,
        })
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// The fields that a message had when it was looked at. One that was removed since then still counts as present.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present {
    fields: u32,
    /// Whether another field has `_` in its name.
    pub(super) underscore: bool,
}

impl Present {
    pub(super) fn in_request(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match Field::of(name) {
                Some(field) => present.fields |= field.bit(),
                None => present.underscore |= name.as_str().as_bytes().contains(&b'_'),
            }
        }
        present
    }

    /// As [`in_request`](Self::in_request), but how names are spelt is not looked at.
    pub(super) fn in_answer(headers: &HeaderMap) -> Self {
        let fields = headers.keys().filter_map(Field::of).fold(0, |fields, field| fields | field.bit());
        Self { fields, underscore: false }
    }

    pub(super) fn has(self, field: Field) -> bool {
        self.fields & field.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn names_with_underscores_are_seen_beside_the_fields() {
        let headers = |names: &[&'static str]| -> HeaderMap {
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static(""))).collect()
        };
        let present = Present::in_request(&headers(&["host", "x-forwarded-for", "accept", "a_b"]));
        assert!(present.has(Field::Host) && present.has(Field::XForwardedFor) && present.underscore);
        assert!(!present.has(Field::Te) && !present.has(Field::Forwarded));
        assert!(!Present::in_request(&headers(&["content-type", "x-other"])).underscore);
    }
}
