//! Writing a name where the target cannot hold it, so that it stays one plain file in its
//! directory.
//!
//! Escapes are `%XX` of UTF-8 bytes, as in URLs: people can read them back. The rules for Windows
//! follow Microsoft's "Naming Files, Paths, and Namespaces".
//!
//! **Invariant:** the result passes [`Component::parse`] itself, and on the portable target holds
//! no character, ending or stem that Windows reads as a drive, share, stream, device or parent.

use std::borrow::Cow;
use std::fmt::Write;

use super::{Component, Target};
use crate::limits::NAME_BYTES_MAX;

/// Hexadecimal digits of the name's hash that replace the end of a name which its escapes made too
/// long.
const HASH_DIGITS: usize = 16;

/// How `name` is written on `target`; borrowed when it needs no change.
pub fn escape_for(target: Target, name: &Component) -> Cow<'_, str> {
    let name = name.as_str();
    match target {
        Target::Linux => Cow::Borrowed(name),
        Target::Portable if is_portable(name) => Cow::Borrowed(name),
        Target::Portable => Cow::Owned(shorten(name, escape(name))),
    }
}

fn is_portable(name: &str) -> bool {
    !name.chars().any(is_refused) && !ends_badly(name) && !is_device(name) && !looks_escaped(name)
}

/// Characters that Windows refuses or gives a meaning: control characters, separators, streams,
/// wildcards.
fn is_refused(c: char) -> bool {
    c.is_control() || matches!(c, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*')
}

/// Windows silently drops such endings, which would make two names one.
fn ends_badly(name: &str) -> bool {
    name.ends_with(['.', ' '])
}

/// Names of devices, with any extension, in any case.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_uppercase();
    if matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$") {
        return true;
    }
    let Some(port) = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")) else {
        return false;
    };
    matches!(port, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
}

/// A `%` and two hexadecimal digits: must be escaped itself, or two names could be written alike.
fn looks_escaped(name: &str) -> bool {
    name.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit())
}

fn escape(name: &str) -> String {
    let device = is_device(name);
    let kept = if ends_badly(name) { name.len() - 1 } else { name.len() };
    let mut out = String::with_capacity(name.len() + 8);
    for (place, c) in name.char_indices() {
        let percent = c == '%' && looks_escaped(name);
        if is_refused(c) || percent || place >= kept || (device && place == 0) {
            push_escaped(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

fn push_escaped(out: &mut String, c: char) {
    let mut buffer = [0; 4];
    for byte in c.encode_utf8(&mut buffer).bytes() {
        // Writing to a String cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

/// Cuts what escapes made too long, and appends a hash of the whole name, so that names with one
/// beginning stay apart.
fn shorten(name: &str, escaped: String) -> String {
    if escaped.len() <= NAME_BYTES_MAX {
        return escaped;
    }
    let mut end = NAME_BYTES_MAX - HASH_DIGITS - 1;
    while !escaped.is_char_boundary(end) {
        end -= 1;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{}~{}", &escaped[..end], &hash[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn portable(name: &str) -> String {
        escape_for(Target::Portable, &Component::parse(name).unwrap()).into_owned()
    }

    #[test]
    fn p17_names_with_a_meaning_elsewhere_become_plain() {
        let rows = [
            ("image.dcm", "image.dcm"),
            ("pasient æøå 🩻", "pasient æøå 🩻"),
            (".hidden", ".hidden"),
            ("...", "..%2E"),
            ("C:\\windows", "C%3A%5Cwindows"),
            ("C:", "C%3A"),
            ("\\\\server\\share", "%5C%5Cserver%5Cshare"),
            ("\\\\?\\C:\\x", "%5C%5C%3F%5CC%3A%5Cx"),
            ("..\\..\\x", "..%5C..%5Cx"),
            ("file.txt:stream", "file.txt%3Astream"),
            ("file::$DATA", "file%3A%3A$DATA"),
            ("trailing.", "trailing%2E"),
            ("trailing. ", "trailing.%20"),
            ("trailing ", "trailing%20"),
            ("CON", "%43ON"),
            ("con", "%63on"),
            ("nul.txt", "%6Eul.txt"),
            ("NUL .txt", "%4EUL .txt"),
            ("Com1.tar.gz", "%43om1.tar.gz"),
            ("LPT¹", "%4CPT¹"),
            ("COM10", "COM10"),
            ("CONSOLE", "CONSOLE"),
            ("CONIN$", "%43ONIN$"),
            ("a\nb\u{1b}", "a%0Ab%1B"),
            ("a\u{9b}", "a%C2%9B"),
            ("what? *.*", "what%3F %2A.%2A"),
            ("100%", "100%"),
            ("100%25", "100%2525"),
            ("%43ON", "%2543ON"),
        ];
        for (name, expected) in rows {
            assert_eq!(portable(name), expected, "{name:?}");
            assert_eq!(escape_for(Target::Linux, &Component::parse(name).unwrap()), name);
        }
    }

    #[test]
    fn p17_names_that_escapes_made_too_long_stay_apart() {
        let (one, two) = (format!("{}1", "?".repeat(254)), format!("{}2", "?".repeat(254)));
        assert!(portable(&one).len() <= NAME_BYTES_MAX);
        assert_ne!(portable(&one), portable(&two));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn p17_every_name_becomes_portable(name in "[CONAUXcomlpt0-9.: %\\\\?*æ\u{202e}\n~]{1,60}") {
            if let Ok(name) = Component::parse(&name) {
                let written = escape_for(Target::Portable, &name);
                prop_assert!(Component::parse(&written).is_ok());
                prop_assert!(!written.chars().any(is_refused) && !ends_badly(&written) && !is_device(&written));
            }
        }

        #[test]
        fn different_names_stay_different(one in "[a%240C:]{1,6}", two in "[a%240C:]{1,6}") {
            prop_assert_eq!(one == two, portable(&one) == portable(&two));
        }
    }
}
