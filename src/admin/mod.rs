//! Readiness, metrics and debug views over HTTP.
