//! The way to the control plane: TCP or TLS, HTTP/2, and the call.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderValue, Request, header};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use tonic::Status;

use super::args::ServerArgs;
use super::error::LoadError;
use super::grpc::Unreadable;
use super::offender::Reading;
use super::walk::{Malformed, Variant};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("the connection failed: {0}")]
    Connection(#[from] h2::Error),
    #[error("the server said {:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    #[error("the server closed the connection")]
    Closed,
    #[error("the client left")]
    Left,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl End {
    /// Few words, to count by.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Connect(_) => "no connection".to_owned(),
            Self::Connection(error) => match error.reason() {
                Some(reason) => format!("{reason:?}"),
                None => "connection lost".to_owned(),
            },
            Self::Status(status) => format!("{:?}", status.code()),
            Self::Closed => "connection closed".to_owned(),
            Self::Left => "left".to_owned(),
            Self::Unreadable(_) | Self::Malformed(_) => "unreadable".to_owned(),
        }
    }
}

/// Whatever carries HTTP/2.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// One HTTP/2 connection: whoever holds it must poll the second part.
pub(super) type Link = (SendRequest<Bytes>, Box<Connection<Box<dyn Carrier>, Bytes>>);

/// The control plane under load.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// `Bearer …`, which its `Debug` does not tell.
    token: Option<HeaderValue>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Resolves the address and reads the files.
    pub(super) async fn open(args: &ServerArgs) -> Result<Self, LoadError> {
        let unresolved = |problem| LoadError::Address {
            address: args.address.clone(),
            problem,
        };
        let found = lookup_host(&args.address).await;
        let mut found = found.map_err(|error| unresolved(error.to_string()))?;
        let first = found.next();
        let address = first.ok_or_else(|| unresolved("it has no address".to_owned()))?;
        let tls = args.tls_ca.as_deref().map(|ca| tls(args, ca)).transpose()?;
        let token = args.token.as_deref().map(bearer).transpose()?;
        Ok(Self {
            address,
            authority: args.address.clone(),
            tls,
            token,
        })
    }

    /// Whether anybody is there.
    pub(super) async fn probe(&self) -> Result<(), LoadError> {
        let connected = self.connect(Reading::All).await;
        connected.map(drop).map_err(|end| LoadError::NoServer {
            address: self.authority.clone(),
            problem: end.to_string(),
        })
    }

    /// A connection of its own, with a window for how it will be read.
    pub(super) async fn connect(&self, reading: Reading) -> Result<Link, End> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let carrier: Box<dyn Carrier> = match &self.tls {
            None => Box::new(socket),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), socket).await?),
        };
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(reading.window())
            .initial_connection_window_size(64 << 20)
            // A stream of single bytes is what was asked for.
            .data_frame_budget(usize::MAX >> 1);
        let (send, connection) = builder.handshake(carrier).await?;
        Ok((send, Box::new(connection)))
    }

    /// The call that opens a stream.
    pub(super) fn call(&self, variant: Variant) -> Request<()> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let method = match variant {
            Variant::Delta => "DeltaAggregatedResources",
            Variant::Sotw => "StreamAggregatedResources",
        };
        let authority = &self.authority;
        let service = "envoy.service.discovery.v3.AggregatedDiscoveryService";
        let uri = format!("{scheme}://{authority}/{service}/{method}");
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        // The address was resolved, so it has the form of an authority.
        *request.uri_mut() = uri.parse().unwrap_or_default();
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, grpc);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        request
    }
}

fn file(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::File {
        path: path.to_owned(),
        problem: source.to_string(),
    })
}

fn bearer(path: &Path) -> Result<HeaderValue, LoadError> {
    let text = file(path)?;
    let value = [b"Bearer ", text.trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| LoadError::File {
        path: path.to_owned(),
        problem: "it is no token: a header cannot hold it".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let pem = file(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| LoadError::File {
            path: path.to_owned(),
            problem: "it holds no certificate in PEM".to_owned(),
        })
}

fn tls(args: &ServerArgs, ca: &Path) -> Result<(TlsConnector, ServerName<'static>), LoadError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(ca)?);
    if added == 0 {
        return Err(LoadError::File {
            path: ca.to_owned(),
            problem: "none of its certificates can be trusted".to_owned(),
        });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(LoadError::Tls)?
        .with_root_certificates(roots);
    let mut config = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key_path)) => {
            let key = PrivateKeyDer::from_pem_slice(&file(key_path)?);
            // What is wrong with a key is not told: it might say what is in it.
            let key = key.map_err(|_| LoadError::File {
                path: key_path.clone(),
                problem: "it holds no private key in PEM".to_owned(),
            })?;
            let own = builder.with_client_auth_cert(certificates(cert)?, key);
            own.map_err(LoadError::Tls)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(args.tls_name.clone()).map_err(|_| LoadError::Address {
        address: args.tls_name.clone(),
        problem: "it is no name that a certificate could have".to_owned(),
    })?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}
