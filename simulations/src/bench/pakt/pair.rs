//! Two nodes under one agreement, both online.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::node::{Node, Priority, agree};
use crate::bench::ground::Ground;
use crate::bench::peers::{Measured, MemoryPeaks};

const SENDER_NUMBER: &str = "NO:ORGNR:999000101";
const RECEIVER_NUMBER: &str = "NL:KVK:99000102";

/// A sender and a receiver.
#[derive(Debug)]
pub struct Pair {
    /// At the ground's sender.
    pub sender: Node,
    /// At the ground's receiver.
    pub receiver: Node,
}

impl Pair {
    /// Makes both entities with their data under `work`, their agreement, and waits until they are connected.
    ///
    /// # Errors
    /// The first step that fails, with what the program said.
    pub fn agree(program: &Path, ground: &Ground, work: &Path) -> Result<Self> {
        let mut sender = Node::start(program, &ground.sender, work.join("sender"), "Bench Sender", SENDER_NUMBER)?;
        let mut receiver =
            Node::start(program, &ground.receiver, work.join("receiver"), "Bench Receiver", RECEIVER_NUMBER)?;
        agree(&sender, &receiver, work)?;
        sender.wait_online(1)?;
        receiver.wait_online(1)?;
        Ok(Self { sender, receiver })
    }

    /// Sends `path` in turn and waits for its durable receipt.
    ///
    /// # Errors
    /// If the message was not delivered, or not by the deadline.
    pub fn send(&self, ground: &Ground, path: &Path, subject: &str, deadline: Duration) -> Result<Measured> {
        self.send_to(ground, &self.receiver.address(), path, subject, deadline)
    }

    /// Sends `path` to a recipient at the receiver and waits for its durable receipt.
    ///
    /// # Errors
    /// If the message was not delivered, or not by the deadline.
    pub fn send_to(
        &self,
        ground: &Ground,
        to: &str,
        path: &Path,
        subject: &str,
        deadline: Duration,
    ) -> Result<Measured> {
        let meter = ground.meter();
        let delivered = self.sender.start_send(to, path, subject, Priority::Normal, deadline)?.finish(deadline)?;
        Ok(Measured {
            seconds: delivered.seconds,
            bytes_on_wire: Some(delivered.bytes_on_wire),
            crossed: meter.read(),
            memory: Some(self.memory_peaks()?),
        })
    }

    /// Saves a message at the receiver into `saved` and compares it with what was sent.
    ///
    /// # Errors
    /// If the message is not in the inbox exactly once, or not as it was sent.
    pub fn check_received(&self, subject: &str, path: &Path, saved: &Path) -> Result<()> {
        self.receiver.check_received(subject, path, saved)
    }

    /// The most memory that either node has held so far.
    ///
    /// # Errors
    /// If a node runs no more.
    pub fn memory_peaks(&self) -> Result<MemoryPeaks> {
        Ok(MemoryPeaks {
            sender_kib: self.sender.memory_peak_kib()?,
            receiver_kib: Some(self.receiver.memory_peak_kib()?),
        })
    }

    /// Ends both nodes as an operator would.
    ///
    /// # Errors
    /// If one of them does not end in time or reports a failure.
    pub fn stop(self) -> Result<()> {
        let stopped = self.sender.stop();
        self.receiver.stop().and(stopped)
    }
}
