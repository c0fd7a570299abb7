//! What is written to clusters, and who of several replicas does.

use std::time::Duration;

use clap::Args;

use crate::config::{Controllers, values};

#[derive(Debug, Args)]
pub(super) struct ControllerArgs {
    /// Name of this process in the locks around writes
    #[arg(long, env = "POD_NAME", default_value = "", value_name = "NAME")]
    pod_name: String,
    /// Write only as the leader; off means that this is the only replica
    #[arg(
        long, env = "ENABLE_LEADER_ELECTION", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    leader_election: bool,
    /// How long a leader that says nothing stays the leader
    #[arg(
        long, hide = true, default_value = "30s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    leader_lease: Duration,
    /// ConfigMap in every namespace that holds the root certificate
    #[arg(
        long,
        env = "PILOT_CA_CERT_CONFIGMAP",
        default_value = "istio-ca-root-cert",
        value_name = "NAME"
    )]
    ca_cert_configmap: String,
}

impl ControllerArgs {
    pub(super) fn controllers(self) -> Controllers {
        let Self {
            pod_name,
            leader_election,
            leader_lease,
            ca_cert_configmap,
        } = self;
        Controllers {
            identity: pod_name,
            elects: leader_election,
            lease: leader_lease,
            root_cert_map: ca_cert_configmap,
        }
    }
}
