//! Seeded defects: what a machine does wrong while one is on, so that a judge can be judged.
//!
//! Each is one `if` at the place where its machine decides. With the cargo feature `defects` there is one switch for the
//! whole process, which simulations and tests set; without it [`is_on`] is a constant, and the compiler leaves neither the
//! switch nor the wrong branches nor their names in a program.
//!
//! **Invariant:** no default feature and no dependency asks for `defects`: only `--features defects` on a command line does,
//! and no release is built so. A tidy test looks.

#[cfg(feature = "defects")]
use std::sync::atomic::{AtomicU8, Ordering};

/// What can be wrong with the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Defect {
    /// An offer is accepted before it is durable that it was.
    AcceptEarly = 1,
    /// That an offer was accepted is never made durable.
    SkipPersistOffer,
    /// The receiver says that everything has come as soon as everything is named.
    CommitIncomplete,
    /// The signed envelope leaves without a durable note that it may have been delivered.
    SkipPersistLeft,
    /// A receipt of a lower tier is taken for one of the next tier.
    SwapTier,
    /// Receipts that are owed go out under each other's envelopes.
    SwapReceipts,
    /// What a receipt has settled is not written.
    SkipPersistReceipt,
    /// A late receipt that is not held is confirmed as if it were.
    ConfirmUnkept,
    /// A late receipt of a lower tier takes an envelope back.
    TierGoesBack,
    /// A refusal for now is taken for one for good.
    GiveUpOnBusy,
    /// What was under way when the lane was lost is not offered again.
    ForgetRequeue,
    /// What was under way when the node died is not offered again.
    ForgetAtRestart,
    /// An envelope expires when its sender should only be warned.
    ExpireEarly,
    /// The hold time ends nothing.
    NeverExpire,
    /// What has left expires like what has not.
    ExpireAfterLeft,
    /// What has left is refused when its agreement ends, without asking what became of it.
    StopAfterLeft,
    /// What is under way when the hold time is over is not taken back.
    SkipWithdrawal,
    /// What has left is offered again after its time, where it may only be asked about.
    OfferWhenOver,
    /// A receipt that nothing is held does not end the envelope.
    DisbelieveNotHeld,
    /// Nobody is told how an envelope ended.
    SkipReport,
    /// People are told twice how an envelope ended.
    DoubleReport,
    /// Nobody is told that what was reported has turned out well.
    SkipResolution,
    /// What has left counts as recalled without an answer of the counterpart.
    RecallUnasked,
    /// A recall of what came is answered as if it had never come.
    DenyWhatCame,
    /// What was taken is stated to be purged.
    RecallTaken,
    /// A restored counterpart is not shown what it had purged.
    ShowNoPurges,
    /// A receipt is owed no more as soon as it is told.
    ForgetAtTelling,
    /// A confirmation covers the higher tiers, too.
    ConfirmHigher,
    /// Receipts that are owed are forgotten at once when the agreement is over.
    ForgetAtEnd,
    /// The question how an envelope ended that never came is not answered.
    NeverAnswer,
    /// The counterpart is not dialled for receipts alone.
    NeverDialForReceipts,
    /// An agreement that one side has ended counts as in force.
    IgnoreEnd,
    /// A suspended agreement counts as in force.
    IgnoreSuspension,
    /// An agreement counts as in force after its time.
    IgnoreExpiry,
    /// The receiver accepts offers under an agreement that is suspended.
    AcceptSuspended,
    /// Envelopes that were settled are received again.
    SkipDuplicateCheck,
    /// Receipts are not heard once the agreement is over.
    DeafAfterEnd,
    /// Reconciliation takes what is open for what was never sent.
    OpenIsUnknown,
}

/// Whether the machines have this defect now.
#[cfg(feature = "defects")]
pub fn is_on(defect: Defect) -> bool {
    ON.load(Ordering::Relaxed) == defect as u8
}

/// Whether the machines have this defect now: never.
#[cfg(not(feature = "defects"))]
#[inline(always)]
pub const fn is_on(_: Defect) -> bool {
    false
}

/// The defect that is on; 0 if none is.
#[cfg(feature = "defects")]
static ON: AtomicU8 = AtomicU8::new(0);

/// Keeps a defect on for the whole process until it is dropped.
#[cfg(feature = "defects")]
#[derive(Debug)]
#[must_use = "the defect is off again once this is dropped"]
pub struct Switched(());

#[cfg(feature = "defects")]
impl Drop for Switched {
    fn drop(&mut self) {
        ON.store(0, Ordering::Relaxed);
    }
}

#[cfg(feature = "defects")]
macro_rules! named {
    ($($defect:ident $name:literal,)*) => {
        impl Defect {
            /// Every defect.
            pub const ALL: &[Defect] = &[$(Defect::$defect),*];

            /// Its name on command lines and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Defect::$defect => $name,)*
                }
            }
        }
    };
}

#[cfg(feature = "defects")]
named! {
    AcceptEarly "accept-early",
    SkipPersistOffer "skip-persist-offer",
    CommitIncomplete "commit-incomplete",
    SkipPersistLeft "skip-persist-left",
    SwapTier "swap-tier",
    SwapReceipts "swap-receipts",
    SkipPersistReceipt "skip-persist-receipt",
    ConfirmUnkept "confirm-unkept",
    TierGoesBack "tier-goes-back",
    GiveUpOnBusy "give-up-on-busy",
    ForgetRequeue "forget-requeue",
    ForgetAtRestart "forget-at-restart",
    ExpireEarly "expire-early",
    NeverExpire "never-expire",
    ExpireAfterLeft "expire-after-left",
    StopAfterLeft "stop-after-left",
    SkipWithdrawal "skip-withdrawal",
    OfferWhenOver "offer-when-over",
    DisbelieveNotHeld "disbelieve-not-held",
    SkipReport "skip-report",
    DoubleReport "double-report",
    SkipResolution "skip-resolution",
    RecallUnasked "recall-unasked",
    DenyWhatCame "deny-what-came",
    RecallTaken "recall-taken",
    ShowNoPurges "show-no-purges",
    ForgetAtTelling "forget-at-telling",
    ConfirmHigher "confirm-higher",
    ForgetAtEnd "forget-at-end",
    NeverAnswer "never-answer",
    NeverDialForReceipts "never-dial-for-receipts",
    IgnoreEnd "ignore-end",
    IgnoreSuspension "ignore-suspension",
    IgnoreExpiry "ignore-expiry",
    AcceptSuspended "accept-suspended",
    SkipDuplicateCheck "skip-duplicate-check",
    DeafAfterEnd "deaf-after-end",
    OpenIsUnknown "open-is-unknown",
}

#[cfg(feature = "defects")]
impl Defect {
    /// The defect of that name.
    pub fn named(name: &str) -> Option<Defect> {
        Self::ALL.iter().copied().find(|defect| defect.name() == name)
    }

    /// Lets every machine of this process have this defect alone.
    pub fn switch_on(self) -> Switched {
        ON.store(self as u8, Ordering::Relaxed);
        Switched(())
    }
}

#[cfg(all(test, feature = "defects"))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_off_again() {
        assert!(Defect::ALL.iter().all(|defect| !is_on(*defect)));
        for (place, defect) in Defect::ALL.iter().enumerate() {
            let switched = defect.switch_on();
            assert_eq!(Defect::ALL.iter().filter(|other| is_on(**other)).count(), 1, "{defect:?}");
            assert!(is_on(*defect));
            drop(switched);
            assert!(!is_on(*defect));
            assert_eq!((*defect as usize, Defect::named(defect.name())), (place + 1, Some(*defect)));
        }
    }
}
