//! The certificate authority and the certificate that is served with.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio::{sync::watch, task::spawn_blocking};
use tracing::warn;

use super::{App, clock::now, controllers};
use crate::config::{self, CertProvider, Config, Source};
use crate::controllers::CaSecrets;
use crate::identity::{
    CaFolder, CertificateAuthority, Lifetimes, SelfSigned, SigningCa, install, register_expiry,
    self_signed_in,
    serving::{Refusals, ServerTls, ServingFiles, serve_files, serve_issued, serving_names},
};
use crate::mesh::SnapshotReader;

/// What the mesh knows of itself, for those who serve it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Signs certificates of workloads.
    pub(super) authority: CertificateAuthority,
    /// What connections are secured with.
    pub(super) tls: ServerTls,
}

/// Starts what finds the signing certificate, keeps a serving certificate, and
/// gives the root to the clusters. An authority that is plugged in and wrong is
/// an error at once.
pub(super) fn start(app: &mut App, snapshots: &SnapshotReader) -> Result<Identity> {
    let settings = app.config.identity.clone();
    let authority = CertificateAuthority::new(Lifetimes {
        default: settings.default_lifetime,
        max: settings.max_lifetime,
    });
    let refusals = Refusals::default();
    app.views.metrics.with(|registry| {
        register_expiry(registry, &authority, now);
        let name = "isthmus_refused_client_certificates";
        let help = "Client certificates that were refused in a TLS handshake";
        registry.register(name, help, refusals.counter());
    });
    let tls = ServerTls::new(refusals);
    if settings.ca_server {
        sign(app, &settings, &authority, snapshots)?;
    }
    let identity = Identity { authority, tls };
    serve(app, &settings, &identity, snapshots)?;
    Ok(identity)
}

/// Finds the signing certificate: a folder, else a Secret, else a root of our
/// own (istiod: `createIstioCA`).
fn sign(
    app: &mut App,
    settings: &config::Identity,
    authority: &CertificateAuthority,
    snapshots: &SnapshotReader,
) -> Result<()> {
    let authority = authority.clone();
    if let Some((folder, ca)) = plugged_in(settings)? {
        install(
            &authority,
            ca,
            &format!("folder {}", folder.path.display()),
            now,
        );
        app.spawn_until_stop("the folder of the certificate authority", async move {
            match folder.follow(&authority, now).await {}
        });
        return Ok(());
    }
    match app.config.source {
        Source::Files(_) => self_signed(app, settings.clone(), authority, snapshots.clone()),
        Source::Kube(_) => in_secret(app, settings.clone(), authority, snapshots.clone()),
    }
    Ok(())
}

/// The folder of a plugged-in authority and what it holds.
pub(super) fn plugged_in(settings: &config::Identity) -> Result<Option<(CaFolder, SigningCa)>> {
    let Some(path) = settings.root_ca_dir.clone().filter(|_| settings.ca_server) else {
        return Ok(None);
    };
    let folder = CaFolder {
        path,
        ignore_generated: settings.use_cacerts,
    };
    let read = folder.read(now).context("ROOT_CA_DIR")?;
    Ok(read.map(|ca| (folder, ca)))
}

/// With Kubernetes: a Secret that was plugged in, or that the first replica
/// makes.
fn in_secret(
    app: &mut App,
    settings: config::Identity,
    authority: CertificateAuthority,
    snapshots: SnapshotReader,
) {
    let waiting = app
        .views
        .readiness
        .block("the Secret of the certificate authority");
    let (config, clients) = (app.config.clone(), app.clients.clone());
    let ready = app.ready.clone();
    app.spawn_until_stop("the Secret of the certificate authority", async move {
        // The trust domain is known with the first snapshot.
        ready.cancelled().await;
        let secrets = CaSecrets {
            client: clients.wait_for(&config.cluster_id).await,
            cluster: config.cluster_id,
            namespace: Arc::from(&*config.namespace),
            own_in_cacerts: settings.use_cacerts,
            wanted: wanted(&settings, &snapshots),
            clock: now,
        };
        match secrets.run(authority, || drop(waiting)).await? {}
    });
}

/// Without Kubernetes: a root in a file, or in memory.
fn self_signed(
    app: &mut App,
    settings: config::Identity,
    authority: CertificateAuthority,
    snapshots: SnapshotReader,
) {
    let waiting = app.views.readiness.block("the self-signed root");
    let (ready, stop) = (app.ready.clone(), app.stop.clone());
    app.tasks.spawn_once("the self-signed root", async move {
        // The trust domain is known with the first snapshot.
        if stop.run_until_cancelled(ready.cancelled()).await.is_none() {
            return Ok(());
        }
        let wanted = wanted(&settings, &snapshots);
        let made = move || {
            if let Some(folder) = settings.ca_state_dir {
                return Ok(self_signed_in(&folder, &wanted, now())?);
            }
            warn!(
                "the self-signed root is kept in memory only: after a restart nobody trusts \
                 what was signed before; give --ca-state-dir a folder"
            );
            anyhow::Ok(SigningCa::from_pem(&wanted.make(now())?, now())?)
        };
        // A key takes its time.
        install(
            &authority,
            spawn_blocking(made).await??,
            "self-signed root",
            now,
        );
        drop(waiting);
        Ok(())
    });
}

fn wanted(settings: &config::Identity, snapshots: &SnapshotReader) -> SelfSigned {
    SelfSigned {
        organization: snapshots.latest().mesh().config.trust_domain.to_string(),
        lifetime: settings.self_signed_lifetime,
        rsa_bits: settings.self_signed_rsa_bits,
    }
}

/// Where the serving certificate comes from.
enum Serving {
    Files(ServingFiles),
    Issued,
    Nowhere,
}

impl Serving {
    /// One in files wins (istiod: `initIstiodCerts`).
    fn choose(settings: &config::Identity) -> Result<Self> {
        let given = settings.tls_files.clone().map(|files| ServingFiles {
            certificate: files.certificate,
            key: files.key,
            roots: files.roots,
        });
        if let Some(files) = given.or_else(ServingFiles::well_known) {
            return Ok(Self::Files(files));
        }
        match &settings.cert_provider {
            CertProvider::Istiod if settings.ca_server => Ok(Self::Issued),
            CertProvider::Other(name) if name.starts_with("k8s.io/") || name == "kubernetes" => {
                bail!(
                    "PILOT_CERT_PROVIDER={name}: isthmus has no certificates that Kubernetes \
                     signs; use istiod, or give a certificate in files"
                )
            }
            _ => Ok(Self::Nowhere),
        }
    }
}

/// Keeps a serving certificate.
fn serve(
    app: &mut App,
    settings: &config::Identity,
    identity: &Identity,
    snapshots: &SnapshotReader,
) -> Result<()> {
    let names = follow_mesh(app, identity.tls.clone(), snapshots.clone());
    let Identity { authority, tls } = identity.clone();
    match Serving::choose(settings)? {
        Serving::Files(files) => {
            app.spawn_until_stop("the files of the serving certificate", async move {
                match serve_files(files, authority, tls, now).await {}
            });
        }
        Serving::Issued => {
            let (ready, lifetime) = (app.ready.clone(), settings.default_lifetime);
            app.spawn_until_stop("the serving certificate", async move {
                // The names are known with the first snapshot.
                ready.cancelled().await;
                match serve_issued(authority, tls, names, (lifetime, now)).await {}
            });
        }
        Serving::Nowhere => {
            let provider = &settings.cert_provider;
            warn!(
                ?provider,
                ca_server = settings.ca_server,
                "there is no serving certificate: nobody can connect to --secure-grpc-addr"
            );
            return Ok(());
        }
    }
    wait_for_certificate(app, &identity.tls);
    publish(app, &identity.tls, snapshots);
    Ok(())
}

/// Readiness waits for the first serving certificate: before it, every
/// handshake fails.
fn wait_for_certificate(app: &mut App, tls: &ServerTls) {
    if app.config.listen.secure.is_none() {
        return;
    }
    let waiting = app.views.readiness.block("the serving certificate");
    let (mut roots, stop) = (tls.published_roots(), app.stop.clone());
    app.tasks
        .spawn_once("the first serving certificate", async move {
            let first = roots.wait_for(|roots| !roots.is_empty());
            // An error is the end of the process.
            let _ = stop.run_until_cancelled(first).await;
            drop(waiting);
            Ok(())
        });
}

/// Writes the roots to the clusters (istiod: none where there is no serving
/// certificate).
fn publish(app: &mut App, tls: &ServerTls, snapshots: &SnapshotReader) {
    let Source::Kube(source) = app.config.source.clone() else {
        return;
    };
    let clients = app.clients.clone();
    controllers::start(
        app,
        &source,
        clients,
        tls.published_roots(),
        snapshots.clone(),
    );
}

/// Follows what the mesh is called and where it is reached: whose clients are
/// let in, and the names of the serving certificate.
fn follow_mesh(
    app: &mut App,
    tls: ServerTls,
    snapshots: SnapshotReader,
) -> watch::Receiver<BTreeSet<String>> {
    let config = app.config.clone();
    let (names, served) = watch::channel(names(&config, &snapshots));
    let ready = app.ready.clone();
    app.spawn_until_stop("the names of the mesh", async move {
        let mut changed = snapshots.config_changed();
        ready.cancelled().await;
        loop {
            changed.mark_unchanged();
            let domain = Arc::clone(&snapshots.latest().mesh().config.trust_domain);
            tls.set_trust_domains(BTreeSet::from([domain]));
            let wanted = self::names(&config, &snapshots);
            names.send_if_modified(|names| {
                let is_new = *names != wanted;
                *names = wanted;
                is_new
            });
            changed.changed().await.context("the writer is gone")?;
        }
    });
    served
}

fn names(config: &Config, snapshots: &SnapshotReader) -> BTreeSet<String> {
    let host = Arc::clone(&snapshots.latest().mesh().config.discovery_host);
    let custom = &config.identity.custom_hosts;
    serving_names(&config.namespace, &config.revision, &host, custom)
}
