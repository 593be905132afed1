//! Looks for planted words in everything below a folder, as one does who has stolen the disk.

use std::path::{Path, PathBuf};

/// The forms in which a word may lie about: as it is, as UTF-16, in hex, and in Base64 at each of its three phases.
pub fn forms(word: &str) -> Vec<Vec<u8>> {
    let utf16: Vec<u8> = word.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut forms =
        vec![word.as_bytes().to_vec(), utf16, hex::encode(word).into_bytes(), hex::encode_upper(word).into_bytes()];
    forms.extend((0..3).map(|phase| base64_core(word.as_bytes(), phase)));
    forms
}

/// The characters of Base64 that follow from `bytes` alone when `phase` unknown bytes go before.
fn base64_core(bytes: &[u8], phase: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let skipped = (3 - phase) % 3;
    bytes[skipped.min(bytes.len())..]
        .chunks_exact(3)
        .flat_map(|three| {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
        })
        .collect()
}

/// Every file below `roots` that holds one of `words` in its name or content, with the word.
///
/// # Panics
/// When a file cannot be read.
pub fn hits(roots: &[&Path], words: &[String]) -> Vec<(PathBuf, String)> {
    let needles: Vec<(Vec<u8>, &String)> =
        words.iter().flat_map(|word| forms(word).into_iter().map(move |form| (form, word))).collect();
    let mut found = Vec::new();
    for file in roots.iter().flat_map(|root| files(root)) {
        let mut hay = file.as_os_str().as_encoded_bytes().to_vec();
        hay.push(0);
        hay.extend(std::fs::read(&file).expect("the scanner reads everything"));
        for (form, word) in &needles {
            if contains(&hay, form) {
                found.push((file.clone(), (*word).clone()));
            }
        }
    }
    found
}

fn files(root: &Path) -> Vec<PathBuf> {
    if root.is_file() {
        return vec![root.to_path_buf()];
    }
    let Ok(items) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    items
        .flatten()
        .filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()))
        .flat_map(|item| files(&item.path()))
        .collect()
}

/// Whether `hay` holds `needle`; skips ahead by the first byte.
fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let Some((&first, rest)) = needle.split_first() else {
        return true;
    };
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|&byte| byte == first) {
        let start = from + at + 1;
        if hay[start..].starts_with(rest) {
            return true;
        }
        from = start;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_a_word_in_every_form_and_in_names() {
        let dir = tempfile::tempdir().unwrap();
        let word = "Kanarifugl-7731".to_owned();
        let rows: [(&str, Vec<u8>); 7] = [
            ("plain", format!("..{word}..").into_bytes()),
            ("utf16", word.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("hex", hex::encode(&word).into_bytes()),
            ("b64-0", base64(word.as_bytes())),
            ("b64-1", base64(format!("x{word}yy").as_bytes())),
            ("b64-2", base64(format!("xx{word}y").as_bytes())),
            ("Kanarifugl-7731.txt", Vec::new()),
        ];
        for (name, bytes) in &rows {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::write(dir.path().join("clean"), b"Kanarifugl-7730").unwrap();
        let mut found: Vec<String> = hits(&[dir.path()], &[word])
            .into_iter()
            .map(|(file, _)| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        found.dedup();
        found.sort();
        let mut wanted: Vec<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    fn base64(bytes: &[u8]) -> Vec<u8> {
        base64_core(bytes, 0)
    }
}
