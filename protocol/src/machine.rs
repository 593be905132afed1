//! The contract of every protocol machine.
//!
//! The owner calls `handle_input(input, now)` and then drains `poll_output()` until it gives `None`. A machine never
//! reads a clock, draws randomness or touches a socket or file.
//!
//! **Invariant:** what acknowledges something leaves only after the [`Output::Persist`] that it speaks of is durable:
//! the machine holds such a [`Output::Transmit`] back until its owner reports the change as durable.

use std::collections::VecDeque;

use crate::message::Message;
use crate::time::Time;

/// What a machine wants from its owner; `P` is what it wants durable, `E` what it wants done or known.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<P, E> {
    /// Send this over the control lane.
    Transmit(Message),
    /// Make this durable, then report it.
    Persist(P),
    /// Do or tell this.
    Event(E),
    /// Call again with a tick at this time, at the latest.
    Deadline(Time),
}

/// Outputs in the order in which they arose.
#[derive(Debug)]
pub struct Outputs<P, E> {
    queue: VecDeque<Output<P, E>>,
}

impl<P, E> Default for Outputs<P, E> {
    fn default() -> Self {
        Outputs { queue: VecDeque::new() }
    }
}

impl<P, E> Outputs<P, E> {
    /// The oldest output not yet taken.
    pub fn poll(&mut self) -> Option<Output<P, E>> {
        self.queue.pop_front()
    }

    /// Adds a message to send.
    pub fn transmit(&mut self, message: impl Into<Message>) {
        self.queue.push_back(Output::Transmit(message.into()));
    }

    /// Adds a change to make durable.
    pub fn persist(&mut self, change: P) {
        self.queue.push_back(Output::Persist(change));
    }

    /// Adds an event.
    pub fn event(&mut self, event: E) {
        self.queue.push_back(Output::Event(event));
    }

    /// Adds a deadline.
    pub fn deadline(&mut self, at: Time) {
        self.queue.push_back(Output::Deadline(at));
    }
}
