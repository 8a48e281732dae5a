//! The octets of a string that cannot be passed over: quotes, backslashes and control characters.

use wide::u8x64;

/// Octets looked at in one step: one for each bit of the answer.
pub(super) const BLOCK: usize = 64;

const CONTROLS_BELOW: u8 = 0x20;

/// Bit n is set when octet n is a quote, a backslash or a control character.
pub(super) fn marks(block: &[u8; BLOCK]) -> u64 {
    let octets = u8x64::new(*block);
    let quotes = (octets ^ u8x64::splat(b'"')).min(octets ^ u8x64::splat(b'\\'));
    let controls = octets.saturating_sub(u8x64::splat(CONTROLS_BELOW - 1));
    quotes.min(controls).simd_eq(u8x64::splat(0)).to_bitmask()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(block: &[u8; BLOCK]) -> u64 {
        let is_marked = |octet: u8| octet == b'"' || octet == b'\\' || octet < CONTROLS_BELOW;
        (0..BLOCK).filter(|place| is_marked(block[*place])).fold(0, |marks, place| marks | 1 << place)
    }

    #[test]
    fn every_octet_is_told_at_every_place() {
        for octet in 0..=u8::MAX {
            for place in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[place] = octet;
                assert_eq!(marks(&block), one_by_one(&block), "{octet} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_octet_changes_what_is_said_of_another(
            block in prop::array::uniform32(prop_oneof![Just(b'"'), Just(b'\\'), Just(0x1f), Just(0x21), any::<u8>()]),
        ) {
            let block: [u8; BLOCK] = [block, block].concat().try_into().expect("64 octets");
            prop_assert_eq!(marks(&block), one_by_one(&block));
        }
    }
}
