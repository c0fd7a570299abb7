//! Two primaries, two networks: a weighted canary and locality failover.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    http::{App, Call, Client, Tally, tally},
    mesh::{Istiod, Mesh, PlanePod, System, greeting},
};

const PLANES: [PlanePod; 2] = [
    PlanePod {
        cluster: "cluster1",
        name: "istiod",
        added_at: Some(Ipv4Addr::new(10, 10, 0, 250)),
    },
    PlanePod {
        cluster: "cluster2",
        name: "istiod",
        added_at: Some(Ipv4Addr::new(10, 20, 0, 250)),
    },
];
/// The rule ejects for one minute.
const EJECTION: Duration = Duration::from_mins(1);

async fn start() -> Mesh {
    let istiods = PLANES.map(|plane| Istiod {
        cluster: plane.cluster,
        address: plane.added_at.expect("an address"),
    });
    Mesh::start(&System {
        seed: "multi-primary-canary",
        planes: &PLANES,
        istiods: &istiods,
        certificate_life: "2m",
    })
    .await
}

fn apps(mesh: &Mesh, cluster: &str, names: &[&str], port: u16) -> Vec<App> {
    let start = |name: &&str| mesh.app(cluster, name, port, Vec::new());
    names.iter().map(start).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn a_canary_gets_its_share_and_failures_fail_over_and_back_while_certificates_rotate() {
    let mesh = start().await;
    let local = ["helloworld-v1-0", "helloworld-v1-1"];
    let local = apps(&mesh, "cluster1", &local, 5000);
    let remote = [
        "helloworld-v1-0",
        "helloworld-v2-0",
        "helloworld-v2-1",
        "helloworld-v2-2",
    ];
    let _remote = apps(&mesh, "cluster2", &remote, 5000);
    assert_split(&mesh).await;
    assert_fails_over_and_back(&mesh, &local).await;
    mesh.assert_private().await;
}

/// 20 to 80 by the VirtualService; v2 runs in the other network only.
async fn assert_split(mesh: &Mesh) {
    let call = mesh.call("cluster1", "helloworld");
    let from = mesh.inside("cluster1", "sleep-v1-0");
    let mut client = Client::connect(&from, call.address)
        .await
        .expect("its sidecar");
    let seen = tally(&mut client, &call, "/hello", 2000).await;
    let canary = seen.with("version: v2");
    assert!((340..=460).contains(&canary), "{canary}: {seen:?}");
    assert!(seen.with("cluster: cluster1") > 0, "{seen:?}");
    assert_eq!(seen.failed(), 0, "{seen:?}");
    // v1 runs here too, so none of its requests leave.
    let away = seen.count(&greeting("cluster2", "helloworld-v1-0", "v1"));
    assert_eq!(away, 0, "{seen:?}");
    mesh.assert_one_gateway_each().await;
}

async fn assert_fails_over_and_back(mesh: &Mesh, local: &[App]) {
    let call = mesh.call("cluster1", "helloworld");
    let from = mesh.inside("cluster1", "sleep-v1-0");
    let mut client = Client::connect(&from, call.address)
        .await
        .expect("its sidecar");
    for app in local {
        app.fail(true);
    }
    let failing = Instant::now();
    // The first 5xx of a pod ejects it.
    let away = greeting("cluster2", "helloworld-v1-0", "v1");
    until(&mut client, &call, |seen| {
        seen.failed() == 0 && seen.count(&away) > 0
    })
    .await;
    let seen = tally(&mut client, &call, "/hello", 200).await;
    assert_eq!(seen.failed(), 0, "{seen:?}");
    assert_eq!(seen.with("cluster: cluster1"), 0, "{seen:?}");
    for app in local {
        app.fail(false);
    }
    let mut failed = 0;
    until(&mut client, &call, |seen| {
        failed += seen.failed();
        seen.count(&away) == 0
    })
    .await;
    assert!(failing.elapsed() >= EJECTION, "{:?}", failing.elapsed());
    // All certificates live for two minutes and are renewed after one.
    until(&mut client, &call, |seen| {
        failed += seen.failed() + seen.count(&away);
        mesh.has_rotated()
    })
    .await;
    assert_eq!(failed, 0, "requests failed, or left again");
}

/// Asks in groups until a group is as it should be.
async fn until(client: &mut Client, call: &Call, mut done: impl FnMut(&Tally) -> bool) {
    let end = Instant::now() + 2 * EJECTION;
    loop {
        let seen = tally(client, call, "/hello", 20).await;
        if done(&seen) {
            return;
        }
        assert!(Instant::now() < end, "{seen:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Pods without a sidecar are called in their own network, in plain text, and
/// from no other: only mTLS passes a gateway.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn pods_without_a_sidecar_are_called_in_their_own_network_only() {
    let mesh = start().await;
    let names = ["plain-v1-0", "plain-v1-1"];
    let _one = apps(&mesh, "cluster1", &names, 8000);
    let _two = apps(&mesh, "cluster2", &names, 8000);
    for (cluster, remote_share) in [("cluster1", false), ("cluster2", true)] {
        let call = mesh.call(cluster, "plain");
        let from = mesh.inside(cluster, "sleep-v1-0");
        let mut client = Client::connect(&from, call.address)
            .await
            .expect("its sidecar");
        let seen = tally(&mut client, &call, "/hello", 60).await;
        assert_eq!(seen.failed(), 0, "{cluster}: {seen:?}");
        let other = PLANES
            .map(|p| p.cluster)
            .into_iter()
            .find(|c| *c != cluster);
        let away = seen.with(&format!("cluster: {}", other.expect("another")));
        assert_eq!(away > 0, remote_share, "{cluster}: {seen:?}");
        let own = seen.with(&format!("cluster: {cluster}"));
        assert!(own > 0, "{cluster}: {seen:?}");
    }
    mesh.assert_private().await;
}
