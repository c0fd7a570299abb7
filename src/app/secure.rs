//! ADS and certificates, in plain text and over TLS, for callers that show who
//! they are.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use super::{App, clock::now, identity::Identity, listen};
use crate::ads::{self, NodeReader};
use crate::auth::{self, Authenticators, Gate, JwtRule, KubernetesTokens, Policy, TokenReviews};
use crate::config::{Config, Source};
use crate::mesh::SnapshotReader;
use crate::registry::kube::ApiClients;
use crate::server::{self, Certificates, Listener};
use crate::xds::Audiences;

/// Where streams come from.
#[derive(Debug)]
pub(super) struct Sockets {
    plaintext: Option<TcpListener>,
    secure: Option<TcpListener>,
}

/// What streams read.
pub(super) struct Served {
    pub(super) snapshots: SnapshotReader,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) clients: ApiClients,
    pub(super) identity: Identity,
}

impl Sockets {
    /// Listens on the addresses of the configuration.
    pub(super) fn bind(config: &Config) -> Result<Self> {
        let plaintext = config.listen.grpc;
        let secure = config.listen.secure;
        let plaintext = plaintext.map(|address| listen::bind(address, "--grpc-addr"));
        let secure = secure.map(|address| listen::bind(address, "--secure-grpc-addr"));
        Ok(Self {
            plaintext: plaintext.transpose()?,
            secure: secure.transpose()?,
        })
    }

    /// Addresses of plain text and of TLS.
    pub(super) fn addresses(&self) -> Result<[Option<SocketAddr>; 2]> {
        let address = |socket: &Option<TcpListener>| {
            let socket = socket.as_ref().map(TcpListener::local_addr);
            socket.transpose()
        };
        Ok([address(&self.plaintext)?, address(&self.secure)?])
    }
}

/// Serves streams as a task of `app`.
pub(super) fn serve(app: &mut App, sockets: Sockets, served: Served) -> Result<()> {
    let Sockets { plaintext, secure } = sockets;
    let tls = served.identity.tls.clone();
    let secure = secure.map(|socket| Listener::secure(socket, tls));
    let plaintext = plaintext.map(Listener::plaintext);
    let state = Arc::new(state(app, served)?);
    let stop = app.stop.clone().cancelled_owned();
    let listeners = plaintext.into_iter().chain(secure).collect();
    let serve = server::serve(listeners, state, stop);
    app.tasks.spawn("the ADS server", async {
        serve.await;
        Ok(())
    });
    Ok(())
}

fn state(app: &App, served: Served) -> Result<server::State> {
    let (config, metrics) = (&app.config, &app.views.metrics);
    let streams = &config.streams;
    let gate = gate(app, &served)?;
    let authority = served.identity.authority;
    let certificates = metrics.with(|registry| Certificates::new(authority, now, registry));
    let audiences = Audiences::default();
    Ok(server::State {
        config: server::Config {
            max_request_bytes: streams.max_request_bytes,
            max_streams: streams.max_concurrent,
            keepalive_interval: streams.keepalive_interval,
            keepalive_timeout: streams.keepalive_timeout,
            max_age: streams.max_age,
            grace: config.shutdown,
            streams_per_second: Some(f64::from(streams.max_new_per_second)),
            ..server::Config::default()
        },
        sessions: Arc::new(ads::Options {
            nodes: NodeReader::new(config.cluster_aliases.clone()),
            ..ads::Options::default()
        }),
        snapshots: served.snapshots,
        classify: Box::new(move |snapshot, proxy| audiences.of(snapshot, proxy)),
        ready: served.ready,
        gate: Some(gate),
        certificates: config.identity.ca_server.then_some(certificates),
        connections: Arc::default(),
        metrics: metrics.with(server::Metrics::register),
    })
}

/// `JWT_RULE`.
pub(super) fn rule(config: &Config) -> Result<Option<JwtRule>> {
    let rule = config.auth.jwt_rule.as_deref().map(JwtRule::parse);
    rule.transpose().context("the OIDC issuer")
}

fn gate(app: &App, served: &Served) -> Result<Gate> {
    let (config, settings) = (&app.config, &app.config.auth);
    let rule = rule(config)?;
    let metrics = app.views.metrics.with(auth::Metrics::register);
    let reviews = match config.source {
        Source::Files(_) => None,
        Source::Kube(_) => {
            let tokens = KubernetesTokens {
                clients: served.clients.clone(),
                own: config.cluster_id.clone(),
                aliases: config.cluster_aliases.clone(),
            };
            Some(TokenReviews::new(tokens, &settings.audiences, metrics, now))
        }
    };
    let options = auth::Options {
        rule,
        audiences: settings.audiences.clone(),
        reviews,
        trusted_gateways: settings.trusted_gateways.clone(),
    };
    Ok(Gate {
        policy: Policy {
            ads: settings.ads,
            plaintext: settings.plaintext,
            identity_check: settings.identity_check,
        },
        authenticators: Authenticators::new(options, served.snapshots.clone(), now),
    })
}
