//! A control plane in the namespace of its pod, on istiod's own ports.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    process::Stdio,
    time::Duration,
};

use isthmus::testing::identity::TestCa;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    process::Child,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    clusters::Clusters,
    http::{Call, get},
    namespace::{Entrance, Namespace},
    seed::Seed,
};

const LIMIT: Duration = Duration::from_mins(1);

/// A running control plane. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Plane {
    process: Child,
    folder: TempDir,
    entrance: Entrance,
    _relays: JoinSet<()>,
}

impl Plane {
    pub(crate) fn start(
        seed: &Seed,
        cluster: &str,
        clusters: &Clusters,
        namespace: &Namespace,
        ca: Option<&TestCa>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some(ca) = ca {
            mount(&folder.path().join("etc/cacerts"), ca);
        }
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let relays = relays(namespace, clusters);
        let mut command = namespace.command(env!("CARGO_BIN_EXE_isthmus"));
        let process = command
            .arg("discovery")
            .arg(format!("--clusterID={cluster}"))
            .arg("--kubeconfig")
            .arg(clusters.kubeconfig(cluster))
            .arg("--meshConfig")
            .arg(seed.scenario.mesh_config())
            .arg("--networksConfig")
            .arg(seed.scenario.mesh_networks())
            .env("POD_NAME", format!("istiod-{cluster}"))
            .env("POD_NAMESPACE", "istio-system")
            .env("EXTERNAL_ISTIOD", "true")
            .env_remove("KUBECONFIG")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("isthmus starts");
        Self {
            process,
            folder,
            entrance: namespace.entrance(),
            _relays: relays,
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) async fn wait_ready(&mut self) {
        let end = Instant::now() + LIMIT;
        let page = Call {
            host: "localhost".to_owned(),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080),
        };
        while get(&self.entrance, &page, "/ready").await.map(|a| a.status) != Some(200) {
            let ended = self.process.try_wait().expect("a status");
            assert!(ended.is_none(), "isthmus ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < end, "never ready\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the kubelet makes of a Secret `cacerts`.
fn mount(folder: &Path, ca: &TestCa) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, text) in [
        ("ca-key.pem", ca.key()),
        ("ca-cert.pem", &ca.certificate()),
        ("cert-chain.pem", ca.chain()),
        ("root-cert.pem", ca.root_pem()),
    ] {
        fs::write(folder.join(name), text).expect("a written file");
    }
}

/// Brings the API servers, which listen on this machine's loopback, to the
/// loopback of the control plane.
fn relays(namespace: &Namespace, clusters: &Clusters) -> JoinSet<()> {
    let mut relays = JoinSet::new();
    for port in clusters.ports() {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = namespace.listen(address);
        relays.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((mut inner, _)) = listener.accept().await {
                streams.spawn(async move {
                    if let Ok(mut outer) = TcpStream::connect(address).await {
                        // Either side may go at any time.
                        let _ = copy_bidirectional(&mut inner, &mut outer).await;
                    }
                });
                while streams.try_join_next().is_some() {}
            }
        });
    }
    relays
}
