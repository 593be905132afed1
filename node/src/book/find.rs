//! Finding what a person has typed: an agreement, a counterpart, a group of a counterpart.
//!
//! **Invariant:** what a counterpart hides and what does not exist give one answer.

use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::roster::RosterGroup;

use super::{Agreement, Book, FindError};

/// Hexadecimal characters from which the beginning of an agreement's id is enough.
const ID_PREFIX_MIN: usize = 8;

impl Book {
    /// The agreement that `text` names: its id or the beginning of it, or the counterpart's entity id, registered number
    /// or name.
    ///
    /// # Errors
    /// [`FindError::Unknown`] or [`FindError::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<Arc<Agreement>, FindError> {
        if let Ok(id) = text.parse::<AgreementId>() {
            return self.get(&id).ok_or(FindError::Unknown);
        }
        if let Ok(entity) = text.parse::<EntityId>() {
            return self.by_entity(&entity).ok_or(FindError::Unknown);
        }
        let all = self.all();
        match self.only_entity(&all, |agreement| agreement.counterpart().number == text) {
            Err(FindError::Unknown) => {}
            found => return found,
        }
        match self.only_entity(&all, |agreement| agreement.counterpart().name == text) {
            Err(FindError::Unknown) => by_prefix(&all, text),
            found => found,
        }
    }

    /// The counterpart and group of `ENTITY/GROUP`: the longest beginning that names a counterpart, then its group.
    ///
    /// # Errors
    /// A [`FindError`].
    pub fn find_recipient(&self, text: &str) -> Result<(Arc<Agreement>, RosterGroup), FindError> {
        let mut slashes = text.rmatch_indices('/').map(|(at, _)| at).peekable();
        if slashes.peek().is_none() {
            return Err(FindError::NoGroup);
        }
        for at in slashes {
            match self.find(&text[..at]) {
                Err(FindError::Unknown) => {}
                Err(error) => return Err(error),
                Ok(agreement) => {
                    let group = shown_group(&agreement, &text[at + 1..])?;
                    return Ok((agreement, group));
                }
            }
        }
        Err(FindError::Unknown)
    }

    /// The agreement that counts with the one entity whose agreements fit.
    fn only_entity(
        &self,
        all: &[Arc<Agreement>],
        fits: impl Fn(&Agreement) -> bool,
    ) -> Result<Arc<Agreement>, FindError> {
        let mut entities =
            all.iter().filter(|agreement| fits(agreement)).map(|agreement| agreement.counterpart().entity);
        let entity = entities.next().ok_or(FindError::Unknown)?;
        if entities.any(|other| other != entity) {
            return Err(FindError::Ambiguous);
        }
        self.by_entity(&entity).ok_or(FindError::Unknown)
    }
}

fn by_prefix(all: &[Arc<Agreement>], text: &str) -> Result<Arc<Agreement>, FindError> {
    if text.len() < ID_PREFIX_MIN {
        return Err(FindError::Unknown);
    }
    let mut fitting = all.iter().filter(|agreement| agreement.id.to_string().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (None, _) => Err(FindError::Unknown),
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(FindError::Ambiguous),
    }
}

fn shown_group(agreement: &Agreement, name: &str) -> Result<RosterGroup, FindError> {
    let roster = agreement.roster.as_ref().ok_or(FindError::NoRoster)?;
    roster.groups.iter().find(|group| group.name == name).cloned().ok_or(FindError::UnknownGroup)
}
