//! Writes `ClusterLoadAssignment` from the end to the start. Its maps are
//! written in key order: prost's are hashed, and equal answers would have
//! different versions.
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
//! Endpoint              { 1 address, 4 additional_addresses: AdditionalAddress }
//! AdditionalAddress     { 1 address }
//! Address               { 1 socket_address, 2 pipe }
//! SocketAddress         { 2 address, 3 port_value }
//! Pipe                  { 1 path }
//! Metadata              { 1 filter_metadata: map of Struct }
//! Struct                { 1 fields: map of Value }
//! Value                 { 3 string_value }
//! UInt32Value           { 1 value }
//! ```

use std::net::IpAddr;

use crate::model::{Address, GatewayAddress, Health};
use crate::wire::ReverseWriter;
use crate::xds::split_horizon::{Host, LocalityGroup, Member};

/// About how long one endpoint is without its workload text; longer ones make
/// the writer grow.
const LB_ENDPOINT: usize = 118;
/// The same for a locality, and for all that stands around an answer.
const LOCALITY: usize = 64;
const FRAME: usize = 320;

/// The encoded message. Without `with_workload` the telemetry metadata is left
/// out.
pub(super) fn assignment(
    name: &str,
    groups: &[LocalityGroup<'_>],
    with_workload: bool,
) -> ReverseWriter {
    let members = groups.iter().flat_map(|g| &g.members);
    let texts: usize = members
        .map(|member| {
            let [first, second] = workload(&member.host);
            first.len() + second.len() + LB_ENDPOINT
        })
        .sum();
    let mut w = ReverseWriter::with_capacity(texts + groups.len() * LOCALITY + FRAME);
    let metadata = MetadataWriter::new(with_workload);
    for group in groups.iter().rev() {
        w.message(2, |w| locality_lb_endpoints(w, group, &metadata));
    }
    w.text(1, name);
    w
}

fn locality_lb_endpoints(
    w: &mut ReverseWriter,
    group: &LocalityGroup<'_>,
    metadata: &MetadataWriter,
) {
    if group.priority != 0 {
        w.uint(5, group.priority.into());
    }
    if let Some(weight) = group.weight {
        uint32_value(w, 3, weight);
    }
    for member in group.members.iter().rev() {
        w.message(2, |w| lb_endpoint(w, member, metadata));
    }
    // istiod sends the message even where it is empty.
    w.message(1, |w| {
        w.text(3, group.locality.subzone());
        w.text(2, group.locality.zone());
        w.text(1, group.locality.region());
    });
}

fn lb_endpoint(w: &mut ReverseWriter, member: &Member<'_>, metadata: &MetadataWriter) {
    uint32_value(w, 4, member.weight);
    metadata.write(w, member);
    match health_status(member.health) {
        0 => {}
        status => w.uint(2, status),
    }
    w.message(1, |w| {
        additional_addresses(w, &member.host);
        w.message(1, |w| address(w, &member.host));
    });
}

/// All but the first address of a dual-stack pod.
fn additional_addresses(w: &mut ReverseWriter, host: &Host<'_>) {
    let Host::Workload(endpoint) = host else {
        return;
    };
    for ip in endpoint.address.ips().iter().skip(1).rev() {
        w.message(4, |w| {
            w.message(1, |w| {
                socket_address(w, endpoint.port, |w| ip_text(w, *ip));
            });
        });
    }
}

/// Writes the metadata of endpoints, of which most is the same.
struct MetadataWriter {
    with_workload: bool,
    mesh_mtls: ReverseWriter,
}

impl MetadataWriter {
    fn new(with_workload: bool) -> Self {
        let mut mesh_mtls = ReverseWriter::default();
        tls_mode(&mut mesh_mtls, "istio");
        Self {
            with_workload,
            mesh_mtls,
        }
    }

    fn write(&self, w: &mut ReverseWriter, member: &Member<'_>) {
        if !self.with_workload && member.tls_mode.is_none() {
            return;
        }
        w.message(3, |w| {
            if self.with_workload {
                workload_metadata(w, &member.host);
            }
            match member.tls_mode {
                None => {}
                Some("istio") => w.raw(self.mesh_mtls.bytes()),
                Some(other) => tls_mode(w, other),
            }
        });
    }
}

fn tls_mode(w: &mut ReverseWriter, mode: &str) {
    filter_metadata(w, "envoy.transport_socket_match", "tlsMode", |w| {
        w.raw(mode.as_bytes());
    });
}

/// `istio: { workload: … }`. Where every length fits one byte, which is nearly
/// always, what stands before the text is a constant but for five lengths, and
/// one copy in place of twelve.
fn workload_metadata(w: &mut ReverseWriter, host: &Host<'_>) {
    let [first, second] = workload(host);
    let length = first.len() + second.len();
    let Some(length) = u8::try_from(length).ok().filter(|n| *n < 128 - 25) else {
        return filter_metadata(w, "istio", "workload", |w| {
            w.raw(second.as_bytes());
            w.raw(first.as_bytes());
        });
    };
    w.raw(second.as_bytes());
    w.raw(first.as_bytes());
    let [entry, fields, field, value] = [25, 16, 14, 2].map(|around| length + around);
    w.raw(&[
        0x0a, entry, 0x0a, 5, b'i', b's', b't', b'i', b'o', 0x12, fields, 0x0a, field, 0x0a, 8,
        b'w', b'o', b'r', b'k', b'l', b'o', b'a', b'd', 0x12, value, 0x1a, length,
    ]);
}

/// A `Struct` with a single text field.
fn filter_metadata(
    w: &mut ReverseWriter,
    filter: &str,
    key: &str,
    text: impl FnOnce(&mut ReverseWriter),
) {
    w.message(1, |w| {
        w.message(2, |w| {
            w.message(1, |w| {
                w.message(2, |w| w.message(3, text));
                w.text(1, key);
            });
        });
        w.text(1, filter);
    });
}

/// `workload;namespace;name;revision;cluster`; of a gateway only the last.
fn workload<'a>(host: &Host<'a>) -> [&'a str; 2] {
    match host {
        Host::Workload(endpoint) => ["", &endpoint.workload.template.metadata],
        Host::Gateway(gateway) => [";;;;", gateway.cluster.as_deref().unwrap_or_default()],
    }
}

fn address(w: &mut ReverseWriter, host: &Host<'_>) {
    match host {
        Host::Workload(endpoint) => match &endpoint.address {
            ips @ (Address::Ip(_) | Address::Ips(_)) => {
                let first = ips.ips().iter().take(1);
                first.for_each(|ip| socket_address(w, endpoint.port, |w| ip_text(w, *ip)));
            }
            Address::Hostname(name) => {
                socket_address(w, endpoint.port, |w| w.raw(name.as_bytes()));
            }
            Address::Unix(path) => w.message(2, |w| w.text(1, path)),
            // Never assigned: it stands behind a gateway or is left out.
            Address::Unknown => {}
        },
        Host::Gateway(gateway) => match &gateway.address {
            GatewayAddress::Ip(ip) => socket_address(w, gateway.port, |w| ip_text(w, *ip)),
            GatewayAddress::Hostname(name) => {
                socket_address(w, gateway.port, |w| w.raw(name.as_bytes()));
            }
        },
    }
}

fn socket_address(w: &mut ReverseWriter, port: u16, host: impl FnOnce(&mut ReverseWriter)) {
    w.message(1, |w| {
        // One of several port fields: written even when it is 0.
        w.uint(3, port.into());
        w.message(2, host);
    });
}

fn ip_text(w: &mut ReverseWriter, ip: IpAddr) {
    let ip = match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => return w.raw(ip.to_string().as_bytes()),
    };
    // From the end to the start, then copied in one step: formatting through
    // `Display` is a quarter of what an endpoint costs.
    let mut text = [0; "255.255.255.255".len()];
    let mut places = text.iter_mut().rev();
    let mut length = 0;
    let mut put = |byte| {
        if let Some(place) = places.next() {
            *place = byte;
            length += 1;
        }
    };
    for (at, mut octet) in ip.octets().into_iter().enumerate().rev() {
        loop {
            put(b'0' + octet % 10);
            octet /= 10;
            if octet == 0 {
                break;
            }
        }
        if at != 0 {
            put(b'.');
        }
    }
    let (_, text) = text.split_at(text.len() - length);
    w.raw(text);
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

/// A 0 inside is not written.
fn uint32_value(w: &mut ReverseWriter, field: u32, value: u32) {
    w.message(field, |w| {
        if value != 0 {
            w.uint(1, value.into());
        }
    });
}
