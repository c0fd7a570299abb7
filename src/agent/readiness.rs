//! Whether the proxy can take traffic.

use super::admin::Admin;
use super::dns::Names;
use super::drain::Drain;

/// Envoy's number for a server that is live.
const LIVE: u64 = 0;

/// Tells whether the proxy is ready. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Readiness {
    admin: Admin,
    drain: Drain,
    /// Where there is a DNS server.
    names: Option<Names>,
}

impl Readiness {
    pub(super) fn new(admin: Admin, drain: Drain, names: Option<Names>) -> Self {
        Self {
            admin,
            drain,
            names,
        }
    }

    /// Nothing, or what it waits for.
    pub(super) async fn check(&self) -> Result<(), String> {
        if self.drain.has_begun() {
            return Err("the proxy is draining".to_owned());
        }
        if self.names.as_ref().is_some_and(|names| !names.are_known()) {
            return Err("no names of the mesh yet".to_owned());
        }
        let filter = "^(server\\.state|listener_manager\\.(workers_started|lds\\.update_.*)|cluster_manager\\.cds\\.update_.*)$";
        let path = format!("/stats?usedonly&filter={}", escaped(filter));
        let stats = self.admin.get(&path).await.map_err(|e| e.to_string())?;
        judge(&String::from_utf8_lossy(&stats))
    }
}

/// Regular expressions have characters that a URI may not have.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '*' => c.to_string(),
        other => format!("%{:02X}", u32::from(other)),
    };
    text.chars().map(escape).collect()
}

/// istiod: `ready.Probe`.
fn judge(stats: &str) -> Result<(), String> {
    let value = |name: &str| {
        let mut lines = stats.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(of, _)| *of == name)?;
        value.trim().parse::<u64>().ok()
    };
    let count = |of: &str, what: &str| value(&format!("{of}.{what}")).unwrap_or_default();
    let [cds, lds] = ["cluster_manager.cds", "listener_manager.lds"]
        .map(|of| (count(of, "update_success"), count(of, "update_rejected")));
    let told = format!(
        "cds updates: {} successful, {} rejected; lds updates: {} successful, {} rejected",
        cds.0, cds.1, lds.0, lds.1
    );
    match (cds, lds) {
        ((0, _), (0, _)) => {
            return Err(format!(
                "no configuration yet (is the control plane running?): {told}"
            ));
        }
        ((0, 1..), _) | (_, (0, 1..)) => {
            return Err(format!("configuration was rejected: {told}"));
        }
        ((0, _), _) | (_, (0, _)) => {
            return Err(format!("not all of the configuration yet: {told}"));
        }
        _ => {}
    }
    match value("server.state") {
        Some(LIVE) => {}
        Some(state) => return Err(format!("Envoy is not live: {}", name_of(state))),
        None => return Err("Envoy does not tell its state yet".to_owned()),
    }
    if value("listener_manager.workers_started") != Some(1) {
        return Err("Envoy's workers have not started".to_owned());
    }
    Ok(())
}

fn name_of(state: u64) -> &'static str {
    match state {
        1 => "DRAINING",
        2 => "PRE_INITIALIZING",
        3 => "INITIALIZING",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "cluster_manager.cds.update_success: 2\n\
        listener_manager.lds.update_success: 1\n\
        listener_manager.workers_started: 1\nserver.state: 0\n";

    #[test]
    fn a_live_proxy_with_clusters_and_listeners_is_ready() {
        assert_eq!(judge(READY), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |line: &str| judge(&READY.replace(line, "")).unwrap_err();
        let lds = without("listener_manager.lds.update_success: 1\n");
        assert!(lds.starts_with("not all"), "{lds}");
        assert!(judge("").unwrap_err().starts_with("no configuration"));
        assert!(without("listener_manager.workers_started: 1\n").contains("workers"));
        let rejected = READY.replace("lds.update_success: 1", "lds.update_rejected: 1");
        assert!(judge(&rejected).unwrap_err().contains("rejected"));
        let draining = READY.replace("server.state: 0", "server.state: 1");
        assert!(judge(&draining).unwrap_err().contains("DRAINING"));
    }
}
