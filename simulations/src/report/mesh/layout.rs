//! Where the nodes of a drawing stand: those with agreements pull each other, all push each other off.
//!
//! After Jacomy et al., ForceAtlas2 (2014): repulsion grows with the agreements of both, so that hubs get room and their small
//! sites lie around them. It begins with the largest in the middle of a ring and uses no chance, so the picture is always the same.

use crate::scenario::Link;

/// A place in a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

const ROUNDS: usize = 260;

/// A place for each node, in no particular unit.
pub(super) fn layout(nodes: usize, links: &[Link]) -> Vec<Point> {
    let mut agreements = vec![0.0; nodes];
    for (a, b) in links {
        agreements[*a] += 1.0;
        agreements[*b] += 1.0;
    }
    if nodes <= 2 {
        return (0..nodes).map(|node| Point { x: node as f64, y: 0.0 }).collect();
    }
    if let Some(middle) = middle_of_star(nodes, links) {
        return star(nodes, middle);
    }
    let mut points = ring(&agreements);
    // In a mesh of many links, each pulls less: all together they would draw everything into one spot.
    let pull = 1.0 / (2.0 * links.len() as f64 / nodes as f64).max(1.0).sqrt();
    for round in 0..ROUNDS {
        let reach = 12.0 * (1.0 - round as f64 / ROUNDS as f64) + 0.05;
        let forces = forces(&points, links, &agreements, pull);
        for (point, force) in points.iter_mut().zip(forces) {
            let length = (force.x * force.x + force.y * force.y).sqrt();
            let step = if length > reach { reach / length } else { 1.0 };
            point.x += force.x * step;
            point.y += force.y * step;
        }
    }
    points
}

/// The node that all links have in common.
fn middle_of_star(nodes: usize, links: &[Link]) -> Option<usize> {
    let (first, second) = *links.first()?;
    let is_middle = |node: &usize| links.iter().all(|(a, b)| a == node || b == node);
    [first, second].into_iter().find(is_middle).filter(|_| links.len() == nodes - 1)
}

/// One circle around it: where forces alone decide, sites stand behind each other.
fn star(nodes: usize, middle: usize) -> Vec<Point> {
    let mut points = vec![Point::default(); nodes];
    let around = (0..nodes).filter(|node| *node != middle);
    for (place, node) in around.enumerate() {
        let angle = place as f64 / (nodes - 1) as f64 * std::f64::consts::TAU;
        points[node] = Point { x: angle.sin(), y: -angle.cos() };
    }
    points
}

/// The largest in the middle, the others around it in order of size.
fn ring(agreements: &[f64]) -> Vec<Point> {
    const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;
    let ring = 10.0 * (agreements.len() as f64).sqrt();
    let mut by_size: Vec<usize> = (0..agreements.len()).collect();
    by_size.sort_by(|one, other| agreements[*other].total_cmp(&agreements[*one]).then(one.cmp(other)));
    let mut points = vec![Point::default(); agreements.len()];
    for (rank, node) in by_size.into_iter().enumerate() {
        // All but the largest begin near a ring: from there, the sites of one hub spread around it without crossing.
        let share = rank as f64 / agreements.len() as f64;
        let radius = if rank == 0 { 0.0 } else { ring * (0.8 + 0.2 * share.sqrt()) };
        let angle = rank as f64 * GOLDEN_ANGLE;
        points[node] = Point { x: radius * angle.cos(), y: radius * angle.sin() };
    }
    points
}

fn forces(points: &[Point], links: &[Link], agreements: &[f64], pull: f64) -> Vec<Point> {
    const REPULSION: f64 = 9.0;
    const GRAVITY: f64 = 0.06;
    let mut forces: Vec<Point> =
        points.iter().map(|point| Point { x: -point.x * GRAVITY, y: -point.y * GRAVITY }).collect();
    for a in 0..points.len() {
        for b in a + 1..points.len() {
            let (x, y) = (points[a].x - points[b].x, points[a].y - points[b].y);
            let weight = ((agreements[a] + 1.0) * (agreements[b] + 1.0)).sqrt();
            let force = REPULSION * weight / (x * x + y * y).max(0.01);
            push(&mut forces, a, b, x * force, y * force);
        }
    }
    for (a, b) in links {
        let (x, y) = (points[*a].x - points[*b].x, points[*a].y - points[*b].y);
        push(&mut forces, *a, *b, -x * 0.1 * pull, -y * 0.1 * pull);
    }
    forces
}

fn push(forces: &mut [Point], a: usize, b: usize, x: f64, y: f64) {
    forces[a].x += x;
    forces[a].y += y;
    forces[b].x -= x;
    forces[b].y -= y;
}

/// The same places within a frame. Each direction is stretched for itself: a drawing that fills its frame is easier to read.
pub(super) fn fit(points: &[Point], x: (f64, f64), y: (f64, f64)) -> Vec<Point> {
    let along = |values: Vec<f64>, (from, to): (f64, f64)| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let is_flat = most - least < 1e-9;
        let place = move |value: f64| {
            if is_flat { (from + to) / 2.0 } else { from + (value - least) / (most - least) * (to - from) }
        };
        values.into_iter().map(place).collect::<Vec<f64>>()
    };
    let across = along(points.iter().map(|point| point.x).collect(), x);
    let down = along(points.iter().map(|point| point.y).collect(), y);
    across.into_iter().zip(down).map(|(x, y)| Point { x, y }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Topology;

    #[test]
    fn places_are_finite_apart_and_the_same_again() {
        let check = |topology: Topology| {
            let links = topology.links(1);
            let frame = ((10.0, 750.0), (10.0, 600.0));
            let points = fit(&layout(topology.nodes(), &links), frame.0, frame.1);
            assert_eq!(points, fit(&layout(topology.nodes(), &links), frame.0, frame.1));
            for (index, one) in points.iter().enumerate() {
                assert!((10.0..=750.0).contains(&one.x) && (10.0..=600.0).contains(&one.y), "{topology:?}: {one:?}");
                let is_apart = |other: &Point| (one.x - other.x).abs() + (one.y - other.y).abs() > 1.0;
                assert!(points[..index].iter().all(is_apart), "{topology:?}: node {index} lies on another");
            }
        };
        check(Topology::Pair {});
        check(Topology::Star { nodes: 25 });
        check(Topology::Regional { nodes: 60, regions: 4, links_per_node: 5, links_between: 3 });
        check(Topology::National { nodes: 310, links_mean: 33.55, links_max: 150 });
    }

    #[test]
    fn the_middle_of_a_star_is_in_its_middle() {
        let topology = Topology::Star { nodes: 25 };
        let points = fit(&layout(25, &topology.links(1)), (0.0, 100.0), (0.0, 100.0));
        assert!((points[0].x - 50.0).abs() < 8.0 && (points[0].y - 50.0).abs() < 8.0, "{:?}", points[0]);
    }
}
