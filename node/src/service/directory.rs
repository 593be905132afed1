//! The directories of stewards: being listed there, and asking who is.
//!
//! **Invariant:** what is looked for stays here: a steward is asked for its whole directory, never for a name.

use std::time::Duration;

use pakt_keys::words;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::directory::PAGES_MAX;
use pakt_protocol::record::card::card_bytes;
use pakt_protocol::record::listing::Listed;

use super::agreements::state_of;
use super::{Answer, Node};
use crate::ambient;
use crate::api::types::*;
use crate::book::Agreement;
use crate::directory::{self, Wanted};
use crate::exchange::AskError;

/// How long `publish` waits for the steward's answer.
const PUBLISH_WAIT: Duration = Duration::from_secs(10);

impl Node {
    /// Has this entity listed at a steward, or no longer, and waits a little for its answer.
    ///
    /// # Errors
    /// `not_found` or `no_agreement` for the steward, `usage` for what cannot be listed.
    pub async fn directory_publish(&self, request: PublishRequest) -> Answer<OwnListing> {
        let steward = self.counterpart_in_force(&request.with)?;
        let wanted = (!request.withdraw).then_some(Wanted { town: request.town, offers: request.offers });
        self.inner.directory.publish(&steward, wanted).await.map_err(|error| match error {
            crate::book::BookError::Record(error) => {
                ServiceError::new(ErrorCode::Usage, error.to_string(), "shorten or correct it")
            }
            error => error.into(),
        })?;
        self.inner.exchange.listing_changed(&steward.id).await;
        let mut changes = self.changes();
        let answered = async {
            loop {
                let own = self.inner.directory.own(&steward.id)?;
                if own.is_none_or(|own| own.state != directory::ListingState::Waiting) {
                    return Ok::<_, ServiceError>(());
                }
                let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
            }
        };
        if let Ok(failed) = tokio::time::timeout(PUBLISH_WAIT, answered).await {
            failed?;
        }
        self.own_listing(&steward)
    }

    fn own_listing(&self, steward: &Agreement) -> Answer<OwnListing> {
        let row = self.inner.directory.own(&steward.id)?.ok_or(crate::book::BookError::Unknown)?;
        let listed = row.wanted.is_some();
        let (state, note) = match (row.state, listed) {
            (directory::ListingState::Waiting, _) => {
                (ListingState::Waiting, "the steward is told as soon as it is online")
            }
            (directory::ListingState::Taken, true) => (ListingState::Taken, "its participants can see it now"),
            (directory::ListingState::Taken, false) => (ListingState::Taken, "nobody is shown it any more"),
            (directory::ListingState::Refused, _) => {
                (ListingState::Refused, "that entity keeps no directory, or does not take this listing")
            }
        };
        let Wanted { town, offers } = row.wanted.unwrap_or(Wanted { town: String::new(), offers: vec![] });
        let other = steward.counterpart();
        let (steward, steward_name, note) = (other.entity.to_string(), other.name.clone(), note.to_owned());
        Ok(OwnListing { steward, steward_name, listed, town, offers, state, note })
    }

    /// Who is listed at a steward, by name; at all stewards that list this entity without one.
    ///
    /// # Errors
    /// `usage` when no steward is known, `not_found`, `no_agreement`, `refused` where there is no directory, `timed_out`
    /// or `not_running` when it cannot be asked, `damaged` when its answer is not to be believed.
    pub async fn directory_list(&self, with: Option<String>, search: Option<String>) -> Answer<Vec<ListedEntity>> {
        let stewards = match with {
            Some(with) => vec![self.counterpart_in_force(&with)?],
            None => self.known_stewards()?,
        };
        let search = search.unwrap_or_default().to_lowercase();
        let mut all = Vec::new();
        for steward in &stewards {
            let listed = self.read_directory(steward).await?;
            all.extend(listed.iter().map(|listed| self.listed(steward, listed)).filter(|one| fits(one, &search)));
        }
        all.sort_by(|a: &ListedEntity, b| (&a.name, &a.entity).cmp(&(&b.name, &b.entity)));
        Ok(all)
    }

    fn known_stewards(&self) -> Answer<Vec<std::sync::Arc<Agreement>>> {
        let now = ambient::now();
        let known = self.inner.directory.stewards()?;
        let all: Vec<_> =
            known.iter().filter_map(|id| self.inner.book.get(id)).filter(|one| one.in_force(now)).collect();
        if all.is_empty() {
            let message = "this entity is listed at no steward";
            return Err(ServiceError::new(ErrorCode::Usage, message, "name the steward: --with ENTITY"));
        }
        Ok(all)
    }

    /// The whole directory of a steward, every listing checked.
    pub(super) async fn read_directory(&self, steward: &Agreement) -> Answer<Vec<Listed>> {
        let (mut all, mut after) = (Vec::<Listed>::new(), None);
        for _ in 0..PAGES_MAX {
            let asked = self.inner.exchange.ask_directory(&steward.id, after).await;
            let (listed, more) = asked.map_err(|error| ask_error(steward, &error))?;
            all.extend(listed);
            after = all.last().map(|listed| listed.card.node.entity);
            if !more {
                break;
            }
        }
        let now = ambient::now();
        all.retain(|listed| now < listed.valid_until);
        Ok(all)
    }

    fn listed(&self, steward: &Agreement, listed: &Listed) -> ListedEntity {
        let entity = listed.card.node.entity;
        let agreement = self.inner.book.by_entity(&entity);
        ListedEntity {
            steward: steward.counterpart().entity.to_string(),
            entity: entity.to_string(),
            name: listed.entry.name.clone(),
            number: listed.entry.number.clone(),
            town: listed.entry.town.clone(),
            offers: listed.entry.offers.clone(),
            fingerprint: words::fingerprint(&entity),
            valid_until: time_text(listed.valid_until),
            agreement: agreement.map(|agreement| state_of(&agreement, ambient::now())),
            own: entity == self.inner.entity.id(),
            card: armour::encode(Label::Card, &card_bytes(&listed.entry.card)),
        }
    }

    /// The agreement in force with a counterpart as typed.
    pub(super) fn counterpart_in_force(&self, typed: &str) -> Answer<std::sync::Arc<Agreement>> {
        let found =
            self.inner.book.find(typed).map_err(|error| {
                ServiceError::new(ErrorCode::NotFound, error.to_string(), "see `pakt agreement list`")
            })?;
        if !found.in_force(ambient::now()) {
            let message = "the agreement with this counterpart is not in force";
            return Err(ServiceError::new(ErrorCode::NoAgreement, message, "see `pakt agreement list`"));
        }
        Ok(found)
    }
}

fn fits(one: &ListedEntity, search: &str) -> bool {
    let texts = one.offers.iter().chain([&one.name, &one.number, &one.town, &one.entity]);
    search.is_empty() || texts.into_iter().any(|text| text.to_lowercase().contains(search))
}

fn ask_error(steward: &Agreement, error: &AskError) -> ServiceError {
    let (code, hint) = match error {
        AskError::Offline => (ErrorCode::NotRunning, "see `pakt peers` for why"),
        AskError::Silent => (ErrorCode::TimedOut, "try again"),
        AskError::Closed => (ErrorCode::Refused, "ask its operator who the steward is"),
        AskError::Later => (ErrorCode::Busy, "try again in a minute"),
        AskError::Lie(_) => (ErrorCode::Damaged, "call its operator: this is not what its participants have signed"),
    };
    ServiceError::new(code, format!("{}: {error}", steward.counterpart().name), hint)
}
