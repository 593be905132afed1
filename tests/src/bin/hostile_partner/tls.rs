//! The TLS of somebody who has no manners: any key, any key exchange, and whoever answers is believed.

use std::sync::Arc;

use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version};

/// The only key exchange that nodes take.
pub(crate) const HYBRID: &dyn SupportedKxGroup = provider::kx_group::X25519MLKEM768;
/// One that a quantum computer breaks.
pub(crate) const CLASSICAL: &dyn SupportedKxGroup = provider::kx_group::X25519;

/// A dialer's session that has said its ClientHello, and that ClientHello.
///
/// # Panics
/// Never for a seed of 32 bytes.
pub(crate) fn begin(transport_seed: &[u8; 32], exchange: &'static dyn SupportedKxGroup) -> (ClientConnection, Vec<u8>) {
    let mut seed = *transport_seed;
    let transport = Keypair::ed25519_from_bytes(&mut seed[..]).expect("32 bytes are a seed");
    let (certificate, key) = certificate::generate(&transport).expect("a certificate can be made");
    let key = provider::sign::any_ecdsa_type(&key).expect("it is an ECDSA key");
    let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));
    let choices = CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![exchange],
        ..provider::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(choices))
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_cert_resolver(shown);
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
    let mut session = ClientConnection::new(Arc::new(config), nobody).expect("the choices fit together");
    let mut hello = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut hello).expect("memory can be written");
    }
    (session, hello)
}

#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
