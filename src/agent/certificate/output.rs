//! Key and certificate as files, for programs beside Envoy.

use std::{io, path::Path};

use tokio::{
    fs::{self, OpenOptions},
    io::AsyncWriteExt,
};

use super::WorkloadCertificate;

/// Writes the three files of pilot-agent's `OUTPUT_CERTS`. Each appears whole;
/// nobody else may read the key.
pub(super) async fn write(folder: &Path, certificate: &WorkloadCertificate) -> io::Result<()> {
    fs::create_dir_all(folder).await?;
    put(folder, "key.pem", &certificate.key, 0o600).await?;
    put(folder, "cert-chain.pem", &certificate.chain, 0o644).await?;
    put(folder, "root-cert.pem", &certificate.roots, 0o644).await
}

async fn put(folder: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    // A leftover could have another mode.
    let _ = fs::remove_file(&new).await;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .await?;
    file.write_all(text.as_bytes()).await?;
    file.sync_all().await?;
    fs::rename(&new, folder.join(name)).await
}
