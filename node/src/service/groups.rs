//! The groups of this entity and who sees them.

use pakt_keys::EntityId;

use super::{Answer, Node};
use crate::api::types::*;
use crate::book::{FindError, GroupRow, Shown};

/// The word for every counterpart.
const ALL: &str = "all";

impl Node {
    /// All groups, by name.
    ///
    /// # Errors
    /// None so far; the type is that of all calls.
    pub async fn groups(&self) -> Answer<Vec<Group>> {
        Ok(self.inner.book.groups().iter().map(group).collect())
    }

    /// Adds a group that nobody sees yet.
    ///
    /// # Errors
    /// `usage` for a name that breaks the rules, `conflict` when there is one of that name.
    pub async fn group_add(&self, name: String) -> Answer<Group> {
        pakt_protocol::record::roster::check_group_name(&name)
            .map_err(|error| ServiceError::new(ErrorCode::Usage, error.to_string(), "choose another name"))?;
        Ok(group(&self.inner.book.group_add(&name).await?))
    }

    /// Shows a group to a counterpart or to all.
    ///
    /// # Errors
    /// `not_found` for an unknown group or counterpart.
    pub async fn group_show(&self, name: String, to: String) -> Answer<Group> {
        let to = self.audience(&to)?;
        let changed = self.inner.book.group_show(&name, to).await?;
        self.inner.exchange.rosters_changed().await;
        Ok(group(&changed))
    }

    /// Hides a group from a counterpart or from all.
    ///
    /// # Errors
    /// `not_found` for an unknown group or counterpart.
    pub async fn group_hide(&self, name: String, to: String) -> Answer<Group> {
        let from = self.audience(&to)?;
        let changed = self.inner.book.group_hide(&name, from).await?;
        self.inner.exchange.rosters_changed().await;
        Ok(group(&changed))
    }

    /// The counterpart that was named; none for all.
    fn audience(&self, to: &str) -> Answer<Option<EntityId>> {
        if to == ALL {
            return Ok(None);
        }
        let found = self.inner.book.find(to).map_err(|error| {
            let code = if error == FindError::Ambiguous { ErrorCode::Usage } else { ErrorCode::NotFound };
            let message = match error {
                FindError::Ambiguous => format!("{to} fits more than one counterpart"),
                _ => format!("there is no counterpart {to}"),
            };
            ServiceError::new(code, message, "name its entity id or registered number, see `pakt peers`; or `all`")
        })?;
        Ok(Some(found.counterpart().entity))
    }
}

fn group(row: &GroupRow) -> Group {
    let shown_to = match &row.shown {
        Shown::All => vec![ALL.to_owned()],
        Shown::To(entities) => entities.iter().map(ToString::to_string).collect(),
    };
    Group { name: row.name.clone(), shown_to }
}

#[cfg(test)]
mod tests {
    use pakt_protocol::record::roster::GroupId;

    use super::*;

    #[test]
    fn a_group_says_who_sees_it() {
        let check = |shown: Shown, expected: &[String]| {
            let row = GroupRow { id: GroupId([1; 16]), name: "Reception".into(), shown };
            assert_eq!(group(&row).shown_to, expected);
        };
        let entity = EntityId([7; 32]);
        check(Shown::All, &[ALL.to_owned()]);
        check(Shown::To(vec![]), &[]);
        check(Shown::To(vec![entity]), &[entity.to_string()]);
    }
}
