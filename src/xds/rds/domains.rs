//! Under which names a service is called.

use std::collections::HashSet;

use crate::model::Service;

/// Names of one service: its own, and those derived from it.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// All of them, the full name first.
    pub(super) all: Vec<String>,
    /// Which of them leave out a part of the full name.
    pub(super) short: Vec<String>,
}

impl Domains {
    /// The names of `service` for a client in the DNS domain `client`, and the
    /// addresses it is called at.
    pub(super) fn of(service: &Service, client: &str, addresses: &[ipnet::IpNet]) -> Self {
        let host = &*service.key.hostname;
        let short = short_names(host, client);
        let mut all = vec![host.to_owned()];
        if host.parse::<std::net::IpAddr>().is_err() {
            all.push(format!("{host}."));
        }
        all.extend(short.iter().cloned());
        if service.is_headless() {
            // Pods of a headless service have names under the service's.
            let below: Vec<_> = all.iter().map(|name| format!("*.{name}")).collect();
            all.extend(below);
        }
        let single = |net: &&ipnet::IpNet| net.prefix_len() == net.max_prefix_len();
        let addresses = addresses.iter().filter(single);
        all.extend(addresses.map(|net| in_host_header(&net.addr().to_string())));
        Self { all, short }
    }

    /// The one name of a host that is no service.
    pub(super) fn only(host: &str) -> Self {
        Self {
            all: vec![in_host_header(host)],
            short: Vec::new(),
        }
    }

    /// Narrows the names to one port. Where many ports share the routes only
    /// port 80 is also meant by a name without one.
    pub(super) fn qualify(&mut self, port: u16) {
        let with_port: Vec<_> = self.all.iter().map(|n| format!("{n}:{port}")).collect();
        if port == 80 {
            self.all.extend(with_port);
        } else {
            self.all = with_port;
        }
    }

    /// The names that nobody has taken yet, which are taken now. A short name
    /// never takes the full name of another service (istiod: `dedupeDomains`):
    /// Envoy refuses a route configuration in which a name stands twice.
    pub(super) fn take(self, taken: &mut HashSet<String>, full: &HashSet<&str>) -> Vec<String> {
        let Self { all, short } = self;
        let free = |name: &String| {
            let shadows = short.contains(name) && full.contains(&**name);
            !shadows && taken.insert(name.to_ascii_lowercase())
        };
        all.into_iter().filter(free).collect()
    }
}

/// An address as it stands in a `Host` header.
pub(in crate::xds) fn in_host_header(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// `host` without what it shares with the domain of the client (istiod:
/// `GenerateAltVirtualHosts`).
fn short_names(host: &str, client: &str) -> Vec<String> {
    let Some((namespace, suffix)) = client.split_once(".svc.") else {
        return by_shared_suffix(host, client);
    };
    // Other names could be taken for Kubernetes services of that short name.
    let Some(stem) = host.strip_suffix(&format!(".svc.{suffix}")) else {
        return Vec::new();
    };
    match stem.split_once('.') {
        Some((name, own)) if own == namespace => {
            vec![name.to_owned(), format!("{stem}.svc"), stem.to_owned()]
        }
        Some(_) => vec![stem.to_owned(), format!("{stem}.svc")],
        None => Vec::new(),
    }
}

fn by_shared_suffix(host: &str, client: &str) -> Vec<String> {
    let pairs = host.rsplit('.').zip(client.rsplit('.'));
    let shared = pairs.take_while(|(a, b)| a == b).count();
    let parts: Vec<&str> = host.split('.').collect();
    let (unique, common) = parts.split_at(parts.len().saturating_sub(shared));
    match (unique, common.first()) {
        (_, None) | ([], _) => Vec::new(),
        ([_, _], Some(next)) => {
            let name = unique.join(".");
            vec![name.clone(), format!("{name}.{next}")]
        }
        _ => vec![unique.join(".")],
    }
}
