//! Envoy's admin interface.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// As long as Kubernetes waits for an answer of a readiness probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AdminError {
    /// No connection.
    #[error("Envoy's admin interface cannot be reached: {0}")]
    Connect(#[from] io::Error),
    /// No answer.
    #[error("Envoy's admin interface does not answer: {0}")]
    Answer(#[from] hyper::Error),
    /// Not in time.
    #[error("Envoy's admin interface does not answer in 3 s")]
    Late,
    /// The request is refused.
    #[error("Envoy's admin interface answers {path} with {status}")]
    Status {
        /// What was asked.
        path: String,
        /// The answer.
        status: StatusCode,
    },
}

/// The admin interface at an address.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    host: &'static str,
    port: u16,
}

impl Admin {
    pub(super) fn new((host, port): (&'static str, u16)) -> Self {
        Self { host, port }
    }

    /// A page.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, AdminError> {
        self.ask(Method::GET, path).await
    }

    /// Does something.
    pub(super) async fn post(&self, path: &str) -> Result<Bytes, AdminError> {
        self.ask(Method::POST, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Bytes, AdminError> {
        timeout(ANSWER_TIMEOUT, self.exchange(method, path))
            .await
            .unwrap_or(Err(AdminError::Late))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, AdminError> {
        let stream = TcpStream::connect((self.host, self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let host = http::HeaderValue::from_static("envoy");
        request.headers_mut().insert(http::header::HOST, host);
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, body))
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        let (status, body) = tokio::select! {
            answer = &mut exchange => answer?,
            // Closed after the answer, or broken.
            ended = &mut connection => {
                ended?;
                exchange.await?
            }
        };
        if !status.is_success() {
            let path = path.to_owned();
            return Err(AdminError::Status { path, status });
        }
        Ok(body)
    }
}
