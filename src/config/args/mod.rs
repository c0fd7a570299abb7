//! The flags of `isthmus discovery`: istiod's, in kebab case, each also under
//! istiod's own spelling and environment name.

mod auth;
mod behaviour;
mod clusters;
mod controllers;
mod identity;
mod serving;
mod unused;

use clap::Args;

use self::{
    auth::AuthArgs, behaviour::BehaviourArgs, clusters::ClusterArgs, controllers::ControllerArgs,
    identity::IdentityArgs, serving::ServingArgs, unused::UnusedArgs,
};
use super::{Config, ConfigError};

/// Flags of `isthmus discovery` and `isthmus check`.
#[derive(Debug, Args)]
pub struct DiscoveryArgs {
    #[command(flatten, next_help_heading = "Clusters and mesh")]
    clusters: ClusterArgs,
    #[command(flatten, next_help_heading = "Listening and streams")]
    serving: ServingArgs,
    #[command(flatten, next_help_heading = "Certificates")]
    identity: IdentityArgs,
    #[command(flatten, next_help_heading = "Authentication")]
    auth: AuthArgs,
    #[command(flatten, next_help_heading = "What is written to clusters")]
    controllers: ControllerArgs,
    #[command(flatten, next_help_heading = "Behaviour (istiod's environment names)")]
    behaviour: BehaviourArgs,
    #[command(flatten, next_help_heading = "Accepted from istiod, without effect")]
    unused: UnusedArgs,
}

impl DiscoveryArgs {
    /// Checks the flags; looks at the file system only to tell a missing path.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let Self {
            clusters,
            serving,
            identity,
            auth,
            controllers,
            behaviour,
            unused,
        } = self;
        let source = clusters.source()?;
        let cluster_id = clusters.config_cluster(&source)?;
        let mesh = clusters.mesh_config_file()?;
        let networks = clusters.networks_config_file()?;
        Ok(Config {
            source,
            cluster_id,
            namespace: clusters.namespace.as_str().into(),
            mcs: (
                clusters.mcs_api_group.as_str().into(),
                clusters.mcs_api_version.as_str().into(),
            ),
            mesh_config: mesh.file,
            networks_config: networks.file,
            missing: [mesh.missing, networks.missing, identity.incomplete()]
                .into_iter()
                .flatten()
                .collect(),
            identity: identity.identity(),
            revision: clusters.revision,
            features: behaviour.features(&clusters.domain, &clusters.namespace),
            cluster_aliases: clusters.cluster_aliases.into_iter().collect(),
            controllers: controllers.controllers(),
            listen: serving.listen()?,
            streams: serving.streams(),
            auth: auth.auth(),
            debounce: behaviour.debounce(),
            log: serving.log_output_level,
            log_as_json: serving.log_as_json,
            shutdown: serving.shutdown_duration,
            unused: unused.given(),
        })
    }
}
