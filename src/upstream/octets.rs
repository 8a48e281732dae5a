//! Octets in few calls of the system and few allocations.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// Up to here it costs less to put the pieces of a write together than to have the system gather them.
pub const SMALL: usize = 2048;

/// Most heads fit, with a small body, and then need no second look at the socket.
pub const AT_ONCE: usize = 4096;

/// The octets of `pieces` in one piece, put together in `room` if they are several; `None` if they are too many for it.
#[must_use]
pub fn gathered<'o>(pieces: &'o [IoSlice<'_>], room: &'o mut [u8; SMALL]) -> Option<&'o [u8]> {
    if let [piece] = pieces {
        return Some(piece);
    }
    let mut end = 0;
    for piece in pieces {
        room.get_mut(end..end + piece.len())?.copy_from_slice(piece);
        end += piece.len();
    }
    Some(&room[..end])
}

/// Reads what is there, [`AT_ONCE`] octets at the most, by way of the stack: who waits for a silent peer holds no buffer
/// for it, and what comes takes as much memory as it is long. Empty at the end.
pub fn poll_octets<S: AsyncRead + Unpin + ?Sized>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut room = [const { MaybeUninit::uninit() }; AT_ONCE];
    let mut octets = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut octets))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(octets.filled())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_too_many_octets_stay_apart() {
        let mut room = [0; SMALL];
        let (a, b) = ([b'a'; 1000], [b'b'; 1048]);
        let whole = gathered(&[IoSlice::new(&a), IoSlice::new(&b)], &mut room).map(<[u8]>::to_vec);
        assert_eq!(whole, Some([&a[..], &b[..]].concat()));
        assert_eq!(gathered(&[IoSlice::new(&a), IoSlice::new(&b), IoSlice::new(b"c")], &mut room), None);
        let large = [b'x'; SMALL * 2];
        assert_eq!(gathered(&[IoSlice::new(&large)], &mut room), Some(&large[..]), "one piece needs no room");
    }
}
