//! Settings of the ADS server.

use std::time::Duration;

/// Settings of the ADS server.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ISTIO_GPRC_MAXRECVMSGSIZE`. istiod's 4 MiB keep a large proxy from ever
    /// reconnecting, since it lists all it holds (xDS rule 63).
    pub max_request_bytes: usize,
    /// Bytes that all streams together may hold of requests that are not read
    /// and responses that are not taken.
    pub max_held_bytes: usize,
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
    /// Streams that one proxy may open at once, before it is one a second;
    /// `None` is no limit.
    pub reconnect_burst: Option<u32>,
    /// `PILOT_XDS_SEND_TIMEOUT`: time after which a stream ends whose client
    /// has taken no byte of what waits for it; `None` is for ever.
    pub send_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request_bytes: 64 << 20,
            max_held_bytes: 512 << 20,
            max_streams: 100_000,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_age: None,
            grace: Duration::from_secs(10),
            streams_per_second: None,
            reconnect_burst: None,
            send_timeout: Some(Duration::from_mins(5)),
        }
    }
}
