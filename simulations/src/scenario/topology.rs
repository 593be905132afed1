//! Who has an agreement with whom.
//!
//! **Invariant:** links are sorted, have the lower node first, and none is there twice; every mesh but one of given links is
//! connected.
//!
//! A country is drawn so that its degrees follow a power law: each site first signs with one that was there before it (so all are
//! connected), then further pairs are drawn by weight. Low node numbers are the hubs.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::chance;

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

/// A link as two node numbers, the lower one first.
pub type Link = (usize, usize);

impl Topology {
    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        match self {
            Self::Pair {} => 2,
            Self::Star { nodes }
            | Self::Regional { nodes, .. }
            | Self::National { nodes, .. }
            | Self::Links { nodes, .. } => *nodes,
        }
    }

    /// All agreements: sorted, the lower node first, none twice; the same for the same seed.
    pub fn links(&self, seed: u64) -> Vec<Link> {
        if let Some(links) = self.fixed_links() {
            return links;
        }
        let mut mesh = Mesh { rng: chance(seed, "topology", &[]), links: BTreeSet::new() };
        match self {
            Self::Regional { nodes, regions, links_per_node, links_between } => {
                mesh.regional(*nodes, *regions, *links_per_node, *links_between);
            }
            Self::National { nodes, links_mean, links_max } => mesh.national(*nodes, *links_mean, *links_max),
            Self::Pair {} | Self::Star { .. } | Self::Links { .. } => {}
        }
        mesh.links.into_iter().collect()
    }

    /// The agreements, where no seed decides them.
    pub(super) fn fixed_links(&self) -> Option<Vec<Link>> {
        match self {
            Self::Pair {} => Some(vec![(0, 1)]),
            Self::Star { nodes } => Some((1..*nodes).map(|node| (0, node)).collect()),
            Self::Links { links, .. } => {
                let ordered: BTreeSet<Link> = links.iter().map(|(a, b)| ordered(*a, *b)).collect();
                Some(ordered.into_iter().collect())
            }
            Self::Regional { .. } | Self::National { .. } => None,
        }
    }
}

fn ordered(a: usize, b: usize) -> Link {
    (a.min(b), a.max(b))
}

/// A mesh that is being drawn.
struct Mesh {
    rng: Rng,
    links: BTreeSet<Link>,
}

impl Mesh {
    fn regional(&mut self, nodes: usize, regions: usize, links_per_node: usize, links_between: usize) {
        let region = |number: usize| number * nodes / regions..(number + 1) * nodes / regions;
        for number in 0..regions {
            self.region(region(number), links_per_node);
        }
        // Regions lie around a ring; two of them have one border, not two.
        let borders = if regions == 2 { 1 } else { regions };
        for number in 0..borders.min(regions * (regions - 1)) {
            self.border(region(number), region((number + 1) % regions), links_between);
        }
    }

    fn region(&mut self, nodes: std::ops::Range<usize>, links_per_node: usize) {
        let size = nodes.len();
        let wanted = (size * links_per_node / 2).clamp(size - 1, size * (size - 1) / 2);
        let before = self.links.len();
        for node in nodes.start + 1..nodes.end {
            let earlier = self.rng.usize(nodes.start..node);
            self.links.insert((earlier, node));
        }
        self.fill(before + wanted, |rng| ordered(rng.usize(nodes.clone()), rng.usize(nodes.clone())));
    }

    fn border(&mut self, here: std::ops::Range<usize>, there: std::ops::Range<usize>, wanted: usize) {
        let wanted = wanted.clamp(1, here.len() * there.len());
        let before = self.links.len();
        self.fill(before + wanted, |rng| ordered(rng.usize(here.clone()), rng.usize(there.clone())));
    }

    /// Draws until there are so many links. Where nearly all pairs are taken, this takes a while, but not forever.
    fn fill(&mut self, wanted: usize, draw: impl Fn(&mut Rng) -> Link) {
        while self.links.len() < wanted {
            let (a, b) = draw(&mut self.rng);
            if a != b {
                self.links.insert((a, b));
            }
        }
    }

    fn national(&mut self, nodes: usize, links_mean: f64, links_max: usize) {
        let reach = Reach::of(nodes);
        let mut degrees = vec![0; nodes];
        for node in 1..nodes {
            let earlier = self.earlier(node, &reach, &degrees, links_max);
            self.join((earlier, node), &mut degrees);
        }
        let wanted = (nodes as f64 * links_mean / 2.0).round() as usize;
        // Hubs fill up, and then most draws are in vain; a bound keeps a mesh that cannot be had from taking forever.
        let mut draws = wanted.saturating_mul(DRAWS_PER_LINK_MAX);
        while self.links.len() < wanted && draws > 0 {
            draws -= 1;
            let link = ordered(reach.draw(&mut self.rng, nodes), reach.draw(&mut self.rng, nodes));
            let has_room = link.0 != link.1 && degrees[link.0] < links_max && degrees[link.1] < links_max;
            if has_room && !self.links.contains(&link) {
                self.join(link, &mut degrees);
            }
        }
        self.pair_up(wanted, &mut degrees, links_max);
    }

    fn join(&mut self, link: Link, degrees: &mut [usize]) {
        self.links.insert(link);
        degrees[link.0] += 1;
        degrees[link.1] += 1;
    }

    /// One that was there before and has room. The newest always has, with two links or more for each.
    fn earlier(&mut self, node: usize, reach: &Reach, degrees: &[usize], links_max: usize) -> usize {
        for _ in 0..DRAWS_PER_LINK_MAX {
            let drawn = reach.draw(&mut self.rng, node);
            if degrees[drawn] < links_max {
                return drawn;
            }
        }
        (0..node).rev().find(|earlier| degrees[*earlier] < links_max).unwrap_or(0)
    }

    /// What chance has left open, in order.
    fn pair_up(&mut self, wanted: usize, degrees: &mut [usize], links_max: usize) {
        for a in 0..degrees.len() {
            for b in a + 1..degrees.len() {
                if self.links.len() >= wanted || degrees[a] >= links_max {
                    break;
                }
                if degrees[b] < links_max && !self.links.contains(&(a, b)) {
                    self.join((a, b), degrees);
                }
            }
        }
    }
}

/// After so many draws in vain per link, links are given out in order.
const DRAWS_PER_LINK_MAX: usize = 50;

/// How many others each site reaches out to, summed up so that one can be drawn.
struct Reach {
    /// Of all nodes up to this one.
    sums: Vec<f64>,
}

impl Reach {
    /// The n-th largest has the weight n^-0.75, by square roots alone: these are the same on every machine, powers are not.
    fn of(nodes: usize) -> Self {
        let weights = (1..=nodes).map(|rank| {
            let root = (rank as f64).sqrt();
            1.0 / (root * root.sqrt())
        });
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// One of the first `nodes`.
    fn draw(&self, rng: &mut Rng, nodes: usize) -> usize {
        let at = rng.f64() * self.sums[nodes - 1];
        self.sums[..nodes].partition_point(|sum| *sum <= at).min(nodes - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_connected(nodes: usize, links: &[Link]) -> bool {
        let mut group: Vec<usize> = (0..nodes).collect();
        fn root(group: &[usize], mut node: usize) -> usize {
            while group[node] != node {
                node = group[node];
            }
            node
        }
        for (a, b) in links {
            let (a, b) = (root(&group, *a), root(&group, *b));
            group[a.max(b)] = a.min(b);
        }
        (0..nodes).all(|node| root(&group, node) == 0)
    }

    #[test]
    fn meshes_are_connected_ordered_and_the_same_again() {
        let check = |topology: Topology, expected: usize| {
            for seed in 0..5 {
                let links = topology.links(seed);
                assert_eq!(links.len(), expected, "{topology:?}");
                assert!(links.is_sorted_by(|a, b| a < b), "{topology:?}: sorted, none twice");
                assert!(links.iter().all(|(a, b)| a < b && *b < topology.nodes()), "{topology:?}");
                assert!(is_connected(topology.nodes(), &links), "{topology:?}, seed {seed}");
                assert_eq!(links, topology.links(seed));
            }
        };
        check(Topology::Pair {}, 1);
        check(Topology::Star { nodes: 9 }, 8);
        check(Topology::Links { nodes: 3, links: vec![(2, 1), (0, 1), (1, 2)] }, 2);
        check(Topology::Regional { nodes: 40, regions: 4, links_per_node: 6, links_between: 3 }, 4 * 30 + 4 * 3);
        check(Topology::Regional { nodes: 4, regions: 2, links_per_node: 9, links_between: 9 }, 2 + 4);
        check(Topology::Regional { nodes: 5, regions: 1, links_per_node: 2, links_between: 9 }, 5);
        check(Topology::National { nodes: 310, links_mean: 33.55, links_max: 150 }, 5_200);
        check(Topology::National { nodes: 5_000, links_mean: 10.0, links_max: 400 }, 25_000);
        check(Topology::National { nodes: 20, links_mean: 19.0, links_max: 19 }, 190);
        check(Topology::National { nodes: 50, links_mean: 2.0, links_max: 2 }, 50);
    }

    #[test]
    fn seeds_differ() {
        let topology = Topology::National { nodes: 100, links_mean: 6.0, links_max: 30 };
        assert_ne!(topology.links(1), topology.links(2));
    }

    #[test]
    fn a_country_has_few_hubs_and_many_small_sites() {
        let topology = Topology::National { nodes: 10_000, links_mean: 10.0, links_max: 400 };
        let mut degrees = vec![0_usize; 10_000];
        for (a, b) in topology.links(1) {
            degrees[a] += 1;
            degrees[b] += 1;
        }
        let of_size = |sizes: std::ops::Range<usize>| degrees.iter().filter(|degree| sizes.contains(degree)).count();
        assert!(degrees.iter().all(|degree| (1..=400).contains(degree)));
        assert!(of_size(1..10) > 6_000, "small: {}", of_size(1..10));
        assert!((10..200).contains(&of_size(100..401)), "hubs: {}", of_size(100..401));
    }
}
