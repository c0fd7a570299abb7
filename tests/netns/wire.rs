//! What a stranger between the networks sees of a gateway.

use std::{
    net::SocketAddrV4,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::namespace::Namespace;

const LIMIT: Duration = Duration::from_secs(5);

/// What is said to plain text.
pub(crate) async fn plain(from: &Namespace, to: SocketAddrV4) -> String {
    let Ok(mut stream) = from.connect(to.into()) else {
        return String::new();
    };
    let request = b"GET /hello HTTP/1.1\r\nhost: helloworld\r\n\r\n";
    // A gateway may close before it has read.
    let _ = stream.write_all(request).await;
    let mut said = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// The identities that whoever is behind a server name proves by a certificate
/// below `root`, and what it then says to one without a certificate.
pub(crate) async fn identities(
    from: &Namespace,
    to: SocketAddrV4,
    server_name: &str,
    root: &str,
) -> Result<Vec<String>, String> {
    let seen = Arc::new(Recorder::new(root));
    let provider = aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into());
    let builder = builder.with_safe_default_protocol_versions();
    let mut config = builder
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<_>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"istio".to_vec()];
    let stream = from.connect(to.into()).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(server_name.to_owned()).expect("a name");
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let connected = timeout(LIMIT, connected).await.map_err(|e| e.to_string())?;
    let found = seen.uris.lock().expect("no panic").clone();
    // With TLS 1.2 the handshake itself ends with the missing certificate.
    let Ok(mut stream) = connected else {
        return if found.is_empty() {
            Err("no handshake".to_owned())
        } else {
            Ok(found)
        };
    };
    let _ = stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let mut said = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut said)).await;
    assert_eq!(String::from_utf8_lossy(&said), "", "it talks to strangers");
    Ok(found)
}

/// Accepts what the root has signed, for any name, and remembers for whom.
#[derive(Debug)]
struct Recorder {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    uris: Mutex<Vec<String>>,
}

impl Recorder {
    fn new(root: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a root");
        }
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
            uris: Mutex::default(),
        }
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        *self.uris.lock().expect("no panic") = uris(leaf);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The URIs that a certificate is for.
fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("X.509");
    let names = certificate
        .subject_alternative_name()
        .expect("one extension");
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let uris = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}
