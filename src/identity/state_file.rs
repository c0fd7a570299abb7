//! A self-signed root in a file, for a control plane without Kubernetes.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use tempfile::NamedTempFile;
use tracing::{info, warn};

use super::{
    CaError, CaPems, SelfSigned, SelfSignedError, SigningCa,
    certificate::{certificates, pem},
};

/// Key and certificate in one file: it is there as a whole or not at all.
const NAME: &str = "self-signed-ca.pem";

/// Why there is no root in the folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// The file or its folder.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// What is in it.
    #[error("{}: {error}; restore it, or remove it to have a new root made", path.display())]
    Content {
        /// Where.
        path: PathBuf,
        /// The reason.
        error: CaError,
    },
    /// None could be made.
    #[error(transparent)]
    Make(#[from] SelfSignedError),
}

/// The root in the folder, which is made first where there is none. Of two
/// processes that make one at a time, both end with the same.
pub fn self_signed_in(
    folder: &Path,
    wanted: &SelfSigned,
    now: SystemTime,
) -> Result<SigningCa, StateFileError> {
    let path = folder.join(NAME);
    let io = |error| StateFileError::Io {
        path: path.clone(),
        error,
    };
    if let Some(ca) = read(&path, now)? {
        return Ok(ca);
    }
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io)?;
    let parts = wanted.make(now)?;
    let made = write(folder, &path, &parts).map_err(io)?;
    if made {
        info!(file = %path.display(), "a self-signed root was made");
    }
    let read = read(&path, now)?;
    read.ok_or_else(|| io(io::ErrorKind::NotFound.into()))
}

fn read(path: &Path, now: SystemTime) -> Result<Option<SigningCa>, StateFileError> {
    let io = |error| StateFileError::Io {
        path: path.to_owned(),
        error,
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(file = %path.display(), mode = %format!("{:o}", mode & 0o777), "others can read the key of the root: chmod 600");
    }
    // The roots go to proxies, so of the file only certificates are taken.
    let roots = certificates(&text).unwrap_or_default();
    let roots: String = roots.iter().map(pem).collect();
    let mut parts = CaPems::self_signed(text, roots);
    parts.names = [NAME; 4];
    let ca = SigningCa::from_pem(&parts, now);
    ca.map(Some).map_err(|error| StateFileError::Content {
        path: path.to_owned(),
        error,
    })
}

/// Whether it was written: one that is there already stays. The file is 0600
/// from the first byte on.
fn write(folder: &Path, path: &Path, parts: &CaPems) -> io::Result<bool> {
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(&parts.certificate)?;
    file.write_all(&parts.key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(refused.error),
    }
}

#[cfg(test)]
mod tests;
