//! The one byte format of records on the wire and at rest: a version byte, then bincode with fixed-width
//! big-endian integers and 64-bit lengths, and nothing after it.
//!
//! **Invariant:** one value has one encoding: what [`decode`] accepts, [`encode`] gives back byte for byte. This
//! holds for structs, enums, tuples, integers, booleans, strings, options, sequences and the helpers below. Records
//! must therefore hold no map, no set and no `Duration` (their decoders accept several forms), and no sequence
//! of elements that take zero bytes (its claimed length would cost time but no input).
//! **Invariant:** decoding never panics and reserves little, whatever lengths the input claims: beyond what the input
//! fills, at most 64 KiB for a string (64 MiB of untouched address space in inputs above 64 KiB), 1 MiB for a
//! sequence, nothing for the helpers below.

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::enc::write::{SizeWriter, Writer};
use bincode::error::EncodeError;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// The longest input that [`decode`] takes at all, in bytes; the caller's own limit is usually far lower.
pub const DECODE_BYTES_MAX: usize = 64 << 20;

/// Inputs up to this length may claim no more than this, in bytes.
const SHORT_BYTES_MAX: usize = 64 << 10;

const FORMAT: Configuration<BigEndian, Fixint> =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding();
const SHORT: Configuration<BigEndian, Fixint, Limit<SHORT_BYTES_MAX>> = FORMAT.with_limit::<SHORT_BYTES_MAX>();
const LONG: Configuration<BigEndian, Fixint, Limit<DECODE_BYTES_MAX>> = FORMAT.with_limit::<DECODE_BYTES_MAX>();

/// Why bytes are not a record; the sender of the bytes is to blame, except for `Newer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There is not even a version byte.
    #[error("the record is empty")]
    Empty,
    /// The input is longer than such a record may be; lengths in bytes.
    #[error("the record has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Length of the input in bytes.
        bytes: usize,
        /// Longest allowed input in bytes.
        max: usize,
    },
    /// A newer program wrote this record.
    #[error("the record has format version {found}, this program knows up to {supported}: upgrade it")]
    Newer {
        /// Version byte of the input.
        found: u8,
        /// Version asked for.
        supported: u8,
    },
    /// The record has a version that is no longer read.
    #[error("the record has format version {found}, this program reads {supported}")]
    Older {
        /// Version byte of the input.
        found: u8,
        /// Version asked for.
        supported: u8,
    },
    /// The bytes do not have the shape of this record.
    #[error("the record is malformed")]
    Malformed,
    /// The record is followed by further bytes.
    #[error("the record is followed by further bytes")]
    TrailingBytes,
}

/// Encodes `value` behind the `version` byte.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![version];
    write_body(value, &mut Appender(&mut bytes));
    bytes
}

/// Encodes `value` behind the `version` byte into a buffer that is wiped on drop and was never reallocated.
pub fn encode_secret<T: Serialize + ?Sized>(version: u8, value: &T) -> Zeroizing<Vec<u8>> {
    let mut size = SizeWriter::default();
    write_body(value, &mut size);
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + size.bytes_written));
    bytes.push(version);
    write_body(value, &mut Appender(&mut bytes));
    bytes
}

/// Decodes a record of exactly this `version` from the whole of `bytes`, which may be `bytes_max` long.
///
/// # Errors
/// [`CodecError`] says what is wrong; the version is judged before the rest is looked at.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    let max = bytes_max.min(DECODE_BYTES_MAX);
    if bytes.len() > max {
        return Err(CodecError::TooLong { bytes: bytes.len(), max });
    }
    let body = checked_version(version, bytes)?;
    let decoded = if body.len() <= SHORT_BYTES_MAX {
        bincode::serde::decode_from_slice(body, SHORT)
    } else {
        bincode::serde::decode_from_slice(body, LONG)
    };
    let (value, read) = decoded.map_err(|_| CodecError::Malformed)?;
    if read != body.len() {
        return Err(CodecError::TrailingBytes);
    }
    Ok(value)
}

fn checked_version(supported: u8, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    match found.cmp(&supported) {
        std::cmp::Ordering::Greater => Err(CodecError::Newer { found, supported }),
        std::cmp::Ordering::Less => Err(CodecError::Older { found, supported }),
        std::cmp::Ordering::Equal => Ok(body),
    }
}

fn write_body<T: Serialize + ?Sized>(value: &T, writer: &mut impl Writer) {
    // Both writers take everything, so only a sequence of unknown length could fail, and records hold none.
    bincode::serde::encode_into_writer(value, writer, FORMAT)
        .expect("records consist of values whose lengths are known");
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// `#[serde(with = "pakt_keys::codec::array")]` for `[u8; N]` of any length: N raw bytes.
pub mod array {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::ser::SerializeTuple;
    use serde::{Deserializer, Serializer};

    /// Writes the N bytes without a length.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }

    /// Reads N bytes.
    ///
    /// # Errors
    /// Those of the deserializer, and an input that ends early.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = [u8; N];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} bytes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq.next_element()?.ok_or_else(|| Error::invalid_length(i, &self))?;
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_tuple(N, Bytes)
    }
}

/// `#[serde(with = "pakt_keys::codec::bytes")]` for `Vec<u8>`: the same bytes as without it, copied at once
/// instead of one by one, and never more memory than the input really holds.
pub mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes a length and the bytes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads a length and as many bytes.
    ///
    /// # Errors
    /// Those of the deserializer, and an input that ends early.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Counted(u16),
        Named { name: String },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Record {
        kind: Kind,
        number: u64,
        flag: bool,
        list: Vec<u32>,
        nested: Vec<Vec<u8>>,
        maybe: Option<i16>,
        #[serde(with = "array")]
        long: [u8; 40],
        #[serde(with = "bytes")]
        blob: Vec<u8>,
    }

    fn sample() -> Record {
        Record {
            kind: Kind::Named { name: "näme".into() },
            number: 7,
            flag: true,
            list: vec![1, 2],
            nested: vec![vec![], vec![9]],
            maybe: Some(-2),
            long: [5; 40],
            blob: vec![1, 2, 3],
        }
    }

    fn record() -> impl Strategy<Value = Record> {
        let kind = prop_oneof![
            Just(Kind::Plain),
            any::<u16>().prop_map(Kind::Counted),
            ".{0,8}".prop_map(|name| Kind::Named { name }),
        ];
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        (
            kind,
            any::<u64>(),
            any::<bool>(),
            proptest::collection::vec(any::<u32>(), 0..4),
            proptest::collection::vec(bytes(), 0..3),
            any::<Option<i16>>(),
            any::<u8>(),
            bytes(),
        )
            .prop_map(|(kind, number, flag, list, nested, maybe, fill, blob)| Record {
                kind,
                number,
                flag,
                list,
                nested,
                maybe,
                long: [fill; 40],
                blob,
            })
    }

    fn check<T>(bytes: &[u8], expected: Result<T, CodecError>)
    where
        T: DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(decode::<T>(3, bytes, 1 << 20), expected, "{bytes:02x?}");
    }

    #[test]
    fn the_layout_is_fixed_width_and_big_endian() {
        let value = (1u8, 2u16, 3u32, Some(4u64), "ab", Kind::Counted(5));
        let hex = "03\
                   01\
                   0002\
                   00000003\
                   010000000000000004\
                   00000000000000026162\
                   000000010005";
        assert_eq!(hex::encode(encode(3, &value)), hex);
        assert_eq!(encode_secret(3, &value).as_slice(), encode(3, &value));
    }

    #[test]
    fn helpers_write_what_the_plain_types_write() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Helped {
            #[serde(with = "array")]
            array: [u8; 4],
            #[serde(with = "bytes")]
            bytes: Vec<u8>,
        }
        let plain = encode(3, &([1u8, 2, 3, 4], vec![5u8, 6]));
        let helped = Helped { array: [1, 2, 3, 4], bytes: vec![5, 6] };
        assert_eq!(encode(3, &helped), plain);
        check(&plain, Ok(helped));
    }

    #[test]
    fn wrong_bytes_have_named_errors() {
        use CodecError::*;
        check::<u16>(&[], Err(Empty));
        check::<u16>(&[4, 0, 1], Err(Newer { found: 4, supported: 3 }));
        check::<u16>(&[255], Err(Newer { found: 255, supported: 3 }));
        check::<u16>(&[2, 0, 1], Err(Older { found: 2, supported: 3 }));
        check::<u16>(&[3], Err(Malformed));
        check::<u16>(&[3, 0], Err(Malformed));
        check::<u16>(&[3, 0, 1], Ok(1));
        check::<u16>(&[3, 0, 1, 0], Err(TrailingBytes));
        check::<bool>(&[3, 2], Err(Malformed));
        check::<Option<u8>>(&[3, 2, 1], Err(Malformed));
        check::<Kind>(&[3, 0, 0, 0, 3], Err(Malformed));
        check::<String>(&[3, 0, 0, 0, 0, 0, 0, 0, 2, 0xc3, 0x28], Err(Malformed));
        let long = vec![3; (1 << 20) + 1];
        check::<u16>(&long, Err(TooLong { bytes: long.len(), max: 1 << 20 }));
        assert_eq!(decode::<u16>(3, &[3, 0, 1], 2), Err(TooLong { bytes: 3, max: 2 }));
    }

    #[test]
    fn every_shorter_and_longer_input_is_refused() {
        let bytes = encode(3, &sample());
        check(&bytes, Ok(sample()));
        for length in 1..bytes.len() {
            check::<Record>(&bytes[..length], Err(CodecError::Malformed));
        }
        for extra in 0..=255 {
            let longer = [bytes.as_slice(), &[extra]].concat();
            check::<Record>(&longer, Err(CodecError::TrailingBytes));
        }
    }

    #[test]
    fn claimed_lengths_reserve_nothing() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Blob(#[serde(with = "bytes")] Vec<u8>);
        let claims = (0..64).map(|shift| 1u64 << shift).chain([u64::MAX]);
        for claim in claims.filter(|claim| *claim > 4) {
            for tail in [0, 4, SHORT_BYTES_MAX] {
                if claim <= tail as u64 {
                    continue;
                }
                let bytes = [&[3], claim.to_be_bytes().as_slice(), &vec![0; tail]].concat();
                check::<Blob>(&bytes, Err(CodecError::Malformed));
                check::<String>(&bytes, Err(CodecError::Malformed));
                check::<Vec<u8>>(&bytes, Err(CodecError::Malformed));
                check::<Vec<u32>>(&bytes, Err(CodecError::Malformed));
                check::<Vec<Vec<String>>>(&bytes, Err(CodecError::Malformed));
            }
        }
    }

    #[test]
    fn a_long_record_makes_the_round_trip() {
        let text = "x".repeat(SHORT_BYTES_MAX * 3);
        let bytes = encode(3, &text);
        check(&bytes, Ok(text));
        check::<String>(&bytes[..bytes.len() - 1], Err(CodecError::Malformed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn round_trip(record in record()) {
            let bytes = encode(3, &record);
            prop_assert_eq!(&*encode_secret(3, &record), &bytes);
            prop_assert_eq!(decode::<Record>(3, &bytes, bytes.len()), Ok(record));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            record in record(), position: prop::sample::Index, with: u8,
        ) {
            let mut bytes = encode(3, &record);
            let position = position.index(bytes.len());
            bytes[position] = with;
            if let Ok(decoded) = decode::<Record>(3, &bytes, bytes.len()) {
                prop_assert_eq!(encode(3, &decoded), bytes);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[3], bytes.as_slice()].concat();
            if let Ok(decoded) = decode::<Record>(3, &bytes, 1 << 10) {
                prop_assert_eq!(encode(3, &decoded), bytes);
            }
        }
    }
}
