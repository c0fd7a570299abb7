//! One primary, and a remote whose proxies reach the control plane through the
//! primary's east-west gateway.

use std::net::Ipv4Addr;

use crate::{
    http::{Client, tally},
    mesh::{Istiod, Mesh, PlanePod, System},
};

/// The clusterIP of istiod, and the load balancer of cluster1's gateway.
const ISTIODS: [Istiod; 2] = [
    Istiod {
        cluster: "cluster1",
        address: Ipv4Addr::new(10, 96, 1, 14),
    },
    Istiod {
        cluster: "cluster2",
        address: Ipv4Addr::new(34, 75, 71, 237),
    },
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn a_remote_is_served_through_the_gateway_of_its_primary() {
    let plane = PlanePod {
        cluster: "cluster1",
        name: "istiod-v1-0",
        added_at: None,
    };
    let mesh = Mesh::start(&System {
        seed: "primary-remote",
        planes: &[plane],
        istiods: &ISTIODS,
        certificate_life: "24h",
    })
    .await;
    // All streams of cluster2 come through: three proxies of pods, two gateways.
    let mut streams = 0;
    for gateway in ["istio-eastwestgateway-v1-0", "istio-eastwestgateway-v1-1"] {
        let gateway = mesh.proxy("cluster1", gateway);
        streams += gateway.stat("listener.*_15012.downstream_cx_active").await;
    }
    assert!(streams >= 4, "{streams}");
    let _apps = [
        mesh.app("cluster1", "helloworld-v1-0", 5000, Vec::new()),
        mesh.app("cluster2", "helloworld-v2-0", 5000, Vec::new()),
    ];
    for cluster in ["cluster1", "cluster2"] {
        let call = mesh.call(cluster, "helloworld");
        let from = mesh.inside(cluster, "sleep-v1-0");
        let mut client = Client::connect(&from, call.address)
            .await
            .expect("its sidecar");
        let seen = tally(&mut client, &call, "/hello", 60).await;
        assert_eq!(seen.failed(), 0, "{cluster}: {seen:?}");
        for version in ["version: v1", "version: v2"] {
            assert!(seen.with(version) > 6, "{cluster}: {seen:?}");
        }
    }
    mesh.assert_one_gateway_each().await;
    mesh.assert_private().await;
}
