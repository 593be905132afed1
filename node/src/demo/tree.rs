//! Whether what was received is what was sent, bit for bit and nothing besides.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::api::types::{ErrorCode, ServiceError};
use crate::cli::walk::{Kind, Tree};

const COMPARE_BYTES: usize = 1 << 20;

/// Compares everything below `received` with what was sent.
///
/// # Errors
/// The first difference.
pub(super) fn compare(sent: &Tree, received: &Path) -> Result<(), ServiceError> {
    let mut tops = Vec::new();
    for entry in fs::read_dir(received).map_err(|e| differs(received, &e.to_string()))? {
        tops.push(entry.map_err(|e| differs(received, &e.to_string()))?.path());
    }
    let arrived = Tree::scan(&tops)?;
    if arrived.entries.len() != sent.entries.len() {
        return Err(differs(received, &format!("{} entries, {} were sent", arrived.entries.len(), sent.entries.len())));
    }
    for (ours, theirs) in sent.entries.iter().zip(&arrived.entries) {
        let same = match (&ours.kind, &theirs.kind) {
            (Kind::Dir, Kind::Dir) => true,
            (Kind::File(_), Kind::File(_)) => {
                same_content(&ours.path, &theirs.path).map_err(|e| differs(&theirs.path, &e.to_string()))?
            }
            _ => false,
        };
        if ours.name != theirs.name || !same {
            return Err(differs(&theirs.path, "it is not what was sent"));
        }
    }
    Ok(())
}

fn differs(path: &Path, what: &str) -> ServiceError {
    let message = format!("{}: {what}", path.display());
    ServiceError::new(ErrorCode::Damaged, message, "this is a fault of the program")
}

fn same_content(left: &Path, right: &Path) -> std::io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut a, mut b) = (Vec::with_capacity(COMPARE_BYTES), Vec::with_capacity(COMPARE_BYTES));
    loop {
        a.clear();
        b.clear();
        left.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut a)?;
        right.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut b)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("study"), dir.path().join("in"));
        let make = |at: &Path| {
            fs::create_dir_all(at.join("empty")).unwrap();
            fs::write(at.join("a"), vec![7; COMPARE_BYTES + 1]).unwrap();
        };
        make(&ours);
        let check = |same: bool, change: &dyn Fn(&Path)| {
            let _ = fs::remove_dir_all(&theirs);
            make(&theirs.join("study"));
            change(&theirs.join("study"));
            assert_eq!(compare(&Tree::scan(std::slice::from_ref(&ours)).unwrap(), &theirs).is_ok(), same);
        };
        check(true, &|_| {});
        check(false, &|at| fs::write(at.join("b"), "").unwrap());
        check(false, &|at| fs::remove_dir(at.join("empty")).unwrap());
        check(false, &|at| fs::rename(at.join("a"), at.join("c")).unwrap());
        check(false, &|at| {
            let mut content = vec![7; COMPARE_BYTES + 1];
            content[COMPARE_BYTES] = 8;
            fs::write(at.join("a"), content).unwrap();
        });
        check(false, &|at| fs::write(at.with_file_name("besides"), "").unwrap());
    }
}
