//! The directories of stewards: being listed there, and asking who is.
//!
//! **Invariant:** what is looked for stays here: a steward is asked for its whole directory, never for a name.

use std::time::Duration;

use pakt_keys::{EntityId, words};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::directory::{DIRECTORY_BYTES_MAX, PAGES_MAX};
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
/// So much of an entity's id names it in a search; all begin with the same four letters.
const ENTITY_DIGITS_MIN: usize = 8;

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

    /// Who is listed at a steward, by name; at all stewards that list this entity without one. Where several are asked, one
    /// that gives no answer, or none to be believed, is named and the others are shown.
    ///
    /// # Errors
    /// `usage` when no steward is known, `not_found`, `no_agreement`; and when nobody has answered: `refused` where there is
    /// no directory, `timed_out` or `not_running` when it cannot be asked, `damaged` when its answer is not to be believed.
    pub async fn directory_list(&self, with: Option<String>, search: Option<String>) -> Answer<DirectoryAnswer> {
        let stewards = match with {
            Some(with) => vec![self.counterpart_in_force(&with)?],
            None => self.known_stewards()?,
        };
        let search = search.unwrap_or_default().to_lowercase();
        let mut answers = Vec::with_capacity(stewards.len());
        for steward in &stewards {
            // Whoever does not fit is forgotten before the next one is asked.
            let shown = self.read_directory(steward).await.map(|read| {
                let shown = read.listed.iter().map(|listed| self.listed(steward, listed));
                (shown.filter(|one| fits(one, &search)).collect(), read.is_cut)
            });
            answers.push((steward.counterpart().entity, steward.counterpart().name.clone(), shown));
        }
        together(answers)
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
    pub(super) async fn read_directory(&self, steward: &Agreement) -> Answer<Read> {
        let mut read = Read::nothing();
        loop {
            let asked = self.inner.exchange.ask_directory(&steward.id, read.after()).await;
            let (page, more) = asked.map_err(|error| ask_error(steward, &error))?;
            if !read.take(page, more) {
                break;
            }
        }
        let now = ambient::now();
        read.listed.retain(|listed| now < listed.valid_until);
        Ok(read)
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

/// What was read of a directory.
pub(super) struct Read {
    pub(super) listed: Vec<Listed>,
    pages: usize,
    bytes: usize,
    /// Whether there is more than is read of any directory.
    is_cut: bool,
}

impl Read {
    fn nothing() -> Read {
        Read { listed: vec![], pages: 0, bytes: 0, is_cut: false }
    }

    /// The next page begins behind this entity.
    fn after(&self) -> Option<EntityId> {
        self.listed.last().map(|listed| listed.card.node.entity)
    }

    /// Keeps a page, if there is room for it; whether the next one is to be asked for.
    fn take(&mut self, page: Vec<Listed>, more: bool) -> bool {
        self.pages += 1;
        self.bytes += page.iter().map(|listed| listed.bytes).sum::<usize>();
        let fits = self.bytes <= DIRECTORY_BYTES_MAX;
        if fits {
            self.listed.extend(page);
        }
        self.is_cut = !fits || (more && self.pages >= PAGES_MAX);
        more && !self.is_cut
    }
}

/// One steward, its name, and whom it shows: whether that is only a part.
type StewardAnswer = (EntityId, String, Answer<(Vec<ListedEntity>, bool)>);

/// What the stewards have answered, in one list.
fn together(answers: Vec<StewardAnswer>) -> Answer<DirectoryAnswer> {
    let (mut listed, mut unread, mut is_answered) = (Vec::new(), Vec::new(), false);
    let mut first_error = None;
    for (steward, steward_name, answer) in answers {
        let (message, hint) = match answer {
            Ok((shown, is_cut)) => {
                is_answered = true;
                listed.extend(shown);
                if !is_cut {
                    continue;
                }
                let message = format!("{steward_name}: its directory is longer than is read of any");
                (message, "a part is shown; ask its operator for the cards of others".to_owned())
            }
            Err(error) => {
                let said = (error.message.clone(), error.hint.clone());
                first_error.get_or_insert(error);
                said
            }
        };
        unread.push(UnreadDirectory { steward: steward.to_string(), steward_name, message, hint });
    }
    if let Some(error) = first_error.filter(|_| !is_answered) {
        return Err(error);
    }
    listed.sort_by(|a: &ListedEntity, b| (&a.name, &a.entity).cmp(&(&b.name, &b.entity)));
    Ok(DirectoryAnswer { listed, unread })
}

/// Whether what is said of it contains the words, or its id begins with them: an id contains most short words by chance.
fn fits(one: &ListedEntity, search: &str) -> bool {
    let texts = one.offers.iter().chain([&one.name, &one.number, &one.town]);
    let names_it = search.len() >= ENTITY_DIGITS_MIN && one.entity.starts_with(search);
    search.is_empty() || names_it || texts.into_iter().any(|text| text.to_lowercase().contains(search))
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

#[cfg(test)]
mod tests {
    use pakt_keys::sealing::ContactKey;
    use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
    use pakt_protocol::record::card::{Card, CardBody};
    use pakt_protocol::record::chain::CertificateChain;
    use pakt_protocol::record::listing::Entry;
    use pakt_protocol::record::page::PAGE_LISTINGS_MAX;
    use pakt_protocol::time::Time;

    use super::*;

    fn one(bytes: usize) -> Listed {
        let mut rng = ambient::rng();
        let (root, statement) = (RootKey::generate(&mut rng), StatementKey::generate(&mut rng));
        let transport = TransportKey::generate(&mut rng).public();
        let keys = (transport, statement.public(), ContactKey::generate(&mut rng).public());
        let chain = CertificateChain::create(&root, &RootKey::generate(&mut rng).public(), keys, Time(1));
        let (name, number) = ("Praxis".to_owned(), "NO:ORGNR:1".to_owned());
        let body =
            CardBody { name: name.clone(), number: number.clone(), chain, addresses: vec![], issued_at: Time(1) };
        let card = body.sign(&statement).unwrap();
        let entry = Entry { name, number, town: String::new(), offers: vec![], card: card.clone() };
        Listed { counter: 1, valid_until: Time(9), bytes, entry, card: Card::verify(&card).unwrap() }
    }

    #[test]
    fn what_is_kept_of_a_directory_without_end_is_bounded() {
        let read = |one: Listed, pages: usize| {
            let mut read = Read::nothing();
            while read.take(vec![one.clone(); PAGE_LISTINGS_MAX], read.pages + 1 < pages) {}
            read
        };
        let endless = read(one(24 << 10), usize::MAX);
        let kept: usize = endless.listed.iter().map(|listed| listed.bytes).sum();
        assert!(endless.is_cut && kept <= DIRECTORY_BYTES_MAX && kept > DIRECTORY_BYTES_MAX / 2, "{kept}");
        assert!(endless.pages < PAGES_MAX);
        // Listings of usual length: all of them.
        let usual = read(one(4 << 10), PAGES_MAX);
        assert_eq!((usual.listed.len(), usual.is_cut), (PAGE_LISTINGS_MAX * PAGES_MAX, false));
        assert!(read(one(1), PAGES_MAX + 1).is_cut);
    }

    #[test]
    fn a_bad_steward_is_named_and_the_others_are_shown() {
        let steward = |seed: u8, answer| (EntityId([seed; 32]), format!("Steward {seed}"), answer);
        let bad = || Err(ServiceError::new(ErrorCode::Damaged, "Steward 2: not valid", "call its operator"));
        let answer = together(vec![steward(1, Ok((vec![], false))), steward(2, bad()), steward(3, Ok((vec![], true)))]);
        let unread = answer.unwrap().unread;
        let said: Vec<_> = unread.iter().map(|one| (one.steward_name.as_str(), one.message.as_str())).collect();
        let cut = "Steward 3: its directory is longer than is read of any";
        assert_eq!(said, [("Steward 2", "Steward 2: not valid"), ("Steward 3", cut)]);
        let nobody = together(vec![steward(2, bad()), steward(4, bad())]).unwrap_err();
        assert_eq!(nobody.code, ErrorCode::Damaged, "where nobody answers, that is the answer");
        assert!(together(vec![]).unwrap().unread.is_empty());
    }
}
