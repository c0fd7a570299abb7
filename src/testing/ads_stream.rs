//! A session with a hand-made world: a stream without a network.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "used by tests, which may panic"
)]

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;

use super::ads_world::{FakeWorld, Response, node};
use super::told::Told;
use crate::ads::{Options, ProtocolError, Received, Request, Session, Variant};
use crate::mesh::ChangeSet;
use crate::model::TypeUrl;

/// A stream of one proxy. Methods that send panic where the session ends the
/// stream.
#[derive(Debug)]
pub struct FakeStream {
    /// The session.
    pub session: Session,
    /// What its proxy gets.
    pub world: FakeWorld,
    variant: Variant,
    told: Told,
}

/// A delta request of one type.
pub fn delta(kind: TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: kind.as_str().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A `SotW` request of one type.
pub fn sotw(kind: TypeUrl, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node()),
        type_url: kind.as_str().to_owned(),
        resource_names: owned(names),
        ..DiscoveryRequest::default()
    }
}

/// Names as a request has them.
pub fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// What makes a request a NACK.
pub fn rejection() -> Option<Status> {
    Some(Status {
        code: 13,
        message: "no\nthanks".to_owned(),
        ..Status::default()
    })
}

impl FakeStream {
    /// A stream before its first request.
    pub fn new(variant: Variant, world: FakeWorld) -> Self {
        Self::with_options(variant, world, Options::default())
    }

    /// A stream with options of its own.
    pub fn with_options(variant: Variant, world: FakeWorld, options: Options) -> Self {
        Self {
            session: Session::new(variant, Arc::new(options)),
            world,
            variant,
            told: Told::default(),
        }
    }

    /// Sends a delta request.
    pub fn send(&mut self, request: DeltaDiscoveryRequest) -> Result<Received, ProtocolError> {
        self.request(Request::Delta(request))
    }

    /// Sends a `SotW` request.
    pub fn send_sotw(&mut self, request: DiscoveryRequest) -> Result<Received, ProtocolError> {
        self.request(Request::Sotw(request))
    }

    fn request(&mut self, request: Request) -> Result<Received, ProtocolError> {
        let received = self.session.on_request(request)?;
        self.told.follow(&mut self.session);
        Ok(received)
    }

    /// Delta: subscribes to `add` and unsubscribes from `drop`, without a nonce.
    pub fn subscribe(&mut self, kind: TypeUrl, add: &[&str], drop: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            resource_names_subscribe: owned(add),
            resource_names_unsubscribe: owned(drop),
            ..delta(kind)
        })
        .expect("the stream goes on");
    }

    /// `SotW`: asks for `names` as an answer to `last`, or without a nonce.
    pub fn ask(&mut self, kind: TypeUrl, names: &[&str], last: Option<&Response>) -> Received {
        self.send_sotw(DiscoveryRequest {
            response_nonce: last.map_or_else(String::new, |r| r.nonce.clone()),
            version_info: last.map_or_else(String::new, |r| r.version.clone()),
            ..sotw(kind, names)
        })
        .expect("the stream goes on")
    }

    /// Delta: ACKs a response.
    pub fn ack(&mut self, response: &Response) -> Received {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .expect("the stream goes on")
    }

    /// Delta: NACKs a response.
    pub fn nack(&mut self, response: &Response) -> Received {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: rejection(),
            ..DeltaDiscoveryRequest::default()
        })
        .expect("the stream goes on")
    }

    /// Changes the world and tells the session.
    pub fn change(&mut self, changes: ChangeSet, change: impl FnOnce(&mut FakeWorld)) {
        change(&mut self.world);
        self.told.tell(&mut self.session, changes);
    }

    /// The next response, if there is one to send.
    pub fn poll(&mut self) -> Option<Response> {
        let due = self.session.is_due();
        let next = self.session.poll(&self.world).map(Response::from);
        assert!(due || next.is_none(), "sent without being due: {next:?}");
        next
    }

    /// The next response, which must be of `kind`. A delta one is answered by an
    /// ACK.
    pub fn expect(&mut self, kind: TypeUrl) -> Response {
        let response = self.poll().expect("a response");
        assert_eq!(response.type_url, kind.as_str(), "{response:?}");
        if self.variant == Variant::Delta {
            self.ack(&response);
        }
        response
    }

    /// Nothing is to be sent.
    pub fn expect_silence(&mut self) {
        let next = self.poll();
        assert!(next.is_none(), "unexpected {next:?}");
        assert!(!self.session.is_due());
    }
}
