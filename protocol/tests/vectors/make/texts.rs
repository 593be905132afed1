//! What people handle: armoured text and entity ids.

use pakt_keys::words;
use pakt_protocol::armour::{self, Label};

use crate::file::Vector;
use crate::story::Story;

/// One row: name, expected outcome, the text's bytes, note.
type Row = (&'static str, &'static str, Vec<u8>, &'static str);

pub(super) fn all(story: &Story) -> Vec<Vector> {
    [armours(), entities(story)].concat()
}

fn armours() -> Vec<Vector> {
    let bytes: Vec<u8> = (0..100).collect();
    let text = armour::encode(Label::Card, &bytes);
    let mut vectors: Vec<_> = tolerated(&text)
        .into_iter()
        .chain(damaged(&text))
        .map(|(name, expect, bytes, note)| Vector::new(&format!("armour_{name}"), "armour", expect, note).hex(&bytes))
        .collect();
    let two = format!("{text}{text}");
    vectors.push(Vector::new("armour_two_blocks", "armour", "Armour.Damaged", "two blocks").hex(two.as_bytes()));
    let huge = Vector::new("armour_oversized", "armour", "Armour.TooLarge", "above 1 MiB");
    vectors.push(huge.hex(text.as_bytes()).with("zeros", (1 << 20) + 1 - text.len()));
    vectors
}

/// The text in UTF-16 behind a mark.
fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    unit(0xfeff).into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
}

/// What mail programs and shells do to a text.
fn tolerated(text: &str) -> Vec<Row> {
    vec![
        ("plain", "ok", text.to_owned().into_bytes(), "as it is written"),
        ("crlf", "ok", text.replace('\n', "\r\n").into_bytes(), "lines end as on Windows"),
        ("blanks_after", "ok", text.replace('\n', " \t\n").into_bytes(), "blanks and tabs at the ends of lines"),
        ("lines_around", "ok", format!("\n \n{text}\n\t\n").into_bytes(), "empty lines around the block"),
        ("no_last_break", "ok", text.trim_end().to_owned().into_bytes(), "no line break at the end"),
        ("mark", "ok", [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(), "UTF-8 with a mark"),
        ("utf16_le", "ok", utf16(text, u16::to_le_bytes), "UTF-16, low byte first, as PowerShell redirects it"),
        ("utf16_be", "ok", utf16(text, u16::to_be_bytes), "UTF-16, high byte first"),
    ]
}

/// What nobody does by accident, or not without harm.
fn damaged(text: &str) -> Vec<Row> {
    let lines: Vec<&str> = text.lines().collect();
    let without_end = lines[..lines.len() - 1].join("\n");
    let joined = format!("{}\n{}\n{}\n", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1]);
    let blank_line = text.replacen('\n', "\n\n", 1);
    let short = text.replacen(lines[1], &format!("{}\n{}", &lines[1][..32], &lines[1][32..]), 1);
    vec![
        ("nothing", "Armour.NotARecord", vec![], "no text"),
        ("blank", "Armour.NotARecord", b" \n\n".to_vec(), "blank lines only"),
        ("text_before", "Armour.NotARecord", format!("Dear colleague,\n{text}").into_bytes(), "text before the block"),
        ("text_after", "Armour.Truncated", format!("{text}Regards\n").into_bytes(), "text after the block"),
        ("indented", "Armour.NotARecord", format!(" {text}").into_bytes(), "a blank before the first line"),
        (
            "unknown_label",
            "Armour.NotARecord",
            text.replace("CARD", "CORD").into_bytes(),
            "a label that does not exist",
        ),
        (
            "lower_case",
            "Armour.NotARecord",
            text.replace("PAKT CARD", "pakt card").into_bytes(),
            "a label in lower case",
        ),
        ("not_utf8", "Armour.NotARecord", [text.as_bytes(), &[0xff]].concat(), "a byte that is not UTF-8"),
        ("utf16_odd", "Armour.NotARecord", utf16(text, u16::to_le_bytes)[..51].to_vec(), "UTF-16 with half a letter"),
        ("first_line_only", "Armour.Truncated", format!("{}\n", lines[0]).into_bytes(), "only the first line"),
        ("no_end", "Armour.Truncated", without_end.into_bytes(), "no END line"),
        (
            "other_end",
            "Armour.Damaged",
            text.replace("END PAKT CARD", "END PAKT RECEIPT").into_bytes(),
            "the END line of another label",
        ),
        ("blank_line_inside", "Armour.Damaged", blank_line.into_bytes(), "an empty line in the block"),
        ("long_line", "Armour.Damaged", joined.into_bytes(), "all in one line"),
        ("short_line", "Armour.Damaged", short.into_bytes(), "a line of 32 characters that is not the last"),
        (
            "bad_letter",
            "Armour.Damaged",
            text.replacen("AAEC", "A*EC", 1).into_bytes(),
            "a character that is not Base64",
        ),
        ("no_padding", "Armour.Damaged", text.replace("==", "").into_bytes(), "the padding is missing"),
        ("unused_bits", "Armour.Damaged", text.replace("Yw==", "Yx==").into_bytes(), "unused bits that are not zero"),
    ]
}

fn entities(story: &Story) -> Vec<Vector> {
    let id = story.a.entity();
    let text = id.to_string();
    let said = |vector: Vector, id: &pakt_keys::EntityId| {
        vector.with("id", hex::encode(id.0)).with("fingerprint", words::fingerprint(id))
    };
    let good = |name: &str, id: &pakt_keys::EntityId, text: &str, note: &str| {
        said(Vector::new(&format!("entity_{name}"), "entity", "ok", note).text(text), id)
    };
    let bad = |name: &str, text: &str, note: &str| {
        Vector::new(&format!("entity_{name}"), "entity", "Entity", note).text(text)
    };
    let letter = if text.ends_with('q') { 'p' } else { 'q' };
    let mistyped = format!("{}{letter}", &text[..text.len() - 1]);
    vec![
        good("a", &id, &format!("{text}\n"), "A's id and fingerprint"),
        good("b", &story.b.entity(), &format!("{}\n", story.b.entity()), "B's id and fingerprint"),
        good("upper_case", &id, &text.to_uppercase(), "all in upper case"),
        bad("mixed_case", &format!("ENT1{}", &text[4..]), "upper and lower case mixed"),
        bad("mistyped", &mistyped, "the last letter is wrong"),
        bad("short", &text[..61], "one letter is missing"),
        bad("of_nobody", "ent1", "nothing after the prefix"),
        bad("other_prefix", &text.replacen("ent1", "end1", 1), "another prefix"),
    ]
}
