//! A response as the bytes of one gRPC message.

use std::vec;

use bytes::{Bytes, BytesMut};

use crate::ads::Outgoing;

/// Smaller pieces are gathered into chunks of this size, which is also the
/// largest HTTP/2 frame of most clients; larger ones go by reference.
const CHUNK: usize = 16 * 1024;

/// Flag and length before each message.
const PREFIX: usize = 5;

/// Bytes of version, type and nonce, at most.
const HEAD: usize = 128;

/// One gRPC message, handed out in chunks: a slow client holds references to
/// shared bytes and one gathered chunk, never a copy of the message.
#[derive(Debug)]
pub(super) struct Message {
    /// What comes before all else, with the small parts behind it.
    first: Option<Bytes>,
    parts: vec::IntoIter<Bytes>,
    size: usize,
}

impl Message {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        let resources: usize = outgoing.frames.iter().map(Bytes::len).sum();
        let removed: usize = outgoing.removed.iter().map(|name| name.len() + 4).sum();
        let head = PREFIX + HEAD + removed;
        let fits = head + resources <= CHUNK;
        let gathered = if fits { resources } else { 0 };
        let mut first = Vec::with_capacity(head + gathered);
        first.extend_from_slice(&[0; PREFIX]);
        outgoing.write_head(&mut first);
        let length = first.len() - PREFIX + resources;
        put_length(&mut first, length);
        let size = PREFIX + length;
        let mut parts = outgoing.frames.into_iter();
        if gathered > 0 {
            parts
                .by_ref()
                .for_each(|part| first.extend_from_slice(&part));
        }
        let first = Some(Bytes::from(first));
        Self { first, parts, size }
    }

    /// Bytes of it all.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The only response of a call.
    pub(super) fn unary(response: &impl prost::Message) -> Self {
        let mut first = vec![0; PREFIX];
        first.append(&mut response.encode_to_vec());
        let length = first.len() - PREFIX;
        put_length(&mut first, length);
        Self {
            size: first.len(),
            first: Some(first.into()),
            parts: Vec::new().into_iter(),
        }
    }

    /// The next bytes to write.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.first.take().or_else(|| self.parts.next())?;
        let (mut size, mut count) = (first.len(), 0);
        for part in self.parts.as_slice() {
            if size + part.len() > CHUNK {
                break;
            }
            size += part.len();
            count += 1;
        }
        if count == 0 {
            return Some(first);
        }
        let mut chunk = BytesMut::with_capacity(size);
        chunk.extend_from_slice(&first);
        for part in self.parts.by_ref().take(count) {
            chunk.extend_from_slice(&part);
        }
        Some(chunk.freeze())
    }
}

/// Writes the length of the message into its prefix.
fn put_length(message: &mut [u8], length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(place) = message.get_mut(1..PREFIX) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
