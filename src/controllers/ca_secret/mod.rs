//! The certificate authority in a Secret of the own cluster: one that was
//! plugged in (`cacerts`), or a self-signed root that the first replica makes
//! (`istio-ca-secret`, which istiod uses too).

mod secret;
mod sink;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use self::{
    secret::{Secret, create},
    sink::SecretSink,
};
use crate::identity::{
    CaError, CaPems, CertificateAuthority, Clock, FolderError, SelfSigned, SelfSignedError,
    SigningCa, install, parts,
};
use crate::model::ClusterId;
use crate::registry::kube::{Failure, Progress, Resource, follow};

/// What is plugged in, and what istiod's installers mount.
const PLUGGED_IN: &str = "cacerts";
/// What a control plane made itself.
const OWN: &str = "istio-ca-secret";
/// Marks a Secret [`PLUGGED_IN`] that a control plane made itself.
const GENERATED: &str = "istio-generated";
/// istiod's type of such Secrets.
const TYPE: &str = "istio.io/ca-root";
/// Time for one request.
const ANSWER: Duration = Duration::from_secs(30);
/// Pauses after a request that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Where the Secret is, and what to make where there is none.
#[derive(Clone)]
pub struct CaSecrets {
    /// The own cluster.
    pub cluster: ClusterId,
    /// Its client.
    pub client: Client,
    /// System namespace.
    pub namespace: Arc<str>,
    /// A root of our own is kept in `cacerts`
    /// (`USE_CACERTS_FOR_SELF_SIGNED_CA`).
    pub own_in_cacerts: bool,
    /// What to make.
    pub wanted: SelfSigned,
    /// The clock.
    pub clock: Clock,
}

impl fmt::Debug for CaSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CaSecrets");
        debug.field("cluster", &self.cluster);
        debug
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Why there is no certificate authority, and will be none before somebody acts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaSecretError {
    /// A plugged-in one that cannot be used.
    #[error(transparent)]
    PluggedIn(#[from] FolderError),
    /// A root of our own that cannot be used.
    #[error("Secret {namespace}/{name}: {error}; restore it, or delete it to have a new root made")]
    Own {
        /// Namespace.
        namespace: Arc<str>,
        /// Name.
        name: &'static str,
        /// What is wrong.
        error: CaError,
    },
    /// None can be made.
    #[error(transparent)]
    Make(#[from] SelfSignedError),
}

/// Where the authority comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    PluggedIn,
    Own(&'static str),
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::PluggedIn => PLUGGED_IN,
            Self::Own(name) => name,
        }
    }
}

/// A request that failed may do better next time.
enum Problem {
    Passing(Failure),
    Lasting(CaSecretError),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Passing(failure)
    }
}

impl<E: Into<CaSecretError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Lasting(error.into())
    }
}

impl CaSecrets {
    /// Finds or makes the authority, calls `found`, and follows the Secret for
    /// as long as the process lives. An API server that does not answer is
    /// asked again.
    pub async fn run(
        self,
        authority: CertificateAuthority,
        found: impl FnOnce() + Send,
    ) -> Result<Infallible, CaSecretError> {
        let (source, ca) = self.find_patiently().await?;
        install(&authority, ca, &self.text(source.name()), self.clock);
        found();
        let progress = Progress::aside(self.cluster.clone(), "the Secret of the authority");
        let mut sink = SecretSink::new(&self, source, &authority, &progress);
        let resource = self.resource(source.name());
        loop {
            follow(&self.client, &resource, &progress, &mut sink).await;
            // Secrets are always served, and the sink never closes.
            sleep(PAUSES.1).await;
        }
    }

    async fn find_patiently(&self) -> Result<(Source, SigningCa), CaSecretError> {
        let (mut pause, mut told) = (PAUSES.0, String::new());
        loop {
            let failure = match self.find().await {
                Ok(found) => return Ok(found),
                Err(Problem::Lasting(error)) => return Err(error),
                Err(Problem::Passing(failure)) => failure.to_string(),
            };
            if failure != told {
                warn!(cluster = %self.cluster, namespace = %self.namespace, error = failure,
                    "the Secret of the certificate authority cannot be read or made, trying again; \
                     until then no certificate is signed");
                told = failure;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// istiod: what is plugged in wins; then `istio-ca-secret`, even where the
    /// root is to be kept in `cacerts`.
    async fn find(&self) -> Result<(Source, SigningCa), Problem> {
        let plugged = self.read(PLUGGED_IN).await?;
        let generated = |secret: &Secret| self.own_in_cacerts && secret.has(GENERATED);
        if let Some(secret) = plugged.as_ref().filter(|secret| !generated(secret))
            && let Some(ca) = self.checked(Source::PluggedIn, secret)?
        {
            return Ok((Source::PluggedIn, ca));
        }
        let own = self.read(OWN).await?;
        let own = own.map(|secret| (OWN, secret));
        let in_cacerts = plugged.filter(|secret| generated(secret));
        let in_cacerts = in_cacerts.map(|secret| (PLUGGED_IN, secret));
        if let Some((name, secret)) = own.or(in_cacerts)
            && let Some(ca) = self.checked(Source::Own(name), &secret)?
        {
            return Ok((Source::Own(name), ca));
        }
        self.make().await
    }

    /// Makes a root, unless another replica was faster: then that one's counts.
    async fn make(&self) -> Result<(Source, SigningCa), Problem> {
        let name = if self.own_in_cacerts { PLUGGED_IN } else { OWN };
        let (wanted, clock) = (self.wanted.clone(), self.clock);
        let made = spawn_blocking(move || wanted.make(clock())).await;
        let made = made.map_err(|error| SelfSignedError::Making(error.to_string()))??;
        let secret = Secret::own(name, &self.namespace, &made);
        match timeout(ANSWER, create(&self.client, &secret)).await {
            Ok(Ok(())) => info!(secret = self.text(name), "a self-signed root was made"),
            Ok(Err(failure)) if failure.code() == Some(409) => {
                info!(
                    secret = self.text(name),
                    "another replica has made the root"
                );
            }
            Ok(Err(failure)) => return Err(failure.into()),
            Err(_) => return Err(Failure::NoAnswer(ANSWER).into()),
        }
        // What is there is what counts, whoever wrote it.
        let written = self.read(name).await?;
        let source = Source::Own(name);
        let ca = written
            .map(|secret| self.checked(source, &secret))
            .transpose()?;
        let gone = || Failure::Transport("the Secret that was just made is gone".to_owned());
        Ok((source, ca.flatten().ok_or_else(gone)?))
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>, Failure> {
        let read = timeout(ANSWER, secret::read(&self.client, &self.namespace, name)).await;
        read.map_err(|_| Failure::NoAnswer(ANSWER))?
    }

    /// None where the Secret holds nothing of an authority.
    fn checked(&self, source: Source, secret: &Secret) -> Result<Option<SigningCa>, CaSecretError> {
        let name = source.name();
        let parts = match source {
            Source::PluggedIn => {
                let source_name = self.text(name);
                let parts = parts(&source_name, |key| Ok(secret.value(key)))?;
                let Some(parts) = parts else {
                    return Ok(None);
                };
                let ca = SigningCa::from_pem(&parts, (self.clock)());
                let ca = ca.map_err(|error| FolderError::Parts { source_name, error })?;
                return Ok(Some(ca));
            }
            Source::Own(_) => {
                let [key, certificate, ..] = CaPems::NAMES;
                let value = |key| secret.value(key).unwrap_or_default();
                CaPems::self_signed(value(key), value(certificate))
            }
        };
        let ca = SigningCa::from_pem(&parts, (self.clock)());
        ca.map(Some).map_err(|error| CaSecretError::Own {
            namespace: Arc::clone(&self.namespace),
            name,
            error,
        })
    }

    fn text(&self, name: &str) -> String {
        format!("Secret {}/{name}", self.namespace)
    }

    fn resource(&self, name: &str) -> Resource {
        Resource {
            version: "v1".to_owned(),
            plural: "secrets".to_owned(),
            namespace: Some(self.namespace.to_string()),
            fields: Some(format!("metadata.name={name}")),
            ..Resource::default()
        }
    }
}
