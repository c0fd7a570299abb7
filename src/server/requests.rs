//! Reads the requests of a stream.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use http_body::Body;
use prost::Message;
use tonic::Status;

use super::apart::apart;
use super::budget::Budget;
use super::messages::Messages;
use crate::ads::{Request, Variant};

/// Bytes that take so long to decode that other tasks must not wait for it; an
/// Envoy's first request is smaller.
const LARGE: usize = 256 * 1024;

/// The request side of a stream.
#[derive(Debug)]
pub(super) struct Requests<B> {
    messages: Messages<B>,
    variant: Variant,
}

impl<B: Body<Data = Bytes> + Unpin> Requests<B> {
    pub(super) fn new(body: B, variant: Variant, limit: usize, budget: Arc<Budget>) -> Self {
        Self {
            messages: Messages::new(body, limit, budget),
            variant,
        }
    }

    /// The next request; `None` when the client has no more.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Request>, Status>> {
        let message = ready!(self.messages.poll_next(cx))?;
        Poll::Ready(message.map(|message| self.decode(message)).transpose())
    }

    fn decode(&self, message: Bytes) -> Result<Request, Status> {
        let long = message.len() >= LARGE;
        let decoded = apart(long, || match self.variant {
            Variant::Delta => DeltaDiscoveryRequest::decode(message).map(Request::Delta),
            Variant::Sotw => DiscoveryRequest::decode(message).map(Request::Sotw),
        });
        decoded.map_err(|e| Status::invalid_argument(format!("request does not decode: {e}")))
    }
}

#[cfg(test)]
mod tests;
