//! Who a verified client is.

use rustls::pki_types::CertificateDer;

use crate::identity::certificate::uri_sans;

/// The identities of a client whose chain was verified in the handshake: the
/// URI names of its own certificate. Empty without one.
pub fn peer_identities(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let own = chain.first().and_then(|certificate| uri_sans(certificate));
    own.unwrap_or_default()
}
