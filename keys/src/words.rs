//! Fingerprints that two people compare on the telephone: ten words of the English list of BIP-39.
//!
//! Ten words hold 110 bits. Finding another entity with the fingerprint of a given one takes 2^110 tries.
//!
//! **Invariant:** the list never changes: fingerprints are printed on letters.

use crate::entity::EntityId;

/// Number of words in a fingerprint.
pub const WORDS: usize = 10;

const BITS_PER_WORD: usize = 11;
const ENGLISH: &str = include_str!("../assets/bip39-english.txt");

/// The fingerprint of an entity: ten lower-case words with single spaces.
pub fn fingerprint(entity: &EntityId) -> String {
    words_of(entity).join(" ")
}

/// Whether someone typed this entity's fingerprint; case, spaces, hyphens and other separators do not matter.
pub fn matches(entity: &EntityId, typed: &str) -> bool {
    let typed = typed.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    typed.map(str::to_lowercase).eq(words_of(entity))
}

/// The first word of what was typed that is not that of the fingerprint, and its place from 1 on; none if nothing differs or
/// there are more or fewer than ten words. Which word would be right it does not tell: people read it to each other.
pub fn first_difference(entity: &EntityId, typed: &str) -> Option<(usize, String)> {
    let typed: Vec<String> = typed
        .split(|letter: char| !letter.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let place = words_of(entity).iter().zip(&typed).position(|(word, typed)| word != typed)?;
    (typed.len() == WORDS).then(|| (place + 1, typed[place].clone()))
}

fn words_of(entity: &EntityId) -> [&'static str; WORDS] {
    let digest = blake3::derive_key("pakt fingerprint v1", &entity.0);
    let list: Vec<&str> = ENGLISH.lines().collect();
    let mut words = [""; WORDS];
    for (number, word) in words.iter_mut().enumerate() {
        *word = list[bits(&digest, number * BITS_PER_WORD)];
    }
    words
}

/// Eleven bits from bit `first` on, the highest bit of a byte first: a number below 2,048.
fn bits(digest: &[u8; 32], first: usize) -> usize {
    (first..first + BITS_PER_WORD)
        .fold(0, |number, bit| number << 1 | usize::from(digest[bit / 8] >> (7 - bit % 8) & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity() -> EntityId {
        EntityId([7; 32])
    }

    fn check(typed: &str, expected: bool) {
        assert_eq!(matches(&entity(), typed), expected, "{typed:?}");
    }

    #[test]
    fn the_list_is_the_published_one() {
        let list: Vec<&str> = ENGLISH.lines().collect();
        assert_eq!(list.len(), 1 << BITS_PER_WORD);
        assert_eq!((list[0], list[1023], list[2047]), ("abandon", "lend", "zoo"));
        assert!(list.is_sorted());
        assert!(list.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert_eq!(blake3::hash(ENGLISH.as_bytes()).to_hex().as_str(), LIST_HASH);
    }

    const LIST_HASH: &str = "43afe08c75f902534cfd2a694bef11db381f4804cd3ef76cd05a8ad0d7199122";

    #[test]
    fn the_fingerprint_is_stable() {
        assert_eq!(fingerprint(&entity()), GOLDEN);
        assert_eq!(fingerprint(&entity()).split(' ').count(), WORDS);
        assert_ne!(fingerprint(&EntityId([8; 32])), GOLDEN);
    }

    /// Computed with another implementation (Python: blake3).
    const GOLDEN: &str = "remember axis grant please disease patient dynamic priority people pen";

    #[test]
    fn bits_are_taken_from_the_left() {
        let mut digest = [0; 32];
        (digest[0], digest[1], digest[2]) = (0b1000_0000, 0b0010_0000, 0b0000_0100);
        assert_eq!(bits(&digest, 0), 0b100_0000_0001);
        assert_eq!(bits(&digest, 11), 1);
        assert_eq!(bits(&[0xff; 32], 99), 2047);
    }

    #[test]
    fn people_type_as_they_like_but_the_words_must_be_right() {
        let words: Vec<String> = fingerprint(&entity()).split(' ').map(str::to_owned).collect();
        let mut swapped = words.clone();
        swapped.swap(0, 1);
        check(&words.join(" "), true);
        check(&words.join("-").to_uppercase(), true);
        check(&format!("  {}\n", words.join(" \t ")), true);
        check(&words.join(", "), true);
        check(&words[..9].join(" "), false);
        check(&[words.join(" "), "zoo".into()].join(" "), false);
        check(&swapped.join(" "), false);
        check(&words.concat(), false);
        check("", false);
    }

    #[test]
    fn the_first_word_that_differs_is_named() {
        let right = fingerprint(&entity());
        assert_eq!(first_difference(&entity(), &right.to_uppercase()), None);
        let mut words: Vec<&str> = right.split(' ').collect();
        (words[2], words[7]) = ("tyop", "zoo");
        assert_eq!(first_difference(&entity(), &words.join("-")), Some((3, "tyop".to_owned())));
        assert_eq!(first_difference(&entity(), "tyop"), None, "a part is no fingerprint");
        assert_eq!(first_difference(&entity(), ""), None);
    }
}
