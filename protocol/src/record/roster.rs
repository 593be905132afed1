//! Rosters: the groups that an entity shows to one counterpart, and the epoch key that envelopes are sealed to.

use std::collections::BTreeSet;

use pakt_keys::EntityId;
use pakt_keys::sealing::EpochPublic;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, check_name};
use crate::ids::AgreementId;

/// Groups in one roster.
pub const ROSTER_GROUPS_MAX: usize = 1_000;

/// The name of a group on the wire: random, so that an envelope says nothing about what the group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub [u8; 16]);

/// A group as shown to a counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterGroup {
    /// Its name on the wire.
    pub id: GroupId,
    /// Its name for people.
    pub name: String,
}

/// What an entity shows to one counterpart; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Whose groups these are.
    pub issuer: EntityId,
    /// Who may see them.
    pub reader: EntityId,
    /// The agreement that they belong to.
    pub agreement: AgreementId,
    /// A later roster has a higher number; an older one is refused.
    pub counter: u64,
    /// The groups, ordered by name.
    pub groups: Vec<RosterGroup>,
    /// Number of the current epoch.
    pub epoch: u64,
    /// Its public key.
    pub epoch_key: EpochPublic,
}

impl Record for Roster {
    const DOMAIN: Domain = Domain::Roster;
    const BYTES_MAX: usize = 512 << 10;
}

impl Roster {
    /// Checks the fields by themselves.
    ///
    /// # Errors
    /// [`RecordError::Field`].
    pub fn check(&self) -> Result<(), RecordError> {
        if self.groups.len() > ROSTER_GROUPS_MAX || !self.groups.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return Err(RecordError::Field("a roster names at most 1,000 groups, in order, none twice"));
        }
        let ids: BTreeSet<GroupId> = self.groups.iter().map(|group| group.id).collect();
        if ids.len() < self.groups.len() {
            return Err(RecordError::Field("a roster names one group twice"));
        }
        self.groups.iter().try_for_each(|group| check_group_name(&group.name))
    }
}

/// Whether `name` can be a group's name: as an entity's, and without a slash.
///
/// # Errors
/// [`RecordError::Field`].
pub fn check_group_name(name: &str) -> Result<(), RecordError> {
    const RULE: &str = "a group name has 1 to 200 bytes, no '/', no control characters or outer blanks";
    if name.contains('/') {
        return Err(RecordError::Field(RULE));
    }
    check_name(name, RULE)
}
