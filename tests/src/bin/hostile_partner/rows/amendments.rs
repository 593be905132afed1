//! Later versions of the agreement that are none, or are not later.

use pakt_keys::signing::RootKey;
use pakt_node::ambient;
use pakt_protocol::message::{Amend, Amended, Message};
use pakt_protocol::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms};

use super::{Met, Row, Stage, answered, closed, honest, passed_over};
use crate::parcel::Parcel;
use crate::partner::Partner;

const NOT_VALID: &str = "this is not a valid amendment of this agreement";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "amendment of noise",
        does: "shows 5,000 random bytes as a later version of the agreement",
        meets: "session closed",
        says: NOT_VALID,
        act: |stage| show(&mut stage.first, ambient::random::<5_000>().to_vec()),
    },
    Row {
        name: "amendment by another root",
        does: "has somebody else's root sign the later version",
        meets: "session closed",
        says: NOT_VALID,
        act: by_another_root,
    },
    Row {
        name: "amendment signed for both",
        does: "signs the later version in the victim's place too",
        meets: "session closed",
        says: NOT_VALID,
        act: signed_for_both,
    },
    Row {
        name: "amendment in the victim's place",
        does: "signs the later version as if the victim had offered it",
        meets: "session closed",
        says: NOT_VALID,
        act: in_the_victims_place,
    },
    Row {
        name: "amendment of another agreement",
        does: "shows its accomplice's agreement as a later version of its own",
        meets: "session closed",
        says: NOT_VALID,
        act: of_another,
    },
    Row {
        name: "amendment under another name",
        does: "renames itself in a later version",
        meets: "session closed",
        says: NOT_VALID,
        act: renamed,
    },
    Row {
        name: "amendment on another base",
        does: "offers a later version of terms that were never agreed",
        meets: "passed over",
        says: "",
        act: on_another_base,
    },
    Row {
        name: "two amendments under one number",
        does: "offers two texts as version 2",
        meets: "passed over",
        says: "the counterpart has signed two texts under one version",
        act: two_texts,
    },
    Row {
        name: "amendment taken as accepted",
        does: "offers under a version that the victim has not countersigned",
        meets: "refuse other_agreement_version",
        says: "",
        act: not_accepted,
    },
    Row {
        name: "agreement rolled back",
        does: "shows version 1 after version 2 was signed by both",
        meets: "shown the newer version",
        says: "",
        act: rolled_back,
    },
    Row {
        name: "offer under a version rolled back",
        does: "offers under version 1 after version 2 was signed by both",
        meets: "refuse other_agreement_version",
        says: "",
        act: offer_rolled_back,
    },
    Row {
        name: "confirmation of other terms",
        does: "confirms terms that nobody has offered",
        meets: "passed over",
        says: "",
        act: amended,
    },
];

/// Terms that may follow those of the partner's agreement.
fn next_terms(partner: &Partner) -> AgreementTerms {
    let terms = &partner.checked.terms;
    AgreementTerms {
        version: terms.version + 1,
        previous: Some(partner.file.record.hash()),
        nonce: partner.agreement().0,
        accept_by: ambient::now() + std::time::Duration::from_secs(86_400),
        purposes: vec!["anything".into()],
        ..terms.clone()
    }
}

fn file(partner: &Partner, record: AgreementRecord) -> Vec<u8> {
    AgreementFile { record, ..partner.file.clone() }.to_bytes()
}

fn offer(partner: &Partner, change: impl FnOnce(&mut AgreementTerms)) -> Vec<u8> {
    let mut terms = next_terms(partner);
    change(&mut terms);
    let record = AgreementRecord::offer(&terms, partner.side(), partner.root());
    file(partner, record.expect("the terms are sound by themselves"))
}

fn show(partner: &mut Partner, file: Vec<u8>) -> Met {
    let mut session = honest!(partner.session());
    session.control.say(Amend { file });
    closed(session.control.is_closed())
}

fn by_another_root(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let root = RootKey::generate(&mut ambient::rng());
    let record = honest!(AgreementRecord::offer(&next_terms(partner), partner.side(), &root));
    show(partner, file(partner, record))
}

fn signed_for_both(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let record = honest!(AgreementRecord::offer(&next_terms(partner), partner.side(), partner.root()));
    let record = record.countersign(partner.root());
    show(partner, file(partner, record))
}

fn in_the_victims_place(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let record = honest!(AgreementRecord::offer(&next_terms(partner), partner.side().other(), partner.root()));
    show(partner, file(partner, record))
}

fn of_another(stage: &mut Stage) -> Met {
    let file = stage.second.file.to_bytes();
    show(&mut stage.first, file)
}

fn renamed(stage: &mut Stage) -> Met {
    let file = offer(&stage.first, |terms| terms.acceptor.name = "Somebody else".into());
    show(&mut stage.first, file)
}

fn on_another_base(stage: &mut Stage) -> Met {
    let file = offer(&stage.first, |terms| terms.previous = Some([7; 32]));
    let mut session = honest!(stage.first.session());
    session.control.say(Amend { file });
    passed_over(session.control.stands())
}

fn two_texts(stage: &mut Stage) -> Met {
    let files = ["one", "other"].map(|purpose| offer(&stage.first, |terms| terms.purposes = vec![purpose.into()]));
    let mut session = honest!(stage.first.session());
    for file in files {
        session.control.say(Amend { file });
    }
    passed_over(session.control.stands())
}

fn not_accepted(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    let mut parcel = Parcel::new(&stage.first, &session);
    parcel.offer.agreement_version += 1;
    answered(session.offer(&parcel.offer))
}

/// The accomplice has agreed on a second version since, and keeps to the first.
fn rolled_back(stage: &mut Stage) -> Met {
    let partner = &mut stage.second;
    let mut session = honest!(partner.session());
    // What the victim shows because the lane was opened under the old version.
    honest!(session.control.take_next(newer));
    session.control.say(Amend { file: partner.file.to_bytes() });
    match session.control.take_next(newer) {
        Ok(()) => Met::Other("shown the newer version"),
        Err(end) => Met::Astray(format!("{end:?}")),
    }
}

fn newer(message: &Message) -> Option<()> {
    let Message::Amend(amend) = message else { return None };
    AgreementFile::verify(&amend.file).is_ok_and(|file| file.terms.version > 1).then_some(())
}

fn offer_rolled_back(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.second.session());
    let parcel = Parcel::new(&stage.second, &session);
    let met = answered(session.offer(&parcel.offer));
    // From here on it keeps to what it has signed.
    let newest = session.control.take_next(|message| match message {
        Message::Amend(amend) => AgreementFile::verify(&amend.file).ok().zip(Some(amend.file.clone())),
        _ => None,
    });
    stage.second.adopt(honest!(newest));
    met
}

fn amended(stage: &mut Stage) -> Met {
    let mut session = honest!(stage.first.session());
    session.control.say(Amended { terms: [7; 32] });
    passed_over(session.control.stands())
}
