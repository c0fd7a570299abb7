//! IP addresses as text without an allocation: the most frequent text of an
//! answer.

use std::{
    io::{Cursor, Write as _},
    net::IpAddr,
};

/// Length of the longest text: an IPv6 address with an IPv4 tail.
const LONGEST: usize = 45;

/// The text of an IP address.
pub(super) struct IpText {
    bytes: [u8; LONGEST],
    len: usize,
}

impl IpText {
    pub(super) fn new(ip: IpAddr) -> Self {
        let mut cursor = Cursor::new([0; LONGEST]);
        // The buffer holds every address, so writing cannot fail.
        let written = match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                write!(cursor, "{a}.{b}.{c}.{d}")
            }
            IpAddr::V6(ip) => write!(cursor, "{ip}"),
        };
        let len = written.map_or(0, |()| usize::try_from(cursor.position()).unwrap_or(0));
        Self {
            bytes: cursor.into_inner(),
            len,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}
