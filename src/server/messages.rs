//! Reads the messages of a gRPC request body.
//!
//! Own code where tonic has some, because of memory: the first message of an
//! Envoy is about 60 KB, and tonic's decoder keeps a buffer of that size for
//! as long as the stream lives.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use tonic::Status;

/// Flag and length before each message.
const PREFIX: usize = 5;

/// Bytes of unfinished requests that the streams of a server may hold together
/// (xDS rule 63).
#[derive(Debug)]
pub(super) struct Budget {
    free: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let free = AtomicUsize::new(bytes);
        Self { free }
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let take = |free: usize| free.checked_sub(bytes);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The messages of one request body.
#[derive(Debug)]
pub(super) struct Messages<B> {
    body: B,
    limit: usize,
    /// Bytes of a message that is not complete yet; no memory when there is none.
    pub(super) unread: BytesMut,
    budget: Arc<Budget>,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    pub(super) fn new(body: B, limit: usize, budget: Arc<Budget>) -> Self {
        Self {
            body,
            limit,
            unread: BytesMut::new(),
            budget,
        }
    }

    /// The next message; `None` when the client has no more. May be dropped and
    /// called again at any time.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take_message()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.append(data)?;
                    }
                }
                Some(Err(_)) => return Poll::Ready(Err(Status::cancelled("client went away"))),
                None if self.unread.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    let text = "the stream ended within a message";
                    return Poll::Ready(Err(Status::invalid_argument(text)));
                }
            }
        }
    }

    fn append(&mut self, data: Bytes) -> Result<(), Status> {
        if !self.budget.take(data.len()) {
            let text = "too many large requests at once: try again later";
            return Err(Status::resource_exhausted(text));
        }
        if self.unread.is_empty() {
            self.unread = BytesMut::from(data);
        } else {
            self.unread.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Cuts the first message off, if it is complete.
    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((flag, mut length)) = self.unread.get(..PREFIX).and_then(<[u8]>::split_first)
        else {
            return Ok(None);
        };
        if *flag != 0 {
            let text = "compressed requests are not supported";
            return Err(Status::unimplemented(text));
        }
        let length = length.get_u32() as usize;
        if length > self.limit {
            let limit = self.limit;
            let text = format!("request of {length} bytes: at most {limit} are accepted");
            return Err(Status::resource_exhausted(text));
        }
        if self.unread.len() < PREFIX + length {
            return Ok(None);
        }
        self.budget.give_back(PREFIX + length);
        self.unread.advance(PREFIX);
        let message = self.unread.split_to(length).freeze();
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        Ok(Some(message))
    }
}

impl<B> Drop for Messages<B> {
    fn drop(&mut self) {
        self.budget.give_back(self.unread.len());
    }
}
