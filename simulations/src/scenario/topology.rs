//! Who has an agreement with whom.

use serde::{Deserialize, Serialize};

/// The shape of a mesh. Nodes are numbered from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Topology {
    /// Two nodes, one agreement.
    Pair {},
    /// Node 0 in the middle, an agreement with each of the others.
    Star {
        /// How many in all.
        nodes: usize,
    },
    /// Regions that are dense inside and thin between.
    Regional {
        /// How many in all.
        nodes: usize,
        /// How many regions they lie in.
        regions: usize,
        /// Agreements of each node inside its region, on average.
        links_per_node: usize,
        /// Agreements between each two neighbouring regions.
        links_between: usize,
    },
    /// A country: many small sites and few hubs.
    National {
        /// How many in all.
        nodes: usize,
        /// Agreements of each node, on average.
        links_mean: f64,
        /// Agreements that the largest hub may have.
        links_max: usize,
    },
    /// Just these agreements.
    Links {
        /// How many in all.
        nodes: usize,
        /// Each as two node numbers.
        links: Vec<(usize, usize)>,
    },
}
