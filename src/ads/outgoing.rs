//! What a session wants to send.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::Variant;
use crate::model::TypeUrl;
use crate::wire::proto;

/// Id of one response on one stream. Its text has a fixed length, and it means
/// nothing on another stream (xDS rule 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub(super) u64);

impl Nonce {
    /// Whether `text` is this nonce's text.
    pub(super) fn is(self, text: &str) -> bool {
        text.len() == 16 && u64::from_str_radix(text, 16).is_ok_and(|n| n == self.0)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One response. Its resources are shared bytes, already framed as field 2 of
/// the response message.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Which response message it is.
    pub variant: Variant,
    /// Type of all its resources.
    pub kind: TypeUrl,
    /// Its nonce.
    pub nonce: Nonce,
    /// Hash over names and versions of all that the client holds of this type:
    /// equal on every replica for equal content (xDS rule 7).
    pub version: u64,
    /// Framed resources, by name.
    pub frames: Vec<Bytes>,
    /// Names that do not exist (any more); delta only.
    pub removed: Vec<Arc<str>>,
}

impl Outgoing {
    /// Appends the fields of the response message beside its resources. Fields
    /// may come in any order, so the message is these bytes and then the frames.
    pub fn write_head(&self, out: &mut Vec<u8>) {
        proto::put_bytes(out, 1, &hex(self.version));
        proto::put_bytes(out, 4, self.kind.as_str().as_bytes());
        proto::put_bytes(out, 5, &hex(self.nonce.0));
        // Field 6 of a `SotW` response is something else, and never set.
        for name in &self.removed {
            proto::put_bytes(out, 6, name.as_bytes());
        }
    }
}

/// What `{:016x}` prints, without the machinery: one of each goes with every
/// response.
fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let digit = number >> (60 - 4 * at) & 0xf;
        DIGITS.get(digit as usize).copied().unwrap_or_default()
    })
}
