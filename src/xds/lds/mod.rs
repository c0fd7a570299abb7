//! LDS: the listeners of sidecars. Those of routers are in [`super::gateway`].

mod entries;
mod forwarding;
mod headless;
pub(super) mod http;
mod inbound;
pub(super) mod inspectors;
pub(super) mod listener;
mod outbound;
mod routes;
#[cfg(test)]
mod tests;
mod variants;

use std::sync::Arc;

use inbound::InboundKey;
use outbound::OutboundKey;

use super::client::Client;
use super::gateway;
use super::inbound::InboundClass;
use super::resources::{ResourceList, sorted};
use crate::mesh::MemoKey;
use crate::model::NodeKind;

/// Proxies with the same listeners.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListKey {
    outbound: OutboundKey,
    inbound: Option<InboundKey>,
}

impl MemoKey for ListKey {
    type Value = ResourceList;
}

/// The listeners of a proxy, sorted by name.
pub(super) fn list(client: &Client) -> ResourceList {
    if client.proxy.kind == NodeKind::Router {
        return gateway::list(client);
    }
    let key = ListKey {
        outbound: OutboundKey::of(client),
        inbound: InboundClass::of(client).map(|class| InboundKey::of(client, class)),
    };
    let memo = client.snapshot.memo();
    let list = memo.get_or_make(key, |key| build(client, key));
    Arc::clone(&list)
}

/// Both sides of a proxy, each shared by all that have it.
fn build(client: &Client, key: &ListKey) -> ResourceList {
    let outbound = key.outbound.list(client);
    let Some(inbound) = &key.inbound else {
        return outbound;
    };
    let inbound = inbound.list(client);
    sorted(outbound.iter().chain(inbound.iter()).cloned().collect())
}
