//! Who takes part in a run: the sidecars, and bad clients.

use std::{process, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use super::args::{LoadArgs, Scope as ScopeArg};
use super::churn::{DOMAIN, cluster_of};
use super::ledger::Ledger;
use super::markers::Markers;
use super::mesh::Shape;
use super::offender::Offence;
use super::proxy::{Kind, Place, Proxy, Scope};
use super::server::Server;
use super::sidecar::{Shared, World, live, reconnect};

/// Who takes part, and what they share.
#[derive(Debug)]
pub(super) struct Cast<'a> {
    args: &'a LoadArgs,
    pub(super) shape: Shape,
    pub(super) world: Arc<World>,
    pub(super) markers: Arc<Markers>,
}

impl<'a> Cast<'a> {
    pub(super) fn new(args: &'a LoadArgs, server: Server) -> Self {
        let shape = args.mesh.shape();
        let ledger = Ledger::new(args.sidecars.count as usize, shape.clusters as usize);
        // Runs one after the other must not take each other's markers for
        // their own.
        let [tag, ..] = process::id().to_le_bytes();
        Self {
            args,
            shape,
            markers: Arc::new(Markers::new(tag)),
            world: Arc::new(World {
                server,
                variant: args.sidecars.variant(),
                ledger: Arc::new(ledger),
                shared: args.sidecars.connections.map(Shared::new),
                storms: watch::Sender::new(()),
                nothing: args.offenders.subscribe_names,
            }),
        }
    }

    fn kind(&self, scope: ScopeArg) -> Arc<Kind> {
        let args = &self.args.sidecars;
        let scope = match scope {
            ScopeArg::All => Scope::Sent(args.hosts_with.as_str().into()),
            ScopeArg::Watched => {
                let services = 0..self.shape.services;
                let hosts = services.map(|service| self.shape.host(service, DOMAIN));
                let names = hosts.map(|host| cluster_of(&host).into_bytes().into_boxed_slice());
                Scope::Known(names.collect())
            }
        };
        Arc::new(Kind {
            variant: args.variant(),
            scope,
            watch: args.watch,
            namespace: args.sidecar_namespace.clone(),
            service_account: args.service_account.clone(),
        })
    }

    fn proxy(&self, kind: &Arc<Kind>, index: u32, offence: Option<Offence>) -> Proxy {
        let network = index % self.shape.clusters.max(1);
        let place = Place {
            index,
            network,
            offence,
        };
        Proxy::new(kind, &self.world.ledger, &self.markers, place)
    }

    /// Starts the sidecars on their own threads.
    pub(super) fn start_sidecars(&self, tasks: &mut JoinSet<()>, runtime: &Handle) {
        let kind = self.kind(self.args.sidecars.scope);
        for index in 0..self.args.sidecars.count {
            let proxy = self.proxy(&kind, index, None);
            tasks.spawn_on(live(Arc::clone(&self.world), proxy), runtime);
        }
    }

    /// Starts the bad clients on this runtime: what they cost is not the
    /// sidecars'.
    pub(super) fn start_offenders(&self, tasks: &mut JoinSet<()>) {
        let kind = self.kind(self.args.sidecars.scope);
        // Those that do not read never learn a name.
        let known = self.kind(ScopeArg::Watched);
        let mut index = self.args.sidecars.count;
        for (offence, count) in self.args.offenders.counts() {
            if count > 0 {
                self.world.ledger.offended(offence, |_| {});
            }
            for _ in 0..count {
                let reads = !matches!(offence, Offence::Slow | Offence::Stuck);
                let proxy = self.proxy(if reads { &kind } else { &known }, index, Some(offence));
                index += 1;
                let world = Arc::clone(&self.world);
                if offence == Offence::Reconnects {
                    let rate = self.args.offenders.reconnect_rate;
                    tasks.spawn(reconnect(world, proxy, rate));
                } else {
                    tasks.spawn(live(world, proxy));
                }
            }
        }
    }
}
