//! Keys of tables as bytes that sort as the values do, so that ranges and prefixes work on the encoded form.
//!
//! **Invariant:** a component ends where it says itself, so that no key of a tuple is a prefix of another by accident;
//! `a < b` if and only if `a.to_bytes() < b.to_bytes()`.
//! **Invariant:** keys lie on disk as they are: ids, numbers and hashes only, never a name, subject or address.

use pakt_keys::entity::EntityId;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::time::Time;

/// A value that can be the key of a [`super::Table`].
pub trait Key: Sized {
    /// Appends the encoded key.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes a key from the front of `bytes`; `None` if they do not begin with one.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// The encoded key.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The key that `bytes` are, as a whole.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::read(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Key for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(<$number>::from_be_bytes(take(bytes)?))
            }
        }
    )*};
}

number!(u8, u16, u32, u64);

macro_rules! wrapper {
    ($($name:path),*) => {$(
        impl Key for $name {
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some($name(Key::read(bytes)?))
            }
        }
    )*};
}

wrapper!(AgreementId, CoreHash, EntityId, EnvelopeId, MessageId, ObjectId, Time);

impl<const N: usize> Key for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes)
    }
}

impl Key for () {
    fn write(&self, _out: &mut Vec<u8>) {}

    fn read(_bytes: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl Key for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match take(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

/// Only for texts that anyone may read, such as the name of a counter.
impl Key for String {
    /// Zero bytes are followed by 255; zero, zero ends the text.
    fn write(&self, out: &mut Vec<u8>) {
        for byte in self.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(255);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        loop {
            let [byte] = take(bytes)?;
            if byte != 0 {
                text.push(byte);
                continue;
            }
            match take(bytes)? {
                [0] => return String::from_utf8(text).ok(),
                [255] => text.push(0),
                _ => return None,
            }
        }
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Key),*> Key for ($($name,)*) {
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$index.write(out);)*
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::read(bytes)?,)*))
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

/// The first encoded key after all that begin with `prefix`; `None` if there is none.
pub(super) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 255 {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<K: Key + Ord + std::fmt::Debug>(a: K, b: K) {
        let (bytes_a, bytes_b) = (a.to_bytes(), b.to_bytes());
        assert_eq!(bytes_a.cmp(&bytes_b), a.cmp(&b), "{a:?} {b:?}");
        assert_eq!(K::from_bytes(&bytes_a).as_ref(), Some(&a));
        let longer = [&bytes_a[..], &[0]].concat();
        assert_eq!(K::from_bytes(&longer), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn numbers_sort(a: (u64, u32, bool), b: (u64, u32, bool)) {
            check(a, b);
        }

        #[test]
        fn texts_sort(a in "[\\x00\\x01a\u{ff}]{0,4}", b in "[\\x00\\x01a\u{ff}]{0,4}", x: u8, y: u8) {
            check((a, x), (b, y));
        }

        #[test]
        fn ids_sort(a: [u8; 16], b: [u8; 16], x: [u8; 32], y: [u8; 32], s: u16, t: u16) {
            check((EnvelopeId(a), s, ObjectId(x)), (EnvelopeId(b), t, ObjectId(y)));
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(vec![255]), None);
        assert_eq!(after_prefix(vec![]), None);
    }
}
