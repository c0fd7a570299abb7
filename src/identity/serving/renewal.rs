//! Keeps the serving certificate current.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{ServerTls, ServingCertificate, ServingError};
use crate::identity::{CertificateAuthority, Clock, files::FileWatch};

/// Pause after a certificate could not be had.
const AGAIN: Duration = Duration::from_secs(10);
/// The least and the most time between two looks at the clock; it may be set
/// meanwhile.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Serves with certificates of the own authority, for the names that
/// `names` has at the time, renewed at half of their life and whenever names,
/// signing certificate or roots change.
pub async fn serve_issued(
    authority: CertificateAuthority,
    tls: ServerTls,
    mut names: watch::Receiver<BTreeSet<String>>,
    (lifetime, clock): (Duration, Clock),
) -> Infallible {
    let mut generation = authority.subscribe();
    let mut told = String::new();
    loop {
        generation.mark_unchanged();
        let Some(roots) = authority.trust_bundle() else {
            // An error is the end of the process.
            let _ = generation.changed().await;
            continue;
        };
        tls.set_client_roots(roots);
        let wanted = names.borrow_and_update().clone();
        let made = ServingCertificate::issue(&authority, &wanted, lifetime, clock());
        let left = match made {
            Ok(certificate) => {
                told.clear();
                let left = certificate.validity().left(clock());
                info!(names = certificate.name(), counts = %certificate.validity(), "serving with a new certificate");
                tls.set_certificate(certificate);
                (left / 2).max(LOOK.0)
            }
            Err(error) => {
                tell(&mut told, &error.to_string());
                AGAIN
            }
        };
        let due = async {
            let end = clock() + left;
            while let Ok(rest) = end.duration_since(clock()) {
                sleep(rest.clamp(LOOK.0, LOOK.1)).await;
            }
        };
        tokio::select! {
            () = due => {}
            // An error is the end of the process.
            Ok(()) = generation.changed() => {}
            Ok(()) = names.changed() => {}
        }
    }
}

fn tell(told: &mut String, problem: &str) {
    if told != problem {
        warn!(
            problem,
            "no serving certificate can be had; the last one stays"
        );
        problem.clone_into(told);
    }
}

/// Files with a serving certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingFiles {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The roots that clients verify it against.
    pub roots: PathBuf,
}

/// Why files hold no serving certificate.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{files}: {error}")]
    Content {
        files: String,
        error: Box<ServingError>,
    },
}

impl ServingFiles {
    /// The files of a mounted Secret, where istiod looks for them below the
    /// working folder. None where they are not there.
    pub fn well_known() -> Option<Self> {
        let folder = Path::new("./var/run/secrets/istiod");
        let roots = ["ca/root-cert.pem", "tls/ca.crt"];
        let mut roots = roots.map(|name| folder.join(name)).into_iter();
        let files = Self {
            certificate: folder.join("tls/tls.crt"),
            key: folder.join("tls/tls.key"),
            roots: roots.find(|path| path.is_file())?,
        };
        (files.certificate.is_file() && files.key.is_file()).then_some(files)
    }

    fn read(&self) -> Result<ServingCertificate, FilesError> {
        let Self {
            certificate,
            key,
            roots,
        } = self;
        let bytes = |path: &PathBuf| {
            fs::read(path).map_err(|error| FilesError::Read {
                path: path.clone(),
                error,
            })
        };
        let read = ServingCertificate::from_pem(&bytes(certificate)?, &bytes(key)?, &bytes(roots)?);
        read.map_err(|error| FilesError::Content {
            files: [certificate, key, roots]
                .map(|p| p.display().to_string())
                .join(", "),
            error: Box::new(error),
        })
    }
}

/// Serves with a certificate in files, which are followed. Clients are verified
/// against its roots and those of the own authority. Files that cannot be used
/// end nothing: the last good ones count (istiod: `initFileCertificateWatches`).
pub async fn serve_files(
    files: ServingFiles,
    authority: CertificateAuthority,
    tls: ServerTls,
    clock: Clock,
) -> Infallible {
    let mut watch = FileWatch::of_files([&files.certificate, &files.key, &files.roots]);
    let mut generation = authority.subscribe();
    let (mut told, mut roots, mut current) = (String::new(), None, None);
    loop {
        match files.read() {
            Ok(read) => {
                told.clear();
                roots = Some(Arc::clone(read.roots()));
                if current.as_ref() != Some(read.chain()) {
                    current = Some(read.chain().clone());
                    announce(&read, clock);
                    tls.set_certificate(read);
                }
            }
            Err(error) => tell(&mut told, &error.to_string()),
        }
        let own = authority.trust_bundle();
        let all = match (&roots, own) {
            (Some(files), Some(own)) => Some(Arc::new(files.and(&own))),
            (Some(one), None) => Some(Arc::clone(one)),
            (None, own) => own,
        };
        if let Some(all) = all {
            tls.set_client_roots(all);
        }
        tokio::select! {
            () = watch.changed() => {}
            Ok(()) = generation.changed() => {}
        }
    }
}

fn announce(certificate: &ServingCertificate, clock: Clock) {
    let (names, counts) = (certificate.name(), certificate.validity());
    info!(names, %counts, "serving with the certificate in files");
    if !counts.contains(clock()) {
        warn!(names, %counts, "the serving certificate does not count now; proxies will refuse it");
    }
}
