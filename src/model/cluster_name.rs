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

/// A text that is not the name of an outbound Envoy cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither outbound|PORT|SUBSET|HOST nor outbound_.PORT_.SUBSET_.HOST")]
pub struct ClusterNameError(String);

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

/// The parts of the name of an Envoy cluster: what [`ClusterName`] owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterNameRef<'a> {
    /// Which form the name has.
    pub direction: Direction,
    /// Service port.
    pub port: u16,
    /// Subset; empty for all.
    pub subset: &'a str,
    /// Host.
    pub host: &'a str,
}

impl<'a> ClusterNameRef<'a> {
    /// Reads a name; `None` where it is not of a cluster's form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (direction, rest, gap) = if let Some(rest) = text.strip_prefix("outbound|") {
            (Direction::Outbound, rest, "|")
        } else {
            let rest = text.strip_prefix("outbound_.")?;
            (Direction::SniDnat, rest, "_.")
        };
        let mut parts = rest.splitn(3, gap);
        let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
        // One spelling per name: "+80" or "080" would be a second one.
        let plain = port == "0" || port.starts_with(|c: char| c.is_ascii_digit() && c != '0');
        Some(Self {
            direction,
            port: port.parse().ok().filter(|_| plain)?,
            subset,
            host,
        })
    }

    /// The same with a host that is already shared.
    pub fn with_host(self, host: &Hostname) -> ClusterName {
        let none = self.subset.is_empty();
        ClusterName {
            direction: self.direction,
            port: self.port,
            subset: if none {
                Arc::default()
            } else {
                self.subset.into()
            },
            host: host.clone(),
        }
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(text: &str) -> Result<Self, ClusterNameError> {
        let parts = ClusterNameRef::parse(text);
        let parts = parts.ok_or_else(|| ClusterNameError(text.to_owned()))?;
        Ok(parts.with_host(&Hostname::from(parts.host)))
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
