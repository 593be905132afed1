//! Listings: an entity agrees to be named in a steward's directory, and takes that back.
//!
//! A listing carries the entity's card, so that whoever reads it checks it alone: the steward that hands it out can
//! neither change a word of it nor make one up for an entity whose keys it does not hold.
//!
//! **Invariant:** name and number are those of the card within; a listing is for one steward and ends by itself.

use std::time::Duration;

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::card::{Card, SignedCard};
use super::chain::CertifiedNode;
use super::{Record, RecordError, Signed, check_text};
use crate::time::Time;

/// Bytes of a listing, so that a page of them fits one frame: a card with the longest names, and some root links.
pub const LISTING_BYTES_MAX: usize = 24 << 10;
/// Bytes of a town, and of one line of what is offered.
pub const LISTING_TEXT_BYTES_MAX: usize = 100;
/// What one listing may offer.
pub const OFFERS_MAX: usize = 16;
/// How long a listing may last: one that was taken back is forgotten by then, whatever the steward does.
pub const LISTING_LASTS_MAX: Duration = Duration::from_secs(60 * 86_400);

/// What an entity states to one steward; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Who is listed, or no longer.
    pub entity: EntityId,
    /// Whose directory this is for.
    pub steward: EntityId,
    /// A later listing has a higher number; an older one is refused.
    pub counter: u64,
    /// When it was made.
    pub made_at: Time,
    /// It is void from then on.
    pub valid_until: Time,
    /// What is shown; none takes the listing back.
    pub entry: Option<Entry>,
}

/// What the directory shows of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, as in the card and in the agreement with the steward.
    pub name: String,
    /// Its registered number, as in the card and in the agreement with the steward.
    pub number: String,
    /// Where it is; empty if it does not say.
    pub town: String,
    /// What it offers, in its own order.
    pub offers: Vec<String>,
    /// Its card.
    pub card: SignedCard,
}

impl Record for Listing {
    const DOMAIN: Domain = Domain::Listing;
    const BYTES_MAX: usize = LISTING_BYTES_MAX;
}

/// A listing that was checked, with the card within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The number of the listing.
    pub counter: u64,
    /// It is void from then on.
    pub valid_until: Time,
    /// Bytes of its body, as it was signed.
    pub bytes: usize,
    /// What is shown.
    pub entry: Entry,
    /// The entity's card.
    pub card: Card,
}

impl Listing {
    /// Checks the fields by themselves.
    ///
    /// # Errors
    /// [`RecordError::Field`].
    pub fn check(&self) -> Result<(), RecordError> {
        if self.valid_until <= self.made_at || self.valid_until > self.made_at + LISTING_LASTS_MAX {
            return Err(RecordError::Field("a listing lasts at most 60 days"));
        }
        let Some(entry) = &self.entry else { return Ok(()) };
        const TEXT: &str = "town and offers have at most 100 bytes and no control characters or outer blanks";
        if entry.offers.len() > OFFERS_MAX || entry.offers.iter().any(String::is_empty) {
            return Err(RecordError::Field("a listing names at most 16 offers, none empty"));
        }
        entry.offers.iter().chain([&entry.town]).try_for_each(|text| {
            if text.trim() != text {
                return Err(RecordError::Field(TEXT));
            }
            check_text(text, LISTING_TEXT_BYTES_MAX, TEXT)
        })
    }
}

/// Checks a listing that its entity itself brings: the steward's side.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_from(
    signed: &Signed<Listing>,
    node: &CertifiedNode,
    (name, number): (&str, &str),
    steward: &EntityId,
) -> Result<Listing, RecordError> {
    if signed.body().len() > LISTING_BYTES_MAX {
        return Err(RecordError::Field("a listing has at most 24 KiB"));
    }
    let listing = node.open_statement(signed)?;
    listing.check()?;
    if listing.entity != node.entity || listing.steward != *steward {
        return Err(RecordError::Parties("the listing is another entity's or for another steward"));
    }
    if let Some(entry) = &listing.entry {
        if entry.name != name || entry.number != number {
            return Err(RecordError::Parties("the listing names the entity otherwise than the agreement"));
        }
        verify_entry(&listing, entry)?;
    }
    Ok(listing)
}

/// Checks a listing by the card within: the asker's side.
///
/// # Errors
/// Any [`RecordError`]; a listing that was taken back is none.
pub fn verify_listed(signed: &Signed<Listing>, steward: &EntityId) -> Result<Listed, RecordError> {
    let peeked = signed.peek()?;
    let Some(entry) = &peeked.entry else {
        return Err(RecordError::Field("the listing was taken back"));
    };
    let card = verify_entry(&peeked, entry)?;
    let listing = card.node.open_statement(signed)?;
    listing.check()?;
    if listing.steward != *steward {
        return Err(RecordError::Parties("the listing is for another steward"));
    }
    let entry = listing.entry.ok_or(RecordError::Field("the listing was taken back"))?;
    Ok(Listed { counter: listing.counter, valid_until: listing.valid_until, bytes: signed.body().len(), entry, card })
}

/// The card within, which must be that of the listed entity, named alike.
fn verify_entry(listing: &Listing, entry: &Entry) -> Result<Card, RecordError> {
    let card = Card::verify(&entry.card)?;
    if card.node.entity != listing.entity {
        return Err(RecordError::Parties("the listing carries another entity's card"));
    }
    if card.body.name != entry.name || card.body.number != entry.number {
        return Err(RecordError::Parties("the listing names the entity otherwise than its card"));
    }
    Ok(card)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::Party;

    pub(crate) fn listing(of: &Party, steward: &Party) -> Listing {
        let body = of.card_body();
        let entry = Entry {
            name: body.name.clone(),
            number: body.number.clone(),
            town: "Fjordbyen".into(),
            offers: vec!["MR".into(), "CT".into()],
            card: body.sign(&of.statement).expect("valid"),
        };
        Listing {
            entity: of.entity(),
            steward: steward.entity(),
            counter: 3,
            made_at: Time(1),
            valid_until: Time(1) + LISTING_LASTS_MAX,
            entry: Some(entry),
        }
    }

    pub(crate) fn sign(listing: &Listing, by: &Party) -> Signed<Listing> {
        Signed::create(listing, |domain, bytes| by.statement.sign(domain, bytes))
    }

    #[test]
    fn p4_nobody_is_listed_by_another_or_otherwise_than_its_card_says() {
        let (a, b, steward) = (Party::new(1), Party::new(2), Party::new(3));
        let good = listing(&a, &steward);
        let listed = verify_listed(&sign(&good, &a), &steward.entity()).expect("valid");
        assert_eq!(listed.entry.town, "Fjordbyen");
        type Change = fn(&mut Listing, &Party);
        let rows: [(&str, Change); 9] = [
            ("renamed", |l, _| l.entry.as_mut().unwrap().name.push('x')),
            ("renumbered", |l, _| l.entry.as_mut().unwrap().number.push('1')),
            ("another's card", |l, b| {
                l.entry.as_mut().unwrap().card = b.card_body().sign(&b.statement).expect("valid");
            }),
            ("another entity", |l, b| l.entity = b.entity()),
            ("another steward", |l, b| l.steward = b.entity()),
            ("too long", |l, _| l.valid_until = l.valid_until + Duration::from_secs(1)),
            ("deceptive town", |l, _| l.entry.as_mut().unwrap().town = "a\u{202e}b".into()),
            ("an empty offer", |l, _| l.entry.as_mut().unwrap().offers.push(String::new())),
            ("too many offers", |l, _| l.entry.as_mut().unwrap().offers = vec!["MR".into(); OFFERS_MAX + 1]),
        ];
        let (node, body) = (a.chain.verify().expect("valid"), a.card_body());
        let from = |signed: &Signed<Listing>| {
            verify_from(signed, &node, (&body.name, &body.number), &steward.entity()).map(drop)
        };
        assert_eq!(from(&sign(&good, &a)), Ok(()));
        for (what, change) in rows {
            let mut bent = good.clone();
            change(&mut bent, &b);
            assert!(verify_listed(&sign(&bent, &a), &steward.entity()).is_err(), "{what}");
            assert!(from(&sign(&bent, &a)).is_err(), "{what}");
        }
        for signed in [sign(&good, &b), sign(&good, &steward)] {
            assert!(matches!(verify_listed(&signed, &steward.entity()), Err(RecordError::Signature(_))));
            assert!(matches!(from(&signed), Err(RecordError::Signature(_))));
        }
        let withdrawn = sign(&Listing { entry: None, ..good }, &a);
        assert_eq!(from(&withdrawn), Ok(()));
        assert!(verify_listed(&withdrawn, &steward.entity()).is_err(), "what was taken back is not shown");
    }
}
