//! Three networks and one control plane behind a load balancer.

use std::net::Ipv4Addr;

use crate::{
    http::{Client, tally},
    mesh::{Istiod, Mesh, PlanePod, System},
};

const CLUSTERS: [(&str, &str); 3] = [
    ("mdemo-cluster1", "helloworld-vc1-0"),
    ("mdemo-cluster2", "helloworld-vc2-0"),
    ("mdemo-cluster3", "helloworld-vc3-0"),
];
const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(10, 64, 30, 71);

async fn start() -> Mesh {
    let plane = PlanePod {
        cluster: "mdemo-cluster1",
        name: "istiod-v1-0",
        added_at: None,
    };
    let istiods = CLUSTERS.map(|(cluster, _)| Istiod {
        cluster,
        address: LOAD_BALANCER,
    });
    Mesh::start(&System {
        seed: "hosted-three-networks",
        planes: &[plane],
        istiods: &istiods,
        certificate_life: "24h",
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn requests_cross_three_networks_through_their_gateways() {
    let mesh = start().await;
    let _apps = CLUSTERS.map(|(cluster, pod)| mesh.app(cluster, pod, 5000, Vec::new()));
    for (cluster, _) in CLUSTERS {
        let call = mesh.call(cluster, "helloworld");
        let from = mesh.inside(cluster, "sleep-v1-0");
        let mut client = Client::connect(&from, call.address)
            .await
            .expect("its sidecar");
        let seen = tally(&mut client, &call, "/hello", 60).await;
        assert_eq!(seen.failed(), 0, "{cluster}: {seen:?}");
        for version in ["version: vc1", "version: vc2", "version: vc3"] {
            assert!(seen.with(version) > 6, "{cluster}: {seen:?}");
        }
    }
    mesh.assert_one_gateway_each().await;
    mesh.assert_private().await;
}
