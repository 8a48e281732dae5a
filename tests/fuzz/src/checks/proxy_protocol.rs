//! The PROXY protocol against a strict reader of its own: the same source, or the same refusal; and from a real socket no
//! octet more is read than the header has. An octet that says whether a socket is used and in which pieces, then the octets.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::LazyLock;

use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use turnwise::server::proxy_protocol::{header, source};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The most that the gateway reads of a header of version 2.
const LONGEST: usize = 8 * 1024;

/// Whom a header names, and how long it is.
type Read = Option<(Option<SocketAddr>, usize)>;

/// Version 1: section 2.1 of the specification.
fn line(octets: &[u8]) -> Read {
    let end = octets.windows(2).take(106).position(|window| window == b"\r\n")?;
    let text = std::str::from_utf8(&octets[..end]).ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    let port = |word: &str| {
        let plain = word.bytes().all(|c| c.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| plain)
    };
    let source = match words[..] {
        // Whatever follows is to be passed over. The gateway wants it to be no more words than those of the others, without
        // half a line end.
        ["PROXY", "UNKNOWN", ..] => {
            return Some((None, end + 2)).filter(|_| words.len() <= 6 && !text.contains(['\r', '\n']));
        }
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            to.parse::<Ipv4Addr>().ok()?;
            port(to_port)?;
            Some((IpAddr::V4(from.parse().ok()?), port(from_port)?).into())
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            to.parse::<Ipv6Addr>().ok()?;
            port(to_port)?;
            Some((IpAddr::V6(from.parse().ok()?), port(from_port)?).into())
        }
        _ => return None,
    };
    Some((source, end + 2))
}

/// Version 2: section 2.2.
fn binary(octets: &[u8]) -> Read {
    let fixed = octets.get(..16)?;
    let length = 16 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let rest = octets.get(16..length)?;
    if length > LONGEST || fixed[12] >> 4 != 2 {
        return None;
    }
    match fixed[12] & 15 {
        // Whatever follows it is to be passed over, the family included.
        0 => return Some((None, length)),
        1 => {}
        _ => return None,
    }
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let source = match (fixed[13] >> 4, fixed[13] & 15) {
        (_, 3..) | (4.., _) => return None,
        (0, _) => None,
        (1, _) => {
            let from: [u8; 4] = rest.get(..12)?[..4].try_into().ok()?;
            Some((IpAddr::from(from), port(8)?).into())
        }
        (2, _) => {
            let from: [u8; 16] = rest.get(..36)?[..16].try_into().ok()?;
            Some((IpAddr::from(from), port(32)?).into())
        }
        _ => {
            rest.get(..216)?;
            None
        }
    };
    Some((source, length))
}

fn reference(octets: &[u8]) -> Read {
    if octets.starts_with(SIGNATURE) { binary(octets) } else { line(octets) }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static LISTENER: LazyLock<tokio::net::TcpListener> =
    LazyLock::new(|| RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("loopback"));

/// What is found, and what is left after it.
fn through_a_socket(octets: &[u8], piece: usize) -> (Option<Option<SocketAddr>>, Vec<u8>) {
    let at = LISTENER.local_addr().expect("bound");
    RUNTIME.block_on(async {
        let mut client = std::net::TcpStream::connect(at).expect("loopback");
        let (mut server, _) = LISTENER.accept().await.expect("connected");
        // Ports do not rest after it.
        server.set_zero_linger().expect("TCP");
        let writing = async {
            for piece in octets.chunks(piece) {
                client.write_all(piece).expect("it fits");
                tokio::task::yield_now().await;
            }
            client.shutdown(Shutdown::Write).expect("open");
        };
        let (found, ()) = tokio::join!(header(&mut server), writing);
        let mut left = Vec::new();
        server.read_to_end(&mut left).await.expect("open");
        (found.ok(), left)
    })
}

/// As the module says.
pub fn check(input: &[u8]) {
    let Some((how, octets)) = input.split_first() else { return };
    if octets.len() > 16 * 1024 {
        return;
    }
    let expected = reference(octets);
    match expected {
        Some((expected, length)) if length == octets.len() => {
            let found = source(octets);
            assert!(found.as_ref().is_ok_and(|found| *found == expected), "{found:?} instead of {expected:?}");
        }
        // More than a header: only whoever cuts it off may have an opinion.
        Some(_) => {}
        // Where half a line end stands in it, only whoever reads line by line notices.
        None => {
            assert!(!matches!(source(octets), Ok(Some(_))) || octets.starts_with(SIGNATURE), "{:?}", source(octets))
        }
    }
    if how % 8 == 0 {
        let (found, left) = through_a_socket(octets, usize::from(how / 8) * 3 + 1);
        assert_eq!(found, expected.map(|(source, _)| source));
        if let Some((_, length)) = expected {
            assert_eq!(left, octets[length..]);
        }
    }
}
