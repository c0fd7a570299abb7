//! The real server: from a published change to the socket.

use std::{io::stdin, time::Duration};

use isthmus::model::TypeUrl;
use isthmus::server::Config;
use isthmus::testing::ads_server::{AdsServer, Published};
use isthmus::testing::ads_world::{FakeWorld, endpoint_change};

use super::{runtime, tls};

/// The one resource that is sent.
pub const NAME: &str = "outbound|8080||reviews.default.svc.cluster.local";
const HOST: &str = "reviews.default.svc.cluster.local";

/// Sends `size` bytes to all streams for each line that it is told.
pub fn run(size: usize, root: Option<&str>) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut world = FakeWorld::default();
    world.set(TypeUrl::ClusterLoadAssignment, NAME, "nothing yet");
    let config = Config {
        // Keeps pings out of the rounds.
        keepalive_interval: Duration::from_hours(1),
        ..Config::default()
    };
    let published = Published::new(world, config);
    let tls = root.map(|root| tls::server(root.as_ref()));
    let server = AdsServer::serve(published, tls).expect("listens");
    println!("{}", server.address);
    for (round, _) in stdin().lines().enumerate() {
        let content = format!("{round:x>width$}", width = size - NAME.len() - 1);
        server.change(endpoint_change(&[HOST]), |world| {
            world.set(TypeUrl::ClusterLoadAssignment, NAME, &content);
        });
    }
}
