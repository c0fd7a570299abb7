//! The DNS server of a proxy: names of the mesh from the table that the control
//! plane sends (NDS), all others from the servers of `resolv.conf`.

mod answer;
mod follow;
mod forward;
mod resolv_conf;
mod server;
mod table;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};

pub(super) use self::follow::{Source, follow};
use self::resolv_conf::ResolvConf;
pub(super) use self::server::{DnsError, listen, serve};
use self::table::Table;
use crate::config::{DnsConfig, ProxyNode};
use crate::proto::nds::NameTable;

/// The names of the mesh. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Names {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: ArcSwapOption<Table>,
    /// Short names are of this namespace.
    namespace: String,
    /// `svc.cluster.local`.
    domain: String,
    conf: ResolvConf,
    forward_timeout: Duration,
    /// Whether other names are forwarded before there is a table: where the
    /// machine has no other DNS server, nothing could reach the control plane.
    forwards_early: bool,
    /// Spreads load over addresses and servers.
    turn: AtomicUsize,
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Names {
    /// No names yet. `own` are the addresses that are listened on: nothing is
    /// forwarded there.
    pub(super) fn new(config: &DnsConfig, node: &ProxyNode, own: &[SocketAddr]) -> Self {
        let text = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let mut conf = ResolvConf::parse(&text);
        conf.servers.retain(|server| !own.contains(server));
        let own_namespace = format!("{}.", node.namespace);
        let domain = node.domain.strip_prefix(&own_namespace);
        Self {
            shared: Arc::new(Shared {
                table: ArcSwapOption::empty(),
                namespace: node.namespace.clone(),
                domain: domain.unwrap_or(&node.domain).to_owned(),
                conf,
                forward_timeout: config.forward_timeout,
                forwards_early: own.iter().any(|address| address.port() == 53),
                turn: AtomicUsize::new(0),
            }),
        }
    }

    /// Takes a table in place of the one before.
    pub(super) fn set(&self, names: &NameTable) {
        let Shared {
            namespace, domain, ..
        } = &*self.shared;
        let table = Table::new(names, namespace, domain);
        self.shared.table.store(Some(Arc::new(table)));
    }

    /// Whether there is a table.
    pub(super) fn are_known(&self) -> bool {
        self.shared.table.load().is_some()
    }

    /// All names with their addresses.
    pub(super) fn list(&self) -> BTreeMap<String, Vec<String>> {
        let table = self.shared.table.load();
        table.as_ref().map(|table| table.list()).unwrap_or_default()
    }

    /// The answer to a question, both as they are on the wire; none to what is
    /// no question.
    async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(message) = Message::from_vec(question) else {
            return answer::malformed(question);
        };
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        if message.metadata.op_code != OpCode::Query || message.queries.len() != 1 {
            return answer::failure(&message, ResponseCode::NotImp);
        }
        let found = match &*self.shared.table.load() {
            Some(table) => message
                .queries
                .first()
                .and_then(|query| table.find(query, &self.shared.conf.search)),
            None if self.shared.forwards_early => None,
            // A name of the mesh would be denied by other servers.
            None => return answer::failure(&message, ResponseCode::ServFail),
        };
        if let Some(found) = found {
            return answer::found(&message, &found, self.turn(), transport);
        }
        let (servers, limit) = (&self.shared.conf.servers, self.shared.forward_timeout);
        let forwarded = forward::ask(servers, self.turn(), question, (transport, limit)).await;
        forwarded.or_else(|| answer::failure(&message, ResponseCode::ServFail))
    }

    fn turn(&self) -> usize {
        self.shared.turn.fetch_add(1, Ordering::Relaxed)
    }
}
