//! How often one proxy may come.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time that a stream above the burst has to wait for the one before.
const GAP: Duration = Duration::from_secs(1);

/// Proxies that are remembered. Those of more are many reconnects of different
/// proxies, which turns and memory bound.
const MOST: usize = 1 << 16;

/// Bounds what reconnects of one proxy cost: so many streams at once, then one
/// a second. An Envoy backs off, and comes once or twice even when the control
/// plane restarts.
#[derive(Debug)]
pub(super) struct Reconnects {
    /// Streams at once; none is no bound.
    burst: Option<u32>,
    hasher: RandomState,
    /// When each proxy has used up nothing any more.
    recovered: Mutex<HashMap<u64, Instant>>,
}

impl Reconnects {
    pub(super) fn new(burst: Option<u32>) -> Self {
        Self {
            burst,
            hasher: RandomState::new(),
            recovered: Mutex::default(),
        }
    }

    /// Whether a proxy may open a stream now. It is known by its address too:
    /// behind one address there may be a whole cluster, and names are chosen
    /// by whoever connects.
    pub(super) fn allow(&self, peer: IpAddr, proxy: &str) -> Result<(), TooOften> {
        let Some(burst) = self.burst else {
            return Ok(());
        };
        let now = Instant::now();
        let key = self.hasher.hash_one((peer, proxy));
        let mut recovered = self.recovered.lock();
        if recovered.len() >= MOST {
            recovered.retain(|_, at| *at > now);
        }
        if recovered.len() >= MOST {
            recovered.clear();
        }
        let at = recovered.entry(key).or_insert(now);
        let next = (*at).max(now) + GAP;
        if next > now + GAP.saturating_mul(burst) {
            return Err(TooOften { burst });
        }
        *at = next;
        Ok(())
    }
}

/// A proxy opens streams faster than any Envoy does.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this proxy opened more than {burst} streams in a short time: wait a second before the next, and see why the earlier ones ended"
)]
pub(super) struct TooOften {
    burst: u32,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_comes_too_often_is_served_once_a_second() {
        let reconnects = Reconnects::new(Some(30));
        let mut served = 0;
        for _ in 0..1000 {
            served += usize::from(reconnects.allow(PEER, "web-1.shop").is_ok());
            advance(Duration::from_millis(10)).await;
        }
        assert!((38..=41).contains(&served), "{served}");
        // Others are not held to account, not even from the same address.
        assert_eq!(reconnects.allow(PEER, "web-2.shop"), Ok(()));
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(reconnects.allow(other, "web-1.shop"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_proxies_that_come_at_once_are_all_served() {
        let reconnects = Reconnects::new(Some(30));
        for n in 0..1000 {
            for _ in 0..3 {
                assert_eq!(reconnects.allow(PEER, &format!("web-{n}.shop")), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let reconnects = Reconnects::new(Some(2));
        for n in 0..3 * MOST {
            assert_eq!(reconnects.allow(PEER, &n.to_string()), Ok(()));
        }
        assert!(reconnects.recovered.lock().len() <= MOST);
    }
}
