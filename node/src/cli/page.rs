//! Receipts as a page that a person reads and prints.
//!
//! **Invariant:** the page fetches nothing and runs nothing, and shows nothing of the message but what its receipts say.
//! **Invariant:** it shows only receipts whose signatures were checked.

use pakt_keys::EntityId;
use pakt_keys::words;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::record::receipt::{self, Receipt, Tier, Verdict};

use super::output::{counted, moment, size};
use crate::api::types::{ErrorCode, ServiceError, time_text};

/// What people call the two sides.
pub struct Names {
    /// The sender.
    pub from: String,
    /// The receiving entity.
    pub to: String,
}

const STYLE: &str = "body{font:11pt/1.45 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#111}\
h1{font-size:1.5em}h2{font-size:1.1em;margin-top:1.6em}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;border-bottom:1px solid #ccc}th{width:9em;font-weight:600}\
.id{font-family:monospace;font-size:.85em;overflow-wrap:anywhere}pre{font-size:.7em;border:1px solid #ccc;padding:.7em;\
white-space:pre-wrap;overflow-wrap:anywhere}@media print{pre{page-break-inside:avoid}body{margin:0}}";

/// The page of one envelope from its armoured receipts, the lowest tier first.
///
/// # Errors
/// `damaged` for a receipt that does not hold or is another envelope's, `not_found` without any.
pub fn page(names: &Names, files: &[String]) -> Result<String, ServiceError> {
    let mut receipts = Vec::with_capacity(files.len());
    for file in files {
        receipts.push((read(file)?, file));
    }
    let Some((last, _)) = receipts.last() else {
        return Err(ServiceError::new(ErrorCode::NotFound, "there is no receipt for this envelope yet", ""));
    };
    if receipts.iter().any(|(receipt, _)| (receipt.envelope, receipt.core) != (last.envelope, last.core)) {
        return Err(damaged("the receipts are about different envelopes"));
    }
    let mut body = format!("<h1>Receipt: {}</h1>\n<p>{}</p>\n", title(last.verdict), sentence(last.verdict));
    body.push_str(&about(names, last));
    for (receipt, file) in &receipts {
        body.push_str(&statement(receipt, file));
    }
    body.push_str(
        "<h2>How to check it</h2>\n<p>Save each block above, from its first to its last line, as a file and run \
         <span class=\"id\">pakt receipt verify FILE --card SENDER.card --card RECEIVER.card</span> with the cards of both \
         sides, on any machine and without a connection. This page itself proves nothing.</p>\n",
    );
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Receipt {}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        escaped(&last.envelope.to_string())
    ))
}

fn read(file: &str) -> Result<Receipt, ServiceError> {
    let bytes = armour::decode(Label::Receipt, file.as_bytes()).map_err(|error| damaged(&error.to_string()))?;
    receipt::read(&bytes).map_err(|error| damaged(&error.to_string()))
}

fn damaged(why: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Damaged, format!("a stored receipt does not hold: {why}"), "see the node's log")
}

fn title(verdict: Verdict) -> String {
    match verdict {
        Verdict::Held(tier) => format!("{} (tier {})", tier.as_str(), tier.number()),
        other => escaped(&other.as_str().replace('_', " ")),
    }
}

fn sentence(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held(Tier::Delivered) => "The receiver has opened the message and holds all of it durably.",
        Verdict::Held(Tier::Released) => {
            "The receiver has opened and checked every part of the message; the group's mailbox shows it."
        }
        Verdict::Held(Tier::Taken) => {
            "A person in the receiving group, or a connected system, has taken responsibility."
        }
        Verdict::Unopenable => "The receiver got the message but cannot open it. Nothing of it is kept.",
        Verdict::Conflict => "The receiver holds another message under the same number.",
        Verdict::PurposeNotAgreed => "The purpose of the message is none that was agreed. Nothing of it is kept.",
        Verdict::Quarantined => "The receiver's malware check found something. Nobody there sees the message.",
        Verdict::Recalled => "The receiver has purged the message on the sender's wish; nobody had taken it.",
        Verdict::Returned => "The message was not for the receiver, who has purged it.",
        Verdict::NotHeld => "The receiver does not hold the message and never will.",
    }
}

fn about(names: &Names, receipt: &Receipt) -> String {
    let party = |name: &str, entity: &EntityId| {
        let fingerprint = words::fingerprint(entity);
        format!("{}<br>{}<br><span class=\"id\">{entity}</span>", escaped(name), escaped(&fingerprint))
    };
    let content = format!("{}, {}", counted(receipt.counts.files, "file"), size(receipt.counts.plain_bytes));
    let id = |id: String| format!("<span class=\"id\">{id}</span>");
    table(&[
        ("From", party(&names.from, &receipt.sender)),
        ("To", party(&names.to, &receipt.recipient)),
        ("Content", escaped(&content)),
        ("Message", id(receipt.message.to_string())),
        ("Envelope", id(receipt.envelope.to_string())),
        ("Agreement", id(receipt.agreement.to_string())),
        ("Envelope's hash", id(hex::encode(receipt.core.0))),
    ])
}

fn statement(receipt: &Receipt, file: &str) -> String {
    let at = |time| escaped(&moment(&time_text(time)));
    let head = receipt.log_head.map_or_else(|| "none".to_owned(), hex::encode);
    let facts = table(&[
        ("Signed at", at(receipt.at)),
        ("First offered", at(receipt.offered_at)),
        ("Log head", format!("<span class=\"id\">{head}</span>")),
    ]);
    format!("<h2>Signed statement: {}</h2>\n{facts}<pre>{}</pre>\n", title(receipt.verdict), escaped(file.trim_end()))
}

/// Rows of a heading and text that is markup already.
fn table(rows: &[(&str, String)]) -> String {
    let row = |(name, text): &(&str, String)| format!("<tr><th>{}</th><td>{text}</td></tr>\n", escaped(name));
    format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
}

/// Text as HTML shows it, whatever it holds; control characters become visible.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\r' | '\t' => out.push(c),
            // Marks that turn the direction of writing could make a name read as another one.
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds_is_text_on_the_page() {
        let hostile = "<script>alert(1)</script>\" onload='x' & \u{202e}\u{7}";
        let shown = escaped(hostile);
        for forbidden in ['<', '>', '"', '\'', '\u{202e}', '\u{7}'] {
            assert!(!shown.contains(forbidden), "{shown}");
        }
        assert!(shown.contains("&lt;script&gt;") && shown.contains(" &amp; "));
        let names = Names { from: hostile.into(), to: hostile.into() };
        assert_eq!(page(&names, &[]).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(page(&names, &["no armour".into()]).unwrap_err().code, ErrorCode::Damaged);
    }
}
