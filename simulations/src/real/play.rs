//! The day itself: messages handed to the nodes at their times, faults made, and everything followed until it has settled.
//!
//! **Invariant:** at most [`SUBMITTING_MAX`] messages are handed over at once, and at most [`LOOKED_AT_MAX`] envelopes are looked at
//! in one round; a mesh that cannot keep up makes the day longer, and the outcome says so.

use std::collections::{BTreeMap, HashSet};
use std::io::Cursor;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use pakt_node::api::types::{self, NewMessage, Sent, ServiceError};
use pakt_node::service::Node;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Options;
use super::content::Content;
use super::events::Events;
use super::faults::{self, Act};
use super::ledger::{Ledger, Message};
use super::measure::Memory;
use super::mesh::{Mesh, index_of};
use crate::outcome::{FRAMES_MAX, Frame, LinkState, Record, Sample, What};
use crate::scenario::{Priority, Scenario, Submission};

/// Messages that are being sealed at once.
const SUBMITTING_MAX: usize = 16;
/// Envelopes that are looked at in one round, and how many of them at once.
const LOOKED_AT_MAX: usize = 200;
const LOOKING_MAX: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Later than this is told as late.
const LATE: Duration = Duration::from_secs(1);
/// Samples and frames of a run, as far as it goes.
const SAMPLES: u32 = 150;
const SAMPLE_EVERY_MIN: Duration = Duration::from_secs(1);

/// What a day left behind.
#[derive(Default)]
pub(super) struct Played {
    pub(super) ledger: Ledger,
    pub(super) samples: Vec<Sample>,
    pub(super) frames: Vec<Frame>,
    /// Bytes of each link's lanes that were up at the end.
    pub(super) lane_bytes: Vec<u64>,
    /// How late the latest message was handed over, in real time.
    pub(super) late_max: Duration,
    /// Whether everything settled in time.
    pub(super) settled: bool,
}

/// What becomes of one submission: the message, to whom, and the node's answer.
type Handed = (Message, Vec<usize>, Result<Sent, ServiceError>);

/// One day under way.
struct Day<'a, 'w> {
    mesh: &'a mut Mesh,
    events: &'a mut Events<'w>,
    options: &'a Options,
    seed: u64,
    submitting: JoinSet<Handed>,
    /// What is still to be done by whom, by its time.
    acts: BTreeMap<(Duration, u64), Act>,
    acts_made: u64,
    /// When a message is to be recalled, until it is known by its id.
    recalls: BTreeMap<u64, Duration>,
    /// How often the mesh is sampled, in real time; seldomer as the day grows long.
    every: Duration,
    played: Played,
}

/// Plays the day on a mesh that is online.
pub(super) async fn play(
    mesh: &mut Mesh,
    events: &mut Events<'_>,
    scenario: &Scenario,
    (seed, options): (u64, &Options),
) -> Result<Played> {
    let pace = events.pace.speed;
    let mut day = Day {
        mesh,
        events,
        options,
        seed,
        submitting: JoinSet::new(),
        acts: BTreeMap::new(),
        acts_made: 0,
        recalls: BTreeMap::new(),
        every: (scenario.duration.div_f64(pace) / SAMPLES).max(SAMPLE_EVERY_MIN),
        played: Played::default(),
    };
    for (at, act) in faults::acts(&scenario.faults) {
        day.schedule(at, act);
    }
    day.run(scenario).await?;
    Ok(day.played)
}

impl Day<'_, '_> {
    async fn run(&mut self, scenario: &Scenario) -> Result<()> {
        let mut due = scenario.submissions(&self.mesh.links, self.seed).peekable();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sampled = None::<Instant>;
        let mut deadline = None;
        loop {
            let act = self.acts.first_key_value().map(|((at, _), _)| *at);
            let message = due.peek().map(|submission| submission.at).filter(|_| self.submitting.len() < SUBMITTING_MAX);
            let next = [act, message].into_iter().flatten().min();
            let at = next.map_or_else(Instant::now, |next| self.events.pace.instant(next));
            tokio::select! {
                Some(handed) = self.submitting.join_next(), if !self.submitting.is_empty() => self.handed(handed?),
                () = sleep_until(at), if next.is_some() => {
                    if next == act && let Some((_, act)) = self.acts.pop_first() {
                        self.act(act).await?;
                    } else if let Some(submission) = due.next() {
                        self.submit(submission, at);
                    }
                }
                _ = ticks.tick() => {
                    self.look().await?;
                    if sampled.is_none_or(|sampled| sampled.elapsed() >= self.every) {
                        self.sample().await?;
                        sampled = Some(Instant::now());
                    }
                    let idle = due.peek().is_none() && self.acts.is_empty() && self.submitting.is_empty();
                    let open = self.played.ledger.open().next().is_some();
                    let deadline = idle.then(|| *deadline.get_or_insert_with(|| Instant::now() + self.options.settle));
                    if idle && !open || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.played.settled = !open;
                        break;
                    }
                }
            }
        }
        self.sample().await
    }

    fn schedule(&mut self, at: Duration, act: Act) {
        self.acts.insert((at, self.acts_made), act);
        self.acts_made += 1;
    }

    fn submit(&mut self, submission: Submission, due: Instant) {
        let late = Instant::now().saturating_duration_since(due);
        if late > LATE {
            self.played.late_max = self.played.late_max.max(late);
        }
        let content = Content::of(&submission, self.seed, self.options.content_bytes_max);
        let Submission { from, to, number, priority, recall_after, bytes, .. } = submission;
        let ledger = &mut self.played.ledger;
        let Some(node) = self.mesh.sites[from].node().cloned() else {
            *ledger.not_taken.entry("the sender's node did not run".into()).or_default() += 1;
            return;
        };
        ledger.bytes.0 += bytes;
        ledger.bytes.1 += content.bytes;
        if let Some(after) = recall_after {
            self.recalls.insert(number, after);
        }
        let message = Message { number, from, priority, content };
        let recipients = to.iter().map(|to| self.mesh.sites[*to].recipient()).collect();
        self.submitting.spawn(async move {
            let sent = send(&node, recipients, &message).await;
            (message, to, sent)
        });
    }

    /// Notes what a node said to a message.
    fn handed(&mut self, (message, to, sent): Handed) {
        let Message { number, from, .. } = message;
        let recall = self.recalls.remove(&number);
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                let why = error.code.as_str();
                *self.played.ledger.not_taken.entry(why.to_owned()).or_default() += to.len() as u64;
                for to in to {
                    let record = Record::Refused(why.to_owned());
                    self.events.now(from, What::Record { submission: number, from, to, record });
                }
                return;
            }
        };
        if let Some(after) = recall {
            self.schedule(self.events.pace.now() + after, Act::Recall { node: from, message: sent.message.clone() });
        }
        for envelope in &sent.envelopes {
            let Some(to) = index_of(&envelope.name) else { continue };
            for record in self.played.ledger.add(&message, to, envelope) {
                self.events.record(from, (number, from, to), record);
            }
        }
    }

    async fn act(&mut self, act: Act) -> Result<()> {
        if let Some((at, next)) = act.apply(self.mesh, self.events).await? {
            let at = self.events.pace.now() + at;
            self.schedule(at, next);
        }
        Ok(())
    }

    /// Looks at envelopes that are under way.
    async fn look(&mut self) -> Result<()> {
        let wanted = self.played.ledger.to_look_at(LOOKED_AT_MAX);
        let sites = &self.mesh.sites;
        let looking = stream::iter(wanted).map(|(id, from)| async move {
            let Some(node) = sites[from].node() else { return Ok((id, from, None)) };
            let shown = node.outbox_show(id.clone()).await.with_context(|| format!("the outbox of node {from}"))?;
            anyhow::Ok((id, from, shown.envelopes.into_iter().next()))
        });
        let looked: Vec<_> = looking.buffered(LOOKING_MAX).collect().await;
        for answer in looked {
            let (id, from, shown) = answer?;
            let key = self.played.ledger.envelopes.get(&id).map(|one| (one.message.number, from, one.to));
            for record in self.played.ledger.looked_at(id, shown.as_ref()) {
                key.into_iter().for_each(|key| self.events.record(from, key, record.clone()));
            }
        }
        self.events.progress();
        Ok(())
    }

    async fn sample(&mut self) -> Result<()> {
        let ledger = &self.played.ledger;
        let busy: HashSet<usize> = ledger.open().filter_map(|one| self.mesh.place(one.message.from, one.to)).collect();
        let states = self.mesh.states(|place| busy.contains(&place)).await?;
        let at = self.events.pace.now();
        let online = |state: &LinkState| matches!(state, LinkState::Online | LinkState::Busy);
        let counts = ledger.counts();
        if self.played.frames.len() >= FRAMES_MAX - 1 {
            // Of a day that grows long: fewer from now on.
            halved(&mut self.played.frames);
            halved(&mut self.played.samples);
            self.every *= 2;
        }
        self.played.samples.push(Sample {
            at,
            in_flight: ledger.open().count() as u64,
            queue_age_max: ledger.age_max().mul_f64(self.events.pace.speed),
            online_links: states.iter().filter(|(state, _)| online(state)).count() as u64,
            delivered: counts.delivered,
            expired: counts.expired,
            memory_bytes: Memory::read()?.now,
        });
        self.played.lane_bytes = states.iter().map(|(_, bytes)| *bytes).collect();
        self.played.frames.push(Frame { at, link_states: states.iter().map(|(state, _)| *state as u8).collect() });
        Ok(())
    }
}

/// Every second one, the first among them.
fn halved<T>(all: &mut Vec<T>) {
    *all = std::mem::take(all).into_iter().step_by(2).collect();
}

/// Hands one message to its node, as a person's program would.
async fn send(node: &Node, to: Vec<String>, message: &Message) -> Result<Sent, ServiceError> {
    let content = message.content;
    let made = tokio::task::spawn_blocking(move || content.tar()).await.ok().and_then(Result::ok);
    let tar = made.ok_or_else(|| ServiceError::new(types::ErrorCode::Failed, "no content could be made", ""))?;
    let new = NewMessage {
        from: None,
        to,
        subject: format!("Message {}", message.number),
        body: String::new(),
        priority: shown_priority(message.priority),
        purpose: None,
        bytes: Some(content.bytes),
        files: Some(u64::from(content.files)),
        folders: Some(0),
        forwards: None,
        corrects: None,
    };
    let draft = node.draft(new).await?;
    node.submit(draft.id, Box::pin(Cursor::new(tar))).await
}

fn shown_priority(priority: Priority) -> types::Priority {
    match priority {
        Priority::Urgent => types::Priority::Urgent,
        Priority::Normal => types::Priority::Normal,
        Priority::Bulk => types::Priority::Bulk,
    }
}
