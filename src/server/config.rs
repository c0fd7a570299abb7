//! Settings of the ADS server.

use std::time::Duration;

/// Settings of the ADS server; the defaults are istiod's.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ISTIO_GPRC_MAXRECVMSGSIZE`. istiod's 4 MiB keep a large proxy from ever
    /// reconnecting, since it lists all it holds (xDS rule 63).
    pub max_request_bytes: usize,
    /// Bytes of unfinished requests that all streams together may hold.
    pub max_requests_bytes: usize,
    /// `ISTIO_GPRC_MAXSTREAMS`.
    pub max_streams: u32,
    /// `--keepaliveInterval`.
    pub keepalive_interval: Duration,
    /// `--keepaliveTimeout`.
    pub keepalive_timeout: Duration,
    /// `--keepaliveMaxServerConnectionAge`; `None` is for ever.
    pub max_age: Option<Duration>,
    /// How long a connection that is told to go may stay.
    pub grace: Duration,
    /// `PILOT_MAX_REQUESTS_PER_SECOND`: new streams a second; `None` is no limit.
    pub streams_per_second: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request_bytes: 64 << 20,
            max_requests_bytes: 512 << 20,
            max_streams: 100_000,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_age: None,
            grace: Duration::from_secs(10),
            streams_per_second: None,
        }
    }
}
