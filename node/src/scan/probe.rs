//! The test that a scanner must pass before anything that it says counts.
//!
//! | stream | must be |
//! |---|---|
//! | the test file of EICAR, which every scanner knows | found |
//! | a harmless line | clean |
//! | archives in archives, deeper than any scanner looks | reported as beyond its limits |
//!
//! clamd calls what it did not look into clean unless `AlertExceedsMax` is set, and it looks into no archive without
//! `ScanArchive`: the third row shows both.
//!
//! **Invariant:** the test file never stands whole in this program, or scanners would condemn it.

use std::hint::black_box;
use std::time::Duration;

use pakt_protocol::controls::EVIDENCE_BYTES_MAX;
use pakt_protocol::time::Time;
use tar::Header;

use super::clamd::{Clamd, ScanError, Verdict, Version};
use super::config::SignaturesAge;

/// The halves of the test file (eicar.org, "Anti Malware Testfile").
const TEST_HALVES: [&[u8]; 2] = [b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STAN", b"DARD-ANTIVIRUS-TEST-FILE!$H+H*"];
/// A line in which nobody finds anything.
const HARMLESS: &[u8] = b"Pakt asks this scanner about a harmless line.\n";
/// clamd's `MaxRecursion` is 100 at most.
const NESTED: usize = 110;
const TAR_BLOCK: usize = 512;

/// Why what a scanner says does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be asked.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The test file is clean to it.
    #[error("it does not find the EICAR test file: it has no signatures")]
    FindsNothing,
    /// A harmless line is not.
    #[error("it finds something in a harmless line ({0})")]
    FindsAll(String),
    /// What it did not look into is clean to it.
    #[error("it passes what it has not looked into: set `AlertExceedsMax yes` and `ScanArchive yes` in clamd.conf")]
    PassesUnseen,
    /// Nobody knows how old its signatures are.
    #[error("its signatures carry no date: is freshclam set up?")]
    Undated,
    /// Nobody fetches new ones.
    #[error("its signatures are {} days old: does freshclam run?", .0.as_secs() / 86_400)]
    Old(Duration),
}

impl Unfit {
    /// Whether it may be that the scanner is started anew this moment.
    pub fn is_passing(&self) -> bool {
        matches!(self, Unfit::Scan(error) if error.is_connection())
    }
}

/// The test file of EICAR, put together.
pub fn test_file() -> Vec<u8> {
    black_box(TEST_HALVES).concat()
}

/// Puts a scanner to the test; gives the line that shows what it is.
///
/// # Errors
/// [`Unfit`].
pub(super) async fn probe(clamd: &Clamd, age: SignaturesAge, now: Time) -> Result<String, Unfit> {
    let version = clamd.version().await?;
    check_age(&version, age, now)?;
    if !matches!(clamd.scan(&test_file()).await?, Verdict::Found(_)) {
        return Err(Unfit::FindsNothing);
    }
    match clamd.scan(HARMLESS).await? {
        Verdict::Clean => {}
        Verdict::Found(name) | Verdict::Beyond(name) => return Err(Unfit::FindsAll(name)),
    }
    match clamd.scan(&nested(NESTED)).await? {
        Verdict::Beyond(_) => {}
        Verdict::Clean | Verdict::Found(_) => return Err(Unfit::PassesUnseen),
    }
    Ok(line(&version))
}

fn check_age(version: &Version, SignaturesAge(age_max): SignaturesAge, now: Time) -> Result<(), Unfit> {
    let Some(age_max) = age_max else { return Ok(()) };
    let (_, at) = version.signatures.as_ref().ok_or(Unfit::Undated)?;
    // Signatures of tomorrow are no fresher: a clock is wrong.
    let age = now.distance(*at);
    if age > age_max { Err(Unfit::Old(age)) } else { Ok(()) }
}

fn line(version: &Version) -> String {
    let Version { engine, signatures } = version;
    let mut line = match signatures {
        Some((number, at)) => {
            let day = jiff::Timestamp::from_microsecond(i64::try_from(at.0).unwrap_or_default()).unwrap_or_default();
            format!("{engine}, signatures {number} of {}, finds EICAR", day.strftime("%F"))
        }
        None => format!("{engine}, signatures without a date, finds EICAR"),
    };
    // What clamd says of itself is ASCII by now.
    line.truncate(EVIDENCE_BYTES_MAX);
    line
}

/// A tar file in a tar file, so many times.
fn nested(depth: usize) -> Vec<u8> {
    let end = 2 * TAR_BLOCK;
    let mut archive = Vec::with_capacity(depth * (TAR_BLOCK + end) + TAR_BLOCK);
    for level in 0..depth {
        let within = depth - 1 - level;
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..5].copy_from_slice(b"a.tar");
        header.set_size((within * (TAR_BLOCK + end) + TAR_BLOCK) as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
    }
    archive.extend_from_slice(HARMLESS);
    archive.resize(depth * (TAR_BLOCK + end) + TAR_BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nested_archives_are_archives() {
        let mut archive = nested(3);
        for _ in 0..3 {
            let mut reader = tar::Archive::new(&archive[..]);
            let mut entry = reader.entries().unwrap().next().unwrap().unwrap();
            let mut inner = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut inner).unwrap();
            archive = inner;
        }
        assert!(archive.starts_with(HARMLESS));
        assert_eq!(archive.len(), TAR_BLOCK);
    }

    #[test]
    fn old_and_undated_signatures_show_nothing() {
        const DAY: Duration = Duration::from_secs(86_400);
        let made = Time::from_seconds(1_790_000_000);
        let dated = Version { engine: "ClamAV 1.4.6".into(), signatures: Some(("27100".into(), made)) };
        let undated = Version { signatures: None, ..dated.clone() };
        let week = SignaturesAge::default();
        assert_eq!(check_age(&dated, week, made + 7 * DAY), Ok(()));
        assert_eq!(check_age(&dated, week, made + 8 * DAY), Err(Unfit::Old(8 * DAY)));
        assert_eq!(check_age(&dated, week, made - 30 * DAY), Err(Unfit::Old(30 * DAY)));
        assert_eq!(check_age(&undated, week, made), Err(Unfit::Undated));
        assert_eq!(check_age(&undated, SignaturesAge(None), made), Ok(()));
        assert_eq!(line(&dated), "ClamAV 1.4.6, signatures 27100 of 2026-09-21, finds EICAR");
        assert!(line(&undated).contains("without a date"));
    }
}
