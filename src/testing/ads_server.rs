//! The ADS server on loopback, with a hand-made world behind it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ads_world::FakeWorld;
use crate::ads::{Options, Resources};
use crate::auth::Gate;
use crate::identity::serving::ServerTls;
use crate::mesh::{ChangeSet, Lens, Snapshot, SnapshotReader, Update, Writer};
use crate::model::Proxy;
use crate::server::{self, Certificates, Class, Config, Connections, Listener, Metrics, State};

/// All proxies are of one class: each gets what the world holds now.
struct Newest(Arc<Mutex<Arc<FakeWorld>>>);

impl Lens for Newest {
    fn differs(&self, _: &Arc<str>, _: &Arc<Snapshot>, _: &Arc<Snapshot>) -> bool {
        true
    }
}

impl Class for Newest {
    fn resources(self: Arc<Self>, _: Arc<Snapshot>, _: Arc<Proxy>) -> Box<dyn Resources + Send> {
        Box::new(Arc::clone(&self.0.lock()))
    }
}

/// A world that streams read, and its one writer.
#[derive(Debug)]
pub struct Published {
    /// What a server needs.
    pub state: Arc<State>,
    world: Arc<Mutex<Arc<FakeWorld>>>,
    writer: Writer,
    reader: SnapshotReader,
}

impl Published {
    /// Gives every proxy what `world` holds.
    pub fn new(world: FakeWorld, config: Config) -> Self {
        let world = Arc::new(Mutex::new(Arc::new(world)));
        let shared = Arc::clone(&world);
        let newest = Arc::new(Newest(shared));
        let (writer, reader) = Writer::new();
        let state = Arc::new(State {
            config,
            sessions: Arc::new(Options::default()),
            snapshots: reader.clone(),
            classify: Box::new(move |_, _| Arc::clone(&newest) as Arc<dyn Class>),
            gate: None,
            certificates: None,
            ready: Arc::new(AtomicBool::new(true)),
            connections: Arc::default(),
            metrics: Metrics::default(),
        });
        Self {
            state,
            world,
            writer,
            reader,
        }
    }

    /// Lets in whom `gate` lets in, and has `certificates` sign.
    #[must_use]
    pub fn guarded(mut self, gate: Gate, certificates: Certificates) -> Self {
        if let Some(state) = Arc::get_mut(&mut self.state) {
            state.gate = Some(gate);
            state.certificates = Some(certificates);
        }
        self
    }

    /// What streams read.
    pub fn snapshots(&self) -> &SnapshotReader {
        &self.reader
    }

    /// Changes the world and publishes that as the next generation.
    pub fn change(&self, changes: ChangeSet, change: impl FnOnce(&mut FakeWorld)) {
        change(Arc::make_mut(&mut self.world.lock()));
        let next = self.reader.latest().next(Update {
            changes,
            ..Update::default()
        });
        self.writer.publish(Arc::new(next));
    }
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct AdsServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its state.
    pub state: Arc<State>,
    published: Published,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl AdsServer {
    /// Starts a server that gives every proxy what `world` holds.
    pub fn start(world: FakeWorld, config: Config) -> io::Result<Self> {
        Self::serve(Published::new(world, config), None)
    }

    /// Starts a server over TLS, or without.
    pub fn serve(published: Published, tls: Option<ServerTls>) -> io::Result<Self> {
        let state = Arc::clone(&published.state);
        let listener = server::listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let listener = match tls {
            Some(tls) => Listener::secure(listener, tls),
            None => Listener::plaintext(listener),
        };
        let listeners = vec![listener];
        let serve = server::serve(listeners, Arc::clone(&state), stopped);
        #[allow(
            clippy::disallowed_methods,
            reason = "the parent is the test, which ends it by dropping the server"
        )]
        let task = tokio::spawn(serve);
        Ok(Self {
            address,
            state,
            published,
            stop: stop.drop_guard(),
            task,
        })
    }

    /// Changes the world and publishes that as the next generation.
    pub fn change(&self, changes: ChangeSet, change: impl FnOnce(&mut FakeWorld)) {
        self.published.change(changes, change);
    }

    /// Sets whether streams are served.
    pub fn set_ready(&self, ready: bool) {
        self.state.ready.store(ready, Ordering::Relaxed);
    }

    /// Open streams.
    pub fn connections(&self) -> &Connections {
        &self.state.connections
    }

    /// Stops it and waits until it has ended.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

/// A sender of requests and the stream they go into.
pub fn requests<T: Send + 'static>() -> (mpsc::Sender<T>, tokio_stream::wrappers::ReceiverStream<T>)
{
    let (sender, receiver) = mpsc::channel(64);
    (
        sender,
        tokio_stream::wrappers::ReceiverStream::new(receiver),
    )
}
