//! gRPC messages in HTTP/2 DATA frames.

/// Above this a buffer is not kept for the next message: a thousand sidecars
/// that each hold a list of clusters are more memory than a server's.
const KEEP: usize = 16 << 10;

/// More than any control plane sends in one message.
const LARGEST: usize = 1 << 30;

const PREFIX: usize = 5;

/// The bytes are no gRPC messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Nobody asked for compression.
    #[error("a response is compressed, which was not asked for")]
    Compressed,
    /// The length cannot be meant.
    #[error("a response claims to have {0} bytes")]
    Length(usize),
}

/// Puts messages together from frames. One that lies in one frame, as nearly
/// all do after the start, is not copied.
#[derive(Debug, Default)]
pub(super) struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    /// Takes the data of one frame and calls `each` with every message that is
    /// complete.
    pub(super) fn feed(
        &mut self,
        mut data: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        while !data.is_empty() {
            if self.partial.is_empty()
                && let Some(length) = length(data)?
                && let Some((message, rest)) = data.split_at_checked(PREFIX + length)
            {
                each(message.get(PREFIX..).unwrap_or_default());
                data = rest;
                continue;
            }
            data = self.gather(data)?;
            self.finish(&mut each)?;
        }
        Ok(())
    }

    /// Takes what the message at hand lacks; the rest of `data`.
    fn gather<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], Unreadable> {
        let whole = length(&self.partial)?.map_or(PREFIX, |length| PREFIX + length);
        let lacks = whole.saturating_sub(self.partial.len());
        let (taken, rest) = data.split_at_checked(lacks).unwrap_or((data, &[]));
        self.partial.reserve_exact(lacks);
        self.partial.extend_from_slice(taken);
        Ok(rest)
    }

    fn finish(&mut self, each: &mut impl FnMut(&[u8])) -> Result<(), Unreadable> {
        let Some(length) = length(&self.partial)? else {
            return Ok(());
        };
        if self.partial.len() == PREFIX + length {
            each(self.partial.get(PREFIX..).unwrap_or_default());
            self.partial.clear();
            self.partial.shrink_to(KEEP);
        }
        Ok(())
    }
}

/// Length of the message that starts here; none where its prefix is not all
/// there.
fn length(data: &[u8]) -> Result<Option<usize>, Unreadable> {
    let Some((&[compressed, a, b, c, d], _)) = data.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err(Unreadable::Compressed);
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LARGEST {
        return Err(Unreadable::Length(length));
    }
    Ok(Some(length))
}

/// Writes the prefix of a message of this length.
pub(super) fn prefix(length: usize) -> [u8; PREFIX] {
    // A request is a few names; one of 4 GiB is never made.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_compressed_message_is_refused() {
        let fed = Messages::default().feed(&[1, 0, 0, 0, 0], |_| {});
        assert_eq!(fed, Err(Unreadable::Compressed));
    }

    #[test]
    fn a_length_that_cannot_be_meant_is_refused() {
        let fed = Messages::default().feed(&[0, 0xff, 0xff, 0xff, 0xff], |_| {});
        assert_eq!(fed, Err(Unreadable::Length(0xffff_ffff)));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in proptest::collection::vec(
                proptest::collection::vec(proptest::num::u8::ANY, 0..40), 0..8),
            cut in 1_usize..30,
        ) {
            let mut wire = Vec::new();
            for message in &messages {
                wire.extend_from_slice(&prefix(message.len()));
                wire.extend_from_slice(message);
            }
            let (mut reader, mut got) = (Messages::default(), Vec::new());
            for frame in wire.chunks(cut) {
                reader.feed(frame, |message| got.push(message.to_vec())).unwrap();
            }
            prop_assert_eq!(got, messages);
        }
    }
}
