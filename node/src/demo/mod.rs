//! The demo: two entities, one agreement, one study, on one machine.

pub mod phantom;
