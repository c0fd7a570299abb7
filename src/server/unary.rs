//! One call with one answer.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body::Body;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::State;
use super::body::Item;
use super::message::Message;
use super::messages::Messages;
use crate::auth::Credentials;

/// A call of `CreateCertificate`.
pub(super) struct Call<B> {
    pub(super) state: Arc<State>,
    pub(super) peer: SocketAddr,
    pub(super) credentials: Credentials,
    pub(super) request: Messages<B>,
    pub(super) out: mpsc::Sender<Box<Item>>,
}

impl<B: Body<Data = Bytes> + Unpin> Call<B> {
    /// Answers it. A stop lets it finish: it is bounded in time.
    pub(super) async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let answer = if stop.is_cancelled() {
            Err(Status::unavailable("server is shutting down"))
        } else {
            self.answer().await
        };
        let status = match answer {
            Ok(message) => {
                // Fails where the client is gone: nobody is left to be told.
                let _ = self.out.send(Box::new(Item::Message(message))).await;
                Status::ok("")
            }
            Err(status) => {
                self.state.metrics.refusals.request(self.peer, &status);
                status
            }
        };
        let _ = self.out.send(Box::new(Item::End(status))).await;
    }

    async fn answer(&mut self) -> Result<Message, Status> {
        let service = self.state.certificates.as_ref();
        let unserved = || Status::unimplemented("no certificates are signed here");
        let service = service.ok_or_else(unserved)?;
        let created = service.create(&self.state, &self.credentials, &mut self.request);
        Ok(Message::unary(&created.await?))
    }
}
