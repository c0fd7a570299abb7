//! A mesh as folders of manifests.

use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::fs;

use super::{
    Change, MeshError, Objects, Progress, Shape,
    shape::{NODES, service_name},
};

/// Files that are written at once.
const AT_ONCE: usize = 16;

/// One folder for each cluster. A service has a file of its own for its
/// endpoints: a change reads no pod again.
#[derive(Debug)]
pub(super) struct Folders {
    shape: Shape,
    paths: Vec<PathBuf>,
}

impl Folders {
    pub(super) fn new(shape: Shape, paths: Vec<PathBuf>) -> Self {
        Self { shape, paths }
    }

    pub(super) async fn populate(
        &self,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), MeshError> {
        for (cluster, folder) in (0..).zip(&self.paths) {
            let made = fs::create_dir_all(folder).await;
            made.map_err(|source| failed(folder, source))?;
            write(folder, "base", &self.base(cluster)).await?;
        }
        let total = self.shape.total_services();
        let mut done = 0;
        let clusters = (0..).zip(&self.paths);
        let work = clusters.flat_map(|c| (0..self.shape.services).map(move |s| (c, s)));
        let mut written = stream::iter(work)
            .map(|((cluster, folder), service)| self.write_service(cluster, folder, service))
            .buffer_unordered(AT_ONCE);
        while let Some(()) = written.try_next().await? {
            done += 1;
            progress(Progress { done, total });
        }
        Ok(())
    }

    pub(super) async fn change(&self, change: Change) -> Result<(), MeshError> {
        let Change {
            cluster, service, ..
        } = change;
        let folder = self.paths.get(cluster as usize);
        let folder = folder.ok_or(MeshError::NotThere { cluster, service })?;
        self.write_slices(folder, change).await
    }

    fn base(&self, cluster: u32) -> Vec<u8> {
        let objects = Objects::manifests(self.shape, cluster);
        let namespaces = (0..objects.namespaces()).map(|n| objects.namespace(n));
        let nodes = (0..NODES).map(|n| objects.node(n));
        let gateway = self.shape.gateways.then(|| objects.gateway());
        lines(namespaces.chain(nodes).chain(gateway))
    }

    async fn write_service(
        &self,
        cluster: u32,
        folder: &Path,
        service: u32,
    ) -> Result<(), MeshError> {
        let objects = Objects::manifests(self.shape, cluster);
        let pods = (0..self.shape.endpoints).map(|endpoint| objects.pod(service, endpoint));
        // No API server gives it an address here.
        let with_address = Objects::stored(self.shape, cluster).service(service);
        let text = lines(std::iter::once(with_address).chain(pods));
        write(folder, &service_name(service), &text).await?;
        let change = Change {
            cluster,
            service,
            marker: None,
        };
        self.write_slices(folder, change).await
    }

    async fn write_slices(&self, folder: &Path, change: Change) -> Result<(), MeshError> {
        let Change {
            cluster, service, ..
        } = change;
        let objects = Objects::manifests(self.shape, cluster);
        let marked = self.shape.marked_slice();
        let text = lines((0..self.shape.slices()).map(|slice| {
            let marker = change.marker.filter(|_| slice == marked);
            objects.slice(service, slice, marker)
        }));
        let name = format!("{}-slices", service_name(service));
        write(folder, &name, &text).await
    }
}

/// Manifests one after another.
fn lines(objects: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut text = Vec::new();
    for object in objects {
        text.extend(object);
        text.push(b'\n');
    }
    text
}

/// Writes a file beside its place and renames it: no reader sees half of it.
async fn write(folder: &Path, name: &str, text: &[u8]) -> Result<(), MeshError> {
    // Readers of a folder leave hidden files out.
    let beside = folder.join(format!(".{name}"));
    let written = fs::write(&beside, text).await;
    written.map_err(|source| failed(&beside, source))?;
    let path = folder.join(format!("{name}.json"));
    let renamed = fs::rename(&beside, &path).await;
    renamed.map_err(|source| failed(&path, source))
}

fn failed(path: &Path, source: std::io::Error) -> MeshError {
    MeshError::File {
        path: path.to_owned(),
        source,
    }
}
