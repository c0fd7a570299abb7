//! TLS of both servers, and of the sink that trusts them.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use isthmus::identity::serving::{Refusals, ServerTls, ServingCertificate, serving_names};
use isthmus::testing::identity::{TestCa, TestCaOptions, now};
use isthmus::testing::secure::HOST;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// TLS of a server, whose root is left at `root`.
pub fn server(root: &Path) -> ServerTls {
    let ca = TestCa::root(TestCaOptions::new("root"));
    fs::write(root, ca.root_pem()).expect("a file");
    let names = serving_names("istio-system", "", "", "");
    let day = Duration::from_hours(24);
    let certificate = ServingCertificate::issue(&ca.authority(), &names, day, now());
    let tls = ServerTls::new(Refusals::default());
    tls.set_certificate(certificate.expect("a certificate"));
    tls
}

/// What connects to [`server`].
pub fn client(root: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).expect("a root");
    roots.add(root).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub async fn connect(
    client: &TlsConnector,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let host = ServerName::try_from(HOST).expect("a name");
    client.connect(host, socket).await
}
