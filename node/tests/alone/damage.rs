//! What can happen to an armoured record on its way.

use pakt_protocol::armour;

/// Damaged forms of `good`, each with a word that the complaint must hold.
pub(crate) fn all(good: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = good.as_bytes();
    let (label, record) = armour::decode_any(text).expect("a good record");
    let resealed = |bytes: &[u8]| armour::encode(label, bytes).into_bytes();
    let mut damaged = vec![
        ("", vec![]),
        ("", b"hello\n".to_vec()),
        ("", vec![0; 600]),
        ("longer", vec![b'A'; 3 << 20]),
        ("", resealed(&[&record[..], &[0]].concat())),
        ("newer", resealed(&[&[250], &record[1..]].concat())),
    ];
    damaged.extend([3, 2].map(|part| ("", text[..text.len() / part].to_vec())));
    damaged.extend([40, 12].map(|cut| ("", text[..text.len() - cut].to_vec())));
    let body = text.iter().position(|byte| *byte == b'\n').expect("lines") + 1;
    for at in (body..text.len() - 40).step_by(text.len() / 9).filter(|at| text[*at] != b'\n') {
        let mut changed = text.to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        damaged.push(("", changed));
    }
    for at in (1..record.len()).step_by(record.len() / 9) {
        let mut changed = record.clone();
        changed[at] ^= 1;
        damaged.push(("", resealed(&changed)));
    }
    damaged
}
