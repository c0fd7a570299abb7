//! The scenario of the demo: clusters as folders of manifests in a place where
//! they may be changed.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::Instant;
use yaml_serde::Value;

use super::rows::{Kind, Row, Rows};
use crate::client::ProxySpec;

/// Host and port whose endpoints the demo shows.
pub(super) const CLUSTER: &str = "outbound|5000||helloworld.default.svc.cluster.local";
const SERVICE: &str = "helloworld";
/// Name prefix of the pods that scaling adds.
const EXTRA: &str = "helloworld-extra-";

/// A scenario, copied to a folder of its own.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) config_cluster: String,
    pub(super) clusters: Vec<String>,
    /// The sleep sidecar of each cluster.
    pub(super) proxies: Vec<ProxySpec>,
    networks: BTreeMap<String, Network>,
    folder: TempDir,
}

#[derive(Debug, Deserialize)]
struct Spec {
    clusters: Vec<String>,
    control_planes: Vec<ControlPlane>,
}

#[derive(Debug, Deserialize)]
struct Networks {
    networks: BTreeMap<String, Network>,
}

#[derive(Debug, Deserialize)]
struct ControlPlane {
    cluster: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    endpoints: Vec<Member>,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    from_registry: String,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    address: String,
    port: u16,
}

impl Scenario {
    /// Copies the scenario in `from` to a folder that goes when it is dropped.
    pub(super) fn copy(from: &Path) -> Result<Self> {
        let spec: Spec = yaml_serde::from_str(&read(&from.join("scenario.yaml"))?)?;
        let Networks { networks } = yaml_serde::from_str(&read(&from.join("meshnetworks.yaml"))?)?;
        let Some(plane) = spec.control_planes.first() else {
            bail!("{}: no control plane", from.display());
        };
        let folder = tempfile::tempdir().context("no temporary folder")?;
        for file in ["mesh.yaml", "meshnetworks.yaml"] {
            fs::copy(from.join(file), folder.path().join(file))?;
        }
        for cluster in &spec.clusters {
            let text = read(&from.join("clusters").join(format!("{cluster}.yaml")))?;
            fs::create_dir(folder.path().join(cluster))?;
            fs::write(folder.path().join(cluster).join("objects.yaml"), text)?;
        }
        let proxies = ProxySpec::parse_list(&read(&from.join("proxies.yaml"))?)?;
        Ok(Self {
            config_cluster: plane.cluster.clone(),
            clusters: spec.clusters,
            proxies: proxies
                .into_iter()
                .filter(|p| p.name.starts_with("sleep-"))
                .collect(),
            networks,
            folder,
        })
    }

    /// A file or folder of the copy.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a proxy should see now: pods of its own network, and each other
    /// network as its gateway with the weight of the pods behind it.
    pub(super) fn expected(&self, proxy: &ProxySpec) -> Result<Rows> {
        let own = proxy.text("NETWORK").unwrap_or_default();
        let mut rows = Rows::new();
        for (name, network) in &self.networks {
            let mut pods = Vec::new();
            for member in &network.endpoints {
                pods.extend(addresses(&self.documents(&member.from_registry)?));
            }
            if name == own {
                let row = |pod| Row {
                    address: format!("{pod}:5000"),
                    weight: 1,
                    kind: Kind::Pod,
                };
                rows.extend(pods.into_iter().map(row));
                continue;
            }
            rows.extend(network.gateways.iter().map(|gateway| Row {
                address: format!("{}:{}", gateway.address, gateway.port),
                weight: u32::try_from(pods.len()).unwrap_or(u32::MAX),
                kind: Kind::Gateway(name.clone()),
            }));
        }
        Ok(rows)
    }

    /// What an address of this scenario is.
    pub(super) fn kind_of(&self, address: &str) -> Kind {
        let network = self.networks.iter().find(|(_, network)| {
            network
                .gateways
                .iter()
                .any(|g| format!("{}:{}", g.address, g.port) == address)
        });
        network.map_or(Kind::Pod, |(name, _)| Kind::Gateway(name.clone()))
    }

    /// Scales the service in `cluster` to `count` pods, in one atomic write. The
    /// time of that write.
    pub(super) fn scale(&self, cluster: &str, count: usize) -> Result<Instant> {
        let mut documents = self.documents(cluster)?;
        documents.retain(|d| !is(d, "Pod", EXTRA));
        let find = |kind| {
            documents
                .iter()
                .find(move |d| is(d, kind, SERVICE))
                .cloned()
        };
        let pod = find("Pod").context("the scenario has no helloworld pod")?;
        let mut slice = find("EndpointSlice").context("the scenario has no helloworld slice")?;
        let endpoints = slice.get_mut("endpoints").and_then(Value::as_sequence_mut);
        let endpoints = endpoints.context("the helloworld slice has no endpoints")?;
        endpoints.truncate(1);
        let first = endpoints
            .first()
            .cloned()
            .context("the helloworld slice is empty")?;
        for n in 1..count {
            let (pod, endpoint) = replica(&pod, &first, n)?;
            documents.push(pod);
            endpoints.push(endpoint);
        }
        documents.retain(|d| !is(d, "EndpointSlice", SERVICE));
        documents.push(slice);
        self.write(cluster, &documents)
    }

    /// The objects of a cluster as they are now.
    pub(super) fn documents(&self, cluster: &str) -> Result<Vec<Value>> {
        parse(&read(&self.path(cluster).join("objects.yaml"))?)
    }

    /// Replaces the gateways of networks: name and address, and the port of all.
    pub(super) fn set_gateways(&self, gateways: &[(String, Ipv4Addr)], port: u16) -> Result<()> {
        let path = self.path("meshnetworks.yaml");
        let mut networks: Value = yaml_serde::from_str(&read(&path)?)?;
        for (network, address) in gateways {
            let gateway = networks
                .get_mut("networks")
                .and_then(|all| all.get_mut(network));
            let gateway = gateway.and_then(|network| network.get_mut("gateways")?.get_mut(0));
            let gateway = gateway.context("a network has no gateway")?;
            set(gateway, &["address"], address.to_string().into());
            set(gateway, &["port"], port.into());
        }
        Ok(fs::write(path, yaml_serde::to_string(&networks)?)?)
    }

    /// Replaces the objects of a cluster in one atomic write. Its time.
    pub(super) fn write(&self, cluster: &str, documents: &[Value]) -> Result<Instant> {
        let texts: Vec<String> = documents
            .iter()
            .map(yaml_serde::to_string)
            .collect::<Result<_, _>>()?;
        let new = self.path("objects.new");
        fs::write(&new, texts.join("---\n"))?;
        let written = Instant::now();
        fs::rename(&new, self.path(cluster).join("objects.yaml"))?;
        Ok(written)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Value>> {
    let documents = yaml_serde::Deserializer::from_str(text).map(Value::deserialize);
    Ok(documents.collect::<Result<_, _>>()?)
}

/// The text at a path.
pub(super) fn text_at(value: &Value, path: &[&str]) -> Option<String> {
    let found = path.iter().try_fold(value, |value, key| value.get(*key))?;
    found.as_str().map(str::to_owned)
}

/// Whether a manifest is of a kind and its name starts so.
pub(super) fn is(document: &Value, kind: &str, prefix: &str) -> bool {
    let name = document
        .get("metadata")
        .and_then(|m| m.get("name"))
        .and_then(Value::as_str);
    document.get("kind").and_then(Value::as_str) == Some(kind)
        && name.is_some_and(|name| name.starts_with(prefix))
}

/// Addresses of all endpoints of the service.
fn addresses(documents: &[Value]) -> Vec<String> {
    let slices = documents.iter().filter(|d| is(d, "EndpointSlice", SERVICE));
    let endpoints = slices
        .filter_map(|s| s.get("endpoints")?.as_sequence())
        .flatten();
    let addresses = endpoints
        .filter_map(|e| e.get("addresses")?.as_sequence())
        .flatten();
    addresses
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect()
}

/// The `n`th copy of a pod and of its endpoint, 100 + n addresses further on.
fn replica(pod: &Value, endpoint: &Value, n: usize) -> Result<(Value, Value)> {
    let (mut pod, mut endpoint) = (pod.clone(), endpoint.clone());
    let name = format!("{EXTRA}{n}");
    let first = endpoint
        .get("addresses")
        .and_then(|a| a.get(0))
        .and_then(Value::as_str);
    let first: Ipv4Addr = first.context("an endpoint has no address")?.parse()?;
    let address = Ipv4Addr::from(u32::from(first) + 100 + u32::try_from(n)?).to_string();
    set(&mut pod, &["metadata", "name"], name.as_str().into());
    set(&mut pod, &["status", "podIP"], address.as_str().into());
    let ip = Value::Mapping(
        [("ip".into(), address.as_str().into())]
            .into_iter()
            .collect(),
    );
    set(&mut pod, &["status", "podIPs"], Value::Sequence(vec![ip]));
    set(
        &mut endpoint,
        &["addresses"],
        Value::Sequence(vec![address.into()]),
    );
    set(&mut endpoint, &["targetRef", "name"], name.into());
    Ok((pod, endpoint))
}

fn set(value: &mut Value, path: &[&str], to: Value) {
    let mut at = Some(value);
    for key in path {
        at = at.and_then(|v| v.get_mut(*key));
    }
    if let Some(at) = at {
        *at = to;
    }
}
