//! Reads a discovery response without decoding what is in it: a load generator
//! that decoded resources would cost more than the server it measures.

/// Which of the two protocols a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// Incremental: a response has what changed.
    Delta,
    /// State of the world: a response has all of its type, or what the server
    /// thinks fit.
    Sotw,
}

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a response is no protobuf message")]
pub(super) struct Malformed;

/// The length-delimited fields of a message; the others are passed over.
#[derive(Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// None where the message is broken.
    fn read(&mut self) -> Option<(u64, Option<&'a [u8]>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => self.varint().map(|_| None)?,
            1 => self.take(8).map(|_| None)?,
            5 => self.take(4).map(|_| None)?,
            2 => {
                let length = self.varint()?;
                Some(self.take(length)?)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.read() {
                Some((number, Some(value))) => return Some(Ok((number, value))),
                Some((_, None)) => {}
                None => {
                    self.0 = &[];
                    return Some(Err(Malformed));
                }
            }
        }
        None
    }
}

/// The first field of this number.
fn field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut fields = Fields(message).map_while(Result::ok);
    fields.find_map(|(number, value)| (number == wanted).then_some(value))
}

/// A discovery response: what the client answers and counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Response<'a> {
    variant: Variant,
    whole: &'a [u8],
    pub(super) type_url: &'a [u8],
    pub(super) version: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) resources: usize,
}

impl<'a> Response<'a> {
    /// Reads the outer fields. Both protocols number them alike.
    pub(super) fn read(variant: Variant, whole: &'a [u8]) -> Result<Self, Malformed> {
        let mut response = Self {
            variant,
            whole,
            type_url: &[],
            version: &[],
            nonce: &[],
            resources: 0,
        };
        for field in Fields(whole) {
            match field? {
                (1, value) => response.version = value,
                (2, _) => response.resources += 1,
                (4, value) => response.type_url = value,
                (5, value) => response.nonce = value,
                _ => {}
            }
        }
        Ok(response)
    }

    /// Names of the resources. SotW has none beside them: there it is the
    /// first field of the cluster or assignment.
    pub(super) fn names(self) -> impl Iterator<Item = &'a [u8]> {
        let fields = Fields(self.whole).map_while(Result::ok);
        let resources = fields.filter_map(|(number, value)| (number == 2).then_some(value));
        resources.filter_map(move |resource| match self.variant {
            Variant::Delta => field(resource, 3),
            Variant::Sotw => field(field(resource, 2)?, 1),
        })
    }

    /// All of it.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::{
            config::{cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment},
            service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource},
        },
        google::protobuf::Any,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn any(name: &str) -> Any {
        let cluster = Cluster {
            alt_stat_name: "other".to_owned(),
            name: name.to_owned(),
            ..Cluster::default()
        };
        Any {
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            value: cluster.encode_to_vec(),
        }
    }

    fn texts<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        names.map(|name| str::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn a_delta_response_tells_type_nonce_and_names() {
        let resource = |name: &str| Resource {
            name: name.to_owned(),
            version: "7".to_owned(),
            resource: Some(any("inner")),
            ..Resource::default()
        };
        let bytes = DeltaDiscoveryResponse {
            system_version_info: "v1".to_owned(),
            resources: vec![resource("a"), resource("b")],
            type_url: "cds".to_owned(),
            removed_resources: vec!["gone".to_owned()],
            nonce: "n1".to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
        .encode_to_vec();
        let response = Response::read(Variant::Delta, &bytes).unwrap();
        assert_eq!(
            (response.type_url, response.nonce),
            (&b"cds"[..], &b"n1"[..])
        );
        assert_eq!(response.resources, 2);
        assert_eq!(texts(response.names()), ["a", "b"]);
    }

    #[test]
    fn a_sotw_response_has_its_names_inside() {
        let assignment = ClusterLoadAssignment {
            cluster_name: "c".to_owned(),
            ..ClusterLoadAssignment::default()
        };
        let assignment = Any {
            value: assignment.encode_to_vec(),
            ..Any::default()
        };
        let bytes = DiscoveryResponse {
            version_info: "v2".to_owned(),
            resources: vec![any("a"), any("b"), assignment],
            canary: true,
            type_url: "cds".to_owned(),
            nonce: "n2".to_owned(),
            ..DiscoveryResponse::default()
        }
        .encode_to_vec();
        let response = Response::read(Variant::Sotw, &bytes).unwrap();
        assert_eq!((response.version, response.nonce), (&b"v2"[..], &b"n2"[..]));
        assert_eq!(texts(response.names()), ["a", "b", "c"]);
    }

    #[test]
    fn a_response_that_ends_early_is_malformed() {
        let bytes = DiscoveryResponse {
            type_url: "cds".to_owned(),
            ..DiscoveryResponse::default()
        }
        .encode_to_vec();
        let cut = Response::read(Variant::Sotw, &bytes[..bytes.len() - 1]);
        assert_eq!(cut.unwrap_err(), Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for variant in [Variant::Delta, Variant::Sotw] {
                if let Ok(response) = Response::read(variant, &bytes) {
                    prop_assert!(response.names().count() <= response.resources);
                }
            }
        }
    }
}
