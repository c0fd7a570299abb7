//! API servers that are not there: one HTTP server answers for all clusters of
//! a [`Shape`] what control planes ask of kube-apiserver to list and watch.
//!
//! Objects are made for each answer and none is kept but what was changed, so a
//! million endpoints cost the same as ten. A change is made as on a real server,
//! by a PUT of the `EndpointSlice`, and goes to all watches. What a control plane
//! writes for itself is kept in memory ([`notes`]); nothing else can be written,
//! and who asks is not checked.

mod body;
mod cluster;
mod collection;
mod notes;
mod request;
mod watch;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::{
    cluster::Cluster,
    request::{Ask, Place},
};
use super::{MeshError, Objects, Shape, cluster_name};

/// Longest body of a PUT: a slice has at most 1,000 endpoints.
const LONGEST: usize = 4 << 20;

/// The API servers of all clusters; clones are the same servers.
#[derive(Debug, Clone)]
pub struct Replay {
    shape: Shape,
    clusters: Arc<[Arc<Cluster>]>,
}

impl Replay {
    /// API servers that are to be reached at `address`. Cluster `c1` is
    /// `http://ADDRESS/c1` and holds the remote Secrets of the others.
    pub fn new(shape: Shape, address: SocketAddr) -> Result<Self, MeshError> {
        shape.check()?;
        let secrets = (1..shape.clusters).map(|other| {
            let kubeconfig = kubeconfig(address, other);
            Objects::stored(shape, other).remote_secret(&kubeconfig)
        });
        let mut secrets = secrets.collect();
        let clusters = (0..shape.clusters).map(|cluster| {
            // The first takes them all.
            let secrets = std::mem::take(&mut secrets);
            Arc::new(Cluster::new(shape, cluster, secrets))
        });
        Ok(Self {
            shape,
            clusters: clusters.collect(),
        })
    }

    /// Answers until `stop` is done.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        // An event is one small write, which must not wait for the next.
        let listener = listener.tap_io(|stream| {
            // A connection that has ended already ends by itself.
            let _ = stream.set_nodelay(true);
        });
        let router = Router::new().fallback(answer).with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
    }

    /// Ends all watches, as a restart of the API servers does. With `forget`
    /// what happened before is forgotten too: whoever follows must list again.
    pub fn end_watches(&self, forget: bool) {
        for cluster in self.clusters.iter() {
            cluster.end_watches(forget);
        }
    }

    fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        let number: usize = name.strip_prefix('c')?.parse().ok()?;
        self.clusters.get(number.checked_sub(1)?)
    }
}

/// Writes a kubeconfig for each cluster into a folder: `c1.yaml` and so on.
pub fn write_kubeconfigs(
    shape: Shape,
    address: SocketAddr,
    folder: &Path,
) -> Result<Vec<PathBuf>, MeshError> {
    let failed = |path: &Path, source| MeshError::File {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let paths = (0..shape.clusters).map(|cluster| {
        let path = folder.join(format!("{}.yaml", cluster_name(cluster)));
        let written = std::fs::write(&path, kubeconfig(address, cluster));
        written.map_err(|source| failed(&path, source))?;
        Ok(path)
    });
    paths.collect()
}

/// A kubeconfig is YAML, and so is JSON.
fn kubeconfig(address: SocketAddr, cluster: u32) -> String {
    let name = cluster_name(cluster);
    let server = format!("http://{address}/{name}");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": "anyone", "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "anyone"}}],
        "current-context": name,
    })
    .to_string()
}

async fn answer(State(replay): State<Replay>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_matches('/');
    let (cluster, path) = path.split_once('/').unwrap_or((path, ""));
    let Some(cluster) = replay.cluster(cluster) else {
        return missing("there is no such cluster");
    };
    match (&head.method, Place::parse(path)) {
        (&Method::GET, Place::Version) => json_answer(&json!({"major": "1", "minor": "36"})),
        (&Method::GET, Place::Collection(collection)) => {
            let ask = Ask::parse(head.uri.query().unwrap_or_default());
            let of = (Arc::clone(cluster), collection);
            json_stream(if ask.watch {
                watch::body(of, &ask)
            } else {
                body::list(of, &ask)
            })
        }
        (&Method::GET, Place::Record) => {
            json_stream(Body::from(Objects::manifests(replay.shape, 0).record()))
        }
        (method, Place::Slice { namespace, name }) => {
            let Some(ordinal) = cluster.find(namespace, name) else {
                return missing("there is no such slice");
            };
            match *method {
                Method::GET => json_stream(Body::from(cluster.slice(ordinal))),
                Method::PUT => put(cluster, ordinal, body).await,
                _ => forbidden(),
            }
        }
        (method, _) if notes::are_kept(path) => {
            let body = read(body).await.unwrap_or_default();
            match cluster.notes().ask(method, path, body) {
                Ok(object) => json_answer(&object),
                Err(code) => refuse(code, reason(code), "of a replayed API server"),
            }
        }
        (&Method::GET, _) => missing("it is not replayed"),
        _ => forbidden(),
    }
}

/// The JSON in a body.
async fn read(body: Body) -> Option<Value> {
    let bytes = axum::body::to_bytes(body, LONGEST).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

async fn put(cluster: &Cluster, ordinal: usize, body: Body) -> Response {
    let object = read(body).await;
    match object.and_then(|object| cluster.put(ordinal, object)) {
        Some(stored) => json_stream(Body::from(stored)),
        None => refuse(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "the body is not an EndpointSlice with the name of its path",
        ),
    }
}

fn missing(what: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, "NotFound", what)
}

fn forbidden() -> Response {
    refuse(
        StatusCode::FORBIDDEN,
        "Forbidden",
        "of the replayed objects only EndpointSlices can be changed, by PUT",
    )
}

/// The word that clients know an error by.
fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::NOT_FOUND => "NotFound",
        // Of a write to what has changed; what is there already has the same code.
        StatusCode::CONFLICT => "Conflict",
        _ => "BadRequest",
    }
}

fn json_answer(value: &Value) -> Response {
    json_stream(Body::from(value.to_string()))
}

fn json_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Response {
    let mut response = json_answer(&request::status(code.as_u16(), reason, message));
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests;
