//! The control plane.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Context;
use crate::config::agent::upstream::{self, RootsLookup};
use crate::config::agent::{AgentConfigError, CertificateFiles, Headers, ServerCheck, Upstream};

/// Where the mesh's root certificates are mounted in a pod.
const MESH_ROOTS: &str = "./var/run/secrets/istio/root-cert.pem";
const CUSTOM_ROOTS: &str = "./etc/certs/root-cert.pem";
/// pilot-agent's own rule for a CA address.
const PLAIN_TEXT_PORT: u16 = 15010;

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address of the control plane; the proxy configuration's by default
    #[arg(long, value_name = "HOST:PORT")]
    discovery_address: Option<String>,
    /// Address of the certificate service; the control plane's by default
    #[arg(long, env = "CA_ADDR", value_name = "HOST:PORT")]
    ca_addr: Option<String>,
    /// What the control plane's certificate is checked with; SYSTEM for the
    /// operating system's
    #[arg(long, env = "XDS_ROOT_CA", value_name = "FILE")]
    xds_root_ca: Option<String>,
    /// What the certificate service's certificate is checked with
    #[arg(long, env = "CA_ROOT_CA", value_name = "FILE")]
    ca_root_ca: Option<String>,
    /// Name in the control plane's certificate, where it is not its host name
    #[arg(long, env = "ISTIOD_SAN", value_name = "NAME")]
    istiod_san: Option<String>,
    /// Folder with key.pem, cert-chain.pem and root-cert.pem, which say who
    /// asks for a certificate
    #[arg(long, env = "PROV_CERT", value_name = "FOLDER")]
    prov_cert: Option<PathBuf>,
}

impl ServerArgs {
    pub(super) fn discovery_address(&self, context: &Context) -> String {
        let given = self.discovery_address.as_ref();
        let given = given.or(context.proxy.discovery_address.as_ref());
        given.map_or_else(|| "istiod.istio-system.svc:15012".to_owned(), Clone::clone)
    }

    /// The server of discovery.
    pub(super) fn discovery(
        &self,
        context: &Context,
        mounted: Option<&CertificateFiles>,
    ) -> Result<Upstream, AgentConfigError> {
        let address = self.discovery_address(context);
        let (host, port) = upstream::split("discoveryAddress", &address)?;
        let policy = context.proxy.control_plane_auth_policy.as_deref();
        if policy == Some("NONE") {
            return Ok(Upstream {
                host,
                port,
                tls: None,
            });
        }
        let lookup = RootsLookup {
            variable: ("XDS_ROOT_CA", self.xds_root_ca.as_deref()),
            mounted: mounted.map(|files| files.roots.as_path()),
            ..self.lookup()
        };
        let tls = Some(ServerCheck {
            name: upstream::server_name(&host, self.istiod_san.as_deref()),
            roots: lookup.find(&address)?,
        });
        Ok(Upstream { host, port, tls })
    }

    /// The server of certificates.
    pub(super) fn authority(&self, context: &Context) -> Result<Upstream, AgentConfigError> {
        let given = self.ca_addr.clone();
        let address = given.unwrap_or_else(|| self.discovery_address(context));
        let (host, port) = upstream::split("CA_ADDR", &address)?;
        if port == PLAIN_TEXT_PORT {
            return Ok(Upstream {
                host,
                port,
                tls: None,
            });
        }
        // istiod: the name is overridden only where both servers are one.
        let name = self
            .istiod_san
            .as_deref()
            .filter(|_| self.ca_addr.is_none());
        let lookup = RootsLookup {
            variable: ("CA_ROOT_CA", self.ca_root_ca.as_deref()),
            ..self.lookup()
        };
        let tls = Some(ServerCheck {
            name: upstream::server_name(&host, name),
            roots: lookup.find(&address)?,
        });
        Ok(Upstream { host, port, tls })
    }

    /// The certificate that requests for certificates are made with.
    pub(super) fn provisioned(&self) -> Option<CertificateFiles> {
        self.prov_cert.as_deref().map(CertificateFiles::in_folder)
    }

    fn lookup(&self) -> RootsLookup<'_> {
        RootsLookup {
            variable: ("", None),
            provisioned: self.prov_cert.as_deref(),
            mounted: None,
            custom: Path::new(CUSTOM_ROOTS).to_owned(),
            default: Path::new(MESH_ROOTS).to_owned(),
        }
    }
}

/// `PREFIX<name>` variables as headers, and the cluster that a token is of.
pub(super) fn headers(context: &Context, prefix: &str, cluster_id: &str) -> Headers {
    let given = context.environment.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_ascii_lowercase(), value.clone()))
    });
    let cluster = ("clusterid".to_owned(), cluster_id.to_owned());
    Headers(given.chain([cluster]).collect())
}
