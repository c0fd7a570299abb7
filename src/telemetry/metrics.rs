//! The registry that `/metrics` prints.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text;

/// All metrics of the process. Each module registers its own struct of metrics
/// once, when it is made.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<prometheus_client::registry::Registry>>,
}

impl Registry {
    /// Lets `register` add metrics.
    pub fn with<T>(
        &self,
        register: impl FnOnce(&mut prometheus_client::registry::Registry) -> T,
    ) -> T {
        register(&mut self.inner.lock())
    }

    /// The text form that Prometheus reads.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.inner.lock())?;
        Ok(out)
    }
}
