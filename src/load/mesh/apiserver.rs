//! One API server of the mesh, as the load generator writes to it.

use std::path::{Path, PathBuf};

use http::{Method, Request};
use kube::Client;

use super::{
    Change, MeshError, Objects, Shape, kubeconfig,
    objects::{SYSTEM, slice_name},
};

/// What became of an object that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there now.
    New,
    /// It was there before and is as it was.
    Existing,
}

/// One API server. Requests are JSON over kube's client: connections are shared
/// and kept.
pub(super) struct ApiServer {
    cluster: u32,
    path: PathBuf,
    client: Client,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ApiServer").field(&self.path).finish()
    }
}

impl ApiServer {
    pub(super) async fn open(cluster: u32, path: PathBuf) -> Result<Self, MeshError> {
        // Fails where the process has a provider already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = kubeconfig::client(&path).await?;
        Ok(Self {
            cluster,
            path,
            client,
        })
    }

    pub(super) fn cluster(&self) -> u32 {
        self.cluster
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.path
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one request; an answer that is an error names what was asked.
    pub(super) async fn ask(
        &self,
        (method, content_type): (Method, &str),
        path: &str,
        body: Vec<u8>,
    ) -> Result<String, MeshError> {
        let action = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(body)
            .map_err(kube::Error::HttpError);
        let answer = match request {
            Ok(request) => self.client.request_text(request).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| MeshError::Api {
            cluster: self.cluster,
            action,
            source: Box::new(error),
        })
    }

    /// Makes an object in the collection at `path`.
    pub(super) async fn create(&self, path: &str, body: Vec<u8>) -> Result<Created, MeshError> {
        let answer = self.ask((Method::POST, JSON), path, body).await;
        match answer {
            Ok(_) => Ok(Created::New),
            Err(error) if code(&error) == Some(409) => Ok(Created::Existing),
            Err(error) => Err(error),
        }
    }

    /// Makes an object, or writes over it.
    pub(super) async fn write(
        &self,
        collection: &str,
        name: &str,
        body: Vec<u8>,
    ) -> Result<(), MeshError> {
        if self.create(collection, body.clone()).await? == Created::Existing {
            self.replace(collection, name, body).await?;
        }
        Ok(())
    }

    async fn replace(&self, collection: &str, name: &str, body: Vec<u8>) -> Result<(), MeshError> {
        let path = format!("{collection}/{name}");
        self.ask((Method::PUT, JSON), &path, body).await.map(drop)
    }

    /// Merges a part of an object into it.
    pub(super) async fn merge(&self, path: &str, part: Vec<u8>) -> Result<(), MeshError> {
        let kind = "application/merge-patch+json";
        self.ask((Method::PATCH, kind), path, part).await.map(drop)
    }

    /// An object, if it is there.
    pub(super) async fn read(&self, path: &str) -> Result<Option<String>, MeshError> {
        match self.ask((Method::GET, JSON), path, Vec::new()).await {
            Ok(text) => Ok(Some(text)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the slice that markers are put into.
    pub(super) async fn change(&self, shape: Shape, change: Change) -> Result<(), MeshError> {
        let slice = shape.marked_slice();
        let objects = Objects::manifests(shape, self.cluster);
        let body = objects.slice(change.service, slice, change.marker);
        let name = slice_name(change.service, slice);
        self.replace(&slices(shape, change.service), &name, body)
            .await
    }
}

const JSON: &str = "application/json";

/// The collection of the `EndpointSlice`s of a service's namespace.
pub(super) fn slices(shape: Shape, service: u32) -> String {
    let namespace = shape.namespace_of(service);
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// A collection of a core kind in the control plane's namespace.
pub(super) fn of_system(plural: &str) -> String {
    format!("/api/v1/namespaces/{SYSTEM}/{plural}")
}

fn code(error: &MeshError) -> Option<u16> {
    match error {
        MeshError::Api { source, .. } => match &**source {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        _ => None,
    }
}
