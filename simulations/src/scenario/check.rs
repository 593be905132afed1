//! What a scenario may say: every size has a bound, every node exists.

use std::time::Duration;

use super::{FaultKind, Kind, Line, Scenario, ScenarioError, Topology, Traffic};

/// Larger meshes do not fit into 24 GiB.
pub const NODES_MAX: usize = 20_000;
/// Agreements of one mesh.
pub const LINKS_MAX: usize = 500_000;
/// Messages that the streams of one run may submit, on average.
pub const SUBMISSIONS_MAX: f64 = 1e9;
const STREAMS_MAX: usize = 16;
const SCRIPTED_MAX: usize = 100_000;
const RECIPIENTS_MAX: usize = 100;
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const HOLD_MIN: Duration = Duration::from_secs(60);
const HOLD_MAX: Duration = Duration::from_secs(48 * 3600);
const SETTLE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const DELAY_MAX: Duration = Duration::from_secs(60);
/// A terabyte: more than the largest archive in one message.
const BYTES_MAX: u64 = 1_000_000_000_000;
const NAME_BYTES_MAX: usize = 64;

type Checked = Result<(), ScenarioError>;

fn require(is_met: bool, key: impl FnOnce() -> String, what: impl FnOnce() -> String) -> Checked {
    if is_met { Ok(()) } else { Err(ScenarioError::Value { key: key(), what: what() }) }
}

/// A value between two bounds, which the error names.
fn between<T: PartialOrd + std::fmt::Display>(key: &str, value: T, least: T, most: T) -> Checked {
    let is_met = value >= least && value <= most;
    require(is_met, || key.into(), || format!("{value} is not between {least} and {most}"))
}

/// The same of durations.
fn lasts(key: &str, value: Duration, least: Duration, most: Duration) -> Checked {
    let text = humantime::format_duration;
    between_texts(key, value >= least && value <= most, &text(value), &text(least), &text(most))
}

fn between_texts(key: &str, is_met: bool, value: &dyn ToString, least: &dyn ToString, most: &dyn ToString) -> Checked {
    let what = || format!("{} is not between {} and {}", value.to_string(), least.to_string(), most.to_string());
    require(is_met, || key.into(), what)
}

impl Scenario {
    /// Whether everything in it is within bounds; [`Scenario::parse`] has done so already.
    ///
    /// # Errors
    /// The first value that is not.
    pub fn check(&self) -> Checked {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let has_name = (1..=NAME_BYTES_MAX).contains(&self.name.len()) && self.name.bytes().all(is_name);
        require(
            has_name,
            || "name".into(),
            || format!("`{}` is not 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -", self.name),
        )?;
        lasts("duration", self.duration, Duration::from_secs(1), DURATION_MAX)?;
        lasts("settle", self.settle, Duration::from_secs(1), SETTLE_MAX)?;
        lasts("terms.hold", self.terms.hold, HOLD_MIN, HOLD_MAX)?;
        self.topology.check()?;
        self.line.check()?;
        self.check_traffic()?;
        self.check_messages()?;
        self.check_faults()
    }

    fn check_traffic(&self) -> Checked {
        between("traffic", self.traffic.len(), 0, STREAMS_MAX)?;
        for (index, traffic) in self.traffic.iter().enumerate() {
            traffic.check(&format!("traffic[{index}]"))?;
        }
        let per_hour: f64 = self.traffic.iter().map(|traffic| traffic.per_node_and_hour).sum();
        let in_all = per_hour * self.topology.nodes() as f64 * self.duration.as_secs_f64() / 3600.0;
        let what = || format!("about {in_all:.0} messages in all are more than {SUBMISSIONS_MAX:.0}");
        require(in_all <= SUBMISSIONS_MAX, || "traffic".into(), what)
    }

    fn check_messages(&self) -> Checked {
        between("messages", self.messages.len(), 0, SCRIPTED_MAX)?;
        let links = self.topology.fixed_links();
        for (index, message) in self.messages.iter().enumerate() {
            let key = format!("messages[{index}]");
            lasts(&format!("{key}.at"), message.at, Duration::ZERO, self.duration)?;
            self.check_node(&format!("{key}.from"), message.from)?;
            between(&format!("{key}.to"), message.to.len(), 1, RECIPIENTS_MAX)?;
            for to in &message.to {
                self.check_pair(&format!("{key}.to"), message.from, *to, links.as_deref())?;
            }
            check_bytes(&key, message.bytes, message.kind)?;
        }
        Ok(())
    }

    fn check_faults(&self) -> Checked {
        between("faults", self.faults.len(), 0, SCRIPTED_MAX)?;
        let links = self.topology.fixed_links();
        for (index, fault) in self.faults.iter().enumerate() {
            let key = format!("faults[{index}]");
            lasts(&format!("{key}.at"), fault.at, Duration::ZERO, self.duration)?;
            let is_lasting = fault.what.can_last() || fault.for_.is_none();
            let what = || format!("`{}` happens at once and has no length", fault.what.name());
            require(is_lasting, || format!("{key}.for"), what)?;
            if let Some(node) = fault.what.node() {
                self.check_node(&format!("{key}.node"), node)?;
            }
            if let Some((a, b)) = fault.what.pair() {
                self.check_node(&format!("{key}.a"), a)?;
                self.check_pair(&format!("{key}.b"), a, b, links.as_deref())?;
            }
            fault.what.check(&key)?;
        }
        let Some(random) = &self.random_faults else { return Ok(()) };
        let is_some = !random.kinds.is_empty();
        require(is_some, || "random_faults.kinds".into(), || "name one kind of fault at least".into())?;
        lasts("random_faults.mean_between", random.mean_between, Duration::from_secs(1), DURATION_MAX)?;
        lasts("random_faults.until", random.until, Duration::ZERO, self.duration)
    }

    fn check_node(&self, key: &str, node: usize) -> Checked {
        let nodes = self.topology.nodes();
        require(node < nodes, || key.into(), || format!("there is no node {node}: they are 0 to {}", nodes - 1))
    }

    /// Two nodes with an agreement, as far as that is known without a seed.
    fn check_pair(&self, key: &str, a: usize, b: usize, links: Option<&[(usize, usize)]>) -> Checked {
        self.check_node(key, b)?;
        require(a != b, || key.into(), || format!("node {a} has no agreement with itself"))?;
        let is_linked = links.is_none_or(|links| links.binary_search(&(a.min(b), a.max(b))).is_ok());
        require(is_linked, || key.into(), || format!("nodes {a} and {b} have no agreement in this topology"))
    }
}

impl Line {
    fn check(&self) -> Checked {
        between("line.rate_mbit", self.rate_mbit, 0.01, 100_000.0)?;
        lasts("line.delay", self.delay, Duration::ZERO, DELAY_MAX)?;
        between("line.loss_percent", self.loss_percent, 0.0, 90.0)
    }
}

impl Traffic {
    fn check(&self, key: &str) -> Checked {
        between(&format!("{key}.per_node_and_hour"), self.per_node_and_hour, 0.0, 3600.0)?;
        between(&format!("{key}.recipients"), self.recipients, 1, RECIPIENTS_MAX)?;
        between(&format!("{key}.recall_percent"), self.recall_percent, 0.0, 100.0)?;
        check_bytes(key, self.bytes, self.kind)
    }
}

fn check_bytes(key: &str, bytes: Option<u64>, kind: Kind) -> Checked {
    between(&format!("{key}.bytes"), bytes.unwrap_or(kind.bytes()), 1, BYTES_MAX)
}

impl Topology {
    fn check(&self) -> Checked {
        let nodes = self.nodes();
        between("topology.nodes", nodes, 2, NODES_MAX)?;
        let pairs = nodes * (nodes - 1) / 2;
        match self {
            Self::Pair {} | Self::Star { .. } => Ok(()),
            Self::Regional { regions, links_per_node, links_between, .. } => {
                // At least two in each region.
                between("topology.regions", *regions, 1, nodes / 2)?;
                between("topology.links_per_node", *links_per_node, 1, LINKS_MAX / nodes)?;
                between("topology.links_between", *links_between, 1, LINKS_MAX / regions)
            }
            Self::National { links_mean, links_max, .. } => {
                let most = (LINKS_MAX.min(pairs) * 2) as f64 / nodes as f64;
                // One link less than nodes joins them all.
                between("topology.links_mean", *links_mean, 2.0 * (nodes - 1) as f64 / nodes as f64, most)?;
                between("topology.links_max", *links_max, links_mean.ceil().max(2.0) as usize, NODES_MAX)
            }
            Self::Links { links, .. } => {
                between("topology.links", links.len(), 1, LINKS_MAX)?;
                for (index, (a, b)) in links.iter().enumerate() {
                    let key = || format!("topology.links[{index}]");
                    let is_within = *a < nodes && *b < nodes;
                    require(is_within, key, || format!("nodes are 0 to {}, not {a} and {b}", nodes - 1))?;
                    require(a != b, key, || format!("node {a} has no agreement with itself"))?;
                }
                Ok(())
            }
        }
    }
}

impl FaultKind {
    fn check(&self, key: &str) -> Checked {
        let percent = |name: &str, value: f64| between(&format!("{key}.{name}"), value, 0.0, 100.0);
        match self {
            Self::Line { loss_percent, delay, reorder_percent, duplicate_percent, .. } => {
                percent("loss_percent", *loss_percent)?;
                percent("reorder_percent", *reorder_percent)?;
                percent("duplicate_percent", *duplicate_percent)?;
                lasts(&format!("{key}.delay"), *delay, Duration::ZERO, DELAY_MAX)
            }
            Self::Crash { at_persist: Some(persist), .. } => {
                between(&format!("{key}.at_persist"), *persist, 1, u64::MAX)
            }
            Self::Restore { backup_age, .. } => {
                lasts(&format!("{key}.backup_age"), *backup_age, Duration::ZERO, DURATION_MAX)
            }
            Self::ClockStep { seconds, .. } => {
                let most = DURATION_MAX.as_secs() as i64;
                between(&format!("{key}.seconds"), *seconds, -most, most)
            }
            Self::ClockSkew { ppm, .. } => between(&format!("{key}.ppm"), *ppm, -500_000, 500_000),
            _ => Ok(()),
        }
    }
}
