//! The response body of an ADS stream.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

use super::message::Message;
use super::standing::Standing;

/// What a stream's task hands to its body.
#[derive(Debug)]
pub(super) enum Item {
    /// A response.
    Message(Message),
    /// The end of the stream.
    End(Status),
}

/// A body that takes the next message when the last one is written: behind it
/// waits one message at most, and the session coalesces the rest (xDS rule 67).
#[derive(Debug, Default)]
pub struct ResponseBody {
    items: Option<mpsc::Receiver<Box<Item>>>,
    current: Option<Message>,
    standing: Option<Arc<Standing>>,
}

impl ResponseBody {
    /// The end of a stream that does not begin.
    pub(super) fn ended(status: Status) -> Self {
        let (out, body) = Self::new(None);
        // There is room for one.
        let _ = out.try_send(Box::new(Item::End(status)));
        body
    }

    pub(super) fn new(standing: Option<Arc<Standing>>) -> (mpsc::Sender<Box<Item>>, Self) {
        let (sender, items) = mpsc::channel(1);
        let body = Self {
            items: Some(items),
            current: None,
            standing,
        };
        (sender, body)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let standing = self.standing.clone();
        let standing = standing.as_deref();
        loop {
            if let Some(chunk) = self.current.as_mut().and_then(Message::next_chunk) {
                if let Some(standing) = standing {
                    standing.hand_out();
                }
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            self.current = None;
            let Some(items) = self.items.as_mut() else {
                return Poll::Ready(None);
            };
            let next = match standing.and_then(Standing::ending) {
                Some(status) => Poll::Ready(Some(Box::new(Item::End(status.clone())))),
                None => items.poll_recv(cx),
            };
            if let (Some(standing), true) = (standing, next.is_pending()) {
                standing.idle(cx);
            }
            let status = match ready!(next).map(|item| *item) {
                Some(Item::Message(message)) => {
                    if let Some(standing) = standing {
                        standing.begin(message.size());
                    }
                    self.current = Some(message);
                    continue;
                }
                Some(Item::End(status)) => status,
                // Its task is gone without a word.
                None => Status::unavailable("stream was stopped"),
            };
            self.items = None;
            let mut trailers = HeaderMap::with_capacity(2);
            if status.add_header(&mut trailers).is_err() {
                trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.items.is_none() && self.current.is_none()
    }
}
