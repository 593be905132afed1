//! Before a lane: flights, TLS, first frames.

use pakt_keys::signing::TransportKey;
use pakt_node::ambient;
use pakt_protocol::hello::VersionRange;
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::time::Time;

use super::{Met, Row, Stage, honest, stopped};
use crate::partner::Partner;
use crate::tls;
use crate::wire::{PATIENCE, SILENCE, Stop, Wire, knock};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "flight replayed",
        does: "sends its own good flight a second time",
        meets: "silence",
        says: "a flight came twice",
        act: replayed,
    },
    Row {
        name: "flight counter back",
        does: "numbers a flight below the 64 that were taken last",
        meets: "silence",
        says: "a flight came twice",
        act: counter_back,
    },
    Row { name: "flight bent", does: "changes one byte of a good flight", meets: "silence", says: "", act: bent },
    Row {
        name: "flight with junk",
        does: "comes through the door with no ClientHello in its flight",
        meets: "silence",
        says: "no TLS",
        act: junk,
    },
    Row {
        name: "TLS without the hybrid",
        does: "offers X25519 alone as key exchange",
        meets: "silence",
        says: "no TLS",
        act: classical,
    },
    Row {
        name: "hello of another entity",
        does: "shows its accomplice's certificates",
        meets: "no hello",
        says: "the node at this address belongs to another entity",
        act: other_entity,
    },
    Row {
        name: "hello with another key",
        does: "proves another transport key in TLS than the certified one",
        meets: "no hello",
        says: "the peer's certificate is for another key than the one it holds",
        act: other_key,
    },
    Row {
        name: "hello too new",
        does: "speaks protocol versions 2 to 3 only",
        meets: "closed after the hellos",
        says: "the peer speaks only newer protocol versions",
        act: too_new,
    },
    Row {
        name: "hello too old",
        does: "speaks protocol version 0 only",
        meets: "closed after the hellos",
        says: "the peer speaks only older protocol versions",
        act: too_old,
    },
    Row {
        name: "hello malformed",
        does: "sends 300 random bytes as its first frame",
        meets: "no hello",
        says: "the peer's first frame cannot be read",
        act: malformed,
    },
    Row {
        name: "hello oversized",
        does: "announces a first frame of 65,537 bytes",
        meets: "no hello",
        says: "no first frame: invalid data",
        act: oversized,
    },
    Row {
        name: "hello cut off",
        does: "ends the connection in the middle of its first frame",
        meets: "no hello",
        says: "no first frame: unexpected end of file",
        act: cut_off,
    },
    Row {
        name: "hello with a certificate self-made",
        does: "shows a certificate that its own statement key signed instead of the root",
        meets: "no hello",
        says: "the peer's certificate chain is not valid",
        act: self_made,
    },
    Row {
        name: "hello with a certificate rolled back",
        does: "shows a newer certificate, then the one before it",
        meets: "no hello",
        says: "the peer shows a certificate that it has replaced since",
        act: rolled_back,
    },
];

fn replayed(stage: &mut Stage) -> Met {
    let dial = stage.first.honest(LaneKind::Control);
    let (session, client_hello) = tls::begin(&dial.transport, dial.exchange);
    let flight = stage.first.flight(&client_hello);
    let tcp = honest!(knock(stage.first.victim, &flight, PATIENCE));
    drop(Wire::secure(session, tcp, crate::wire::Ears::deaf()));
    stopped(knock(stage.first.victim, &flight, SILENCE))
}

fn counter_back(stage: &mut Stage) -> Met {
    let old = stage.first.next_counter();
    for _ in 0..64 {
        let flight = stage.first.flight(b"not a ClientHello");
        // One at a time: a counterpart has a limited number of seats.
        drop(knock(stage.first.victim, &flight, PATIENCE));
    }
    let flight = stage.first.flight_with(old, b"not a ClientHello");
    stopped(knock(stage.first.victim, &flight, SILENCE))
}

fn bent(stage: &mut Stage) -> Met {
    let mut flight = stage.first.flight(b"not a ClientHello");
    flight[1_000] ^= 1;
    stopped(knock(stage.first.victim, &flight, SILENCE))
}

fn junk(stage: &mut Stage) -> Met {
    let flight = stage.first.flight(b"not a ClientHello");
    stopped(knock(stage.first.victim, &flight, SILENCE))
}

fn classical(stage: &mut Stage) -> Met {
    let mut dial = stage.first.honest(LaneKind::Control);
    dial.exchange = tls::CLASSICAL;
    stopped(stage.first.enter(&dial))
}

fn other_entity(stage: &mut Stage) -> Met {
    let mut dial = stage.first.honest(LaneKind::Control);
    dial.transport = *stage.second.keys.transport.seed();
    dial.hello = stage.second.hello(&stage.second.chain, VersionRange::OURS);
    stopped(stage.first.dial(&dial))
}

fn other_key(stage: &mut Stage) -> Met {
    let mut dial = stage.first.honest(LaneKind::Control);
    dial.transport = *TransportKey::generate(&mut ambient::rng()).seed();
    stopped(stage.first.dial(&dial))
}

fn versions(partner: &mut Partner, oldest: u16, newest: u16) -> Met {
    let mut dial = partner.honest(LaneKind::Control);
    dial.hello = partner.hello(&partner.chain, VersionRange { oldest, newest });
    stopped(partner.dial(&dial))
}

fn too_new(stage: &mut Stage) -> Met {
    versions(&mut stage.first, 2, 3)
}

fn too_old(stage: &mut Stage) -> Met {
    versions(&mut stage.first, 0, 0)
}

fn malformed(stage: &mut Stage) -> Met {
    let mut dial = stage.first.honest(LaneKind::Control);
    dial.hello = ambient::random::<300>().to_vec();
    stopped(stage.first.dial(&dial))
}

/// Says `bytes` where the first frame belongs.
fn instead_of_hello(partner: &mut Partner, bytes: &[u8], ends: bool) -> Met {
    let dial = partner.honest(LaneKind::Control);
    let mut wire = honest!(partner.enter(&dial));
    let _ = wire.write(bytes);
    if ends {
        wire.finish();
    }
    match wire.read(1, PATIENCE) {
        Err(_) => Met::Stopped(Stop::NoHello),
        Ok(_) => Met::Astray("it was let in".into()),
    }
}

fn oversized(stage: &mut Stage) -> Met {
    instead_of_hello(&mut stage.first, &65_537u32.to_be_bytes(), false)
}

fn cut_off(stage: &mut Stage) -> Met {
    instead_of_hello(&mut stage.first, &[&1_000u32.to_be_bytes()[..], &[1; 500]].concat(), true)
}

fn self_made(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let mut chain = partner.chain.clone();
    let mut certificate = honest!(chain.certificate.peek());
    certificate.serial += 1;
    chain.certificate =
        pakt_protocol::record::Signed::create(&certificate, |domain, bytes| partner.sign(domain, bytes));
    let mut dial = partner.honest(LaneKind::Control);
    dial.hello = partner.hello(&chain, VersionRange::OURS);
    stopped(partner.dial(&dial))
}

fn rolled_back(stage: &mut Stage) -> Met {
    let partner = &mut stage.first;
    let old = partner.chain.clone();
    partner.chain = partner.recertify(|certificate| {
        certificate.serial += 1;
        certificate.issued_at = Time(certificate.issued_at.0 + 1);
    });
    drop(honest!(partner.session()));
    let mut dial = partner.honest(LaneKind::Control);
    dial.hello = partner.hello(&old, VersionRange::OURS);
    stopped(partner.dial(&dial))
}
