//! A protobuf writer that starts at the end: when the header of a message is
//! written its content stands already, so that no length is computed twice.

use bytes::Bytes;

use super::proto;

/// Writes fields from the last to the first.
///
/// ```
/// use isthmus::wire::ReverseWriter;
/// let mut writer = ReverseWriter::with_capacity(16);
/// writer.message(2, |inner| inner.uint(3, 300));
/// writer.text(1, "a");
/// assert_eq!(writer.bytes(), [0x0a, 1, b'a', 0x12, 3, 0x18, 0xac, 0x02]);
/// ```
#[derive(Debug, Default)]
pub struct ReverseWriter {
    buffer: Vec<u8>,
    /// Where the written part begins.
    start: usize,
}

impl ReverseWriter {
    /// A writer that does not grow before it holds `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity],
            start: capacity,
        }
    }

    /// What was written, in reading order.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Puts bytes before what stands.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        let start = self.start - bytes.len();
        if let Some(place) = self.buffer.get_mut(start..self.start) {
            place.copy_from_slice(bytes);
            self.start = start;
        }
    }

    /// Puts one byte before what stands.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }

    /// A varint.
    #[inline]
    pub fn varint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte) if byte < 0x80 => self.byte(byte),
            _ => self.long_varint(value),
        }
    }

    /// Lengths over 127 and port numbers: on the hot path too, so no allocation.
    #[inline]
    fn long_varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let length = proto::varint_len(value);
        for byte in bytes.iter_mut().take(length) {
            *byte = proto::low_bits(value) | 0x80;
            value >>= 7;
        }
        let (bytes, _) = bytes.split_at_mut(length.min(10));
        if let Some(last) = bytes.last_mut() {
            *last &= 0x7f;
        }
        self.raw(bytes);
    }

    /// A field key and the number behind it: mostly two bytes in one step.
    #[inline]
    fn key_and_number(&mut self, key: u64, number: u64) {
        match (u8::try_from(key), u8::try_from(number)) {
            (Ok(key), Ok(number)) if key < 0x80 && number < 0x80 => self.raw(&[key, number]),
            _ => {
                self.varint(number);
                self.varint(key);
            }
        }
    }

    /// A message, or any length-delimited field written in parts.
    #[inline]
    pub fn message(&mut self, field: u32, content: impl FnOnce(&mut Self)) {
        // Counted from the end, which stays where it is when the buffer grows.
        let end = self.len();
        content(self);
        self.header(field, self.len() - end);
    }

    /// The header of a message whose content, `length` bytes, stands already.
    #[inline]
    pub fn header(&mut self, field: u32, length: usize) {
        self.key_and_number(u64::from(field) << 3 | 2, length as u64);
    }

    /// How many bytes stand.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether nothing stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, without a copy unless over a quarter of the buffer is
    /// unused: answers are kept for long.
    pub fn into_bytes(self) -> Bytes {
        if self.start > self.buffer.len() / 4 {
            return Bytes::copy_from_slice(self.bytes());
        }
        Bytes::from(self.buffer).split_off(self.start)
    }

    /// A text; nothing where it is empty.
    #[inline]
    pub fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.message(field, |w| w.raw(text.as_bytes()));
        }
    }

    /// A number (uint32, uint64, enum, bool), 0 too.
    #[inline]
    pub fn uint(&mut self, field: u32, value: u64) {
        self.key_and_number(u64::from(field) << 3, value);
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let more = self.buffer.len().max(needed).max(64);
        let mut buffer = vec![0; more];
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        self.start += more;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ReverseWriter;
    use crate::wire::proto;

    proptest! {
        #[test]
        fn it_writes_what_the_forward_functions_write(
            fields in prop::collection::vec((1..2000_u32, any::<u64>(), ".{0,200}"), 0..8),
            capacity in 0..64_usize,
        ) {
            let mut forward = Vec::new();
            for (field, number, text) in &fields {
                proto::put_uint(&mut forward, *field, *number);
                let mut inner = Vec::new();
                if !text.is_empty() {
                    proto::put_bytes(&mut inner, 1, text.as_bytes());
                }
                proto::put_bytes(&mut forward, *field, &inner);
            }
            let mut writer = ReverseWriter::with_capacity(capacity);
            for (field, number, text) in fields.iter().rev() {
                writer.message(*field, |w| w.text(1, text));
                writer.uint(*field, *number);
            }
            prop_assert_eq!(writer.bytes(), forward);
        }
    }
}
