//! Trees of files that are hard to carry, and the exact comparison of two trees.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What lies at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A file, by length and BLAKE3.
    File {
        /// Bytes.
        bytes: u64,
        /// BLAKE3 of its content, hex.
        blake3: String,
    },
    /// Anything else, which no tree of ours holds.
    Other,
}

/// Names that file systems, archives and shells have been known to spoil.
const STRANGE_NAMES: [&str; 12] = [
    "Blåbær og rømmegrøt.txt",
    "Ærlig talt, Øystein Åsen.dcm",
    "صورة الأشعة.dcm",
    "תמונה.dcm",
    "🩻 røntgen 👩🏽‍⚕️.dcm",
    "レントゲン.dcm",
    " leading and trailing ",
    "-rf",
    "semi;colon 'quote' \"double\" $HOME `x`",
    "tab\tand\nnewline",
    "..hidden..",
    "e\u{301} decomposed",
];

/// Writes `bytes` of incompressible content that follow from `seed`.
///
/// # Panics
/// When the file cannot be written.
pub fn write_noise(path: &Path, bytes: u64, seed: u64) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut noise = hasher.finalize_xof();
    let mut file = fs::File::create(path).expect("a test may write where it works");
    let mut block = vec![0u8; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64) as usize;
        noise.fill(&mut block[..now]);
        file.write_all(&block[..now]).expect("a test's disk has room");
        left -= now as u64;
    }
}

/// Makes the strange tree: empty files and folders, names of many scripts, deep folders, files around every border of
/// the packing, compressible, 16-bit and incompressible content, and `small_files` small files.
///
/// # Panics
/// When it cannot be written.
pub fn make_strange(root: &Path, small_files: u64, noise_bytes: u64) {
    let dir = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(&path).expect("a test may write where it works");
        path
    };
    dir("tomt");
    dir("nested/empty/folders/only");
    fs::write(root.join("empty.bin"), b"").expect("a test's disk has room");

    let names = dir("names");
    for (at, name) in STRANGE_NAMES.iter().enumerate() {
        write_noise(&names.join(name), at as u64 * 97, 1_000 + at as u64);
        fs::create_dir_all(root.join("folders").join(name)).expect("the name is a plain component");
    }
    write_noise(&names.join("n".repeat(255)), 5, 2_000);

    let borders = dir("borders");
    for size in [1, 4_095, 65_536, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577, 3_145_728] {
        write_noise(&borders.join(size.to_string()), size, size);
    }

    let deep = dir(&(0..40).map(|level| format!("d{level}/")).collect::<String>());
    fs::write(deep.join("bottom.txt"), b"forty folders down").expect("a test's disk has room");

    let small = dir("small");
    for at in 0..small_files {
        let folder = small.join(format!("{:02}", at % 30));
        fs::create_dir_all(&folder).expect("a test may write where it works");
        write_noise(&folder.join(format!("{at:05}.dat")), at % 700, 3_000 + at);
    }

    fs::write(root.join("text.txt"), "gjentatt tekst\n".repeat(100_000)).expect("room");
    fs::write(root.join("ramp.raw"), ramp(1_500_000)).expect("room");
    write_noise(&root.join("noise.bin"), noise_bytes, 4_000);
}

/// Sixteen-bit samples that change slowly, as images do.
fn ramp(samples: u32) -> Vec<u8> {
    (0..samples)
        .flat_map(|at| {
            let slow = (at / 64) % 4_096;
            let jitter = at.wrapping_mul(2_654_435_761) >> 28;
            u16::try_from(slow + jitter).unwrap_or(u16::MAX).to_le_bytes()
        })
        .collect()
}

/// Everything below `root`, by its path relative to it.
///
/// # Panics
/// When something cannot be read.
pub fn read(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    read_into(root, Path::new(""), &mut found);
    found
}

/// The same for PATHs as `send` takes them: each under its own name.
///
/// # Panics
/// When something cannot be read.
pub fn read_sent(paths: &[&Path]) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    for path in paths {
        let name: &OsStr = path.file_name().expect("a sent path has a name");
        let parent = path.parent().expect("a sent path has a parent");
        read_entry(parent, Path::new(name), &mut found);
    }
    found
}

fn read_into(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    for item in fs::read_dir(root.join(below)).expect("the folder can be read") {
        read_entry(root, &below.join(item.expect("its items too").file_name()), found);
    }
}

fn read_entry(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    let full = root.join(path);
    let kind = fs::symlink_metadata(&full).expect("the entry is there").file_type();
    if kind.is_dir() {
        found.insert(path.to_path_buf(), Entry::Folder);
        read_into(root, path, found);
    } else if kind.is_file() {
        found.insert(path.to_path_buf(), digest(&full));
    } else {
        found.insert(path.to_path_buf(), Entry::Other);
    }
}

fn digest(path: &Path) -> Entry {
    let mut file = fs::File::open(path).expect("the file can be read");
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0u8; 1 << 18];
    let mut bytes = 0u64;
    loop {
        match file.read(&mut block).expect("the file can be read") {
            0 => break,
            got => {
                hasher.update(&block[..got]);
                bytes += got as u64;
            }
        }
    }
    Entry::File { bytes, blake3: hasher.finalize().to_hex().to_string() }
}

/// Asserts that two trees are the same, entry for entry and bit for bit.
///
/// # Panics
/// When they differ, naming the first differences.
#[track_caller]
pub fn assert_same(sent: &BTreeMap<PathBuf, Entry>, received: &BTreeMap<PathBuf, Entry>) {
    let differences: Vec<String> = sent
        .keys()
        .chain(received.keys().filter(|path| !sent.contains_key(*path)))
        .filter(|path| sent.get(*path) != received.get(*path))
        .map(|path| format!("{path:?}: sent {:?}, received {:?}", sent.get(path), received.get(path)))
        .collect();
    let shown = differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_equals_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        make_strange(&root, 40, 10_000);
        let tree = read(&root);
        assert!(tree.len() > 100);
        assert!(tree.values().any(|entry| *entry == Entry::Folder));
        assert_same(&tree, &read(&root));
        let sent = read_sent(&[&root]);
        assert_eq!(sent.len(), tree.len() + 1);

        fs::remove_dir(root.join("tomt")).unwrap();
        let fewer = read(&root);
        assert!(std::panic::catch_unwind(|| assert_same(&tree, &fewer)).is_err());
        assert!(std::panic::catch_unwind(|| assert_same(&fewer, &tree)).is_err());
    }

    #[test]
    fn noise_does_not_compress_and_follows_from_its_seed() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        write_noise(&a, 3_000_000, 1);
        write_noise(&b, 3_000_000, 1);
        write_noise(&c, 3_000_000, 2);
        assert_eq!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&c));
        let bytes = fs::read(&a).unwrap();
        let mut seen = [0u32; 256];
        bytes.iter().for_each(|&byte| seen[usize::from(byte)] += 1);
        assert!(seen.iter().all(|&count| count > 10_000));
    }
}
