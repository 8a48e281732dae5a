//! Inputs that differ from those of a corpus in a few places, in the ways in which libFuzzer changes them, without a measure of
//! what they reach. The same number makes the same input.

use crate::dice::Dice;

/// How many of a hundred that are changed are changed once more.
const CHANGED_AGAIN: usize = 65;
/// Octets of a piece that is moved or removed, at most.
const LONGEST_PIECE: usize = 64;
/// Octets at which readers count, end or begin.
const OF_INTEREST: &[u8] = b"\0\t\n\r \"#%+,-/0:;=?\\_{}\x7f\x80\xbf\xc0\xed\xff";

/// What mutants are made of.
pub struct Breed {
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Breed {
    /// `dictionary` is one of libFuzzer's: a word in quotes on each line.
    pub fn new(corpus: Vec<Vec<u8>>, dictionary: &str) -> Self {
        let words = dictionary.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).map(unescape);
        Self { corpus, words: words.collect() }
    }

    pub fn mutant(&self, number: u64) -> Vec<u8> {
        let mut dice = Dice::new(number);
        let mut input = self.corpus[dice.roll(self.corpus.len())].clone();
        loop {
            self.change(&mut input, &mut dice);
            if !dice.chance(CHANGED_AGAIN) {
                return input;
            }
        }
    }

    fn change(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        let at = dice.roll(input.len() + 1);
        match dice.roll(8) {
            0 => input.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1 << dice.roll(8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|octet| *octet = dice.one_of(OF_INTEREST)),
            2 => input.insert(at, dice.one_of(OF_INTEREST)),
            3 => drop(input.drain(at..(at + dice.roll(LONGEST_PIECE)).min(input.len()))),
            4 => insert(input, at, &piece(&input.clone(), dice)),
            5 => insert(input, at, &piece(&self.corpus[dice.roll(self.corpus.len())], dice)),
            6 => input.truncate(at),
            _ => insert(input, at, &self.words[dice.roll(self.words.len())]),
        }
    }
}

fn piece(of: &[u8], dice: &mut Dice) -> Vec<u8> {
    let from = dice.roll(of.len() + 1);
    of[from..].iter().take(dice.roll(LONGEST_PIECE)).copied().collect()
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

/// Of a dictionary: `\xAB` is an octet, and a backslash before anything else stands for what follows it.
fn unescape(word: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = word.as_bytes();
    loop {
        rest = match rest {
            [] => return octets,
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("a hexadecimal digit") as u8;
                octets.push(digit(high) * 16 + digit(low));
                rest
            }
            [b'\\', octet, rest @ ..] | [octet, rest @ ..] => {
                octets.push(*octet);
                rest
            }
        };
    }
}

#[test]
fn words_are_what_a_dictionary_means() {
    assert_eq!(unescape(r#"a: b\x0d\x0a\"\\"#), b"a: b\r\n\"\\");
}
