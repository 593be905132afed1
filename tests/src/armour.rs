//! Armoured text as an outsider takes it apart and puts it together, to make records that are wrong inside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The label and the bytes of an armoured text.
///
/// # Panics
/// When it is not one.
pub fn open(text: &[u8]) -> (String, Vec<u8>) {
    let text = std::str::from_utf8(text).expect("armoured text is ASCII");
    let mut lines = text.lines();
    let first = lines.next().expect("armoured text has lines");
    let label = first
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.strip_suffix("-----"))
        .expect("the first line names the record");
    let body: String = lines.take_while(|line| !line.starts_with('-')).collect();
    (label.to_owned(), STANDARD.decode(body).expect("the body is Base64"))
}

/// `bytes` as an armoured text with `label`.
pub fn close(label: &str, bytes: &[u8]) -> Vec<u8> {
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in STANDARD.encode(bytes).as_bytes().chunks(64) {
        text.extend(line);
        text.push(b'\n');
    }
    text.extend(format!("-----END {label}-----\n").into_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_opens() {
        let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
        assert_eq!(open(&close("PAKT CARD", &bytes)), ("PAKT CARD".to_owned(), bytes));
    }
}
