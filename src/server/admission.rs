//! Who may open an ADS stream, and as which proxy.

use tonic::Status;

use super::State;
use crate::auth::{AuthError, Caller, Credentials};
use crate::model::{Proxy, SpiffeId};

/// What is known of a stream's caller so far.
#[derive(Debug)]
pub(super) enum Admission {
    /// What it presented, not looked at yet.
    Presented(Box<Credentials>),
    /// Who it is. It has yet to say which proxy it is.
    Known(Box<Caller>),
    /// Nothing more to look at.
    Done,
}

impl Admission {
    /// Finds out who the caller is.
    pub(super) async fn authenticate(&mut self, state: &State) -> Result<(), Status> {
        let Self::Presented(credentials) = std::mem::replace(self, Self::Done) else {
            return Ok(());
        };
        let Some(gate) = &state.gate else {
            return Ok(());
        };
        let caller = gate.for_ads(&credentials).await;
        if let Some(caller) = caller.map_err(|error| status_of(&error))? {
            *self = Self::Known(Box::new(caller));
        }
        Ok(())
    }

    /// Whether the caller may be this proxy; the identity by which it may.
    pub(super) fn authorize(
        &mut self,
        state: &State,
        proxy: &Proxy,
    ) -> Result<Option<SpiffeId>, Status> {
        let Self::Known(caller) = std::mem::replace(self, Self::Done) else {
            return Ok(None);
        };
        let checks = state
            .gate
            .as_ref()
            .is_some_and(|gate| gate.policy.identity_check);
        let verified = caller.authorize(proxy);
        if !checks {
            return Ok(verified.ok());
        }
        let denied =
            |mismatch| Status::permission_denied(format!("authorization failed: {mismatch}"));
        verified.map(Some).map_err(denied)
    }
}

/// A caller that may be in the right is told to come again; istiod calls it
/// unauthenticated, which agents take for their own fault.
pub(super) fn status_of(error: &AuthError) -> Status {
    if error.is_passing() {
        return Status::unavailable(error.to_string());
    }
    Status::unauthenticated(error.to_string())
}
