//! Which custom kinds an API server serves now.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    api::{Failure, Resource},
    head::Head,
    status::Progress,
    watch::{Closed, Sink},
};
use crate::manifest::Kind;
use crate::manifest::Raw;

/// Names of the CRDs of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Crds {
    /// Not listed yet.
    #[default]
    Unknown,
    /// May not be read: ask for each kind instead.
    Unreadable,
    /// These exist, at this state of the list; the number grows with each
    /// change, since a change may be "Established".
    Known(BTreeSet<String>, u64),
}

impl Crds {
    /// Whether the kind may be served.
    pub(super) fn may_serve(&self, name: &str) -> bool {
        match self {
            Self::Unknown => false,
            Self::Unreadable => true,
            Self::Known(names, _) => names.contains(name),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// The CRDs themselves: names only, for their schemas are megabytes.
pub(super) fn resource() -> Resource {
    Resource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
        metadata_only: true,
        ..Resource::default()
    }
}

/// Publishes the names of CRDs.
pub(super) struct CrdSink {
    pub names: BTreeSet<String>,
    pub serial: u64,
    pub published: watch::Sender<Crds>,
    pub progress: Progress,
}

impl CrdSink {
    fn publish(&mut self) {
        self.serial += 1;
        let known = Crds::Known(self.names.clone(), self.serial);
        self.published.send_replace(known);
    }
}

impl Sink for CrdSink {
    fn begin(&mut self) {
        self.names.clear();
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.names.insert(Head::of(object).name.into_owned());
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        self.publish();
        self.progress.listed(self.names.len());
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.listed(object);
    }

    fn deleted(&mut self, object: Raw<'_>) {
        self.names.remove(&*Head::of(object).name);
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        if self.published.borrow().is_known() {
            self.publish();
        }
        Ok(())
    }

    fn forbidden(&mut self) {
        self.published.send_if_modified(|crds| {
            let first = !crds.is_known();
            if first {
                *crds = Crds::Unreadable;
            }
            first
        });
    }
}

#[derive(Deserialize)]
struct Served {
    #[serde(default)]
    resources: Vec<ServedResource>,
}

#[derive(Deserialize)]
struct ServedResource {
    name: String,
}

/// The best version of `kind` that is served now, if any is.
pub(super) async fn served_version(
    client: &Client,
    kind: &Kind,
) -> Result<Option<String>, Failure> {
    for version in &kind.versions {
        let url = format!("/apis/{}/{version}", kind.group);
        let request = http::Request::get(url).body(Vec::new());
        let request = request.map_err(|e| Failure::Transport(e.to_string()))?;
        let limit = Duration::from_secs(30);
        let answer = timeout(limit, client.request_text(request)).await;
        match answer.map_err(|_| Failure::NoAnswer(limit))? {
            Ok(text) if serves(&text, kind.plural) => return Ok(Some(version.to_string())),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn serves(discovery: &str, plural: &str) -> bool {
    let served = serde_json::from_str::<Served>(discovery);
    served.is_ok_and(|s| s.resources.iter().any(|r| r.name == plural))
}

/// Waits for news about CRDs, at most `pause`.
pub(super) async fn news(crds: &mut watch::Receiver<Crds>, pause: Duration) {
    tokio::select! {
        _ = crds.changed() => {}
        () = sleep(pause) => {}
    }
}
