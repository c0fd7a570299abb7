//! SDS on a unix socket.

use std::{
    fs::Permissions,
    io,
    os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
    path::Path,
    pin::Pin,
};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures::{Stream, stream};
use tokio::{net::UnixListener, sync::watch};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{Secrets, stream::Wanted};

/// A longer path does not fit into the kernel's address of a unix socket.
const LONGEST_PATH: usize = 107;

/// Why secrets cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The path is too long.
    #[error(
        "the path of the secrets socket, {0:?}, has more than 107 characters: give a shorter --config-path"
    )]
    Path(String),
    /// The socket cannot be made.
    #[error("cannot listen on {path:?}: {source}")]
    Listen {
        /// The socket.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server failed.
    #[error("secrets are not served any more: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// The socket. Only this user may open it: who can gets the private key.
pub(in crate::agent) fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(ServeError::Path(path.display().to_string()));
    }
    let failed = |source| ServeError::Listen {
        path: path.to_owned(),
        source,
    };
    // A socket that an earlier process left behind is in the way; one that
    // somebody answers on is another agent's.
    if StdStream::connect(path).is_ok() {
        return Err(failed(io::ErrorKind::AddrInUse.into()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves `secrets` for ever.
pub(in crate::agent) async fn serve(
    listener: UnixListener,
    secrets: Secrets,
) -> Result<(), ServeError> {
    let accepted = stream::unfold(listener, |listener| async move {
        let socket = listener.accept().await.map(|(socket, _)| socket);
        Some((socket, listener))
    });
    let service = SecretDiscoveryServiceServer::new(Service { secrets });
    let server = Server::builder().add_service(service);
    Ok(server.serve_with_incoming(accepted).await?)
}

struct Service {
    secrets: Secrets,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One variant of the protocol.
trait Variant {
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn take(wanted: &mut Wanted, request: Self::Request);
    fn answer(wanted: &mut Wanted, secrets: &Secrets) -> Option<Self::Response>;
}

struct Sotw;

impl Variant for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(wanted: &mut Wanted, request: DiscoveryRequest) {
        wanted.on_request(request);
    }

    fn answer(wanted: &mut Wanted, secrets: &Secrets) -> Option<DiscoveryResponse> {
        wanted.response(secrets)
    }
}

struct Delta;

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(wanted: &mut Wanted, request: DeltaDiscoveryRequest) {
        wanted.on_delta_request(request);
    }

    fn answer(wanted: &mut Wanted, secrets: &Secrets) -> Option<DeltaDiscoveryResponse> {
        wanted.delta_response(secrets)
    }
}

/// One stream.
struct Conversation<V: Variant> {
    requests: Streaming<V::Request>,
    secrets: Secrets,
    changed: watch::Receiver<u64>,
    wanted: Wanted,
}

impl<V: Variant + 'static> Conversation<V> {
    fn answers(secrets: &Secrets, requests: Streaming<V::Request>) -> Answers<V::Response> {
        let conversation = Self {
            requests,
            changed: secrets.watch(),
            secrets: secrets.clone(),
            wanted: Wanted::default(),
        };
        Box::pin(stream::unfold(conversation, |mut this| async move {
            let next = this.next().await?;
            Some((next, this))
        }))
    }

    /// The next answer; none when Envoy has gone.
    async fn next(&mut self) -> Option<Result<V::Response, Status>> {
        loop {
            self.changed.borrow_and_update();
            if let Some(answer) = V::answer(&mut self.wanted, &self.secrets) {
                return Some(Ok(answer));
            }
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        V::take(&mut self.wanted, request);
                        for name in self.wanted.names() {
                            self.secrets.want(name);
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => return Some(Err(status)),
                },
                changed = self.changed.changed() => changed.ok()?,
            }
        }
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let answers = Conversation::<Delta>::answers(&self.secrets, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let answers = Conversation::<Sotw>::answers(&self.secrets, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn fetch_secrets(
        &self,
        _request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are streamed, not fetched"))
    }
}
