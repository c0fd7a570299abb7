//! What names mean.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{DNSClass, RecordType};

use crate::proto::nds::{NameTable, name_table::NameInfo};

/// Name of the Kubernetes registry in name tables.
const KUBERNETES: &str = "Kubernetes";

/// Addresses of one host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

/// What was found for a question. Addresses of the other family only are an
/// answer without records: "no such name" would be taken for both families.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The name without the search domain that was appended to it.
    pub(super) alias: Option<String>,
    pub(super) addresses: Arc<Addresses>,
}

/// Names → addresses: lower case, without the last dot.
#[derive(Debug, Default)]
pub(super) struct Table {
    hosts: HashMap<String, Arc<Addresses>>,
}

impl Table {
    /// A table with the short forms that Kubernetes names have in `namespace`
    /// (istiod's agent: `generateAltHosts`).
    pub(super) fn new(names: &NameTable, namespace: &str, domain: &str) -> Self {
        let mut table = Self::default();
        let mut short = Vec::new();
        for (host, info) in &names.table {
            let addresses = Arc::new(addresses(info));
            if *addresses == Addresses::default() {
                continue;
            }
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            if info.registry == KUBERNETES && is_below(&host, domain) {
                short.push((info, Arc::clone(&addresses)));
            }
            table.hosts.insert(host, addresses);
        }
        // A whole name counts before a short form of another one.
        for (info, addresses) in short {
            for name in short_forms(info, namespace, domain) {
                let free = table.hosts.entry(name.to_ascii_lowercase());
                free.or_insert_with(|| Arc::clone(&addresses));
            }
        }
        table
    }

    /// The answer to a question about addresses; none where other servers have
    /// to be asked.
    pub(super) fn find(&self, query: &Query, search: &[String]) -> Option<Found> {
        let asked = matches!(query.query_type, RecordType::A | RecordType::AAAA);
        if !asked || query.query_class != DNSClass::IN {
            return None;
        }
        let name = query.name.to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        if let Some(addresses) = self.look_up(name) {
            let alias = None;
            return Some(Found { alias, addresses });
        }
        // Programs try a name below each search domain before the name itself.
        search.iter().find_map(|domain| {
            let bare = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            let addresses = self.look_up(bare)?;
            let alias = Some(bare.to_owned());
            Some(Found { alias, addresses })
        })
    }

    /// The host, else the nearest `*.` host above it.
    fn look_up(&self, name: &str) -> Option<Arc<Addresses>> {
        if let Some(found) = self.hosts.get(name) {
            return Some(Arc::clone(found));
        }
        let parents = name.match_indices('.').filter_map(|(at, _)| name.get(at..));
        let mut found = parents.filter_map(|parent| self.hosts.get(&format!("*{parent}")));
        found.next().cloned()
    }

    /// All names with their addresses, sorted.
    pub(super) fn list(&self) -> BTreeMap<String, Vec<String>> {
        let texts = |addresses: &Addresses| {
            let v4 = addresses.v4.iter().map(ToString::to_string);
            v4.chain(addresses.v6.iter().map(ToString::to_string))
                .collect()
        };
        let all = self.hosts.iter();
        all.map(|(name, addresses)| (name.clone(), texts(addresses)))
            .collect()
    }
}

/// Text that is no address is passed over.
fn addresses(info: &NameInfo) -> Addresses {
    let mut addresses = Addresses::default();
    for ip in info
        .ips
        .iter()
        .filter_map(|text| text.parse::<IpAddr>().ok())
    {
        match ip.to_canonical() {
            IpAddr::V4(ip) => addresses.v4.push(ip),
            IpAddr::V6(ip) => addresses.v6.push(ip),
        }
    }
    addresses
}

fn is_below(host: &str, domain: &str) -> bool {
    !domain.is_empty()
        && host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'))
}

fn short_forms(info: &NameInfo, own: &str, domain: &str) -> Vec<String> {
    let NameInfo {
        shortname,
        namespace,
        ..
    } = info;
    if shortname.is_empty() || namespace.is_empty() {
        return Vec::new();
    }
    let svc = domain.split('.').next().unwrap_or_default();
    let mut forms = vec![
        format!("{shortname}.{namespace}"),
        format!("{shortname}.{namespace}.{svc}"),
    ];
    if namespace == own {
        forms.push(shortname.clone());
    }
    forms
}
