//! Armoured text: records as people mail, copy and paste them.
//!
//! One label, Base64 (RFC 4648) in lines of 64 characters, one end line. Reading is strict: the only things that may
//! differ from what was written are those that mail programs and shells change: line ends, blanks at line ends,
//! blank lines around the block, and the text encoding (UTF-8 with or without mark, UTF-16 with mark, as PowerShell
//! redirects it).
//!
//! **Invariant:** a changed byte inside the block is refused here or by the signature of the record within.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters of armoured text that are read at most: ten times the largest record.
pub const ARMOUR_BYTES_MAX: usize = 1 << 20;
const COLUMNS: usize = 64;

/// What kind of record an armoured text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// An entity's card.
    Card,
    /// An agreement signed by its proposer only.
    Proposal,
    /// An agreement signed by both.
    Agreement,
    /// A receipt.
    Receipt,
    /// The next root key, to be kept elsewhere.
    Recovery,
    /// The head of an audit log.
    LogHead,
    /// The root key, kept elsewhere.
    Root,
    /// What both sides have signed of a reconciliation.
    Reconciliation,
}

impl Label {
    const ALL: [Label; 8] = [
        Label::Card,
        Label::Proposal,
        Label::Agreement,
        Label::Receipt,
        Label::Recovery,
        Label::LogHead,
        Label::Root,
        Label::Reconciliation,
    ];

    /// The words in the first and last line.
    pub fn as_str(self) -> &'static str {
        match self {
            Label::Card => "PAKT CARD",
            Label::Proposal => "PAKT PROPOSAL",
            Label::Agreement => "PAKT AGREEMENT",
            Label::Receipt => "PAKT RECEIPT",
            Label::Recovery => "PAKT RECOVERY KEY",
            Label::LogHead => "PAKT LOG HEAD",
            Label::Root => "PAKT ROOT KEY",
            Label::Reconciliation => "PAKT RECONCILIATION",
        }
    }
}

/// Why an armoured text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmourError {
    /// More than [`ARMOUR_BYTES_MAX`] bytes.
    #[error("the file is too large for a Pakt record: {bytes} bytes, at most {max}")]
    TooLarge {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No line `-----BEGIN PAKT …-----` where one must be.
    #[error("this is not a Pakt record: it does not start with a line '-----BEGIN PAKT …-----'")]
    NotARecord,
    /// The block has no proper end.
    #[error("the record is cut off: its last line is missing")]
    Truncated,
    /// Something within the block is not as it was written.
    #[error("the record was changed: its text is damaged in line {line}")]
    Damaged {
        /// The line, counted from 1.
        line: usize,
    },
    /// Another kind of record than the one asked for.
    #[error("this is a {found}, but a {wanted} is needed")]
    WrongLabel {
        /// What the file holds.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// Writes `bytes` as an armoured text that ends in a line break.
pub fn encode(label: Label, bytes: &[u8]) -> String {
    let body = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {}-----\n", label.as_str());
    for line in body.as_bytes().chunks(COLUMNS) {
        text.extend(line.iter().map(|&b| char::from(b)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {}-----\n", label.as_str()));
    text
}

/// Reads an armoured text that must hold a `wanted` record.
///
/// # Errors
/// Any [`ArmourError`].
pub fn decode(wanted: Label, text: &[u8]) -> Result<Vec<u8>, ArmourError> {
    let (found, bytes) = decode_any(text)?;
    if found != wanted {
        return Err(ArmourError::WrongLabel { found: found.as_str(), wanted: wanted.as_str() });
    }
    Ok(bytes)
}

/// Reads an armoured text of any kind.
///
/// # Errors
/// Any [`ArmourError`] but [`ArmourError::WrongLabel`].
pub fn decode_any(text: &[u8]) -> Result<(Label, Vec<u8>), ArmourError> {
    if text.len() > ARMOUR_BYTES_MAX {
        return Err(ArmourError::TooLarge { bytes: text.len(), max: ARMOUR_BYTES_MAX });
    }
    let text = to_utf8(text).ok_or(ArmourError::NotARecord)?;
    let lines: Vec<(usize, &str)> = text
        .lines()
        .map(|line| line.trim_end_matches([' ', '\t', '\r']))
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .skip_while(|(_, line)| line.is_empty())
        .collect();
    let last = lines.iter().rposition(|(_, line)| !line.is_empty()).map_or(0, |at| at + 1);
    let (&(_, first), rest) = lines[..last].split_first().ok_or(ArmourError::NotARecord)?;
    let label = Label::ALL
        .into_iter()
        .find(|label| first == format!("-----BEGIN {}-----", label.as_str()))
        .ok_or(ArmourError::NotARecord)?;
    let (&(end_at, end), body) = rest.split_last().ok_or(ArmourError::Truncated)?;
    if end != format!("-----END {}-----", label.as_str()) {
        return Err(if end.starts_with('-') { ArmourError::Damaged { line: end_at } } else { ArmourError::Truncated });
    }
    Ok((label, decode_body(body)?))
}

fn decode_body(lines: &[(usize, &str)]) -> Result<Vec<u8>, ArmourError> {
    let mut joined = String::with_capacity(lines.len() * COLUMNS);
    for (at, &(line, text)) in lines.iter().enumerate() {
        let full = at + 1 == lines.len() || text.len() == COLUMNS;
        if !full || text.is_empty() || text.len() > COLUMNS {
            return Err(ArmourError::Damaged { line });
        }
        joined.push_str(text);
    }
    let line = lines.first().map_or(2, |&(line, _)| line);
    STANDARD.decode(joined).map_err(|_| ArmourError::Damaged { line })
}

fn to_utf8(bytes: &[u8]) -> Option<String> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let pairs = rest.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        let units: Vec<u16> = pairs.map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Vec<u8>, String) {
        let bytes: Vec<u8> = (0..200u8).collect();
        let text = encode(Label::Card, &bytes);
        (bytes, text)
    }

    #[test]
    fn survives_what_mail_and_shells_do() {
        let (bytes, text) = sample();
        let crlf = text.replace('\n', "\r\n");
        let blanks = format!("\n\n{}\n  \n", text.replace('\n', " \n"));
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(crlf.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let utf16be: Vec<u8> = [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
        let marked = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
        for form in [text.into_bytes(), crlf.into_bytes(), blanks.into_bytes(), utf16, utf16be, marked] {
            assert_eq!(decode(Label::Card, &form), Ok(bytes.clone()));
        }
    }

    #[test]
    fn refuses_what_was_changed() {
        let (_, text) = sample();
        let lines: Vec<&str> = text.lines().collect();
        let without = |at: usize| {
            let mut left = lines.clone();
            left.remove(at);
            left.join("\n")
        };
        let rewrapped = format!("{}\n{}\n{}", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1]);
        let rows = [
            (String::new(), ArmourError::NotARecord),
            (format!("hello\n{text}"), ArmourError::NotARecord),
            (without(0), ArmourError::NotARecord),
            (without(lines.len() - 1), ArmourError::Truncated),
            (text.replace("END PAKT CARD", "END PAKT CORD"), ArmourError::Damaged { line: 7 }),
            (rewrapped, ArmourError::Damaged { line: 2 }),
            (text.replacen("AAEC", "A=EC", 1), ArmourError::Damaged { line: 2 }),
        ];
        for (text, error) in rows {
            assert_eq!(decode(Label::Card, text.as_bytes()), Err(error), "{text}");
        }
        let huge = vec![b'A'; ARMOUR_BYTES_MAX + 1];
        assert!(matches!(decode(Label::Card, &huge), Err(ArmourError::TooLarge { .. })));
        assert!(matches!(decode(Label::Receipt, text.as_bytes()), Err(ArmourError::WrongLabel { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
            prop_assert_eq!(decode(Label::Receipt, encode(Label::Receipt, &bytes).as_bytes()), Ok(bytes));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode_any(&bytes);
        }
    }
}
