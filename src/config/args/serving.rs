//! Addresses, streams and logs.

use std::time::Duration;

use clap::Args;

use crate::config::{ConfigError, Listen, ListenAddress, LogLevels, Streams, values};

#[derive(Debug, Args)]
pub(super) struct ServingArgs {
    /// Address of plain-text ADS; empty for none
    #[arg(
        long,
        alias = "grpcAddr",
        default_value = ":15010",
        value_name = "[HOST]:PORT"
    )]
    grpc_addr: String,
    /// Address of ADS and certificates over TLS; empty for none
    #[arg(
        long,
        alias = "secureGRPCAddr",
        default_value = ":15012",
        value_name = "[HOST]:PORT"
    )]
    secure_grpc_addr: String,
    /// Address of /ready, /metrics and /version; empty for none
    #[arg(
        long,
        alias = "httpAddr",
        default_value = ":8080",
        value_name = "[HOST]:PORT"
    )]
    http_addr: String,
    /// A second address of the same pages; empty for none
    #[arg(
        long,
        alias = "monitoringAddr",
        default_value = ":15014",
        value_name = "[HOST]:PORT"
    )]
    monitoring_addr: String,
    /// Quiet time after which a connection is pinged
    #[arg(
        long, alias = "keepaliveInterval", default_value = "30s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    keepalive_interval: Duration,
    /// How long a ping may go unanswered
    #[arg(
        long, alias = "keepaliveTimeout", default_value = "10s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    keepalive_timeout: Duration,
    /// Age at which a connection is asked to reconnect; 0 for never
    #[arg(
        long, alias = "keepaliveMaxServerConnectionAge", default_value = "0",
        value_parser = values::duration, value_name = "DURATION"
    )]
    keepalive_max_server_connection_age: Duration,
    /// Largest request in bytes; a reconnecting proxy names all it holds
    #[arg(
        long, env = "ISTIO_GPRC_MAXRECVMSGSIZE", default_value_t = 64 << 20, value_name = "BYTES"
    )]
    max_request_bytes: usize,
    /// Concurrent streams of one connection
    #[arg(
        long,
        env = "ISTIO_GPRC_MAXSTREAMS",
        default_value_t = 100_000,
        value_name = "COUNT"
    )]
    max_concurrent_streams: u32,
    /// New streams per second; 0 for no rate: what they cost is bounded anyway
    #[arg(
        long,
        env = "PILOT_MAX_REQUESTS_PER_SECOND",
        default_value_t = 0.0,
        value_name = "RATE"
    )]
    max_new_streams_per_second: f64,
    /// Streams that one proxy may open at once, then one a second; 0 for any
    #[arg(long, default_value_t = 30, value_name = "COUNT")]
    max_reconnects_of_a_proxy: u32,
    /// Bytes that streams may hold of requests unread and responses not taken;
    /// above it new streams are told to come again
    #[arg(long, default_value_t = 512 << 20, value_name = "BYTES")]
    max_held_bytes: usize,
    /// Time without a byte taken after which a stream ends; 0 for never
    #[arg(
        long, env = "PILOT_XDS_SEND_TIMEOUT", default_value = "5m",
        value_parser = values::duration, value_name = "DURATION"
    )]
    send_timeout: Duration,
    /// How long streams may go on after a stop was asked for
    #[arg(
        long, alias = "shutdownDuration", default_value = "10s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    pub(super) shutdown_duration: Duration,
    /// Log level: LEVEL or SCOPE:LEVEL,… of debug, info, warn, error, none
    #[arg(
        long, alias = "log_output_level", default_value = "default:info",
        value_parser = LogLevels::parse, value_name = "LEVELS"
    )]
    pub(super) log_output_level: LogLevels,
    /// Log as JSON
    #[arg(
        long, alias = "log_as_json", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    pub(super) log_as_json: bool,
}

impl ServingArgs {
    pub(super) fn listen(&self) -> Result<Listen, ConfigError> {
        let parse = |flag, text: &str| {
            ListenAddress::parse(text).map_err(|problem| ConfigError::Listen { flag, problem })
        };
        let grpc = parse("--grpc-addr", &self.grpc_addr)?;
        let secure = parse("--secure-grpc-addr", &self.secure_grpc_addr)?;
        if grpc.is_none() && secure.is_none() {
            return Err(ConfigError::NoAds);
        }
        Ok(Listen {
            http: parse("--http-addr", &self.http_addr)?,
            grpc,
            secure,
            monitoring: parse("--monitoring-addr", &self.monitoring_addr)?,
        })
    }

    pub(super) fn streams(&self) -> Streams {
        let age = self.keepalive_max_server_connection_age;
        let (rate, burst) = (
            self.max_new_streams_per_second,
            self.max_reconnects_of_a_proxy,
        );
        let wait = self.send_timeout;
        Streams {
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
            // Go spells "never" as its longest duration, 292 years.
            max_age: (!age.is_zero() && age < Duration::from_hours(876_000)).then_some(age),
            max_request_bytes: self.max_request_bytes,
            max_new_per_second: (rate > 0.0).then_some(rate),
            max_concurrent: self.max_concurrent_streams,
            reconnect_burst: (burst > 0).then_some(burst),
            max_held_bytes: self.max_held_bytes,
            send_timeout: (!wait.is_zero()).then_some(wait),
        }
    }
}
