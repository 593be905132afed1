//! `pakt inbox save`: from a tar stream to a folder that no name can escape from.
//!
//! Everything is first written into a staging folder inside the target and then moved into place, so that a failure
//! leaves nothing behind and nothing half. Each step goes through the open directory above it; no path of more than
//! one component is ever given to the system.
//!
//! **Invariant:** nothing outside the target is created or changed, no link is followed or made, nothing is overwritten.
//! **Invariant:** what stands in the target at the end has the sizes and BLAKE3 digests of the manifest, all of it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use pakt_protocol::content::name::{Component, DirectoryNames, Target};
use pakt_protocol::limits::PATH_DEPTH_MAX;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::ambient;
use crate::api::types::{ErrorCode, InboxDetail, ServiceError};

const COPY_BYTES: usize = 512 << 10;

/// What was saved.
#[derive(Debug, Default, Serialize)]
pub struct Saved {
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Names that the target cannot hold.
    pub escaped: Vec<Escaped>,
}

/// A name that was saved under another one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Escaped {
    /// Path as sent.
    pub name: String,
    /// Path below the target.
    pub saved_as: String,
}

/// Writes the tar stream `content` of `item` below `target`, blocking.
///
/// # Errors
/// `conflict` when a name is taken, `damaged` when the stream is not what the manifest says, `full`, `failed`.
pub fn save(item: &InboxDetail, content: impl Read, target: &Path) -> Result<Saved, ServiceError> {
    let (target_fd, created) = open_target(target)?;
    let result = Staging::create(target, &target_fd).and_then(|staging| {
        let written = write(item, content, target, &target_fd, &staging);
        staging.remove();
        written
    });
    if result.is_err() && created {
        let _ = fs::remove_dir(target);
    }
    result
}

fn write(
    item: &InboxDetail,
    content: impl Read,
    target: &Path,
    target_fd: &OwnedFd,
    staging: &Staging,
) -> Result<Saved, ServiceError> {
    let mut writer = Writer::new(item, staging, target)?;
    writer.refuse_taken(item, target_fd)?;
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries().map_err(|e| broken_stream(&e))? {
        writer.entry(entry.map_err(|e| broken_stream(&e))?)?;
    }
    writer.finish(target_fd)
}

fn open_target(target: &Path) -> Result<(OwnedFd, bool), ServiceError> {
    let existed = target.exists();
    let failed = |e: io::Error| local(target, &e);
    fs::create_dir_all(target).map_err(failed)?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(target, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    Ok((fd, !existed))
}

// --------------------------------------------------------------------------------------------------------- staging

/// The folder in which everything is written first.
struct Staging {
    path: PathBuf,
    fd: OwnedFd,
}

impl Staging {
    fn create(target: &Path, target_fd: &OwnedFd) -> Result<Self, ServiceError> {
        let name = format!(".pakt-save-{}", hex::encode(ambient::random::<8>()));
        rustix::fs::mkdirat(target_fd, &name, Mode::RWXU).map_err(|e| local(target, &e.into()))?;
        let fd = open_dir(target_fd, &name).map_err(|e| local(target, &e))?;
        Ok(Self { path: target.join(name), fd })
    }

    fn remove(self) {
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Finds out by trying whether the file system keeps names apart as Linux does.
    fn target_kind(&self) -> Target {
        let name = "Probe:\u{e9}.";
        let made = create_file(&self.fd, name).is_ok();
        let twin = |twin: &str| rustix::fs::statat(&self.fd, twin, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let portable = !made || twin("PROBE:\u{c9}.") || twin("Probe:e\u{301}.") || twin("Probe:\u{e9}");
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        if portable { Target::Portable } else { Target::Linux }
    }
}

fn open_dir(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn create_file(parent: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o666))?))
}

// --------------------------------------------------------------------------------------------------------- writing

/// One folder on the way down to the present entry.
struct Level {
    sent: String,
    saved: String,
    fd: OwnedFd,
    names: DirectoryNames,
}

struct Writer<'a> {
    target: &'a Path,
    kind: Target,
    top: Level,
    below: Vec<Level>,
    /// Files that the manifest names and the stream has not brought yet.
    missing: HashMap<String, (u64, String)>,
    roots: Vec<String>,
    saved: Saved,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(item: &InboxDetail, staging: &Staging, target: &'a Path) -> Result<Self, ServiceError> {
        let kind = staging.target_kind();
        let fd = staging.fd.try_clone().map_err(|e| local(target, &e))?;
        let file = |file: &crate::api::types::TreeFile| (file.path.clone(), (file.bytes, file.blake3.clone()));
        Ok(Self {
            target,
            kind,
            top: Level { sent: String::new(), saved: String::new(), fd, names: DirectoryNames::new(kind) },
            below: Vec::new(),
            missing: item.tree.iter().map(file).collect(),
            roots: Vec::new(),
            saved: Saved::default(),
            buffer: vec![0; COPY_BYTES],
        })
    }

    /// Refuses before anything is written if a name at the top is taken.
    fn refuse_taken(&self, item: &InboxDetail, target_fd: &OwnedFd) -> Result<(), ServiceError> {
        let mut names = DirectoryNames::new(self.kind);
        let paths = item.tree.iter().map(|file| file.path.as_str()).chain(item.folders.iter().map(String::as_str));
        let mut tops: Vec<&str> = paths.filter_map(|path| path.split('/').next()).collect();
        tops.sort_unstable();
        tops.dedup();
        for top in tops {
            let saved = names.assign(&component(top)?);
            if rustix::fs::statat(target_fd, &saved.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(taken(self.target, &saved.name));
            }
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ServiceError> {
        let raw = entry.path_bytes().into_owned();
        let text = std::str::from_utf8(&raw).map_err(|_| damaged("a name is no text"))?;
        let path: Vec<Component> = text.trim_end_matches('/').split('/').map(component).collect::<Result<_, _>>()?;
        let Some((name, folders)) = path.split_last() else { return Err(damaged("an entry has no name")) };
        if path.len() > PATH_DEPTH_MAX {
            return Err(damaged("a path is too deep"));
        }
        self.descend(folders)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => self.enter(name),
            tar::EntryType::Regular => self.file(name, &mut entry),
            _ => Err(damaged("an entry is neither a file nor a folder")),
        }
    }

    /// Makes the last level of `below` the folder that `folders` names.
    fn descend(&mut self, folders: &[Component]) -> Result<(), ServiceError> {
        let common = self.below.iter().zip(folders).take_while(|(level, name)| level.sent == name.as_str()).count();
        self.below.truncate(common);
        for name in folders.iter().skip(common) {
            self.enter(name)?;
        }
        Ok(())
    }

    /// Creates a folder in the present one and goes into it.
    fn enter(&mut self, name: &Component) -> Result<(), ServiceError> {
        let saved = self.assign(name);
        let parent = self.present();
        let made = rustix::fs::mkdirat(&parent.fd, &saved, Mode::from_raw_mode(0o777));
        made.map_err(|e| self.refused(&saved, e.into()))?;
        let fd = open_dir(&self.present().fd, &saved).map_err(|e| local(self.target, &e))?;
        let names = DirectoryNames::new(self.kind);
        self.below.push(Level { sent: name.as_str().to_owned(), saved, fd, names });
        Ok(())
    }

    fn file(&mut self, name: &Component, content: &mut impl Read) -> Result<(), ServiceError> {
        let sent = self.path(|level| &level.sent, name.as_str());
        let Some((bytes, digest)) = self.missing.remove(&sent) else {
            return Err(damaged("the stream brings a file that the message does not list"));
        };
        let saved = self.assign(name);
        let mut file = create_file(&self.present().fd, &saved).map_err(|e| self.refused(&saved, e))?;
        let mut hasher = blake3::Hasher::new();
        let mut written = 0;
        loop {
            let read = content.read(&mut self.buffer).map_err(|e| broken_stream(&e))?;
            if read == 0 {
                break;
            }
            hasher.update(&self.buffer[..read]);
            file.write_all(&self.buffer[..read]).map_err(|e| local(self.target, &e))?;
            written += read as u64;
        }
        if written != bytes || hasher.finalize().to_hex().as_str() != digest {
            return Err(damaged("a file is not what the message lists"));
        }
        self.saved.files += 1;
        self.saved.bytes += written;
        Ok(())
    }

    /// The name under which `name` is saved in the present folder.
    fn assign(&mut self, name: &Component) -> String {
        let level = self.below.last_mut().unwrap_or(&mut self.top);
        let saved = level.names.assign(name);
        if saved.changed {
            let entry = Escaped {
                name: self.path(|level| &level.sent, name.as_str()),
                saved_as: self.path(|level| &level.saved, &saved.name),
            };
            self.saved.escaped.push(entry);
        }
        if self.below.is_empty() {
            self.roots.push(saved.name.clone());
        }
        saved.name
    }

    fn present(&self) -> &Level {
        self.below.last().unwrap_or(&self.top)
    }

    fn path(&self, part: impl Fn(&Level) -> &str, last: &str) -> String {
        let folders: Vec<&str> = self.below.iter().map(part).chain([last]).collect();
        folders.join("/")
    }

    fn refused(&self, name: &str, error: io::Error) -> ServiceError {
        match error.kind() {
            io::ErrorKind::AlreadyExists => damaged("two entries of the stream have the same name"),
            _ => local(&self.target.join(name), &error),
        }
    }

    /// Checks that all came, and moves it into place.
    fn finish(self, target_fd: &OwnedFd) -> Result<Saved, ServiceError> {
        if !self.missing.is_empty() {
            return Err(damaged("the stream ended before every file had come"));
        }
        for (at, root) in self.roots.iter().enumerate() {
            if let Err(error) = move_into_place(&self.top.fd, target_fd, root) {
                // What was already moved goes back, so that nothing half stays.
                for moved in &self.roots[..at] {
                    let _ = rustix::fs::renameat(target_fd, moved, &self.top.fd, moved);
                }
                return Err(match error {
                    Errno::EXIST | Errno::NOTEMPTY => taken(self.target, root),
                    error => local(&self.target.join(root), &error.into()),
                });
            }
        }
        Ok(self.saved)
    }
}

fn move_into_place(from: &OwnedFd, to: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        // Some network file systems lack this flag; then looking first is the best there is.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(Errno::EXIST);
            }
            rustix::fs::renameat(from, name, to, name)
        }
        other => other,
    }
}

fn component(name: &str) -> Result<Component, ServiceError> {
    Component::parse(name).map_err(|e| damaged(&e.to_string()))
}

fn taken(target: &Path, name: &str) -> ServiceError {
    let message = format!("{} exists already; nothing was saved", target.join(name).display());
    ServiceError::new(ErrorCode::Conflict, message, "save to an empty folder")
}

fn damaged(what: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Damaged, format!("{what}; nothing was saved"), "try again, then see the node's log")
}

fn broken_stream(error: &io::Error) -> ServiceError {
    damaged(&format!("the content ended early: {error}"))
}

fn local(path: &Path, error: &io::Error) -> ServiceError {
    let (code, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorCode::Full, "make room and try again"),
        _ => (ErrorCode::Failed, "check the folder's rights"),
    };
    ServiceError::new(code, format!("cannot write {}: {error}; nothing was saved", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::*;

    fn item(files: &[(&str, &[u8])], folders: &[&str]) -> InboxDetail {
        let tree = files
            .iter()
            .map(|(path, content)| TreeFile {
                path: (*path).to_owned(),
                bytes: content.len() as u64,
                blake3: blake3::hash(content).to_hex().to_string(),
            })
            .collect();
        InboxDetail {
            item: InboxItem {
                id: "i".into(),
                kind: InboxKind::Message,
                from: Sender { entity: "ent1".into(), name: "n".into(), group: "g".into() },
                group: "g".into(),
                subject: String::new(),
                received_at: String::new(),
                priority: Priority::Normal,
                state: EnvelopeState::Delivered,
                files: files.len() as u64,
                bytes: 0,
            },
            message: "m".into(),
            purpose: None,
            keep_until: None,
            text: String::new(),
            tree,
            folders: folders.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o7777);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            entry(&mut builder, name, *kind, content);
        }
        builder.into_inner().unwrap()
    }

    fn listing(dir: &Path) -> Vec<String> {
        let walk = walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name();
        walk.into_iter().map(|e| e.unwrap().path().strip_prefix(dir).unwrap().display().to_string()).collect()
    }

    use tar::EntryType::{Directory, Link, Regular, Symlink};

    #[test]
    fn a_tree_arrives_as_sent() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("new/in");
        let stream = archive(&[
            ("study/", Directory, b""),
            ("study/a", Regular, b"aa"),
            ("study/empty/", Directory, b""),
            ("study/z", Regular, b""),
            ("top.txt", Regular, b"t"),
        ]);
        let item = item(&[("study/a", b"aa"), ("study/z", b""), ("top.txt", b"t")], &["study", "study/empty"]);
        let saved = save(&item, stream.as_slice(), &target).unwrap();
        assert_eq!((saved.files, saved.bytes), (3, 3));
        assert_eq!(listing(&target), ["study", "study/a", "study/empty", "study/z", "top.txt"]);
        assert_eq!(fs::read(target.join("study/a")).unwrap(), b"aa");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(target.join("study/a")).unwrap().permissions());
        assert_eq!(mode & 0o7111, 0, "no mode comes out of the stream");
        let again = save(&item, stream.as_slice(), &target).unwrap_err();
        assert_eq!(again.code, ErrorCode::Conflict);
        assert_eq!(listing(&target).len(), 5);
    }

    #[test]
    fn p17_nothing_leaves_the_folder_and_a_failure_leaves_nothing() {
        let files: &[(&str, &[u8])] = &[("a", b"x"), ("d/a", b"x"), ("../a", b"x"), ("/a", b"x"), ("d/../../a", b"x")];
        let check = |entries: &[(&str, tar::EntryType, &[u8])]| {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("in");
            let error = save(&item(files, &[]), archive(entries).as_slice(), &target).unwrap_err();
            assert_eq!(error.code, ErrorCode::Damaged, "{}", error.message);
            assert_eq!(listing(dir.path()), Vec::<String>::new(), "{entries:?}");
        };
        check(&[("../a", Regular, b"x")]);
        check(&[("/a", Regular, b"x")]);
        check(&[("d/../../a", Regular, b"x")]);
        check(&[("d//a", Regular, b"x")]);
        check(&[("./a", Regular, b"x")]);
        check(&[("d", Symlink, b""), ("d/a", Regular, b"x")]);
        check(&[("d", Link, b"")]);
        check(&[("d", tar::EntryType::Fifo, b"")]);
        check(&[("a", Regular, b"x"), ("a", Regular, b"x")]);
        check(&[("d/", Directory, b""), ("a", Regular, b"x"), ("d/", Directory, b"")]);
        check(&[("a", Regular, b"y")]);
        check(&[("a", Regular, b"xx")]);
        check(&[("unlisted", Regular, b"x")]);
        check(&[("a", Regular, b"x")]);
        check(&[]);
    }

    #[test]
    fn p17_a_link_in_the_target_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let target = dir.path().join("in");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("study")).unwrap();
        let stream = archive(&[("study/", Directory, b""), ("study/a", Regular, b"x")]);
        let error = save(&item(&[("study/a", b"x")], &["study"]), stream.as_slice(), &target).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert_eq!(listing(&outside), Vec::<String>::new());
        assert_eq!(listing(&target), ["study"]);
    }

    #[test]
    fn a_stream_that_ends_early_leaves_nothing() {
        let stream = archive(&[("a", Regular, &[7; 4000]), ("b", Regular, b"x")]);
        let item = item(&[("a", &[7; 4000]), ("b", b"x")], &[]);
        for cut in [0, 100, 512, 2000, 4600, 5200] {
            let dir = tempfile::tempdir().unwrap();
            let error = save(&item, &stream[..cut], &dir.path().join("in")).unwrap_err();
            assert_eq!(error.code, ErrorCode::Damaged, "cut at {cut}");
            assert_eq!(listing(dir.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn names_that_a_portable_target_cannot_hold_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let (fd, _) = open_target(dir.path()).unwrap();
        let staging = Staging::create(dir.path(), &fd).unwrap();
        let item = item(&[("a:b", b"1"), ("A:B", b"2")], &[]);
        let mut writer = Writer::new(&item, &staging, dir.path()).unwrap();
        writer.kind = Target::Portable;
        writer.top.names = DirectoryNames::new(Target::Portable);
        let stream = archive(&[("A:B", Regular, b"2"), ("a:b", Regular, b"1")]);
        for entry in tar::Archive::new(stream.as_slice()).entries().unwrap() {
            writer.entry(entry.unwrap()).unwrap();
        }
        let saved = writer.finish(&fd).unwrap();
        staging.remove();
        assert_eq!(saved.escaped.len(), 2);
        assert_eq!(listing(dir.path()).len(), 2);
        assert!(listing(dir.path()).iter().all(|name| !name.contains(':')));
    }
}
