//! The flags of `isthmus agent`: pilot-agent's, and one for each environment
//! variable that it reads.

mod certificates;
mod identity;
mod process;
mod servers;

use std::path::Path;

use clap::Args;

use self::{
    certificates::CertificateArgs, identity::IdentityArgs, process::ProcessArgs,
    servers::ServerArgs,
};
use super::proxy_config::Layers;
use super::{AgentConfig, AgentConfigError, pod_info, proxy_config::ProxyConfig};
use crate::model::NodeKind;

/// Annotation of the downward API with a `ProxyConfig`.
const PROXY_CONFIG_ANNOTATION: &str = "proxy.istio.io/config";

/// Flags of `isthmus agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// What the proxy is; pilot-agent's leading `proxy` may stand before it
    #[arg(value_name = "sidecar|router", num_args = 0..=2)]
    role: Vec<String>,
    #[command(flatten, next_help_heading = "The proxy")]
    identity: IdentityArgs,
    #[command(flatten, next_help_heading = "The control plane")]
    servers: ServerArgs,
    #[command(flatten, next_help_heading = "Certificates")]
    certificates: CertificateArgs,
    #[command(flatten, next_help_heading = "Envoy, pages and DNS")]
    process: ProcessArgs,
}

/// What all groups of flags are read with.
struct Context {
    /// Settings of one proxy.
    proxy: ProxyConfig,
    /// The variables of the process.
    environment: Vec<(String, String)>,
}

impl AgentArgs {
    /// Checks flags, variables and the files they name.
    pub fn into_config(self) -> Result<AgentConfig, AgentConfigError> {
        self.with_environment(std::env::vars().collect())
    }

    pub(super) fn with_environment(
        self,
        environment: Vec<(String, String)>,
    ) -> Result<AgentConfig, AgentConfigError> {
        let kind = role(&self.role)?;
        let annotations = pod_info::read(&self.identity.annotations_file)?;
        let mut layers = Layers::default();
        self.process.add_mesh_file(&mut layers)?;
        if let Some(yaml) = &self.process.proxy_config {
            layers.add("PROXY_CONFIG", yaml)?;
        }
        if let Some(yaml) = annotations.get(PROXY_CONFIG_ANNOTATION) {
            layers.add(PROXY_CONFIG_ANNOTATION, yaml)?;
        }
        let context = Context {
            proxy: layers.read()?,
            environment,
        };
        let discovery = self.servers.discovery_address(&context);
        let ports = self.process.ports(&context)?;
        let node = self.identity.node(kind, &context, &discovery, |metadata| {
            metadata.put_json("PROXY_CONFIG", layers.json().clone().into());
            metadata.put_json("ENVOY_STATUS_PORT", ports.ready.into());
            metadata.put_json("ENVOY_PROMETHEUS_PORT", ports.prometheus.into());
            metadata.annotations(&annotations);
        })?;
        let mounted = self.certificates.mounted(&node)?;
        let upstream = self.servers.discovery(&context, mounted.as_ref())?;
        let certificates = if let Some(files) = mounted {
            super::CertificateSource::Files(files)
        } else {
            let authority = self
                .certificates
                .authority(&self.servers, &context, &node)?;
            super::CertificateSource::Authority(Box::new(authority))
        };
        Ok(AgentConfig {
            discovery: upstream,
            discovery_headers: servers::headers(&context, "XDS_HEADER_", &node.cluster_id),
            certificates,
            envoy: self.process.envoy(&context, &ports),
            drain: self.process.drain(&context),
            dns: self.process.dns(&node),
            unused: self.process.unused(&context),
            log: self.process.log_output_level,
            log_as_json: self.process.log_as_json,
            node,
        })
    }
}

fn role(words: &[String]) -> Result<NodeKind, AgentConfigError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["proxy" | "sidecar"] | ["proxy", "sidecar"] => Ok(NodeKind::Sidecar),
        ["router"] | ["proxy", "router"] => Ok(NodeKind::Router),
        other => Err(AgentConfigError::Role(other.join(" "))),
    }
}

/// The text of a file, if it is there.
fn text_of(path: &Path) -> Result<Option<String>, AgentConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AgentConfigError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
