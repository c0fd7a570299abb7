//! Bookinfo in two clusters on one flat network: pods call each other.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    http::{Call, Client, tally},
    mesh::{Istiod, Mesh, PlanePod, System},
};

const PLANE: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 250);
const INGRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(35, 0, 0, 10), 80);

async fn start() -> Mesh {
    let plane = PlanePod {
        cluster: "cluster-1",
        name: "istiod",
        added_at: Some(PLANE),
    };
    let istiods = ["cluster-1", "cluster-2"].map(|cluster| Istiod {
        cluster,
        address: PLANE,
    });
    Mesh::start(&System {
        seed: "flat-bookinfo",
        planes: &[plane],
        istiods: &istiods,
        certificate_life: "24h",
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test-netns"]
async fn bookinfo_is_served_through_its_ingress_from_pods_of_both_clusters() {
    let mesh = start().await;
    let one = |service| mesh.call("cluster-1", service);
    let app = |pod, calls| mesh.app("cluster-1", pod, 9080, calls);
    let _apps = [
        app("productpage-v1-0", vec![one("details"), one("reviews")]),
        app("details-v1-0", vec![]),
        app("ratings-v1-0", vec![]),
        app("reviews-v1-0", vec![]),
        app("reviews-v2-0", vec![one("ratings")]),
        mesh.app(
            "cluster-2",
            "reviews-v3-0",
            9080,
            vec![mesh.call("cluster-2", "ratings")],
        ),
    ];
    let browser = mesh.topology.internet.entrance();
    let mut client = Client::connect(&browser, INGRESS)
        .await
        .expect("the load balancer");
    let page = Call {
        host: "bookinfo.example".to_owned(),
        address: INGRESS,
    };
    let seen = tally(&mut client, &page, "/productpage", 90).await;
    assert_eq!(seen.failed(), 0, "{seen:?}");
    for part in ["productpage-v1-0", "details-v1-0"] {
        assert_eq!(seen.with(part), 90, "{seen:?}");
    }
    for reviews in ["reviews-v1-0", "reviews-v2-0", "reviews-v3-0"] {
        assert!(seen.with(reviews) > 9, "{reviews}: {seen:?}");
    }
    // The ratings are in cluster-1, whoever asks for them.
    let rated = seen.with("reviews-v2-0") + seen.with("reviews-v3-0");
    assert_eq!(seen.with("ratings-v1-0"), rated, "{seen:?}");
    let hidden = client
        .get(&page.host, "/ratings/1")
        .await
        .expect("an answer");
    assert_eq!(hidden.status, 404);
    // No gateway stands between the clusters: reviews-v3 met its callers itself.
    let reviews = mesh.proxy("cluster-2", "reviews-v3-0");
    assert!(reviews.stat("listener.*_15006.ssl.handshake").await > 0);
    mesh.assert_nothing_rejected().await;
}
