//! Two control planes with one root of trust; each knows the other's cluster
//! for discovery only. Failover by region, then zone.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    http::{Call, Client, resolve, tally},
    mesh::{Istiod, Mesh, PlanePod, System, greeting},
};

const PLANES: [PlanePod; 2] = [
    PlanePod {
        cluster: "cluster-1",
        name: "istiod",
        added_at: Some(Ipv4Addr::new(10, 10, 0, 250)),
    },
    PlanePod {
        cluster: "cluster-2",
        name: "istiod",
        added_at: Some(Ipv4Addr::new(10, 20, 0, 250)),
    },
];

/// How long an ejection may take to arrive.
const LIMIT: Duration = Duration::from_secs(20);

/// All of some requests are answered by one pod.
async fn assert_only(client: &mut Client, call: &Call, expected: &str) {
    let seen = tally(client, call, "/hello", 40).await;
    assert_eq!(seen.count(expected), 40, "{expected}: {seen:?}");
}

/// Asks until none fails. Three failures in a row eject a pod; Envoy tells its
/// workers of changes at most once a second.
async fn settle(client: &mut Client, call: &Call) {
    let end = Instant::now() + LIMIT;
    loop {
        let seen = tally(client, call, "/hello", 10).await;
        if seen.failed() == 0 {
            return;
        }
        assert!(Instant::now() < end, "it goes on failing: {seen:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn requests_stay_in_zone_then_region_then_cross_the_gateway() {
    let istiods = PLANES.map(|plane| Istiod {
        cluster: plane.cluster,
        address: plane.added_at.expect("an address"),
    });
    let mesh = Mesh::start(&System {
        seed: "multi-primary-discovery-only",
        planes: &PLANES,
        istiods: &istiods,
        certificate_life: "24h",
    })
    .await;
    let app = |cluster, pod, port| mesh.app(cluster, pod, port, Vec::new());
    let same_zone = app("cluster-1", "helloworld-v1-0", 5000);
    let same_region = app("cluster-1", "helloworld-v1-1", 5000);
    let _others = [
        app("cluster-2", "helloworld-v2-0", 5000),
        app("cluster-2", "helloworld-v2-1", 5000),
        app("cluster-2", "sleep-v1-0", 80),
    ];
    let from = mesh.inside("cluster-1", "probe-v1-0");
    // It runs in the other cluster only.
    let asleep = mesh.call("cluster-1", "sleep");
    let address = resolve(&from, "sleep.default.svc.cluster.local.").await;
    assert_eq!(address, [*asleep.address.ip()]);
    let mut client = Client::connect(&from, asleep.address)
        .await
        .expect("its sidecar");
    assert_only(
        &mut client,
        &asleep,
        &greeting("cluster-2", "sleep-v1-0", "v1"),
    )
    .await;

    let call = mesh.call("cluster-1", "helloworld");
    let mut client = Client::connect(&from, call.address)
        .await
        .expect("its sidecar");
    assert_only(
        &mut client,
        &call,
        &greeting("cluster-1", "helloworld-v1-0", "v1"),
    )
    .await;
    same_zone.fail(true);
    settle(&mut client, &call).await;
    assert_only(
        &mut client,
        &call,
        &greeting("cluster-1", "helloworld-v1-1", "v1"),
    )
    .await;
    same_region.fail(true);
    settle(&mut client, &call).await;
    let seen = tally(&mut client, &call, "/hello", 40).await;
    assert_eq!(
        (seen.failed(), seen.with("version: v2")),
        (0, 40),
        "{seen:?}"
    );
    mesh.assert_one_gateway_each().await;
    mesh.assert_private().await;
}
