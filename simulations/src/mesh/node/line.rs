//! Envelopes of one counterpart that wait for a place, in the order in which they go.

use std::collections::BTreeMap;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::envelope::Priority;

/// The most urgent first, and of these the oldest.
type Place = (Priority, u64);

/// The line.
#[derive(Default)]
pub(super) struct Line {
    order: BTreeMap<Place, EnvelopeId>,
    places: BTreeMap<EnvelopeId, Place>,
}

impl Line {
    /// Lines an envelope up.
    pub(super) fn insert(&mut self, place: Place, envelope: EnvelopeId) {
        if let Some(earlier) = self.places.insert(envelope, place) {
            self.order.remove(&earlier);
        }
        self.order.insert(place, envelope);
    }

    /// Takes out whatever has this place.
    pub(super) fn remove(&mut self, place: &Place) -> Option<EnvelopeId> {
        let envelope = self.order.remove(place)?;
        self.places.remove(&envelope);
        Some(envelope)
    }

    /// Takes an envelope out, wherever it stands.
    pub(super) fn forget(&mut self, envelope: &EnvelopeId) {
        if let Some(place) = self.places.remove(envelope) {
            self.order.remove(&place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Place, &EnvelopeId)> {
        self.order.iter()
    }
}
