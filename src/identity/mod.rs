//! The certificate authority: what signs workload certificates, which roots are
//! trusted, and the certificate that the control plane itself serves with.
//!
//! [`CertificateAuthority`] is a cheap handle on a [`SigningCa`] that is swapped
//! as a whole: a rotation is seen by the next request, and no open stream knows
//! of it. Nothing here writes to a cluster; Secrets are read and written in
//! `controllers`.

use std::time::SystemTime;

mod authority;
mod certificate;
mod csr;
mod files;
mod folder;
mod issue;
mod metrics;
mod self_signed;
pub mod serving;
mod signing_ca;
mod state_file;
mod trust_bundle;

pub use authority::{CertificateAuthority, Generation};
pub use certificate::Validity;
pub use csr::{CsrError, KeyAndCsr, KeyKind, new_key_and_csr};
pub use folder::{CaFolder, FolderError, install, parts};
pub use issue::{IssueError, IssueRequest, Lifetimes, RefusedRequest, Unable};
pub use metrics::register_expiry;
pub use self_signed::{SelfSigned, SelfSignedError};
pub use signing_ca::{CaError, CaPems, SigningCa};
pub use state_file::{StateFileError, self_signed_in};
pub use trust_bundle::{TrustBundle, TrustBundleError};

/// What time it is. Only `app` knows the real one.
pub type Clock = fn() -> SystemTime;

#[cfg(test)]
mod tests;
