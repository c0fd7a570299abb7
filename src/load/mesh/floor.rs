//! A bare watch of the same API servers: what no control plane is faster than.

use std::{borrow::Cow, fmt, net::Ipv4Addr};

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll, select_all},
};
use http::Request;
use kube::api::WatchEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{MeshError, apiserver::ApiServer};

/// How long the watch is asked to last.
const SECONDS: u32 = 24 * 60 * 60;

/// A change that has come back from its API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Cluster, from 0.
    pub cluster: u32,
    /// Service, from 0.
    pub service: u32,
    /// The marker that its slice has now.
    pub marker: Option<Ipv4Addr>,
    /// When.
    pub at: Instant,
}

/// The changes of all clusters, as their API servers tell them.
pub struct Floor {
    events: SelectAll<BoxStream<'static, Seen>>,
}

impl fmt::Debug for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floor").finish_non_exhaustive()
    }
}

impl Floor {
    pub(super) async fn open(servers: &[ApiServer]) -> Result<Self, MeshError> {
        let mut watches = Vec::new();
        for server in servers {
            watches.push(watch(server).await?);
        }
        Ok(Self {
            events: select_all(watches),
        })
    }

    /// The next change; none once all watches have ended, which none does within
    /// a day while its API server lives.
    pub async fn next(&mut self) -> Option<Seen> {
        self.events.next().await
    }
}

async fn watch(server: &ApiServer) -> Result<BoxStream<'static, Seen>, MeshError> {
    const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
    // From the version of a list of one: earlier changes are of no interest.

    let text = server.read(&format!("{SLICES}?limit=1")).await?;
    let text = text.unwrap_or_default();
    let head: ListHead<'_> = serde_json::from_str(&text).unwrap_or_default();
    let version = head.metadata.resource_version;
    let uri = format!("{SLICES}?watch=true&resourceVersion={version}&timeoutSeconds={SECONDS}");
    let failed = |error| MeshError::Api {
        cluster: server.cluster(),
        action: format!("watching {SLICES}"),
        source: Box::new(error),
    };
    let request = Request::get(uri).body(Vec::new());
    let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
    let client = server.client().clone();
    let events = client.request_events::<Box<RawValue>>(request).await;
    let cluster = server.cluster();
    Ok(events
        .map_err(failed)?
        .filter_map(move |event| {
            let at = Instant::now();
            let seen = event.ok().and_then(|event| read(&event));
            futures::future::ready(seen.map(|(service, marker)| Seen {
                cluster,
                service,
                marker,
                at,
            }))
        })
        .boxed())
}

/// Service and marker of a slice that was changed.
fn read(event: &WatchEvent<Box<RawValue>>) -> Option<(u32, Option<Ipv4Addr>)> {
    let (WatchEvent::Added(json) | WatchEvent::Modified(json)) = event else {
        return None;
    };
    let slice: Slice<'_> = serde_json::from_str(json.get()).ok()?;
    let service = slice.metadata.labels.service?;
    let service = service.strip_prefix("svc-")?.parse().ok()?;
    let mut bare = slice.endpoints.iter().filter(|e| e.target_ref.is_none());
    let marker = bare.find_map(|endpoint| endpoint.addresses.first().copied());
    Some((service, marker))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ListHead<'a> {
    #[serde(borrow)]
    metadata: ListMeta<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta<'a> {
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Slice<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    endpoints: Vec<Endpoint<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    labels: Labels<'a>,
}

#[derive(Deserialize)]
struct Labels<'a> {
    #[serde(borrow, rename = "kubernetes.io/service-name")]
    service: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    addresses: Vec<Ipv4Addr>,
    #[serde(borrow)]
    target_ref: Option<&'a RawValue>,
}
