//! `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};

const DNS_PORT: u16 = 53;

/// Other DNS servers, and the domains that programs append to names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    /// Lower case, without dots at their ends.
    pub(super) search: Vec<String>,
}

impl ResolvConf {
    /// Reads the lines that matter; the last `search` or `domain` counts. An
    /// address may carry a port, which the C library does not know.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().unwrap_or_default();
                    let server = address.parse::<IpAddr>();
                    let server = server.map(|ip| SocketAddr::new(ip, DNS_PORT));
                    conf.servers.extend(server.or_else(|_| address.parse()));
                }
                Some("search" | "domain") => {
                    let bare = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                    conf.search = words.map(bare).filter(|word| !word.is_empty()).collect();
                }
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_search_domains_are_read() {
        let text = "# made by a test\nnameserver 10.0.0.10\nnameserver fd00::a ; second\n\
            nameserver 127.0.0.1:5353\nnameserver nonsense\n\
            search default.svc.Cluster.Local. svc.cluster.local\noptions ndots:5\n";
        let conf = ResolvConf::parse(text);
        let servers = ["10.0.0.10:53", "[fd00::a]:53", "127.0.0.1:5353"];
        assert_eq!(
            conf.servers,
            servers.map(|s| s.parse().expect("an address"))
        );
        assert_eq!(
            conf.search,
            ["default.svc.cluster.local", "svc.cluster.local"]
        );
    }
}
