//! Directory without publicity: what a steward answers to an agreed counterpart, and what the asker believes of it.
//!
//! **Invariant:** a page holds only listings whose entity has an agreement in force with the steward and has signed that
//! it may be listed; the asker believes none that its entity has not signed for this steward.
//! **Invariant:** an answer is worth nothing to another asker or for another question.

use std::time::Duration;

use pakt_keys::EntityId;

use crate::record::chain::CertifiedNode;
use crate::record::listing::{Listed, Listing, verify_listed};
use crate::record::page::{PAGE_LISTINGS_MAX, Page};
use crate::record::{RecordError, Signed};
use crate::time::Time;

/// Pages that an asker reads of one directory: more than 6,000 listings.
pub const PAGES_MAX: usize = 256;
/// Bytes of listings that an asker keeps of one directory: what so many of usual length need, not of the largest.
pub const DIRECTORY_BYTES_MAX: usize = 32 << 20;
/// Pages that a counterpart may ask for in a minute: a whole directory.
pub const PAGES_PER_MINUTE: u32 = 256;
/// Listings that a counterpart may hand in per day.
pub const LISTINGS_PER_DAY: u32 = 48;
/// A page that was made longer ago, or so far ahead, is refused; wide enough for wrong clocks.
pub const PAGE_AGE_MAX: Duration = Duration::from_secs(48 * 3_600);

/// One question, as the asker remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who was asked.
    pub steward: EntityId,
    /// Who asks.
    pub asker: EntityId,
    /// The number drawn for it.
    pub nonce: [u8; 32],
    /// The page begins behind this entity.
    pub after: Option<EntityId>,
}

/// Why an answer of a steward is not believed; the steward is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The steward's node did not sign it.
    #[error("the answer is not signed by the steward's node")]
    NotSigned,
    /// It answers another question, or another asker.
    #[error("the answer belongs to another question")]
    OtherQuestion,
    /// It was made days ago or days ahead.
    #[error("the answer is from another time")]
    OtherTime,
    /// Too many listings, not in order, or not behind the place that was asked for.
    #[error("the answer's listings are out of order")]
    Order,
    /// A listing is not as its entity signed it.
    #[error("a listing in the answer is not valid: {0}")]
    Listing(#[from] RecordError),
}

/// The page that answers a question: `listed` are all that may be shown, in the order of their entity ids.
pub fn page(question: &Question, listed: impl IntoIterator<Item = (EntityId, Signed<Listing>)>, now: Time) -> Page {
    let behind = listed.into_iter().filter(|(entity, _)| question.after.is_none_or(|after| after < *entity));
    let mut listings: Vec<Signed<Listing>> = behind.map(|(_, listing)| listing).take(PAGE_LISTINGS_MAX + 1).collect();
    let more = listings.len() > PAGE_LISTINGS_MAX;
    listings.truncate(PAGE_LISTINGS_MAX);
    let Question { steward, asker, nonce, after } = *question;
    Page { steward, asker, nonce, after, at: now, listings, more }
}

/// How long a listing is to be shown, as far as it says so itself; none if it was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its time is over from then on.
    pub valid_until: Time,
    /// Root generation and serial of the certificate in the card within.
    certificate: (u32, u64),
}

impl Shown {
    /// What a listing says that was verified when it was taken.
    pub fn of(listing: &Listing) -> Option<Shown> {
        let card = listing.entry.as_ref()?.card.peek().ok()?;
        let certificate = card.chain.certificate.peek().ok()?;
        let certificate = (certificate.root_generation, certificate.serial);
        Some(Shown { valid_until: listing.valid_until, certificate })
    }

    /// Whether it is to be shown at `now`, when the entity's newest certificate is that of `node`: one whose keys were
    /// replaced must be signed anew.
    pub fn holds(&self, node: &CertifiedNode, now: Time) -> bool {
        now < self.valid_until && (node.root_generation, node.serial) <= self.certificate
    }
}

/// Checks the answer to `question`, and gives the listings that hold at `now` and whether there are more pages.
///
/// # Errors
/// A [`PageError`]; then nothing of the page is believed.
pub fn check_page(
    signed: &Signed<Page>,
    question: &Question,
    steward: &CertifiedNode,
    now: Time,
) -> Result<(Vec<Listed>, bool), PageError> {
    let page = steward.open_statement(signed).map_err(|_| PageError::NotSigned)?;
    let same = page.steward == question.steward && page.asker == question.asker;
    if !same || page.nonce != question.nonce || page.after != question.after || steward.entity != page.steward {
        return Err(PageError::OtherQuestion);
    }
    if page.at.distance(now) > PAGE_AGE_MAX {
        return Err(PageError::OtherTime);
    }
    if page.listings.len() > PAGE_LISTINGS_MAX || page.more && page.listings.is_empty() {
        return Err(PageError::Order);
    }
    let mut last = question.after;
    let mut all = Vec::with_capacity(page.listings.len());
    for listing in &page.listings {
        let listed = verify_listed(listing, &question.steward)?;
        let entity = listed.card.node.entity;
        if last.is_some_and(|last| last >= entity) {
            return Err(PageError::Order);
        }
        last = Some(entity);
        all.push(listed);
    }
    Ok((all, page.more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::listing::tests::{listing, sign};
    use crate::record::tests::Party;

    fn question(steward: &Party, asker: &Party) -> Question {
        Question { steward: steward.entity(), asker: asker.entity(), nonce: [5; 32], after: None }
    }

    fn listed(steward: &Party, parties: &[&Party]) -> Vec<(EntityId, Signed<Listing>)> {
        let mut all: Vec<_> =
            parties.iter().map(|party| (party.entity(), sign(&listing(party, steward), party))).collect();
        all.sort_by_key(|(entity, _)| *entity);
        all
    }

    fn signed(page: &Page, by: &Party) -> Signed<Page> {
        Signed::create(page, |domain, bytes| by.statement.sign(domain, bytes))
    }

    #[test]
    fn a_lying_answer_is_refused_by_name() {
        let (a, b, asker, steward) = (Party::new(1), Party::new(2), Party::new(3), Party::new(4));
        let question = question(&steward, &asker);
        let node = steward.chain.verify().expect("valid");
        let good = page(&question, listed(&steward, &[&a, &b]), Time(9));
        let check =
            |page: &Page| check_page(&signed(page, &steward), &question, &node, Time(9)).map(|(all, _)| all.len());
        assert_eq!(check(&good), Ok(2));
        assert_eq!(check_page(&signed(&good, &a), &question, &node, Time(9)), Err(PageError::NotSigned));
        type Change = fn(&mut Page, &Party);
        let rows: [(PageError, Change); 8] = [
            (PageError::OtherQuestion, |p, _| p.nonce = [6; 32]),
            (PageError::OtherQuestion, |p, a| p.asker = a.entity()),
            (PageError::OtherQuestion, |p, a| p.steward = a.entity()),
            (PageError::OtherQuestion, |p, a| p.after = Some(a.entity())),
            (PageError::OtherTime, |p, _| p.at = p.at + PAGE_AGE_MAX + Duration::from_secs(1)),
            (PageError::Order, |p, _| p.listings.reverse()),
            (PageError::Order, |p, _| p.listings = vec![p.listings[0].clone(); 2]),
            (PageError::Order, |p, _| {
                p.listings.clear();
                p.more = true;
            }),
        ];
        for (error, change) in rows {
            let mut bent = good.clone();
            change(&mut bent, &a);
            assert_eq!(check(&bent), Err(error));
        }
    }

    #[test]
    fn a_steward_cannot_change_add_or_revive_a_listing() {
        let (a, asker, steward) = (Party::new(1), Party::new(3), Party::new(4));
        let question = question(&steward, &asker);
        let node = steward.chain.verify().expect("valid");
        let genuine = listing(&a, &steward);
        let mut renamed = genuine.clone();
        renamed.entry.as_mut().expect("listed").town = "Elsewhere".into();
        let body = sign(&renamed, &a).body().to_vec();
        let spliced = Signed::from_parts(body, sign(&genuine, &a).signatures().to_vec());
        let rows = [
            ("signed by the steward", sign(&renamed, &steward)),
            ("the old signature under a new text", spliced),
            ("taken back", sign(&Listing { entry: None, ..genuine.clone() }, &a)),
            ("for another steward", sign(&Listing { steward: asker.entity(), ..genuine }, &a)),
        ];
        for (what, listing) in rows {
            let page = page(&question, [(a.entity(), listing)], Time(9));
            let checked = check_page(&signed(&page, &steward), &question, &node, Time(9));
            assert!(matches!(checked, Err(PageError::Listing(_))), "{what}: {checked:?}");
        }
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let (steward, asker) = (Party::new(0), Party::new(1));
        let parties: Vec<Party> = (2..49).map(Party::new).collect();
        let all = listed(&steward, &parties.iter().collect::<Vec<_>>());
        let node = steward.chain.verify().expect("valid");
        let mut question = question(&steward, &asker);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let page = page(&question, all.clone(), Time(9));
            let signed = signed(&page, &steward);
            assert!(signed.body().len() < crate::message::CONTROL_FRAME_BYTES_MAX);
            let (listed, more) = check_page(&signed, &question, &node, Time(9)).expect("valid");
            seen.extend(listed.iter().map(|listed| listed.card.node.entity));
            if !more {
                break;
            }
            question.after = seen.last().copied();
        }
        assert_eq!(seen, all.iter().map(|(entity, _)| *entity).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_over_or_replaced_is_not_shown() {
        let (a, steward) = (Party::new(1), Party::new(4));
        let good = listing(&a, &steward);
        let shown = Shown::of(&good).expect("not taken back");
        let node = a.chain.verify().expect("valid");
        assert!(shown.holds(&node, Time(2)));
        assert!(!shown.holds(&node, good.valid_until));
        assert_eq!(Shown::of(&Listing { entry: None, ..good }), None);
        let rotated = CertifiedNode { serial: 2, ..node };
        assert!(!shown.holds(&rotated, Time(2)), "the card within is dead");
    }
}
