//! A response as the bytes of one gRPC message.

use std::{iter::Peekable, vec};

use bytes::{BufMut, Bytes, BytesMut};

use crate::ads::Outgoing;

/// Smaller pieces are gathered into chunks of this size, which is also the
/// largest HTTP/2 frame of most clients; larger ones go by reference.
const CHUNK: usize = 16 * 1024;

/// Flag and length before each message.
const PREFIX: usize = 5;

/// One gRPC message, handed out in chunks: a slow client holds references to
/// shared bytes and one gathered chunk, never a copy of the message.
#[derive(Debug)]
pub(super) struct Message {
    parts: Peekable<vec::IntoIter<Bytes>>,
    size: usize,
}

impl Message {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        let head = outgoing.head();
        let resources: usize = outgoing.frames.iter().map(Bytes::len).sum();
        let length = u32::try_from(head.len() + resources).unwrap_or(u32::MAX);
        let mut first = BytesMut::with_capacity(PREFIX + head.len());
        first.put_u8(0);
        first.put_u32(length);
        first.extend_from_slice(&head);
        let mut parts = outgoing.frames;
        parts.insert(0, first.freeze());
        let size = parts.iter().map(Bytes::len).sum();
        let parts = parts.into_iter().peekable();
        Self { parts, size }
    }

    /// Bytes of it all.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The only response of a call.
    pub(super) fn unary(response: &impl prost::Message) -> Self {
        let length = response.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX + length);
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&response.encode_to_vec());
        let size = bytes.len();
        let parts = vec![bytes.freeze()].into_iter().peekable();
        Self { parts, size }
    }

    /// The next bytes to write.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.parts.next()?;
        let fits = |have: usize| move |next: &Bytes| have + next.len() <= CHUNK;
        let Some(second) = self.parts.next_if(fits(first.len())) else {
            return Some(first);
        };
        let mut chunk = BytesMut::with_capacity(CHUNK);
        chunk.extend_from_slice(&first);
        chunk.extend_from_slice(&second);
        while let Some(next) = self.parts.next_if(fits(chunk.len())) {
            chunk.extend_from_slice(&next);
        }
        Some(chunk.freeze())
    }
}

#[cfg(test)]
mod tests;
