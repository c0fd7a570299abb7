//! From an HTTP request to a stream.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use super::State;
use super::body::ResponseBody;
use super::limit::StreamLimit;
use super::requests::{Budget, Requests};
use super::stream::Stream;
use crate::ads::Variant;

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// ADS over HTTP messages, whatever carries them: connections in production,
/// nothing in benches.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) state: Arc<State>,
    /// Parent of every connection and stream.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    limit: Arc<StreamLimit>,
    budget: Arc<Budget>,
}

impl Service {
    /// A service without streams.
    pub fn new(state: Arc<State>) -> Self {
        let config = &state.config;
        Self {
            limit: Arc::new(StreamLimit::new(config.streams_per_second)),
            budget: Arc::new(Budget::new(config.max_requests_bytes)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            state,
        }
    }

    /// Starts the stream that `request` asks for.
    pub fn respond<B>(&self, peer: SocketAddr, request: Request<B>) -> Response<ResponseBody>
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
        let variant = match request.uri().path() {
            DELTA => Variant::Delta,
            SOTW => Variant::Sotw,
            _ => {
                let text = "only the aggregated discovery service (ADS) is served here";
                return Status::unimplemented(text).into_http();
            }
        };
        let body = self.start(variant, peer, request.into_body());
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    fn start<B>(&self, variant: Variant, peer: SocketAddr, body: B) -> ResponseBody
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (out, response) = ResponseBody::new();
        let max = self.state.config.max_request_bytes;
        let requests = Requests::new(body, variant, max, Arc::clone(&self.budget));
        let (limit, stop) = (Arc::clone(&self.limit), self.stop.clone());
        let state = Arc::clone(&self.state);
        let stream = Stream::new(state, variant, peer, requests, out);
        self.tasks.spawn(stream.run(limit, stop));
        response
    }
}
