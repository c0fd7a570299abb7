//! Connections of the agent's own to the control plane, beside Envoy's.

use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::{ServerCheck, Upstream};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum DialError {
    /// A file of certificates or keys is missing or is not what it should be.
    #[error("{path:?}: {problem}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The roots or the own certificate cannot be used.
    #[error("cannot use the certificates for {server}: {source}")]
    Tls {
        /// The server.
        server: String,
        /// Why.
        source: rustls::Error,
    },
    /// The name to check is none.
    #[error("{0:?} is neither a host name nor an address: set ISTIOD_SAN to one")]
    Name(String),
    /// No connection.
    #[error("cannot connect to {server}: {problem}")]
    Connect {
        /// The server.
        server: String,
        /// Why, with its causes.
        problem: String,
    },
}

/// A certificate that says who dials.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Dials `upstream`; the roots are read now, so that changed ones count.
pub(super) async fn dial(
    upstream: &Upstream,
    client: Option<ClientCertificate>,
) -> Result<Channel, DialError> {
    let server = format!("{}:{}", upstream.host, upstream.port);
    let tls = match &upstream.tls {
        Some(check) => Some(connector(check, client, &server).await?),
        None => None,
    };
    let address = (upstream.host.clone(), upstream.port);
    let connect = service_fn(move |_: Uri| connect(address.clone(), tls.clone()));
    let refused = |problem| DialError::Connect {
        server: server.clone(),
        problem,
    };
    let endpoint = Channel::from_shared(format!("http://{}", authority(upstream)))
        .map_err(|error| refused(error.to_string()))?;
    let channel = tuned(endpoint).connect_with_connector(connect).await;
    channel.map_err(|error| refused(causes(&error)))
}

/// What the server sees as `:authority`.
fn authority(upstream: &Upstream) -> String {
    let Upstream { host, port, .. } = upstream;
    if host.contains(':') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
}

/// A socket, with TLS around it where that is wanted.
type Socket = TokioIo<Box<dyn Stream>>;

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(
    (host, port): (String, u16),
    tls: Option<(TlsConnector, ServerName<'static>)>,
) -> io::Result<Socket> {
    let socket = TcpStream::connect((host.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match tls {
        Some((connector, name)) => Box::new(connector.connect(name, socket).await?),
        None => Box::new(socket),
    };
    Ok(TokioIo::new(stream))
}

async fn connector(
    check: &ServerCheck,
    client: Option<ClientCertificate>,
    server: &str,
) -> Result<(TlsConnector, ServerName<'static>), DialError> {
    let unusable = |source| DialError::Tls {
        server: server.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&check.roots.path()).await? {
        roots.add(certificate).map_err(unusable)?;
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match client {
        Some(own) => builder
            .with_client_auth_cert(own.chain, own.key)
            .map_err(unusable)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(check.name.clone());
    let name = name.map_err(|_| DialError::Name(check.name.clone()))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// The certificates of a PEM file.
pub(super) async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let wrong = |problem: String| DialError::Pem {
        path: path.to_owned(),
        problem,
    };
    let text = tokio::fs::read(path)
        .await
        .map_err(|e| wrong(e.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong("it holds no certificate".to_owned())),
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The private key of a PEM file.
pub(super) async fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, DialError> {
    let wrong = |problem: String| DialError::Pem {
        path: path.to_owned(),
        problem,
    };
    let text = tokio::fs::read(path)
        .await
        .map_err(|e| wrong(e.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| wrong(e.to_string()))
}

/// An error and what it comes from: tonic's own text is "transport error".
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
