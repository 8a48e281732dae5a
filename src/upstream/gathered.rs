//! Writes of a few small pieces, in one.

use std::io::IoSlice;

/// Up to here it costs less to put the pieces of a write together than to have the system gather them.
pub const SMALL: usize = 2048;

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
