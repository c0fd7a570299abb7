//! Marker addresses: each change adds one to an `EndpointSlice`, and a response
//! that holds it is the change's arrival.

use std::net::Ipv4Addr;

use memchr::memmem;

/// 240.0.0.0/8 is reserved, so no endpoint of a real mesh has such an address.
const START: &[u8] = b"240.";

/// Numbers from here on are first markers; no run has so many changes.
const FIRST: u32 = 0x0080_0000;

/// The markers of one run.
#[derive(Debug, Clone)]
pub(super) struct Markers {
    /// Second octet of the first marker: the clusters may still hold markers
    /// of an earlier run.
    tag: u8,
    start: memmem::Finder<'static>,
}

impl Markers {
    pub(super) fn new(tag: u8) -> Self {
        Self {
            tag,
            start: memmem::Finder::new(START),
        }
    }

    /// Address of the change with this number.
    pub(super) fn address(&self, number: u32) -> Ipv4Addr {
        let [_, high, middle, low] = number.to_be_bytes();
        Ipv4Addr::new(240, self.tag.wrapping_add(high), middle, low)
    }

    /// The marker that a service has before its first change.
    pub(super) fn first(&self, service: u32) -> Ipv4Addr {
        self.address(FIRST.saturating_add(service))
    }

    /// The service whose first marker has this number.
    pub(super) fn first_of(number: u32) -> Option<u32> {
        number.checked_sub(FIRST)
    }

    /// Number of the change with this address; earlier runs have numbers too,
    /// which this run has not reached.
    pub(super) fn number(&self, address: Ipv4Addr) -> u32 {
        let [_, high, middle, low] = address.octets();
        u32::from_be_bytes([0, high.wrapping_sub(self.tag), middle, low])
    }

    /// Numbers of the markers in a response.
    pub(super) fn find(&self, response: &[u8]) -> impl Iterator<Item = u32> {
        let found = self.start.find_iter(response);
        found.filter_map(|at| address_at(response, at).map(|address| self.number(address)))
    }
}

/// The text field at `at`, if it is an address: the byte before it is its
/// length, so that 10.240.1.2 is none.
fn address_at(response: &[u8], at: usize) -> Option<Ipv4Addr> {
    let length = usize::from(*response.get(at.checked_sub(1)?)?);
    let text = response.get(at..at.checked_add(length)?)?;
    str::from_utf8(text).ok()?.parse().ok()
}

/// Which markers a sidecar has seen: SotW, and a server that sends what did not
/// change, show the same ones again.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Whether this is the first time.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::SocketAddress;
    use prost::Message;

    use super::*;

    fn endpoint(address: &str) -> Vec<u8> {
        let address = SocketAddress {
            address: address.to_owned(),
            ..SocketAddress::default()
        };
        address.encode_to_vec()
    }

    #[test]
    fn a_marker_tells_the_number_of_its_change() {
        let markers = Markers::new(250);
        for number in [0, 1, 255, 256, 65_535, 65_536, 1_000_000] {
            assert_eq!(markers.number(markers.address(number)), number);
        }
        assert_eq!(markers.address(0x0006_0102), Ipv4Addr::new(240, 0, 1, 2));
    }

    #[test]
    fn a_first_marker_tells_its_service() {
        let markers = Markers::new(250);
        let number = markers.number(markers.first(70_000));
        assert_eq!(Markers::first_of(number), Some(70_000));
        assert_eq!(Markers::first_of(70_000), None);
    }

    #[test]
    fn markers_are_found_among_other_addresses() {
        let markers = Markers::new(7);
        let response = [
            endpoint("10.240.7.1"),
            endpoint("240.7.0.3"),
            endpoint("1.240.7.9"),
            endpoint("240.7.1.0"),
        ];
        let found: Vec<_> = markers.find(&response.concat()).collect();
        assert_eq!(found, [3, 256]);
    }

    #[test]
    fn text_that_only_starts_like_a_marker_is_none() {
        let markers = Markers::new(0);
        for bytes in [
            &b"240.1.2.3"[..],
            b"\x09240.1.2",
            b"\x04240.",
            b"\x09240.x.2.3",
        ] {
            assert_eq!(markers.find(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn a_marker_counts_once() {
        let mut seen = Seen::default();
        assert!(seen.insert(70) && seen.insert(3));
        assert!(!seen.insert(70) && !seen.insert(3));
    }
}
