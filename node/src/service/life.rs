//! What becomes of agreements: amended, renewed, suspended, resumed, withdrawn, ended, confirmed, verified.
//!
//! **Invariant:** the counterpart is told of a change after it is durable here, never before.

use std::time::Duration;

use pakt_keys::words as fingerprints;
use pakt_protocol::time::Time;

use super::agreements::{check_fingerprint, draft_of, summary};
use super::{Answer, Node, words};
use crate::ambient;
use crate::api::terms::TermsInput;
use crate::api::types::*;
use crate::book::{Agreement, BookError, Standing};

/// How long the node waits for its counterpart to take an offer or an acceptance, while it is online.
const NEWS_WAIT: Duration = Duration::from_secs(5);
/// A renewal without a date is for no longer than this.
const RENEWAL_MAX: Duration = Duration::from_secs(365 * 86_400);

impl Node {
    /// Offers another version of the terms; what the given ones leave out stays as it is.
    ///
    /// # Errors
    /// `not_found`, what is wrong with the terms, `no_agreement` unless both have signed it and neither ended it.
    pub async fn amend(&self, id: String, request: AmendRequest) -> Answer<Accepted> {
        let agreement = self.agreement_named(&id)?;
        let now = ambient::now();
        let terms = TermsInput::agreed(&agreement.terms, now).changed_by(&request.terms_toml, now)?;
        self.offer(&agreement, terms, &request.signing).await
    }

    /// Offers the same terms for longer.
    ///
    /// # Errors
    /// Those of [`Node::amend`].
    pub async fn renew(&self, id: String, request: RenewRequest) -> Answer<Accepted> {
        let agreement = self.agreement_named(&id)?;
        let now = ambient::now();
        let terms = TermsInput::agreed(&agreement.terms, now);
        let terms = match &request.until {
            Some(until) => terms.until(until, now)?,
            None => TermsInput { valid_until: renewed_until(&agreement, now), ..terms },
        };
        self.offer(&agreement, terms, &request.signing).await
    }

    async fn offer(&self, agreement: &Agreement, terms: TermsInput, signing: &Signing) -> Answer<Accepted> {
        let root = self.root(signing).await?;
        let (offered, file) = self.inner.book.amend(&agreement.id, draft_of(terms), &root).await?;
        let has_it = |agreement: &Agreement| agreement.offer_known || agreement.offered.is_none();
        let delivered = self.tell(&offered, has_it).await;
        let name = &offered.counterpart().name;
        let note = match delivered {
            true => format!(
                "offered; the node of {name} has it, its operator accepts it with `pakt agreement accept {}`",
                offered.id
            ),
            false => format!(
                "offered, but the node of {name} does not have it yet: it gets it when it is online; or mail the file to its \
                 operator, who runs `pakt agreement accept FILE`"
            ),
        };
        self.accepted(&offered, file, delivered, note)
    }

    /// Countersigns the amendment that the counterpart offers.
    ///
    /// # Errors
    /// `not_found` when it offers none, `fingerprint_mismatch`, or what keeps it from being signed.
    pub async fn accept_amendment(&self, id: String, request: AcceptAmendmentRequest) -> Answer<Accepted> {
        let agreement = self.agreement_named(&id)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&request.hash, &mut hash).map_err(|_| {
            ServiceError::new(
                ErrorCode::Usage,
                "hash: 64 hexadecimal digits",
                "take it from the agreement's amendments",
            )
        })?;
        check_fingerprint(&agreement.counterpart().entity, request.fingerprint.as_deref())?;
        if request.fingerprint.is_some() {
            self.inner.book.verified(&agreement.id).await?;
        }
        self.countersign_amendment(&agreement, hash, &request.signing).await
    }

    pub(super) async fn countersign_amendment(
        &self,
        agreement: &Agreement,
        reviewed: [u8; 32],
        signing: &Signing,
    ) -> Answer<Accepted> {
        let root = self.root(signing).await?;
        let (amended, file) = self.inner.book.accept_amendment(&agreement.id, Some(reviewed), &root).await?;
        let delivered = self.tell(&amended, |agreement| agreement.version_known).await;
        let name = &amended.counterpart().name;
        let note = match delivered {
            true => format!("countersigned; the node of {name} has it, and it counts on both sides"),
            false => format!(
                "countersigned, but the node of {name} does not have it yet: it gets it when it is online; or mail the \
                 agreement to its operator, who runs `pakt agreement import FILE`"
            ),
        };
        self.accepted(&amended, file, delivered, note)
    }

    fn accepted(&self, agreement: &Agreement, file: String, delivered: bool, note: String) -> Answer<Accepted> {
        let agreement = self.inner.book.get(&agreement.id).ok_or(BookError::Unknown)?;
        Ok(Accepted { summary: summary(&agreement, ambient::now()), file, delivered, note })
    }

    /// Tells the counterpart, and waits a moment if it is online.
    async fn tell(&self, agreement: &Agreement, reached: impl Fn(&Agreement) -> bool) -> bool {
        let exchange = &self.inner.exchange;
        exchange.agreement_changed(&agreement.id).await;
        let wait = if exchange.peer(&agreement.id).online { NEWS_WAIT } else { Duration::ZERO };
        exchange.until(&agreement.id, wait, reached).await
    }

    /// Takes back an own proposal, or an own offer of an amendment.
    ///
    /// # Errors
    /// `not_found`, or `usage` when there is nothing to take back.
    pub async fn withdraw(&self, id: String, request: SignedRequest) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        match agreement.standing {
            Standing::Proposed => {
                let root = self.root(&request.signing).await?;
                self.inner.book.end(&agreement.id, &root).await?;
            }
            Standing::Active | Standing::Ended => self.inner.book.withdraw_offer(&agreement.id).await?,
        }
        self.changed(&agreement).await
    }

    /// Suspends an agreement, at once, until this side resumes it.
    ///
    /// # Errors
    /// `not_found`, `conflict` when this side has suspended it already, `no_agreement` unless both have signed it.
    pub async fn suspend(&self, id: String) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        self.inner.book.suspend(&agreement.id).await?;
        self.changed(&agreement).await
    }

    /// Takes back this side's suspension.
    ///
    /// # Errors
    /// `not_found`, `conflict` when this side has not suspended it.
    pub async fn resume(&self, id: String, request: SignedRequest) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        let root = self.root(&request.signing).await?;
        self.inner.book.resume(&agreement.id, &root).await?;
        self.changed(&agreement).await
    }

    /// Ends an agreement, at once and for good.
    ///
    /// # Errors
    /// `not_found`, `no_agreement` when it has ended already, or when the root is elsewhere.
    pub async fn end(&self, id: String, request: SignedRequest) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        let root = self.root(&request.signing).await?;
        self.inner.book.end(&agreement.id, &root).await?;
        self.changed(&agreement).await
    }

    /// Lets an agreement that came out of a backup count again.
    ///
    /// # Errors
    /// `not_found`, or `usage` when there is nothing to confirm.
    pub async fn confirm(&self, id: String) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        self.inner.book.confirm(&agreement.id).await?;
        self.changed(&agreement).await
    }

    /// Compares the counterpart's fingerprint with what the operator was told.
    ///
    /// # Errors
    /// `not_found`, `fingerprint_mismatch`.
    pub async fn verify(&self, id: String, request: VerifyRequest) -> Answer<AgreementSummary> {
        let agreement = self.agreement_named(&id)?;
        if !fingerprints::matches(&agreement.counterpart().entity, &request.fingerprint) {
            let hint =
                "read it to each other again; if it still differs, end the agreement: somebody stands between you";
            let message = "the fingerprint is not that of this agreement's counterpart";
            return Err(ServiceError::new(ErrorCode::FingerprintMismatch, message, hint));
        }
        self.inner.book.verified(&agreement.id).await?;
        let agreement = self.inner.book.get(&agreement.id).ok_or(BookError::Unknown)?;
        Ok(summary(&agreement, ambient::now()))
    }

    async fn changed(&self, agreement: &Agreement) -> Answer<AgreementSummary> {
        self.inner.exchange.agreement_changed(&agreement.id).await;
        let agreement = self.inner.book.get(&agreement.id).ok_or(BookError::Unknown)?;
        Ok(summary(&agreement, ambient::now()))
    }
}

/// As much longer as the terms count here in all, at most a year; from their end, or from now if that has passed.
fn renewed_until(agreement: &Agreement, now: Time) -> Time {
    let until = agreement.terms.valid_until;
    let from = agreement.terms.valid_from.max(agreement.version_at).min(until);
    until.max(now) + until.since(from).min(RENEWAL_MAX)
}

/// What the operator should know about the standing of an agreement with `name`; `soon` is when an end is near.
pub(super) fn life_warnings(agreement: &Agreement, now: Time, soon: Duration) -> Vec<String> {
    let name = &agreement.counterpart().name;
    let until = agreement.terms.valid_until;
    let mut warnings = Vec::new();
    if agreement.forked {
        warnings.push(format!(
            "under the agreement with {name} two different things were signed where one was allowed: call the counterpart, \
             and compare version, terms, and who has suspended or ended it"
        ));
    }
    if agreement.standing != Standing::Active {
        return warnings;
    }
    if agreement.unconfirmed {
        let id = agreement.id;
        warnings.push(format!("the agreement with {name} came out of a backup: `pakt agreement confirm {id}`"));
    } else if now >= until && now < until + soon {
        warnings.push(format!("the agreement with {name} ran out {}: `pakt agreement renew`", words::moment(until)));
    } else if now < until && until < now + soon {
        warnings.push(format!("the agreement with {name} ends {}: `pakt agreement renew`", words::moment(until)));
    }
    if let Some(offer) = agreement.received.as_ref().filter(|offer| now <= offer.terms.accept_by) {
        warnings.push(format!(
            "{name} offers an amendment, to be accepted by {}: `pakt agreement show {}`",
            words::moment(offer.terms.accept_by),
            agreement.id
        ));
    }
    warnings
}
