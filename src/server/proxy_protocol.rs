//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): a header before everything else, in which a
//! load balancer says whose connection it passes on.
//!
//! A listener has it or has it not: to guess would let a client that reaches it directly say who it is. Where it is
//! expected and does not come, or is not sound, the connection is closed without a word, as the protocol demands.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The shortest header there is: `PROXY UNKNOWN` with its line end.
const SHORTEST: usize = 15;
/// The longest of version 1, which is a line.
const LONGEST_LINE: usize = 107;
/// Octets of a header of version 2 that say how long the rest is.
const FIXED: usize = 16;
/// The longest of version 2 that is read, its additional fields included. Those of TLS certificates have 2 KiB or so.
const LONGEST: usize = 8 * 1024;

/// Reads the header, and not an octet more. Whose connection it is; `None`: the balancer's own, or one that it knows no
/// address of. Without a deadline of its own; when it is dropped the connection is of no use any more.
///
/// # Errors
/// When the header is not sound, or the connection breaks.
pub async fn header(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut octets = vec![0; SHORTEST];
    socket.read_exact(&mut octets).await?;
    if octets.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        line(socket, &mut octets).await?;
    } else if octets.starts_with(v2::PROTOCOL_PREFIX) {
        more(socket, &mut octets, FIXED).await?;
        let length = FIXED + usize::from(u16::from_be_bytes([octets[14], octets[15]]));
        if length > LONGEST {
            return Err(unsound("it is too long"));
        }
        more(socket, &mut octets, length).await?;
    }
    source(&octets)
}

/// Reads up to `length` octets in all.
async fn more(socket: &mut TcpStream, octets: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let from = octets.len();
    octets.resize(length, 0);
    socket.read_exact(&mut octets[from..]).await.map(drop)
}

/// Reads to the end of the line. What comes after it is looked at and left.
async fn line(socket: &mut TcpStream, octets: &mut Vec<u8>) -> io::Result<()> {
    while octets.last() != Some(&b'\n') {
        let mut ahead = [0; LONGEST_LINE];
        let room = LONGEST_LINE.saturating_sub(octets.len());
        if room == 0 {
            return Err(unsound("its line is too long"));
        }
        let seen = socket.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = memchr::memchr(b'\n', &ahead[..seen]).map_or(seen, |end| end + 1);
        more(socket, octets, octets.len() + take).await?;
    }
    // The library takes half of it where the address is unknown.
    if octets.ends_with(b"\r\n") { Ok(()) } else { Err(unsound("its line does not end with CR and LF")) }
}

/// Whom a whole header names, as in [`header`].
///
/// # Errors
/// When the header is not sound.
pub fn source(octets: &[u8]) -> io::Result<Option<SocketAddr>> {
    // Of a connection of the balancer's own nothing else is to be looked at.
    let is_local = octets.starts_with(v2::PROTOCOL_PREFIX) && octets.get(12) == Some(&0x20);
    if is_local {
        return Ok(None);
    }
    let result = HeaderResult::parse(octets);
    if result.is_incomplete() {
        return Err(unsound("it does not end where it says"));
    }
    match result {
        // The library reads ports as Rust does, with a sign.
        HeaderResult::V1(Ok(header)) if header.addresses != v1::Addresses::Unknown && octets.contains(&b'+') => {
            Err(unsound("a port is a number without a sign"))
        }
        HeaderResult::V1(header) => Ok(match header.map_err(unsound)?.addresses {
            v1::Addresses::Tcp4(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port).into()),
            v1::Addresses::Tcp6(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(header) => {
            let header = header.map_err(unsound)?;
            if header.command == v2::Command::Local {
                return Ok(None);
            }
            Ok(match header.addresses {
                v2::Addresses::IPv4(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port).into()),
                v2::Addresses::IPv6(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port).into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            })
        }
    }
}

fn unsound(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [V2, &[command, family], &length, rest].concat()
    }

    /// What is found of a header that comes in pieces, and what is left after it.
    async fn read(octets: &[u8], pieces: usize) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("loopback");
        let (mut server, _) = listener.accept().await.expect("connected");
        client.set_nodelay(true).expect("TCP");
        let octets = octets.to_vec();
        let sending = tokio::spawn(async move {
            for piece in octets.chunks(octets.len().div_ceil(pieces)) {
                // The other side may have seen enough.
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        });
        let found = header(&mut server).await;
        sending.await.expect("no panic");
        let mut left = Vec::new();
        let _ = server.read_to_end(&mut left).await;
        (found, left)
    }

    #[tokio::test]
    async fn both_versions_say_whose_connection_it_is_and_leave_what_follows() {
        let v4 = v2(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]);
        let mut v6 = [[0; 16], [0; 16]].concat();
        v6[15] = 1;
        v6.extend([0, 99, 0, 80]);
        // A field that says nothing (PP2_TYPE_NOOP) comes after the addresses.
        v6.extend([4, 0, 3, 1, 2, 3]);
        for (header, whose) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(), Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::7 ::1 99 80\r\n".to_vec(), Some("[2001:db8::7]:99")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever else stands here\r\n".to_vec(), None),
            (v2(0x20, 0x11, b"ab"), None),
            (v4, Some("192.0.2.7:8080")),
            (v2(0x21, 0x21, &v6), Some("[::1]:99")),
            (v2(0x20, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]), None),
            (v2(0x20, 0, &[]), None),
            (v2(0x21, 0, &[]), None),
        ] {
            for pieces in [1, 3, header.len()] {
                let sent = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
                let (found, left) = read(&sent, pieces).await;
                let found = found.unwrap_or_else(|error| panic!("{header:?}: {error}"));
                assert_eq!(found, whose.map(|whose| whose.parse().expect("an address")), "{header:?}");
                assert_eq!(left, b"GET / HTTP/1.1\r\n", "{header:?} in {pieces} pieces");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_sound_header_is_refused() {
        let long = [b'x'; 100];
        let too_long = {
            let mut header = v2(0x21, 0x11, &[]);
            header[14..16].copy_from_slice(&[0xff, 0xff]);
            header
        };
        for octets in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7\r\n\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.300 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +8080 80\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 ::1 99 +80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n\n\n".to_vec(),
            b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &long[..], b"\r\n"].concat(),
            b"PROXY TCP4 1".to_vec(),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x2f, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 4]),
            too_long,
            V2.to_vec(),
        ] {
            let (found, _) = read(&octets, 1).await;
            assert!(found.is_err(), "{octets:?}: {found:?}");
        }
    }
}
