//! Logs, the metrics registry and readiness.

mod logs;
mod metrics;
mod readiness;
mod throttle;

pub use logs::{LogFormat, init_logs};
pub use metrics::Registry;
pub use readiness::{Block, Readiness};
pub use throttle::Throttle;
