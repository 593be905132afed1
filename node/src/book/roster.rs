//! The roster that each counterpart gets: the groups it sees and the current epoch.
//!
//! **Invariant:** a hidden group has no trace in a roster; a roster that leaves has a number that is durable.

use pakt_keys::EntityId;
use pakt_protocol::door::next_counter;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::roster::{GroupId, Roster, RosterGroup};

use super::groups::GroupRow;
use super::rows::EpochRow;
use super::{Agreement, Book, BookError, ROWS_MAX, epochs};
use crate::ambient;
use crate::entity::Entity;
use crate::store::StoreError;
use crate::store::tables::{GROUPS, OWN_ROSTERS};

impl Book {
    /// The newest roster for the counterpart of an agreement; a new one is made where groups, epoch or key changed.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn own_roster(&self, id: &AgreementId) -> Result<Signed<Roster>, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        if let Some(known) = self.fresh_roster(&agreement) {
            return Ok(known);
        }
        let (inner, id, reader) = (self.inner.clone(), *id, agreement.counterpart().entity);
        let write = self.inner.store.write(move |tx| {
            let (number, epoch) = epochs::current(tx)?.ok_or(StoreError::Damaged("epochs"))?;
            let mut groups: Vec<GroupRow> = tx.range(&GROUPS, .., ROWS_MAX)?.into_iter().map(of_row).collect();
            groups.sort_by(|a, b| a.name.cmp(&b.name));
            let wanted = roster(&inner.entity, (reader, id), &groups, (number, &epoch));
            let known = tx.get(&OWN_ROSTERS, &id)?;
            let last = match &known {
                Some(known) if says(known, &wanted, &inner.entity) => return Ok(known.clone()),
                Some(known) => known.peek()?.counter,
                None => 0,
            };
            let wanted = Roster { counter: next_counter(last, ambient::now()), ..wanted };
            let signed =
                Signed::create(&wanted, |domain, bytes| inner.entity.current().statement().sign(domain, bytes));
            tx.put(&OWN_ROSTERS, &id, &signed)?;
            let issued = signed.clone();
            tx.on_commit({
                let inner = inner.clone();
                move || drop(inner.state_mut().own_rosters.insert(id, issued))
            });
            Ok(signed)
        });
        write.await
    }

    /// The last roster issued, if it still says what is so.
    fn fresh_roster(&self, agreement: &Agreement) -> Option<Signed<Roster>> {
        let state = self.state();
        let (number, epoch) = state.epochs.last_key_value()?;
        let to = (agreement.counterpart().entity, agreement.id);
        let wanted = roster(&self.inner.entity, to, &state.groups, (*number, &epoch.row));
        let known = state.own_rosters.get(&agreement.id)?;
        says(known, &wanted, &self.inner.entity).then(|| known.clone())
    }
}

fn of_row((id, stored): ([u8; 16], super::rows::StoredGroup)) -> GroupRow {
    GroupRow::of_row(id, stored)
}

/// Whether `signed` says the same as `wanted`, whatever its number, and is signed with the current key.
fn says(signed: &Signed<Roster>, wanted: &Roster, entity: &Entity) -> bool {
    entity.node().open_statement(signed).is_ok_and(|known| Roster { counter: wanted.counter, ..known } == *wanted)
}

fn roster(
    entity: &Entity,
    (reader, agreement): (EntityId, AgreementId),
    groups: &[GroupRow],
    (epoch, row): (u64, &EpochRow),
) -> Roster {
    let shown = groups.iter().filter(|group| group.is_shown_to(&reader));
    let groups = shown.map(|group| RosterGroup { id: GroupId(group.id.0), name: group.name.clone() }).collect();
    let epoch_key = row.public.clone();
    Roster { issuer: entity.id(), reader, agreement, counter: 0, groups, epoch, epoch_key }
}
