//! Which nodes are drawn: all of them, or of large meshes the hubs and some of the others.

use crate::outcome::Frame;
use crate::scenario::Link;

/// More cannot be told apart.
const DRAWN_MAX: usize = 400;
/// Of a larger mesh: so many of the largest.
const HUBS: usize = 60;
/// And so many of the others, evenly by size.
const OTHERS: usize = 240;

/// A node that is drawn.
pub(super) struct Node {
    /// Its number in the mesh.
    pub(super) number: usize,
    /// In the whole mesh.
    pub(super) agreements: usize,
}

/// What is drawn of a mesh.
pub(super) struct Sample {
    pub(super) nodes: Vec<Node>,
    /// As places in `nodes`.
    pub(super) links: Vec<Link>,
    /// The places of those links in the whole mesh.
    kept: Vec<usize>,
    /// What it leaves out, if it leaves out something.
    pub(super) label: Option<String>,
}

impl Sample {
    pub(super) fn of(nodes: usize, links: &[Link]) -> Self {
        let mut agreements = vec![0; nodes];
        for (a, b) in links {
            agreements[*a] += 1;
            agreements[*b] += 1;
        }
        let numbers = if nodes <= DRAWN_MAX { (0..nodes).collect() } else { some(&agreements, links) };
        let mut places = vec![None; nodes];
        for (place, number) in numbers.iter().enumerate() {
            places[*number] = Some(place);
        }
        let drawn = links.iter().enumerate().filter_map(|(index, (a, b))| Some((index, (places[*a]?, places[*b]?))));
        let (kept, drawn): (Vec<usize>, Vec<Link>) = drawn.unzip();
        let label = (numbers.len() < nodes).then(|| {
            format!(
                "A sample: {} of {nodes} nodes, the {HUBS} with the most agreements and others evenly by size as far as they \
                 have agreements with those drawn; {} of {} agreements.",
                numbers.len(),
                drawn.len(),
                links.len()
            )
        });
        let node = |number: usize| Node { number, agreements: agreements[number] };
        Self { nodes: numbers.into_iter().map(node).collect(), links: drawn, kept, label }
    }

    /// The states of the links that are drawn; none if the frame is of another mesh.
    pub(super) fn frame(&self, frame: &Frame, links: usize) -> Option<Frame> {
        let is_whole = frame.link_states.len() == links;
        is_whole.then(|| Frame {
            at: frame.at,
            link_states: self.kept.iter().map(|index| frame.link_states[*index]).collect(),
        })
    }
}

/// The hubs, and of the others every n-th by size; without those that know nobody in the sample.
fn some(agreements: &[usize], links: &[Link]) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..agreements.len()).collect();
    by_size.sort_by_key(|node| (std::cmp::Reverse(agreements[*node]), *node));
    let mut is_drawn = vec![false; agreements.len()];
    let others = &by_size[HUBS..];
    let every = others.len().div_ceil(OTHERS);
    for number in by_size[..HUBS].iter().chain(others.iter().step_by(every)) {
        is_drawn[*number] = true;
    }
    let mut is_known = vec![false; agreements.len()];
    for (a, b) in links.iter().filter(|(a, b)| is_drawn[*a] && is_drawn[*b]) {
        is_known[*a] = true;
        is_known[*b] = true;
    }
    (0..agreements.len()).filter(|node| is_known[*node]).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Topology;

    #[test]
    fn small_meshes_are_drawn_whole_and_large_ones_say_what_is_missing() {
        let links = Topology::Star { nodes: 300 }.links(1);
        let whole = Sample::of(300, &links);
        assert_eq!((whole.nodes.len(), whole.links.len(), &whole.label), (300, 299, &None));

        let topology = Topology::National { nodes: 5_000, links_mean: 10.0, links_max: 400 };
        let links = topology.links(1);
        let sample = Sample::of(5_000, &links);
        assert!((150..=301).contains(&sample.nodes.len()), "{}", sample.nodes.len());
        assert!(sample.label.as_ref().unwrap().contains("of 5000 nodes"));
        for ((a, b), kept) in sample.links.iter().zip(&sample.kept) {
            assert_eq!((sample.nodes[*a].number, sample.nodes[*b].number), links[*kept]);
        }
    }

    #[test]
    fn frames_follow_the_sample_and_those_of_other_meshes_do_not_count() {
        let links = Topology::Pair {}.links(1);
        let sample = Sample::of(2, &links);
        let frame = |states: Vec<u8>| Frame { at: Duration::ZERO, link_states: states };
        assert_eq!(sample.frame(&frame(vec![4]), 1), Some(frame(vec![4])));
        assert_eq!(sample.frame(&frame(vec![4, 4]), 1), None);
    }
}
