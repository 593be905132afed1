//! The picture of a mesh, with the state of its links that can be stepped through time.
//!
//! **Invariant:** the same scenario and seed give the same picture.
//! **Invariant:** where not every node is drawn, the picture says so.

mod layout;
mod sample;

use serde_json::json;

use self::layout::Point;
use self::sample::Sample;
use super::run::{TimeAxis, faults_strip};
use super::svg::{WIDTH, count_text, escaped, moment_text, push};
use crate::outcome::{Frame, LinkState, Outcome};
use crate::scenario::Scenario;

const SCRIPT: &str = include_str!("mesh.js");
const MARGIN: f64 = 26.0;
/// Up to so many nodes each has its number.
const NUMBERED_MAX: usize = 40;
/// Of more, only the largest have.
const HUBS_NUMBERED: usize = 12;
/// With more links, the usual ones are drawn faintly, so that the others can be seen.
const DENSE_LINKS: usize = 250;

/// The states of a link in the order in which they are worth seeing: digit, class, name.
const STATES: [(LinkState, &str, &str); 6] = [
    (LinkState::Waiting, "waiting", "offline, messages wait"),
    (LinkState::Offline, "offline", "offline"),
    (LinkState::Suspended, "suspended", "suspended"),
    (LinkState::Ended, "ended", "ended"),
    (LinkState::Busy, "busy", "messages under way"),
    (LinkState::Online, "online", "online, nothing to do"),
];

/// The picture with its controls.
pub(super) fn section(scenario: &Scenario, outcome: &Outcome) -> String {
    let links = scenario.topology.links(outcome.seed);
    let sample = Sample::of(scenario.topology.nodes(), &links);
    let frames: Vec<Frame> = outcome.frames.iter().filter_map(|frame| sample.frame(frame, links.len())).collect();
    let worst = worst(&frames);
    let drawing = drawing(&sample, frames.get(worst));
    let label =
        sample.label.as_ref().map_or(String::new(), |label| format!("<p class=\"note\">{}</p>", escaped(label)));
    let controls = if frames.is_empty() { String::new() } else { controls(outcome, &sample, &frames, worst) };
    let say = match (frames.is_empty(), frames.len()) {
        (true, _) if outcome.nodes > crate::outcome::FRAMES_NODES_MAX => {
            "States of links over time are not kept for meshes of this size.".into()
        }
        (true, _) => "This run kept no states of its links.".into(),
        (false, 1) => "One moment of the run.".into(),
        (false, count) => format!(
            "{count} moments of the run; it opens at the one with the most trouble. Point at a node to see its links."
        ),
    };
    format!(
        "<section><h2>The mesh</h2><p class=\"quiet\">Size is the number of agreements. {say}</p>{label}\
         <div id=\"mesh\">{drawing}{controls}</div></section>"
    )
}

/// The frame with the most links in trouble; the middle one where there is none.
fn worst(frames: &[Frame]) -> usize {
    let trouble = |frame: &Frame| {
        let healthy = [LinkState::Online as u8, LinkState::Busy as u8];
        frame.link_states.iter().filter(|state| !healthy.contains(state)).count()
    };
    // The first frame is before anything has connected.
    let later = frames.iter().enumerate().skip(1);
    let (at, most) = later.fold((0, 0), |(at, most), (index, frame)| {
        let trouble = trouble(frame);
        if trouble > most { (index, trouble) } else { (at, most) }
    });
    if most > 0 { at } else { frames.len() / 2 }
}

fn class_of(state: Option<u8>) -> &'static str {
    let known = STATES.iter().find(|(known, _, _)| Some(*known as u8) == state);
    known.map_or("unknown", |(_, class, _)| class)
}

fn drawing(sample: &Sample, frame: Option<&Frame>) -> String {
    let (points, height) = placed(sample);
    let dense = if sample.links.len() > DENSE_LINKS { " class=\"dense\"" } else { "" };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{} nodes and {} links\"{dense}><g class=\"links\">",
        sample.nodes.len(),
        sample.links.len()
    );
    for (index, (a, b)) in sample.links.iter().enumerate() {
        let state = frame.and_then(|frame| frame.link_states.get(index).copied());
        let (from, to) = (points[*a], points[*b]);
        push(
            &mut svg,
            format_args!(
                "<path class=\"{}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                class_of(state),
                from.x,
                from.y,
                to.x,
                to.y
            ),
        );
    }
    svg += "</g><g class=\"nodes\">";
    let mut by_degree: Vec<usize> = (0..sample.nodes.len()).collect();
    by_degree.sort_by_key(|node| (std::cmp::Reverse(sample.nodes[*node].agreements), *node));
    let numbered = if sample.nodes.len() <= NUMBERED_MAX { NUMBERED_MAX } else { HUBS_NUMBERED };
    // The largest first, so that small ones are not hidden below them.
    for (rank, node) in by_degree.iter().enumerate() {
        push_node(&mut svg, sample, *node, points[*node], rank < numbered);
    }
    svg + "</g></svg>"
}

fn push_node(svg: &mut String, sample: &Sample, node: usize, at: Point, is_numbered: bool) {
    let known = &sample.nodes[node];
    let radius = radius(sample, node);
    let (x, y) = (at.x, at.y);
    push(
        svg,
        format_args!("<g data-node=\"{node}\"><title>node {}, {} agreements</title>", known.number, known.agreements),
    );
    push(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"));
    if is_numbered {
        let (class, y) = if radius >= 9.0 { ("inside", y + 4.0) } else { ("beside", y - radius - 3.0) };
        push(svg, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", known.number));
    }
    *svg += "</g>";
}

/// The area grows with the number of agreements; the largest node of large meshes stays moderate.
fn radius(sample: &Sample, node: usize) -> f64 {
    let most = sample.nodes.iter().map(|node| node.agreements).max().unwrap_or(1).max(1) as f64;
    let share = sample.nodes[node].agreements as f64 / most;
    if sample.nodes.len() > NUMBERED_MAX { (14.0 * share.sqrt()).max(2.0) } else { 7.0 + 9.0 * share.sqrt() }
}

/// Where each node stands, and how high the drawing is.
fn placed(sample: &Sample) -> (Vec<Point>, f64) {
    let height = match sample.nodes.len() {
        ..=2 => 130.0,
        3..=12 => 360.0,
        13..=60 => 480.0,
        _ => 640.0,
    };
    let points = layout::layout(sample.nodes.len(), &sample.links);
    let fitted = layout::fit(&points, (MARGIN, WIDTH - MARGIN), (MARGIN, height - MARGIN));
    (fitted, height)
}

/// Slider, legend with counts, faults below the slider, and what the script needs.
fn controls(outcome: &Outcome, sample: &Sample, frames: &[Frame], at: usize) -> String {
    let counted = |state: LinkState| frames[at].link_states.iter().filter(|one| **one == state as u8).count();
    let legend: String = STATES
        .iter()
        .map(|(state, class, name)| {
            format!(
                "<li><svg viewBox=\"0 0 26 8\"><g class=\"links\"><path class=\"{class}\" d=\"M1 4H25\"/></g></svg>{name} \
                 <b data-state=\"{}\">{}</b></li>",
                *state as u8,
                count_text(counted(*state) as u64)
            )
        })
        .collect();
    let axis = TimeAxis::new(outcome.simulated, 8.0, WIDTH - 8.0);
    format!(
        "<div class=\"steps\"><button type=\"button\" aria-label=\"play\">▶</button><input type=\"range\" min=\"0\" max=\"{}\" \
         value=\"{at}\" aria-label=\"moment\"><output>{}</output></div><div class=\"under\">{}</div><ul class=\"legend\">{legend}</ul>\
         <script type=\"application/json\">{}</script><script>{SCRIPT}</script>",
        frames.len() - 1,
        moment_text(frames[at].at),
        faults_strip(&outcome.faults, &axis),
        steps(outcome, sample, frames),
    )
}

/// The first frame whole, and of each further one what changed: pairs of link and state.
fn steps(outcome: &Outcome, sample: &Sample, frames: &[Frame]) -> String {
    let digits =
        |frame: &Frame| frame.link_states.iter().map(|state| char::from(b'0' + state.min(&9))).collect::<String>();
    let changes: Vec<Vec<usize>> = frames
        .windows(2)
        .map(|pair| {
            let states = pair[0].link_states.iter().zip(&pair[1].link_states).enumerate();
            states.filter(|(_, (was, is))| was != is).flat_map(|(index, (_, is))| [index, usize::from(*is)]).collect()
        })
        .collect();
    let mut classes = vec!["unknown"; 10];
    for (state, class, _) in STATES {
        classes[state as usize] = class;
    }
    let text = json!({
        "classes": classes,
        "ends": sample.links,
        "first": frames.first().map(digits),
        "changes": changes,
        "moments": frames.iter().map(|frame| moment_text(frame.at)).collect::<Vec<_>>(),
        "shares": frames.iter().map(|frame| share(frame, outcome)).collect::<Vec<_>>(),
    });
    // A script element ends at the first "</" that it contains.
    text.to_string().replace('<', "\\u003c")
}

/// Where between start and end, in ten-thousandths.
fn share(frame: &Frame, outcome: &Outcome) -> u32 {
    (frame.at.as_secs_f64() / outcome.simulated.as_secs_f64().max(1.0) * 10_000.0) as u32
}
