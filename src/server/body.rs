//! The response body of a call: its source of messages, and the message that
//! is being written.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::message::Message;

/// What comes next in a body.
#[derive(Debug)]
pub(super) enum Item {
    /// A response.
    Message(Message),
    /// The end of the call.
    End(Status),
}

/// Makes the items of a body, one when the last is written: so the state behind
/// it coalesces what a slow client has no room for (xDS rule 67). It runs in
/// the task that writes the body; no message crosses a task.
pub(super) trait Source: Send {
    /// The next item. Not called again after the end.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item>;
}

/// A body. It takes the next message when the last one is written, and holds no
/// more than that one.
#[derive(Default)]
pub struct ResponseBody {
    source: Option<Box<dyn Source>>,
    current: Option<Message>,
}

impl ResponseBody {
    pub(super) fn new(source: Box<dyn Source>) -> Self {
        Self {
            source: Some(source),
            current: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(chunk) = self.current.as_mut().and_then(Message::next_chunk) {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            self.current = None;
            let Some(source) = self.source.as_mut() else {
                return Poll::Ready(None);
            };
            let status = match ready!(source.poll_item(cx)) {
                Item::Message(message) => {
                    self.current = Some(message);
                    continue;
                }
                Item::End(status) => status,
            };
            self.source = None;
            let mut trailers = HeaderMap::with_capacity(2);
            if status.add_header(&mut trailers).is_err() {
                trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none() && self.current.is_none()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
