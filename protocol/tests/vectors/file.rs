//! The text form of a vector: a header of `key: value` lines, an empty line, then armour, text or blocks of
//! hexadecimal.

use std::collections::BTreeMap;

use pakt_protocol::armour::{self, Label};

const HEX_COLUMNS: usize = 120;

/// One vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vector {
    /// The file's name without its ending.
    pub(crate) name: String,
    pub(crate) kind: String,
    /// `ok`, or the name of an error.
    pub(crate) expect: String,
    pub(crate) note: String,
    /// Further lines of the header.
    pub(crate) more: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Vector {
    pub(crate) fn new(name: &str, kind: &str, expect: &str, note: &str) -> Vector {
        Vector {
            name: name.to_owned(),
            kind: kind.to_owned(),
            expect: expect.to_owned(),
            note: note.to_owned(),
            more: BTreeMap::new(),
            body: String::new(),
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Vector {
        self.more.insert(key.to_owned(), value.to_string());
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Vector {
        self.body = text.to_owned();
        self
    }

    pub(crate) fn armour(self, label: Label, record: &[u8]) -> Vector {
        self.text(&armour::encode(label, record))
    }

    pub(crate) fn hex(self, bytes: &[u8]) -> Vector {
        self.blocks(&[bytes.to_vec()])
    }

    pub(crate) fn blocks(self, blocks: &[Vec<u8>]) -> Vector {
        let block = |bytes: &Vec<u8>| {
            let digits = hex::encode(bytes);
            let lines = digits.as_bytes().chunks(HEX_COLUMNS).map(|line| line.iter().map(|&b| char::from(b)));
            lines.fold(String::new(), |text, line| text + &line.collect::<String>() + "\n")
        };
        self.text(&blocks.iter().map(block).collect::<Vec<_>>().join("\n"))
    }

    pub(crate) fn render(&self) -> String {
        let more: String = self.more.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        format!("kind: {}\nexpect: {}\nnote: {}\n{more}\n{}", self.kind, self.expect, self.note, self.body)
    }

    pub(crate) fn parse(name: &str, text: &str) -> Option<Vector> {
        let (header, body) = text.split_once("\n\n")?;
        let mut more = BTreeMap::new();
        for line in header.lines() {
            let (key, value) = line.split_once(": ")?;
            more.insert(key.to_owned(), value.to_owned());
        }
        let (kind, expect, note) = (more.remove("kind")?, more.remove("expect")?, more.remove("note")?);
        Some(Vector { name: name.to_owned(), kind, expect, note, more, body: body.to_owned() })
    }

    /// The bytes of a body in hexadecimal, with the zeros that the header adds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = hex_of(&self.body);
        let zeros = self.more.get("zeros").map_or(0, |zeros| zeros.parse().expect("a number of bytes"));
        bytes.resize(bytes.len() + zeros, 0);
        bytes
    }

    /// Blocks of hexadecimal, separated by empty lines.
    pub(crate) fn block_bytes(&self) -> Vec<Vec<u8>> {
        self.body.split("\n\n").map(hex_of).collect()
    }

    pub(crate) fn is_armour(&self) -> bool {
        self.body.starts_with('-')
    }

    pub(crate) fn key(&self) -> [u8; 32] {
        let bytes = hex_of(self.more.get("key").expect("this kind names a key"));
        bytes.try_into().expect("keys have 32 bytes")
    }
}

fn hex_of(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).expect("hexadecimal")
}
