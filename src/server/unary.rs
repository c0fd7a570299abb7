//! One call with one answer.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::State;
use super::body::{Item, Source};
use super::message::Message;
use super::messages::Messages;
use crate::auth::Credentials;

/// A call of `CreateCertificate`.
pub(super) struct Call<B> {
    pub(super) state: Arc<State>,
    pub(super) peer: SocketAddr,
    pub(super) credentials: Credentials,
    pub(super) request: Messages<B>,
}

/// The answer in the making, then its status.
pub(super) struct Answer {
    answer: Option<BoxFuture<'static, Result<Message, Status>>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Call<B> {
    /// Answers it. A stop lets it finish: it is bounded in time.
    pub(super) fn answer(self, stop: CancellationToken) -> Answer {
        let answer = Box::pin(async move {
            if stop.is_cancelled() {
                return Err(Status::unavailable("server is shutting down"));
            }
            self.create().await
        });
        Answer {
            answer: Some(answer),
        }
    }

    async fn create(mut self) -> Result<Message, Status> {
        let service = self.state.certificates.as_ref();
        let unserved = || Status::unimplemented("no certificates are signed here");
        let created = match service.ok_or_else(unserved) {
            Ok(service) => {
                let created = service.create(&self.state, &self.credentials, &mut self.request);
                created.await
            }
            Err(status) => Err(status),
        };
        if let Err(status) = &created {
            self.state.metrics.refusals.request(self.peer, status);
        }
        Ok(Message::unary(&created?))
    }
}

impl Source for Answer {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Item::End(Status::ok("")));
        };
        let answer = ready!(answer.as_mut().poll(cx));
        self.answer = None;
        Poll::Ready(match answer {
            Ok(message) => Item::Message(message),
            Err(status) => Item::End(status),
        })
    }
}
