//! Clusters that do not come from a service.

use std::time::Duration;

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{DiscoveryType, LbPolicy},
    core::v3::{BindConfig, ExtraSourceAddress, HttpProtocolOptions as Common},
};

use super::draft::{Draft, Upstream};
use crate::model::{IpFamily, IstioFilters};
use crate::wire::EncodedResource;
use crate::xds::pb;

/// Where traffic goes that must go nowhere.
pub(in crate::xds) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Where traffic to unknown destinations goes.
pub(in crate::xds) const PASSTHROUGH: &str = "PassthroughCluster";
/// Where inbound traffic to ports of no service goes.
pub(in crate::xds) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Source addresses that iptables lets through to the application: without
/// them the connection would come back to the proxy.
const LOOP_FREE_V4: &str = "127.0.0.6";
const LOOP_FREE_V6: &str = "::6";

/// `BlackHoleCluster`.
pub(super) fn black_hole(connect_timeout: Duration) -> EncodedResource {
    let name = BLACK_HOLE.to_owned();
    Draft::new(name, DiscoveryType::Static, connect_timeout).encode()
}

/// `PassthroughCluster`.
pub(super) fn passthrough(connect_timeout: Duration, filters: IstioFilters) -> EncodedResource {
    let mut draft = original_destination(PASSTHROUGH, connect_timeout);
    if filters.metadata_exchange {
        draft.exchange_metadata();
    }
    draft.encode()
}

/// `InboundPassthroughCluster`.
pub(super) fn inbound_passthrough(connect_timeout: Duration, family: IpFamily) -> EncodedResource {
    let mut draft = original_destination(INBOUND_PASSTHROUGH, connect_timeout);
    // istiod counts both under one name.
    draft.cluster.alt_stat_name = format!("{PASSTHROUGH};");
    let mut bind = loop_free(family);
    if family == IpFamily::Any {
        bind.extra_source_addresses.push(ExtraSourceAddress {
            address: Some(pb::socket_address(LOOP_FREE_V6, 0)),
            ..ExtraSourceAddress::default()
        });
    }
    draft.cluster.upstream_bind_config = Some(bind);
    draft.encode()
}

/// Binds upstream connections to the address that iptables lets through.
pub(super) fn loop_free(family: IpFamily) -> BindConfig {
    let source = match family {
        IpFamily::V6 => LOOP_FREE_V6,
        IpFamily::V4 | IpFamily::Any => LOOP_FREE_V4,
    };
    BindConfig {
        source_address: Some(pb::socket_address(source, 0)),
        ..BindConfig::default()
    }
}

fn original_destination(name: &str, connect_timeout: Duration) -> Draft {
    let discovery = DiscoveryType::OriginalDst;
    let mut draft = Draft::new(name.to_owned(), discovery, connect_timeout);
    draft.cluster.set_lb_policy(LbPolicy::ClusterProvided);
    draft.upstream = Upstream::AsDownstream;
    draft.http = Some(Common {
        idle_timeout: pb::duration(Duration::from_mins(5)),
        ..Common::default()
    });
    draft.limit(Draft::unlimited());
    draft
}
