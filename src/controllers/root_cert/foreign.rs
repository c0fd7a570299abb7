//! A root certificate that is not ours, while somebody else leads: reported,
//! never fought over.

use std::{convert::Infallible, sync::Arc};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{
    RootCerts, at,
    watch::{config_maps, root_of},
};
use crate::controllers::changed;
use crate::controllers::leader::Standing;
use crate::manifest::Raw;
use crate::registry::kube::{Closed, Progress, Sink, follow};

/// What the system namespace's `ConfigMap` holds; none where there is none.
type Held = Option<Arc<str>>;

impl RootCerts {
    /// Compares the root of the cluster's leader with ours for as long as it
    /// is polled. The system namespace stands for all: the leader writes one
    /// text to each.
    pub(in crate::controllers) async fn look(
        &self,
        standing: watch::Receiver<Standing>,
    ) -> Infallible {
        let (sender, held) = watch::channel(None);
        tokio::select! {
            never = self.watch_own(sender) => never,
            never = self.compare(standing, held) => never,
        }
    }

    async fn watch_own(&self, held: watch::Sender<Held>) -> Infallible {
        let progress = Progress::aside(self.cluster.clone(), "configmaps");
        let mut sink = HeldSink {
            progress: progress.clone(),
            held,
            found: None,
        };
        let resource = config_maps(&self.name, Some(&self.system_namespace));
        follow(&self.client, &resource, &progress, &mut sink).await;
        std::future::pending().await
    }

    async fn compare(
        &self,
        mut standing: watch::Receiver<Standing>,
        mut held: watch::Receiver<Held>,
    ) -> Infallible {
        let mut root = self.root.clone();
        let mut since: Option<Instant> = None;
        let mut told = false;
        loop {
            let holder = match &*standing.borrow_and_update() {
                Standing::Following(holder) => Some(Arc::clone(holder)),
                Standing::Leading | Standing::Unknown => None,
            };
            let theirs = held.borrow_and_update().clone();
            let ours = Arc::clone(&root.borrow_and_update());
            let differs = theirs.is_some_and(|theirs| !trusts(&theirs, &ours));
            since = match &holder {
                Some(_) if differs => since.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let deadline = since.map(|since| since + self.patience);
            let foreign = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if foreign != told {
                told = foreign;
                self.tell_foreign(foreign, holder.as_deref().unwrap_or_default());
            }
            tokio::select! {
                () = changed(&mut standing) => {}
                () = changed(&mut held) => {}
                () = changed(&mut root) => {}
                () = at(deadline.filter(|_| !foreign)) => {}
            }
        }
    }

    fn tell_foreign(&self, foreign: bool, holder: &str) {
        self.metrics.set_foreign(&self.cluster, foreign);
        if foreign {
            warn!(
                cluster = %self.cluster,
                %holder,
                config_map = %self.name,
                "the leader of this cluster distributes another root certificate: its workloads \
                 will not trust this control plane; give both one root (cacerts), or stop one"
            );
        } else {
            info!(cluster = %self.cluster, "no foreign root certificate any more");
        }
    }
}

/// Whether `theirs` holds every certificate of `ours`: a bundle may hold more,
/// as it does while a root changes.
fn trusts(theirs: &str, ours: &str) -> bool {
    let read = |text: &str| -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_slice_iter(text.as_bytes());
        all.filter_map(Result::ok).collect()
    };
    let theirs = read(theirs);
    read(ours).iter().all(|root| theirs.contains(root))
}

struct HeldSink {
    progress: Progress,
    held: watch::Sender<Held>,
    /// What the list that is under way holds.
    found: Held,
}

fn text(json: &str) -> Held {
    root_of(json).map(|(_, text)| Arc::from(text))
}

impl Sink for HeldSink {
    fn begin(&mut self) {
        self.found = None;
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.found = text(object.json());
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        self.progress.listed(usize::from(self.found.is_some()));
        self.held.send_replace(self.found.take());
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.held.send_replace(text(object.json()));
    }

    fn deleted(&mut self, _object: Raw<'_>) {
        self.held.send_replace(None);
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(der: &[u8]) -> String {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn a_bundle_that_holds_our_roots_is_no_foreign_one() {
        let (a, b) = (pem(b"a"), pem(b"b"));
        let both = format!("{b}\n{a}");
        assert!(trusts(&both, &a) && trusts(&a, &a));
        assert!(!trusts(&b, &a) && !trusts(&b, &both));
        assert!(!trusts("", &a) && !trusts("not PEM", &a));
    }
}
