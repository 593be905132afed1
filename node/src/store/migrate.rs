//! Brings the tables of an older program up to date, all steps in one commit.

use super::tables::{META, Meta};
use super::{StoreError, WriteTx};

/// A step from one schema to the next.
pub(super) type Migration = fn(&mut WriteTx) -> Result<(), StoreError>;

/// The steps in order; the first leads from schema 1 to 2.
///
/// Schema 1 was that of builds before the release of 0.1. Rows changed under it without new names, so that nobody can
/// tell what lies there: such a store is refused.
pub(super) const MIGRATIONS: &[Migration] = &[refuse];

fn refuse(_: &mut WriteTx) -> Result<(), StoreError> {
    Err(StoreError::Earlier)
}

/// Whether rows of this schema are refused.
///
/// # Errors
/// [`StoreError::Earlier`] if so.
pub(super) fn check(schema: u32) -> Result<(), StoreError> {
    if schema < 2 { Err(StoreError::Earlier) } else { Ok(()) }
}

/// Makes a store one of another schema.
#[cfg(test)]
pub(crate) fn pretend(tx: &mut WriteTx, schema: u32) -> Result<(), StoreError> {
    tx.put(&META, &(), &Meta { schema })
}

/// Runs the steps that are missing and notes the schema reached.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::WrongKey`], and what the steps return.
pub(super) fn migrate(tx: &mut WriteTx, migrations: &[Migration]) -> Result<(), StoreError> {
    let supported = u32::try_from(migrations.len()).unwrap_or(u32::MAX).saturating_add(1);
    let found = match tx.get(&META, &()) {
        Ok(Some(meta)) => meta.schema,
        Ok(None) => {
            return tx.put(&META, &(), &Meta { schema: supported });
        }
        Err(StoreError::Damaged(place)) if place == META.name() => {
            return Err(StoreError::WrongKey);
        }
        Err(error) => return Err(error),
    };
    if found > supported {
        return Err(StoreError::Newer { found, supported });
    }
    let missing = migrations.get(found.saturating_sub(1) as usize..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    for step in missing {
        step(tx)?;
    }
    tx.put(&META, &(), &Meta { schema: supported })
}
