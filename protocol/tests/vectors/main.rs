//! Golden vectors: files that every implementation must read with the same outcome, most of them hostile.
//!
//! `PAKT_WRITE_VECTORS=1 cargo test -p pakt-protocol --test vectors` writes them anew; what is written depends on
//! nothing but this program. `check` reads a vector with this implementation, `make` holds the rows that make them.
//!
//! **Invariant:** what a vector expects is written down by hand in its row, never computed by what is tested.

mod check;
mod file;
mod make;
mod network;
mod parties;
mod settling;
mod story;
mod transcript;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Once;
use std::{fs, panic};

use check::{KINDS, MESSAGE_KINDS, SETTLING, outcome};
use file::Vector;

/// Fewer vectors than this cannot be all of them.
const VECTORS_MIN: usize = 250;
const HOSTILE_PER_KIND_MIN: usize = 4;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The text of every vector in the folder by its name; writes them first if that is asked for.
fn files() -> BTreeMap<String, String> {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("PAKT_WRITE_VECTORS").is_some_and(|value| value == "1") {
            write();
        }
    });
    let entries = fs::read_dir(folder()).expect("the folder of vectors is there");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .map(|path| {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("vectors have names").to_owned();
            (name, fs::read_to_string(&path).expect("vectors are text"))
        })
        .collect()
}

fn write() {
    fs::create_dir_all(folder()).expect("the folder can be made");
    for entry in fs::read_dir(folder()).expect("the folder can be read").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "txt") {
            fs::remove_file(entry.path()).expect("an old vector can be removed");
        }
    }
    for vector in make::all() {
        let path = folder().join(format!("{}.txt", vector.name));
        fs::write(path, vector.render()).expect("a vector can be written");
    }
}

fn vectors() -> Vec<Vector> {
    let read = |(name, text): (String, String)| Vector::parse(&name, &text).unwrap_or_else(|| panic!("{name}: header"));
    files().into_iter().map(read).collect()
}

#[test]
fn every_vector_has_the_outcome_that_its_header_says() {
    let vectors = vectors();
    assert!(vectors.len() >= VECTORS_MIN, "{} vectors are too few", vectors.len());
    let wrong: Vec<String> = vectors
        .iter()
        .filter_map(|vector| {
            let found = panic::catch_unwind(|| outcome(vector)).unwrap_or_else(|_| "a panic".to_owned());
            let name = &vector.name;
            (found != vector.expect).then(|| format!("{name}: {found}, expected {} ({})", vector.expect, vector.note))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_good_and_hostile_vectors() {
    let mut counts: BTreeMap<String, (usize, usize)> = KINDS.map(|kind| (kind.to_owned(), (0, 0))).into();
    for vector in vectors() {
        let (good, hostile) = counts.get_mut(&vector.kind).unwrap_or_else(|| panic!("{}: kind", vector.name));
        *if vector.expect == "ok" { good } else { hostile } += 1;
    }
    for (kind, (good, hostile)) in counts {
        assert!(good >= 1, "{kind} has no good vector");
        assert!(hostile >= HOSTILE_PER_KIND_MIN, "{kind} has only {hostile} hostile vectors");
    }
}

#[test]
fn every_message_that_settles_envelopes_has_good_and_hostile_vectors() {
    let mut counts: BTreeMap<u32, (usize, usize)> = SETTLING.map(|number| (number, (0, 0))).collect();
    for vector in vectors().iter().filter(|vector| MESSAGE_KINDS.contains(&vector.kind.as_str())) {
        // The number stands behind the version byte.
        let number = vector.bytes().get(1..5).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        if let Some((good, hostile)) = number.and_then(|number| counts.get_mut(&number)) {
            *if vector.expect == "ok" { good } else { hostile } += 1;
        }
    }
    for (number, (good, hostile)) in counts {
        assert!(good >= 1 && hostile >= 1, "message {number} has {good} good and {hostile} hostile vectors");
    }
}

#[test]
fn the_folder_holds_exactly_what_this_program_makes() {
    let mut files = files();
    for vector in make::all() {
        let name = &vector.name;
        let text = files.remove(name).unwrap_or_else(|| panic!("{name} is missing: write the vectors anew"));
        assert!(text == vector.render(), "{name} differs: the format or the program that makes vectors has changed");
    }
    assert!(files.is_empty(), "nobody makes {:?}", files.keys());
}

#[test]
fn the_worked_examples_of_the_specification_are_those_of_the_vectors() {
    let spec = fs::read_to_string(folder().with_file_name("docs").join("spec.md")).expect("the specification is there");
    for (what, value) in make::examples() {
        assert!(spec.contains(&value), "{what} is not {value} in the specification");
    }
}
