//! One resource, framed once and shared by every stream that gets it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::ReverseWriter;

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
        // Header, name, version and type: a little more than they take.
        let mut writer =
            ReverseWriter::with_capacity(body.len() + name.len() + type_url.len() + 48);
        writer.raw(body);
        Self::framed(type_url, name, writer)
    }

    /// Frames the encoded message that stands in `body`, in place.
    pub fn framed(type_url: &str, name: Arc<str>, mut body: ReverseWriter) -> Self {
        let version = Version(xxh3_64(body.bytes()));
        body.header(2, body.len());
        body.text(1, type_url);
        body.header(2, body.len());
        let sotw = body.len();
        body.text(1, &version.to_string());
        body.text(3, &name);
        body.header(2, body.len());
        let delta = body.into_bytes();
        let sotw_at = delta.len() - sotw;
        Self {
            name,
            version,
            delta,
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
