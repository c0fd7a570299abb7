//! Writes a mesh into API servers.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::{
    MeshError, Objects, Progress, Shape,
    apiserver::{ApiServer, Created, of_system, slices},
    kubeconfig,
    objects::{GATEWAY, RECORD, SYSTEM, pod_name, remote_secret_name, slice_name},
    shape::NODES,
};

/// Services that are written at once, over all clusters.
const AT_ONCE: usize = 64;

/// Writes all objects to all API servers that are not populated yet, and
/// registers the others with the first.
pub(super) async fn populate(
    shape: Shape,
    servers: &[ApiServer],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), MeshError> {
    let mut empty = Vec::new();
    for server in servers {
        if !is_populated(shape, server).await? {
            write_base(shape, server).await?;
            empty.push(server);
        }
    }
    if let Some((first, others)) = servers.split_first()
        && empty.iter().any(|s| s.cluster() == first.cluster())
    {
        for other in others {
            register(shape, first, other).await?;
        }
    }
    let services = u64::from(shape.services);
    let total = shape.total_services();
    let skipped = servers.len().saturating_sub(empty.len()) as u64;
    let done = AtomicU64::new(skipped.saturating_mul(services));
    let work = (0..shape.services).flat_map(|service| empty.iter().map(move |s| (*s, service)));
    stream::iter(work)
        .map(|(server, service)| write_service(shape, server, service))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| {
            let done = done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            progress(Progress { done, total });
            futures::future::ready(Ok(()))
        })
        .await?;
    for server in empty {
        let record = Objects::manifests(shape, server.cluster()).record();
        server
            .write(&of_system("configmaps"), RECORD, record)
            .await?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Record {
    data: RecordData,
}

#[derive(Deserialize)]
struct RecordData {
    shape: String,
}

async fn is_populated(shape: Shape, server: &ApiServer) -> Result<bool, MeshError> {
    let path = format!("{}/{RECORD}", of_system("configmaps"));
    let Some(text) = server.read(&path).await? else {
        return Ok(false);
    };
    let held = serde_json::from_str::<Record>(&text).map_or(text, |record| record.data.shape);
    if held == Objects::manifests(shape, server.cluster()).shape_text() {
        return Ok(true);
    }
    Err(MeshError::OtherShape {
        cluster: server.cluster(),
        held,
    })
}

async fn write_base(shape: Shape, server: &ApiServer) -> Result<(), MeshError> {
    let objects = Objects::manifests(shape, server.cluster());
    for number in 0..objects.namespaces() {
        let namespace = objects.namespace(number);
        let made = server
            .create("/api/v1/namespaces", namespace.clone())
            .await?;
        if number == 0 && made == Created::Existing {
            // Its label is what counts.
            let path = format!("/api/v1/namespaces/{SYSTEM}");
            server.merge(&path, namespace).await?;
        }
    }
    for number in 0..NODES {
        server.create("/api/v1/nodes", objects.node(number)).await?;
    }
    if shape.gateways {
        let services = of_system("services");
        let gateway = objects.gateway();
        server.create(&services, gateway.clone()).await?;
        server
            .merge(&format!("{services}/{GATEWAY}/status"), gateway)
            .await?;
    }
    Ok(())
}

async fn register(shape: Shape, config: &ApiServer, other: &ApiServer) -> Result<(), MeshError> {
    let kubeconfig = kubeconfig::self_contained(other.kubeconfig())?;
    let secret = Objects::manifests(shape, other.cluster()).remote_secret(&kubeconfig);
    let name = remote_secret_name(other.cluster());
    config.write(&of_system("secrets"), &name, secret).await
}

async fn write_service(shape: Shape, server: &ApiServer, service: u32) -> Result<(), MeshError> {
    let objects = Objects::manifests(shape, server.cluster());
    let namespace = format!("/api/v1/namespaces/{}", shape.namespace_of(service));
    let services = format!("{namespace}/services");
    server.create(&services, objects.service(service)).await?;
    let pods = format!("{namespace}/pods");
    for endpoint in 0..shape.endpoints {
        server.create(&pods, objects.pod(service, endpoint)).await?;
        // Creating leaves the status out.
        let path = format!("{pods}/{}/status", pod_name(service, endpoint));
        server
            .merge(&path, objects.pod_status(service, endpoint))
            .await?;
    }
    for slice in 0..shape.slices() {
        let body = objects.slice(service, slice, None);
        let name = slice_name(service, slice);
        server.write(&slices(shape, service), &name, body).await?;
    }
    Ok(())
}
