//! Who shows what a proxy sees: its Envoy, or an ADS client in its place.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier,
};
use tokio::time::sleep;

use super::envoy::Envoy;
use super::rows::{Row, Rows};
use super::scenario::{CLUSTER, Scenario};
use crate::client::{AdsClient, ProxySpec};
use crate::model::TypeUrl;

/// How often Envoy's admin interface is read while a change is awaited.
const POLL: Duration = Duration::from_millis(2);

/// One proxy of the demo.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) proxy: ProxySpec,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Envoy(Envoy),
    Client {
        stream: Box<AdsClient>,
        endpoints: Vec<(String, u32)>,
    },
}

impl Observer {
    pub(super) async fn envoy(
        binary: &Path,
        proxy: ProxySpec,
        control_plane: SocketAddr,
        folder: &Path,
    ) -> Result<Self> {
        let envoy = Envoy::start(binary, &proxy, control_plane, folder).await?;
        Ok(Self {
            proxy,
            source: Source::Envoy(envoy),
        })
    }

    pub(super) async fn client(proxy: ProxySpec, control_plane: SocketAddr) -> Result<Self> {
        let names = vec![CLUSTER.to_owned()];
        let ty = TypeUrl::ClusterLoadAssignment;
        let stream = AdsClient::open(&control_plane.to_string(), &proxy, ty, names).await?;
        let source = Source::Client {
            stream: Box::new(stream),
            endpoints: Vec::new(),
        };
        Ok(Self { proxy, source })
    }

    /// Waits until the proxy sees exactly `expected`.
    pub(super) async fn wait_for(&mut self, expected: &Rows, scenario: &Scenario) -> Result<()> {
        while self.rows(scenario).await? != *expected {
            match &mut self.source {
                Source::Envoy(_) => sleep(POLL).await,
                Source::Client { stream, endpoints } => *endpoints = next(stream).await?,
            }
        }
        Ok(())
    }

    /// What the proxy sees now.
    pub(super) async fn rows(&self, scenario: &Scenario) -> Result<Rows> {
        let endpoints = match &self.source {
            Source::Envoy(envoy) => envoy.endpoints(CLUSTER).await?,
            Source::Client { endpoints, .. } => endpoints.clone(),
        };
        let row = |(address, weight): (String, u32)| Row {
            kind: scenario.kind_of(&address),
            address,
            weight,
        };
        Ok(endpoints.into_iter().map(row).collect::<BTreeSet<_>>())
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
