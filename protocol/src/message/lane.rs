//! How a lane opens and stays open.

use serde::{Deserialize, Serialize};

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LaneKind {
    /// Everything but content; always up.
    Control,
    /// Content of urgent messages.
    Urgent,
    /// Content of all other messages.
    Bulk,
    /// Bytes that the listener forwards to and from one of its other counterparts.
    Relay,
}

impl LaneKind {
    /// Every kind.
    pub const ALL: [LaneKind; 4] = [LaneKind::Control, LaneKind::Urgent, LaneKind::Bulk, LaneKind::Relay];

    /// The protocol name that the dialer asks for.
    pub fn protocol(self) -> &'static str {
        match self {
            LaneKind::Control => "/pakt/control/1",
            LaneKind::Urgent => "/pakt/urgent/1",
            LaneKind::Bulk => "/pakt/bulk/1",
            LaneKind::Relay => "/pakt/relay/1",
        }
    }
}

impl AsRef<str> for LaneKind {
    fn as_ref(&self) -> &str {
        self.protocol()
    }
}

/// First frame of the dialer on every lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOpen {
    /// What the lane is for; must match the protocol name.
    pub kind: LaneKind,
    /// Which of the lanes of this kind; 0 for control and urgent.
    pub slot: u8,
    /// Version of the agreement that the dialer holds.
    pub agreement_version: u32,
    /// Sealed bytes of one object that the dialer reads at most.
    pub object_bytes_max: u32,
    /// Requests that the dialer serves at once on this lane.
    pub requests_max: u16,
}

/// First frame of the listener: the lane is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOpened {
    /// Version of the agreement that the listener holds.
    pub agreement_version: u32,
    /// Sealed bytes of one object that the listener reads at most.
    pub object_bytes_max: u32,
    /// Requests that the listener serves at once on this lane.
    pub requests_max: u16,
}

/// Says that this side is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat;

/// The listener asks the dialer to open lanes: only the dialer knows a way through its wall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantLanes {
    /// The kind that is wanted.
    pub kind: LaneKind,
    /// How many should be up.
    pub count: u8,
}
