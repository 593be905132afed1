//! The entity's groups: who sends and receives, and which counterpart may know of them.

use pakt_keys::EntityId;
use pakt_keys::object::SealBase;
use pakt_protocol::audit::{AdministratorStep, Event};
use pakt_protocol::record::roster::{GroupId, ROSTER_GROUPS_MAX, check_group_name};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::rows::{DedupRow, StoredGroup};
use super::{Book, BookError, ROWS_MAX};
use crate::ambient;
use crate::audit;
use crate::store::tables::{DEDUP_SECRETS, GROUPS};
use crate::store::{Store, StoreError};

/// The group of a fresh entity.
const FIRST_GROUP: &str = "Reception";
/// A group's dedup secret is renewed after this time.
const DEDUP_RENEWED_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// Which counterparts see a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// Every counterpart.
    All,
    /// These.
    To(Vec<EntityId>),
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Its name on the wire.
    pub id: GroupId,
    /// Its name for people.
    pub name: String,
    /// Who sees it.
    pub shown: Shown,
}

impl GroupRow {
    pub(super) fn of_row(id: [u8; 16], stored: StoredGroup) -> GroupRow {
        GroupRow { id: GroupId(id), name: stored.name, shown: stored.shown }
    }

    /// Whether `entity` sees it.
    pub fn is_shown_to(&self, entity: &EntityId) -> bool {
        match &self.shown {
            Shown::All => true,
            Shown::To(entities) => entities.contains(entity),
        }
    }
}

/// Makes the group of a fresh store.
pub(super) fn make_first(store: &Store) -> Result<(), BookError> {
    if !store.read(|tx| tx.range(&GROUPS, .., 1))?.is_empty() {
        return Ok(());
    }
    let id = ambient::random();
    let group = StoredGroup { name: FIRST_GROUP.into(), shown: Shown::All };
    store.write_blocking(move |tx| tx.put(&GROUPS, &id, &group))?;
    Ok(())
}

impl Book {
    /// All groups, ordered by name.
    pub fn groups(&self) -> Vec<GroupRow> {
        self.state().groups.clone()
    }

    /// The group with this id.
    pub fn group_by_id(&self, id: &GroupId) -> Option<GroupRow> {
        self.state().groups.iter().find(|group| group.id == *id).cloned()
    }

    /// The group with exactly this name.
    pub fn group_by_name(&self, name: &str) -> Option<GroupRow> {
        self.state().groups.iter().find(|group| group.name == name).cloned()
    }

    /// Whether there is this group and the counterpart sees it; one answer for hidden and unknown groups.
    pub fn shown_to(&self, id: &GroupId, entity: &EntityId) -> bool {
        self.state().groups.iter().any(|group| group.id == *id && group.is_shown_to(entity))
    }

    /// Adds a group that nobody else sees yet.
    ///
    /// # Errors
    /// [`BookError::Record`] for a name that breaks the rules, [`BookError::GroupExists`] also where only the case
    /// differs, [`BookError::TooManyGroups`], or when the store fails.
    pub async fn group_add(&self, name: &str) -> Result<GroupRow, BookError> {
        check_group_name(name)?;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let write = self.inner.store.write(move |tx| {
            let groups = tx.range(&GROUPS, .., ROWS_MAX)?;
            if groups.iter().any(|(_, group)| group.name.to_lowercase() == name.to_lowercase()) {
                return Err(BookError::GroupExists);
            }
            if groups.len() >= ROSTER_GROUPS_MAX {
                return Err(BookError::TooManyGroups);
            }
            let id = ambient::random();
            let stored = StoredGroup { name, shown: Shown::To(vec![]) };
            tx.put(&GROUPS, &id, &stored)?;
            audit::append(tx, Event::Administrator(AdministratorStep::GroupAdded(GroupId(id))))?;
            let group = GroupRow::of_row(id, stored);
            let added = group.clone();
            inner.on_commit(tx, move |state| {
                let place = state.groups.partition_point(|other| other.name < added.name);
                state.groups.insert(place, added);
            });
            Ok(group)
        });
        write.await
    }

    /// Shows a group to one counterpart, or to all.
    ///
    /// # Errors
    /// [`BookError::NoSuchGroup`], or when the store fails.
    pub async fn group_show(&self, name: &str, to: Option<EntityId>) -> Result<GroupRow, BookError> {
        let step = move |id| AdministratorStep::GroupShown(id, to);
        self.change_group(name, step, move |shown| match (to, shown) {
            (None, shown) => *shown = Shown::All,
            (Some(_), Shown::All) => {}
            (Some(entity), Shown::To(entities)) => {
                if let Err(place) = entities.binary_search(&entity) {
                    entities.insert(place, entity);
                }
            }
        })
        .await
    }

    /// Hides a group from one counterpart, or from all.
    ///
    /// A group that all saw is then shown to the other counterparts of today, not to later ones.
    ///
    /// # Errors
    /// [`BookError::NoSuchGroup`], or when the store fails.
    pub async fn group_hide(&self, name: &str, from: Option<EntityId>) -> Result<GroupRow, BookError> {
        let mut known: Vec<EntityId> = self.all().iter().map(|agreement| agreement.counterpart().entity).collect();
        known.sort_unstable();
        known.dedup();
        let step = move |id| AdministratorStep::GroupHidden(id, from);
        self.change_group(name, step, move |shown| {
            let left = match (from, &*shown) {
                (None, _) => vec![],
                (Some(entity), Shown::All) => known.into_iter().filter(|other| *other != entity).collect(),
                (Some(entity), Shown::To(seen)) => seen.iter().copied().filter(|other| *other != entity).collect(),
            };
            *shown = Shown::To(left);
        })
        .await
    }

    async fn change_group(
        &self,
        name: &str,
        step: impl FnOnce(GroupId) -> AdministratorStep + Send + 'static,
        change: impl FnOnce(&mut Shown) + Send + 'static,
    ) -> Result<GroupRow, BookError> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let write = self.inner.store.write(move |tx| {
            let groups = tx.range(&GROUPS, .., ROWS_MAX)?;
            let (id, mut stored) =
                groups.into_iter().find(|(_, group)| group.name == name).ok_or(BookError::NoSuchGroup)?;
            change(&mut stored.shown);
            tx.put(&GROUPS, &id, &stored)?;
            audit::append(tx, Event::Administrator(step(GroupId(id))))?;
            let group = GroupRow::of_row(id, stored);
            let changed = group.clone();
            inner.on_commit(tx, move |state| {
                if let Some(group) = state.groups.iter_mut().find(|group| group.id == changed.id) {
                    *group = changed;
                }
            });
            Ok(group)
        });
        write.await
    }

    /// The secret that a group's object keys are derived from; a new one every 30 days.
    ///
    /// # Errors
    /// [`BookError::NoSuchGroup`], or when the store fails.
    pub async fn dedup_secret(&self, group: &GroupId, now: Time) -> Result<SealBase, BookError> {
        self.group_by_id(group).ok_or(BookError::NoSuchGroup)?;
        let is_fresh = move |row: &DedupRow| now.distance(row.made_at) < DEDUP_RENEWED_AFTER;
        let key = group.0;
        let known = self.inner.store.read(|tx| tx.get(&DEDUP_SECRETS, &key))?;
        if let Some(row) = known.filter(is_fresh) {
            return Ok(row.secret);
        }
        let write = self.inner.store.write(move |tx| {
            if let Some(row) = tx.get(&DEDUP_SECRETS, &key)?.filter(is_fresh) {
                return Ok(row.secret);
            }
            let row = DedupRow { secret: SealBase::generate(&mut ambient::rng()), made_at: now };
            tx.put(&DEDUP_SECRETS, &key, &row)?;
            Ok::<_, StoreError>(row.secret)
        });
        Ok(write.await?)
    }

    /// The dedup secrets that are still in use.
    ///
    /// # Errors
    /// When the store fails.
    pub fn live_dedup_secrets(&self, now: Time) -> Result<Vec<SealBase>, StoreError> {
        let rows = self.inner.store.read(|tx| tx.range(&DEDUP_SECRETS, .., usize::MAX))?;
        let live =
            |(_, row): ([u8; 16], DedupRow)| (now.distance(row.made_at) < DEDUP_RENEWED_AFTER).then_some(row.secret);
        Ok(rows.into_iter().filter_map(live).collect())
    }
}
