//! The networks are apart, before anything of isthmus runs in them.

use std::net::{SocketAddr, SocketAddrV4};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    namespace::Namespace,
    seed::{Cluster, Seed},
    topology::Topology,
};

/// Answers every connection at `port` of a pod with `name`.
fn listener(pod: &Namespace, port: u16, name: &'static str) -> tokio::task::JoinSet<()> {
    let listener = pod.listen(SocketAddr::from(([0, 0, 0, 0], port)));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The caller may be gone.
            let _ = stream.write_all(name.as_bytes()).await;
        }
    });
    tasks
}

/// What the first to answer at an address says, if a pod can reach it at all.
async fn heard(from: &Namespace, at: SocketAddrV4) -> Option<String> {
    let mut stream = from.connect(at.into()).ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.ok()?;
    Some(said)
}

fn address(cluster: &Cluster, pod: &str, port: u16) -> SocketAddrV4 {
    let pod = cluster.pods.iter().find(|p| p.name == pod).expect("a pod");
    SocketAddrV4::new(pod.ip, port)
}

#[tokio::test]
#[ignore = "needs root: make test-netns"]
async fn pods_reach_their_own_network_and_the_load_balancers_of_others() {
    let seed = Seed::read("hosted-three-networks");
    let topology = Topology::build(&seed);
    let [one, two, three] = &seed.clusters[..] else {
        panic!("three clusters");
    };
    let _servers = [
        listener(topology.pod(one, "helloworld-vc1-0"), 5000, "one"),
        listener(topology.pod(two, "helloworld-vc2-0"), 5000, "two"),
        listener(topology.pod(three, "helloworld-vc3-0"), 5000, "three"),
        listener(
            topology.pod(two, "istio-eastwestgateway-v1-0"),
            15443,
            "gateway two",
        ),
        listener(topology.pod(one, "istiod-v1-0"), 15012, "control plane"),
    ];
    // Clusters 1 and 3 give the same addresses to other pods.
    let (vc1, vc2) = (
        address(one, "helloworld-vc1-0", 5000),
        address(two, "helloworld-vc2-0", 5000),
    );
    assert_eq!(vc1, address(three, "helloworld-vc3-0", 5000));
    let sleep = |cluster| topology.pod(cluster, "sleep-v1-0");
    let gateway = SocketAddrV4::new([10, 6, 136, 29].into(), 15443);
    let plane = SocketAddrV4::new([10, 64, 30, 71].into(), 15012);
    let answers = [
        (sleep(one), vc1, Some("one")),
        (sleep(three), vc1, Some("three")),
        (sleep(two), vc2, Some("two")),
        (sleep(one), vc2, None),
        (sleep(three), vc2, None),
        (sleep(two), vc1, None),
        (sleep(one), gateway, Some("gateway two")),
        (sleep(two), gateway, Some("gateway two")),
        (sleep(three), gateway, Some("gateway two")),
        (sleep(one), plane, Some("control plane")),
        (sleep(two), plane, Some("control plane")),
        (sleep(three), plane, Some("control plane")),
        (&topology.internet, gateway, Some("gateway two")),
        (&topology.internet, vc2, None),
    ];
    for (from, at, expected) in answers {
        let said = heard(from, at).await;
        assert_eq!(said.as_deref(), expected, "{} to {at}", from.name());
    }
}

#[tokio::test]
#[ignore = "needs root: make test-netns"]
async fn plain_text_between_networks_is_noticed() {
    let seed = Seed::read("hosted-three-networks");
    let topology = Topology::build(&seed);
    topology.watch_for(&["gateway two", "never said"]);
    let [one, two, _] = &seed.clusters[..] else {
        panic!("three clusters");
    };
    let gateway = topology.pod(two, "istio-eastwestgateway-v1-0");
    let _server = listener(gateway, 15443, "gateway two");
    assert_eq!(topology.seen(), [0, 0]);
    let at = SocketAddrV4::new([10, 6, 136, 29].into(), 15443);
    let said = heard(topology.pod(one, "sleep-v1-0"), at).await;
    assert_eq!(said.as_deref(), Some("gateway two"));
    assert_eq!(topology.seen(), [1, 0]);
}

/// Two Services of one network share a router; each connection of a Service
/// goes to the next of its pods.
#[tokio::test]
#[ignore = "needs root: make test-netns"]
async fn a_load_balancer_takes_its_pods_in_turn() {
    let seed = Seed::read("primary-remote");
    let topology = Topology::build(&seed);
    let one = seed.cluster("cluster1");
    let _servers = [
        listener(
            topology.pod(one, "istio-eastwestgateway-v1-0"),
            15443,
            "first",
        ),
        listener(
            topology.pod(one, "istio-eastwestgateway-v1-1"),
            15443,
            "second",
        ),
    ];
    let at = SocketAddrV4::new([34, 75, 71, 237].into(), 15443);
    let from = topology.pod(seed.cluster("cluster2"), "sleep-v1-0");
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(heard(from, at).await.expect("an answer"));
    }
    said.sort();
    assert_eq!(said, ["first", "first", "second", "second"]);
}

#[tokio::test]
#[ignore = "needs root: make test-netns"]
async fn namespaces_go_with_their_topology() {
    let seed = Seed::read("flat-bookinfo");
    let topology = Topology::build(&seed);
    let cluster = seed.cluster("cluster-1");
    let pod = topology.pod(cluster, "productpage-v1-0");
    pod.etc("hosts", "10.0.0.1 somewhere\n");
    let mut sleeping = pod.command("sleep").arg("600").spawn().expect("sleep");
    let path = std::path::Path::new("/run/netns").join(pod.name());
    let etc = std::path::Path::new("/etc/netns").join(pod.name());
    assert!(path.exists() && etc.exists());
    drop(topology);
    assert!(!path.exists() && !etc.exists());
    let status = sleeping.wait().await.expect("a status");
    assert!(!status.success(), "it was ended");
}
