//! A plugged-in authority: a folder with its parts (`ROOT_CA_DIR`), as a Secret
//! `cacerts` is mounted.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use super::{CaError, CaPems, CertificateAuthority, Clock, SigningCa, files::FileWatch};

/// Names of key, certificate, chain and roots as istio's tools write them.
const ISTIO: [&str; 4] = CaPems::NAMES;
/// The same of a Secret of type `kubernetes.io/tls`; the certificate's file has
/// its chain.
const TLS: [&str; 4] = ["tls.key", "tls.crt", "tls.crt", "ca.crt"];
/// Marks parts that a control plane has made itself.
const GENERATED: &str = "istio-generated";

/// Why a folder has no authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Some parts are there and some are not.
    #[error(
        "{source_name} has {found} but not {missing}: give all of ca-key.pem, ca-cert.pem, cert-chain.pem and \
         root-cert.pem, or all of tls.key, tls.crt and ca.crt, or nothing"
    )]
    Partial {
        /// What was looked at.
        source_name: String,
        /// What is there.
        found: String,
        /// What is not.
        missing: String,
    },
    /// A file that is there cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The parts do not make an authority.
    #[error("{source_name}: {error}")]
    Parts {
        /// What was looked at.
        source_name: String,
        /// What is wrong.
        error: CaError,
    },
}

/// Parts by file name or key of a Secret, whichever of the two layouts they have.
/// None where there is none of them.
pub fn parts(
    source_name: &str,
    mut read: impl FnMut(&'static str) -> Result<Option<Vec<u8>>, FolderError>,
) -> Result<Option<CaPems>, FolderError> {
    let mut partial = None;
    for names in [TLS, ISTIO] {
        let mut all = Vec::new();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            // Only a chain may be empty: the certificate may rest on a root.
            let value = read(name)?.filter(|value| !value.is_empty() || name == ISTIO[2]);
            let list = if value.is_some() {
                &mut found
            } else {
                &mut missing
            };
            list.push(name);
            all.push(value);
        }
        if let Ok([Some(key), Some(certificate), Some(chain), Some(roots)]) =
            <[Option<Vec<u8>>; 4]>::try_from(all)
        {
            return Ok(Some(CaPems {
                key,
                certificate,
                chain,
                roots,
                names,
            }));
        }
        // istiod: where there is a tls.crt, the other layout is not looked at.
        let decided = found.contains(&TLS[1]);
        if !found.is_empty() {
            partial.get_or_insert((found, missing));
        }
        if decided {
            break;
        }
    }
    let Some((mut found, mut missing)) = partial else {
        return Ok(None);
    };
    found.dedup();
    missing.dedup();
    Err(FolderError::Partial {
        source_name: source_name.to_owned(),
        found: found.join(", "),
        missing: missing.join(", "),
    })
}

/// A folder with a plugged-in authority.
#[derive(Debug, Clone)]
pub struct CaFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Parts that a control plane has made itself do not count; they are looked
    /// for in the Secret (`USE_CACERTS_FOR_SELF_SIGNED_CA`).
    pub ignore_generated: bool,
}

impl CaFolder {
    /// Reads and checks what is there. None where nothing is.
    pub fn read(&self, clock: Clock) -> Result<Option<SigningCa>, FolderError> {
        let source_name = format!("the folder {}", self.path.display());
        if self.ignore_generated && self.path.join(GENERATED).exists() {
            return Ok(None);
        }
        let Some(parts) = parts(&source_name, |name| read(&self.path.join(name)))? else {
            return Ok(None);
        };
        let ca = SigningCa::from_pem(&parts, clock());
        ca.map(Some)
            .map_err(|error| FolderError::Parts { source_name, error })
    }

    /// Follows the folder. What cannot be used changes nothing: the authority
    /// goes on with the last good one.
    pub async fn follow(&self, authority: &CertificateAuthority, clock: Clock) -> Infallible {
        let mut watch = FileWatch::of_folders([self.path.clone()]);
        let mut told = None;
        loop {
            let problem = self.look(authority, clock).err();
            // Once each: a folder is looked at every minute.
            if let Some(problem) = problem.as_ref().filter(|_| problem != told) {
                warn!(%problem, "the changed certificate authority cannot be used; the last good one goes on signing");
            }
            told = problem;
            watch.changed().await;
        }
    }

    fn look(&self, authority: &CertificateAuthority, clock: Clock) -> Result<(), String> {
        let source = format!("folder {}", self.path.display());
        match self.read(clock) {
            Ok(Some(ca)) => install(authority, ca, &source, clock),
            Ok(None) => return Err(format!("the {source} has no parts any more")),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // `ROOT_CA_DIR` is a file, or a part is a folder.
        Err(error) => Err(FolderError::Read {
            path: path.to_owned(),
            error,
        }),
    }
}

/// Signs with `ca` from now on, and says what that means.
pub fn install(authority: &CertificateAuthority, ca: SigningCa, source: &str, clock: Clock) {
    let old = authority.trust_bundle();
    let (name, validity) = (ca.name().to_owned(), ca.validity());
    if !authority.install(ca) {
        return;
    }
    info!(%name, source, counts = %validity, "certificates are signed by this authority");
    if !validity.contains(clock()) {
        warn!(%name, counts = %validity, "the signing certificate does not count now: nothing is signed until it is replaced or the clock is right");
    }
    let new = authority.trust_bundle();
    if let (Some(old), Some(new)) = (old, new)
        && !old.shares_a_root_with(&new)
    {
        warn!(%name, "the new roots have none of the old ones: proxies do not trust each other until all have new certificates; give both roots for the time of the change");
    }
}

#[cfg(test)]
mod tests;
