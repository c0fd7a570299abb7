//! Follows the Secret.

use tracing::warn;

use super::{CaSecrets, Source, secret::Secret};
use crate::identity::{CertificateAuthority, install};
use crate::manifest::Raw;
use crate::registry::kube::{Closed, Progress, Sink};

/// Signs with what the Secret holds. What cannot be used changes nothing.
pub(super) struct SecretSink<'a> {
    secrets: &'a CaSecrets,
    source: Source,
    authority: &'a CertificateAuthority,
    progress: &'a Progress,
    found: bool,
    told: String,
}

impl<'a> SecretSink<'a> {
    pub(super) fn new(
        secrets: &'a CaSecrets,
        source: Source,
        authority: &'a CertificateAuthority,
        progress: &'a Progress,
    ) -> Self {
        Self {
            secrets,
            source,
            authority,
            progress,
            found: false,
            told: String::new(),
        }
    }

    fn read(&mut self, json: &str) {
        let secret = Secret::from_json(json).map_err(|error| error.to_string());
        let checked = secret.and_then(|secret| {
            let checked = self.secrets.checked(self.source, &secret);
            checked.map_err(|error| error.to_string())
        });
        match checked {
            Ok(Some(ca)) => {
                self.told.clear();
                let source = self.secrets.text(self.source.name());
                install(self.authority, ca, &source, self.secrets.clock);
            }
            Ok(None) => self.keep("it holds no certificate authority any more"),
            Err(problem) => self.keep(&problem),
        }
    }

    fn keep(&mut self, problem: &str) {
        if self.told != problem {
            let secret = self.secrets.text(self.source.name());
            warn!(
                secret,
                problem,
                "the changed certificate authority cannot be used; the last good one goes on signing"
            );
            problem.clone_into(&mut self.told);
        }
    }
}

impl Sink for SecretSink<'_> {
    fn begin(&mut self) {
        self.found = false;
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.found = true;
        self.read(object.json());
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        self.progress.listed(usize::from(self.found));
        if !self.found {
            self.keep("it is gone; another replica, or this one after a restart, makes a new root");
        }
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.read(object.json());
    }

    fn deleted(&mut self, _object: Raw<'_>) {
        self.keep("it is gone; another replica, or this one after a restart, makes a new root");
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}
