//! Brings the tables of an older program up to date, all steps in one commit.

use super::tables::{META, Meta};
use super::{StoreError, WriteTx};

/// A step from one schema to the next.
pub(super) type Migration = fn(&mut WriteTx) -> Result<(), StoreError>;

/// The steps in order; the first leads from schema 1 to 2. There is one schema so far.
pub(super) const MIGRATIONS: &[Migration] = &[];

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
