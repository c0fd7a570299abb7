//! Writes `ClusterLoadAssignment` in two passes, lengths and then bytes, so
//! that a large answer is one allocation. Its maps are written in key order:
//! prost's are hashed, and equal answers would have different versions.
//!
//! The messages and their field numbers:
//!
//! ```text
//! ClusterLoadAssignment { 1 cluster_name, 2 endpoints: LocalityLbEndpoints }
//! LocalityLbEndpoints   { 1 locality, 2 lb_endpoints: LbEndpoint,
//!                         3 load_balancing_weight: UInt32Value, 5 priority }
//! Locality              { 1 region, 2 zone, 3 sub_zone }
//! LbEndpoint            { 1 endpoint, 2 health_status, 3 metadata,
//!                         4 load_balancing_weight: UInt32Value }
//! Endpoint              { 1 address }
//! Address               { 1 socket_address, 2 pipe }
//! SocketAddress         { 2 address, 3 port_value }
//! Pipe                  { 1 path }
//! Metadata              { 1 filter_metadata: map of Struct }
//! Struct                { 1 fields: map of Value }
//! Value                 { 3 string_value }
//! UInt32Value           { 1 value }
//! ```

use std::sync::Arc;

use super::ip_text::IpText;
use crate::model::{Address, GatewayAddress, Health, Locality, TypeUrl};
use crate::wire::EncodedResource;
use crate::wire::proto::{bytes_len, put_bytes, put_header, put_uint, uint_len};
use crate::xds::split_horizon::{Host, LocalityGroup, Member};

/// An answer with the lengths of its parts.
pub(super) struct Assignment<'a> {
    name: &'a Arc<str>,
    groups: &'a [LocalityGroup<'a>],
    lengths: Vec<usize>,
    with_workload: bool,
}

impl<'a> Assignment<'a> {
    /// Without `with_workload` the telemetry metadata is left out.
    pub(super) fn new(
        name: &'a Arc<str>,
        groups: &'a [LocalityGroup<'a>],
        with_workload: bool,
    ) -> Self {
        let length = |group| group_len(group, with_workload);
        Self {
            name,
            groups,
            lengths: groups.iter().map(length).collect(),
            with_workload,
        }
    }

    /// The framed resource.
    pub(super) fn frame(&self) -> EncodedResource {
        let groups: usize = self.lengths.iter().map(|len| bytes_len(2, *len)).sum();
        let len = text_len(1, self.name) + groups;
        let url = TypeUrl::ClusterLoadAssignment.as_str();
        EncodedResource::framed(url, Arc::clone(self.name), len, |out| self.write(out))
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.name);
        for (group, len) in self.groups.iter().zip(&self.lengths) {
            put_header(out, 2, *len);
            put_locality(out, group.locality);
            for member in &group.members {
                LbEndpoint::new(member, self.with_workload).write(out);
            }
            if let Some(weight) = group.weight {
                put_wrapped(out, 3, weight);
            }
            if group.priority != 0 {
                put_uint(out, 5, u64::from(group.priority));
            }
        }
    }
}

fn group_len(group: &LocalityGroup<'_>, with_workload: bool) -> usize {
    let members = group.members.iter();
    let members = members.map(|m| bytes_len(2, LbEndpoint::new(m, with_workload).len()));
    let priority = match group.priority {
        0 => 0,
        priority => uint_len(5, u64::from(priority)),
    };
    bytes_len(1, locality_len(group.locality))
        + members.sum::<usize>()
        + group.weight.map_or(0, |weight| wrapped_len(3, weight))
        + priority
}

fn locality_len(locality: &Locality) -> usize {
    text_len(1, locality.region()) + text_len(2, locality.zone()) + text_len(3, locality.subzone())
}

/// istiod sends the message even where it is empty.
fn put_locality(out: &mut Vec<u8>, locality: &Locality) {
    put_header(out, 1, locality_len(locality));
    put_text(out, 1, locality.region());
    put_text(out, 2, locality.zone());
    put_text(out, 3, locality.subzone());
}

/// What is written of one member.
struct LbEndpoint<'a> {
    target: Target<'a>,
    health: u64,
    tls: Option<Entry<'a>>,
    workload: Option<Entry<'a>>,
    weight: u32,
}

enum Target<'a> {
    Ip(IpText, u16),
    Name(&'a str, u16),
    Pipe(&'a str),
}

impl<'a> LbEndpoint<'a> {
    fn new(member: &Member<'a>, with_workload: bool) -> Self {
        let (target, workload) = match member.host {
            Host::Workload(endpoint) => {
                let port = endpoint.port;
                let target = match &endpoint.address {
                    Address::Ip(ip) => Target::Ip(IpText::new(*ip), port),
                    Address::Hostname(name) => Target::Name(name, port),
                    Address::Unix(path) => Target::Pipe(path),
                    Address::Unknown => Target::Name("", port),
                };
                (target, ["", &*endpoint.workload.metadata])
            }
            Host::Gateway(gateway) => {
                let target = match &gateway.address {
                    GatewayAddress::Ip(ip) => Target::Ip(IpText::new(*ip), gateway.port),
                    GatewayAddress::Hostname(name) => Target::Name(name, gateway.port),
                };
                // Of a gateway only the cluster is told.
                (
                    target,
                    [";;;;", gateway.cluster.as_deref().unwrap_or_default()],
                )
            }
        };
        Self {
            target,
            health: health_status(member.health),
            tls: member.tls_mode.map(|mode| Entry {
                filter: "envoy.transport_socket_match",
                key: "tlsMode",
                value: ["", mode],
            }),
            workload: with_workload.then_some(Entry {
                filter: "istio",
                key: "workload",
                value: workload,
            }),
            weight: member.weight,
        }
    }

    fn len(&self) -> usize {
        let health = match self.health {
            0 => 0,
            status => uint_len(2, status),
        };
        let metadata = match self.metadata_len() {
            0 => 0,
            len => bytes_len(3, len),
        };
        bytes_len(1, bytes_len(1, self.target.len()))
            + health
            + metadata
            + wrapped_len(4, self.weight)
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_header(out, 2, self.len());
        let address = self.target.len();
        put_header(out, 1, bytes_len(1, address));
        put_header(out, 1, address);
        self.target.write(out);
        if self.health != 0 {
            put_uint(out, 2, self.health);
        }
        let metadata = self.metadata_len();
        if metadata != 0 {
            put_header(out, 3, metadata);
            for entry in self.entries() {
                entry.write(out);
            }
        }
        put_wrapped(out, 4, self.weight);
    }

    /// In the order of their filter names.
    fn entries(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.tls.iter().chain(&self.workload)
    }

    fn metadata_len(&self) -> usize {
        self.entries().map(|e| bytes_len(1, e.len())).sum()
    }
}

impl Target<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Pipe(path) => bytes_len(2, text_len(1, path)),
            _ => bytes_len(1, self.socket_len()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (host, port) = match self {
            Self::Pipe(path) => {
                put_header(out, 2, text_len(1, path));
                return put_text(out, 1, path);
            }
            Self::Ip(ip, port) => (ip.as_str(), *port),
            Self::Name(name, port) => (*name, *port),
        };
        put_header(out, 1, self.socket_len());
        put_text(out, 2, host);
        // One of several port fields: written even when it is 0.
        put_uint(out, 3, u64::from(port));
    }

    fn socket_len(&self) -> usize {
        match self {
            Self::Ip(ip, port) => text_len(2, ip.as_str()) + uint_len(3, u64::from(*port)),
            Self::Name(name, port) => text_len(2, name) + uint_len(3, u64::from(*port)),
            Self::Pipe(_) => 0,
        }
    }
}

/// One filter's metadata: a struct with a single text field, the value in two
/// parts.
struct Entry<'a> {
    filter: &'static str,
    key: &'static str,
    value: [&'a str; 2],
}

impl Entry<'_> {
    fn len(&self) -> usize {
        bytes_len(1, self.filter.len()) + bytes_len(2, bytes_len(1, self.field_len()))
    }

    fn field_len(&self) -> usize {
        bytes_len(1, self.key.len()) + bytes_len(2, bytes_len(3, self.value_len()))
    }

    fn value_len(&self) -> usize {
        self.value.iter().map(|part| part.len()).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (field, value) = (self.field_len(), self.value_len());
        put_header(out, 1, self.len());
        put_bytes(out, 1, self.filter.as_bytes());
        put_header(out, 2, bytes_len(1, field));
        put_header(out, 1, field);
        put_bytes(out, 1, self.key.as_bytes());
        put_header(out, 2, bytes_len(3, value));
        put_header(out, 3, value);
        for part in self.value {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// `core.v3.HealthStatus`.
fn health_status(health: Health) -> u64 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Unhealthy | Health::Terminating => 2,
        Health::Draining => 3,
    }
}

fn text_len(field: u32, text: &str) -> usize {
    if text.is_empty() {
        return 0;
    }
    bytes_len(field, text.len())
}

fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, field, text.as_bytes());
    }
}

/// A `UInt32Value`; its own 0 is not written.
fn wrapped_len(field: u32, value: u32) -> usize {
    let inner = match value {
        0 => 0,
        value => uint_len(1, u64::from(value)),
    };
    bytes_len(field, inner)
}

fn put_wrapped(out: &mut Vec<u8>, field: u32, value: u32) {
    if value == 0 {
        return put_header(out, field, 0);
    }
    let value = u64::from(value);
    put_header(out, field, uint_len(1, value));
    put_uint(out, 1, value);
}
