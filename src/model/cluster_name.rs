//! Names of Envoy clusters.

use std::{fmt, str::FromStr, sync::Arc};

use super::Hostname;

/// Which of istiod's two outbound forms a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// `outbound|port|subset|host`: what sidecars and routers call.
    Outbound,
    /// `outbound_.port_.subset_.host`: the SNI form, what an `AUTO_PASSTHROUGH`
    /// gateway forwards to.
    SniDnat,
}

/// The name of an outbound Envoy cluster, which is also its EDS name.
///
/// ```
/// use isthmus::model::{ClusterName, Direction};
/// let name: ClusterName = "outbound|80|v1|web.default.svc.cluster.local".parse()?;
/// assert_eq!((name.port, &*name.subset), (80, "v1"));
/// assert_eq!(name.to_string(), "outbound|80|v1|web.default.svc.cluster.local");
/// let sni: ClusterName = "outbound_.80_._.web.default.svc.cluster.local".parse()?;
/// assert_eq!((sni.direction, &*sni.subset), (Direction::SniDnat, ""));
/// # Ok::<(), isthmus::model::ClusterNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// Which form the name has.
    pub direction: Direction,
    /// Service port, not target port.
    pub port: u16,
    /// Subset of the `DestinationRule`; empty for all.
    pub subset: Arc<str>,
    /// Host of the service.
    pub host: Hostname,
}

/// Why a text is not the name of an outbound Envoy cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterNameError {
    /// Neither of the two forms.
    #[error("{0:?} is neither outbound|PORT|SUBSET|HOST nor outbound_.PORT_.SUBSET_.HOST")]
    Form(String),
    /// The port is not a number from 0 to 65535.
    #[error("{0:?} has no valid port")]
    Port(String),
}

impl ClusterName {
    /// `outbound|port|subset|host`.
    pub fn outbound(port: u16, subset: &str, host: &Hostname) -> Self {
        let direction = Direction::Outbound;
        Self {
            direction,
            port,
            subset: Arc::from(subset),
            host: host.clone(),
        }
    }

    /// The same service port and subset in the SNI form.
    #[must_use]
    pub fn sni_dnat(&self) -> Self {
        Self {
            direction: Direction::SniDnat,
            ..self.clone()
        }
    }
}

/// The host in the name of an Envoy cluster; other names are their own host.
pub fn host_of(name: &str) -> &str {
    if let Some((_, host)) = name.rsplit_once('|') {
        return host;
    }
    name.strip_prefix("outbound_.")
        .and_then(|rest| rest.splitn(3, "_.").nth(2))
        .unwrap_or(name)
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(text: &str) -> Result<Self, ClusterNameError> {
        let (direction, rest, gap) = if let Some(rest) = text.strip_prefix("outbound|") {
            (Direction::Outbound, rest, "|")
        } else if let Some(rest) = text.strip_prefix("outbound_.") {
            (Direction::SniDnat, rest, "_.")
        } else {
            return Err(ClusterNameError::Form(text.to_owned()));
        };
        let mut parts = rest.splitn(3, gap);
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ClusterNameError::Form(text.to_owned()));
        };
        // One spelling per name: "+80" or "080" would be a second one.
        let port = match port.parse::<u16>() {
            Ok(number) if number.to_string() == port => number,
            _ => return Err(ClusterNameError::Port(text.to_owned())),
        };
        Ok(Self {
            direction,
            port,
            subset: Arc::from(subset),
            host: Hostname::from(host),
        })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            direction,
            port,
            subset,
            host,
        } = self;
        match direction {
            Direction::Outbound => write!(f, "outbound|{port}|{subset}|{host}"),
            Direction::SniDnat => write!(f, "outbound_.{port}_.{subset}_.{host}"),
        }
    }
}
