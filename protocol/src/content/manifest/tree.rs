//! The tree of a message: files and directories in one order that both sides check.
//!
//! Rows come depth first, the names of one directory in the order of their bytes, each directory
//! before what it holds. A row carries its depth; its parent is the last row above it that is one
//! less deep.
//!
//! **Invariant:** rows that pass [`TreeOrder`] form a tree: every parent is a directory and comes
//! first, no path occurs twice, nothing is its own ancestor.

use serde::{Deserialize, Serialize};

use super::super::name::Component;
use crate::limits::PATH_DEPTH_MAX;

/// One file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Directories above it within the message, 0 for what the sender named.
    pub depth: u8,
    /// Its name, as sent.
    pub name: Component,
    /// What it is.
    pub kind: EntryKind,
}

/// All that can be sent: nothing else exists in a tree, no links, devices, owners or rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory, empty or not.
    Dir,
    /// A file.
    File {
        /// Its length in bytes.
        bytes: u64,
        /// BLAKE3 of its content.
        blake3: [u8; 32],
    },
}

impl EntryKind {
    /// The length of a file in bytes, 0 for a directory.
    pub fn bytes(&self) -> u64 {
        match self {
            EntryKind::Dir => 0,
            EntryKind::File { bytes, .. } => *bytes,
        }
    }
}

/// Why a row cannot follow the rows before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The row's parent is missing or a file.
    #[error("an entry does not lie in the directory before it")]
    Parent,
    /// Same as or before an earlier name of its directory.
    #[error("an entry is named twice or out of order")]
    Name,
    /// Deeper than [`PATH_DEPTH_MAX`].
    #[error("a path has more than {PATH_DEPTH_MAX} components")]
    Depth,
}

/// Checks that rows come as a tree; holds one path.
#[derive(Debug, Clone)]
pub struct TreeOrder {
    /// The path of the last row.
    path: Vec<Component>,
    /// Whether the last row can have children.
    open: bool,
}

impl TreeOrder {
    /// Before the first row.
    pub fn new() -> TreeOrder {
        TreeOrder { path: Vec::new(), open: true }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// [`OrderError`]; the state is then as before.
    pub fn enter(&mut self, entry: &TreeEntry) -> Result<(), OrderError> {
        self.enter_name(entry.depth.into(), &entry.name, entry.kind == EntryKind::Dir)
    }

    /// Takes the next row from a walk that names whole paths; returns its depth and name.
    ///
    /// # Errors
    /// [`OrderError`]; the state is then as before.
    pub fn enter_path(&mut self, path: &[Component], dir: bool) -> Result<(u8, Component), OrderError> {
        let (name, parents) = path.split_last().ok_or(OrderError::Parent)?;
        let depth = u8::try_from(parents.len()).map_err(|_| OrderError::Depth)?;
        if self.path.get(..parents.len()) != Some(parents) {
            return Err(OrderError::Parent);
        }
        self.enter_name(parents.len(), name, dir)?;
        Ok((depth, name.clone()))
    }

    fn enter_name(&mut self, depth: usize, name: &Component, dir: bool) -> Result<(), OrderError> {
        if depth >= PATH_DEPTH_MAX {
            return Err(OrderError::Depth);
        }
        match self.path.get(depth) {
            Some(before) if before >= name => return Err(OrderError::Name),
            None if depth > self.path.len() || !self.open => return Err(OrderError::Parent),
            Some(_) | None => {}
        }
        self.path.truncate(depth);
        self.path.push(name.clone());
        self.open = dir;
        Ok(())
    }
}

/// The rows of a tree that has passed [`TreeOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    entries: Vec<TreeEntry>,
}

impl Tree {
    /// Only for rows that have been checked.
    pub(super) fn append_checked(&mut self, mut entries: Vec<TreeEntry>) {
        self.entries.append(&mut entries);
    }

    /// The rows in order.
    pub fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    /// All rows with their paths, in order.
    pub fn walk(&self) -> Walk<'_> {
        Walk { rest: self.entries.iter(), path: Vec::new() }
    }
}

/// Rows with their paths; see [`Tree::walk`]. Not an iterator, because the path is lent.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    rest: std::slice::Iter<'a, TreeEntry>,
    path: Vec<&'a Component>,
}

impl<'a> Walk<'a> {
    /// The next row and its path, its own name last.
    pub fn step(&mut self) -> Option<(&[&'a Component], &'a TreeEntry)> {
        let entry = self.rest.next()?;
        self.path.truncate(entry.depth.into());
        self.path.push(&entry.name);
        Some((&self.path, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> TreeEntry {
        let depth = text.len() - text.trim_start_matches('-').len();
        let name = text.trim_start_matches('-');
        let kind = match name.strip_suffix('/') {
            Some(_) => EntryKind::Dir,
            None => EntryKind::File { bytes: 0, blake3: [0; 32] },
        };
        let name = Component::parse(name.trim_end_matches('/')).unwrap();
        TreeEntry { depth: depth as u8, name, kind }
    }

    #[test]
    fn p16_rows_form_a_tree_or_are_refused() {
        let rows: [(&[&str], Result<(), OrderError>); 14] = [
            (&[], Ok(())),
            (&["a/", "-b", "-c/", "--d", "e"], Ok(())),
            (&["a/", "-z", "a.txt"], Ok(())),
            (&["a/", "-b/", "--c", "-b.txt", "b"], Ok(())),
            (&["a", "a"], Err(OrderError::Name)),
            (&["a/", "a"], Err(OrderError::Name)),
            (&["a/", "-b", "a/", "-c"], Err(OrderError::Name)),
            (&["a/", "-b", "-b"], Err(OrderError::Name)),
            (&["b", "a"], Err(OrderError::Name)),
            (&["a/", "-c", "-b"], Err(OrderError::Name)),
            (&["a", "-b"], Err(OrderError::Parent)),
            (&["-a"], Err(OrderError::Parent)),
            (&["a/", "--b"], Err(OrderError::Parent)),
            (&["a/", "-b", "--c"], Err(OrderError::Parent)),
        ];
        for (names, expected) in rows {
            let mut order = TreeOrder::new();
            let result = names.iter().try_for_each(|name| order.enter(&row(name)));
            assert_eq!(result, expected, "{names:?}");
        }
    }

    #[test]
    fn p16_depth_is_bounded() {
        let mut order = TreeOrder::new();
        let mut path = Vec::new();
        for depth in 0..=PATH_DEPTH_MAX {
            path.push(Component::parse("d").unwrap());
            assert_eq!(order.enter_path(&path, true).is_ok(), depth < PATH_DEPTH_MAX);
        }
        let deep = vec![Component::parse("d").unwrap(); 300];
        assert_eq!(order.enter_path(&deep, true), Err(OrderError::Depth));
    }

    #[test]
    fn a_walk_names_whole_paths() {
        let tree = Tree { entries: ["a/", "-b/", "--c", "-d", "e"].map(row).to_vec() };
        let mut walk = tree.walk();
        let mut paths = Vec::new();
        while let Some((path, _)) = walk.step() {
            paths.push(path.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("/"));
        }
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/d", "e"]);
    }
}
