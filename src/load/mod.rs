//! The load generator: simulated sidecars against any ADS server, changes of
//! what it serves, and how long they took to arrive.

mod args;
mod cast;
mod churn;
mod costs;
mod error;
mod figures;
mod floor;
mod grpc;
mod ledger;
mod markers;
pub mod mesh;
mod offender;
mod progress;
mod proxy;
mod report;
mod request;
mod run;
mod server;
mod sidecar;
mod table;
mod usage;
mod walk;
mod watch_set;

pub use args::LoadArgs;
pub use costs::SIDECAR_THREADS;
pub use error::LoadError;
pub use figures::Percentiles;
pub use ledger::Offended;
pub use offender::Offence;
pub use report::{Report, Storm};
pub use run::run;
pub use table::table;
pub use walk::Variant;
