//! Counters of the certificate service, with istiod's names.

use prometheus_client::{encoding::EncodeLabelSet, metrics::family::Family, registry::Registry};

use crate::server::Number;

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignError {
    Csr,
    Ttl,
    NotReady,
    CertGen,
}

/// `error`, with istiod's values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error: &'static str,
}

/// Counters of the certificate service.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Requests that came.
    pub(super) requests: Number,
    /// Callers that did not show who they are.
    pub(super) unauthenticated: Number,
    /// Certificates signed.
    pub(super) issued: Number,
    bad_requests: Number,
    errors: Family<ErrorLabel, Number>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self {
            requests,
            unauthenticated,
            issued,
            bad_requests,
            errors,
        } = &metrics;
        let help = "The number of CSRs received";
        registry.register("citadel_server_csr_count", help, requests.clone());
        let name = "citadel_server_authentication_failure_count";
        let help = "The number of authentication failures";
        registry.register(name, help, unauthenticated.clone());
        let name = "citadel_server_success_cert_issuance_count";
        let help = "The number of certificates issued";
        registry.register(name, help, issued.clone());
        let name = "citadel_server_csr_parsing_err_count";
        let help = "The number of CSRs that could not be read";
        registry.register(name, help, bad_requests.clone());
        let name = "citadel_server_csr_sign_err_count";
        let help = "The number of errors when signing CSRs";
        registry.register(name, help, errors.clone());
        metrics
    }

    pub(super) fn failed(&self, why: SignError) {
        let error = match why {
            SignError::Csr => {
                self.bad_requests.inc();
                "CSR_ERROR"
            }
            SignError::Ttl => "TTL_ERROR",
            SignError::NotReady => "CA_NOT_READY",
            SignError::CertGen => "CERT_GEN_ERROR",
        };
        self.errors.get_or_create(&ErrorLabel { error }).inc();
    }
}
