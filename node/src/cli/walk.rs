//! The walk: what exactly a message will contain, found before anything is sent.
//!
//! **Invariant:** links are never followed, and what is neither file nor folder, or has a name that is no text, ends the walk with
//! its path named.
//! **Invariant:** entries are in tree order: each folder before what it holds, names in the order of their bytes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pakt_protocol::content::name::Component;
use pakt_protocol::limits::{PATH_DEPTH_MAX, TREE_ENTRIES_MAX};
use tokio::time::Instant;
use walkdir::WalkDir;

use crate::api::types::{ErrorCode, ServiceError};

/// How long nothing may change before a tree counts as settled.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How often a tree that settles is looked at.
const SETTLE_POLL: Duration = Duration::from_millis(250);

/// Everything below the given paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In tree order.
    pub entries: Vec<Entry>,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path within the message, `/` between its components.
    pub name: String,
    /// Path on this machine.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// File or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Dir,
    /// A file in the state in which it was seen.
    File(Seen),
}

/// What must be the same before and after reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Size in bytes.
    pub bytes: u64,
    modified: (i64, i64),
    device: u64,
    inode: u64,
}

impl Seen {
    /// The state that `meta` describes.
    pub fn of(meta: &Metadata) -> Self {
        Self { bytes: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()), device: meta.dev(), inode: meta.ino() }
    }
}

impl Tree {
    /// Walks `paths`; each becomes a top entry under its last component.
    ///
    /// # Errors
    /// `failed` for a path that is not there, cannot be read or cannot be sent; `usage` for two of the same name.
    pub fn scan(paths: &[PathBuf]) -> Result<Tree, ServiceError> {
        let mut roots =
            paths.iter().map(|path| Ok((root_name(path)?, path))).collect::<Result<Vec<_>, ServiceError>>()?;
        roots.sort();
        if let Some(pair) = roots.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let message = format!("{} and {} have the same name", pair[0].1.display(), pair[1].1.display());
            return Err(ServiceError::new(ErrorCode::Usage, message, "send them as two messages, or rename one"));
        }
        let mut tree = Tree::default();
        for (name, path) in roots {
            tree.scan_root(&name, path)?;
        }
        Ok(tree)
    }

    fn scan_root(&mut self, root: &str, path: &Path) -> Result<(), ServiceError> {
        // Components drop a trailing slash, which would follow a link.
        let top: PathBuf = path.components().collect();
        let walk = WalkDir::new(&top).follow_links(false).follow_root_links(false).sort_by_file_name();
        for found in walk {
            let found = found.map_err(|e| unreadable(path, &e))?;
            let below = found.path().strip_prefix(&top).unwrap_or(Path::new(""));
            let name = entry_name(root, below, found.path())?;
            let meta = found.metadata().map_err(|e| unreadable(found.path(), &e))?;
            let kind = self.kind(&meta, found.path())?;
            self.entries.push(Entry { name, path: found.into_path(), kind });
            if self.entries.len() as u64 > TREE_ENTRIES_MAX {
                let message = format!("there are more than {TREE_ENTRIES_MAX} files and folders");
                return Err(ServiceError::new(ErrorCode::Failed, message, "send them as several messages"));
            }
        }
        Ok(())
    }

    fn kind(&mut self, meta: &Metadata, path: &Path) -> Result<Kind, ServiceError> {
        if meta.is_dir() {
            return Ok(Kind::Dir);
        }
        if !meta.is_file() {
            let what = if meta.is_symlink() { "a link" } else { "neither a file nor a folder" };
            let hint = if meta.is_symlink() { "send what it points to instead" } else { "leave it out" };
            return Err(unsendable(path, &format!("is {what}"), hint));
        }
        if rustix::fs::access(path, rustix::fs::Access::READ_OK).is_err() {
            return Err(unsendable(path, "may not be read by this user", "run as a user who may read it"));
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(meta.len());
        Ok(Kind::File(Seen::of(meta)))
    }

    /// The first path that is not the same in both trees.
    pub fn difference<'a>(&'a self, later: &'a Tree) -> Option<&'a Path> {
        let pairs = self.entries.iter().zip(&later.entries);
        let changed = pairs.clone().find(|(before, after)| before != after).map(|(before, _)| before.path.as_path());
        let longer = if self.entries.len() > later.entries.len() { self } else { later };
        let extra = || longer.entries.get(pairs.len()).map(|entry| entry.path.as_path());
        changed.or_else(extra)
    }
}

/// Walks `paths` until nothing has changed for two seconds, `patience` at most.
///
/// # Errors
/// Those of [`Tree::scan`], and `failed` with the path that still changes.
pub async fn settled(paths: &[PathBuf], deadline: Instant) -> Result<Tree, ServiceError> {
    let mut tree = Tree::scan(paths)?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED_AFTER {
        tokio::time::sleep(SETTLE_POLL).await;
        let now = Tree::scan(paths)?;
        if let Some(path) = tree.difference(&now) {
            if Instant::now() >= deadline {
                return Err(changed(path));
            }
            tree = now;
            since = Instant::now();
        }
    }
    Ok(tree)
}

/// The error for a path that changed while it was read.
pub fn changed(path: &Path) -> ServiceError {
    let message = format!("{} changed while it was read; nothing was sent", path.display());
    ServiceError::new(ErrorCode::Failed, message, "send it when it is complete, or wait for it with --settle 30s")
}

/// The error for a path that cannot be part of a message.
pub fn unsendable(path: &Path, why: &str, hint: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Failed, format!("{} {why}; nothing was sent", path.display()), hint)
}

fn unreadable(path: &Path, error: &walkdir::Error) -> ServiceError {
    let at = error.path().unwrap_or(path);
    match error.io_error().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => unsendable(at, "does not exist", "check the path"),
        Some(std::io::ErrorKind::PermissionDenied) => {
            unsendable(at, "may not be read by this user", "run as a user who may read it")
        }
        _ => unsendable(at, "cannot be read", "check the disk"),
    }
}

/// The name under which `path` stands at the top of the message.
fn root_name(path: &Path) -> Result<String, ServiceError> {
    let last = match path.components().next_back() {
        Some(std::path::Component::Normal(name)) => name.to_os_string(),
        // `.` and `..` stand for a folder that has a name.
        _ => match path.canonicalize().ok().and_then(|full| full.file_name().map(ToOwned::to_owned)) {
            Some(name) => name,
            None if path.exists() => return Err(unsendable(path, "has no name", "name a folder below it")),
            None => return Err(unsendable(path, "does not exist", "check the path")),
        },
    };
    component(&last, path)
}

fn entry_name(root: &str, below: &Path, path: &Path) -> Result<String, ServiceError> {
    let mut name = root.to_owned();
    let mut depth = 1;
    for part in below.components() {
        name.push('/');
        name.push_str(&component(part.as_os_str(), path)?);
        depth += 1;
    }
    if depth > PATH_DEPTH_MAX {
        return Err(unsendable(path, &format!("lies more than {PATH_DEPTH_MAX} folders deep"), "move it up"));
    }
    Ok(name)
}

fn component(name: &std::ffi::OsStr, path: &Path) -> Result<String, ServiceError> {
    let Some(text) = name.to_str() else {
        return Err(unsendable(path, "has a name that is not UTF-8", "rename it"));
    };
    match Component::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(unsendable(path, &format!("cannot be sent: {error}"), "rename it")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn names(tree: &Tree) -> Vec<&str> {
        tree.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn a_tree_is_found_in_order_with_empty_folders() {
        let dir = tempfile::tempdir().unwrap();
        let study = dir.path().join("study");
        fs::create_dir_all(study.join("b/empty")).unwrap();
        fs::write(study.join("b/2"), "two").unwrap();
        fs::write(study.join("a"), "").unwrap();
        fs::write(dir.path().join("letter.txt"), "x").unwrap();
        let mut with_slash = study.clone().into_os_string();
        with_slash.push("/");
        let tree = Tree::scan(&[with_slash.into(), dir.path().join("letter.txt")]).unwrap();
        assert_eq!(names(&tree), ["letter.txt", "study", "study/a", "study/b", "study/b/2", "study/b/empty"]);
        assert_eq!((tree.files, tree.bytes), (3, 4));
        let dots = Tree::scan(&[study.join("b/..")]).unwrap();
        assert_eq!(names(&dots)[0], "study");
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &OsStr, says: &str, make: &dyn Fn(&Path)| {
            let path = dir.path().join("t").join(name);
            fs::create_dir(dir.path().join("t")).unwrap();
            make(&path);
            let error = Tree::scan(&[dir.path().join("t")]).unwrap_err();
            assert_eq!(error.code, ErrorCode::Failed);
            assert!(error.message.contains(says), "{}", error.message);
            assert!(error.message.contains(&path.display().to_string()), "{}", error.message);
            fs::remove_dir_all(dir.path().join("t")).unwrap();
        };
        check("link".as_ref(), "is a link", &|path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap());
        check("socket".as_ref(), "neither", &|path| {
            std::os::unix::net::UnixListener::bind(path).unwrap();
        });
        check(OsStr::from_bytes(b"latin\xe5"), "not UTF-8", &|path| fs::write(path, "x").unwrap());
        let absent = Tree::scan(&[dir.path().join("absent")]).unwrap_err();
        assert!(absent.message.contains("does not exist"), "{}", absent.message);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("root")).unwrap();
        assert!(Tree::scan(&[dir.path().join("root/")]).unwrap_err().message.contains("is a link"));
    }

    #[test]
    fn two_roots_of_one_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/x")).unwrap();
        fs::create_dir_all(dir.path().join("b/x")).unwrap();
        let error = Tree::scan(&[dir.path().join("a/x"), dir.path().join("b/x")]).unwrap_err();
        assert_eq!(error.code, ErrorCode::Usage);
    }

    #[test]
    fn a_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let study = dir.path().join("study");
        fs::create_dir(&study).unwrap();
        fs::write(study.join("a"), "1").unwrap();
        let before = Tree::scan(std::slice::from_ref(&study)).unwrap();
        assert_eq!(before.difference(&before.clone()), None);
        fs::write(study.join("a"), "12").unwrap();
        assert_eq!(
            before.difference(&Tree::scan(std::slice::from_ref(&study)).unwrap()),
            Some(study.join("a").as_path())
        );
        fs::write(study.join("a"), "1").unwrap();
        fs::write(study.join("b"), "1").unwrap();
        assert!(before.difference(&Tree::scan(&[study]).unwrap()).is_some());
    }
}
