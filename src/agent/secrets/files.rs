//! Secrets that are files, under names that say which: `file-cert:CHAIN~KEY`
//! and `file-root:ROOTS` (istiod: `SdsCertificateConfig`).

use std::{io, path::PathBuf, time::Duration};

use tokio::{fs, time::sleep};
use tracing::{debug, warn};

use super::{Secret, Secrets};

/// Files are read again this often: a mount may change by a link, a rename or
/// a write, and on some mounts nothing tells of it. Reading a few small files
/// costs less than to know all of these.
const INTERVAL: Duration = Duration::from_secs(1);
/// A file that is being written is read again this much later.
const SETTLE: Duration = Duration::from_millis(100);

/// A secret in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileSecret {
    Certificate { chain: PathBuf, key: PathBuf },
    Roots(PathBuf),
}

impl FileSecret {
    /// What a name refers to, if it is such a name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(path) = name.strip_prefix("file-root:") {
            return (!path.is_empty()).then(|| Self::Roots(path.into()));
        }
        let (chain, key) = name.strip_prefix("file-cert:")?.split_once('~')?;
        let (chain, key) = (chain.into(), key.into());
        Some(Self::Certificate { chain, key })
    }

    /// Reads it. Certificate and key change one after the other, so both are
    /// read until they stay as they are.
    async fn read(&self, name: &str) -> io::Result<Secret> {
        let mut found = self.read_once(name).await?;
        while let Self::Certificate { .. } = self {
            sleep(SETTLE).await;
            let again = self.read_once(name).await?;
            if again == found {
                break;
            }
            found = again;
        }
        Ok(found)
    }

    async fn read_once(&self, name: &str) -> io::Result<Secret> {
        let (secret, text) = match self {
            Self::Certificate { chain, key } => {
                let (chain, key) = (fs::read(chain).await?, fs::read(key).await?);
                (Secret::certificate(name, &chain, &key), chain)
            }
            Self::Roots(roots) => {
                let roots = fs::read(roots).await?;
                (Secret::roots(name, &roots), roots)
            }
        };
        // An empty one would take a working certificate from Envoy.
        if text.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(secret)
    }
}

impl Secrets {
    /// Reads the files of a name from now on; other names are passed over.
    pub(super) fn want(&self, name: &str) {
        let Some(file) = FileSecret::parse(name) else {
            return;
        };
        let mut state = self.shared.state.lock();
        if state.files.insert(name.to_owned(), file).is_none() {
            self.shared.wanted.notify_one();
        }
    }

    /// Keeps the secrets of files current, for ever.
    pub(in crate::agent) async fn follow_files(self) {
        loop {
            let files = self.shared.state.lock().files.clone();
            for (name, file) in &files {
                self.follow(name, file).await;
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = self.shared.wanted.notified() => {}
            }
        }
    }

    async fn follow(&self, name: &str, file: &FileSecret) {
        let held = self.get(name);
        let read = match file.read_once(name).await {
            Ok(secret) if held.as_ref() == Some(&secret) => return,
            Ok(_) => file.read(name).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(secret) => {
                debug!(name, "secret read from files");
                self.hold([(name.to_owned(), secret)]);
            }
            // Envoy keeps what it has.
            Err(error) if held.is_some() => debug!(name, %error, "cannot read files again"),
            Err(error) => warn!(name, %error, "cannot read the files of a secret yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_files_are_meant() {
        let certificate = FileSecret::Certificate {
            chain: "/a/chain.pem".into(),
            key: "/a/key.pem".into(),
        };
        let name = "file-cert:/a/chain.pem~/a/key.pem";
        assert_eq!(FileSecret::parse(name), Some(certificate));
        let roots = FileSecret::Roots("/a/root.pem".into());
        assert_eq!(FileSecret::parse("file-root:/a/root.pem"), Some(roots));
        for other in ["default", "ROOTCA", "file-cert:/a", "file-root:", ""] {
            assert_eq!(FileSecret::parse(other), None, "{other}");
        }
    }
}
