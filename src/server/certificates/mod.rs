//! `istio.v1.auth.IstioCertificateService`: signs certificates for callers
//! that showed who they are.

mod metrics;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use http_body::Body;
use prost::Message as _;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tonic::Status;
use tracing::debug;

use self::metrics::{Metrics, SignError};
use super::State;
use super::messages::Messages;
use crate::auth::{Clock, Credentials};
use crate::identity::{CertificateAuthority, IssueError, IssueRequest, RefusedRequest, Unable};
use crate::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

pub(super) const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Bytes of a request; a CSR has one or two thousand.
pub(super) const LARGEST: usize = 64 * 1024;

/// Time for all of it. The agent sets none, and would wait for ever.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks for the certificate of another workload: ztunnel does, and nobody here
/// may.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// Signs requests, as many at once as there are cores.
#[derive(Debug)]
pub struct Certificates {
    authority: CertificateAuthority,
    turns: Arc<Semaphore>,
    metrics: Metrics,
    now: Clock,
}

impl Certificates {
    /// A service that has `authority` sign.
    pub fn new(
        authority: CertificateAuthority,
        now: Clock,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            authority,
            turns: Arc::new(Semaphore::new(cores)),
            metrics: Metrics::register(registry),
            now,
        }
    }

    /// Answers one request; the status of everything that is wrong with it is
    /// istiod's.
    pub(super) async fn create<B>(
        &self,
        state: &State,
        credentials: &Credentials,
        body: &mut Messages<B>,
    ) -> Result<IstioCertificateResponse, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.metrics.requests.inc();
        let answer = timeout(LIMIT, self.answer(state, credentials, body));
        let late = || {
            let seconds = LIMIT.as_secs();
            Status::deadline_exceeded(format!("no certificate within {seconds} seconds"))
        };
        answer.await.unwrap_or_else(|_| Err(late()))
    }

    async fn answer<B>(
        &self,
        state: &State,
        credentials: &Credentials,
        body: &mut Messages<B>,
    ) -> Result<IstioCertificateResponse, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // The trust domain of the mesh is not known before.
        if !state.is_ready() {
            return Err(Status::unavailable(
                "server is not ready to sign certificates",
            ));
        }
        let gate = state.gate.as_ref();
        let gate = gate.ok_or_else(|| Status::unimplemented("no certificates are signed here"))?;
        // Before the request is read: strangers are to cost little.
        let caller = gate.for_certificates(credentials).await;
        let caller = caller.map_err(|error| {
            self.metrics.unauthenticated.inc();
            super::admission::status_of(&error)
        })?;
        let request = read(body).await?;
        if impersonates(request.metadata.as_ref()) {
            self.metrics.unauthenticated.inc();
            let text = "request impersonation authentication failure";
            return Err(Status::unauthenticated(text));
        }
        let chain = self.sign(request, caller.identities).await?;
        Ok(IstioCertificateResponse { cert_chain: chain })
    }

    /// Signs on a thread that may block: it is milliseconds of pure work.
    async fn sign(
        &self,
        request: IstioCertificateRequest,
        identities: Vec<String>,
    ) -> Result<Vec<String>, Status> {
        let (authority, now) = (self.authority.clone(), (self.now)());
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let signed = spawn_blocking(move || {
            let issued = authority.issue(&IssueRequest {
                csr_pem: &request.csr,
                identities: &identities,
                validity_seconds: request.validity_duration,
                now,
            });
            drop(turn);
            (issued, identities)
        });
        let signed = signed.await;
        let (issued, identities) =
            signed.map_err(|_| Status::internal("CSR signing error (it was interrupted)"))?;
        match issued {
            Ok(chain) => {
                self.metrics.issued.inc();
                debug!(?identities, "certificate issued");
                Ok(chain)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &IssueError) -> Status {
        self.metrics.failed(kind_of(error));
        let text = format!("CSR signing error ({error})");
        match error {
            IssueError::InvalidRequest(_) => Status::invalid_argument(text),
            _ => Status::internal(text),
        }
    }
}

/// istiod's names of what went wrong.
fn kind_of(error: &IssueError) -> SignError {
    match error {
        IssueError::InvalidRequest(RefusedRequest::Lifetime { .. }) => SignError::Ttl,
        IssueError::InvalidRequest(_) => SignError::Csr,
        IssueError::Internal(Unable::NotReady) => SignError::NotReady,
        _ => SignError::CertGen,
    }
}

async fn read<B>(body: &mut Messages<B>) -> Result<IstioCertificateRequest, Status>
where
    B: Body<Data = Bytes> + Unpin,
{
    let message = body.next().await?;
    let message = message.ok_or_else(|| Status::invalid_argument("the request is missing"))?;
    let request = IstioCertificateRequest::decode(message);
    request.map_err(|error| Status::invalid_argument(format!("request does not decode: {error}")))
}

fn impersonates(metadata: Option<&Struct>) -> bool {
    let value = metadata.and_then(|all| all.fields.get(IMPERSONATED));
    let text = value.and_then(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.as_str()),
        _ => None,
    });
    text.is_some_and(|text| !text.is_empty())
}
