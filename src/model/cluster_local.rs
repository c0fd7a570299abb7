//! Hosts whose endpoints stay inside each cluster.

use std::collections::BTreeMap;

use super::Hostname;

/// Which hosts (exact or `*.suffix`) are cluster-local, from
/// `serviceSettings[]` and istio's own defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterLocalHosts {
    /// Pattern → cluster-local. Exact host first, then the longest wildcard.
    pub hosts: BTreeMap<Hostname, bool>,
}

impl ClusterLocalHosts {
    /// Reads `settings` (`clusterLocal` and `hosts` of each entry, in order)
    /// and adds istio's defaults: `kube-system`, the API server, and the host
    /// of `discovery_host` (`istiod.istio-system.svc`), all below `domain`.
    ///
    /// An entry with `clusterLocal: false` removes the defaults it names or,
    /// for the wildcard one, lies in (split-horizon §4.4).
    pub fn new<'a>(
        settings: impl IntoIterator<Item = (bool, Vec<&'a str>)>,
        domain: &str,
        discovery_host: &str,
    ) -> Self {
        let mut defaults = defaults(domain, discovery_host);
        let mut hosts = BTreeMap::new();
        for (cluster_local, listed) in settings {
            for host in listed {
                if !cluster_local {
                    defaults.retain(|default| !lifts(host, default));
                }
                hosts.insert(Hostname::from(host), cluster_local);
            }
        }
        hosts.extend(
            defaults
                .into_iter()
                .map(|host| (Hostname::from(host), true)),
        );
        Self { hosts }
    }

    /// Whether endpoints of `host` are only for proxies of their own cluster.
    pub fn contains(&self, host: &Hostname) -> bool {
        if let Some(answer) = self.hosts.get(host) {
            return *answer;
        }
        let wildcards = self.hosts.iter().filter(|(pattern, _)| {
            pattern
                .strip_prefix('*')
                .is_some_and(|suffix| host.ends_with(suffix))
        });
        wildcards
            .max_by_key(|(pattern, _)| pattern.len())
            .is_some_and(|(_, answer)| *answer)
    }
}

fn defaults(domain: &str, discovery_host: &str) -> Vec<String> {
    let mut all = vec![
        format!("*.kube-system.svc.{domain}"),
        format!("kubernetes.default.svc.{domain}"),
    ];
    if discovery_host.ends_with(domain) {
        all.push(discovery_host.to_owned());
    } else if !discovery_host.is_empty() {
        all.push(format!("{discovery_host}.{domain}"));
    }
    all
}

/// Whether a listed `host` lifts a default: it is the same text, or lies in
/// the default wildcard.
fn lifts(host: &str, default: &str) -> bool {
    let covered = default
        .strip_prefix('*')
        .is_some_and(|suffix| host.ends_with(suffix));
    host == default || covered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `host` is cluster-local with `settings` over istio's defaults.
    fn local(settings: &[(bool, &[&str])], host: &str) -> bool {
        let settings = settings
            .iter()
            .map(|(local, hosts)| (*local, hosts.to_vec()));
        ClusterLocalHosts::new(settings, "cluster.local", "istiod.istio-system.svc")
            .contains(&Hostname::from(host))
    }

    #[test]
    fn the_defaults_are_kube_system_the_api_server_and_istiod() {
        assert!(local(&[], "s.kube-system.svc.cluster.local"));
        assert!(local(&[], "kubernetes.default.svc.cluster.local"));
        assert!(local(&[], "istiod.istio-system.svc.cluster.local"));
        assert!(!local(&[], "other.istio-system.svc.cluster.local"));
    }

    #[test]
    fn a_listed_host_lifts_the_default_it_names_or_lies_in() {
        let api = "kubernetes.default.svc.cluster.local";
        assert!(!local(&[(false, &[api])], api));
        let dns = "dns.kube-system.svc.cluster.local";
        assert!(!local(
            &[(false, &["*.kube-system.svc.cluster.local"])],
            dns
        ));
        // istiod: cluster_local.go removes the whole wildcard default for it.
        assert!(!local(
            &[(false, &[dns])],
            "s.kube-system.svc.cluster.local"
        ));
        assert!(local(&[(false, &["*"])], dns));
    }

    #[test]
    fn the_most_specific_pattern_decides() {
        let all_but_ns1: &[(bool, &[&str])] = &[
            (true, &["*"]),
            (
                false,
                &["*.ns1.svc.cluster.local", "a.ns2.svc.cluster.local"],
            ),
        ];
        assert!(!local(all_but_ns1, "s.ns1.svc.cluster.local"));
        assert!(!local(all_but_ns1, "a.ns2.svc.cluster.local"));
        assert!(local(all_but_ns1, "b.ns2.svc.cluster.local"));
        let only_ours: &[(bool, &[&str])] = &[(true, &["*.cluster.local"]), (false, &["*"])];
        assert!(local(only_ours, "echo.test.svc.cluster.local"));
        assert!(!local(only_ours, "otherdomain"));
    }
}
