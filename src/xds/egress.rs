//! What a proxy may call, by egress listener.

use std::sync::Arc;

use ipnet::IpNet;

use super::client::Client;
use crate::mesh::{EgressScope, MemoKey};
use crate::model::{CaptureMode, ClusterId, IpFamily, Protocol, Provider, Resolution, Service};

/// One egress listener and the services it imports.
#[derive(Debug)]
pub(super) struct Egress {
    /// Its own port; none for all ports of its services.
    pub(super) port: Option<(u16, Protocol)>,
    /// Whether it takes requests for any port, as an explicit proxy.
    pub(super) http_proxy: bool,
    /// Its own address; empty for the usual one.
    pub(super) bind: Arc<str>,
    /// How it gets its traffic.
    pub(super) capture: CaptureMode,
    /// Services, oldest first: the order in which they win over each other.
    pub(super) services: Vec<Arc<Service>>,
}

/// Names the egress listeners of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EgressKey(Arc<str>);

impl MemoKey for EgressKey {
    type Value = Vec<Egress>;
}

/// The egress listeners of a proxy, in order: those with a port, then at most
/// one for all other ports.
pub(super) fn listeners(client: &Client) -> Arc<Vec<Egress>> {
    let key = EgressKey(Arc::clone(client.scope.key()));
    client.snapshot.memo().get_or_make(key, |_| make(client))
}

fn make(client: &Client) -> Vec<Egress> {
    let egress = |scope: &EgressScope| {
        let services = scope.services(&client.snapshot);
        let services = services.iter().map(|s| Arc::clone(&s.service));
        let mut services: Vec<_> = services.filter(|s| has_clusters(s)).collect();
        services.sort_by(|a, b| (&a.meta, &a.key).cmp(&(&b.meta, &b.key)));
        let listener = scope.listener();
        let port = listener.port.as_ref();
        Egress {
            port: port.map(|(number, protocol, _)| (*number, *protocol)),
            http_proxy: listener.http_proxy,
            bind: Arc::clone(&listener.bind),
            capture: listener.capture_mode,
            services,
        }
    };
    client.scope.egress().iter().map(egress).collect()
}

/// Services that are reached in another way have neither listeners nor routes.
fn has_clusters(service: &Service) -> bool {
    !matches!(
        service.resolution,
        Resolution::Alias | Resolution::DynamicDns
    )
}

/// The addresses a proxy of `cluster` dials a service at: those of its family,
/// without the placeholder of services that have none. A proxy of both families
/// uses that of the first address, and all with dual stack. An address of a
/// `ServiceEntry` is only matched, never dialled: any family will do.
pub(super) fn addresses(
    service: &Service,
    cluster: &ClusterId,
    family: IpFamily,
    dual_stack: bool,
) -> Vec<IpNet> {
    let mut all = service.vips(cluster);
    all.retain(|net| !net.addr().is_unspecified());
    let all_families = dual_stack && family == IpFamily::Any;
    if service.provider == Provider::External || all_families {
        return all;
    }
    let first_is_v4 = all.first().is_some_and(|net| net.addr().is_ipv4());
    let v4 = match family {
        IpFamily::V4 => true,
        IpFamily::V6 => false,
        IpFamily::Any => first_is_v4,
    };
    all.retain(|net| net.addr().is_ipv4() == v4);
    all
}

/// The addresses a service is listened for at: without one of the proxy's
/// family its default one (istiod: `GetAddressForProxy`). At the wildcard
/// address it would take what is meant for others.
pub(super) fn listened(service: &Service, cluster: &ClusterId, family: IpFamily) -> Vec<IpNet> {
    let dialled = addresses(service, cluster, family, false);
    if !dialled.is_empty() {
        return dialled;
    }
    let mut default = service.addresses.clone();
    default.retain(|net| !net.addr().is_unspecified());
    default
}
