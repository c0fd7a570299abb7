//! From an HTTP request to a stream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use super::admission::Admission;
use super::body::ResponseBody;
use super::handshake::Handshakes;
use super::limit::Limits;
use super::messages::Messages;
use super::requests::Requests;
use super::stream::Stream;
use super::unary::Call;
use super::{Peer, State, certificates};
use crate::ads::Variant;
use crate::auth::Credentials;

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// ADS, and the certificate service, over HTTP messages, whatever carries them:
/// connections in production, nothing in benches.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) state: Arc<State>,
    /// Parent of every connection and stream.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) limits: Arc<Limits>,
}

impl Service {
    /// A service without streams.
    pub fn new(state: Arc<State>) -> Self {
        Self {
            limits: Arc::new(Limits::new(&state)),
            handshakes: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            state,
        }
    }

    /// Starts the stream that `request` asks for.
    pub fn respond<B>(&self, peer: &Peer, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let content = request.headers().get(CONTENT_TYPE);
        let is_grpc = content.is_some_and(|v| v.as_bytes().starts_with(GRPC.as_bytes()));
        if request.method() != Method::POST || !is_grpc {
            let mut response = Response::new(ResponseBody::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let (head, body) = request.into_parts();
        let body = match head.uri.path() {
            DELTA => self.start(Variant::Delta, peer, &head.headers, body),
            SOTW => self.start(Variant::Sotw, peer, &head.headers, body),
            certificates::CREATE => self.call(peer, &head.headers, body),
            _ => {
                let text = "only the aggregated discovery service (ADS) and istio's \
                            certificate service are served here";
                return Status::unimplemented(text).into_http();
            }
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    fn start<B>(&self, variant: Variant, peer: &Peer, headers: &HeaderMap, body: B) -> ResponseBody
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let limits = Arc::clone(&self.limits);
        let standing = match limits.monitor.admit(peer) {
            Ok(standing) => standing,
            Err(status) => {
                self.state.metrics.refusals.request(peer.address, &status);
                return ResponseBody::ended(status);
            }
        };
        let max = self.state.config.max_request_bytes;
        let requests = Requests::new(body, variant, max, Arc::clone(&limits.budget));
        let state = Arc::clone(&self.state);
        let credentials = Credentials::new(peer.address, &peer.channel, headers);
        let admission = Admission::Presented(Box::new(credentials));
        let from = (Arc::clone(&standing), admission);
        let stream = Stream::new(state, variant, from, requests, limits);
        ResponseBody::new(stream).watched(standing)
    }

    fn call<B>(&self, peer: &Peer, headers: &HeaderMap, body: B) -> ResponseBody
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let call = Call {
            state: Arc::clone(&self.state),
            peer: peer.address,
            credentials: Credentials::new(peer.address, &peer.channel, headers),
            request: Messages::new(body, certificates::LARGEST, Arc::clone(&self.limits.budget)),
        };
        ResponseBody::new(Box::new(call.answer(self.stop.clone())))
    }
}
