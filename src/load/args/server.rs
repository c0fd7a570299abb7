//! Where the control plane is, and how to show who one is.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Control plane")]
pub(in crate::load) struct ServerArgs {
    /// ADS address of the control plane
    #[arg(long, default_value = "127.0.0.1:15010", value_name = "HOST:PORT")]
    pub(in crate::load) address: String,
    /// Connect over TLS, and trust the authorities in this file
    #[arg(long, value_name = "FILE")]
    pub(in crate::load) tls_ca: Option<PathBuf>,
    /// Name in the certificate of the control plane
    #[arg(
        long,
        default_value = "istiod.istio-system.svc",
        requires = "tls_ca",
        value_name = "NAME"
    )]
    pub(in crate::load) tls_name: String,
    /// Certificate of the sidecars
    #[arg(long, requires_all = ["tls_ca", "tls_key"], value_name = "FILE")]
    pub(in crate::load) tls_cert: Option<PathBuf>,
    /// Private key of the sidecars
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub(in crate::load) tls_key: Option<PathBuf>,
    /// Token of the sidecars
    #[arg(long, value_name = "FILE")]
    pub(in crate::load) token: Option<PathBuf>,
}
