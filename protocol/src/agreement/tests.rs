//! Tests of what agreements allow and of what changes them.

use std::collections::VecDeque;
use std::time::Duration;

use pakt_keys::signing::Domain;

use super::*;
use crate::delivery::Reason;
use crate::policy::Footing;
use crate::record::Signed;
use crate::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Side};
use crate::record::statement::{Action, AgreementStatement, Stated, StatementChain};
use crate::record::tests::{Party, agree};
use crate::session;
use crate::settling::{Over, SETTLE_AGAIN};
use crate::time::Time;

const DAY: Duration = Duration::from_secs(86_400);

fn day(n: u32) -> Time {
    Time::from_seconds(1_000_000) + DAY * n
}

/// Active, valid from day 10 to day 100.
fn view() -> AgreementView {
    AgreementView {
        standing: Standing::Active,
        is_complete: true,
        own: Stated::Open,
        peer: Stated::Open,
        held_back: false,
        accept_by: day(5),
        valid_from: day(10),
        valid_until: day(100),
        offered_until: None,
        ended_at: None,
        end_confirmed: false,
        holds_grant: true,
    }
}

#[test]
fn p5_whoever_dials_after_an_end_is_shown_it() {
    let ended = AgreementView { standing: Standing::Ended, own: Stated::Ended(day(20)), ..view() };
    let confirmed = AgreementView { end_confirmed: true, ..ended };
    let proposed = AgreementView { standing: Standing::Proposed, ..view() };
    let rows = [(view(), [true, true]), (ended, [true, true]), (confirmed, [true, false]), (proposed, [false, false])];
    for (view, expected) in rows {
        assert_eq!([false, true].map(|dialer| view.shows_statements(dialer)), expected, "{view:?}");
    }
}

#[test]
fn p6_what_is_allowed_follows_from_dates_and_statements() {
    let suspended = Stated::Suspended(day(20));
    let waits = Traffic::Waits(Reason::AgreementSuspended);
    let rows = [
        (view(), 9, Footing::NotBegun, Traffic::Waits(Reason::AgreementNotBegun)),
        (view(), 10, Footing::InForce, Traffic::Goes),
        (view(), 99, Footing::InForce, Traffic::Goes),
        (view(), 100, Footing::Expired, Traffic::Stops(Reason::AgreementExpired)),
        (AgreementView { own: suspended, ..view() }, 50, Footing::Suspended, waits),
        (AgreementView { peer: suspended, ..view() }, 50, Footing::Suspended, waits),
        (AgreementView { peer: suspended, ..view() }, 100, Footing::Expired, Traffic::Stops(Reason::AgreementExpired)),
        (AgreementView { held_back: true, ..view() }, 100, Footing::Unconfirmed, waits),
        (
            AgreementView { peer: Stated::Ended(day(1)), ..view() },
            50,
            Footing::None,
            Traffic::Stops(Reason::AgreementEnded),
        ),
        (
            AgreementView { standing: Standing::Ended, ..view() },
            50,
            Footing::None,
            Traffic::Stops(Reason::AgreementEnded),
        ),
        (AgreementView { standing: Standing::Proposed, ..view() }, 50, Footing::None, Traffic::Goes),
        (AgreementView { is_complete: false, ..view() }, 50, Footing::None, Traffic::Stops(Reason::AgreementEnded)),
    ];
    for (view, at, footing, traffic) in rows {
        assert_eq!((view.footing(day(at)), view.traffic(day(at))), (footing, traffic), "{view:?} on day {at}");
    }
}

#[test]
fn p6_the_door_closes_and_dialling_ends_by_date() {
    let ended = AgreementView { standing: Standing::Ended, ended_at: Some(day(50)), ..view() };
    let by_us = AgreementView { own: Stated::Ended(day(50)), ..ended };
    let renews = AgreementView { offered_until: Some(day(110)), ..view() };
    let proposed = AgreementView { standing: Standing::Proposed, ..view() };
    // Door open, should dial, may settle.
    let rows = [
        (proposed, 5, [true, false, false]),
        (proposed, 6, [false, false, false]),
        (view(), 0, [true, true, false]),
        (view(), 100, [true, false, true]),
        (view(), 129, [true, false, true]),
        (view(), 130, [false, false, false]),
        (renews, 109, [true, true, true]),
        (renews, 110, [true, false, true]),
        (ended, 50, [true, false, true]),
        (by_us, 79, [true, true, true]),
        (AgreementView { end_confirmed: true, ..by_us }, 79, [true, false, true]),
        (by_us, 80, [false, false, false]),
        (AgreementView { holds_grant: false, ..by_us }, 79, [true, false, false]),
        (AgreementView { held_back: true, ..view() }, 50, [false, false, false]),
    ];
    for (view, at, allowed) in rows {
        let now = day(at);
        let is = [view.door_open(now), view.should_dial(now), view.may_settle(now)];
        assert_eq!(is, allowed, "{view:?} on day {at}");
        assert_eq!(view.dials(now, || true), allowed[1] || allowed[2]);
        assert_eq!(view.dials(now, || false), allowed[1]);
        assert!(!view.forgets_owed(now) || !allowed[0]);
    }
    let dates: Vec<Time> = std::iter::successors(view().next_date(day(0)), |at| view().next_date(*at)).collect();
    assert_eq!(dates, [day(10), day(100), day(130)]);
}

#[test]
fn how_a_session_begins_and_ends() {
    let ended = AgreementView { standing: Standing::Ended, ended_at: Some(day(50)), ..view() };
    assert_eq!(view().at_session(day(50)), session::Standing::Active);
    assert_eq!(view().at_session(day(100)), session::Standing::Expired);
    assert_eq!(ended.at_session(day(100)), session::Standing::Ending);
    assert_eq!((view().over(day(50), true), view().over(day(130), true)), (None, None));
    assert_eq!(view().over(day(100), true), Some(Over::Expired { dialled: true }));
    assert_eq!(view().over(day(100), false), Some(Over::Expired { dialled: false }));
    assert_eq!(ended.over(day(500), false), Some(Over::Ended { confirmed: false }));
    assert!(view().keeps_session(day(99), false) && !view().keeps_session(day(100), false));
    assert!(view().keeps_session(day(129), true) && !view().keeps_session(day(130), true));
    assert_eq!(view().dials_after_close(day(50), || false), CLOSED_AGAIN);
    assert_eq!(view().dials_after_close(day(100), || true), CLOSED_AGAIN);
    assert_eq!(view().dials_after_close(day(100), || false), SETTLE_AGAIN);
    assert_eq!(AgreementView { end_confirmed: true, ..ended }.dials_after_close(day(60), || true), SETTLE_AGAIN);
}

/// Both sides of one agreement.
struct Pair {
    parties: [Party; 2],
    lives: [Life; 2],
}

const NOW: Time = Time(10);

impl Pair {
    fn new() -> Pair {
        let parties = [Party::new(1), Party::new(2)];
        let file = agree(&parties[0], &parties[1]);
        let life = |side, other: &Party| Life::new(file.clone(), side, Standing::Active, other.chain.clone(), NOW);
        let lives = [life(Side::Proposer, &parties[1]), life(Side::Acceptor, &parties[0])];
        Pair { parties, lives }
    }

    fn state(&mut self, by: usize, action: Action, at: Time) -> Signed<AgreementStatement> {
        let (party, life) = (&self.parties[by], &mut self.lives[by]);
        let statement = life.statements.own.next(life.id(), party.entity(), action, at).expect("possible");
        let signed = Signed::create(&statement, |domain, bytes| match action.needs_root() {
            true => party.root.sign(domain, bytes),
            false => party.statement.sign(domain, bytes),
        });
        life.state(&signed, &party.card().node, at).expect("the next one");
        signed
    }

    /// `to` is shown a statement of `of`.
    fn show(
        &mut self,
        to: usize,
        of: usize,
        signed: &Signed<AgreementStatement>,
        known: bool,
    ) -> Change<StatementAnswer> {
        let party = &self.parties[of];
        let (node, life) = (party.card().node, &mut self.lives[to]);
        let sign = |domain: Domain, bytes: &[u8]| party.statement.sign(domain, bytes);
        let taken = match to == of {
            true => life.take_own(signed, &Own { node: &node, sign: &sign, restored: true }, NOW),
            false => life.take_peer(signed, &node, known, NOW),
        };
        taken.expect("a valid statement")
    }

    /// An amendment of `by`, following the terms that count for it.
    fn amendment(&self, by: usize, change: impl FnOnce(&mut AgreementTerms)) -> AgreementFile {
        let life = &self.lives[by];
        let mut terms = life.file.record.peek().expect("readable");
        (terms.previous, terms.nonce) = (Some(life.file.record.hash()), life.id().0);
        terms.version = life.next_version().expect("readable").expect("there are enough");
        change(&mut terms);
        let record = AgreementRecord::offer(&terms, life.side, &self.parties[by].root).expect("valid");
        AgreementFile { record, ..life.file.clone() }
    }

    fn countersigned(&self, by: usize, file: &AgreementFile) -> AgreementFile {
        AgreementFile { record: file.record.countersign(&self.parties[by].root), ..file.clone() }
    }

    fn offer(&mut self, by: usize, file: &AgreementFile) {
        let life = &mut self.lives[by];
        let (number, seen) = (file.record.peek().expect("readable").version, (life.signed, life.file.record.hash()));
        life.offer(file.clone(), number, seen).expect("nothing changed meanwhile");
    }

    fn take(&mut self, by: usize, file: &AgreementFile) -> Result<Change<AmendmentAnswer>, LifeError> {
        self.lives[by].take_later(file.clone(), None, NOW)
    }
}

#[test]
fn p6_an_end_is_said_until_both_know_that_both_know() {
    let mut pair = Pair::new();
    let end = pair.state(0, Action::End, NOW);
    assert_eq!((pair.lives[0].standing, pair.lives[0].statements.ended_at), (Standing::Ended, Some(NOW)));
    assert_eq!(pair.show(1, 0, &end, false).answer, StatementAnswer::Known);
    assert!(!pair.lives[1].statements.end_confirmed);
    assert_eq!(pair.show(0, 0, &end, true).answer, StatementAnswer::EndKnown);
    assert_eq!(pair.show(1, 0, &end, true).answer, StatementAnswer::EndKnown);
    assert!(pair.lives.iter().all(|life| life.standing == Standing::Ended && life.statements.end_confirmed));
    assert!(!pair.lives[0].confirm_end(), "it is confirmed");
    let view = pair.lives[1].view(false, true).expect("readable");
    assert!(!view.should_dial(NOW) && view.may_settle(NOW));
}

#[test]
fn p5_statements_that_were_missed_are_asked_for() {
    let mut pair = Pair::new();
    let all = [Action::Suspend, Action::Resume, Action::Suspend].map(|action| pair.state(0, action, NOW));
    assert_eq!(pair.show(1, 0, &all[2], false).answer, StatementAnswer::Missing(0));
    for signed in &all {
        assert_eq!(pair.show(1, 0, signed, false).answer, StatementAnswer::Known);
    }
    assert_eq!(pair.lives[1].view(false, true).expect("readable").footing(NOW), Footing::Suspended);
    assert_eq!(pair.show(0, 0, &all[2], true).answer, StatementAnswer::Nothing);
    assert_eq!(pair.lives[0].statements.own_known, 3);
}

/// What both sides have of the first one's statements.
fn both(pair: &Pair) -> [&StatementChain; 2] {
    [&pair.lives[0].statements.own, &pair.lives[1].statements.peer]
}

/// A statement of the first side as its keys of today sign it.
fn today(pair: &Pair, signed: &Signed<AgreementStatement>) -> Signed<AgreementStatement> {
    let statement = signed.peek().expect("readable");
    match statement.action.needs_root() {
        true => signed.clone(),
        false => Signed::create(&statement, |domain, bytes| pair.parties[0].statement.sign(domain, bytes)),
    }
}

/// Shows `to` these statements of the first side, and what it answers to them, until nobody has anything to say.
fn talk(pair: &mut Pair, shown: Vec<(usize, Signed<AgreementStatement>, bool)>) {
    let mut under_way = VecDeque::from(shown);
    for _ in 0..200 {
        let Some((to, signed, known)) = under_way.pop_front() else { return };
        let signed = if to == 1 { today(pair, &signed) } else { signed };
        let answer = pair.show(to, 0, &signed, known).answer;
        let show = |to: usize, after: u64, known: bool| {
            both(pair)[1 - to].after(after).iter().map(|signed| (to, signed.clone(), known)).collect()
        };
        let said: Vec<_> = match answer {
            StatementAnswer::Known => vec![(1 - to, signed, true)],
            StatementAnswer::EndKnown if to == 0 => vec![(1, signed, true)],
            StatementAnswer::Missing(after) => show(to, after, false),
            StatementAnswer::Other(after) => show(1 - to, after, true),
            StatementAnswer::Again => show(1, pair.lives[0].statements.own_known, false),
            StatementAnswer::Nothing | StatementAnswer::EndKnown => vec![],
        };
        under_way.extend(said);
    }
    panic!("they talk without end");
}

/// All that a party can state in up to three statements after this much.
fn courses(from: Stated) -> Vec<Vec<Action>> {
    let mut all = vec![vec![]];
    let mut newest = vec![(from, vec![])];
    for _ in 0..3 {
        let mut longer = Vec::new();
        for (stated, course) in &newest {
            let next: &[(Action, Stated)] = match stated {
                Stated::Open => &[(Action::Suspend, Stated::Suspended(NOW)), (Action::End, Stated::Ended(NOW))],
                Stated::Suspended(_) => &[(Action::Resume, Stated::Open), (Action::End, Stated::Ended(NOW))],
                Stated::Ended(_) => &[],
            };
            let course: &Vec<Action> = course;
            longer.extend(next.iter().map(|(action, then)| (*then, [course.as_slice(), &[*action]].concat())));
        }
        all.extend(longer.iter().map(|(_, course)| course.clone()));
        newest = longer;
    }
    all
}

#[test]
fn p5_whoever_forgot_what_it_stated_agrees_with_the_counterpart_again() {
    for prefix in [vec![], vec![Action::Suspend]] {
        let from = if prefix.is_empty() { Stated::Open } else { Stated::Suspended(NOW) };
        for forgotten in courses(from) {
            for after in courses(from) {
                for has_new_keys in [false, true] {
                    let case = format!("{prefix:?}, forgotten {forgotten:?}, then {after:?}, new keys {has_new_keys}");
                    agrees_again(&prefix, &forgotten, &after, has_new_keys, &case);
                }
            }
        }
    }
}

fn agrees_again(prefix: &[Action], forgotten: &[Action], after: &[Action], has_new_keys: bool, case: &str) {
    let mut pair = Pair::new();
    for action in prefix {
        let signed = pair.state(0, *action, NOW);
        talk(&mut pair, vec![(1, signed, false)]);
    }
    let backup = pair.lives[0].clone();
    for action in forgotten {
        let signed = pair.state(0, *action, NOW);
        talk(&mut pair, vec![(1, signed, false)]);
    }
    pair.lives[0] = backup;
    if has_new_keys {
        pair.parties[0].renew();
    }
    for action in after {
        // Later than what was forgotten: no two statements are one by chance.
        pair.state(0, *action, NOW + DAY);
    }
    let meant = pair.lives[0].statements.own.stated();
    for _ in 0..2 {
        // As when a session starts; in the second everything is settled.
        let newest = |of: usize| both(&pair)[of].newest().cloned();
        let shown = [(1, newest(0), false), (0, newest(1), true)];
        let shown = shown.into_iter().filter_map(|(to, signed, known)| Some((to, signed?, known))).collect();
        talk(&mut pair, shown);
    }
    let [own, held] = both(&pair).map(StatementChain::stated);
    let kind = |stated: Stated| std::mem::discriminant(&stated);
    assert_eq!(kind(own), kind(held), "{case}");
    let is_ended = [forgotten, after].iter().any(|course| course.last() == Some(&Action::End));
    assert_eq!(matches!(own, Stated::Ended(_)), is_ended, "{case}: no end is lost");
    let ended = |life: &Life| life.standing == Standing::Ended && life.statements.end_confirmed;
    assert_eq!(pair.lives.iter().map(ended).collect::<Vec<_>>(), [is_ended; 2], "{case}");
    let is_meant = !after.is_empty() && matches!(meant, Stated::Suspended(_));
    assert!(!is_meant || own != Stated::Open, "{case}: no suspension is lost");
    if !has_new_keys {
        let is_fork = !forgotten.is_empty() && !after.is_empty();
        assert_eq!(pair.lives.iter().any(|life| life.statements.forked), is_fork, "{case}: people are told");
    } else if forgotten.last() == Some(&Action::Suspend) {
        assert_ne!(own, Stated::Open, "{case}: what cannot be verified is stated anew");
    }
}

#[test]
fn an_amendment_counts_once_both_have_signed() {
    let mut pair = Pair::new();
    let offer = pair.amendment(0, |terms| terms.hold_seconds = 7200);
    pair.offer(0, &offer);
    let hash = offer.record.hash();
    assert_eq!(pair.take(1, &offer).map(|change| change.answer), Ok(AmendmentAnswer::Known(hash)));
    assert_eq!(pair.take(1, &offer).map(|change| change.is_changed), Ok(false), "it is known");
    assert!(pair.lives[0].terms_known(hash) && !pair.lives[0].terms_known(hash));
    let complete = pair.countersigned(1, &offer);
    pair.lives[1].accept(complete.clone(), None, NOW).expect("it was offered");
    assert_eq!(pair.take(0, &complete).map(|change| change.answer), Ok(AmendmentAnswer::Known(hash)));
    for life in &pair.lives {
        assert_eq!(life.file.record.hash(), hash);
        assert!(life.offered.is_none() && life.received.is_none() && !life.forked && life.signed == (2, hash));
    }
    assert!(pair.lives[0].version_known && !pair.lives[1].version_known);
    assert_eq!(
        pair.take(0, &agree(&pair.parties[0], &pair.parties[1])).map(|it| it.answer),
        Ok(AmendmentAnswer::ShowNewer)
    );
}

#[test]
fn p5_of_two_texts_under_one_version_the_lower_hash_counts_on_both_sides() {
    let pair = Pair::new();
    let mut files = [7200, 7201].map(|hold| {
        let offer = pair.amendment(0, |terms| terms.hold_seconds = hold);
        pair.countersigned(1, &offer)
    });
    files.sort_by_key(|file| file.record.hash());
    let lower = files[0].record.hash();
    for order in [[0, 1], [1, 0]] {
        let mut pair = Pair::new();
        let alarms = order.map(|n| pair.take(1, &files[n]).expect("both are valid").alarm.is_some());
        assert_eq!(alarms, [false, true]);
        assert!(pair.lives[1].forked);
        assert_eq!(pair.lives[1].file.record.hash(), lower, "{order:?}");
    }
}

#[test]
fn p5_what_cannot_be_accepted_any_more_is_not_kept() {
    let mut pair = Pair::new();
    let offer = pair.amendment(0, |terms| terms.hold_seconds = 7200);
    let nothing = |pair: &mut Pair, file: &AgreementFile, why: &str| {
        let change = pair.take(1, file).expect("valid");
        assert_eq!((change.answer, change.is_changed), (AmendmentAnswer::Nothing, false), "{why}");
    };
    nothing(&mut pair, &offer.with(|terms| terms.accept_by = Time(9)), "too late");
    nothing(&mut pair, &offer.with(|terms| terms.previous = Some([1; 32])), "it follows other terms");
    nothing(&mut pair, &offer.with(|terms| terms.version = 2 + VERSIONS_AHEAD_MAX), "too far ahead");
    pair.offer(0, &offer);
    let withdrawn = pair.state(0, Action::Withdraw { terms: offer.record.hash() }, NOW);
    assert!(pair.lives[0].offered.is_none());
    pair.show(1, 0, &withdrawn, false);
    nothing(&mut pair, &offer, "it was withdrawn");
    assert_eq!(
        pair.lives[1].may_sign(&offer.record.peek().expect("readable"), offer.record.hash(), NOW),
        Err(LifeError::NothingOffered)
    );
    pair.state(1, Action::End, NOW);
    assert_eq!(pair.take(1, &offer), Err(LifeError::Ended));
}

impl AgreementFile {
    /// The same file with other terms of the proposer.
    fn with(&self, change: impl FnOnce(&mut AgreementTerms)) -> AgreementFile {
        let mut terms = self.record.peek().expect("readable");
        change(&mut terms);
        let record = AgreementRecord::offer(&terms, Side::Proposer, &Party::new(1).root).expect("valid");
        AgreementFile { record, ..self.clone() }
    }
}
