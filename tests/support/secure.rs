//! A control plane from folders whose callers have tokens and certificates.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{fs, path::Path, time::Duration};

use envoy_types::pb::{
    envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest},
    google::protobuf::{Struct, Value, value::Kind},
};
use isthmus::{
    auth::TokenIssuer,
    testing::{
        identity::{TestCa, TestCaOptions, now},
        secure::SecureClient,
    },
};
use tempfile::TempDir;
use tokio::process::Command;

use super::{plane::Plane, shop::cluster};

pub(crate) const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// A control plane, its authority, and an issuer of tokens that it trusts.
pub(crate) struct SecurePlane {
    pub(crate) plane: Plane,
    pub(crate) issuer: TokenIssuer,
    pub(crate) ca: TestCa,
    pub(crate) folder: TempDir,
}

impl SecurePlane {
    /// Starts one with the cluster `c1`.
    pub(crate) async fn start(configure: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = TokenIssuer::new("https://tokens.example").expect("an issuer");
        let root = TestCa::root(TestCaOptions::new("root"));
        let ca = root.intermediate(TestCaOptions::new("intermediate"));
        fs::create_dir(folder.path().join("c1")).expect("a folder");
        fs::write(folder.path().join("c1/all.yaml"), cluster(1)).expect("a file");
        plug_in(&ca, &folder.path().join("cacerts"));
        let mut plane = Plane::launch(|command| {
            command
                .args(["--cluster-dir", "c1=c1"])
                .current_dir(folder.path())
                .env("ROOT_CA_DIR", folder.path().join("cacerts"))
                .env("JWT_RULE", issuer.rule("istio-ca"));
            configure(command);
        });
        plane.wait_ready().await;
        Self {
            plane,
            issuer,
            ca,
            folder,
        }
    }

    /// A client that trusts the root and presents nothing.
    pub(crate) fn client(&self) -> SecureClient {
        SecureClient::new(self.ca.root_pem())
    }

    /// A token of a service account of namespace `shop`.
    pub(crate) fn token(&self, account: &str) -> String {
        let token = self
            .issuer
            .issue(("shop", account), "istio-ca", now(), HOUR);
        token.expect("a token")
    }

    /// A client with such a token.
    pub(crate) fn with_token(&self, account: &str) -> SecureClient {
        self.client().token(&self.token(account))
    }
}

/// Writes the files of a plugged-in authority, as a mounted Secret changes: all
/// at once.
pub(crate) fn plug_in(ca: &TestCa, folder: &Path) {
    let next = folder.with_extension("next");
    fs::create_dir_all(&next).expect("a folder");
    for (name, text) in [
        ("ca-key.pem", ca.key()),
        ("ca-cert.pem", &ca.certificate()),
        ("cert-chain.pem", ca.chain()),
        ("root-cert.pem", ca.root_pem()),
    ] {
        fs::write(next.join(name), text).expect("a file");
    }
    if folder.exists() {
        fs::rename(folder, folder.with_extension("old")).expect("moved away");
    }
    fs::rename(next, folder).expect("moved here");
}

/// The first request of a sidecar.
pub(crate) fn first(namespace: &str, account: &str) -> DeltaDiscoveryRequest {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = [
        ("CLUSTER_ID", "c1"),
        ("NAMESPACE", namespace),
        ("SERVICE_ACCOUNT", account),
    ];
    let fields = fields.map(|(key, value)| (key.to_owned(), text(value)));
    let node = Node {
        id: format!("sidecar~10.9.9.9~client.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct {
            fields: fields.into(),
        }),
        ..Node::default()
    };
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: CDS.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}
