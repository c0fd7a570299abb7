//! Bytes that are ready for the wire, their version, and the memo that owns
//! them. Knows no Envoy type, so that `mesh` may hold what `xds` encodes.

mod encoded;
mod memo;
pub mod proto;
mod reverse;

pub use encoded::{EncodedResource, Version};
pub use memo::Memo;
pub use reverse::ReverseWriter;
