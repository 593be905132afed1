//! Names that some file systems take for one: the same text in another case or another Unicode
//! normal form.
//!
//! **Invariant:** on a portable target no two names given out by one [`DirectoryNames`] are twins,
//! so that saving never overwrites; on Linux names are left as they are, because Linux tells them
//! apart.

use std::collections::HashMap;

use icu_normalizer::DecomposingNormalizerBorrowed;

use super::{Component, Target, escape_for};
use crate::limits::NAME_BYTES_MAX;

/// The form in which twins are equal: compatibility decomposition of the folded text.
///
/// It is coarser than any one file system's rule: at worst a name gets a suffix that it did not
/// need.
pub fn twin_key(name: &str) -> String {
    let nfkd = DecomposingNormalizerBorrowed::new_nfkd();
    // Upper then lower case joins what either alone keeps apart: final sigma, dotless i, long s, sharp s.
    let folded = nfkd.normalize(name).to_uppercase().to_lowercase();
    nfkd.normalize(&folded).into_owned()
}

/// How one name is written on the target.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedName {
    /// The name to create.
    pub name: String,
    /// Whether it differs from the name as sent; such names are listed to the user.
    pub changed: bool,
}

/// Gives out the names of one directory on a target.
pub struct DirectoryNames {
    target: Target,
    /// Twin keys in use, each with the number that its next twin gets: a storm of twins costs no
    /// search.
    taken: HashMap<String, u64>,
}

impl DirectoryNames {
    /// The names of a directory that is still empty.
    pub fn new(target: Target) -> DirectoryNames {
        DirectoryNames { target, taken: HashMap::new() }
    }

    /// The name under which `name` is saved: escaped if the target cannot hold it, numbered if its
    /// twin is taken.
    pub fn assign(&mut self, name: &Component) -> SavedName {
        let escaped = escape_for(self.target, name);
        if self.target == Target::Linux {
            return SavedName { name: escaped.into_owned(), changed: false };
        }
        let key = twin_key(&escaped);
        let Some(mut number) = self.taken.get(&key).copied() else {
            self.taken.insert(key, 2);
            return SavedName { changed: escaped != name.as_str(), name: escaped.into_owned() };
        };
        let (candidate, candidate_key) = loop {
            let candidate = numbered(&escaped, number);
            let candidate_key = twin_key(&candidate);
            number += 1;
            if !self.taken.contains_key(&candidate_key) {
                break (candidate, candidate_key);
            }
        };
        self.taken.insert(key, number);
        self.taken.insert(candidate_key, 2);
        SavedName { name: candidate, changed: true }
    }
}

/// `name~2.ext`: the number stands before the last extension, which programs go by.
fn numbered(name: &str, number: u64) -> String {
    let suffix = format!("~{number}");
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 16 => name.split_at(dot),
        _ => (name, ""),
    };
    let mut end = stem.len().min(NAME_BYTES_MAX - suffix.len() - extension.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}{extension}", &stem[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn p17_twins_have_one_key() {
        let rows = [
            ("Å.dcm", "A\u{30a}.dcm", true),
            ("Å", "\u{212b}", true),
            ("IMAGE", "image", true),
            ("ÆØÅ", "æøå", true),
            ("straße", "STRASSE", true),
            ("ΣΑΣ", "σας", true),
            ("ﬁle", "file", true),
            ("a", "b", false),
            ("o", "ø", false),
        ];
        for (one, two, twins) in rows {
            assert_eq!(twin_key(one) == twin_key(two), twins, "{one} {two}");
        }
    }

    #[test]
    fn p17_twins_are_numbered_on_a_portable_target_only() {
        let names = ["scan.dcm", "SCAN.dcm", "scan~2.dcm", "Scan.DCM", "b\u{e5}t", "ba\u{30a}t", ".x", ".X"];
        let saved = |target| {
            let mut directory = DirectoryNames::new(target);
            names.map(|name| directory.assign(&Component::parse(name).unwrap()).name)
        };
        assert_eq!(saved(Target::Linux), names);
        let portable = saved(Target::Portable);
        let expected =
            ["scan.dcm", "SCAN~2.dcm", "scan~2~2.dcm", "Scan~3.DCM", "b\u{e5}t", "ba\u{30a}t~2", ".x", ".X~2"];
        assert_eq!(portable, expected);
        let keys: HashSet<String> = portable.iter().map(|name| twin_key(name)).collect();
        assert_eq!(keys.len(), names.len());
    }

    #[test]
    fn p17_numbered_names_stay_within_the_limit() {
        let long = "å".repeat(127);
        let mut directory = DirectoryNames::new(Target::Portable);
        for _ in 0..12 {
            let saved = directory.assign(&Component::parse(&long).unwrap());
            assert!(Component::parse(&saved.name).is_ok());
        }
    }
}
