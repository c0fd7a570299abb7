//! Who a caller is, and whether a proxy may ask for what it asks.
//!
//! [`Authenticators`] try what a caller presents in istiod's order: client
//! certificate, OIDC token, Kubernetes token, forwarded certificate. The first
//! that succeeds decides; where none does, the caller is told why each failed.
//! [`Gate`] adds what the settings say of ADS and of plaintext.
//!
//! Tokens stay inside: no type here shows one in a log, an error or debug
//! output, and what is remembered of one is its hash.

mod authenticators;
mod authorize;
mod caller;
mod certificate;
mod credentials;
mod error;
mod forwarded;
mod gate;
mod issuer;
mod kubernetes;
mod metrics;
mod oidc;
mod token;

use std::time::SystemTime;

pub use authenticators::{Authenticators, Options};
pub use authorize::IdentityMismatch;
pub use caller::{Caller, Via};
pub use certificate::PeerCertificate;
pub use credentials::{Channel, Credentials};
pub use error::{AuthError, Reason};
pub use gate::{Gate, Policy};
pub use issuer::{IssuerError, TokenIssuer};
pub use kubernetes::{KubernetesTokens, TokenReviews};
pub use metrics::Metrics;
pub use oidc::{JwtRule, JwtRuleError};

/// Tells the time of day; tests give another.
pub type Clock = fn() -> SystemTime;
