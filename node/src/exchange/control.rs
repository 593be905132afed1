//! The two tasks of a control lane: one always reads, one writes.

use std::collections::VecDeque;

use pakt_protocol::message::{Message, QueryAnswer};
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::frames::{read_message, write_message};
use super::peer::Command;
use crate::net::LaneStream;

/// Messages that wait in the writer; more wait in the actor's backlog.
const WRITES_MAX: usize = 32;
/// Messages in the backlog of somebody who still listens: above all answers to what was offered.
const BACKLOG_MAX: usize = 1024;
/// And bytes of what is large in them: a roster of the largest size for every envelope that is under way.
const BACKLOG_BYTES_MAX: usize = 32 << 20;

/// The actor's end of a control lane. Dropping it ends the lane.
pub(super) struct ControlLane {
    writer: mpsc::Sender<Message>,
    backlog: VecDeque<Message>,
    _tasks: JoinSet<()>,
}

impl ControlLane {
    /// Starts the tasks; what is read reaches `actor` under this session's number.
    pub(super) fn start(stream: LaneStream, session: u64, actor: mpsc::Sender<Command>) -> ControlLane {
        let (read, write) = tokio::io::split(stream);
        let (writer, mut outbox) = mpsc::channel::<Message>(WRITES_MAX);
        let mut tasks = JoinSet::new();
        let lost = actor.clone();
        tasks.spawn(async move {
            let mut lane = BufWriter::new(write);
            while let Some(message) = outbox.recv().await {
                let written = write_message(&mut lane, &message).await;
                let flushed = if written.is_ok() && outbox.is_empty() { lane.flush().await } else { written };
                if flushed.is_err() {
                    let _ = lost.send(Command::LaneLost { session }).await;
                    return;
                }
            }
            // The actor is done with the lane: the counterpart reads everything, then a clean end.
            let _ = lane.shutdown().await;
        });
        tasks.spawn(async move {
            let mut lane = BufReader::new(read);
            let error = loop {
                match read_message(&mut lane).await {
                    Ok(message) => {
                        if actor.send(Command::Frame { session, message }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => break error,
                }
            };
            tracing::debug!(session, %error, "a control lane ended");
            let _ = actor.send(Command::LaneLost { session }).await;
        });
        ControlLane { writer, backlog: VecDeque::new(), _tasks: tasks }
    }

    /// Sends a message, after all those before it; never waits.
    pub(super) fn send(&mut self, message: Message) {
        self.backlog.push_back(message);
        self.push();
    }

    /// Whether little enough waits that more content may be named.
    pub(super) fn has_room(&self) -> bool {
        self.backlog.len() < WRITES_MAX
    }

    /// Whether the counterpart asks more than it reads answers: waiting for it would take memory without end.
    pub(super) fn is_clogged(&self) -> bool {
        self.backlog.len() > BACKLOG_MAX || self.backlog.iter().map(bytes_held).sum::<usize>() > BACKLOG_BYTES_MAX
    }

    fn push(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(message)) = self.writer.try_send(message) {
                self.backlog.push_front(message);
                return;
            }
        }
    }

    /// Moves the backlog on; pending for ever while there is none. Cancel safe.
    pub(super) async fn drain(&mut self) {
        if self.backlog.is_empty() {
            return std::future::pending().await;
        }
        if let Ok(permit) = self.writer.clone().reserve_owned().await {
            if let Some(message) = self.backlog.pop_front() {
                permit.send(message);
            }
        } else {
            self.backlog.clear();
        }
    }

    /// Lets what was sent leave, then ends the lane.
    pub(super) async fn finish(mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if self.writer.send(message).await.is_err() {
                break;
            }
        }
        drop(self.writer);
        // The reader ends with the lane, the writer when everything is out.
        self._tasks.join_next().await;
    }
}

/// Bytes that a message holds beside its own size.
fn bytes_held(message: &Message) -> usize {
    match message {
        Message::Amend(amend) => amend.file.len(),
        Message::Contact(contact) => contact.file.len(),
        Message::Roster(update) => update.roster.body().len(),
        Message::EpochGone(gone) => gone.roster.body().len(),
        Message::Receipt(receipt) => receipt.receipt.len(),
        Message::QueryAnswer(QueryAnswer::Page(page)) => page.body().len(),
        Message::Sought(sought) => sought.found.iter().map(Vec::len).sum(),
        _ => 0,
    }
}
