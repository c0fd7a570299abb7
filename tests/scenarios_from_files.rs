//! All scenarios through the file source: each proxy is sent where istiod sends
//! it, and configured as istiod configures it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod configuration;
    pub(crate) mod fields;
    pub(crate) mod plane;
    pub(crate) mod scenario;
}

use std::{ffi::OsString, fs, path::Path};

use isthmus::testing::record::{ControlPlane, Scenario};
use support::{
    configuration::assert_configured_as_istiod,
    plane::Plane,
    scenario::{assert_answers_as_istiod, read},
};

/// Every API server makes this Service for itself, so it is in the recordings
/// and in no manifest. Its endpoint was loopback, which no slice may
/// hold: it has none.
const OWN_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: kubernetes
  namespace: default
spec:
  clusterIP: 10.96.0.1
  ports:
  - name: https
    port: 443
    protocol: TCP
    targetPort: 6443
";

async fn compare(name: &str) {
    let scenario = read(name);
    let folders = tempfile::tempdir().expect("a folder");
    for cluster in &scenario.clusters {
        let folder = folders.path().join(cluster);
        fs::create_dir(&folder).expect("a folder");
        fs::copy(scenario.manifest(cluster), folder.join("objects.yaml")).expect("a copy");
        fs::write(folder.join("kubernetes.yaml"), OWN_SERVICE).expect("a file");
    }
    for of in &scenario.control_planes {
        let plane = Plane::start(&of.cluster, &source(&scenario, of, folders.path())).await;
        assert_answers_as_istiod(&scenario, of, &plane).await;
        assert_configured_as_istiod(&scenario, of, &plane).await;
    }
}

fn source(scenario: &Scenario, of: &ControlPlane, folders: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        "--meshConfig".into(),
        scenario.mesh_config().into(),
        "--networksConfig".into(),
        scenario.mesh_networks().into(),
    ];
    for cluster in std::iter::once(&of.cluster).chain(&of.remote) {
        let folder = folders.join(cluster);
        args.push("--cluster-dir".into());
        args.push(format!("{cluster}={}", folder.display()).into());
    }
    args
}

#[tokio::test]
async fn flat_bookinfo_is_answered_as_by_istiod() {
    compare("flat-bookinfo").await;
}

#[tokio::test]
async fn hosted_three_networks_is_answered_as_by_istiod() {
    compare("hosted-three-networks").await;
}

#[tokio::test]
async fn multi_primary_canary_is_answered_as_by_istiod() {
    compare("multi-primary-canary").await;
}

#[tokio::test]
async fn multi_primary_discovery_only_is_answered_as_by_istiod() {
    compare("multi-primary-discovery-only").await;
}

#[tokio::test]
async fn primary_remote_is_answered_as_by_istiod() {
    compare("primary-remote").await;
}
