//! The handle that requests go through.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::{IssueError, IssueRequest, Lifetimes, SigningCa, TrustBundle, Unable, issue};

/// Counts changes of what signs and of what is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// Signs workload certificates with whatever is the current signing
/// certificate. Clones are handles on one authority.
#[derive(Clone)]
pub struct CertificateAuthority {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwapOption<SigningCa>,
    lifetimes: Lifetimes,
    generation: watch::Sender<Generation>,
}

impl CertificateAuthority {
    /// An authority that has no signing certificate yet: requests fail until
    /// [`Self::install`] was called.
    pub fn new(lifetimes: Lifetimes) -> Self {
        Self {
            shared: Arc::new(Shared {
                current: ArcSwapOption::empty(),
                lifetimes,
                generation: watch::Sender::default(),
            }),
        }
    }

    /// Signs with `ca` from now on. False if that is what it does already.
    pub fn install(&self, ca: SigningCa) -> bool {
        if self.current().is_some_and(|current| current.is_same(&ca)) {
            return false;
        }
        self.shared.current.store(Some(Arc::new(ca)));
        self.shared.generation.send_modify(|g| g.0 += 1);
        true
    }

    /// What it signs with now; none before the first was found.
    pub fn current(&self) -> Option<Arc<SigningCa>> {
        self.shared.current.load_full()
    }

    /// The roots that its certificates lead to.
    pub fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        self.current().map(|ca| Arc::clone(ca.trust_bundle()))
    }

    /// Wakes when the signing certificate or the roots change.
    pub fn subscribe(&self) -> watch::Receiver<Generation> {
        self.shared.generation.subscribe()
    }

    /// Signs a request. The answer is the certificate, then the intermediates
    /// one by one, and last the whole root bundle, each with a newline at its
    /// end.
    pub fn issue(&self, request: &IssueRequest<'_>) -> Result<Vec<String>, IssueError> {
        let Some(ca) = self.current() else {
            return Err(IssueError::Internal(Unable::NotReady));
        };
        issue::issue(&ca, &self.shared.lifetimes, request)
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CertificateAuthority");
        debug
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}
