//! One question to the name servers.

use std::{future::Future, net::IpAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError as NetDnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
    system_conf::read_system_conf,
};

/// Why a lookup failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DnsError(String);

impl DnsError {
    /// A failure, in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The answers for both address families. No addresses (`NXDOMAIN`, or a name
/// without such records) is an answer, not an error.
#[derive(Debug, Clone)]
pub struct Answer {
    /// IPv4 addresses.
    pub v4: Result<Vec<IpAddr>, DnsError>,
    /// IPv6 addresses.
    pub v6: Result<Vec<IpAddr>, DnsError>,
    /// How long the answer holds.
    pub ttl: Duration,
}

/// Something that resolves names.
pub trait Lookup: Send + Sync + 'static {
    /// Asks for the addresses of a name.
    fn lookup(&self, name: &str) -> impl Future<Output = Answer> + Send;
}

/// Asks name servers over UDP, as istiod does: no search list, no hosts file.
#[derive(Debug)]
pub struct DnsLookup(TokioResolver);

impl DnsLookup {
    /// Uses the servers of `/etc/resolv.conf`.
    pub fn system() -> Result<Self, DnsError> {
        let (config, options) = read_system_conf()
            .map_err(|error| DnsError(format!("cannot read /etc/resolv.conf: {error}")))?;
        Self::new(config.name_servers().to_vec(), options)
    }

    /// Uses these servers.
    pub fn with_servers(servers: &[std::net::SocketAddr]) -> Result<Self, DnsError> {
        let servers = servers.iter().map(|server| {
            let mut connection = ConnectionConfig::udp();
            connection.port = server.port();
            NameServerConfig::new(server.ip(), true, vec![connection])
        });
        Self::new(servers.collect(), ResolverOpts::default())
    }

    fn new(servers: Vec<NameServerConfig>, mut options: ResolverOpts) -> Result<Self, DnsError> {
        // The timers of `super` are the cache.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let config = ResolverConfig::from_name_servers(servers);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build();
        resolver
            .map(Self)
            .map_err(|error| DnsError(error.to_string()))
    }

    async fn ask(
        &self,
        name: &Name,
        family: RecordType,
    ) -> Result<(Vec<IpAddr>, Duration), DnsError> {
        match self.0.lookup(name.clone(), family).await {
            Ok(found) => {
                let records = found.answers().iter();
                let addresses = records.filter_map(|record| match &record.data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                    _ => None,
                });
                let sections = found.message().all_sections();
                let ttls = sections
                    .filter(|r| r.record_type() != RecordType::OPT)
                    .map(|r| r.ttl);
                let ttl = ttls
                    .min()
                    .map_or(Duration::ZERO, |t| Duration::from_secs(t.into()));
                Ok((addresses.collect(), ttl))
            }
            Err(NetError::Dns(NetDnsError::NoRecordsFound(none))) => {
                let ttl = none.negative_ttl.unwrap_or_default();
                Ok((Vec::new(), Duration::from_secs(ttl.into())))
            }
            Err(error) => Err(DnsError(error.to_string())),
        }
    }
}

impl Lookup for DnsLookup {
    async fn lookup(&self, name: &str) -> Answer {
        let name = match Name::from_utf8(name) {
            Ok(mut name) => {
                // Fully qualified: no search list.
                name.set_fqdn(true);
                name
            }
            Err(error) => {
                let error = DnsError(format!("not a host name: {error}"));
                return Answer {
                    v4: Err(error.clone()),
                    v6: Err(error),
                    ttl: Duration::ZERO,
                };
            }
        };
        let (v4, v6) = tokio::join!(
            self.ask(&name, RecordType::A),
            self.ask(&name, RecordType::AAAA)
        );
        // The families' answers expire together, with the sooner one.
        let found = [&v4, &v6]
            .into_iter()
            .flatten()
            .filter(|(a, _)| !a.is_empty());
        let ttl = found.map(|(_, ttl)| *ttl).min().unwrap_or_default();
        Answer {
            v4: v4.map(|(addresses, _)| addresses),
            v6: v6.map(|(addresses, _)| addresses),
            ttl,
        }
    }
}
