//! Files of a bench: what is sent, whether it arrived, whether there is room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::process::check_interrupted;

const BLOCK_BYTES: usize = 1 << 20;

/// Free bytes for an ordinary user on the file system of `dir`.
///
/// # Errors
/// If the file system does not say.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let space =
        rustix::fs::statvfs(dir).with_context(|| format!("cannot ask for the free space of {}", dir.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Fails unless `dir` has room for `bytes`.
///
/// # Errors
/// Names what is there and what is needed.
pub fn check_free(dir: &Path, bytes: u64) -> Result<()> {
    let free = free_bytes(dir)?;
    if free < bytes {
        bail!(
            "{} has {} MB free and the bench needs {} MB; choose another place with --work",
            dir.display(),
            free / 1_000_000,
            bytes / 1_000_000
        );
    }
    Ok(())
}

/// Writes a file that no compressor makes smaller: BLAKE3's output for `seed`.
///
/// # Errors
/// Those of the file system, or an interruption.
pub fn write_incompressible(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let mut stream =
        blake3::Hasher::new_derive_key("pakt bench incompressible v1").update(&seed.to_be_bytes()).finalize_xof();
    let mut block = vec![0u8; BLOCK_BYTES];
    let mut file = BufWriter::with_capacity(BLOCK_BYTES, File::create(path)?);
    let mut left = bytes;
    while left > 0 {
        check_interrupted()?;
        let now = left.min(BLOCK_BYTES as u64) as usize;
        stream.fill(&mut block[..now]);
        file.write_all(&block[..now])?;
        left -= now as u64;
    }
    file.flush()?;
    Ok(())
}

/// Reads everything once, so that every run finds it in the page cache.
///
/// # Errors
/// Those of the file system, or an interruption.
pub fn warm(path: &Path) -> Result<()> {
    let mut block = vec![0u8; BLOCK_BYTES];
    for file in files_under(path)?.values() {
        let mut file = File::open(file)?;
        while file.read(&mut block)? > 0 {
            check_interrupted()?;
        }
    }
    Ok(())
}

/// Fails unless both trees (or files) have the same files with the same bytes.
///
/// # Errors
/// Names the first difference, or what the file system reports.
pub fn check_same(expected: &Path, found: &Path) -> Result<()> {
    let (want, have) = (files_under(expected)?, files_under(found)?);
    if !want.keys().eq(have.keys()) {
        bail!("{} files were sent and {} arrived, or names differ", want.len(), have.len());
    }
    for (name, path) in &want {
        check_interrupted()?;
        let mut left = BufReader::with_capacity(BLOCK_BYTES, File::open(path)?);
        let mut right = BufReader::with_capacity(BLOCK_BYTES, File::open(&have[name])?);
        if !same_bytes(&mut left, &mut right)? {
            bail!("{} arrived changed", name.display());
        }
    }
    Ok(())
}

fn same_bytes(left: &mut impl Read, right: &mut impl Read) -> Result<bool> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        left.take(BLOCK_BYTES as u64).read_to_end(&mut one)?;
        right.take(BLOCK_BYTES as u64).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

/// Every file under `root` (or `root` itself) by its path relative to it.
///
/// # Errors
/// Those of the file system.
pub fn files_under(root: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        if fs::metadata(&path).with_context(|| format!("{} is missing", path.display()))?.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else {
            found.insert(path.strip_prefix(root)?.to_path_buf(), path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_the_same_only_if_every_byte_is() {
        let dir = tempfile::tempdir().unwrap();
        let tree = |name: &str, files: &[(&str, &[u8])]| {
            let root = dir.path().join(name);
            fs::create_dir_all(root.join("sub")).unwrap();
            for (file, bytes) in files {
                fs::write(root.join(file), bytes).unwrap();
            }
            root
        };
        let base = tree("base", &[("a", b"one"), ("sub/b", b"")]);
        let check = |name: &str, files: &[(&str, &[u8])], same: bool| {
            assert_eq!(check_same(&base, &tree(name, files)).is_ok(), same, "{name}");
        };
        check("equal", &[("a", b"one"), ("sub/b", b"")], true);
        check("changed", &[("a", b"onf"), ("sub/b", b"")], false);
        check("longer", &[("a", b"one more"), ("sub/b", b"")], false);
        check("missing", &[("a", b"one")], false);
        check("additional", &[("a", b"one"), ("sub/b", b""), ("c", b"")], false);
        check("renamed", &[("a", b"one"), ("sub/c", b"")], false);
        assert!(check_same(&base, &dir.path().join("absent")).is_err());
    }

    #[test]
    fn incompressible_files_have_their_size_and_differ_by_seed() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = [1, 2].map(|seed| {
            let path = dir.path().join(seed.to_string());
            write_incompressible(&path, 1_500_000, seed).unwrap();
            warm(&path).unwrap();
            fs::read(path).unwrap()
        });
        assert_eq!((one.len(), other.len()), (1_500_000, 1_500_000));
        assert_ne!(one[..64], other[..64]);
    }

    #[test]
    fn too_little_room_is_said_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_free(dir.path(), 1).is_ok());
        let error = check_free(dir.path(), u64::MAX).unwrap_err();
        assert!(format!("{error:#}").contains("--work"));
    }
}
