//! What isthmus serves to a proxy, seen by an ADS client in its place.

use std::net::SocketAddr;

use anyhow::Result;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier,
};

use super::rows::{Row, Rows};
use super::scenario::{CLUSTER, Scenario};
use crate::client::{AdsClient, ProxySpec};
use crate::model::TypeUrl;

/// One proxy of the scenario.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) proxy: ProxySpec,
    stream: AdsClient,
    endpoints: Vec<(String, u32)>,
}

impl Observer {
    /// Connects as the proxy.
    pub(super) async fn open(proxy: ProxySpec, control_plane: SocketAddr) -> Result<Self> {
        let names = vec![CLUSTER.to_owned()];
        let ty = TypeUrl::ClusterLoadAssignment;
        let stream = AdsClient::open(&control_plane.to_string(), &proxy, ty, names).await?;
        Ok(Self {
            proxy,
            stream,
            endpoints: Vec::new(),
        })
    }

    /// Waits until the proxy is sent exactly `expected`.
    pub(super) async fn wait_for(&mut self, expected: &Rows, scenario: &Scenario) -> Result<()> {
        while self.rows(scenario) != *expected {
            self.endpoints = next(&mut self.stream).await?;
        }
        Ok(())
    }

    /// What the proxy was sent last.
    pub(super) fn rows(&self, scenario: &Scenario) -> Rows {
        let row = |(address, weight): &(String, u32)| Row {
            kind: scenario.kind_of(address),
            address: address.clone(),
            weight: *weight,
        };
        self.endpoints.iter().map(row).collect()
    }
}

async fn next(stream: &mut AdsClient) -> Result<Vec<(String, u32)>> {
    let ty = TypeUrl::ClusterLoadAssignment;
    let mut answers = stream.next_of::<ClusterLoadAssignment>(ty).await?;
    let assignment = answers.remove(CLUSTER).unwrap_or_default();
    let endpoints = assignment
        .endpoints
        .iter()
        .flat_map(|locality| &locality.lb_endpoints);
    Ok(endpoints.filter_map(endpoint).collect())
}

fn endpoint(lb: &LbEndpoint) -> Option<(String, u32)> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &lb.host_identifier else {
        return None;
    };
    let address = endpoint.address.as_ref()?.address.as_ref()?;
    let Address::SocketAddress(socket) = address else {
        return None;
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return None;
    };
    let weight = lb.load_balancing_weight.as_ref().map_or(1, |w| w.value);
    Some((format!("{}:{port}", socket.address), weight))
}
