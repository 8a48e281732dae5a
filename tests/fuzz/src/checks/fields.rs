//! Fields that say who somebody is: forwarded addresses, request ids, traces, session keys, and the RateLimit fields that
//! the gateway writes. The first octet says which is looked at.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use sfv::{BareItem, List, ListEntry, Parser};
use turnwise::admission::{Allowance, Quota};
use turnwise::policy::{KeySource, NormalPath, PathMatch};
use turnwise::request::client_address::client_address;
use turnwise::request::ids::continue_trace;
use turnwise::request::{HeadView, RequestId, SessionKey, Tenant};

/// As the module says.
pub fn check(input: &[u8]) {
    let Some((which, rest)) = input.split_first() else { return };
    match which % 5 {
        0 => forwarded_for(rest),
        1 => forwarded(rest),
        2 => ids(rest),
        3 => session_keys(rest),
        _ => rate_limits(rest),
    }
}

const PEER: &str = "10.0.0.1";

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8", "1.0.0.0/8"].map(|net| net.parse().expect("a network")).to_vec()
}

fn lines(name: &'static str, input: &[u8]) -> HeaderMap {
    let name = HeaderName::from_static(name);
    let lines = input.split(|octet| *octet == b'\n').take(8);
    lines.filter_map(|line| Some((name.clone(), HeaderValue::from_bytes(line).ok()?))).collect()
}

/// The walk over hops, from the last one back.
fn walk(hops: Vec<Option<IpAddr>>) -> IpAddr {
    let peer: IpAddr = PEER.parse().expect("an address");
    let is_trusted = |address: &IpAddr| trusted().iter().any(|net| net.contains(address));
    let mut client = peer;
    for hop in hops.into_iter().rev().take(32) {
        let Some(hop) = hop else { break };
        client = hop;
        if !is_trusted(&hop) {
            break;
        }
    }
    client
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|text| text.contains(':'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn untrusted_is_itself(headers: &HeaderMap) {
    let peer: IpAddr = "192.0.2.7".parse().expect("an address");
    let client = client_address(peer, headers, &trusted());
    assert_eq!((client.address, client.peer_trusted), (peer, false));
}

fn forwarded_for(input: &[u8]) {
    let headers = lines("x-forwarded-for", input);
    untrusted_is_itself(&headers);
    let client = client_address(PEER.parse().expect("an address"), &headers, &trusted());
    assert!(client.peer_trusted);
    if headers.is_empty() || input.contains(&b'"') {
        return;
    }
    let members = headers.values().flat_map(|line| line.as_bytes().split(|octet| *octet == b','));
    let members = members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let hops = members.map(|member| address(std::str::from_utf8(member).ok()?)).collect();
    assert_eq!(client.address, walk(hops));
}

/// A list of RFC 7239 in its strict form, the `for` of each element; nothing where it is not that, or has escapes.
fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let (mut octets, mut all) = (text.bytes().peekable(), Vec::new());
    loop {
        let mut own = None;
        while octets.next_if(|c| matches!(c, b' ' | b'\t')).is_some() {}
        loop {
            let mut name = String::new();
            while let Some(c) = octets.next_if(|c| token(*c)) {
                name.push(char::from(c));
            }
            if name.is_empty() || octets.next() != Some(b'=') {
                return None;
            }
            let mut value = String::new();
            if octets.next_if_eq(&b'"').is_some() {
                loop {
                    match octets.next()? {
                        b'"' => break,
                        b'\\' => return None,
                        c => value.push(char::from(c)),
                    }
                }
            } else {
                while let Some(c) = octets.next_if(|c| token(*c)) {
                    value.push(char::from(c));
                }
                if value.is_empty() {
                    return None;
                }
            }
            if name.eq_ignore_ascii_case("for") && own.replace(value).is_some() {
                return None;
            }
            if octets.next_if_eq(&b';').is_none() {
                break;
            }
        }
        all.push(own);
        while octets.next_if(|c| matches!(c, b' ' | b'\t')).is_some() {}
        match octets.next() {
            None => return Some(all),
            Some(b',') => {}
            Some(_) => return None,
        }
    }
}

fn forwarded(input: &[u8]) {
    let headers = lines("forwarded", input);
    untrusted_is_itself(&headers);
    let client = client_address(PEER.parse().expect("an address"), &headers, &trusted());
    let mut hops = Vec::new();
    for line in headers.values() {
        let Some(more) = line.to_str().ok().and_then(elements) else { return };
        hops.extend(more.into_iter().map(|node| address(&node?)));
    }
    assert_eq!(client.address, walk(hops));
}

fn ids(input: &[u8]) {
    let headers = lines("x-request-id", input);
    let id = RequestId::of(&headers);
    let good = |id: &str| (1..=128).contains(&id.len()) && id.bytes().all(|c| (0x21..=0x7e).contains(&c));
    assert!(good(id.as_str()) && id.as_value() == id.as_str());
    let own: Vec<_> = headers.values().collect();
    match own[..] {
        [own] if own.to_str().is_ok_and(good) => assert_eq!(own, id.as_str()),
        _ => assert!(id.as_str().len() == 32 && id.as_str().bytes().all(|c| c.is_ascii_hexdigit())),
    }

    let mut headers = lines("traceparent", input);
    headers.insert("tracestate", HeaderValue::from_static("a=1"));
    let before: Vec<_> = headers.get_all("traceparent").iter().cloned().collect();
    continue_trace(&mut headers);
    let after: Vec<_> = headers.get_all("traceparent").iter().cloned().collect();
    let [new] = &after[..] else { panic!("{after:?}") };
    assert!(is_trace(new.as_bytes()), "{new:?}");
    let kept = matches!(&before[..], [own] if is_trace(own.as_bytes()));
    assert_eq!((kept, kept), (before == after, headers.contains_key("tracestate")));
}

/// Trace Context, section 3.2.
fn is_trace(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value.split(|octet| *octet == b'-').collect();
    let [version, trace, parent, flags, more @ ..] = &parts[..] else { return false };
    let hex = |part: &[u8], length: usize| {
        part.len() == length && part.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &[u8]| part.iter().any(|c| *c != b'0');
    hex(version, 2)
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && some(trace)
        && some(parent)
        && **version != *b"ff"
        && (**version != *b"00" || more.is_empty())
}

/// Who asks, as two fields tell.
fn tenant(parts: [Option<&[u8]>; 2]) -> Option<(Tenant, [Option<String>; 2])> {
    let names = ["x-a", "x-b"].map(HeaderName::from_static);
    let mut headers = HeaderMap::new();
    let mut texts = [None, None];
    for ((name, part), text) in names.iter().zip(parts).zip(&mut texts) {
        let Some(part) = part.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) else { continue };
        *text = Some(String::from_utf8(part.to_vec()).ok()?);
        headers.insert(name, HeaderValue::from_bytes(part).ok()?);
    }
    let path = NormalPath::parse("/").expect("a path");
    let head = HeadView { headers: &headers, query: None, path: &path };
    let within = names.map(KeySource::Header);
    Some((Tenant::read(&within, &PathMatch::Any, &head, None)?, texts))
}

/// Two names and two tenants, each part after a zero.
fn session_keys(input: &[u8]) {
    let mut parts = input.split(|octet| *octet == 0);
    let mut next = || parts.next();
    let names = [next().unwrap_or_default(), next().unwrap_or_default()];
    let tenants = [[next(), next()], [next(), next()]];
    let [Ok(one), Ok(other)] = names.map(std::str::from_utf8) else { return };
    let mut sessions: Vec<(String, [Option<String>; 2], SessionKey)> = Vec::new();
    let nobody = (Tenant::default(), [None, None]);
    for tenant in tenants.map(tenant).into_iter().flatten().chain([nobody]) {
        // The text of a key may be chosen as a name, too.
        let of_one = SessionKey::named(one, &tenant.0);
        let again = SessionKey::named(of_one.as_str(), &tenant.0);
        let chosen = [one.to_owned(), other.to_owned(), of_one.to_string(), again.to_string()];
        for name in chosen {
            let key = SessionKey::named(&name, &tenant.0);
            assert!(key.as_str().len() <= 290);
            sessions.push((name, tenant.1.clone(), key));
        }
        let anonymous = SessionKey::anonymous(&tenant.0);
        sessions.push(("\0nobody".into(), tenant.1, anonymous));
    }
    // The one without any `within` is another tenant than one who says nothing, and may name what they name.
    let asked = sessions.len() - 5;
    for (at, (name, tenant, key)) in sessions.iter().enumerate() {
        for (other_at, (other_name, other_tenant, other_key)) in sessions.iter().enumerate() {
            if (at >= asked) != (other_at >= asked) {
                assert_ne!(key, other_key);
            } else {
                assert_eq!(key == other_key, name == other_name && tenant == other_tenant, "{key} {other_key}");
            }
        }
    }
}

fn rate_limits(input: &[u8]) {
    let Some((numbers, name)) = input.split_at_checked(24) else { return };
    let Ok(name) = std::str::from_utf8(name) else { return };
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().expect("eight octets"));
    let (low, high) = ((number(0) & 0xffff_ffff) as u32, (number(0) >> 32) as u32);
    let burst = NonZeroU32::new(low).unwrap_or(NonZeroU32::MIN);
    let time = |number: u64| Duration::new(number >> 30, (number & 0x3fff_ffff) as u32 % 1_000_000_000);
    let allowance = Arc::new(Allowance::new(name.into(), burst, time(number(8))));
    let quota = Quota { allowance: allowance.clone(), remaining: high, reset: time(number(16)) };
    let policy = member(allowance.policy(), name, ["q", "w"]);
    assert_eq!(policy[0], i64::from(burst.get()));
    assert!(policy[1] >= 1);
    let state = member(&quota.state(), name, ["r", "t"]);
    assert_eq!(state[0], i64::from(high));
    assert!(state[1] >= 0 && (state[1] > 0 || quota.reset.is_zero()));
    // What is said is never too early.
    assert!(u64::try_from(state[1]).expect("not negative") >= quota.reset.as_secs());
}

/// The numbers of a field that is a list of one string with two parameters.
fn member(value: &HeaderValue, name: &str, keys: [&str; 2]) -> [i64; 2] {
    let list: List = Parser::new(value.as_bytes()).parse().unwrap_or_else(|error| panic!("{value:?}: {error}"));
    let [ListEntry::Item(item)] = &list[..] else { panic!("{value:?}") };
    let BareItem::String(own) = &item.bare_item else { panic!("{value:?}") };
    if name.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        assert_eq!(own.as_str(), name);
    }
    assert_eq!(item.params.len(), 2);
    keys.map(|key| match item.params.get(key) {
        Some(BareItem::Integer(number)) => i64::from(*number),
        other => panic!("{value:?}: {key} is {other:?}"),
    })
}
