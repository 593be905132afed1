//! Receiver controls: what an agreement may ask a receiver to have, and whether an attestation says that it has it.
//!
//! A sender asks [`check`] before it offers anything. What it is given is the newest attestation of the counterpart and
//! when it came, by the sender's own service clock: the counterpart's clock decides nothing.
//!
//! **Invariant:** default deny: a control that is not named, not on, or not fresh is lacking.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// An attestation that came longer ago than this no longer shows anything.
pub const ATTESTATION_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A control that an agreement may ask of whoever receives. What nobody can attest must not be agreed, so these are all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Control {
    /// Content is scanned for malware before anybody sees it.
    MalwareScan,
    /// What arrives is taken into the patient's journal by a routine, and that is acknowledged.
    Journal,
    /// What arrives is kept at least as long as the agreement says.
    Retention,
}

impl Control {
    /// All controls, in the order of their numbers.
    pub const ALL: [Control; 3] = [Control::MalwareScan, Control::Journal, Control::Retention];

    /// The word in terms.
    pub fn as_str(self) -> &'static str {
        match self {
            Control::MalwareScan => "malware-scan",
            Control::Journal => "journal",
            Control::Retention => "retention",
        }
    }

    /// The control of this word.
    pub fn named(word: &str) -> Option<Control> {
        Control::ALL.into_iter().find(|control| control.as_str() == word)
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a running node can show for a control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Nothing: the control is off.
    None,
    /// It is on; what shows it, in one line.
    On(String),
    /// Nothing is deleted before so many seconds have passed; without a number, before the time that its agreement says.
    KeptFor(Option<u64>),
}

/// Bytes of the line in [`Evidence::On`].
pub const EVIDENCE_BYTES_MAX: usize = 200;

impl Evidence {
    /// Whether this is enough for `control` where the agreement says how long messages are kept.
    pub fn covers(&self, control: Control, retention_seconds: Option<u64>) -> bool {
        match (control, self) {
            (Control::MalwareScan | Control::Journal, Evidence::On(_)) => true,
            (Control::Retention, Evidence::KeptFor(None)) => true,
            (Control::Retention, Evidence::KeptFor(Some(kept))) => {
                retention_seconds.is_none_or(|agreed| *kept >= agreed)
            }
            _ => false,
        }
    }
}

/// A control and what there is to show for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    /// The control.
    pub control: Control,
    /// What shows that it is on.
    pub evidence: Evidence,
}

/// Why nothing may be sent to a counterpart that must have controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It has never attested anything.
    Unattested,
    /// What it attested last is too old.
    Stale,
    /// It attests that these are not on.
    Off(Vec<Control>),
    /// The terms name a control that this program does not know.
    Unknown(String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Unattested => f.write_str("it has not attested the controls that the agreement asks for"),
            Lack::Stale => f.write_str("its attestation of the controls that the agreement asks for is too old"),
            Lack::Off(controls) => {
                let words: Vec<&str> = controls.iter().map(|control| control.as_str()).collect();
                write!(f, "the agreement asks for {}, and it attests that this is not on", words.join(" and "))
            }
            Lack::Unknown(word) => write!(f, "the agreement asks for {word}, which this version does not know"),
        }
    }
}

impl Lack {
    /// Whether a new attestation is to be asked for: it says nothing now, instead of saying no.
    pub fn is_askable(&self) -> bool {
        matches!(self, Lack::Unattested | Lack::Stale)
    }
}

/// Whether the controls that an agreement asks for are shown: `attested` is what the receiver said last, and when that
/// came.
///
/// # Errors
/// The [`Lack`].
pub fn check(
    wanted: &[String],
    retention_seconds: Option<u64>,
    attested: Option<(&[Attested], Time)>,
    now: Time,
) -> Result<(), Lack> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut controls = Vec::with_capacity(wanted.len());
    for word in wanted {
        controls.push(Control::named(word).ok_or_else(|| Lack::Unknown(word.clone()))?);
    }
    let (attested, came_at) = attested.ok_or(Lack::Unattested)?;
    // A clock that went back makes an attestation look as if it came later than now: that is no reason to believe it.
    if now.distance(came_at) > ATTESTATION_AGE_MAX {
        return Err(Lack::Stale);
    }
    let is_on = |control: &Control| {
        attested.iter().any(|one| one.control == *control && one.evidence.covers(*control, retention_seconds))
    };
    controls.retain(|control| !is_on(control));
    if controls.is_empty() { Ok(()) } else { Err(Lack::Off(controls)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const CAME: Time = Time(1_000_000_000_000);

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_what_is_attested_and_fresh_counts() {
        let off = |control| Attested { control, evidence: Evidence::None };
        let scanned = Attested { control: Control::MalwareScan, evidence: Evidence::On("clamd 1.4".into()) };
        let kept = |seconds| Attested { control: Control::Retention, evidence: Evidence::KeptFor(seconds) };
        let wrong_kind = Attested { control: Control::Retention, evidence: Evidence::On("yes".into()) };
        let all_off: Vec<Attested> = Control::ALL.into_iter().map(off).collect();
        let (scan, both) = (words(&["malware-scan"]), words(&["malware-scan", "retention"]));
        let lack = |controls: &[Control]| Err(Lack::Off(controls.to_vec()));
        use Control::{MalwareScan, Retention};
        let rows = [
            (vec![], None, None, Ok(())),
            (scan.clone(), None, None, Err(Lack::Unattested)),
            (scan.clone(), None, Some((vec![], HOUR)), lack(&[MalwareScan])),
            (scan.clone(), None, Some((all_off.clone(), HOUR)), lack(&[MalwareScan])),
            (scan.clone(), None, Some((vec![scanned.clone()], 24 * HOUR)), Ok(())),
            (scan.clone(), None, Some((vec![scanned.clone()], 25 * HOUR)), Err(Lack::Stale)),
            (
                scan,
                None,
                Some((vec![Attested { control: Control::Journal, ..scanned.clone() }], HOUR)),
                lack(&[MalwareScan]),
            ),
            (both.clone(), None, Some((vec![scanned.clone(), kept(None)], HOUR)), Ok(())),
            (both.clone(), Some(100), Some((vec![scanned.clone(), kept(Some(100))], HOUR)), Ok(())),
            (both.clone(), Some(101), Some((vec![scanned.clone(), kept(Some(100))], HOUR)), lack(&[Retention])),
            (both.clone(), None, Some((vec![scanned, wrong_kind], HOUR)), lack(&[Retention])),
            (both, None, Some((all_off, HOUR)), lack(&[MalwareScan, Retention])),
            (words(&["guard-dog"]), None, None, Err(Lack::Unknown("guard-dog".into()))),
        ];
        for (wanted, retention, attested, expected) in rows {
            let (list, age) = attested.clone().map_or((None, Duration::ZERO), |(list, age)| (Some(list), age));
            let known = list.as_deref().map(|list| (list, CAME));
            assert_eq!(check(&wanted, retention, known, CAME + age), expected, "{wanted:?} {attested:?}");
        }
    }

    #[test]
    fn p27_a_clock_that_went_back_does_not_keep_an_attestation_fresh() {
        let scanned = [Attested { control: Control::MalwareScan, evidence: Evidence::On("clamd".into()) }];
        let wanted = words(&["malware-scan"]);
        let known = Some((&scanned[..], CAME));
        assert_eq!(check(&wanted, None, known, CAME - 25 * HOUR), Err(Lack::Stale));
        assert_eq!(check(&wanted, None, known, CAME - HOUR), Ok(()));
    }
}
