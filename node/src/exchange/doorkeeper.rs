//! Who comes in and who is believed: the book's answers in the network's words.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pakt_keys::EntityId;
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::limits::FLIGHT_BYTES;
use pakt_protocol::record::chain::CertificateChain;

use tokio_util::task::TaskTracker;

use crate::ambient;
use crate::book::{Book, FlightProblem, HelloProblem};
use crate::entity::Entity;
use crate::net::{Admission, DialError, DialTarget, Doorkeeper, HelloRefusal, PeerNode};

/// The doorkeeper of a node.
pub struct Keeper {
    book: Book,
    entity: Entity,
    /// Contradictions that are being stored.
    freezing: TaskTracker,
}

impl Keeper {
    /// A doorkeeper that knows what the book knows.
    pub fn new(book: Book, entity: Entity) -> Keeper {
        Keeper { book, entity, freezing: TaskTracker::new() }
    }

    /// Stores a contradiction; the connection that showed it is refused meanwhile.
    fn freeze(&self, agreement: AgreementId, shown: CertificateChain) {
        let book = self.book.clone();
        self.freezing.spawn(async move {
            if let Err(error) = book.freeze(&agreement, &shown).await {
                tracing::error!(%agreement, %error, "contradicting certificates could not be stored");
            }
        });
    }

    /// Also this node's operator is to read what was wrong, whichever side had dialled.
    fn turn_away(&self, agreement: &AgreementId, problem: HelloProblem) -> HelloRefusal {
        tracing::warn!(%agreement, %problem, "a counterpart's node was turned away");
        self.book.note_turned_away(*agreement, problem.clone());
        refusal(problem)
    }
}

impl Doorkeeper for Keeper {
    fn admit(&self, flight: Box<[u8; FLIGHT_BYTES]>) -> BoxFuture<'_, Option<Admission>> {
        async move {
            let (agreement, entity, hello) = self.book.admit(&flight).await?;
            Some(Admission { agreement, entity, hello })
        }
        .boxed()
    }

    fn flight<'a>(
        &'a self,
        target: &'a DialTarget,
        client_hello: Vec<u8>,
    ) -> BoxFuture<'a, Result<Box<[u8; FLIGHT_BYTES]>, DialError>> {
        async move {
            self.book.seal_flight(&target.agreement, &client_hello).await.map_err(|problem| match problem {
                FlightProblem::NoGrant => DialError::NoGrant,
                FlightProblem::Store(_) => DialError::Storage,
                FlightProblem::Flight(_) => DialError::Internal,
            })
        }
        .boxed()
    }

    fn own_hello(&self, _agreement: &AgreementId) -> Vec<u8> {
        let hello = Hello { chain: self.entity.chain(), versions: VersionRange::OURS, now: ambient::now() };
        hello.to_bytes()
    }

    fn check_hello(
        &self,
        agreement: &AgreementId,
        entity: &EntityId,
        tls_key: [u8; 32],
        hello: &[u8],
    ) -> Result<PeerNode, HelloRefusal> {
        let hello_bytes = hello;
        let hello = Hello::from_bytes(hello).map_err(|_| HelloRefusal::Malformed)?;
        let node = self.book.check_hello(agreement, entity, tls_key, &hello).map_err(|problem| {
            if problem.freezes() {
                self.freeze(*agreement, hello.chain.clone());
            }
            self.turn_away(agreement, problem)
        })?;
        Ok(PeerNode {
            entity: node.entity,
            agreement: *agreement,
            transport: node.transport.0,
            hello: hello_bytes.to_vec(),
        })
    }
}

fn refusal(problem: HelloProblem) -> HelloRefusal {
    match problem {
        HelloProblem::NoAgreement => HelloRefusal::NoAgreement,
        HelloProblem::Chain(_) | HelloProblem::Forked => HelloRefusal::BadChain,
        HelloProblem::OtherEntity => HelloRefusal::ForeignEntity,
        HelloProblem::OtherKey => HelloRefusal::ForeignKey,
        HelloProblem::Superseded | HelloProblem::ReplacedRoot => HelloRefusal::Superseded,
        HelloProblem::PeerNewer => HelloRefusal::PeerNewer,
        HelloProblem::PeerOlder => HelloRefusal::PeerOlder,
    }
}
