//! One resource, framed once and shared by every stream that gets it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::proto;

/// Content hash of a resource: equal on every replica for equal content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A resource as the bytes of one field of a discovery response.
///
/// Both response types carry their resources as field 2, and a delta
/// `Resource` carries its body as field 2 too. So the `SotW` frame
/// (`2: Any`) is the tail of the delta frame (`2: Resource { 3: name,
/// 1: version, 2: Any }`), and one allocation serves both.
#[derive(Clone)]
pub struct EncodedResource {
    name: Arc<str>,
    version: Version,
    delta: Bytes,
    sotw_at: usize,
}

impl EncodedResource {
    /// Frames the encoded message `body` of type `type_url`.
    pub fn new(type_url: &str, name: Arc<str>, body: &[u8]) -> Self {
        let version = Version(xxh3_64(body));
        let version_text = version.to_string();
        let any = proto::bytes_len(1, type_url.len()) + proto::bytes_len(2, body.len());
        let head = proto::bytes_len(3, name.len()) + proto::bytes_len(1, version_text.len());
        let resource = head + proto::bytes_len(2, any);
        let mut out = Vec::with_capacity(proto::bytes_len(2, resource));
        proto::put_header(&mut out, 2, resource);
        proto::put_bytes(&mut out, 3, name.as_bytes());
        proto::put_bytes(&mut out, 1, version_text.as_bytes());
        let sotw_at = out.len();
        proto::put_header(&mut out, 2, any);
        proto::put_bytes(&mut out, 1, type_url.as_bytes());
        proto::put_bytes(&mut out, 2, body);
        Self {
            name,
            version,
            delta: out.into(),
            sotw_at,
        }
    }

    /// Resource name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Content hash.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Field 2 of a `DeltaDiscoveryResponse`.
    pub fn delta_frame(&self) -> Bytes {
        self.delta.clone()
    }

    /// Field 2 of a `DiscoveryResponse`.
    pub fn sotw_frame(&self) -> Bytes {
        self.delta.slice(self.sotw_at..)
    }
}

impl fmt::Debug for EncodedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("EncodedResource");
        debug
            .field("name", &self.name)
            .field("version", &self.version);
        debug
            .field("bytes", &self.delta.len())
            .finish_non_exhaustive()
    }
}
