//! The phantom against the tools that read DICOM, and against the compression that real studies show.

use super::*;
use std::path::PathBuf;
use std::process::Command;

fn study(slices: u32, seed: u64) -> (tempfile::TempDir, Vec<PathBuf>, StudySummary) {
    let dir = tempfile::tempdir().unwrap();
    let mut heard = Vec::new();
    let summary = write_study(dir.path(), slices, seed, &mut |files| heard.push(files)).unwrap();
    assert_eq!(heard, (1..=slices).collect::<Vec<_>>());
    let mut files = Vec::new();
    for folder in fs::read_dir(dir.path()).unwrap() {
        files.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    (dir, files, summary)
}

#[test]
fn same_seed_same_bytes_and_every_series_has_its_share() {
    let (_first, files, summary) = study(6, 1);
    let (_again, same, _) = study(6, 1);
    let (_other, others, _) = study(6, 2);
    assert_eq!((files.len(), summary.files), (6, 6));
    let sizes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(summary.bytes, sizes);
    for ((file, same), other) in files.iter().zip(&same).zip(&others) {
        assert_eq!(fs::read(file).unwrap(), fs::read(same).unwrap(), "{}", file.display());
        assert_ne!(fs::read(file).unwrap(), fs::read(other).unwrap(), "{}", file.display());
    }
    let in_folder = |folder: &str| files.iter().filter(|file| file.parent().unwrap().ends_with(folder)).count();
    assert_eq!(SERIES.each_ref().map(|series| in_folder(series.folder)), [2, 2, 1, 1]);
}

#[test]
fn nothing_to_write_is_no_error_and_a_missing_target_is() {
    let (_dir, files, summary) = study(0, 1);
    assert_eq!((files.len(), summary), (0, StudySummary::default()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    assert!(write_study(&file, 2, 1, &mut |_| ()).is_err());
}

#[test]
fn compresses_like_a_real_study() {
    let (_dir, files, summary) = study(12, 1);
    let [mut planes, mut plain] = [0usize; 2];
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let split: Vec<u8> = bytes.iter().step_by(2).chain(bytes.iter().skip(1).step_by(2)).copied().collect();
        planes += zstd::bulk::compress(&split, 1).unwrap().len();
        plain += zstd::bulk::compress(&bytes, 3).unwrap().len();
    }
    let ratio = |packed: usize| summary.bytes as f64 / packed as f64;
    let (planes, plain) = (ratio(planes), ratio(plain));
    println!("byte planes + zstd 1: {planes:.2}:1, zstd 3: {plain:.2}:1");
    assert!((1.6..2.6).contains(&planes), "byte planes + zstd 1: {planes:.2}:1");
    assert!((1.3..2.0).contains(&plain), "zstd 3: {plain:.2}:1");
}

#[test]
fn passes_the_validators() {
    let (_dir, files, _) = study(8, 1);
    for file in &files {
        check_validator("dcmdump", &["+fo", "-q"], file, |_| true);
        check_validator("dciodvfy", &["-new"], file, |said| {
            said.contains("MRImage") && !said.lines().any(|line| line.starts_with("Error"))
        });
    }
}

/// Runs a validator over a file; a missing tool is a visible line, or a failure where everything is required.
fn check_validator(tool: &str, flags: &[&str], file: &Path, good: impl Fn(&str) -> bool) {
    let output = match Command::new(tool).args(flags).arg(file).output() {
        Ok(output) => output,
        Err(error) if std::env::var_os("PAKT_REQUIRE_ALL").is_none() => {
            eprintln!("SKIPPED {tool}: {error}");
            return;
        }
        Err(error) => panic!("{tool} is required: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && good(&said), "{tool} {}:\n{said}", file.display());
}
