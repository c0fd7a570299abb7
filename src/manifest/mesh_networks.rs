//! `MeshNetworks`: key `meshNetworks` of the `ConfigMap` `istio`, or the file
//! `--networksConfig`.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Problem,
    json::{Int, List, Map, Text},
    mesh_config::{MeshError, Settings, unknown_fields},
    meta::from_json,
    yaml,
};
use crate::model::{
    ClusterId, DeclaredGateway, Hostname, MeshNetwork, MeshNetworks, NetworkId, NetworkMember,
};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Network<'a> {
    endpoints: List<Endpoints<'a>>,
    gateways: List<Gateway<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Endpoints<'a> {
    from_cidr: Text<'a>,
    from_registry: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Gateway<'a> {
    address: Text<'a>,
    registry_service_name: Text<'a>,
    port: Int,
}

/// Reads `MeshNetworks` from YAML: a map of networks, under `networks:` or
/// bare.
///
/// ```
/// use isthmus::manifest::mesh_networks;
/// let yaml = "
/// networks:
///   network-2:
///     endpoints: [{fromRegistry: cluster-2}]
///     gateways: [{address: 192.0.2.2, port: 15443}]";
/// let networks = mesh_networks::parse(yaml)?.value.networks;
/// assert_eq!(networks.keys().next().map(|n| &**n), Some("network-2"));
/// # Ok::<(), isthmus::manifest::mesh_config::MeshError>(())
/// ```
pub fn parse(yaml: &str) -> Result<Settings<MeshNetworks>, MeshError> {
    let mut value = yaml::to_json(yaml)?;
    let mut warnings = Vec::new();
    if let Some(networks) = value.get_mut("networks").map(Value::take) {
        warnings = unknown_fields(&value, |field| field == "networks");
        value = networks;
    }
    let json = value.to_string();
    let read: Map<'_, Option<Network<'_>>> = from_json(json.as_bytes())?;
    let mut networks = MeshNetworks::default();
    for (name, network) in read.iter() {
        let field = format!("networks.{}", &**name);
        let id = NetworkId::from_text(name)
            .ok_or_else(|| Problem::new("networks", "has a network without a name"))?;
        let network = network.as_ref().map(|network| network.read(&field));
        networks
            .networks
            .insert(id, network.transpose()?.unwrap_or_default());
    }
    Ok(Settings {
        value: networks,
        warnings,
    })
}

impl Network<'_> {
    fn read(&self, field: &str) -> Result<MeshNetwork, Problem> {
        let members = self.endpoints.iter().enumerate();
        let members =
            members.filter_map(|(i, e)| e.read(&format!("{field}.endpoints[{i}]")).transpose());
        let gateways = self.gateways.iter().enumerate();
        let gateways =
            gateways.filter_map(|(i, g)| g.read(&format!("{field}.gateways[{i}]")).transpose());
        Ok(MeshNetwork {
            members: members.collect::<Result<_, _>>()?,
            gateways: gateways.collect::<Result<_, _>>()?,
        })
    }
}

impl Endpoints<'_> {
    fn read(&self, field: &str) -> Result<Option<NetworkMember>, Problem> {
        if let Some(range) = self.from_cidr.filled() {
            let single = range.parse::<IpAddr>().map(Into::into);
            let cidr = single.or_else(|_| range.parse());
            let wrong = |_| {
                Problem::new(
                    format!("{field}.fromCidr"),
                    format!("{range:?} is neither a range nor an IP address"),
                )
            };
            return cidr.map(NetworkMember::Cidr).map(Some).map_err(wrong);
        }
        let Some(registry) = self.from_registry.filled() else {
            return Ok(None);
        };
        if !is_label(registry) {
            let reason = format!(
                "{registry:?} cannot be a cluster's name; use lower-case letters, digits and '-'"
            );
            return Err(Problem::new(format!("{field}.fromRegistry"), reason));
        }
        Ok(Some(NetworkMember::Registry(ClusterId::from(registry))))
    }
}

impl Gateway<'_> {
    fn read(&self, field: &str) -> Result<Option<DeclaredGateway>, Problem> {
        let port = self.port.port();
        let port = || port.ok_or_else(|| Problem::port(format!("{field}.port"), self.port.0));
        if let Some(host) = self.registry_service_name.filled() {
            if !is_host_name(host) {
                let field = format!("{field}.registryServiceName");
                return Err(Problem::new(
                    field,
                    format!("{host:?} is not a full host name"),
                ));
            }
            let host = Hostname::from(host);
            return Ok(Some(DeclaredGateway::Service {
                host,
                port: port()?,
            }));
        }
        // istiod skips a gateway without address.
        let Some(address) = self.address.filled() else {
            return Ok(None);
        };
        if address.parse::<IpAddr>().is_err() && !is_host_name(address) {
            let field = format!("{field}.address");
            return Err(Problem::new(
                field,
                format!("{address:?} is neither an IP address nor a host name"),
            ));
        }
        Ok(Some(DeclaredGateway::Address {
            address: address.into(),
            port: port()?,
        }))
    }
}

/// A DNS-1123 label, upper case allowed as istio does.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 63
        && text.bytes().all(inner)
        && ends
            .iter()
            .all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()))
}

fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    // All digits at the end would be a misspelt IP address.
    text.len() <= 255 && text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
