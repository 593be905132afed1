//! Names of files and directories: single path components, kept exactly as sent.
//!
//! Start with [`Component`], which everything that arrives must pass; [`escape_for`] and
//! [`DirectoryNames`] decide how a name is written on a target that cannot hold it;
//! [`display_safe`] is for terminals and pages.
//!
//! **Invariant:** a component can neither leave its directory nor mean another one: it is never
//! empty, `.` or `..`, and holds neither `/` nor NUL. Paths exist only as lists of components.

mod portable;
mod twins;

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use portable::escape_for;
pub use twins::{DirectoryNames, SavedName, twin_key};

use crate::limits::NAME_BYTES_MAX;

/// What the file system can hold that names are saved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any UTF-8 component as it is, case and normal form included: ext4, XFS, btrfs.
    Linux,
    /// The least that common systems agree on: Windows, macOS, SMB shares, USB sticks.
    Portable,
}

/// One name in a directory: UTF-8, at most 255 bytes, exactly as its sender wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Component(Box<str>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text at all.
    #[error("a name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a name means another directory")]
    Dots,
    /// A `/` or a NUL.
    #[error("a name holds a slash or a NUL")]
    Separator,
    /// Above [`NAME_BYTES_MAX`].
    #[error("a name has {bytes} bytes, at most {NAME_BYTES_MAX} are possible")]
    TooLong {
        /// UTF-8 bytes found.
        bytes: usize,
    },
}

impl Component {
    /// Takes a name as it is.
    ///
    /// # Errors
    /// Names that no Linux directory can hold or that mean another directory.
    pub fn parse(name: &str) -> Result<Component, NameError> {
        check(name)?;
        Ok(Component(name.into()))
    }

    /// The name, byte for byte; for people use [`display_safe`].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots);
    }
    if name.bytes().any(|byte| byte == b'/' || byte == 0) {
        return Err(NameError::Separator);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: name.len() });
    }
    Ok(())
}

impl TryFrom<String> for Component {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        check(&name)?;
        Ok(Component(name.into_boxed_str()))
    }
}

impl From<Component> for String {
    fn from(component: Component) -> String {
        component.0.into_string()
    }
}

impl AsRef<str> for Component {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Component {
    // File names are content: they must not reach a log by way of a derived Debug.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Component({} bytes)", self.0.len())
    }
}

/// A text from outside as it may be shown: whatever moves the cursor, reorders or hides text is
/// written `\u{…}`, and a backslash doubled, so that the shown form is unambiguous.
pub fn display_safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c == '\\' || is_deceptive(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_deceptive(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, and the invisible ones that change how their neighbours are read. The
/// joiners U+200C and U+200D stay: Persian and emoji need them.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e001f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_a_component_stays_in_its_directory() {
        let long = "x".repeat(256);
        let rows: [(&str, Option<NameError>); 20] = [
            ("", Some(NameError::Empty)),
            (".", Some(NameError::Dots)),
            ("..", Some(NameError::Dots)),
            ("/", Some(NameError::Separator)),
            ("../etc/passwd", Some(NameError::Separator)),
            ("/etc/passwd", Some(NameError::Separator)),
            ("a/b", Some(NameError::Separator)),
            ("a/", Some(NameError::Separator)),
            ("a\0b", Some(NameError::Separator)),
            ("\0", Some(NameError::Separator)),
            (&long, Some(NameError::TooLong { bytes: 256 })),
            (&long[..255], None),
            ("...", None),
            ("..\\..\\windows", None),
            ("C:\\x", None),
            ("-rf *", None),
            ("line\nbreak", None),
            ("\u{202e}gpj.exe", None),
            ("pasient æøå", None),
            ("صورة 🩻", None),
        ];
        for (name, expected) in rows {
            assert_eq!(Component::parse(name).err(), expected, "{name:?}");
            assert_eq!(Component::try_from(name.to_owned()).err(), expected, "{name:?}");
            if expected.is_none() {
                assert_eq!(Component::parse(name).unwrap().as_str(), name);
            }
        }
    }

    #[test]
    fn p17_what_is_shown_cannot_deceive() {
        let rows = [
            ("plain æøå صورة", "plain æøå صورة"),
            ("👨\u{200d}👩\u{200d}👧", "👨\u{200d}👩\u{200d}👧"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\nb\r\u{7f}\u{9b}", "a\\u{a}b\\u{d}\\u{7f}\\u{9b}"),
            ("\\u{a}", "\\\\u{a}"),
            ("\u{feff}x\u{200b}", "\\u{feff}x\\u{200b}"),
        ];
        for (name, shown) in rows {
            assert_eq!(display_safe(name), shown);
        }
    }

    #[test]
    fn names_do_not_reach_logs() {
        let name = Component::parse("Nordmann, Kari").unwrap();
        assert_eq!(format!("{name:?}"), "Component(14 bytes)");
    }
}
