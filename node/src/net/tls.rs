//! TLS 1.3 between two nodes, with one choice for everything that TLS lets people choose.
//!
//! Each side shows a self-signed certificate whose libp2p extension proves an Ed25519 transport key. Every valid one is
//! accepted here: whose key it is, the certificate chain in the first frame decides.
//!
//! **Invariant:** X25519MLKEM768 and AES-256-GCM or nothing: a recording stays closed to a quantum computer.
//! **Invariant:** no tickets, no resumption, no ALPN, no SNI, no key log.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConnection};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version,
};
use zeroize::Zeroizing;

use super::error::NetError;

/// What a node shows of itself in TLS.
pub(super) struct TlsIdentity {
    pub(super) peer_id: PeerId,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl TlsIdentity {
    /// The identity of the Ed25519 transport key with this seed.
    pub(super) fn new(seed: &[u8; 32]) -> Result<TlsIdentity, NetError> {
        let mut seed = Zeroizing::new(*seed);
        let transport = Keypair::ed25519_from_bytes(&mut seed[..]).map_err(|_| NetError::Key)?;
        let (certificate, key) = certificate::generate(&transport).map_err(|_| NetError::Key)?;
        let key = provider::sign::any_ecdsa_type(&key).map_err(|_| NetError::Key)?;
        // The configuration's own `with_single_cert` refuses the critical libp2p extension.
        let shown = CertifiedKey::new(vec![certificate], key);
        let shown = Arc::new(SingleCertAndKey::from(shown));
        Ok(TlsIdentity {
            peer_id: transport.public().to_peer_id(),
            client: Arc::new(client_config(shown.clone())?),
            server: Arc::new(server_config(shown)?),
        })
    }

    /// A dialer's session that has said its ClientHello, and that ClientHello.
    pub(super) fn begin(&self) -> Result<(ClientConnection, Vec<u8>), Error> {
        let mut session = ClientConnection::new(self.client.clone(), no_name())?;
        let mut hello = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut hello).map_err(|_| Error::General("writing to memory failed".into()))?;
        }
        Ok((session, hello))
    }

    /// Finishes a handshake whose ClientHello is on its way already.
    pub(super) async fn connect<C>(&self, session: ClientConnection, io: C) -> io::Result<TlsStream<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.client.clone());
        let begun = connector.connect_with(no_name(), io, |fresh| *fresh = session);
        Ok(TlsStream::Client(begun.await?))
    }

    /// Answers a ClientHello that came through the door; a bad one gets no answer, not even an alert.
    pub(super) async fn accept<C>(&self, hello: &[u8], io: C) -> io::Result<TlsStream<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let session = self.answer(hello).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(self.server.clone());
        let begun = acceptor.accept_with(io, |fresh| *fresh = session);
        Ok(TlsStream::Server(begun.await?))
    }

    fn answer(&self, mut hello: &[u8]) -> Result<ServerConnection, Error> {
        let mut session = ServerConnection::new(self.server.clone())?;
        while !hello.is_empty() {
            session.read_tls(&mut hello).map_err(|_| Error::General("more than one ClientHello".into()))?;
            session.process_new_packets()?;
        }
        Ok(session)
    }
}

/// The Ed25519 transport key that the peer of a finished handshake has proven.
pub(super) fn transport_key(session: &CommonState) -> Option<[u8; 32]> {
    let [shown] = session.peer_certificates()? else {
        return None;
    };
    ed25519_of(&certificate::parse(shown).ok()?.peer_id())
}

/// The peer id that libp2p gives to a transport key.
pub(super) fn peer_id_of(transport: &[u8; 32]) -> Option<PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(transport).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// A peer id made from an Ed25519 key holds the key itself.
fn ed25519_of(peer: &PeerId) -> Option<[u8; 32]> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// TLS wants a name for the other side; an address is never sent.
fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])))
}

fn only_choices() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![provider::kx_group::X25519MLKEM768],
        ..provider::default_provider()
    })
}

fn client_config(shown: Arc<SingleCertAndKey>) -> Result<ClientConfig, NetError> {
    let mut config = ClientConfig::builder_with_provider(only_choices())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|_| NetError::Key)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyLibp2p))
        .with_client_cert_resolver(shown);
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(shown: Arc<SingleCertAndKey>) -> Result<ServerConfig, NetError> {
    let mut config = ServerConfig::builder_with_provider(only_choices())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|_| NetError::Key)?
        .with_client_cert_verifier(Arc::new(AnyLibp2p))
        .with_cert_resolver(shown);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Accepts exactly one certificate with a valid libp2p extension for an Ed25519 key.
#[derive(Debug)]
struct AnyLibp2p;

impl AnyLibp2p {
    fn check(shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let refused = CertificateError::ApplicationVerificationFailure;
        let parsed = certificate::parse(shown).ok();
        let is_ed25519 = parsed.is_some_and(|certificate| ed25519_of(&certificate.peer_id()).is_some());
        match is_ed25519 && more.is_empty() {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(refused)),
        }
    }

    fn check_signature(
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate::parse(shown)
            .ok()
            .and_then(|certificate| certificate.verify_signature(signed.scheme, message, signed.signature()).ok())
            .map(|()| HandshakeSignatureValid::assertion())
            .ok_or(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 is the only version".into()))
}

impl ServerCertVerifier for AnyLibp2p {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check(shown, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for AnyLibp2p {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check(shown, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use pakt_protocol::door::HELLO_BYTES_MAX;
    use rustls::crypto::SupportedKxGroup;
    use rustls::{NamedGroup, SupportedCipherSuite};
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    use super::*;

    #[test]
    fn a_client_hello_fits_one_flight_and_names_nobody() {
        let (_, hello) = TlsIdentity::new(&[1; 32]).unwrap().begin().unwrap();
        assert!((1216..=HELLO_BYTES_MAX).contains(&hello.len()), "{}", hello.len());
        let record_bytes = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
        assert_eq!(hello.len(), 5 + record_bytes, "one record");
        assert!(!hello.windows(4).any(|w| w.eq_ignore_ascii_case(b"pakt")));
    }

    #[test]
    fn p9_a_hello_without_the_hybrid_or_with_another_cipher_gets_no_answer() {
        use provider::cipher_suite::*;
        use provider::kx_group::*;
        let server = TlsIdentity::new(&[2; 32]).unwrap();
        let check = |group: &'static dyn SupportedKxGroup, suite: SupportedCipherSuite, good| {
            let provider =
                CryptoProvider { cipher_suites: vec![suite], kx_groups: vec![group], ..provider::default_provider() };
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&version::TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyLibp2p))
                .with_no_client_auth();
            let mut session = ClientConnection::new(Arc::new(config), no_name()).unwrap();
            let mut hello = Vec::new();
            session.write_tls(&mut hello).unwrap();
            assert_eq!(server.answer(&hello).is_ok(), good, "{:?} {suite:?}", group.name());
        };
        check(X25519MLKEM768, TLS13_AES_256_GCM_SHA384, true);
        check(X25519, TLS13_AES_256_GCM_SHA384, false);
        check(SECP256R1MLKEM768, TLS13_AES_256_GCM_SHA384, false);
        check(MLKEM768, TLS13_AES_256_GCM_SHA384, false);
        check(X25519MLKEM768, TLS13_AES_128_GCM_SHA256, false);
        check(X25519MLKEM768, TLS13_CHACHA20_POLY1305_SHA256, false);
        assert!(server.answer(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]).is_err());
        assert!(server.answer(&[7; 600]).is_err());
    }

    #[tokio::test]
    async fn each_side_learns_the_key_of_the_other() {
        let [a, b] = [1, 2].map(|seed| TlsIdentity::new(&[seed; 32]).unwrap());
        let (near, far) = tokio::io::duplex(1 << 16);
        let (session, hello) = a.begin().unwrap();
        let (dialled, accepted) = tokio::join!(a.connect(session, near.compat()), b.accept(&hello, far.compat()));
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let (client, server) = (dialled.get_ref().1, accepted.get_ref().1);
        assert_eq!(transport_key(client).and_then(|key| peer_id_of(&key)), Some(b.peer_id));
        assert_eq!(transport_key(server).and_then(|key| peer_id_of(&key)), Some(a.peer_id));
        assert_eq!(client.alpn_protocol(), None);
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        let suite = client.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    }

    #[tokio::test]
    async fn a_dialer_without_a_certificate_is_refused() {
        let b = TlsIdentity::new(&[2; 32]).unwrap();
        let config = ClientConfig::builder_with_provider(only_choices())
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyLibp2p))
            .with_no_client_auth();
        let config = Arc::new(config);
        let mut session = ClientConnection::new(config.clone(), no_name()).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let connecting = TlsConnector::from(config).connect_with(no_name(), near.compat(), |fresh| *fresh = session);
        let (_, accepted) = tokio::join!(connecting, b.accept(&hello, far.compat()));
        assert!(accepted.is_err());
    }
}
