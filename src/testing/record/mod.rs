//! Records what a control plane answers the proxies of a scenario, and compares
//! two recordings.
//!
//! A recording of istiod (JSON, `tests/scenarios/*/istiod`) and a live answer
//! meet as [`Answers`]: what decides where a proxy's traffic goes, sorted.

mod answers;
mod client;
mod json;
mod live;
mod scenario;
#[cfg(test)]
mod tests;

pub use answers::{Answers, Group, Target};
pub use client::{RecordError, Recording, record};
pub use json::AnswersError;
pub use scenario::{ControlPlane, Scenario, ScenarioError};
