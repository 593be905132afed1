//! What this implementation says to the vectors of listings, pages, introductions, attestations, log heads, restore notices
//! and deposits.

use pakt_keys::codec;
use pakt_keys::sealing::Wrapped;
use pakt_protocol::audit::head::{self, LogHead};
use pakt_protocol::deposit;
use pakt_protocol::directory::{PageError, Question, check_page};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::introduction::{Letter, LetterError};
use pakt_protocol::record::address_update::AddressUpdate;
use pakt_protocol::record::{Record, Signed, attestation, decline, listing, restored};
use pakt_protocol::time::Time;

use crate::check::{node_of, of_codec, of_record};
use crate::parties::{NOW, secret};
use crate::story::{Story, id};

type Outcome = Result<(), String>;

pub(crate) fn outcome(story: &Story, kind: &str, bytes: &[u8]) -> Outcome {
    let Story { a, b, c } = story;
    let agreement = AgreementId(story.agreement_id());
    let (a_id, b_node) = (a.entity(), node_of(b));
    match kind {
        "listing" => listing::verify_listed(&signed(bytes)?, &c.entity()).map(drop).map_err(|error| of_record(&error)),
        "page" => page(story, bytes),
        "letter" => letter(story, bytes),
        "decline" => {
            decline::verify(&signed(bytes)?, &agreement, &a_id, &b_node).map(drop).map_err(|error| of_record(&error))
        }
        "attestation" => attestation::verify(&signed(bytes)?, &agreement, &b_node, &a_id)
            .map(drop)
            .map_err(|error| of_record(&error)),
        "head" => {
            let shown: Signed<LogHead> = signed(bytes)?;
            head::verify(&shown).map(drop).map_err(|error| of_record(&error))
        }
        "notice" => {
            restored::verify(&signed(bytes)?, &agreement, &b_node, &a_id).map(drop).map_err(|error| of_record(&error))
        }
        "deposit" => {
            let update = deposit::open(&story.door(), &c.entity(), bytes).ok_or("Sealed")?;
            let read = AddressUpdate::verify(&update, &agreement, &b_node, &a_id);
            read.map(drop).map_err(|error| of_record(&error))
        }
        unknown => Err(format!("no such kind of vector: {unknown}")),
    }
}

pub(crate) fn signed<T: Record>(bytes: &[u8]) -> Result<Signed<T>, String> {
    codec::decode(1, bytes, 1 << 20).map_err(of_codec)
}

/// Against the question of A to C.
fn page(story: &Story, bytes: &[u8]) -> Outcome {
    let (steward, asker) = (story.c.entity(), story.a.entity());
    let question = Question { steward, asker, nonce: secret("page nonce"), after: None };
    let checked = check_page(&signed(bytes)?, &question, &node_of(&story.c), Time(NOW));
    checked.map(drop).map_err(|error| match error {
        PageError::NotSigned => "Page.NotSigned".to_owned(),
        PageError::OtherQuestion => "Page.OtherQuestion".to_owned(),
        PageError::OtherTime => "Page.OtherTime".to_owned(),
        PageError::Order => "Page.Order".to_owned(),
        PageError::Listing(error) => of_record(&error),
    })
}

/// A letter from A to B under the id of the story.
fn letter(story: &Story, bytes: &[u8]) -> Outcome {
    let wrapped: Wrapped = codec::decode(1, bytes, 1 << 20).map_err(of_codec)?;
    let to = (&story.b.entity(), &story.b.contact);
    Letter::open(&wrapped, &id("letter"), &story.a.entity(), to).map(drop).map_err(|error| match error {
        LetterError::Sealed => "Sealed".to_owned(),
        LetterError::Malformed | LetterError::TooLong => "Letter".to_owned(),
    })
}
