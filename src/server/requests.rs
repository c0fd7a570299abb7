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

use super::messages::{Budget, Messages};
use crate::ads::{Request, Variant};

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
        let decoded = match self.variant {
            Variant::Delta => DeltaDiscoveryRequest::decode(message).map(Request::Delta),
            Variant::Sotw => DiscoveryRequest::decode(message).map(Request::Sotw),
        };
        decoded.map_err(|e| Status::invalid_argument(format!("request does not decode: {e}")))
    }
}

#[cfg(test)]
mod tests;
