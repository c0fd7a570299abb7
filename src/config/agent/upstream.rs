//! Servers of the control plane, and what they are trusted by.

use std::path::{Path, PathBuf};

use super::{AgentConfigError, wrong};

/// A server that the proxy dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the server proves who it is; plain text without it.
    pub tls: Option<ServerCheck>,
}

/// How a server proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCheck {
    /// The name, or address, that its certificate has to be for.
    pub name: String,
    /// Who may have signed it.
    pub roots: Roots,
}

/// Certificates that a server is trusted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the operating system.
    System,
    /// Those of a file.
    File(PathBuf),
}

/// The bundle of the operating system, where the usual systems keep it.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

impl Roots {
    /// The file they are in.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::System => {
                let bundles = SYSTEM_BUNDLES.map(Path::new);
                let found = bundles.into_iter().find(|path| path.is_file());
                found.unwrap_or(Path::new("/etc/ssl/cert.pem")).to_owned()
            }
        }
    }
}

/// Host and port of `host:port`; an IPv6 address is in brackets.
pub(super) fn split(name: &str, address: &str) -> Result<(String, u16), AgentConfigError> {
    let parts = || {
        let (host, port) = address.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
    };
    parts().ok_or_else(|| wrong(name, address, "HOST:PORT"))
}

/// The name that the certificate of a control plane at `host` has to be for. A
/// port-forward to istiod is dialled as localhost (istiod: `GetPilotSan`).
pub(super) fn server_name(host: &str, given: Option<&str>) -> String {
    match given {
        Some(name) => name.to_owned(),
        None if host.contains("localhost") => "istiod.istio-system.svc".to_owned(),
        None => host.to_owned(),
    }
}

/// Where the roots of a connection may be, first hit wins.
pub(super) struct RootsLookup<'a> {
    /// The variable, and what it says.
    pub(super) variable: (&'static str, Option<&'a str>),
    /// The folder of an existing certificate.
    pub(super) provisioned: Option<&'a Path>,
    /// The roots of certificates in files.
    pub(super) mounted: Option<&'a Path>,
    /// `./etc/certs/root-cert.pem`, taken only where it is there.
    pub(super) custom: PathBuf,
    /// The `istio-ca-root-cert` mount.
    pub(super) default: PathBuf,
}

impl RootsLookup<'_> {
    /// The roots for `server`.
    pub(super) fn find(&self, server: &str) -> Result<Roots, AgentConfigError> {
        let given = match self.variable.1 {
            Some("SYSTEM") => return Ok(Roots::System),
            Some(path) => Some(PathBuf::from(path)),
            None => None,
        };
        let custom = self.custom.is_file().then(|| self.custom.clone());
        let provisioned = self.provisioned.map(|folder| folder.join("root-cert.pem"));
        let path = given
            .or(custom)
            .or(provisioned)
            .or(self.mounted.map(Path::to_owned))
            .unwrap_or_else(|| self.default.clone());
        if path.is_file() {
            return Ok(Roots::File(path));
        }
        Err(AgentConfigError::NoRoots {
            server: server.to_owned(),
            looked: path,
            variable: self.variable.0,
        })
    }
}
