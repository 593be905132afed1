//! One-sided statements about an agreement: numbered and hash-chained per party.
//!
//! ```text
//! open --suspend (statement key)--> suspended --resume (root)--> open
//!   \---- end (root) ----> ended <---- end (root) ----/
//! ```
//! An end of a proposal withdraws it. A withdrawal takes back an amendment that the counterpart has not countersigned.
//!
//! **Invariants:** a party's statements are taken in order and none is left out; only the root lets more happen than
//! before (resume) or for good (end), the statement key only less; only the party that suspended resumes.

use pakt_keys::EntityId;
use pakt_keys::signing::{Domain, RootPublic};
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, Signed};
use crate::ids::AgreementId;
use crate::record::chain::CertifiedNode;
use crate::time::Time;

/// Statements of one party about one agreement, at most; the last place is kept for an end.
pub const STATEMENTS_MAX: usize = 256;

/// What a party states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The agreement, or the party's own proposal, is over; signed by the root.
    End,
    /// No traffic until this party resumes; signed by the statement key.
    Suspend,
    /// Takes back the party's own suspension; signed by the root.
    Resume,
    /// Takes back the party's offer of an amendment; signed by the statement key.
    Withdraw {
        /// The hash of the offered terms.
        terms: [u8; 32],
    },
}

impl Action {
    /// Whether the root must sign it; the statement key signs the others.
    pub fn needs_root(self) -> bool {
        matches!(self, Action::End | Action::Resume)
    }
}

/// A statement of one party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementStatement {
    /// The agreement that it is about.
    pub agreement: AgreementId,
    /// Who states it.
    pub party: EntityId,
    /// 1 for the party's first statement about this agreement.
    pub number: u64,
    /// Hash of the party's statement before; none for the first.
    pub previous: Option<[u8; 32]>,
    /// What is stated.
    pub action: Action,
    /// When it was made, for people.
    pub at: Time,
}

impl Record for AgreementStatement {
    const DOMAIN: Domain = Domain::AgreementStatement;
    const BYTES_MAX: usize = 512;
}

/// The hash that the next statement of the same party names; it does not cover signatures.
pub fn statement_hash(signed: &Signed<AgreementStatement>) -> [u8; 32] {
    blake3::derive_key("pakt agreement statement v1", signed.body())
}

/// Checks who signed a statement about `agreement`; whether it continues the party's others is for [`StatementChain`].
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(
    signed: &Signed<AgreementStatement>,
    agreement: &AgreementId,
    node: &CertifiedNode,
) -> Result<AgreementStatement, RecordError> {
    let statement = match signed.peek()?.action.needs_root() {
        // Over a lane that today's keys have proven, also one that an earlier root has signed counts.
        true => signed.verify(|domain, bytes, signatures| {
            let by = |root: &RootPublic| root.verify(domain, bytes, signatures);
            by(&node.root).or_else(|wrong| node.former_roots.iter().find_map(|root| by(root).ok()).ok_or(wrong))
        })?,
        false => node.open_statement(signed)?,
    };
    if statement.agreement != *agreement || statement.party != node.entity {
        return Err(RecordError::Parties("the statement is about another agreement or by another party"));
    }
    if statement.number == 0 || (statement.number == 1) != statement.previous.is_none() {
        return Err(RecordError::Field("a party's first statement has no previous one, every later one names it"));
    }
    Ok(statement)
}

/// What a party's statements come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// Nothing against traffic.
    Open,
    /// No traffic, since then.
    Suspended(Time),
    /// Over, since then.
    Ended(Time),
}

/// What became of a statement that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the next one, and now the newest.
    New(Action),
    /// It was known.
    Known(u64),
    /// Others before it are missing: all after this number are needed.
    Gap(u64),
    /// The party has stated something else under this number or under one before.
    Fork(u64),
}

/// All statements of one party about one agreement, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementChain {
    statements: Vec<Signed<AgreementStatement>>,
}

impl StatementChain {
    /// The number of the newest one; 0 without any.
    pub fn number(&self) -> u64 {
        self.statements.len() as u64
    }

    /// The newest one.
    pub fn newest(&self) -> Option<&Signed<AgreementStatement>> {
        self.statements.last()
    }

    /// All with a higher number, in order.
    pub fn after(&self, number: u64) -> &[Signed<AgreementStatement>] {
        let known = usize::try_from(number).unwrap_or(usize::MAX).min(self.statements.len());
        &self.statements[known..]
    }

    /// What they come to.
    pub fn stated(&self) -> Stated {
        let mut stated = Stated::Open;
        for statement in self.statements.iter().filter_map(|signed| signed.peek().ok()) {
            match statement.action {
                Action::End => return Stated::Ended(statement.at),
                Action::Suspend => stated = Stated::Suspended(statement.at),
                Action::Resume => stated = Stated::Open,
                Action::Withdraw { .. } => {}
            }
        }
        stated
    }

    /// Whether the party has taken back its offer of these terms.
    pub fn has_withdrawn(&self, hash: &[u8; 32]) -> bool {
        let is_it = |action: Action| matches!(action, Action::Withdraw { terms } if terms == *hash);
        self.statements.iter().filter_map(|signed| signed.peek().ok()).any(|statement| is_it(statement.action))
    }

    /// The party's next statement, to be signed.
    ///
    /// # Errors
    /// [`RecordError::Field`] when the party cannot state this now.
    pub fn next(
        &self,
        agreement: AgreementId,
        party: EntityId,
        action: Action,
        at: Time,
    ) -> Result<AgreementStatement, RecordError> {
        self.check(action)?;
        let previous = self.newest().map(statement_hash);
        Ok(AgreementStatement { agreement, party, number: self.number() + 1, previous, action, at })
    }

    /// Takes a statement that `node`'s entity has signed, if it is the next one.
    ///
    /// # Errors
    /// A [`RecordError`]: not signed by whom it must be, or not possible after the others.
    pub fn take(
        &mut self,
        signed: &Signed<AgreementStatement>,
        agreement: &AgreementId,
        node: &CertifiedNode,
    ) -> Result<Taken, RecordError> {
        if let Some(known) = self.statements.iter().position(|known| known.body() == signed.body()) {
            return Ok(Taken::Known(known as u64 + 1));
        }
        let statement = verify(signed, agreement, node)?;
        if statement.number > self.number() + 1 {
            return Ok(Taken::Gap(self.number()));
        }
        if statement.number <= self.number() || statement.previous != self.newest().map(statement_hash) {
            return Ok(Taken::Fork(statement.number));
        }
        self.check(statement.action)?;
        self.statements.push(signed.clone());
        Ok(Taken::New(statement.action))
    }

    /// Whether a statement follows those before its number that are here.
    ///
    /// # Errors
    /// A [`RecordError`] if it cannot be read.
    pub fn parts_at(&self, signed: &Signed<AgreementStatement>) -> Result<bool, RecordError> {
        let statement = signed.peek()?;
        let before = statement.number.checked_sub(1).filter(|before| *before <= self.number());
        let last = |before: u64| before.checked_sub(1).and_then(|at| self.statements.get(at as usize));
        Ok(before.is_some_and(|before| statement.previous == last(before).map(statement_hash)))
    }

    /// Puts a statement that parts from these ([`StatementChain::parts_at`]), and was found to be the party's, in the place of
    /// the one under its number and of all after it.
    ///
    /// # Errors
    /// A [`RecordError`] if it is not possible after those before it.
    pub fn replace_from(&mut self, signed: &Signed<AgreementStatement>) -> Result<(), RecordError> {
        let statement = signed.peek()?;
        let before = statement.number.saturating_sub(1);
        let kept = self.statements.iter().take(usize::try_from(before).unwrap_or(usize::MAX)).cloned();
        let mut replaced = StatementChain { statements: kept.collect() };
        replaced.check(statement.action)?;
        replaced.statements.push(signed.clone());
        *self = replaced;
        Ok(())
    }

    /// Whether one of those after the number `after` and up to `number` is signed under keys that `node` has replaced.
    pub fn is_outdated(&self, after: u64, number: u64, agreement: &AgreementId, node: &CertifiedNode) -> bool {
        let held = self.after(after).iter().take(usize::try_from(number - after).unwrap_or(usize::MAX));
        held.map(|held| verify(held, agreement, node)).any(|held| matches!(held, Err(RecordError::Signature(_))))
    }

    /// Puts an end behind them whose number or predecessor is another, and that was found to be the party's.
    pub fn close(&mut self, end: &Signed<AgreementStatement>) -> Result<(), RecordError> {
        self.check(Action::End)?;
        self.statements.push(end.clone());
        Ok(())
    }

    /// Whether a party can state this after what it has stated.
    fn check(&self, action: Action) -> Result<(), RecordError> {
        let field = |rule| Err(RecordError::Field(rule));
        match (self.stated(), action) {
            (Stated::Ended(_), _) => return field("after its end nothing is stated about an agreement"),
            (Stated::Suspended(_), Action::Suspend) => return field("the party has suspended the agreement already"),
            (Stated::Open, Action::Resume) => {
                return field("only the party that has suspended the agreement resumes it");
            }
            _ => {}
        }
        if action != Action::End && self.statements.len() + 1 >= STATEMENTS_MAX {
            return field("the party has stated too much about this agreement: only an end is left");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    const ID: AgreementId = AgreementId([4; 32]);

    fn sign(party: &Party, statement: &AgreementStatement) -> Signed<AgreementStatement> {
        Signed::create(statement, |domain, bytes| match statement.action.needs_root() {
            true => party.root.sign(domain, bytes),
            false => party.statement.sign(domain, bytes),
        })
    }

    fn say(chain: &mut StatementChain, party: &Party, action: Action) -> Result<Taken, RecordError> {
        let statement = chain.next(ID, party.entity(), action, Time(chain.number() + 1))?;
        chain.take(&sign(party, &statement), &ID, &party.card().node)
    }

    #[test]
    fn a_party_suspends_resumes_and_ends() {
        let party = Party::new(1);
        let mut chain = StatementChain::default();
        let rows: [(Action, Option<Stated>); 8] = [
            (Action::Resume, None),
            (Action::Suspend, Some(Stated::Suspended(Time(1)))),
            (Action::Suspend, None),
            (Action::Withdraw { terms: [1; 32] }, Some(Stated::Suspended(Time(1)))),
            (Action::Resume, Some(Stated::Open)),
            (Action::Suspend, Some(Stated::Suspended(Time(4)))),
            (Action::End, Some(Stated::Ended(Time(5)))),
            (Action::Resume, None),
        ];
        for (action, becomes) in rows {
            let taken = say(&mut chain, &party, action);
            match becomes {
                Some(stated) => assert_eq!((taken, chain.stated()), (Ok(Taken::New(action)), stated)),
                None => assert!(matches!(taken, Err(RecordError::Field(_))), "{action:?}"),
            }
        }
        assert!(chain.has_withdrawn(&[1; 32]) && !chain.has_withdrawn(&[2; 32]));
        assert_eq!((chain.number(), chain.after(3).len(), chain.after(u64::MAX).len()), (5, 2, 0));
    }

    #[test]
    fn p5_statements_are_taken_in_order_and_once() {
        let party = Party::new(1);
        let mut own = StatementChain::default();
        for action in [Action::Suspend, Action::Resume, Action::Suspend] {
            say(&mut own, &party, action).expect("in order");
        }
        let node = party.card().node;
        let all = own.after(0).to_vec();
        let mut other = StatementChain::default();
        assert_eq!(other.take(&all[2], &ID, &node), Ok(Taken::Gap(0)));
        assert_eq!(other.take(&all[0], &ID, &node), Ok(Taken::New(Action::Suspend)));
        assert_eq!(other.take(&all[2], &ID, &node), Ok(Taken::Gap(1)));
        for signed in other.clone().after(0).iter().chain(&all[1..]) {
            assert!(other.take(signed, &ID, &node).is_ok());
        }
        assert_eq!(other, own);
        assert_eq!(other.take(&all[0], &ID, &node), Ok(Taken::Known(1)), "an old one changes nothing");
        assert_eq!(other.stated(), Stated::Suspended(Time(3)));
    }

    #[test]
    fn p4_only_the_right_key_of_the_right_party_states() {
        let (party, other) = (Party::new(1), Party::new(2));
        let node = party.card().node;
        let first = |action| AgreementStatement {
            agreement: ID,
            party: party.entity(),
            number: 1,
            previous: None,
            action,
            at: Time(1),
        };
        let check = |signed: Signed<AgreementStatement>, taken: bool, what: &str| {
            assert_eq!(StatementChain::default().take(&signed, &ID, &node).is_ok(), taken, "{what}");
        };
        let by = |statement: &AgreementStatement, root: bool, key: &Party| {
            Signed::create(statement, |domain, bytes| match root {
                true => key.root.sign(domain, bytes),
                false => key.statement.sign(domain, bytes),
            })
        };
        check(by(&first(Action::End), true, &party), true, "the root ends");
        check(by(&first(Action::Suspend), false, &party), true, "the statement key suspends");
        check(by(&first(Action::End), false, &party), false, "the statement key does not end");
        check(by(&first(Action::Suspend), true, &party), false, "the root is not used to suspend");
        check(by(&first(Action::End), true, &other), false, "the counterpart's root");
        check(
            by(&AgreementStatement { party: other.entity(), ..first(Action::End) }, true, &party),
            false,
            "for another",
        );
        let elsewhere = AgreementStatement { agreement: AgreementId([0; 32]), ..first(Action::End) };
        check(by(&elsewhere, true, &party), false, "another agreement");
        check(by(&AgreementStatement { number: 0, ..first(Action::End) }, true, &party), false, "number 0");
        let chained = AgreementStatement { previous: Some([1; 32]), ..first(Action::End) };
        check(by(&chained, true, &party), false, "a first one with a previous one");

        let mut chain = StatementChain::default();
        say(&mut chain, &party, Action::Suspend).expect("first");
        let second = |previous| AgreementStatement { number: 2, previous, ..first(Action::Resume) };
        let known = chain.clone();
        assert_eq!(chain.take(&by(&second(Some([9; 32])), true, &party), &ID, &node), Ok(Taken::Fork(2)));
        assert_eq!(chain.take(&by(&first(Action::End), true, &party), &ID, &node), Ok(Taken::Fork(1)));
        assert!(chain.take(&by(&first(Action::End), true, &other), &ID, &node).is_err(), "a fork by another");
        assert_eq!(chain, known, "nothing of it is taken");
    }

    #[test]
    fn the_last_place_is_kept_for_an_end() {
        let party = Party::new(1);
        let mut chain = StatementChain::default();
        for number in 1..STATEMENTS_MAX {
            let terms = [(number % 250) as u8; 32];
            say(&mut chain, &party, Action::Withdraw { terms }).expect("below the limit");
        }
        assert!(say(&mut chain, &party, Action::Suspend).is_err());
        assert!(say(&mut chain, &party, Action::End).is_ok());
    }
}
