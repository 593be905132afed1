//! Scenarios as files: those that are shipped, those of people, and those that the shrinker writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Scenario;

/// The scenarios that come with this program: name and text.
pub const SHIPPED: [(&str, &str); 5] = [
    ("pair", include_str!("../../scenarios/pair.toml")),
    ("teleradiology-310", include_str!("../../scenarios/teleradiology-310.toml")),
    ("national-10000", include_str!("../../scenarios/national-10000.toml")),
    ("bad-week", include_str!("../../scenarios/bad-week.toml")),
    ("revocation-storm", include_str!("../../scenarios/revocation-storm.toml")),
];

/// A longer file was not written by a person, nor by the shrinker.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no scenario to run.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// Neither a shipped name nor a file.
    #[error("there is no scenario `{name}`: shipped are {}, and there is no such file", shipped())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is longer than any scenario.
    #[error("{} is longer than {} MB", path.display(), FILE_BYTES_MAX >> 20)]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The text is not TOML, or has a key or a type that a scenario has not.
    #[error("line {line}, {}: {what}", if key == "." { "not TOML" } else { key })]
    Text {
        /// Path of the key, such as `faults[2].node`; `.` where the text as a whole is wrong.
        key: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A value is out of its bounds.
    #[error("{key}: {what}")]
    Value {
        /// Path of the key.
        key: String,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A scenario that cannot be written down.
    #[error("the scenario cannot be written as TOML")]
    Unwritable(#[from] toml::ser::Error),
}

fn shipped() -> String {
    SHIPPED.map(|(name, _)| name).join(", ")
}

impl Scenario {
    /// One that is shipped.
    ///
    /// # Errors
    /// If none has that name.
    pub fn named(name: &str) -> Result<Self, ScenarioError> {
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Self::parse(text),
            None => Err(ScenarioError::Unknown { name: name.into() }),
        }
    }

    /// One that is shipped, or else the file of that path.
    ///
    /// # Errors
    /// If there is neither, or the file is no scenario.
    pub fn find(name_or_path: &str) -> Result<Self, ScenarioError> {
        match Self::named(name_or_path) {
            Err(ScenarioError::Unknown { .. }) if Path::new(name_or_path).exists() => {
                Self::load(Path::new(name_or_path))
            }
            found => found,
        }
    }

    /// The scenario in a file.
    ///
    /// # Errors
    /// If it cannot be read or is no scenario.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let unreadable = |source| ScenarioError::Unreadable { path: path.into(), source };
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(ScenarioError::TooLong { path: path.into() });
        }
        Self::parse(&fs::read_to_string(path).map_err(unreadable)?)
    }

    /// The scenario that a text says.
    ///
    /// # Errors
    /// If it is not TOML, has a key that a scenario has not, lacks one that it must have, or a value is out of its bounds; the
    /// error names the key and what is allowed.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let wrong = |key: String, error: &toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            ScenarioError::Text { key, line, what: error.message().replace('\n', ", ") }
        };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| wrong(".".into(), &error))?;
        let scenario: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| wrong(error.path().to_string(), error.inner()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// As a text that [`Scenario::parse`] reads back unchanged.
    ///
    /// # Errors
    /// If a number does not fit into TOML: a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{FaultName, Suite};

    fn shipped(name: &str) -> Scenario {
        Scenario::named(name).unwrap()
    }

    #[test]
    fn everything_shipped_is_a_scenario_of_that_name_and_comes_back_from_text() {
        for (name, text) in SHIPPED {
            let scenario = shipped(name);
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name} says what it shows");
            assert!(text.lines().filter(|line| line.starts_with('#')).count() > 2, "{name} has comments that teach");
            assert_eq!(Scenario::parse(&scenario.to_toml().unwrap()).unwrap(), scenario, "{name}");
        }
    }

    #[test]
    fn the_pair_is_one() {
        let pair = shipped("pair");
        assert_eq!((pair.topology.links(7).len(), pair.suite_chosen()), (1, Suite::Full));
    }

    #[test]
    fn teleradiology_has_the_sites_agreements_and_transfers_of_its_name() {
        let scenario = shipped("teleradiology-310");
        let links = scenario.topology.links(1);
        assert_eq!(scenario.topology.nodes(), 310);
        assert!((5_150..5_250).contains(&links.len()), "{} agreements", links.len());
        let transfers: Vec<_> = scenario.submissions(&links, 1).collect();
        assert!((29_000..32_000).contains(&transfers.len()), "{} transfers", transfers.len());
        assert!(transfers.iter().all(|transfer| transfer.bytes == 150_000_000));
    }

    #[test]
    fn the_country_has_ten_thousand_nodes_and_one_message_per_node_and_hour() {
        let scenario = shipped("national-10000");
        let links = scenario.topology.links(1);
        assert_eq!((scenario.topology.nodes(), scenario.suite_chosen()), (10_000, Suite::Model));
        let messages = scenario.submissions(&links, 1).count() as f64;
        let expected = 10_000.0 * 7.0 * 24.0;
        assert!((messages / expected - 1.0).abs() < 0.01, "{messages} messages");
    }

    #[test]
    fn the_bad_week_has_faults_of_every_sort_a_network_meets() {
        let week = shipped("bad-week");
        let mut kinds: Vec<FaultName> = week.faults.iter().map(|fault| fault.what.name()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(kinds.len() >= 10, "{kinds:?}");
        assert!(week.random_faults.unwrap().kinds.len() >= 8);
    }

    #[test]
    fn the_storm_revokes_many_agreements() {
        let storm = shipped("revocation-storm");
        let of = |name: FaultName| storm.faults.iter().filter(|fault| fault.what.name() == name).count();
        assert!(of(FaultName::End) >= 8 && of(FaultName::Expire) >= 4 && of(FaultName::Suspend) >= 8);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let message = Scenario::find("no-such").unwrap_err().to_string();
        assert!(message.contains("`no-such`") && message.contains("bad-week"), "{message}");
    }

    const START: &str = "name = 'x'\nduration = '1h'\n";
    const PAIR: &str = "name = 'x'\nduration = '1h'\n[topology]\nshape = 'pair'\n";

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        let check = |text: String, expected: &[&str]| {
            let error = Scenario::parse(&text).expect_err(&text).to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{text}\n-> {error}\nwithout {expected:?}");
        };
        let pair = |more: &str| format!("{PAIR}{more}");
        let start = |more: &str| format!("{START}{more}");
        check("name = ".into(), &["line 1", "not TOML"]);
        check(START.into(), &["topology"]);
        check(pair("[terms]\nholds = '1h'"), &["line 6", "terms", "`holds`", "`hold`"]);
        check(pair("[terms]\nhold = 5"), &["terms.hold", "string"]);
        check(pair("[terms]\nhold = '5 parsecs'"), &["terms.hold", "`5 parsecs`", "72h"]);
        check(pair("[terms]\nhold = '49h'"), &["terms.hold", "not between 1m and 2days"]);
        check(start("[topology]\nshape = 'cube'"), &["topology", "`cube`", "`pair`", "`national`"]);
        check(start("[topology]\nshape = 'star'"), &["topology", "`nodes`"]);
        check(start("[topology]\nshape = 'star'\nnodes = 20_001"), &["topology.nodes", "20001", "20000"]);
        check(start("[topology]\nshape = 'star'\nnodes = 1"), &["topology.nodes"]);
        check(start("[topology]\nshape = 'star'\nnodes = -1"), &["topology"]);
        check(start("[topology]\nshape = 'links'\nnodes = 3\nlinks = [[0, 3]]"), &["topology.links[0]", "0 to 2"]);
        check(start("[topology]\nshape = 'links'\nnodes = 3\nlinks = [[1, 1]]"), &["topology.links[0]", "itself"]);
        check(
            start("[topology]\nshape = 'national'\nnodes = 10\nlinks_mean = 1.0\nlinks_max = 5"),
            &["topology.links_mean", "1.8"],
        );
        check(
            start("[topology]\nshape = 'national'\nnodes = 10\nlinks_mean = 4.5\nlinks_max = 4"),
            &["topology.links_max", "5"],
        );
        check(
            start("[topology]\nshape = 'regional'\nnodes = 9\nregions = 5\nlinks_per_node = 2\nlinks_between = 1"),
            &["topology.regions", "between 1 and 4"],
        );
        check(pair("[line]\nrate_mbit = nan"), &["line.rate_mbit"]);
        check(pair("[line]\nloss_percent = 91.0"), &["line.loss_percent", "90"]);
        check(pair("[[traffic]]\nkind = 'fax'\nper_node_and_hour = 1.0"), &["traffic[0].kind", "`fax`", "`letter`"]);
        check(pair("[[traffic]]\nkind = 'ct'\nper_node_and_hour = -1.0"), &["traffic[0].per_node_and_hour", "-1"]);
        check(pair("[[traffic]]\nkind = 'ct'\nper_node_and_hour = 1.0\nbytes = 0"), &["traffic[0].bytes"]);
        check(pair("[[traffic]]\nkind = 'ct'\nper_node_and_hour = 1.0\npriority = 'now'"), &["`now`", "`urgent`"]);
        check(pair("[[messages]]\nat = '1m'\nfrom = 0\nto = [2]\nkind = 'ct'"), &["messages[0].to", "0 to 1"]);
        check(pair("[[messages]]\nat = '2h'\nfrom = 0\nto = [1]\nkind = 'ct'"), &["messages[0].at", "1h"]);
    }

    #[test]
    fn errors_of_faults_name_the_fault_and_its_key() {
        let check = |more: &str, expected: &[&str]| {
            let text = format!("{PAIR}{more}");
            let error = Scenario::parse(&text).expect_err(&text).to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{text}\n-> {error}\nwithout {expected:?}");
        };
        check("[[faults]]\nwhat = 'isolate'\nnode = 1", &["line 5", "faults[0]", "`at`"]);
        check("[[faults]]\nat = '1m'\nnode = 1", &["faults[0]", "`what`"]);
        check("[[faults]]\nat = '1m'\nwhat = 'explode'\nnode = 1", &["faults[0]", "`explode`", "`crash`"]);
        check("[[faults]]\nat = '1m'\nwhat = 'crash'\nnode = 1\ntorm = true", &["faults[0]", "`torm`", "`torn`"]);
        check("[[faults]]\nat = '1m'\nwhat = 'crash'\nnode = 2", &["faults[0].node", "0 to 1"]);
        check("[[faults]]\nat = '1m'\nwhat = 'crash'\nnode = 1\nat_persist = 0", &["faults[0].at_persist"]);
        check("[[faults]]\nat = '1m'\nfor = 'ever'\nwhat = 'crash'\nnode = 1", &["faults[0]", "`ever`"]);
        check("[[faults]]\nat = '1m'\nfor = '5m'\nwhat = 'end'\na = 0\nb = 1", &["faults[0].for", "`end`"]);
        check("[[faults]]\nat = '1m'\nwhat = 'partition'\na = 1\nb = 1", &["faults[0].b", "itself"]);
        check("[[faults]]\nat = '1m'\nwhat = 'line'\na = 0\nb = 1\nloss_percent = 101.0", &["faults[0].loss_percent"]);
        check("[[faults]]\nat = '61m'\nwhat = 'crash'\nnode = 1", &["faults[0].at", "1h"]);
        check("[random_faults]\nkinds = []\nmean_between = '1h'\nuntil = '1h'", &["random_faults.kinds"]);
        check(
            "[random_faults]\nkinds = ['rain']\nmean_between = '1h'\nuntil = '1h'",
            &["random_faults.kinds[0]", "`rain`"],
        );
        check("[random_faults]\nkinds = ['crash']\nmean_between = '1h'\nuntil = '2h'", &["random_faults.until"]);
    }

    #[test]
    fn a_fault_without_an_agreement_is_named() {
        let text =
            format!("{START}[topology]\nshape = 'star'\nnodes = 4\n[[faults]]\nat = '1m'\nwhat = 'end'\na = 1\nb = 2");
        let error = Scenario::parse(&text).unwrap_err().to_string();
        assert!(error.contains("faults[0].b") && error.contains("1 and 2 have no agreement"), "{error}");
    }
}
